//! What a user would otherwise write: a BullMQ queue and a worker that posts webhooks, on the same machine at the same
//! receiver. `bench/bullmq` has the program; one process adds the jobs, another works on them.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use relaypost_testkit::{Proc, RedisServer, TestDatabase, eventually};
use tokio::time::{Instant, sleep};

use crate::{
    Bench, CONNECTIONS,
    cpu::{self, micros_each, peak_memory_mib},
    load::{self, per_second},
    postgres::Postgres,
    report::SHARE,
    stack::Sink,
};

/// The program and its packages lie here.
const FOLDER: &str = "BULLMQ_NODE_DIR";
const START: Duration = Duration::from_secs(30);
/// As in the runs of the product: by then everything is recorded.
const RECORDED: Duration = Duration::from_millis(300);

pub(crate) async fn run(bench: &mut Bench, rounds: usize) -> Result<()> {
    let folder =
        std::env::var(FOLDER).context("BULLMQ_NODE_DIR is not set: run `scripts/bench bullmq`")?;
    for _ in 0..rounds {
        for rows in [false, true] {
            one(bench, Path::new(&folder), rows).await?;
        }
    }
    bench.bare.report(&mut bench.report).await
}

/// The two processes, and what they run on.
struct Stack {
    producer: Proc,
    worker: Proc,
    redis: RedisServer,
    postgres: Postgres,
    sink: Sink,
    /// Jobs added so far.
    added: usize,
}

/// One run; with `rows`, a row in PostgreSQL for each attempt.
async fn one(bench: &mut Bench, folder: &Path, rows: bool) -> Result<()> {
    let database = TestDatabase::postgres().await;
    let mut stack = Stack::start(folder, &database, rows).await?;
    let jobs = bench.sizes.end_to_end;
    // What is compiled on its way is no part of this.
    stack.run(jobs / 10).await?;
    bench.bare.measure().await?;
    let (rate, used, wal) = stack.run(jobs).await?;
    bench.bare.measure().await?;
    let what = match rows {
        true => "BullMQ, a row for each attempt",
        false => "BullMQ, no database",
    };
    let (report, around) = (&mut bench.report, bench.bare.around());
    report.add(what, "deliveries/s", rate);
    report.add(what, SHARE, rate / around);
    let each = used.map(|used| micros_each(used, jobs));
    let all = format!("{what}, CPU per delivery: all processes");
    report.add(all, "µs", each[..4].iter().sum());
    for (process, each) in PROCESSES.into_iter().zip(each) {
        report.add(format!("{what}, CPU per delivery: {process}"), "µs", each);
    }
    report.add(
        format!("{what}, WAL per delivery"),
        "bytes",
        wal / jobs as f64,
    );
    let peak = peak_memory_mib(stack.worker.pid())?;
    report.add(format!("{what}, peak memory: worker"), "MiB", peak);
    if rows {
        let stored: i64 = stack.postgres.get("SELECT COUNT(*) FROM attempts").await?;
        let added = i64::try_from(stack.added)?;
        ensure!(stored == added, "{stored} rows for {added} attempts");
    }
    stack.postgres.close().await?;
    drop((stack.producer, stack.worker));
    database.drop_now().await;
    Ok(())
}

impl Stack {
    async fn start(folder: &Path, database: &TestDatabase, rows: bool) -> Result<Self> {
        let redis = RedisServer::start().await;
        let sink = Sink::start(1).await;
        let mut env = vec![
            ("REDIS_URL".to_owned(), redis.url()),
            ("TARGET".to_owned(), sink.receiver.url("/hook")),
            ("CONCURRENCY".to_owned(), CONNECTIONS.to_string()),
            ("PAYLOAD".to_owned(), load::BODY.to_owned()),
        ];
        if rows {
            env.push(("DATABASE_URL".to_owned(), database.url().to_owned()));
        }
        let start =
            |role: &str| Proc::spawn(folder, Path::new("node"), &["webhooks.mjs", role], &env);
        let (worker, producer) = (start("work"), start("add"));
        for process in [&worker, &producer] {
            says(process, "ready").await;
        }
        let postgres = Postgres::connect(database.url()).await?;
        Ok(Self {
            producer,
            worker,
            redis,
            postgres,
            sink,
            added: 0,
        })
    }

    /// From the first job that is added to the last receipt: deliveries a second, and what that took of each process and
    /// of WAL.
    async fn run(&mut self, count: usize) -> Result<(f64, [Duration; 5], f64)> {
        let (used, wal) = (self.usage()?, self.postgres.wal_bytes().await?);
        let began = Instant::now();
        let order = ["RPUSH", "bench:add", &count.to_string()];
        self.redis.command(&order).await;
        self.added += count;
        let ended = self.sink.wait(self.added).await?;
        sleep(RECORDED).await;
        let mut now = self.usage()?;
        for (now, before) in now.iter_mut().zip(used) {
            *now = now.saturating_sub(before);
        }
        let wal = self.postgres.wal_bytes().await? - wal;
        Ok((per_second(count, ended - began), now, wal))
    }

    /// In the order of [`PROCESSES`].
    fn usage(&self) -> Result<[Duration; 5]> {
        Ok([
            cpu::of_process(self.producer.pid())?,
            cpu::of_process(self.worker.pid())?,
            cpu::of_postgres(self.postgres.postmaster)?,
            cpu::of_process(self.redis.pid())?,
            cpu::of_process(std::process::id())?,
        ])
    }
}

const PROCESSES: [&str; 5] = [
    "process that adds the jobs",
    "worker",
    "PostgreSQL",
    "Redis",
    "receiver (not in the sum)",
];

async fn says(process: &Proc, word: &str) {
    eventually(START, || async {
        match process.stdout().lines().any(|line| line == word) {
            true => Ok(()),
            false => Err(process.describe()),
        }
    })
    .await;
}

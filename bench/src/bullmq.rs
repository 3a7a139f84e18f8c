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

/// One run; with `rows`, a row in PostgreSQL for each attempt.
async fn one(bench: &mut Bench, folder: &Path, rows: bool) -> Result<()> {
    let (redis, database) = (RedisServer::start().await, TestDatabase::postgres().await);
    let postgres = Postgres::connect(database.url()).await?;
    let sink = Sink::start(1).await;
    let jobs = bench.sizes.end_to_end;
    let mut env = vec![
        ("REDIS_URL".to_owned(), redis.url()),
        ("TARGET".to_owned(), sink.receiver.url("/hook")),
        ("CONCURRENCY".to_owned(), CONNECTIONS.to_string()),
        ("PAYLOAD".to_owned(), load::BODY.to_owned()),
    ];
    if rows {
        env.push(("DATABASE_URL".to_owned(), database.url().to_owned()));
    }
    let start = |role: &str| Proc::spawn(folder, Path::new("node"), &["webhooks.mjs", role], &env);
    let (worker, producer) = (start("work"), start("add"));
    for process in [&worker, &producer] {
        says(process, "ready").await;
    }
    // Both are warmed up by a few jobs, for which the second number is none.
    let warm = jobs / 10;
    let mut before = 0;
    for (count, measured) in [(warm, false), (jobs, true)] {
        bench.bare.measure().await?;
        let used = usage(&producer, &worker, &redis, &postgres)?;
        let wal = postgres.wal_bytes().await?;
        let began = Instant::now();
        add(&redis, count).await;
        let ended = sink.wait(before + count).await?;
        before += count;
        sleep(RECORDED).await;
        let now = usage(&producer, &worker, &redis, &postgres)?;
        let wal = postgres.wal_bytes().await? - wal;
        bench.bare.measure().await?;
        if !measured {
            continue;
        }
        let what = if rows {
            "BullMQ, a row for each attempt"
        } else {
            "BullMQ, no database"
        };
        let rate = per_second(count, ended - began);
        let (report, around) = (&mut bench.report, bench.bare.around());
        report.add(what, "deliveries/s", rate);
        report.add(what, SHARE, rate / around);
        let each: Vec<f64> = now
            .iter()
            .zip(used)
            .map(|(now, before)| micros_each(*now - before, count))
            .collect();
        let all: f64 = each[..4].iter().sum();
        report.add(
            format!("{what}, CPU per delivery: all processes"),
            "µs",
            all,
        );
        for (process, each) in PROCESSES.into_iter().zip(each) {
            report.add(format!("{what}, CPU per delivery: {process}"), "µs", each);
        }
        report.add(
            format!("{what}, WAL per delivery"),
            "bytes",
            wal / count as f64,
        );
        report.add(
            format!("{what}, peak memory: worker"),
            "MiB",
            peak_memory_mib(worker.pid())?,
        );
    }
    if rows {
        let stored: i64 = postgres.get("SELECT COUNT(*) FROM attempts").await?;
        ensure!(
            stored == i64::try_from(before)?,
            "{stored} rows for {before} attempts"
        );
    }
    drop((worker, producer, redis));
    postgres.close().await?;
    database.drop_now().await;
    Ok(())
}

const PROCESSES: [&str; 5] = [
    "process that adds the jobs",
    "worker",
    "PostgreSQL",
    "Redis",
    "receiver (not in the sum)",
];

/// In the order of [`PROCESSES`].
fn usage(
    producer: &Proc,
    worker: &Proc,
    redis: &RedisServer,
    postgres: &Postgres,
) -> Result<[Duration; 5]> {
    Ok([
        cpu::of_process(producer.pid())?,
        cpu::of_process(worker.pid())?,
        cpu::of_postgres(postgres.postmaster)?,
        cpu::of_process(redis.pid())?,
        cpu::of_process(std::process::id())?,
    ])
}

/// Has the process that adds jobs add so many.
async fn add(redis: &RedisServer, count: usize) {
    redis
        .command(&["RPUSH", "bench:add", &count.to_string()])
        .await;
}

async fn says(process: &Proc, word: &str) {
    eventually(START, || async {
        match process.stdout().lines().any(|line| line == word) {
            true => Ok(()),
            false => Err(process.describe()),
        }
    })
    .await;
}

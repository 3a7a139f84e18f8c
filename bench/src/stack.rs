//! The product as processes on PostgreSQL and Redis, and what they cost.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use relaypost_testkit::{Backend, Receiver, World, WorldOptions};
use tokio::time::{Instant, sleep};

use crate::{
    DEADLINE,
    cpu::{self, Usage},
    postgres::Postgres,
    redis::Commands,
};

/// How long after the last receipt what it cost is read: by then results are recorded and jobs acknowledged.
const RECORDED: Duration = Duration::from_millis(300);

/// The product that runs, with a connection to its database.
pub(crate) struct Stack {
    pub(crate) world: World,
    pub(crate) postgres: Postgres,
}

/// What a run took of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) usage: Usage,
    pub(crate) wal_bytes: f64,
    /// Transactions that wrote anything.
    pub(crate) writes: f64,
    pub(crate) commands: Commands,
}

impl Stack {
    /// One API process and so many workers, with the settings of [`options`].
    pub(crate) async fn start(bin_dir: &Path, workers: usize) -> Result<Self> {
        Self::start_with(options(bin_dir).workers(workers)).await
    }

    pub(crate) async fn start_with(options: WorldOptions) -> Result<Self> {
        let world = World::start(options).await;
        let postgres = Postgres::connect(world.database.url()).await?;
        Ok(Self { world, postgres })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.postgres.close().await?;
        self.world.stop().await;
        Ok(())
    }

    /// Stops every worker, gently.
    pub(crate) async fn stop_workers(&mut self) -> Result<()> {
        for worker in self.world.workers.drain(..) {
            worker.sigterm();
            let code = worker.wait_exit(DEADLINE).await;
            ensure!(code == 0, "exited with {code}: {}", worker.describe());
        }
        Ok(())
    }

    /// What everything has used so far.
    pub(crate) async fn cost(&mut self) -> Result<Cost> {
        let redis = self.world.redis();
        let commands = Commands::of(redis).await;
        let redis = cpu::of_process(redis.pid())?;
        let (mut api, mut worker) = (Duration::ZERO, Duration::ZERO);
        for process in &self.world.apis {
            api += cpu::of_process(process.pid())?;
        }
        for process in &self.world.workers {
            worker += cpu::of_process(process.pid())?;
        }
        Ok(Cost {
            usage: Usage {
                api,
                worker,
                postgres: cpu::of_postgres(self.postgres.postmaster)?,
                redis,
                bench: cpu::of_process(std::process::id())?,
            },
            wal_bytes: self.postgres.wal_bytes().await?,
            writes: self.postgres.writing_transactions().await?,
            commands,
        })
    }

    /// What everything has used since then, once the results of what has just arrived are recorded.
    pub(crate) async fn cost_since(&mut self, before: Cost) -> Result<Cost> {
        sleep(RECORDED).await;
        let now = self.cost().await?;
        Ok(Cost {
            usage: now.usage.since(before.usage),
            wal_bytes: now.wal_bytes - before.wal_bytes,
            writes: now.writes - before.writes,
            commands: now.commands.since(before.commands),
        })
    }
}

/// The product on PostgreSQL and Redis, with the settings that it has by itself.
pub(crate) fn options(bin_dir: &Path) -> WorldOptions {
    WorldOptions {
        backend: Backend::Stack,
        ..WorldOptions::new(bin_dir)
    }
}

/// A receiver that holds everything to having arrived exactly once at each endpoint.
pub(crate) struct Sink {
    pub(crate) receiver: Arc<Receiver>,
    /// To how many endpoints of this receiver each message goes.
    endpoints: usize,
}

impl Sink {
    pub(crate) async fn start(endpoints: usize) -> Self {
        let receiver = Receiver::start().await;
        receiver.record(false);
        Self {
            receiver: Arc::new(receiver),
            endpoints,
        }
    }

    /// Waits until so many messages, all in all, have arrived, and returns when.
    pub(crate) async fn wait(&self, messages: usize) -> Result<Instant> {
        let expected = messages * self.endpoints;
        self.receiver.wait_for(expected, DEADLINE).await;
        let at = Instant::now();
        let (count, distinct) = (self.receiver.count(), self.receiver.distinct());
        ensure!(
            count == expected && distinct == messages,
            "{count} deliveries of {distinct} messages arrived instead of {expected} of {messages}"
        );
        if self.endpoints > 1 {
            let unequal = self.receiver.by_webhook_id().into_values();
            let unequal = unequal
                .filter(|times| *times as usize != self.endpoints)
                .count();
            ensure!(
                unequal == 0,
                "{unequal} messages arrived more or less than {} times",
                self.endpoints
            );
        }
        Ok(at)
    }
}

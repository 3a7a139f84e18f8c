//! The time that the whole fleet agrees on: the database's.
//!
//! Ids, due times, leases, signatures and the dates of mails go by it, so that no process whose machine has a wrong clock puts
//! a row into another week, delays a retry or signs with a time that receivers refuse.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use tokio::time::sleep;

use super::Database;
use crate::clock::{Clock, Timestamp};

/// How often the database is asked.
const EVERY: Duration = Duration::from_secs(5);
/// An answer that took longer says too little about when it was given.
const CERTAIN: Duration = Duration::from_secs(1);
/// How often a certain answer is tried for at the start.
const TRIES: usize = 5;
/// A database whose clock moves by more than this against ours, between two answers, is reported.
const STEP_MS: i64 = 5_000;
/// A machine's clock that is off by more than this is reported.
const TOLERATED_MS: i64 = 1_000;

/// A clock that follows PostgreSQL's; with SQLite it is the machine's. It is set before this returns, and every five seconds
/// from then on. While the database cannot be asked, it goes on by the machine's monotonic clock, which no change of the
/// machine's time moves.
///
/// # Errors
/// When the database does not answer.
pub async fn clock(db: &Database) -> Result<Clock, DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(Clock::system());
    }
    let mut following = Following {
        db: db.clone(),
        clock: Clock::followed(),
        is_set: false,
        reported_ms: 0,
    };
    let mut is_certain = false;
    for _ in 0..TRIES {
        is_certain = is_certain || following.step(CERTAIN).await?;
    }
    if !is_certain {
        following.step(Duration::MAX).await?;
    }
    let clock = following.clock.clone();
    tokio::spawn(async move {
        loop {
            sleep(EVERY).await;
            if let Err(error) = following.step(CERTAIN).await {
                tracing::debug!(%error, "the database's time cannot be read");
            }
        }
    });
    Ok(clock)
}

struct Following {
    db: Database,
    clock: Clock,
    is_set: bool,
    /// How far the database's clock was ahead of the machine's when that was last reported.
    reported_ms: i64,
}

impl Following {
    /// Asks the database. Returns whether its answer came within `certain`; otherwise the clock is left alone.
    async fn step(&mut self, certain: Duration) -> Result<bool, DbErr> {
        // The time that a connection takes to come free must not count as a time that the answer took.
        let tx = self.db.begin().await?;
        let sent = Instant::now();
        let time = read(&tx).await?;
        let took = sent.elapsed();
        tx.rollback().await?;
        let Some(time) = time.filter(|_| took <= certain) else {
            return Ok(false);
        };
        let at = sent + took / 2;
        self.report_step(time, at);
        self.clock.set(time, at);
        self.is_set = true;
        self.report();
        Ok(true)
    }

    /// A server that takes over from another one, with another time, moves the whole fleet.
    fn report_step(&self, time: Timestamp, at: Instant) {
        let ours = self.clock.now() - TimeDelta::from_std(at.elapsed()).unwrap_or_default();
        let step_ms = (time - ours).num_milliseconds();
        if self.is_set && step_ms.abs() > STEP_MS {
            tracing::error!(step_ms, "the clock of the database has moved");
        }
    }

    fn report(&mut self) {
        let offset = self.clock.now() - Clock::system().now();
        let offset_ms = offset.num_milliseconds();
        if (offset_ms - self.reported_ms).abs() <= TOLERATED_MS {
            return;
        }
        self.reported_ms = offset_ms;
        if offset_ms.abs() > TOLERATED_MS {
            tracing::warn!(
                offset_ms,
                "the clock of this machine differs from the database's, whose time is used"
            );
        } else {
            tracing::info!(
                offset_ms,
                "the clock of this machine agrees with the database's again"
            );
        }
    }
}

async fn read(db: &impl ConnectionTrait) -> Result<Option<Timestamp>, DbErr> {
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT clock_timestamp() AS time");
    let row = db.query_one_raw(statement).await?;
    row.map(|row| row.try_get("", "time")).transpose()
}

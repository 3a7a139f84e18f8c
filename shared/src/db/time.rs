//! The time that the whole fleet agrees on: the database's.
//!
//! Ids, due times, leases, signatures and the dates of mails go by it, so that no process whose machine has a wrong clock puts
//! a row into another week, delays a retry or signs with a time that receivers refuse.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};
use tokio::time::sleep;

use super::Database;
use crate::clock::{Clock, Timestamp};

/// How often the database is asked.
const EVERY: Duration = Duration::from_secs(5);
/// An answer that took longer says too little about when it was given.
const CERTAIN: Duration = Duration::from_secs(1);
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
        reported_ms: 0,
    };
    following.step().await?;
    let clock = following.clock.clone();
    tokio::spawn(async move {
        loop {
            sleep(EVERY).await;
            if let Err(error) = following.step().await {
                tracing::debug!(%error, "the database's time cannot be read");
            }
        }
    });
    Ok(clock)
}

struct Following {
    db: Database,
    clock: Clock,
    /// How far the database's clock was ahead of the machine's when that was last reported.
    reported_ms: i64,
}

impl Following {
    async fn step(&mut self) -> Result<(), DbErr> {
        let sent = Instant::now();
        let Some(time) = read(&self.db).await? else {
            return Ok(());
        };
        let took = sent.elapsed();
        if took <= CERTAIN {
            self.clock.set(time, sent + took / 2);
            self.report();
        }
        Ok(())
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

async fn read(db: &Database) -> Result<Option<Timestamp>, DbErr> {
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT clock_timestamp() AS time");
    let row = db.query_one_raw(statement).await?;
    row.map(|row| row.try_get("", "time")).transpose()
}

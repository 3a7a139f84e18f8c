//! Partitions: the tables that grow with every message are kept in parts of one week each, on PostgreSQL.
//!
//! **Guarantee.** After [`ahead`] every week from the last one to the third one ahead has a partition of each table. Any number
//! of processes may call it at the same time. Each week is a transaction. A table is attached as a part without a lock that a reader or a writer waits
//! for, and a kill leaves a week as it was.
//!
//! Transitions: none.
//!
//! The week of a row is that of its id (UUIDv7, RFC 9562, section 5.7, which begins with the time); an attempt lies with its
//! delivery, and a payload with its message. So a week can be dropped whole, instead of deleting its rows. There is no default
//! partition: PostgreSQL would search it, under a lock that keeps everybody out, for each new week. SQLite has no partitions.
//!
//! The role of the API and of the workers has to own the tables, as it does when it has migrated the database.

use std::{collections::BTreeSet, time::Duration};

use chrono::DateTime;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    db::{self, Database, Transaction},
    health::Loop,
};

/// The tables in parts, each with the column that decides on a row's week.
pub const TABLES: [(&str, &str); 7] = [
    ("messages", "id"),
    ("message_payloads", "message_id"),
    ("emails", "id"),
    ("email_bodies", "email_id"),
    ("deliveries", "id"),
    ("attempts", "delivery_id"),
    ("audit_log", "id"),
];

/// The number of the advisory lock under which partitions are made: `parts` in ASCII.
const LOCK: i64 = 0x0070_6172_7473;
/// How often [`keep`] looks.
const EVERY: Duration = Duration::from_secs(600);
const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// 1970-01-05, the first Monday, in milliseconds since 1970-01-01.
const MONDAY_MS: i64 = 4 * 24 * 60 * 60 * 1_000;
/// How many weeks ahead there are partitions.
const AHEAD: i64 = 3;
/// How many weeks behind: for a process whose clock is late.
const BEHIND: i64 = 1;

/// Storage settings of the parts of a table. `docs/performance.md` has the figures.
fn storage(table: &str) -> &'static str {
    match table {
        // A batch ends all deliveries of a page in one transaction, so the page needs room for a second version of every one
        // of them: only then are they updated in place (HOT). The second one is longer by `finished_at`.
        "deliveries" => " WITH (fillfactor = 48)",
        _ => "",
    }
}

/// A week, by its number since the first Monday of 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Week(i64);

impl Week {
    fn of(time: Timestamp) -> Self {
        Self((time.timestamp_millis() - MONDAY_MS).div_euclid(WEEK_MS))
    }

    const fn start_ms(self) -> i64 {
        self.0 * WEEK_MS + MONDAY_MS
    }

    /// The smallest id of the week.
    fn first_id(self) -> Uuid {
        let millis = self.start_ms().max(0).cast_unsigned();
        Uuid::from_u64_pair(millis << 16, 0)
    }

    /// The name of a table's part: the table's, and the date of the week's Monday.
    fn part_of(self, table: &str) -> String {
        let monday = DateTime::from_timestamp_millis(self.start_ms()).unwrap_or_default();
        format!("{table}_{}", monday.format("%Y%m%d"))
    }
}

/// Makes the partitions around `now` that do not exist yet, those of this week first. Returns their names.
///
/// # Errors
/// When the database fails, or somebody holds a lock on one of the tables for some seconds. Weeks that were made before stay.
pub async fn ahead(db: &Database, now: Timestamp) -> Result<Vec<String>, DbErr> {
    let now = Week::of(now);
    let others = (now.0 - BEHIND..now.0).map(Week);
    make(db, (now.0..=now.0 + AHEAD).map(Week).chain(others)).await
}

/// Makes the partitions around the database's time, and logs their names.
///
/// # Errors
/// As [`ahead`].
pub async fn step(db: &Database, clock: &Clock) -> Result<(), DbErr> {
    let made = ahead(db, db::now(db, clock).await?).await?;
    if !made.is_empty() {
        tracing::info!(partitions = made.join(", "), "partitions made");
    }
    Ok(())
}

/// Makes partitions ahead every ten minutes, beginning in ten. Never returns.
pub async fn keep(db: Database, clock: Clock, turn: Loop) {
    loop {
        turn.idles();
        sleep(EVERY).await;
        turn.turns();
        match step(&db, &clock).await {
            Ok(()) => turn.succeeded(),
            Err(error) => tracing::warn!(%error, "partitions cannot be made; trying again later"),
        }
    }
}

/// Whether the tables have partitions for rows with ids of this time.
///
/// # Errors
/// When the database fails.
pub async fn exist(db: &Database, at: Timestamp) -> Result<bool, DbErr> {
    let missing = missing(db, [Week::of(at)].into_iter());
    Ok(db.get_database_backend() != DbBackend::Postgres || missing.await?.is_empty())
}

/// Makes the partitions that rows with ids of this time need. Returns the names of those that did not exist.
///
/// # Errors
/// As [`ahead`].
pub async fn at(db: &Database, time: Timestamp) -> Result<Vec<String>, DbErr> {
    make(db, std::iter::once(Week::of(time))).await
}

async fn make(
    db: &Database,
    weeks: impl Iterator<Item = Week> + Clone,
) -> Result<Vec<String>, DbErr> {
    let mut made = Vec::new();
    if db.get_database_backend() != DbBackend::Postgres
        || missing(db, weeks.clone()).await?.is_empty()
    {
        return Ok(made);
    }
    for week in weeks {
        made.extend(make_week(db, week).await?);
    }
    Ok(made)
}

async fn make_week(db: &Database, week: Week) -> Result<Vec<String>, DbErr> {
    let tx = db.begin().await?;
    tx.execute_unprepared(&format!(
        "SET LOCAL lock_timeout = '3s'; SELECT pg_advisory_xact_lock({LOCK})"
    ))
    .await?;
    // Another process may have made them while this one waited.
    let missing = missing(&tx, [week].into_iter()).await?;
    for (table, week) in &missing {
        attach(&tx, table, *week).await?;
    }
    tx.commit().await?;
    let made = missing.iter().map(|(table, week)| week.part_of(table));
    Ok(made.collect())
}

/// The parts that do not exist.
async fn missing(
    db: &impl ConnectionTrait,
    weeks: impl Iterator<Item = Week>,
) -> Result<Vec<(&'static str, Week)>, DbErr> {
    let sql = "SELECT part.relname::text AS part FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid \
               WHERE part.relkind = 'r' AND inhparent IN ( \
                 SELECT to_regclass(name)::oid FROM UNNEST(string_to_array($1, ',')) AS parents(name))";
    let parents = TABLES.map(|(table, _)| table).join(",");
    let sql = Statement::from_sql_and_values(DbBackend::Postgres, sql, [parents.into()]);
    let rows = db.query_all_raw(sql);
    let parts: Result<BTreeSet<String>, DbErr> = rows
        .await?
        .iter()
        .map(|row| row.try_get("", "part"))
        .collect();
    let parts = parts?;
    let wanted = weeks.flat_map(|week| TABLES.map(|(table, _)| (table, week)));
    Ok(wanted
        .filter(|(table, week)| !parts.contains(&week.part_of(table)))
        .collect())
}

/// Makes a table like the parent and attaches it. `CREATE TABLE … PARTITION OF` would keep every reader and writer of the
/// parent out; `ATTACH PARTITION` keeps out nobody but changes of the schema (PostgreSQL manual, section 5.11.2.2).
async fn attach(tx: &Transaction, table: &str, week: Week) -> Result<(), DbErr> {
    let (part, next) = (week.part_of(table), Week(week.0 + 1));
    let storage = storage(table);
    tx.execute_unprepared(&format!(
        "CREATE TABLE {part} (LIKE {table} INCLUDING ALL){storage}; \
         ALTER TABLE {table} ATTACH PARTITION {part} FOR VALUES FROM ('{}') TO ('{}')",
        week.first_id(),
        next.first_id(),
    ))
    .await
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MessageId;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_week_begins_on_monday_and_holds_the_ids_of_its_seven_days() {
        let week = Week::of(at("2026-11-29T23:59:59.999Z"));
        assert_eq!(week.part_of("messages"), "messages_20261123");
        let next = Week::of(at("2026-11-30T00:00:00Z"));
        assert_eq!(next.part_of("messages"), "messages_20261130");
        let first = MessageId::floor(at("2026-11-30T00:00:00Z")).uuid();
        let last = MessageId::floor(at("2026-12-06T23:59:59.999Z")).uuid();
        assert!(next.first_id() <= first && last < Week(next.0 + 1).first_id());
        assert!(MessageId::floor(at("2026-11-29T23:59:59.999Z")).uuid() < next.first_id());
    }
}

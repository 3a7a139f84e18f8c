//! The schema, as migrations that run alike on PostgreSQL and SQLite.

pub mod down;
mod lock;
mod m0001_initial;
mod run;
pub mod sealed;
mod state;
mod tables;

use anyhow::{Context as _, ensure};
use relaypost_shared::{
    clock::Clock,
    db::{self, Database},
    health::Health,
    queue::Queue,
    settings::Settings,
    store::partitions,
};
use sea_orm_migration::prelude::*;

pub use run::{Up, down, up};
use state::State;

/// Every migration, in order. A new one goes at the end and is never changed once released.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_initial::Migration)]
    }
}

/// Every migration by name, with whether it is applied.
///
/// # Errors
/// When the database fails.
pub async fn status(db: &Database) -> Result<Vec<(String, bool)>, DbErr> {
    let pending = pending(db).await?;
    let all = Migrator::migrations()
        .into_iter()
        .map(|migration| migration.name().to_owned());
    Ok(all
        .map(|name| {
            let applied = !pending.contains(&name);
            (name, applied)
        })
        .collect())
}

/// The names of migrations that are not applied.
///
/// # Errors
/// When the database fails.
pub async fn pending(db: &Database) -> Result<Vec<String>, DbErr> {
    Ok(State::of(db).await?.pending)
}

/// The names of migrations that are applied and that this version does not have: a newer version applied them.
///
/// # Errors
/// When the database fails.
pub async fn newer(db: &Database) -> Result<Vec<String>, DbErr> {
    Ok(State::of(db).await?.newer)
}

/// Brings the schema up to date over a connection of its own: migrations take as long as they take, and everything else
/// has deadlines.
///
/// # Errors
/// As [`up`].
pub async fn up_without_deadline(settings: &Settings) -> Result<Up, DbErr> {
    let db = db::connect(&settings.database_url, 1, None).await?;
    let done = up(&db).await;
    db.close().await;
    done
}

/// How a process on this database and this queue is doing, for its probes.
pub fn health(db: &Database, queue: &Queue) -> Health {
    Health::start(db, queue, |db| Box::pin(async move { pending(&db).await }))
}

/// The database of a process that works on it: connected, and with every migration applied. With `MIGRATE_ON_START` those
/// that are pending are applied first.
///
/// # Errors
/// When it cannot be reached, or lacks migrations; the text says what to do.
pub async fn open_current(settings: &Settings) -> anyhow::Result<Database> {
    let (url, patience) = (&settings.database_url, Some(settings.database_timeout));
    let db = db::connect(url, settings.database_connections, patience)
        .await
        .context("DATABASE_URL: the database cannot be reached")?;
    let read = "DATABASE_URL: the database's schema cannot be read";
    let mut missing = pending(&db).await.context(read)?;
    if !missing.is_empty() && settings.migrate_on_start {
        tracing::info!(pending = missing.join(", "), "applying migrations");
        let migrated = up_without_deadline(settings).await;
        migrated.context("MIGRATE_ON_START: the migrations failed")?;
        missing = pending(&db).await.context(read)?;
    }
    ensure!(
        missing.is_empty(),
        "the database's schema is not up to date; run `relaypost-migrate up` first, or set MIGRATE_ON_START=true \
         (pending: {})",
        missing.join(", ")
    );
    make_partitions(&db)
        .await
        .context("DATABASE_URL: this week has no partitions, and they cannot be made")?;
    Ok(db)
}

/// Makes partitions ahead. Those of later weeks have time: a loop makes them.
async fn make_partitions(db: &Database) -> Result<(), DbErr> {
    let now = db::now(db, &Clock::system()).await?;
    let Err(error) = partitions::ahead(db, now).await else {
        return Ok(());
    };
    if !partitions::exist(db, now).await? {
        return Err(error);
    }
    tracing::warn!(%error, "partitions of later weeks cannot be made yet");
    Ok(())
}

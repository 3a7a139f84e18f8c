//! The schema, as migrations that run alike on PostgreSQL and SQLite.

mod lock;
mod m0001_foundation;
mod m0002_dead_letters;
mod m0003_circuits_and_replays;
mod m0004_front_door;
mod m0005_speed;
mod m0006_catalog;
mod m0008_probe;
pub mod sealed;
mod tables;

use anyhow::{Context as _, ensure};
use lock::Lock;
use relaypost_shared::{db, health::Health, queue::Queue, settings::Settings};
use sea_orm_migration::{
    prelude::*,
    sea_orm::{DatabaseConnection, EntityTrait as _},
    seaql_migrations,
};

/// Every migration, in order. A new one goes at the end and is never changed once released.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_foundation::Migration),
            Box::new(m0002_dead_letters::Migration),
            Box::new(m0003_circuits_and_replays::Migration),
            Box::new(m0004_front_door::Migration),
            Box::new(m0005_speed::Migration),
            Box::new(m0006_catalog::Migration),
            Box::new(m0008_probe::Migration),
        ]
    }
}

/// Brings the schema up to date. Of several processes that do so at once one does the work, and the others wait for it.
///
/// # Errors
/// When the database fails; what was already applied stays.
pub async fn up(db: &DatabaseConnection) -> Result<(), DbErr> {
    let lock = Lock::take(db).await?;
    let applied = Migrator::up(db, None).await;
    lock.release().await?;
    applied
}

/// Takes back the newest migration.
///
/// # Errors
/// When the database fails.
pub async fn down(db: &DatabaseConnection) -> Result<(), DbErr> {
    Migrator::down(db, Some(1)).await
}

/// Every migration by name, with whether it is applied.
///
/// # Errors
/// When the database fails.
pub async fn status(db: &DatabaseConnection) -> Result<Vec<(String, bool)>, DbErr> {
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
pub async fn pending(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    // The migrator's own answer creates the table of applied migrations first, and readiness probes ask this.
    let applied: Vec<String> = if SchemaManager::new(db).has_table("seaql_migrations").await? {
        let rows = seaql_migrations::Entity::find().all(db).await?;
        rows.into_iter().map(|row| row.version).collect()
    } else {
        Vec::new()
    };
    let all = Migrator::migrations()
        .into_iter()
        .map(|migration| migration.name().to_owned());
    Ok(all.filter(|name| !applied.contains(name)).collect())
}

/// How a process on this database and this queue is doing, for its probes.
pub fn health(db: &DatabaseConnection, queue: &Queue) -> Health {
    Health::start(db, queue, |db| Box::pin(async move { pending(&db).await }))
}

/// The database of a process that works on it: connected, and with every migration applied. With `MIGRATE_ON_START` those
/// that are pending are applied first.
///
/// # Errors
/// When it cannot be reached, or lacks migrations; the text says what to do.
pub async fn open_current(settings: &Settings) -> anyhow::Result<DatabaseConnection> {
    let db = db::connect(&settings.database_url, settings.database_connections)
        .await
        .context("DATABASE_URL: the database cannot be reached")?;
    let read = "DATABASE_URL: the database's schema cannot be read";
    let mut missing = pending(&db).await.context(read)?;
    if !missing.is_empty() && settings.migrate_on_start {
        tracing::info!(pending = missing.join(", "), "applying migrations");
        up(&db)
            .await
            .context("MIGRATE_ON_START: the migrations failed")?;
        missing = pending(&db).await.context(read)?;
    }
    ensure!(
        missing.is_empty(),
        "the database's schema is not up to date; run `relaypost-migrate up` first, or set MIGRATE_ON_START=true \
         (pending: {})",
        missing.join(", ")
    );
    Ok(db)
}

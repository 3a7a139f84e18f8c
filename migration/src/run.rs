//! Applying and taking back migrations, by one process at a time.
//!
//! PostgreSQL has an advisory lock for that, beside migrations that each are a transaction. On SQLite everything is one
//! write transaction, which keeps other writers out and leaves nothing half done.

use relaypost_shared::{clock::Clock, db::Database, store::partitions};
use sea_orm_migration::{
    prelude::*,
    sea_orm::{
        DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
        TransactionOptions, TransactionTrait as _,
    },
};

use crate::{Migrator, lock::Lock, state::State};

/// What [`up`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Up {
    /// It applied these migrations, oldest first; none if the schema was up to date.
    Applied(Vec<String>),
    /// It did nothing, because a newer version of Relaypost has migrated this database. These are the migrations that
    /// this version does not have.
    Newer(Vec<String>),
}

/// Brings the schema up to date. Of several processes that call this at once, one applies the migrations and the others
/// wait for it.
///
/// # Errors
/// When the database fails: PostgreSQL keeps the migrations that were applied before, SQLite none of this call. When the
/// database has migrations of another version and lacks some of this one.
pub async fn up(database: &Database) -> Result<Up, DbErr> {
    let db = &database.connection();
    if db.get_database_backend() == DbBackend::Postgres {
        let lock = Lock::take(db).await?;
        let done = apply(db).await;
        lock.release().await;
        if matches!(done, Ok(Up::Applied(_))) {
            partitions::step(database, &Clock::system()).await?;
        }
        return done;
    }
    let tx = begin_write(db).await?;
    let done = apply(&tx).await?;
    tx.commit().await?;
    Ok(done)
}

/// A transaction in the form that migrations take, which has the write lock of SQLite from its beginning.
async fn begin_write(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    db.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    })
    .await
}

async fn apply<'c, C>(db: C) -> Result<Up, DbErr>
where
    C: IntoSchemaManagerConnection<'c> + Copy,
{
    let State { pending, newer, .. } = State::read(&SchemaManager::new(db)).await?;
    if newer.is_empty() {
        // Even to find nothing pending, the migrator would try to create its table.
        if !pending.is_empty() {
            Migrator::up(db, None).await?;
        }
        return Ok(Up::Applied(pending));
    }
    if pending.is_empty() {
        tracing::warn!(
            migrations = newer.join(", "),
            "a newer version has migrated this database"
        );
        return Ok(Up::Newer(newer));
    }
    Err(DbErr::Custom(format!(
        "the database has migrations of another version of Relaypost ({}) and lacks some of this one ({}): use the \
         version that made them, or a newer one",
        newer.join(", "),
        pending.join(", ")
    )))
}

/// Takes back the newest migration, with all that its tables and columns hold, and asks nobody; `relaypost-migrate down`
/// asks ([`crate::down::command`]). With none applied it does nothing.
///
/// # Errors
/// When the database fails, or a newer version has migrated it.
pub async fn down(db: &Database) -> Result<(), DbErr> {
    let db = &db.connection();
    let state = State::read(&SchemaManager::new(db)).await?;
    take_back(db, state.applied.last().as_slice()).await
}

/// Takes back these migrations, which must be the newest, the newest first. Like [`up`], one process at a time.
pub(super) async fn take_back<S>(db: &DatabaseConnection, names: &[S]) -> Result<(), DbErr>
where
    S: AsRef<str>,
{
    if db.get_database_backend() == DbBackend::Postgres {
        let lock = Lock::take(db).await?;
        let done = remove(db, names).await;
        lock.release().await;
        return done;
    }
    let tx = begin_write(db).await?;
    remove(&tx, names).await?;
    tx.commit().await
}

async fn remove<'c, C, S>(db: C, names: &[S]) -> Result<(), DbErr>
where
    C: IntoSchemaManagerConnection<'c> + Copy,
    S: AsRef<str>,
{
    let State { applied, newer, .. } = State::read(&SchemaManager::new(db)).await?;
    let newest = applied.iter().rev().take(names.len());
    let is_as_planned = newer.is_empty() && newest.eq(names.iter().map(AsRef::as_ref));
    if !is_as_planned {
        return Err(DbErr::Custom(
            "another process has migrated this database in the meantime; nothing was changed"
                .to_owned(),
        ));
    }
    Migrator::down(db, Some(names.len() as u32)).await
}

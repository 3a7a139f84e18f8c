//! Which migrations are applied.

use std::collections::HashSet;

use relaypost_shared::db::Database;
use sea_orm_migration::{
    prelude::*,
    sea_orm::{EntityTrait as _, QueryOrder as _},
    seaql_migrations,
};

use crate::Migrator;

/// The migrations of this version and of the database, by name, each list oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Of this version, and applied.
    pub(super) applied: Vec<String>,
    /// Of this version, and not applied.
    pub(super) pending: Vec<String>,
    /// Applied, but not of this version: a newer version has migrated the database.
    pub(super) newer: Vec<String>,
}

impl State {
    /// Reads the list that a database keeps.
    pub(super) async fn of(db: &Database) -> Result<Self, DbErr> {
        let connection = db.connection();
        Self::read(&SchemaManager::new(&connection)).await
    }

    /// Reads the list that the database keeps, and changes nothing.
    pub(super) async fn read(manager: &SchemaManager<'_>) -> Result<Self, DbErr> {
        // The migrator's own answer creates the table of applied migrations first, and readiness probes ask this.
        let recorded: Vec<String> = if manager.has_table("seaql_migrations").await? {
            let rows = seaql_migrations::Entity::find()
                .order_by_asc(seaql_migrations::Column::Version)
                .all(manager.get_connection())
                .await?;
            rows.into_iter().map(|row| row.version).collect()
        } else {
            Vec::new()
        };
        let ours = Migrator::migrations()
            .into_iter()
            .map(|migration| migration.name().to_owned());
        let (applied, pending): (Vec<_>, Vec<_>) = ours.partition(|name| recorded.contains(name));
        let known: HashSet<&String> = applied.iter().collect();
        let newer = recorded
            .iter()
            .filter(|name| !known.contains(name))
            .cloned()
            .collect();
        Ok(Self {
            applied,
            pending,
            newer,
        })
    }
}

//! The parts of statements that several tables share.

use relaypost_shared::store::partitions;
use sea_orm_migration::{prelude::*, schema::uuid, sea_orm::DbBackend};

/// A table of these columns.
pub(super) fn table(
    name: &'static str,
    columns: impl IntoIterator<Item = ColumnDef>,
) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(Alias::new(name));
    for column in columns {
        table.col(column);
    }
    table
}

/// Creates a table. On PostgreSQL a table that grows with every message is made in parts
/// ([`partitions`]), which are attached to it later.
pub(super) async fn create(
    manager: &SchemaManager<'_>,
    table: &TableCreateStatement,
) -> Result<(), DbErr> {
    let name = table.get_table_name();
    let parts = partitions::TABLES
        .iter()
        .find(|(parted, _)| name == Some(&Alias::new(*parted).into_table_ref()));
    match (manager.get_database_backend(), parts) {
        (DbBackend::Postgres, Some((_, by))) => {
            let sql = table.to_string(PostgresQueryBuilder);
            let sql = format!("{sql} PARTITION BY RANGE ({by})");
            manager.get_connection().execute_unprepared(&sql).await?;
            Ok(())
        }
        _ => manager.create_table(table.clone()).await,
    }
}

/// The column `id` as the primary key.
pub(super) fn id() -> ColumnDef {
    uuid("id").primary_key().to_owned()
}

/// Makes two columns the primary key of a table.
pub(super) fn key(table: &mut TableCreateStatement, columns: [&'static str; 2]) {
    let mut key = Index::create();
    for column in columns {
        key.col(Alias::new(column));
    }
    table.primary_key(&mut key);
}

/// A foreign key to the `id` of another table, whose row cannot be deleted while one refers to it.
pub(super) fn references(
    table: &mut TableCreateStatement,
    column: &'static str,
    other: &'static str,
) {
    table.foreign_key(&mut foreign_key(column, other));
}

/// A foreign key to the `id` of another table. The row is deleted together with the one that it refers to.
pub(super) fn belongs_to(
    table: &mut TableCreateStatement,
    column: &'static str,
    other: &'static str,
) {
    table.foreign_key(foreign_key(column, other).on_delete(ForeignKeyAction::Cascade));
}

fn foreign_key(column: &'static str, other: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .from_col(Alias::new(column))
        .to(Alias::new(other), Alias::new("id"))
        .to_owned()
}

/// Executes statements as they stand, in their order.
pub(super) async fn execute_all(
    manager: &SchemaManager<'_>,
    statements: &[&str],
) -> Result<(), DbErr> {
    let db = manager.get_connection();
    for statement in statements {
        db.execute_unprepared(statement).await?;
    }
    Ok(())
}

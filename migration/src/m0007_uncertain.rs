//! The mark of a mail whose content is being handed over, and the tenant's choice for mails whose end is unknown.

use sea_orm_migration::{
    prelude::*,
    schema::{text, timestamp_with_time_zone_null, uuid_null},
};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// Each in a statement of its own: SQLite adds one column at a time. No index names them: the mark is set and cleared in
/// place (HOT), and it is only read together with the rest of a row.
fn columns() -> [(&'static str, ColumnDef); 3] {
    let choice = text("email_on_uncertain").default("hold").to_owned();
    [
        ("deliveries", uuid_null("sending_token")),
        ("deliveries", timestamp_with_time_zone_null("sending_at")),
        ("tenants", choice),
    ]
}

const BACK: [(&str, &str); 3] = [
    ("tenants", "email_on_uncertain"),
    ("deliveries", "sending_at"),
    ("deliveries", "sending_token"),
];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in columns() {
            let mut change = Table::alter();
            change.table(Alias::new(table)).add_column(column);
            manager.alter_table(change).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in BACK {
            let mut change = Table::alter();
            change
                .table(Alias::new(table))
                .drop_column(Alias::new(column));
            manager.alter_table(change).await?;
        }
        Ok(())
    }
}

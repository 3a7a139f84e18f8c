//! Which edition of a tenant's endpoints and event types is in force, so that a process may keep them in memory and
//! still never go by an old one.

use sea_orm_migration::{prelude::*, schema::big_integer, sea_orm::DbBackend};

use crate::tables::execute_all;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// A trigger, and no code at each place that changes something: one that is forgotten would lose messages. Columns that say
/// nothing about which endpoints get a message are left out. It counts at the commit, so that a long transaction does not hold
/// the tenant's row meanwhile. SQLite has one process, which keeps nothing.
const POSTGRES: &[&str] = &[
    "CREATE FUNCTION catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $$ \
     BEGIN \
       IF TG_OP = 'DELETE' THEN \
         UPDATE tenants SET catalog_edition = catalog_edition + 1 WHERE id = OLD.tenant_id; \
       ELSE \
         UPDATE tenants SET catalog_edition = catalog_edition + 1 WHERE id = NEW.tenant_id; \
       END IF; \
       RETURN NULL; \
     END $$",
    "CREATE CONSTRAINT TRIGGER catalog_changed AFTER INSERT OR DELETE OR UPDATE OF event_types, channels, status, deleted_at \
     ON endpoints DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_changed()",
    "CREATE CONSTRAINT TRIGGER catalog_changed AFTER INSERT OR DELETE OR UPDATE OF name, schema_version, archived_at \
     ON event_types DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_changed()",
];

const BACK: &[&str] = &[
    "DROP TRIGGER catalog_changed ON event_types",
    "DROP TRIGGER catalog_changed ON endpoints",
    "DROP FUNCTION catalog_changed",
];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut change = Table::alter();
        change
            .table(Alias::new("tenants"))
            .add_column(big_integer("catalog_edition").default(0));
        manager.alter_table(change).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            execute_all(manager, POSTGRES).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Postgres {
            execute_all(manager, BACK).await?;
        }
        let mut change = Table::alter();
        change
            .table(Alias::new("tenants"))
            .drop_column(Alias::new("catalog_edition"));
        manager.alter_table(change).await
    }
}

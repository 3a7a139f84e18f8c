//! People who sign in: users, their roles in tenants, their sessions, and how they prove who they are.

use relaypost_shared::ids::TenantId;
use sea_orm_migration::{
    prelude::*,
    schema::{
        binary, binary_null, boolean, integer, text, text_null, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use crate::tables::{execute_all, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// In the order in which they can be dropped.
const TABLES: [&str; 8] = [
    "oauth_states",
    "identities",
    "sign_in_attempts",
    "one_time_tokens",
    "refresh_tokens",
    "sessions",
    "memberships",
    "users",
];

const INDEXES: &[&str] = &[
    "CREATE UNIQUE INDEX users_email ON users (email)",
    "CREATE INDEX memberships_tenant ON memberships (tenant_id, user_id)",
    "CREATE INDEX sessions_user ON sessions (user_id)",
    "CREATE INDEX sessions_expiry ON sessions (expires_at)",
    "CREATE UNIQUE INDEX refresh_tokens_hash ON refresh_tokens (token_hash)",
    "CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id)",
    "CREATE UNIQUE INDEX one_time_tokens_hash ON one_time_tokens (token_hash)",
    "CREATE INDEX one_time_tokens_user ON one_time_tokens (user_id)",
    "CREATE INDEX one_time_tokens_expiry ON one_time_tokens (expires_at)",
    "CREATE INDEX sign_in_attempts_expiry ON sign_in_attempts (expires_at)",
    "CREATE INDEX identities_user ON identities (user_id)",
    "CREATE UNIQUE INDEX oauth_states_hash ON oauth_states (state_hash)",
    "CREATE INDEX oauth_states_expiry ON oauth_states (expires_at)",
    // A tenant reads its own from now on.
    "CREATE INDEX audit_log_tenant ON audit_log (tenant_id, id)",
];

/// The ids of the keys that have sealed something: `crate::sealed` asks at each start, however much there is, whether all
/// of them are at hand. They hold only what is sealed.
const KEY_INDEXES: &[&str] = &[
    "CREATE INDEX endpoint_secrets_key ON endpoint_secrets (substr(secret, 9, 8)) \
     WHERE substr(secret, 1, 8) = 'sealed1.'",
    "CREATE INDEX endpoints_key ON endpoints (substr(headers->0->>1, 9, 8)) \
     WHERE substr(headers->0->>1, 1, 8) = 'sealed1.'",
    "CREATE INDEX idempotency_keys_key ON idempotency_keys (substr(response, 9, 8)) WHERE sealed",
    "CREATE INDEX emails_key ON emails (substr(coalesce(text, html), 9, 8)) WHERE sealed",
    "CREATE INDEX oauth_states_key ON oauth_states (substr(secrets, 9, 8))",
];

const DROP_KEY_INDEXES: &[&str] = &[
    "DROP INDEX endpoint_secrets_key",
    "DROP INDEX endpoints_key",
    "DROP INDEX idempotency_keys_key",
    "DROP INDEX emails_key",
];

/// What the audit log tells besides: from where, and what exactly.
const AUDITED_TOO: [&str; 2] = ["client_address", "detail"];

/// The tables some of whose rows hold sealed texts.
const PARTLY_SEALED: [&str; 2] = ["emails", "idempotency_keys"];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in PARTLY_SEALED {
            let mut sealed = Table::alter();
            sealed
                .table(Alias::new(table))
                .add_column(boolean("sealed").default(false));
            manager.alter_table(sealed).await?;
        }
        for column in AUDITED_TOO {
            let mut told = Table::alter();
            told.table(Alias::new("audit_log"))
                .add_column(text_null(column));
            manager.alter_table(told).await?;
        }
        for table in tables() {
            manager.create_table(table).await?;
        }
        execute_all(manager, INDEXES).await?;
        execute_all(manager, KEY_INDEXES).await?;
        manager.execute(own_tenant()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        execute_all(manager, &["DROP INDEX audit_log_tenant"]).await?;
        for column in AUDITED_TOO {
            let mut told = Table::alter();
            told.table(Alias::new("audit_log"))
                .drop_column(Alias::new(column));
            manager.alter_table(told).await?;
        }
        for table in TABLES {
            let mut gone = Table::drop();
            gone.table(Alias::new(table));
            manager.drop_table(gone).await?;
        }
        execute_all(manager, DROP_KEY_INDEXES).await?;
        for table in PARTLY_SEALED {
            let mut sealed = Table::alter();
            sealed
                .table(Alias::new(table))
                .drop_column(Alias::new("sealed"));
            manager.alter_table(sealed).await?;
        }
        // The tenant stays: its mails are still there, and the schema before takes it for one like any other.
        Ok(())
    }
}

/// The tenant of the mails that Relaypost itself sends to its users.
fn own_tenant() -> InsertStatement {
    let mut insert = Query::insert();
    insert
        .into_table(Alias::new("tenants"))
        .columns(["id", "name", "created_at"].map(Alias::new))
        .values_panic([
            TenantId::OWN.uuid().into(),
            "Relaypost".into(),
            Expr::current_timestamp(),
        ])
        .on_conflict(OnConflict::column(Alias::new("id")).do_nothing().to_owned());
    insert
}

fn id() -> ColumnDef {
    uuid("id").primary_key().to_owned()
}

fn key(table: &mut TableCreateStatement, columns: [&'static str; 2]) {
    let mut key = Index::create();
    for column in columns {
        key.col(Alias::new(column));
    }
    table.primary_key(&mut key);
}

/// What is somebody's goes with them.
fn of(table: &mut TableCreateStatement, column: &'static str, other: &'static str) {
    table.foreign_key(
        ForeignKey::create()
            .from_col(Alias::new(column))
            .to(Alias::new(other), Alias::new("id"))
            .on_delete(ForeignKeyAction::Cascade),
    );
}

fn tables() -> [TableCreateStatement; 8] {
    [
        users(),
        memberships(),
        sessions(),
        refresh_tokens(),
        one_time_tokens(),
        sign_in_attempts(),
        identities(),
        oauth_states(),
    ]
}

fn users() -> TableCreateStatement {
    table(
        "users",
        [
            id(),
            text("email"),
            text_null("name"),
            text_null("password_hash"),
            boolean("platform"),
            timestamp_with_time_zone_null("email_verified_at"),
            timestamp_with_time_zone_null("disabled_at"),
            timestamp_with_time_zone_null("last_signed_in_at"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("updated_at"),
        ],
    )
}

fn memberships() -> TableCreateStatement {
    let mut table = table(
        "memberships",
        [
            uuid("user_id"),
            uuid("tenant_id"),
            text("role"),
            timestamp_with_time_zone("created_at"),
        ],
    );
    key(&mut table, ["user_id", "tenant_id"]);
    of(&mut table, "user_id", "users");
    of(&mut table, "tenant_id", "tenants");
    table
}

fn sessions() -> TableCreateStatement {
    let mut table = table(
        "sessions",
        [
            id(),
            uuid("user_id"),
            text("method"),
            text_null("client_address"),
            text_null("user_agent"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("expires_at"),
            timestamp_with_time_zone_null("ended_at"),
            text_null("ended_reason"),
        ],
    );
    of(&mut table, "user_id", "users");
    table
}

fn refresh_tokens() -> TableCreateStatement {
    let mut table = table(
        "refresh_tokens",
        [
            id(),
            uuid("session_id"),
            binary("token_hash"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("used_at"),
        ],
    );
    of(&mut table, "session_id", "sessions");
    table
}

fn one_time_tokens() -> TableCreateStatement {
    let mut table = table(
        "one_time_tokens",
        [
            id(),
            uuid("user_id"),
            text("purpose"),
            binary("token_hash"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("expires_at"),
            timestamp_with_time_zone_null("used_at"),
        ],
    );
    of(&mut table, "user_id", "users");
    table
}

/// By address, not by user: an unknown address is counted and locked alike, and so cannot be told from a known one.
fn sign_in_attempts() -> TableCreateStatement {
    table(
        "sign_in_attempts",
        [
            binary("address_hash").primary_key().to_owned(),
            integer("failures"),
            timestamp_with_time_zone("window_started_at"),
            timestamp_with_time_zone_null("locked_until"),
            timestamp_with_time_zone("expires_at"),
        ],
    )
}

fn identities() -> TableCreateStatement {
    let mut table = table(
        "identities",
        [
            text("issuer"),
            text("subject"),
            uuid("user_id"),
            text("email"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("last_used_at"),
        ],
    );
    key(&mut table, ["issuer", "subject"]);
    of(&mut table, "user_id", "users");
    table
}

fn oauth_states() -> TableCreateStatement {
    table(
        "oauth_states",
        [
            id(),
            binary("state_hash"),
            binary_null("browser_hash"),
            text("provider"),
            // Sealed: the PKCE verifier and the nonce, as JSON.
            text("secrets"),
            text_null("return_to"),
            uuid_null("user_id"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("expires_at"),
        ],
    )
}

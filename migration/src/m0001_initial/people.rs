//! People who sign in: users, their roles in tenants, their sessions, and how they prove who they are.

use sea_orm_migration::{
    prelude::*,
    schema::{
        binary, binary_null, boolean, integer, text, text_null, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use super::Group;
use crate::tables::{belongs_to, id, key, table};

pub(super) fn group() -> Group {
    Group {
        tables: vec![
            users(),
            memberships(),
            sessions(),
            refresh_tokens(),
            one_time_tokens(),
            sign_in_attempts(),
            identities(),
            oauth_states(),
        ],
        indexes: INDEXES,
        postgres: &[],
    }
}

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
    // Which keys have sealed something: `crate::sealed` asks at each start.
    "CREATE INDEX oauth_states_key ON oauth_states (substr(secrets, 9, 8))",
];

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
    belongs_to(&mut table, "user_id", "users");
    belongs_to(&mut table, "tenant_id", "tenants");
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
    belongs_to(&mut table, "user_id", "users");
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
    belongs_to(&mut table, "session_id", "sessions");
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
    belongs_to(&mut table, "user_id", "users");
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
    belongs_to(&mut table, "user_id", "users");
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

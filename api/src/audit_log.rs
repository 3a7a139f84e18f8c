//! The audit log as administrators read it.

use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Query, types::Example};
use relaypost_shared::{entities::audit_log, ids};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use serde::Serialize;

use crate::{
    Services,
    auth::{Authorized, may},
    http::{
        ApiError, Cursor, Limit, Moment, Page, Paging, Ref, Reply, Text, document::Tag, example_id,
        example_time,
    },
};

/// What somebody did.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct AuditEntry {
    /// Its id.
    id: Ref<ids::AuditEntry>,
    /// Whose thing it was done to; missing for what is no tenant's, such as a sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<Ref<ids::Tenant>>,
    /// Who did it: the id of a user or of an API key, `platform` for the key of the settings, `anonymous` for who did not
    /// say.
    actor: String,
    /// What was done: `dead_letter.replayed`.
    action: String,
    /// What it was done to: an id, or `address` and the beginning of a digest for an address that is nobody's.
    target: String,
    /// The id of the request that did it.
    request_id: String,
    /// The client address of that request.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_address: Option<String>,
    /// What exactly was done, where it does not show in the target: `role=viewer`, `scopes=read,send`.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// When.
    created_at: Moment,
}

impl From<audit_log::Model> for AuditEntry {
    fn from(row: audit_log::Model) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.map(Text),
            actor: row.actor,
            action: row.action,
            target: row.target,
            request_id: row.request_id,
            client_address: row.client_address,
            detail: row.detail,
            created_at: row.created_at.into(),
        }
    }
}

impl Example for AuditEntry {
    fn example() -> Self {
        Self {
            id: example_id().into(),
            tenant_id: Some(example_id().into()),
            actor: example_id::<ids::User>().to_string(),
            action: "dead_letter.replayed".to_owned(),
            target: example_id::<ids::Delivery>().to_string(),
            request_id: example_id::<ids::Request>().to_string(),
            client_address: Some("203.0.113.7".to_owned()),
            detail: None,
            created_at: example_time().into(),
        }
    }
}

/// The operation on the audit log.
#[derive(Debug)]
pub(crate) struct AuditLogApi;

#[OpenApi(prefix_path = "/v1/audit-log", tag = "Tag::AuditLog")]
impl AuditLogApi {
    /// List the audit log
    ///
    /// What was done to the tenant's things. An operator of the platform who names no tenant sees everything, sign-ins
    /// included.
    #[oai(path = "/", method = "get", operation_id = "audit_log_list")]
    #[expect(clippy::too_many_arguments, reason = "one for each filter")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::ReadAuditLog>,
        /// Only what was done so: `session.began`.
        action: Query<Option<String>>,
        /// Only what they did: the id of a user or of an API key, `platform` or `anonymous`.
        actor: Query<Option<String>>,
        /// Only what was done at this time or later.
        since: Query<Option<Moment>>,
        /// Only what was done before this time.
        until: Query<Option<Moment>>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<AuditEntry>>, ApiError> {
        use audit_log::Column;
        let mut entries = audit_log::Entity::find();
        if let Some(tenant) = caller.tenant {
            entries = entries.filter(Column::TenantId.eq(tenant));
        }
        // A NUL is in no entry, and PostgreSQL takes none.
        for (column, text) in [(Column::Action, action.0), (Column::Actor, actor.0)] {
            if let Some(text) = text {
                entries = entries.filter(column.eq(text.replace('\0', "\u{fffd}")));
            }
        }
        if let Some(since) = since.0 {
            entries = entries.filter(Column::CreatedAt.gte(since.0));
        }
        if let Some(until) = until.0 {
            entries = entries.filter(Column::CreatedAt.lt(until.0));
        }
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, entries, Column::Id, |row| row.id)
            .await?;
        Reply::of(&page.map(AuditEntry::from))
    }
}

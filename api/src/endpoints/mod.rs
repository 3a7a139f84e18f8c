//! Endpoints: where a tenant's webhooks go.

mod body;
mod changes;
mod circuit;
mod control;
mod put;
mod rules;
mod secret;
mod test;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    delivery::EndpointStatus,
    entities::{endpoint, endpoint_secret},
    ids::{Endpoint as EndpointKind, EndpointId, TenantId},
    queue::Limits,
    secrets::Keyring,
    store,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
    sea_query::{Expr, OnConflict},
};

use self::{
    body::{CreatedEndpoint, Endpoint, NewEndpoint},
    changes::EndpointChanges,
    secret::{RotateSecret, RotatedSecret, VerifyingKey},
};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may},
    http::{
        ApiError, Checks, Cursor, ExternalId, ExternalIdTaken, FailsWith, Limit, NamedInPath,
        NoContent, Page, Paging, Recorded, Ref, Reply, StrictJson, Text, Upserted, document::Tag,
        external_id, to_bytes,
    },
    idempotency::{Begun, IdempotencyKey, Once},
};

pub(crate) use self::{circuit::Circuit, control::EndpointControlsApi};

/// The operations on endpoints.
#[derive(Debug)]
pub(crate) struct EndpointsApi;

#[OpenApi(prefix_path = "/v1/endpoints", tag = "Tag::Endpoints")]
impl EndpointsApi {
    /// Create an endpoint
    ///
    /// From now on it gets every message that it wants, signed as Standard Webhooks has it: with its `secret`, or, when
    /// `signing` is `ed25519`, so that its `public_key` verifies it. An `external_id` that another endpoint of the tenant has
    /// is 409 `external_id_taken`.
    #[oai(path = "/", method = "post", operation_id = "endpoints_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        key: IdempotencyKey,
        body: StrictJson<NewEndpoint>,
    ) -> Result<Recorded<CreatedEndpoint>, FailsWith<ExternalIdTaken>> {
        body.value.check(&services.guard)?;
        // Before the transaction, which nothing may hold up.
        let reachable = reachable(services, &body.value.url).await;
        let keyed = key.of("POST /v1/endpoints", &body.bytes);
        let once = match Once::begin(services, caller.tenant, keyed).await? {
            Begun::Done(accepted) => return Ok(accepted.into()),
            Begun::Work(once) => once,
        };
        // Only now: what was answered once is answered again, whatever its name means today.
        if let Err(refused) = reachable {
            return Err(once.refuse(refused).await.into());
        }
        let row = body.value.into_row(caller.tenant, once.now());
        let keys = &services.settings.keyring;
        let Some(created) = insert(once.tx(), keys, &caller, row).await? else {
            return Err(once.refuse(external_id::taken()).await.into());
        };
        Ok(once.finish_sealed(to_bytes(&created)?).await?.into())
    }

    /// List endpoints
    ///
    /// Disabled and paused ones are listed too, deleted ones are not.
    #[oai(path = "/", method = "get", operation_id = "endpoints_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
        /// Only the endpoint with this external id.
        external_id: Query<Option<Text<ExternalId>>>,
    ) -> Result<Reply<Page<Endpoint>>, ApiError> {
        let mut endpoints = endpoint::Entity::of_tenant(caller.tenant);
        if let Some(Text(id)) = &external_id.0 {
            endpoints = endpoints.filter(endpoint::Column::ExternalId.eq(id.as_str()));
        }
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, endpoints, endpoint::Column::Id, |row| row.id)
            .await?;
        let mut circuits = circuit::of(&services.db, page.data.iter().map(|row| row.id)).await?;
        Reply::of(&page.map(|row| {
            let circuit = circuits.remove(&row.id);
            Endpoint::shown(row, circuit, visible(services, caller.sees_secrets))
        }))
    }

    /// Get an endpoint
    ///
    /// With its circuit. Its secret has an operation of its own.
    #[oai(path = "/:endpoint_id", method = "get", operation_id = "endpoints_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let row = find(&services.db, caller.tenant, endpoint_id.0.0).await?;
        if let Some(keys) = visible(services, caller.sees_secrets) {
            row.open_headers(keys)?;
        }
        Reply::of(&show(services, row, caller.sees_secrets).await?)
    }

    /// Change an endpoint
    ///
    /// A field that is left out stays as it is; `null` clears one that can be without a value. An `external_id` that another
    /// endpoint of the tenant has is 409 `external_id_taken`.
    #[oai(
        path = "/:endpoint_id",
        method = "patch",
        operation_id = "endpoints_update"
    )]
    async fn update(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
        body: StrictJson<EndpointChanges>,
    ) -> Result<Reply<Endpoint>, FailsWith<ExternalIdTaken>> {
        let found = find(&services.db, caller.tenant, endpoint_id.0.0).await?;
        body.value.check(&services.guard)?;
        if let Some(url) = body.value.url.value() {
            reachable(services, url).await?;
        }
        let now = services.clock.now();
        let keys = &services.settings.keyring;
        let Some(changes) = body.value.into_changes(found.id, keys, now)? else {
            return Ok(Reply::of(&show(services, found, true).await?)?);
        };
        let tx = begin_write(&services.db).await?;
        let before = held(&tx, caller.tenant, found.id, now).await?;
        let before = before.ok_or_else(|| ApiError::not_found("endpoint"))?;
        let limits = Limits::of(&before);
        let row = change(&tx, keys, &caller, before, changes, now).await?;
        tx.commit().await?;
        limit(services, limits, &row);
        Ok(Reply::of(&show(services, row, true).await?)?)
    }

    /// Get or create an endpoint by its external id
    ///
    /// Creates the endpoint, and answers with what its receiver verifies with, or changes the one that there is to what the
    /// body says: a field that is left out gets its default, as at creation. Its status, its circuit and its secret stay; when
    /// `signing` changes it gets a new key, and the old one signs on beside it for a day. Send it as often as you like, and
    /// from several places at once: there is one endpoint.
    #[oai(
        path = "/by-external-id/:external_id",
        method = "put",
        operation_id = "endpoints_put"
    )]
    async fn put(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The id that your product knows it by.
        external_id: Path<Text<NamedInPath>>,
        body: StrictJson<NewEndpoint>,
    ) -> Result<Upserted<CreatedEndpoint, Endpoint>, ApiError> {
        let mut new = body.value;
        let named = new.external_id.as_ref().map(|id| &id.0);
        let external_id = external_id.0.0.checked(named)?;
        new.check(&services.guard)?;
        new.external_id = Some(Text(external_id));
        put::put(services, &caller, new).await
    }

    /// Delete an endpoint
    ///
    /// What still waits to be delivered to it is given up.
    #[oai(
        path = "/:endpoint_id",
        method = "delete",
        operation_id = "endpoints_delete"
    )]
    async fn delete(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<NoContent, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let (tenant, id) = (caller.tenant, endpoint_id.0.0);
        // What is held back is let go, and ends.
        store::endpoints::before_deletion(&tx, tenant, id, now).await?;
        let deleted = endpoint::Entity::update_many()
            .col_expr(endpoint::Column::DeletedAt, Expr::value(now))
            .filter(endpoint::Column::TenantId.eq(tenant))
            .filter(endpoint::Column::Id.eq(id))
            .filter(endpoint::Column::DeletedAt.is_null())
            .exec(&tx)
            .await?;
        if deleted.rows_affected == 0 {
            return Err(ApiError::not_found("endpoint"));
        }
        store::endpoints::after_deletion(&tx, id, now).await?;
        audit::record(&tx, &caller, Action::EndpointDeleted, id, now).await?;
        tx.commit().await?;
        Ok(NoContent)
    }

    /// Get an endpoint's signing secret
    ///
    /// Or its public key, when it signs with ed25519: what its receiver verifies with. Looking is noted in the audit log.
    #[oai(
        path = "/:endpoint_id/secret",
        method = "get",
        operation_id = "endpoints_get_secret"
    )]
    async fn secret(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<VerifyingKey>, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let endpoint = find(&tx, caller.tenant, endpoint_id.0.0).await?;
        let key = secret::current(&tx, &services.settings.keyring, &endpoint).await?;
        // Nobody sees it without a trace: what cannot be noted is not shown.
        audit::record(&tx, &caller, Action::EndpointSecretRead, endpoint.id, now).await?;
        tx.commit().await?;
        Reply::of(&key)
    }

    /// Rotate an endpoint's signing secret
    ///
    /// Makes a new secret. During the grace period webhooks are signed with both, so that the receiver can change over
    /// without missing one. Takes no `Idempotency-Key`: a rotation that is sent again is a second rotation.
    #[oai(
        path = "/:endpoint_id/secret/rotate",
        method = "post",
        operation_id = "endpoints_rotate_secret"
    )]
    async fn rotate_secret(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
        body: StrictJson<RotateSecret>,
    ) -> Result<Reply<RotatedSecret>, ApiError> {
        let grace = body.value.grace_period()?;
        Reply::of(&secret::rotate(services, &caller, endpoint_id.0.0, grace).await?)
    }
}

/// The tenant's endpoints that may get messages at all, now or when they are resumed; [`endpoint::Model::wants`] says which get one.
pub(crate) fn active_of(tenants: Vec<TenantId>) -> sea_orm::Select<endpoint::Entity> {
    endpoint::Entity::find()
        .filter(endpoint::Column::TenantId.is_in(tenants))
        .filter(endpoint::Column::DeletedAt.is_null())
        .filter(endpoint::Column::Status.ne(EndpointStatus::Disabled))
}

/// The keys that open what a caller sees, if it sees secrets.
fn visible(services: &Services, sees_secrets: bool) -> Option<&Keyring> {
    sees_secrets.then_some(&services.settings.keyring)
}

/// An endpoint with its circuit, to a caller that may see secrets or may not.
async fn show(
    services: &Services,
    row: endpoint::Model,
    sees_secrets: bool,
) -> Result<Endpoint, ApiError> {
    let circuit = circuit::of(&services.db, [row.id]).await?.remove(&row.id);
    Ok(Endpoint::shown(
        row,
        circuit,
        visible(services, sees_secrets),
    ))
}

/// Refuses a URL whose name leads nowhere but into networks that webhooks may not reach.
async fn reachable(services: &Services, url: &str) -> Result<(), ApiError> {
    let mut checks = Checks::default();
    let foreseen = services.guard.foresee(url).await;
    checks.result("url", foreseen.map_err(|refused| refused.to_string()));
    checks.finish()
}

async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: EndpointId,
) -> Result<endpoint::Model, ApiError> {
    endpoint::Entity::of_tenant(tenant)
        .filter(endpoint::Column::Id.eq(id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("endpoint"))
}

/// Stores a new endpoint, whose headers are not sealed yet, with its secret, and notes it in the audit log. Nothing when
/// another endpoint of the tenant has its external id.
async fn insert(
    tx: &impl ConnectionTrait,
    keys: &Keyring,
    caller: &may::ForTenant,
    row: endpoint::Model,
) -> Result<Option<CreatedEndpoint>, ApiError> {
    let now = row.created_at;
    let secret = secret::generate(keys, &row, now)?;
    let stored = endpoint::Model {
        headers: endpoint::Model::seal_headers(keys, row.id, row.headers.clone())?,
        ..row.clone()
    };
    let inserted = endpoint::Entity::insert(stored.into_active_model())
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    if inserted == 0 {
        return Ok(None);
    }
    audit::record(tx, caller, Action::EndpointCreated, row.id, now).await?;
    let created = CreatedEndpoint {
        key: secret.verifying_key()?,
        endpoint: row.into(),
    };
    endpoint_secret::Entity::insert(secret.row.into_active_model())
        .exec_without_returning(tx)
        .await?;
    Ok(Some(created))
}

/// Changes an endpoint that this transaction holds, and notes it in the audit log.
async fn change(
    tx: &impl ConnectionTrait,
    keys: &Keyring,
    caller: &may::ForTenant,
    before: endpoint::Model,
    changes: endpoint::ActiveModel,
    now: Timestamp,
) -> Result<endpoint::Model, ApiError> {
    let change = endpoint::Entity::update_many().set(changes);
    let changed = change.filter(endpoint::Column::Id.eq(before.id)).exec(tx);
    changed.await.map_err(external_id::taken_or)?;
    let row = find(tx, caller.tenant, before.id).await?;
    if row.signing != before.signing {
        secret::replace(tx, keys, &row, secret::GRACE, now).await?;
    }
    audit::record(tx, caller, Action::EndpointChanged, row.id, now).await?;
    Ok(row)
}

/// Tells the queue the endpoint's limits, if they are not what they were. The answer does not wait for it: a queue that is
/// away learns them from the next job.
fn limit(services: &Services, before: Limits, row: &endpoint::Model) {
    let (tenant, endpoint, limits) = (row.tenant_id, row.id, Limits::of(row));
    if limits == before {
        return;
    }
    let queue = services.queue.clone();
    tokio::spawn(async move {
        if let Err(error) = queue.limit(tenant, endpoint, limits).await {
            tracing::debug!(%endpoint, %error, "the queue does not know of a changed limit yet");
        }
    });
}

/// The endpoint, which nobody else changes before this transaction ends: two changes of what it signs with cannot both make
/// a key. SQLite has one writer and locks no rows.
async fn held(
    tx: &Transaction,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> Result<Option<endpoint::Model>, DbErr> {
    store::endpoints::before_change(tx, id, now).await?;
    endpoint::Entity::of_tenant(tenant)
        .filter(endpoint::Column::Id.eq(id))
        .lock_exclusive()
        .one(tx)
        .await
}

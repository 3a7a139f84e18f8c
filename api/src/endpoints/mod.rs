//! Endpoints: where a tenant's webhooks go.

mod body;
mod changes;
mod circuit;
mod control;
mod rules;
mod secret;
mod test;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    circuit::{create_missing, wake},
    db::begin_write,
    delivery::EndpointStatus,
    entities::{delivery, endpoint, endpoint_secret},
    ids::{Endpoint as EndpointKind, EndpointId, TenantId},
    secrets::Keyring,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _, sea_query::Expr,
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
        ApiError, Checks, Cursor, Limit, NoContent, Page, Paging, Recorded, Ref, Reply, StrictJson,
        Text, document::Tag, to_bytes,
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
    /// `signing` is `ed25519`, so that its `public_key` verifies it.
    #[oai(path = "/", method = "post", operation_id = "endpoints_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<NewEndpoint>,
    ) -> Result<Recorded<CreatedEndpoint>, ApiError> {
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
            return Err(once.refuse(refused).await);
        }
        let row = body.value.into_row(caller.tenant, once.now());
        let keys = &services.settings.keyring;
        let secret = secret::generate(keys, &row, once.now())?;
        let stored = endpoint::Model {
            headers: endpoint::Model::seal_headers(keys, row.id, row.headers.clone())?,
            ..row.clone()
        };
        endpoint::Entity::insert(stored.into_active_model())
            .exec_without_returning(once.tx())
            .await?;
        let (action, now) = (Action::EndpointCreated, once.now());
        audit::record(once.tx(), &caller, action, row.id, now).await?;
        let created = CreatedEndpoint {
            key: secret.verifying_key()?,
            endpoint: row.into(),
        };
        endpoint_secret::Entity::insert(secret.row.into_active_model())
            .exec_without_returning(once.tx())
            .await?;
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
    ) -> Result<Reply<Page<Endpoint>>, ApiError> {
        let endpoints = endpoint::Entity::of_tenant(caller.tenant);
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
    /// A field that is left out stays as it is; `null` clears one that can be without a value.
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
    ) -> Result<Reply<Endpoint>, ApiError> {
        let found = find(&services.db, caller.tenant, endpoint_id.0.0).await?;
        body.value.check(&services.guard)?;
        if let Some(url) = body.value.url.value() {
            reachable(services, url).await?;
        }
        let now = services.clock.now();
        let keys = &services.settings.keyring;
        let Some(changes) = body.value.into_changes(found.id, keys, now)? else {
            return Reply::of(&show(services, found, true).await?);
        };
        let tx = begin_write(&services.db).await?;
        // What is held back for it may go another way now: in order or not, faster or slower.
        wake(&tx, found.id.uuid(), now).await?;
        // Held until the end, so that two changes of what it signs with cannot both make a key.
        let before = held(&tx, caller.tenant, found.id).await?;
        endpoint::Entity::update_many()
            .set(changes)
            .filter(endpoint::Column::Id.eq(before.id))
            .exec(&tx)
            .await?;
        let row = find(&tx, caller.tenant, before.id).await?;
        if row.signing != before.signing {
            secret::replace(&tx, keys, &row, secret::GRACE, now).await?;
        }
        audit::record(&tx, &caller, Action::EndpointChanged, row.id, now).await?;
        tx.commit().await?;
        Reply::of(&show(services, row, true).await?)
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
        let now = services.clock.now();
        let tx = begin_write(&services.db).await?;
        // Locked before the endpoint and its deliveries, as the workers do it. What is held back is let go, and ends.
        let circuit = (endpoint_id.0.0.uuid(), Some(caller.tenant));
        create_missing(&tx, [circuit], now).await?;
        wake(&tx, circuit.0, now).await?;
        let deleted = endpoint::Entity::update_many()
            .col_expr(endpoint::Column::DeletedAt, Expr::value(now))
            .filter(endpoint::Column::TenantId.eq(caller.tenant))
            .filter(endpoint::Column::Id.eq(endpoint_id.0.0))
            .filter(endpoint::Column::DeletedAt.is_null())
            .exec(&tx)
            .await?;
        if deleted.rows_affected == 0 {
            return Err(ApiError::not_found("endpoint"));
        }
        // What waits for its next attempt is looked at now: the workers end it, as they end what is on the queue.
        delivery::Entity::update_many()
            .col_expr(delivery::Column::DispatchAt, Expr::value(now))
            .filter(delivery::Column::EndpointId.eq(endpoint_id.0.0))
            .filter(delivery::Column::DispatchAt.gt(now))
            .exec(&tx)
            .await?;
        let (action, id) = (Action::EndpointDeleted, endpoint_id.0.0);
        audit::record(&tx, &caller, action, id, now).await?;
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

/// The endpoint, which nobody else changes before this transaction ends. SQLite has one writer and locks no rows.
async fn held(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    id: EndpointId,
) -> Result<endpoint::Model, ApiError> {
    endpoint::Entity::of_tenant(tenant)
        .filter(endpoint::Column::Id.eq(id))
        .lock_exclusive()
        .one(tx)
        .await?
        .ok_or_else(|| ApiError::not_found("endpoint"))
}

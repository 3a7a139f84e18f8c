//! What operators do to an endpoint by hand: pause and resume it, open and close its circuit, test it.
//!
//! The circuit's row is locked before the endpoint's is changed, as the workers do it: what a worker parks at the same
//! moment is either seen here or sees what is done here.

use poem::web::Data;
use poem_openapi::{OpenApi, param::Path};
use relaypost_shared::{
    circuit as machine,
    clock::Timestamp,
    db::begin_write,
    delivery::EndpointStatus,
    entities::{circuit, endpoint},
    ids::{Endpoint as EndpointKind, EndpointId},
};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{
    body::Endpoint,
    find, show,
    test::{self, TestResult},
};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may, may::ForTenant},
    http::{ApiError, Code, Ref, Reply, document::Tag},
};

/// The operations that control an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointControlsApi;

#[OpenApi(prefix_path = "/v1/endpoints", tag = "Tag::Endpoints")]
impl EndpointControlsApi {
    /// Pause an endpoint
    ///
    /// Nothing is sent to it, and everything that arrives for it is kept until it is resumed.
    #[oai(
        path = "/:endpoint_id/pause",
        method = "post",
        operation_id = "endpoints_pause"
    )]
    async fn pause(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let found = find(&services.db, caller.tenant, endpoint_id.0.0).await?;
        if found.status == EndpointStatus::Disabled {
            let detail = "it is disabled: it takes nothing that could be kept; resume it first";
            return Err(ApiError::new(Code::EndpointDisabled, detail));
        }
        if found.status == EndpointStatus::Active {
            let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
            set_status(&tx, &found, EndpointStatus::Paused, now).await?;
            audit::record(&tx, &caller, Action::EndpointPaused, found.id, now).await?;
            tx.commit().await?;
        }
        reply(services, &caller, &found).await
    }

    /// Resume an endpoint
    ///
    /// A paused one gets what was kept for it, slowly at first; a disabled one takes messages again, and `recover` sends
    /// it what it has missed.
    #[oai(
        path = "/:endpoint_id/resume",
        method = "post",
        operation_id = "endpoints_resume"
    )]
    async fn resume(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let found = find(&services.db, caller.tenant, endpoint_id.0.0).await?;
        if found.status != EndpointStatus::Active {
            let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
            let mut circuit = lock(&tx, &found, now).await?;
            if found.status == EndpointStatus::Disabled {
                // Whatever was known about it is from before somebody saw to it.
                circuit.close_by_hand(now);
                (circuit.failing_since, circuit.warned, circuit.failures) = (None, 0, 0);
            }
            circuit.begin_release(now);
            machine::save(&tx, circuit, now).await?;
            set_status(&tx, &found, EndpointStatus::Active, now).await?;
            audit::record(&tx, &caller, Action::EndpointResumed, found.id, now).await?;
            tx.commit().await?;
        }
        reply(services, &caller, &found).await
    }

    /// Open an endpoint's circuit by hand
    ///
    /// Deliveries wait, as they do when the service has opened it, until somebody closes it: no probes go through.
    #[oai(
        path = "/:endpoint_id/circuit/open",
        method = "post",
        operation_id = "endpoints_open_circuit"
    )]
    async fn open_circuit(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let change = |circuit: &mut circuit::Model, now| {
            circuit.open_by_hand(now);
        };
        by_hand(
            services,
            &caller,
            endpoint_id.0.0,
            change,
            Action::CircuitOpened,
        )
        .await
    }

    /// Close an endpoint's circuit by hand
    ///
    /// What waits for it goes out, slowly at first. Should attempts go on failing, the circuit opens again.
    #[oai(
        path = "/:endpoint_id/circuit/close",
        method = "post",
        operation_id = "endpoints_close_circuit"
    )]
    async fn close_circuit(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let change = |circuit: &mut circuit::Model, now| {
            circuit.close_by_hand(now);
        };
        by_hand(
            services,
            &caller,
            endpoint_id.0.0,
            change,
            Action::CircuitClosed,
        )
        .await
    }

    /// Test an endpoint
    ///
    /// Sends it one signed message of the type `relaypost.test`, the way that every message goes, and waits for what
    /// comes of it. It is tried once, whether the endpoint is paused or disabled, and whatever its circuit says.
    #[oai(
        path = "/:endpoint_id/test",
        method = "post",
        operation_id = "endpoints_test"
    )]
    async fn test(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<TestResult>, ApiError> {
        let found = find(&services.db, caller.tenant, endpoint_id.0.0).await?;
        Reply::of(&test::run(services, &caller, &found).await?)
    }
}

/// Changes an endpoint's circuit under its lock.
async fn by_hand(
    services: &Services,
    caller: &ForTenant,
    endpoint: EndpointId,
    change: impl FnOnce(&mut circuit::Model, Timestamp),
    action: Action,
) -> Result<Reply<Endpoint>, ApiError> {
    let found = find(&services.db, caller.tenant, endpoint).await?;
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let mut circuit = lock(&tx, &found, now).await?;
    change(&mut circuit, now);
    machine::save(&tx, circuit, now).await?;
    audit::record(&tx, caller, action, found.id, now).await?;
    tx.commit().await?;
    reply(services, caller, &found).await
}

async fn reply(
    services: &Services,
    caller: &ForTenant,
    endpoint: &endpoint::Model,
) -> Result<Reply<Endpoint>, ApiError> {
    let row = find(&services.db, caller.tenant, endpoint.id).await?;
    Reply::of(&show(&services.db, row, caller.sees_secrets).await?)
}

/// The endpoint's circuit, made if there is none, and locked.
async fn lock(
    tx: &DatabaseTransaction,
    endpoint: &endpoint::Model,
    now: Timestamp,
) -> Result<circuit::Model, ApiError> {
    let id = endpoint.id.uuid();
    machine::create_missing(tx, [(id, Some(endpoint.tenant_id))], now).await?;
    let locked = machine::lock(tx, [id]).await?.remove(&id);
    locked.ok_or_else(|| ApiError::new(Code::Internal, "the circuit that was just made is gone"))
}

async fn set_status(
    tx: &DatabaseTransaction,
    endpoint: &endpoint::Model,
    status: EndpointStatus,
    now: Timestamp,
) -> Result<(), ApiError> {
    use endpoint::Column;
    let changed = endpoint::Entity::update_many()
        .col_expr(Column::Status, Expr::value(status))
        .col_expr(Column::DisabledReason, Expr::value(Option::<String>::None))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(endpoint.id))
        .filter(Column::Status.eq(endpoint.status))
        .filter(Column::DeletedAt.is_null())
        .exec(tx)
        .await?;
    if changed.rows_affected == 0 {
        let detail = "the endpoint has just been changed by somebody else; look again";
        return Err(ApiError::new(Code::Unavailable, detail));
    }
    Ok(())
}

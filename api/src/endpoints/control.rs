//! What operators do to an endpoint by hand: pause and resume it, open and close its circuit, test it.
//!
//! The circuit's row is locked before the endpoint's is changed, as the workers do it: what a worker parks at the same
//! moment is either seen here or sees what is done here.

use poem::web::Data;
use poem_openapi::{OpenApi, param::Path};
use relaypost_shared::{
    circuit::Notice,
    clock::Timestamp,
    db::{Transaction, begin_write},
    delivery::EndpointStatus,
    entities::endpoint,
    ids::{Endpoint as EndpointKind, EndpointId},
    queue::Lane,
    store,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{
    body::Endpoint,
    find, show,
    test::{self, TestResult},
};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may, may::ForTenant},
    http::{ApiError, Code, FailsWith, Ref, Reply, document::Tag, failures, limits::OwnDeadline},
    idempotency::SafeToRepeat,
};

failures! {
    /// The endpoint is disabled: it takes nothing that could be kept.
    EndpointDisabled = EndpointDisabled;
}

/// The operations that control an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointControlsApi;

#[OpenApi(prefix_path = "/v1/endpoints", tag = "Tag::Endpoints")]
impl EndpointControlsApi {
    /// Pause an endpoint
    ///
    /// Nothing is sent to it, and everything that arrives for it is kept until it is resumed. One that is disabled is 409
    /// `endpoint_disabled`.
    #[oai(
        path = "/:endpoint_id/pause",
        method = "post",
        operation_id = "endpoints_pause"
    )]
    async fn pause(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        _again: SafeToRepeat,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, FailsWith<EndpointDisabled>> {
        let mut under_lock = Locked::begin(services, &caller, endpoint_id.0.0).await?;
        match under_lock.endpoint.status {
            EndpointStatus::Active => under_lock.set_status(EndpointStatus::Paused).await?,
            EndpointStatus::Paused => return Ok(under_lock.nothing_to_do().await?),
            EndpointStatus::Disabled => {
                let detail = "it is disabled: it takes nothing that could be kept; resume it first";
                return Err(ApiError::new(Code::EndpointDisabled, detail).into());
            }
        }
        let paused = under_lock.finish(Vec::new(), Action::EndpointPaused);
        Ok(paused.await?)
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
        _again: SafeToRepeat,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let mut under_lock = Locked::begin(services, &caller, endpoint_id.0.0).await?;
        let (circuit, now) = (&mut under_lock.circuit, under_lock.now);
        let notices = match under_lock.endpoint.status {
            EndpointStatus::Active => return under_lock.nothing_to_do().await,
            EndpointStatus::Paused => {
                circuit.begin_release(now);
                Vec::new()
            }
            // Whatever was known about it is from before somebody saw to it.
            EndpointStatus::Disabled => circuit.close_by_hand(now),
        };
        under_lock.set_status(EndpointStatus::Active).await?;
        under_lock.finish(notices, Action::EndpointResumed).await
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
        _again: SafeToRepeat,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let mut under_lock = Locked::begin(services, &caller, endpoint_id.0.0).await?;
        let notices = under_lock.circuit.open_by_hand(under_lock.now);
        under_lock.finish(notices, Action::CircuitOpened).await
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
        _again: SafeToRepeat,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let mut under_lock = Locked::begin(services, &caller, endpoint_id.0.0).await?;
        let notices = under_lock.circuit.close_by_hand(under_lock.now);
        under_lock.finish(notices, Action::CircuitClosed).await
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
        _own: OwnDeadline,
        /// The endpoint.
        endpoint_id: Path<Ref<EndpointKind>>,
    ) -> Result<Reply<TestResult>, ApiError> {
        let found = find(&services.db, caller.tenant, endpoint_id.0.0).await?;
        Reply::of(&test::run(services, &caller, &found).await?)
    }
}

/// An endpoint and its circuit, made if there is none, in a transaction that has locked the circuit.
struct Locked<'a> {
    services: &'a Services,
    caller: &'a ForTenant,
    tx: Transaction,
    now: Timestamp,
    endpoint: endpoint::Model,
    circuit: store::Circuit,
}

impl<'a> Locked<'a> {
    async fn begin(
        services: &'a Services,
        caller: &'a ForTenant,
        id: EndpointId,
    ) -> Result<Self, ApiError> {
        find(&services.db, caller.tenant, id).await?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let circuit = store::endpoints::lock_circuit(&tx, caller.tenant, id, now).await?;
        // As it is now that nobody else can change it.
        let endpoint = find(&tx, caller.tenant, id).await?;
        Ok(Self {
            services,
            caller,
            tx,
            now,
            endpoint,
            circuit,
        })
    }

    async fn set_status(&mut self, status: EndpointStatus) -> Result<(), ApiError> {
        use endpoint::Column;
        endpoint::Entity::update_many()
            .col_expr(Column::Status, Expr::value(status))
            .col_expr(Column::DisabledReason, Expr::value(Option::<String>::None))
            .col_expr(Column::UpdatedAt, Expr::value(self.now))
            .filter(Column::Id.eq(self.endpoint.id))
            .exec(&self.tx)
            .await?;
        Ok(())
    }

    async fn nothing_to_do(self) -> Result<Reply<Endpoint>, ApiError> {
        self.tx.rollback().await?;
        Reply::of(&show(self.services, self.endpoint, self.caller.sees_secrets).await?)
    }

    /// Writes the circuit, tells operators what there is to tell, and answers with the endpoint as it is now.
    async fn finish(
        self,
        notices: Vec<Notice>,
        action: Action,
    ) -> Result<Reply<Endpoint>, ApiError> {
        let (id, now) = (self.endpoint.id, self.now);
        let jobs = store::endpoints::save_circuit(&self.tx, self.circuit, notices, now).await?;
        audit::record(&self.tx, self.caller, action, id, now).await?;
        self.tx.commit().await?;
        if let Err(error) = self.services.queue.push(Lane::Webhooks, &jobs).await {
            tracing::debug!(%error, "operator events are left to the sweep");
        }
        let row = find(&self.services.db, self.caller.tenant, id).await?;
        Reply::of(&show(self.services, row, self.caller.sees_secrets).await?)
    }
}

//! Sending an endpoint what it has missed.

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    delivery::{EndpointStatus, ReplayKind},
    entities::endpoint,
    ids::EndpointId,
    replay::{Missed, Selection},
};
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;

use super::{
    make::{NewJob, make},
    selection::span,
};
use crate::{
    auth::may::ForTenant,
    http::{ApiError, Checks, Code, Moment, example_time},
    idempotency::{Accepted, Once},
};

/// Of which time an endpoint is sent what it did not get.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct RecoverEndpoint {
    /// Messages accepted at this time or later.
    since: Moment,
    /// Messages accepted before this time. Without it, or in the future: now.
    #[oai(nullable)]
    until: Option<Moment>,
}

impl Example for RecoverEndpoint {
    fn example() -> Self {
        Self {
            since: example_time().into(),
            until: None,
        }
    }
}

impl RecoverEndpoint {
    /// 422 when there is no time between its ends.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        checks.require(self.since.0 < now, "since", || {
            "expected a time in the past".to_owned()
        });
        let until = self.until.map(|until| until.0);
        span(&mut checks, "until", Some(self.since.0), until);
        checks.finish()
    }

    /// Makes the job.
    ///
    /// # Errors
    /// 404 when the tenant has no such endpoint, 409 when it is disabled.
    pub(super) async fn make(
        &self,
        once: Once<'_>,
        caller: &ForTenant,
        endpoint_id: EndpointId,
    ) -> Result<Accepted, ApiError> {
        let endpoint = endpoint::Entity::of_tenant(caller.tenant)
            .filter(endpoint::Column::Id.eq(endpoint_id))
            .one(once.tx())
            .await?;
        let refused = match endpoint {
            None => Some(ApiError::not_found("endpoint")),
            Some(endpoint) if endpoint.status == EndpointStatus::Disabled => {
                let detail = "it takes no deliveries; resume it first";
                Some(ApiError::new(Code::EndpointDisabled, detail))
            }
            Some(_) => None,
        };
        if let Some(error) = refused {
            return Err(once.refuse(error).await);
        }
        let now = once.now();
        let missed = Missed {
            endpoint_id,
            since: self.since.0,
            until: self.until.map_or(now, |until| until.0.min(now)),
        };
        let job = NewJob {
            kind: ReplayKind::Recover,
            selection: Selection::Missed(missed),
            rate_per_s: None,
        };
        make(once, caller, job).await
    }
}

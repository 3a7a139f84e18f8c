//! The circuit of an endpoint, as it stands in bodies.

use std::collections::HashMap;

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    delivery::CircuitState,
    ids::EndpointId,
    store::{self, read},
};
use sea_orm::{ConnectionTrait, DbErr};
use serde::Serialize;
use uuid::Uuid;

use crate::http::{Moment, Text, example_time};

/// Whether deliveries go through to an endpoint.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct Circuit {
    /// Where it stands. `closed`: everything goes through; `open`: deliveries wait; `half_open`: a few probes decide.
    state: Text<CircuitState>,
    /// How many attempts in a row have failed.
    failures: i32,
    /// When it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_at: Option<Moment>,
    /// When the next probes may go through. Without it an open circuit was opened by hand, and stays open.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Moment>,
    /// How many requests a second go out for now, while the endpoint is slowed down or recovers. Without it: as many as
    /// its limits allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pace_per_s: Option<i32>,
    /// Since when every attempt has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<Moment>,
    /// The last changes of its state, the newest last.
    history: Vec<CircuitChange>,
}

/// A change of a circuit's state.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(crate) struct CircuitChange {
    /// When.
    at: Moment,
    /// The state from then on.
    state: Text<CircuitState>,
    /// Why: `failures`, `probe_due`, `probe_failed`, `probes_succeeded` or `by_hand`.
    why: String,
}

impl Default for Circuit {
    /// That of an endpoint which never had trouble.
    fn default() -> Self {
        Self {
            state: Text(CircuitState::Closed),
            failures: 0,
            opened_at: None,
            retry_at: None,
            pace_per_s: None,
            failing_since: None,
            history: Vec::new(),
        }
    }
}

impl From<store::Circuit> for Circuit {
    fn from(row: store::Circuit) -> Self {
        let changes = row.history.0.into_iter();
        Self {
            state: row.state.into(),
            failures: row.failures,
            opened_at: row.opened_at.map(Text),
            retry_at: row.retry_at.map(Text),
            pace_per_s: row.pace,
            failing_since: row.failing_since.map(Text),
            history: changes
                .filter_map(|change| {
                    Some(CircuitChange {
                        at: change.at.into(),
                        state: Text(change.state.parse().ok()?),
                        why: change.why,
                    })
                })
                .collect(),
        }
    }
}

impl Example for CircuitChange {
    fn example() -> Self {
        Self {
            at: example_time().into(),
            state: Text(CircuitState::Open),
            why: "failures".to_owned(),
        }
    }
}

impl Example for Circuit {
    fn example() -> Self {
        Self {
            state: Text(CircuitState::Open),
            failures: 10,
            opened_at: Some(example_time().into()),
            retry_at: Some(example_time().into()),
            failing_since: Some(example_time().into()),
            history: vec![CircuitChange::example()],
            ..Self::default()
        }
    }
}

/// The circuits of these endpoints, as far as they have any.
pub(super) async fn of(
    db: &impl ConnectionTrait,
    endpoints: impl IntoIterator<Item = EndpointId>,
) -> Result<HashMap<EndpointId, Circuit>, DbErr> {
    let ids: Vec<Uuid> = endpoints.into_iter().map(|id| id.uuid()).collect();
    let rows = read::circuits::of(db, ids).await?;
    Ok(rows
        .into_iter()
        .map(|(id, row)| (EndpointId::from_uuid(id), row.into()))
        .collect())
}

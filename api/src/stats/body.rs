//! The figures as they stand in bodies.

use poem_openapi::{Object, types::Example};
use relaypost_shared::ids;
use serde::Serialize;

use crate::{
    endpoints::Circuit,
    http::{Ref, example_id},
};

/// How deliveries are doing.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Stats {
    /// The deliveries that were accepted in the last five minutes, by where they stand now.
    pub(super) last_5_minutes: Recent,
    /// How many deliveries wait behind a circuit, a pause or one that goes first. Counted up to 10,000.
    pub(super) parked: i64,
    /// How many dead letters there are. Counted up to 10,000 of each kind.
    pub(super) dead_letters: DeadLetterCount,
    /// The endpoints whose circuit is not closed, up to 100.
    pub(super) circuits: Vec<EndpointCircuit>,
    /// How many jobs wait in each queue of the service. Not there when the queue cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queues: Option<Queues>,
    /// The mail providers of the service, in the order in which they are tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mail_providers: Option<Vec<ProviderCircuit>>,
}

/// Deliveries by where they stand.
#[derive(Debug, Default, Serialize, Object)]
#[oai(example)]
pub(super) struct Recent {
    /// All of them.
    pub(super) accepted: i64,
    /// Not done yet.
    pub(super) pending: i64,
    /// Confirmed by the receiver.
    pub(super) delivered: i64,
    /// In the dead-letter queue.
    pub(super) dead: i64,
}

/// Dead letters by kind.
#[derive(Debug, Default, Serialize, Object)]
#[oai(example)]
pub(super) struct DeadLetterCount {
    /// Webhooks.
    pub(super) webhook: i64,
    /// Emails.
    pub(super) email: i64,
}

/// Jobs by queue.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(crate) struct Queues {
    /// Live webhooks.
    pub(crate) webhooks: u64,
    /// Live emails.
    pub(crate) emails: u64,
    /// Replays.
    pub(crate) bulk: u64,
}

/// An endpoint's circuit.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct EndpointCircuit {
    /// The endpoint.
    pub(super) endpoint_id: Ref<ids::Endpoint>,
    /// Its circuit.
    pub(super) circuit: Circuit,
}

/// A mail provider's circuit.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct ProviderCircuit {
    /// Where it is, without user and password.
    pub(super) provider: String,
    /// Its circuit.
    pub(super) circuit: Circuit,
}

impl Example for Stats {
    fn example() -> Self {
        Self {
            last_5_minutes: Recent::example(),
            parked: 25,
            dead_letters: DeadLetterCount::example(),
            circuits: vec![EndpointCircuit::example()],
            queues: Some(Queues::example()),
            mail_providers: Some(vec![ProviderCircuit::example()]),
        }
    }
}

impl Example for Recent {
    fn example() -> Self {
        Self {
            accepted: 1200,
            pending: 27,
            delivered: 1172,
            dead: 1,
        }
    }
}

impl Example for DeadLetterCount {
    fn example() -> Self {
        Self {
            webhook: 3,
            email: 1,
        }
    }
}

impl Example for Queues {
    fn example() -> Self {
        Self {
            webhooks: 12,
            emails: 0,
            bulk: 0,
        }
    }
}

impl Example for EndpointCircuit {
    fn example() -> Self {
        Self {
            endpoint_id: example_id().into(),
            circuit: Circuit::example(),
        }
    }
}

impl Example for ProviderCircuit {
    fn example() -> Self {
        Self {
            provider: "smtp://mail.example.com:587".to_owned(),
            circuit: Circuit::default(),
        }
    }
}

//! Circuits at work: who may be sent ([`ask`]), what is held back and released again ([`conduct`]), what attempts say
//! ([`observe`]), and whose turn it is where messages are delivered in order ([`order`]). The rules of the circuit
//! itself are in [`relaypost_shared::circuit`].

mod ask;
mod conduct;
mod observe;
mod order;
mod providers;

use chrono::TimeDelta;
use relaypost_shared::entities::endpoint;
use uuid::Uuid;

pub use ask::{Answer, ask};
pub use conduct::{BATCH, expire, find_forgotten, step};
pub(crate) use observe::{Observed, Told, observe};
pub(crate) use order::next_in_order;

/// What a delivery may be sent through.
///
/// A webhook goes through the circuit of its endpoint; a mail tries those of the mail providers in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// All of its circuits: they are closed.
    Free,
    /// These circuits, each with the epoch whose probe it is.
    Through(Vec<(Uuid, Option<i32>)>),
}

impl Pass {
    /// The epoch in which a circuit admitted the delivery; nothing when it is not to be sent that way.
    pub(crate) fn through(&self, circuit: Uuid) -> Option<Option<i32>> {
        match self {
            Self::Free => Some(None),
            Self::Through(circuits) => circuits
                .iter()
                .find(|(id, _)| *id == circuit)
                .map(|(_, epoch)| *epoch),
        }
    }
}

/// How long the result of a probe may take before the probe is taken for lost: an attempt, and a worker that was killed
/// and whose work another has taken over.
fn patience(timeout: TimeDelta, endpoint: Option<&endpoint::Model>) -> TimeDelta {
    let own = endpoint
        .and_then(|endpoint| endpoint.timeout_ms)
        .map(|millis| TimeDelta::milliseconds(millis.into()));
    own.unwrap_or(timeout) + TimeDelta::seconds(60)
}

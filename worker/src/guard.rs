//! Step 2: decide before sending whether to send at all. Pure; where the answer hangs on a circuit that is not plainly
//! closed, [`crate::circuit::ask`] gives it under the circuit's lock.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    delivery::{CircuitState, EndpointStatus, Outcome, Reason, TEST_EVENT},
    entities::endpoint,
    store::mark::Sending,
};

use crate::load::{Loaded, Target};

/// A job may ring a little before its time, because the clocks of two machines differ.
const EARLY: TimeDelta = TimeDelta::seconds(1);

/// What to do with a delivery that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// Ask its circuit.
    Ask,
    /// A mail with the mark of an attempt: another worker is handing it over, or was when it died.
    Marked(Sending),
    /// Not its time: a job that came twice. The dispatcher has it for later.
    NotDue,
    /// It ends here, without an attempt.
    End(Outcome),
}

/// The verdict on a delivery.
pub fn guard(Loaded { delivery, target }: &Loaded, now: Timestamp) -> Verdict {
    let end = |reason| Verdict::End(Outcome::DeadLettered(reason));
    match target {
        // Its endpoint's rows are gone for good, as after a restore from a backup that lacks them.
        Target::Missing => return end(Reason::EndpointDeleted),
        // A test is how somebody finds out whether the endpoint works: it waits for nothing.
        Target::Webhook {
            endpoint, message, ..
        } if message.event_type == TEST_EVENT && endpoint.deleted_at.is_none() => {
            return Verdict::Send;
        }
        Target::Webhook { endpoint, .. } => {
            if let Some(reason) = refusal(endpoint) {
                return end(reason);
            }
        }
        Target::Email {
            sending: Some(mark),
            ..
        } => return Verdict::Marked(*mark),
        Target::Email { sending: None, .. } => {}
    }
    if delivery.next_attempt_at.is_some_and(|at| at - EARLY > now) {
        return Verdict::NotDue;
    }
    if delivery.expires_at.is_some_and(|at| at <= now) {
        return end(Reason::Expired);
    }
    if hangs_on_circuit(target) {
        Verdict::Ask
    } else {
        Verdict::Send
    }
}

/// Why an endpoint takes nothing any more, if it does not.
pub(crate) fn refusal(endpoint: &endpoint::Model) -> Option<Reason> {
    if endpoint.deleted_at.is_some() {
        return Some(Reason::EndpointDeleted);
    }
    (endpoint.status == EndpointStatus::Disabled).then_some(Reason::EndpointDisabled)
}

fn hangs_on_circuit(target: &Target) -> bool {
    match target {
        Target::Webhook {
            endpoint, circuit, ..
        } => {
            endpoint.status == EndpointStatus::Paused
                || endpoint.ordering.is_some()
                || circuit
                    .as_ref()
                    .is_some_and(|circuit| circuit.state != CircuitState::Closed)
        }
        Target::Email { circuits, .. } => circuits
            .values()
            .any(|circuit| circuit.state != CircuitState::Closed),
        Target::Missing => false,
    }
}

//! Step 2: decide before sending whether to send at all.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    delivery::{EndpointStatus, Outcome, Reason},
};

use crate::load::{Loaded, Target};

/// A job may ring a little before its time, because the clocks of two machines differ.
const EARLY: TimeDelta = TimeDelta::seconds(1);

/// What to do with a delivery that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// Not its time: a job that came twice. The dispatcher has it for later.
    NotDue,
    /// It ends here, without an attempt.
    End(Outcome),
}

/// The verdict on each delivery of a slice, in the order given.
pub fn guard(slice: &[Loaded], now: Timestamp) -> Vec<Verdict> {
    slice.iter().map(|loaded| verdict(loaded, now)).collect()
}

fn verdict(Loaded { delivery, target }: &Loaded, now: Timestamp) -> Verdict {
    let end = |reason| Verdict::End(Outcome::DeadLettered(reason));
    match target {
        Target::Webhook { endpoint, .. } if endpoint.deleted_at.is_some() => {
            end(Reason::EndpointDeleted)
        }
        Target::Webhook { endpoint, .. } if endpoint.status == EndpointStatus::Disabled => {
            end(Reason::EndpointDisabled)
        }
        // Its endpoint's rows are gone for good, as after a restore from a backup that lacks them.
        Target::Missing => end(Reason::EndpointDeleted),
        _ if delivery.next_attempt_at.is_some_and(|at| at - EARLY > now) => Verdict::NotDue,
        Target::Webhook { .. } | Target::Email { .. } => Verdict::Send,
    }
}

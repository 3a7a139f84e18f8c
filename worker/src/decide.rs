//! Step 4: what an attempt means for its delivery. Pure: the same input always gives the same outcome.

use relaypost_shared::{
    clock::Timestamp,
    delivery::{EmailOnUncertain, ErrorClass, Outcome, Reason, TEST_EVENT},
};

use crate::{
    load::{Loaded, Target},
    retry,
    send::{Attempted, Failure},
};

/// What is known besides the attempt itself.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The retry schedule of endpoints that have none of their own, in seconds.
    pub schedule: &'a [u32],
    /// The time of the decision.
    pub now: Timestamp,
    /// Drawn evenly from `0..1`; varies the wait.
    pub chance: f64,
}

/// What the attempt means for its delivery.
pub fn decide(loaded: &Loaded, attempted: &Attempted, context: Context<'_>) -> Outcome {
    match &attempted.result {
        Ok(_) => Outcome::Delivered,
        Err(failure) => after_failure(loaded, attempted, failure, context),
    }
}

fn after_failure(
    loaded: &Loaded,
    attempted: &Attempted,
    failure: &Failure,
    context: Context<'_>,
) -> Outcome {
    if attempted.is_gone() {
        return Outcome::DeadLettered(Reason::EndpointDisabled);
    }
    if let Some(reason) = final_reason(failure, resends(&loaded.target)) {
        return Outcome::DeadLettered(reason);
    }
    // Who reads the reason has to know whether the mail may have arrived.
    let given_up = |reason| {
        Outcome::DeadLettered(if failure.uncertain {
            Reason::Uncertain
        } else {
            reason
        })
    };
    let schedule = match &loaded.target {
        // A test is made once: somebody waits for its result.
        Target::Webhook { message, .. } if message.event_type == TEST_EVENT => Some(&[][..]),
        Target::Webhook { endpoint, .. } => endpoint
            .retry_schedule
            .as_ref()
            .map(|seconds| seconds.0.as_slice()),
        Target::Email { .. } | Target::Missing => None,
    };
    // Attempts before the last replay belong to a schedule that is over.
    let of_schedule = loaded.delivery.attempt_count - loaded.delivery.schedule_start;
    let failed = u32::try_from(of_schedule).unwrap_or(0) + 1;
    let next = retry::next_attempt(
        schedule.unwrap_or(context.schedule),
        failed,
        context.now,
        context.chance,
    );
    let Some(next) = next else {
        return given_up(Reason::RetriesExhausted);
    };
    let next = retry::put_off(next, failure.not_before, context.now);
    match loaded.delivery.expires_at {
        Some(expires_at) if expires_at <= next => given_up(Reason::Expired),
        Some(_) | None => Outcome::RetryAt(next),
    }
}

/// Whether the tenant rather has a mail twice than not at all.
fn resends(target: &Target) -> bool {
    matches!(
        target,
        Target::Email {
            on_uncertain: EmailOnUncertain::Resend,
            ..
        }
    )
}

/// The reason why another attempt would be wrong, if it would.
fn final_reason(failure: &Failure, resends: bool) -> Option<Reason> {
    match failure {
        Failure {
            uncertain: true, ..
        } => (!resends).then_some(Reason::Uncertain),
        Failure {
            class: ErrorClass::Ssrf,
            ..
        } => Some(Reason::SsrfBlocked),
        Failure {
            class: ErrorClass::BodyTooLarge,
            ..
        } => Some(Reason::PayloadTooLarge),
        Failure {
            class: ErrorClass::Smtp5xx,
            recipient_refused: true,
            ..
        } => Some(Reason::InvalidRecipient),
        Failure {
            class: ErrorClass::Smtp5xx,
            ..
        } => Some(Reason::Rejected),
        _ => None,
    }
}

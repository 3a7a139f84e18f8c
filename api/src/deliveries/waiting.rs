//! What waits for the time that its sender named: it can still be cancelled, or be given another time.

use relaypost_shared::store::{self, cancel::Cancelled, reschedule::Rescheduled};

use crate::http::{ApiError, Code};

/// Whether a cancellation has changed anything, and the deliveries as they are now.
///
/// # Errors
/// 409 when it is too late; the caller's transaction is to be rolled back then.
pub(crate) fn cancelled(result: Cancelled) -> Result<(bool, Vec<store::Delivery>), ApiError> {
    match result {
        Cancelled::Done {
            changed,
            deliveries,
        } => Ok((changed, deliveries)),
        Cancelled::TooLate => Err(too_late()),
    }
}

/// The deliveries that have got another time.
///
/// # Errors
/// 409 when it is too late or they were cancelled; the caller's transaction is to be rolled back then.
pub(crate) fn rescheduled(result: Rescheduled) -> Result<Vec<store::Delivery>, ApiError> {
    match result {
        Rescheduled::Done(deliveries) => Ok(deliveries),
        Rescheduled::AlreadyCancelled => Err(already_cancelled()),
        Rescheduled::TooLate => Err(too_late()),
    }
}

/// The answer to who wants to change what was cancelled.
pub(crate) fn already_cancelled() -> ApiError {
    ApiError::new(
        Code::AlreadyCancelled,
        "it was cancelled, which is for good",
    )
}

fn too_late() -> ApiError {
    ApiError::new(
        Code::TooLate,
        "it is due, being sent or was sent: only what waits for its time can be changed",
    )
}

//! The errors of changing a delivery.

use crate::http::failures;

failures! {
    /// It is due, being sent or was sent; only what waits for its time can be changed.
    TooLate = TooLate;
    /// It was cancelled, which is for good.
    AlreadyCancelled = AlreadyCancelled;
    /// The receiver has it already.
    AlreadyDelivered = AlreadyDelivered;
    /// It was discarded, which is for good.
    AlreadyDiscarded = AlreadyDiscarded;
}

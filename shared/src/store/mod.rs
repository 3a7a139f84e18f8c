//! The rows of `messages`, `emails`, `deliveries`, `attempts`, `circuits` and `replays`.
//!
//! The statements on these tables still stand with the features that use them, which reach the entities through
//! [`crate::entities`].

pub mod schema;

pub use schema::{
    attempt::Model as Attempt, circuit::Model as Circuit, delivery::Model as Delivery,
    email::Model as Email, message::Model as Message, replay::Model as Replay,
};

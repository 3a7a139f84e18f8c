//! The entities of the store's tables, for tests that fill the tables and look into them. Nothing else uses this module:
//! `scripts/store-wall` finds it anywhere outside of tests.

pub use super::schema::{attempt, circuit, delivery, email, email_body, message, payload, replay};

//! The locks that writing takes on the store's tables, for health checks: a lock of somebody else on one of them stops the
//! work, while the database answers everything else.
//!
//! Guarantee: nothing is written. No transition of a delivery is made here.

/// The tables whose locks [`WRITING`] takes.
pub const TABLES: [&str; 5] = [
    "messages",
    "message_payloads",
    "emails",
    "email_bodies",
    "deliveries",
];

/// The statement, for a transaction of PostgreSQL, that takes the locks that accepting a delivery takes: on the tables and on
/// all of their partitions.
pub const WRITING: &str = "\
    LOCK TABLE messages, message_payloads, emails, email_bodies, deliveries IN ROW EXCLUSIVE MODE";

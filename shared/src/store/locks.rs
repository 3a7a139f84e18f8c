//! The locks that writing takes on the store's tables, for health checks: a lock of somebody else on one of them stops the
//! work, while the database answers everything else.
//!
//! Guarantee: nothing is written. No transition of a delivery is made here.

/// The tables whose locks [`WRITING`] takes.
pub const TABLES: [&str; 3] = ["messages", "emails", "deliveries"];

/// The statement, for PostgreSQL, that takes the locks that accepting a delivery takes. Its updates change nothing, and take
/// the lock that an insert takes.
pub const WRITING: &str = "\
    WITH of_messages AS (UPDATE messages SET tenant_id = tenant_id WHERE false), \
         of_emails AS (UPDATE emails SET tenant_id = tenant_id WHERE false) \
    UPDATE deliveries SET tenant_id = tenant_id WHERE false";

//! A row for readiness probes to write.

use sea_orm_migration::schema::{binary_null, small_integer, timestamp_with_time_zone};

use super::Group;
use crate::tables::table;

pub(super) fn group() -> Group {
    let columns = [
        small_integer("id").primary_key().to_owned(),
        timestamp_with_time_zone("checked_at"),
        // SQLite only: a write as large as a message's.
        binary_null("filler"),
    ];
    Group {
        tables: vec![table("probes", columns)],
        indexes: &[],
        postgres: &[],
    }
}

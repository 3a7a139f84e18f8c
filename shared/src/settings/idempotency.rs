//! `IDEMPOTENCY_…`: requests that can be sent again.

use std::time::Duration;

use super::{reader::Reader, values::Whole};

/// How requests with an `Idempotency-Key` are treated.
#[derive(Clone, Copy, Debug)]
pub struct Idempotency {
    /// How long a key is remembered.
    pub ttl: Duration,
    /// How many requests with a key one tenant has in flight in one process.
    pub max: usize,
}

impl Idempotency {
    pub(super) fn read(from: &mut Reader) -> Self {
        Self {
            ttl: from.or::<Whole<60, 2_592_000>>("IDEMPOTENCY_TTL", "86400", "How long an `Idempotency-Key` is remembered, in seconds.").seconds(),
            max: from.or::<Whole<1, 100_000>>("IDEMPOTENCY_MAX", "200", "How many requests with an `Idempotency-Key` a tenant has in flight at most, a batch being one; beyond that they are 429. Each API process counts its own.").into(),
        }
    }
}

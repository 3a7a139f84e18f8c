//! Answers to requests whose key is not free.

use std::sync::Arc;

use relaypost_shared::{
    entities::idempotency_key,
    ids::TenantId,
    secrets::{Keyring, Place, SealError},
    store::accept::keys::{self, Standing},
};

use super::{Accepted, Held, Keyed, in_flight::in_use};
use crate::{
    Services,
    http::{ApiError, Code},
};

/// The remembered answer, opened with `keys` where it is sealed.
///
/// # Errors
/// 409 when the key was used with another body, 500 when the answer cannot be opened.
pub(crate) fn again(
    keyed: &Keyed,
    known: &idempotency_key::Model,
    keys: &Keyring,
) -> Result<Accepted, ApiError> {
    if known.fingerprint != keyed.fingerprint {
        return Err(ApiError::new(
            Code::IdempotencyKeyReused,
            "this `Idempotency-Key` was used with another body",
        ));
    }
    let body = if known.sealed {
        let place = Place::idempotent_answer(known.tenant_id, &known.key);
        keys.open(place, &String::from_utf8_lossy(&known.response))?
            .into()
    } else {
        known.response.clone().into()
    };
    Ok(Accepted::Again(body))
}

/// The answer that a key has by itself; none when the work is this request's.
///
/// # Errors
/// As [`again`], and 409 when another request is using the key.
pub(crate) fn settled(
    keyed: &Keyed,
    standing: &Standing,
    keys: &Keyring,
) -> Result<Option<Accepted>, ApiError> {
    match standing {
        Standing::Free => Ok(None),
        Standing::Known(known) => again(keyed, known, keys).map(Some),
        Standing::InUse => Err(in_use()),
    }
}

/// Whether a request goes on to its work.
#[derive(Debug)]
pub(crate) enum Holding {
    /// It does. It holds its key, if it has one.
    Work(Option<Arc<Held>>),
    /// It does not: another request of this process is using the key, and both get the remembered answer.
    Again(Accepted),
}

/// Takes a request's key for the time of its work.
///
/// # Errors
/// As [`again`]; 409 when another request of this process is using the key and nothing is remembered for it; and when the
/// database fails.
pub(crate) async fn hold(
    services: &Services,
    tenant: TenantId,
    keyed: Option<&Keyed>,
) -> Result<Holding, ApiError> {
    let Some(keyed) = keyed else {
        return Ok(Holding::Work(None));
    };
    if let Some(held) = services.in_flight.hold(tenant, keyed) {
        return Ok(Holding::Work(Some(held)));
    }
    let now = services.clock.now();
    let known = keys::look_up(&services.db, &[keyed.name(tenant)], now).await?;
    let known = known.values().next().ok_or_else(in_use)?;
    again(keyed, known, &services.settings.keyring).map(Holding::Again)
}

/// Seals the answer in a row.
///
/// # Errors
/// When the system gives no randomness.
pub(super) fn seal(keys: &Keyring, row: &mut idempotency_key::Model) -> Result<(), SealError> {
    let place = Place::idempotent_answer(row.tenant_id, &row.key);
    row.response = keys.seal(place, &row.response)?.into_bytes();
    row.sealed = true;
    Ok(())
}

//! The table of remembered answers.

use std::collections::HashMap;

use bytes::Bytes;
use relaypost_shared::{
    clock::Timestamp,
    entities::idempotency_key as table,
    ids::TenantId,
    secrets::{Keyring, Place, SealError},
    settings::Settings,
};
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, DbErr, EntityTrait as _, ExprTrait as _,
    IntoActiveModel as _, QueryFilter as _,
    sea_query::{Expr, OnConflict},
};

use super::{Accepted, Keyed};
use crate::http::{ApiError, Code};

/// Another request took the same key while this one was at work.
#[derive(Debug)]
pub(crate) struct Raced;

/// The answers that are remembered for some keys.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<(TenantId, String), Remembered>);

#[derive(Debug)]
struct Remembered {
    fingerprint: Vec<u8>,
    body: Bytes,
    /// Whether the body is sealed.
    sealed: bool,
}

impl Known {
    /// Loads what is remembered for these keys and has not expired.
    pub(crate) async fn load(
        tx: &DatabaseTransaction,
        keys: impl Iterator<Item = (TenantId, &Keyed)>,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let mut any = Condition::any();
        for (tenant, keyed) in keys {
            let same_tenant = table::Column::TenantId.eq(tenant);
            any = any.add(same_tenant.and(table::Column::Key.eq(&keyed.key)));
        }
        if any.is_empty() {
            return Ok(Self::default());
        }
        let rows = table::Entity::find()
            .filter(any)
            .filter(table::Column::ExpiresAt.gt(now))
            .all(tx)
            .await?;
        let known = rows.into_iter().map(|row| {
            let remembered = Remembered {
                fingerprint: row.fingerprint,
                body: row.response.into(),
                sealed: row.sealed,
            };
            ((row.tenant_id, row.key), remembered)
        });
        Ok(Self(known.collect()))
    }

    /// The remembered answer, if there is one; `keys` open it where it is sealed.
    ///
    /// # Errors
    /// 409 when the key was used with another body, 500 when the answer cannot be opened.
    pub(crate) fn answer(
        &self,
        tenant: TenantId,
        keyed: &Keyed,
        keys: &Keyring,
    ) -> Result<Option<Accepted>, ApiError> {
        match self.0.get(&(tenant, keyed.key.clone())) {
            None => Ok(None),
            Some(known) if known.fingerprint == keyed.fingerprint => {
                let body = if known.sealed {
                    let place = Place::idempotent_answer(tenant, &keyed.key);
                    keys.open(place, &String::from_utf8_lossy(&known.body))?
                        .into()
                } else {
                    known.body.clone()
                };
                Ok(Some(Accepted::Again(body)))
            }
            Some(_) => Err(ApiError::new(
                Code::IdempotencyKeyReused,
                "this `Idempotency-Key` was used with another body",
            )),
        }
    }

    /// Learns an answer that is about to be remembered.
    pub(crate) fn learn(&mut self, tenant: TenantId, keyed: &Keyed, body: &Bytes) {
        let answer = Remembered {
            fingerprint: keyed.fingerprint.to_vec(),
            body: body.clone(),
            sealed: false,
        };
        self.0.insert((tenant, keyed.key.clone()), answer);
    }
}

/// The row that remembers an answer.
pub(crate) fn row(
    settings: &Settings,
    tenant: TenantId,
    keyed: &Keyed,
    body: &Bytes,
    now: Timestamp,
) -> table::Model {
    table::Model {
        tenant_id: tenant,
        key: keyed.key.clone(),
        fingerprint: keyed.fingerprint.to_vec(),
        sealed: false,
        response: body.to_vec(),
        created_at: now,
        expires_at: now + settings.idempotency_ttl,
    }
}

/// Seals the answer in a row.
///
/// # Errors
/// When the system gives no randomness.
pub(super) fn seal(keys: &Keyring, row: &mut table::Model) -> Result<(), SealError> {
    let place = Place::idempotent_answer(row.tenant_id, &row.key);
    row.response = keys.seal(place, &row.response)?.into_bytes();
    row.sealed = true;
    Ok(())
}

/// Remembers answers; expired ones are overwritten.
///
/// Who loses the race for a key waits here for the winner's commit.
pub(crate) async fn remember(
    tx: &DatabaseTransaction,
    mut rows: Vec<table::Model>,
    now: Timestamp,
) -> Result<Result<(), Raced>, DbErr> {
    let count = rows.len() as u64;
    if count == 0 {
        return Ok(Ok(()));
    }
    // In one order everywhere, so that two transactions that want the same keys cannot wait for each other.
    rows.sort_unstable_by(|a, b| (a.tenant_id, &a.key).cmp(&(b.tenant_id, &b.key)));
    let mut overwrite = OnConflict::columns([table::Column::TenantId, table::Column::Key]);
    overwrite
        .update_columns([
            table::Column::Fingerprint,
            table::Column::Sealed,
            table::Column::Response,
            table::Column::CreatedAt,
            table::Column::ExpiresAt,
        ])
        .action_and_where(Expr::col((table::Entity, table::Column::ExpiresAt)).lte(now));
    let rows = rows.into_iter().map(|row| row.into_active_model());
    let stored = table::Entity::insert_many(rows)
        .on_conflict(overwrite)
        .exec_without_returning(tx)
        .await?;
    Ok(if stored == count { Ok(()) } else { Err(Raced) })
}

//! The table of remembered answers.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use relaypost_shared::{
    clock::Timestamp,
    db::{
        Transaction,
        rows::{self, Column, Kind, given},
    },
    entities::idempotency_key as table,
    ids::TenantId,
    secrets::{Keyring, Place, SealError},
    settings::Settings,
};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, EntityTrait as _, Statement};

use super::{Accepted, Keyed, in_flight::in_use};
use crate::http::{ApiError, Code};

/// Tries to lock keys until the end of the transaction. The server ends the transaction of a process that vanished
/// without closing its connection.
const LOCK: &str = "SELECT n, pg_try_advisory_xact_lock(k) AS locked \
     FROM unnest(string_to_array($1, ',')::bigint[]) WITH ORDINALITY AS keys (k, n)";

/// The rows that the look-up joins with. One condition for each key instead would be planned anew for each number of keys:
/// 3 ms for a hundred, where this takes 0.2.
const WANTED: [Column; 2] = [
    Column::new("of_tenant", Kind::Uuid),
    Column::new("wanted", Kind::Text),
];

const LOOK_UP: &str = "SELECT known.tenant_id, known.key, known.fingerprint, known.sealed, known.response, known.created_at, \
     known.expires_at FROM given \
     JOIN idempotency_keys known ON known.tenant_id = of_tenant AND known.key = wanted WHERE known.expires_at > $1";

/// An answer that has expired gives way.
const OVERWRITE: &str = "ON CONFLICT (tenant_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
     sealed = excluded.sealed, response = excluded.response, created_at = excluded.created_at, \
     expires_at = excluded.expires_at WHERE idempotency_keys.expires_at <= $1";

/// Another request wrote the answer of the same key while this one was at work. Only a process that takes no locks, as
/// those of version 0.1 do, can do that.
#[derive(Debug)]
pub(crate) struct Raced;

/// What is known about some keys.
#[derive(Debug, Default)]
pub(crate) struct Known {
    answers: HashMap<(TenantId, String), Remembered>,
    /// Those that a request of another process has.
    running: HashSet<(TenantId, String)>,
}

#[derive(Debug)]
struct Remembered {
    fingerprint: Vec<u8>,
    body: Bytes,
    /// Whether the body is sealed.
    sealed: bool,
}

impl Known {
    /// Locks these keys until the end of the transaction, and loads what is remembered for them and has not expired.
    ///
    /// In this order: what was locked here cannot be at work elsewhere, and what its last holder has written is there.
    pub(crate) async fn claim(
        tx: &Transaction,
        keys: impl Iterator<Item = (TenantId, &Keyed)>,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let keys: Vec<(TenantId, &Keyed)> = keys.collect();
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let running = lock(tx, &keys).await?;
        let wanted = keys
            .iter()
            .map(|(tenant, keyed)| vec![(*tenant).into(), keyed.key.as_str().into()]);
        let backend = tx.get_database_backend();
        let statement = given(
            backend,
            &WANTED,
            wanted.collect(),
            vec![now.into()],
            LOOK_UP,
        )?;
        let rows = table::Entity::find()
            .from_raw_sql(statement)
            .all(tx)
            .await?;
        let answers = rows.into_iter().map(|row| {
            let remembered = Remembered {
                fingerprint: row.fingerprint,
                body: row.response.into(),
                sealed: row.sealed,
            };
            ((row.tenant_id, row.key), remembered)
        });
        Ok(Self {
            answers: answers.collect(),
            running,
        })
    }

    /// The remembered answer, if there is one, opened with `keys` where it is sealed; none: the work is this request's.
    ///
    /// # Errors
    /// 409 when the key was used with another body, or when the first request with it is still running, 500 when the
    /// answer cannot be opened.
    pub(crate) fn answer(
        &self,
        tenant: TenantId,
        keyed: &Keyed,
        keys: &Keyring,
    ) -> Result<Option<Accepted>, ApiError> {
        let key = (tenant, keyed.key.clone());
        match self.answers.get(&key) {
            None if self.running.contains(&key) => Err(in_use()),
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
}

/// Takes PostgreSQL's lock of each key, and returns those that another transaction has. SQLite has one process, which
/// knows what it has under way.
async fn lock(
    tx: &Transaction,
    keys: &[(TenantId, &Keyed)],
) -> Result<HashSet<(TenantId, String)>, DbErr> {
    let backend = tx.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(HashSet::new());
    }
    let numbers: Vec<String> = keys
        .iter()
        .map(|(tenant, keyed)| keyed.lock(*tenant).to_string())
        .collect();
    let statement = Statement::from_sql_and_values(backend, LOCK, [numbers.join(",").into()]);
    let mut running = HashSet::new();
    for row in tx.query_all_raw(statement).await? {
        let place = usize::try_from(row.try_get::<i64>("", "n")?).unwrap_or_default();
        let key = place.checked_sub(1).and_then(|index| keys.get(index));
        if let Some((tenant, keyed)) = key
            && !row.try_get::<bool>("", "locked")?
        {
            running.insert((*tenant, keyed.key.clone()));
        }
    }
    Ok(running)
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
        expires_at: now + settings.idempotency.ttl,
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
pub(crate) async fn remember(
    tx: &Transaction,
    mut rows: Vec<table::Model>,
    now: Timestamp,
) -> Result<Result<(), Raced>, DbErr> {
    let count = rows.len() as u64;
    if count == 0 {
        return Ok(Ok(()));
    }
    // In one order everywhere, so that two transactions that want the same keys cannot wait for each other.
    rows.sort_unstable_by(|a, b| (a.tenant_id, &a.key).cmp(&(b.tenant_id, &b.key)));
    let backend = tx.get_database_backend();
    let statement = rows::insert::<table::Entity>(backend, &rows, vec![now.into()], OVERWRITE)?;
    let stored = tx.execute_raw(statement).await?.rows_affected();
    Ok(if stored == count { Ok(()) } else { Err(Raced) })
}

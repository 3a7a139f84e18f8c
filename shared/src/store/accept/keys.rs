//! `Idempotency-Key`s: which of them are free, known or in use.
//!
//! Two things together make a key good for one piece of work. The row in `idempotency_keys` is written by the transaction
//! that does the work, so there is never one without the other. While that transaction runs it holds an advisory lock of
//! PostgreSQL, so that another transaction learns at once that the key is in use; without the lock its insert would wait
//! for the first transaction, and with it everything else that it stores. Locks end with their transactions, and so with
//! the connection of a process that is killed. SQLite has one process, which knows what it has under way.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, EntityTrait as _, Statement};
use sha2::{Digest as _, Sha256};

use crate::{
    clock::Timestamp,
    db::{
        Transaction,
        rows::{self, Column, Kind, given},
    },
    entities::idempotency_key as table,
    ids::TenantId,
};

/// Takes the lock of each key until the end of the transaction, where nobody else has it.
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

/// `ON CONFLICT` of an insert into `idempotency_keys`: a key that has expired at `$1` is overwritten, another is left as it
/// is and not returned.
pub(super) const OVERWRITE: &str = "ON CONFLICT (tenant_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
     sealed = excluded.sealed, response = excluded.response, created_at = excluded.created_at, \
     expires_at = excluded.expires_at WHERE idempotency_keys.expires_at <= $1 RETURNING tenant_id, key";

/// The name of a key: its tenant, and the operation with the key as it was sent (`POST /v1/messages order-42`).
pub type Name<'a> = (TenantId, &'a str);

/// A key to remember with an entry.
#[derive(Clone, Debug)]
pub struct Key {
    /// The tenant that the key belongs to.
    pub tenant: TenantId,
    /// The operation and the key as it was sent.
    pub name: String,
    /// SHA-256 of the request's body.
    pub fingerprint: [u8; 32],
    /// The body of the answer to repeat. It holds no secret.
    pub response: Bytes,
    /// The time from which on the key can be used anew.
    pub expires_at: Timestamp,
}

impl Key {
    /// The key's name.
    pub fn name(&self) -> Name<'_> {
        (self.tenant, &self.name)
    }

    pub(super) fn row(&self, now: Timestamp) -> table::Model {
        table::Model {
            tenant_id: self.tenant,
            key: self.name.clone(),
            fingerprint: self.fingerprint.to_vec(),
            sealed: false,
            response: self.response.to_vec(),
            created_at: now,
            expires_at: self.expires_at,
        }
    }
}

/// Whether a key can be used.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It can, by this transaction alone.
    Free,
    /// It was used before. This is what is remembered.
    Known(Box<table::Model>),
    /// Another transaction is using it.
    InUse,
}

/// Locks keys until the end of the transaction, and tells for each of them, in order, whether it can be used.
///
/// It locks before it reads: a key that it has locked is in use nowhere else, and what its last user has written is
/// visible.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    tx: &Transaction,
    keys: &[Name<'_>],
    now: Timestamp,
) -> Result<Vec<Standing>, DbErr> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let in_use = lock(tx, keys).await?;
    let mut known = look_up(tx, keys, now).await?;
    let standing = keys.iter().enumerate().map(|(index, (tenant, name))| {
        match known.remove(&(*tenant, (*name).to_owned())) {
            Some(row) => Standing::Known(Box::new(row)),
            None if in_use.contains(&index) => Standing::InUse,
            None => Standing::Free,
        }
    });
    Ok(standing.collect())
}

/// Takes PostgreSQL's lock of each key, and returns the indexes of those that another transaction has.
async fn lock(tx: &Transaction, keys: &[Name<'_>]) -> Result<HashSet<usize>, DbErr> {
    let backend = tx.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(HashSet::new());
    }
    let numbers: Vec<String> = keys.iter().map(|key| number(*key).to_string()).collect();
    let statement = Statement::from_sql_and_values(backend, LOCK, [numbers.join(",").into()]);
    let mut in_use = HashSet::new();
    for row in tx.query_all_raw(statement).await? {
        let place = usize::try_from(row.try_get::<i64>("", "n")?).unwrap_or_default();
        if !row.try_get::<bool>("", "locked")?
            && let Some(index) = place.checked_sub(1)
        {
            in_use.insert(index);
        }
    }
    Ok(in_use)
}

/// The number of a key's lock in PostgreSQL. Two keys with the same number refuse each other while one is in use, and can
/// be used again afterwards.
pub(super) fn number((tenant, name): Name<'_>) -> i64 {
    let digest = Sha256::new()
        .chain_update(tenant.uuid().as_bytes())
        .chain_update(name)
        .finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

/// The rows of those of these keys that are known and have not expired. It takes no locks: a key that is not found is free or
/// in use.
///
/// # Errors
/// When the database fails.
pub async fn look_up(
    db: &impl ConnectionTrait,
    keys: &[Name<'_>],
    now: Timestamp,
) -> Result<HashMap<(TenantId, String), table::Model>, DbErr> {
    let wanted = keys
        .iter()
        .map(|(tenant, name)| vec![(*tenant).into(), (*name).into()]);
    let backend = db.get_database_backend();
    let wanted = wanted.collect();
    let statement = given(backend, &WANTED, wanted, vec![now.into()], LOOK_UP)?;
    let rows = table::Entity::find()
        .from_raw_sql(statement)
        .all(db)
        .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| ((row.tenant_id, row.key.clone()), row))
        .collect())
}

/// Remembers keys, each given once and locked by [`claim`], and returns the names of those that were free. Keys that have
/// expired are overwritten.
///
/// # Errors
/// When the database fails.
pub async fn remember(
    tx: &Transaction,
    keys: &[table::Model],
    now: Timestamp,
) -> Result<HashSet<(TenantId, String)>, DbErr> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let backend = tx.get_database_backend();
    let statement = rows::insert::<table::Entity>(backend, keys, vec![now.into()], OVERWRITE)?;
    let rows = tx.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("", "tenant_id")?, row.try_get("", "key")?)))
        .collect()
}

//! The portable form: a few statements in a transaction of the caller.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait as _, DbErr, EntityTrait, Iterable as _, ModelTrait};

use super::{
    Content, Entry, Outcome,
    keys::{self, Name, Standing},
    repeated,
};
use crate::{
    clock::Timestamp,
    db::{Transaction, rows},
    entities::idempotency_key,
    store::schema::delivery,
};

/// Stores entries, and tells for each of them, in order, whether it is stored once the transaction commits. It checks no
/// editions of catalogs: the caller has read in the same transaction what the entries were made by.
///
/// # Errors
/// When the database fails. The transaction has to be rolled back then.
pub async fn in_transaction<R: Content>(
    tx: &Transaction,
    entries: &[Entry<R>],
    now: Timestamp,
) -> Result<Vec<Outcome>, DbErr> {
    let mut outcomes = claim(tx, entries, now).await?;
    let free = entries.iter().zip(&outcomes);
    let free: Vec<idempotency_key::Model> = free
        .filter(|(_, outcome)| matches!(outcome, Outcome::Stored))
        .filter_map(|(entry, _)| Some(entry.key.as_ref()?.row(now)))
        .collect();
    let remembered = keys::remember(tx, &free, now).await?;
    for (entry, outcome) in entries.iter().zip(&mut outcomes) {
        if let (Some(key), Outcome::Stored) = (&entry.key, &*outcome)
            && !remembered.contains(&(key.tenant, key.name.clone()))
        {
            *outcome = Outcome::InUse;
        }
    }
    let stored = || {
        let stored = entries.iter().zip(&outcomes);
        stored
            .filter(|(_, outcome)| matches!(outcome, Outcome::Stored))
            .map(|(entry, _)| entry)
    };
    insert::<R::Entity>(tx, stored().map(|entry| &entry.row)).await?;
    let bodies = stored().map(|entry| &entry.body);
    insert::<<R::Body as ModelTrait>::Entity>(tx, bodies).await?;
    let deliveries = stored().flat_map(|entry| &entry.deliveries);
    insert::<delivery::Entity>(tx, deliveries).await?;
    Ok(outcomes)
}

/// The outcome of each entry as far as its key decides it.
async fn claim<R: Content>(
    tx: &Transaction,
    entries: &[Entry<R>],
    now: Timestamp,
) -> Result<Vec<Outcome>, DbErr> {
    let repeated = repeated(entries);
    let keyed = entries
        .iter()
        .zip(&repeated)
        .filter(|(_, repeated)| !**repeated);
    let names: Vec<Name<'_>> = keyed
        .filter_map(|(entry, _)| Some(entry.key.as_ref()?.name()))
        .collect();
    let standing = keys::claim(tx, &names, now).await?;
    let mut standing: HashMap<Name<'_>, Standing> = names.into_iter().zip(standing).collect();
    let mut outcomes = Vec::with_capacity(entries.len());
    for entry in entries {
        outcomes.push(match &entry.key {
            None => Outcome::Stored,
            Some(key) => match standing.remove(&key.name()) {
                Some(Standing::Free) => Outcome::Stored,
                Some(Standing::Known(row)) => Outcome::Known(row),
                // An earlier entry has it.
                Some(Standing::InUse) | None => Outcome::InUse,
            },
        });
    }
    Ok(outcomes)
}

/// Inserts rows in as few statements as the databases take.
async fn insert<'a, E>(
    tx: &Transaction,
    models: impl Iterator<Item = &'a E::Model>,
) -> Result<(), DbErr>
where
    E: EntityTrait<Model: ModelTrait<Entity = E> + 'a>,
{
    let models: Vec<&E::Model> = models.collect();
    for part in models.chunks(rows::at_once(E::Column::iter().count())) {
        let part = part.iter().copied();
        let statement = rows::insert::<E>(tx.get_database_backend(), part, Vec::new(), "")?;
        tx.execute_raw(statement).await?;
    }
    Ok(())
}

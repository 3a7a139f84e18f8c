//! One statement of PostgreSQL: one round trip and one commit for many submissions.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    DbErr,
    sqlx::{
        self,
        postgres::{PgArguments, Postgres},
        query::QueryAs,
    },
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Content, Entry, Outcome,
    keys::{self, Key, Name},
    repeated,
};
use crate::{
    clock::Timestamp,
    db::{self, Database},
    entities::idempotency_key,
    ids::TenantId,
    store::{Delivery, Email, Message},
};

/// The most deliveries that one statement takes.
const MAX_DELIVERIES: usize = 20_000;

/// A statement that is being bound. It answers with the tenants whose catalog is stale, each with `true`, and with the
/// contents whose key is not free, each with `false`.
pub type Query<'a> = QueryAs<'a, Postgres, (Uuid, bool), PgArguments>;

/// The result of [`at_once`].
#[derive(Clone, Debug)]
pub struct Written {
    /// The outcome of each entry, in order.
    pub outcomes: Vec<Outcome>,
    /// The tenants whose catalog has another edition than the one given. Nothing else that was decided by it holds either.
    pub stale: HashSet<TenantId>,
}

/// Stores entries in one statement, and tells for each of them whether it was stored. `editions` are those of the catalogs
/// that the entries were made by: nothing is stored for a tenant whose catalog has another edition by now.
///
/// Returns nothing, and has stored nothing, where the database is SQLite or the deliveries are too many for one statement:
/// [`super::in_transaction`] stores those.
///
/// # Errors
/// When the statement fails. Nothing is stored then, unless the connection was lost after the statement was sent.
pub async fn at_once<R: Content>(
    db: &Database,
    entries: &[Entry<R>],
    editions: &[(TenantId, Option<i64>)],
    now: Timestamp,
) -> Result<Option<Written>, DbErr> {
    let deliveries = entries.iter().map(|entry| entry.deliveries.len());
    let Some(postgres) = db
        .postgres()
        .filter(|_| deliveries.sum::<usize>() <= MAX_DELIVERIES)
    else {
        return Ok(None);
    };
    let keyed = entries.iter().filter(|entry| entry.key.is_some());
    let repeated = if keyed.count() < 2 {
        vec![false; entries.len()]
    } else {
        repeated(entries)
    };
    let sent = entries.iter().zip(&repeated);
    let sent: Vec<&Entry<R>> = sent
        .filter(|(_, repeated)| !**repeated)
        .map(|(entry, _)| entry)
        .collect();
    let Exceptions { stale, refused } = send(&postgres, &sent, editions, now).await?;

    let is_stale = |entry: &Entry<R>| stale.contains(&entry.row.tenant());
    let asked: Vec<Name<'_>> = sent
        .iter()
        .filter(|entry| refused.contains(&entry.row.id()) && !is_stale(entry))
        .filter_map(|entry| Some(entry.key.as_ref()?.name()))
        .collect();
    let known = if asked.is_empty() {
        Ok(Remembered::new())
    } else {
        // A query of its own: a row that another process has committed while the statement ran is not visible to the
        // statement itself.
        keys::look_up(db, &asked, now).await
    };
    let outcome = |(entry, repeated): (&Entry<R>, &bool)| match &entry.key {
        _ if is_stale(entry) => Outcome::Stale,
        Some(_) if *repeated => Outcome::InUse,
        Some(key) if refused.contains(&entry.row.id()) => refusal(key, &known),
        _ => Outcome::Stored,
    };
    let outcomes = entries.iter().zip(&repeated).map(outcome).collect();
    Ok(Some(Written { outcomes, stale }))
}

/// The exceptions from what the statement was to store.
struct Exceptions {
    /// The tenants whose catalog is stale.
    stale: HashSet<TenantId>,
    /// The contents whose key is not free.
    refused: HashSet<Uuid>,
}

/// Sends the statement.
async fn send<R: Content>(
    postgres: &db::Postgres,
    entries: &[&Entry<R>],
    editions: &[(TenantId, Option<i64>)],
    now: Timestamp,
) -> Result<Exceptions, DbErr> {
    let query = sqlx::query_as(R::statement()).bind(now);
    let query = bind_keys(query, entries);
    let (tenants, known): (Vec<Uuid>, Vec<Option<i64>>) = editions
        .iter()
        .map(|(tenant, edition)| (tenant.uuid(), *edition))
        .unzip();
    let query = bind_deliveries(query.bind(tenants).bind(known), entries);
    let query = R::bind(query, entries)?;
    let rows = postgres
        .run(async |pool| query.fetch_all(pool).await)
        .await?;
    let (stale, refused): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, is_stale)| *is_stale);
    let (stale, refused) = (stale.into_iter(), refused.into_iter());
    Ok(Exceptions {
        stale: stale.map(|(id, _)| TenantId::from_uuid(id)).collect(),
        refused: refused.map(|(id, _)| id).collect(),
    })
}

/// What is remembered for keys, by their names.
type Remembered = HashMap<(TenantId, String), idempotency_key::Model>;

/// A key that is neither free nor remembered is in use, or has just been removed: either way another try tells.
fn refusal(key: &Key, known: &Result<Remembered, DbErr>) -> Outcome {
    match known {
        Err(error) => Outcome::Unread(error.clone()),
        Ok(known) => known
            .get(&(key.tenant, key.name.clone()))
            .map_or(Outcome::InUse, |row| Outcome::Known(Box::new(row.clone()))),
    }
}

fn bind_keys<'a, R: Content>(query: Query<'a>, entries: &[&'a Entry<R>]) -> Query<'a> {
    let keyed = || {
        entries
            .iter()
            .filter_map(|entry| Some((entry.row.id(), entry.key.as_ref()?)))
    };
    query
        .bind(keyed().map(|(content, _)| content).collect::<Vec<_>>())
        .bind(
            keyed()
                .map(|(_, key)| key.tenant.uuid())
                .collect::<Vec<_>>(),
        )
        .bind(
            keyed()
                .map(|(_, key)| key.name.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            keyed()
                .map(|(_, key)| &key.fingerprint[..])
                .collect::<Vec<_>>(),
        )
        .bind(
            keyed()
                .map(|(_, key)| &key.response[..])
                .collect::<Vec<_>>(),
        )
        .bind(keyed().map(|(_, key)| key.expires_at).collect::<Vec<_>>())
        .bind(
            keyed()
                .map(|(_, key)| keys::number(key.name()))
                .collect::<Vec<_>>(),
        )
}

fn deliveries<'a, R: Content>(entries: &[&'a Entry<R>]) -> impl Iterator<Item = &'a Delivery> {
    entries.iter().flat_map(|entry| &entry.deliveries)
}

fn bind_deliveries<'a, R: Content>(query: Query<'a>, entries: &[&'a Entry<R>]) -> Query<'a> {
    let all = || deliveries(entries);
    query
        .bind(all().map(|one| one.id.uuid()).collect::<Vec<_>>())
        .bind(all().map(|one| one.tenant_id.uuid()).collect::<Vec<_>>())
        .bind(all().map(|one| one.next_attempt_at).collect::<Vec<_>>())
        .bind(all().map(|one| one.created_at).collect::<Vec<_>>())
        .bind(all().map(|one| one.expires_at).collect::<Vec<_>>())
}

pub(super) fn bind_messages<'a>(
    query: Query<'a>,
    entries: &[&'a Entry<Message>],
) -> Result<Query<'a>, DbErr> {
    let sent = || deliveries(entries);
    let rows = || entries.iter().map(|entry| &entry.row);
    let bodies = || entries.iter().map(|entry| &entry.body);
    let metadata = rows().map(|row| row.metadata.as_ref().map(ToString::to_string));
    Ok(query
        .bind(
            sent()
                .map(|one| one.message_id.map(|id| id.uuid()))
                .collect::<Vec<_>>(),
        )
        .bind(
            sent()
                .map(|one| one.endpoint_id.map(|id| id.uuid()))
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(rows().map(|row| row.tenant_id.uuid()).collect::<Vec<_>>())
        .bind(
            rows()
                .map(|row| row.event_type.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(texts(rows().map(|row| &row.channels))?)
        .bind(metadata.collect::<Vec<_>>())
        .bind(
            rows()
                .map(|row| row.request_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|row| row.created_at).collect::<Vec<_>>())
        .bind(rows().map(|row| row.deliver_at).collect::<Vec<_>>())
        .bind(rows().map(|row| row.expires_at).collect::<Vec<_>>())
        .bind(rows().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(rows().map(|row| row.tenant_id.uuid()).collect::<Vec<_>>())
        .bind(bodies().map(|body| &body.payload[..]).collect::<Vec<_>>()))
}

pub(super) fn bind_emails<'a>(
    query: Query<'a>,
    entries: &[&'a Entry<Email>],
) -> Result<Query<'a>, DbErr> {
    let sent = || deliveries(entries);
    let rows = || entries.iter().map(|entry| &entry.row);
    let bodies = || entries.iter().map(|entry| &entry.body);
    Ok(query
        .bind(
            sent()
                .map(|one| one.email_id.map(|id| id.uuid()))
                .collect::<Vec<_>>(),
        )
        .bind(
            sent()
                .map(|one| one.recipient.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(rows().map(|row| row.tenant_id.uuid()).collect::<Vec<_>>())
        .bind(rows().map(|row| row.sender.as_str()).collect::<Vec<_>>())
        .bind(texts(rows().map(|row| &row.to_recipients))?)
        .bind(texts(rows().map(|row| &row.cc_recipients))?)
        .bind(texts(rows().map(|row| &row.bcc_recipients))?)
        .bind(
            rows()
                .map(|row| row.reply_to.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|row| row.subject.as_str()).collect::<Vec<_>>())
        .bind(texts(rows().map(|row| &row.headers))?)
        .bind(texts(rows().map(|row| &row.tags))?)
        .bind(
            rows()
                .map(|row| row.request_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(rows().map(|row| row.created_at).collect::<Vec<_>>())
        .bind(rows().map(|row| row.send_at).collect::<Vec<_>>())
        .bind(rows().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(rows().map(|row| row.tenant_id.uuid()).collect::<Vec<_>>())
        .bind(bodies().map(|body| body.sealed).collect::<Vec<_>>())
        .bind(
            bodies()
                .map(|body| body.text.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            bodies()
                .map(|body| body.html.as_deref())
                .collect::<Vec<_>>(),
        ))
}

/// The texts of JSON columns.
fn texts<'a, T: Serialize + 'a>(values: impl Iterator<Item = &'a T>) -> Result<Vec<String>, DbErr> {
    let texts: Result<Vec<String>, _> = values.map(serde_json::to_string).collect();
    texts.map_err(|error| DbErr::Json(error.to_string()))
}

//! Endpoints that were loaded a moment ago, with what is sealed of them opened.
//!
//! None of them is ever old: with every slice of deliveries comes the version of each endpoint's row, and only the same version
//! is used again. Whatever changes what an endpoint signs or authenticates with writes its row as well. Where no version is
//! known, as on SQLite, nothing is kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use relaypost_shared::{
    clock::Timestamp,
    entities::{endpoint, endpoint_secret},
    ids::EndpointId,
    secrets::{Keyring, OpenError},
    store::load::Version,
};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
};

use super::Credentials;

/// How long one is used, and what is opened of it stays in memory: for twice as long at most, as long as something is
/// delivered. A version comes again after four billion transactions.
const LASTS: Duration = Duration::from_secs(60);
/// How many are kept at most.
const ROOM: usize = 10_000;

/// An endpoint with what is sealed of it, opened; or why it cannot be opened. Without a secret it has none.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) endpoint: Arc<endpoint::Model>,
    pub(super) credentials: Option<Result<Arc<Credentials>, OpenError>>,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    version: Version,
    /// When the first of its secrets ends.
    until: Option<Timestamp>,
    loaded: Instant,
}

/// What a worker keeps of endpoints.
#[derive(Debug)]
pub(super) struct Endpoints {
    keys: Keyring,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    entries: HashMap<EndpointId, Entry>,
    cleared: Instant,
}

impl Endpoints {
    pub(super) fn new(keys: Keyring) -> Self {
        Self {
            keys,
            kept: Mutex::new(Kept {
                entries: HashMap::new(),
                cleared: Instant::now(),
            }),
        }
    }

    /// The endpoints of a slice in these versions: those that are kept, and the others from the database, as they are by
    /// now. What cannot be opened is not kept.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub(super) async fn of(
        &self,
        db: &impl ConnectionTrait,
        versions: &HashMap<EndpointId, Option<Version>>,
        now: Timestamp,
    ) -> Result<HashMap<EndpointId, Known>, DbErr> {
        let (mut found, mut missing) = (HashMap::with_capacity(versions.len()), Vec::new());
        {
            let kept = self.kept();
            for (id, version) in versions {
                match kept.entries.get(id) {
                    Some(entry) if version.is_some_and(|version| entry.holds(version, now)) => {
                        found.insert(*id, entry.known.clone());
                    }
                    _ => missing.push(*id),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        // Secrets first: a change that comes between the two shows in the endpoint's version at the next slice.
        let loaded = Instant::now();
        let secrets = secrets_of(db, &missing, now).await?;
        let endpoints = endpoints_of(db, missing).await?;
        let mut credentials = credentials(&endpoints, &secrets, &self.keys);
        for endpoint in endpoints {
            let id = endpoint.id;
            let known = Known {
                endpoint: Arc::new(endpoint),
                credentials: credentials.remove(&id),
            };
            let version = versions.get(&id).copied().flatten();
            if let (Some(version), Some(Ok(_))) = (version, &known.credentials) {
                let entry = Entry {
                    known: known.clone(),
                    version,
                    until: secrets.get(&id).and_then(|rows| first_end(rows)),
                    loaded,
                };
                self.keep(id, entry);
            }
            found.insert(id, known);
        }
        Ok(found)
    }

    fn keep(&self, id: EndpointId, entry: Entry) {
        let mut kept = self.kept();
        if kept.entries.len() >= ROOM {
            kept.entries.clear();
        }
        if kept.cleared.elapsed() >= LASTS {
            kept.cleared = Instant::now();
            kept.entries
                .retain(|_, entry| entry.loaded.elapsed() < LASTS);
        }
        kept.entries.insert(id, entry);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn holds(&self, version: Version, now: Timestamp) -> bool {
        self.version == version
            && self.until.is_none_or(|until| now < until)
            && self.loaded.elapsed() < LASTS
    }
}

fn first_end(secrets: &[endpoint_secret::Model]) -> Option<Timestamp> {
    secrets.iter().filter_map(|row| row.expires_at).min()
}

/// Reads these endpoints.
async fn endpoints_of(
    db: &impl ConnectionTrait,
    ids: Vec<EndpointId>,
) -> Result<Vec<endpoint::Model>, DbErr> {
    endpoint::Entity::find()
        .filter(endpoint::Column::Id.is_in(ids))
        .all(db)
        .await
}

/// The secrets that sign for these endpoints now, of each the newest first.
async fn secrets_of(
    db: &impl ConnectionTrait,
    endpoints: &[EndpointId],
    now: Timestamp,
) -> Result<HashMap<EndpointId, Vec<endpoint_secret::Model>>, DbErr> {
    use endpoint_secret::{Column, Entity};
    let valid = Condition::any()
        .add(Column::ExpiresAt.is_null())
        .add(Column::ExpiresAt.gt(now));
    let mut newest_first = Entity::find()
        .filter(Column::EndpointId.is_in(endpoints.iter().copied()))
        .filter(valid)
        .all(db)
        .await?;
    newest_first.sort_by_key(|row| std::cmp::Reverse(row.id));
    let mut secrets: HashMap<EndpointId, Vec<endpoint_secret::Model>> = HashMap::new();
    for row in newest_first {
        secrets.entry(row.endpoint_id).or_default().push(row);
    }
    Ok(secrets)
}

/// Opens what is sealed of the endpoints. One without a secret has no entry.
fn credentials(
    endpoints: &[endpoint::Model],
    secrets: &HashMap<EndpointId, Vec<endpoint_secret::Model>>,
    keys: &Keyring,
) -> HashMap<EndpointId, Result<Arc<Credentials>, OpenError>> {
    let open = |endpoint: &endpoint::Model, secrets: &[endpoint_secret::Model]| {
        let secrets: Result<Vec<String>, OpenError> =
            secrets.iter().map(|row| row.open(keys)).collect();
        Ok(Arc::new(Credentials {
            secrets: secrets?,
            headers: endpoint.open_headers(keys)?,
        }))
    };
    let with_secrets = endpoints
        .iter()
        .filter_map(|endpoint| Some((endpoint, secrets.get(&endpoint.id)?)));
    with_secrets
        .map(|(endpoint, secrets)| (endpoint.id, open(endpoint, secrets)))
        .collect()
}

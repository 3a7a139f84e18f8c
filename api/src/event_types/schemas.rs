//! The schemas that payloads are checked against, compiled and kept.
//!
//! A payload is checked in the task of its request, before it joins the batch that is written: no transaction waits for
//! it. The transaction only looks whether the schema is still the one that was checked; if it is not, the request loads
//! the new one and comes again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use relaypost_shared::{
    db::Database,
    entities::event_type,
    ids::{EventTypeId, TenantId},
};
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use tokio::task::yield_now;

use super::{
    schema::{Allowed, Refusal, Schema, payload_fault},
    threads::{STACK_OF_CHECK, Threads, Undone},
    work::TooMuch,
};
use crate::http::{ApiError, Code};

/// Memory that compiled schemas may take together, in bytes.
const ROOM: usize = 256 << 20;
/// What a name without a schema takes.
const BARE: usize = 512;
/// Payloads of up to so many bytes are checked at once, as long as it costs little.
const SMALL: usize = 16 * 1024;
/// After so many steps or so much time on a thread that answers requests a request lets others go on.
const STEPS_UNTIL_YIELD: u64 = 5_000;
const TIME_UNTIL_YIELD: Duration = Duration::from_millis(1);
/// How long one check takes at most, and all checks of one request together. The bound of steps comes first unless the
/// machine has too much to do.
const CHECK: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(5);

/// What the checks of one request may still cost. They are made one after the other.
#[derive(Debug)]
pub(crate) struct Allowance(tokio::sync::Mutex<Left>);

#[derive(Debug)]
struct Left {
    time: Duration,
    steps_until_yield: u64,
    time_until_yield: Duration,
}

impl Allowance {
    /// That of a request which has made none yet.
    pub(crate) fn new() -> Self {
        Self(tokio::sync::Mutex::new(Left {
            time: REQUEST,
            steps_until_yield: STEPS_UNTIL_YIELD,
            time_until_yield: TIME_UNTIL_YIELD,
        }))
    }
}

impl Left {
    async fn spend(&mut self, steps: u64, time: Duration) {
        let steps = self.steps_until_yield.checked_sub(steps);
        let time = self.time_until_yield.checked_sub(time);
        if let (Some(steps), Some(time)) = (steps, time) {
            (self.steps_until_yield, self.time_until_yield) = (steps, time);
        } else {
            self.steps_until_yield = STEPS_UNTIL_YIELD;
            self.time_until_yield = TIME_UNTIL_YIELD;
            yield_now().await;
        }
    }
}

/// One state of one event type's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edition {
    pub(super) id: EventTypeId,
    pub(super) version: i32,
}

/// What came of checking a payload.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    edition: Edition,
    verdict: Result<(), ApiError>,
}

impl Checked {
    /// Whether the payload fits the schema of this edition.
    ///
    /// # Errors
    /// 422 when it does not or costs too much, 429 when too many of the tenant's checks wait, and [`is_stale`] when it
    /// was checked against another schema, or not at all.
    pub(crate) fn verdict(checked: Option<&Self>, current: Edition) -> Result<(), ApiError> {
        match checked {
            Some(checked) if checked.edition == current => checked.verdict.clone(),
            _ => Err(ApiError::caused(Code::Unavailable, Stale)),
        }
    }
}

/// The payload was not checked against the schema that the event type has now.
#[derive(Debug, thiserror::Error)]
#[error("the schema has changed meanwhile")]
struct Stale;

/// Whether the schema has to be loaded before the same message is handed in again.
pub(crate) fn is_stale(error: &ApiError) -> bool {
    let cause = error.cause.as_ref();
    cause.is_some_and(|cause| cause.is::<Stale>())
}

/// Compiled schemas. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Schemas(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    loading: Mutex<Loading>,
    threads: Threads,
}

/// Held while the schema of one event type is loaded, so that those that wait for the same one find it.
type Loading = HashMap<(TenantId, String), Arc<tokio::sync::Mutex<()>>>;

/// What is kept of an event type.
#[derive(Clone, Debug)]
struct Known {
    edition: Edition,
    schema: Option<Result<Arc<Schema>, Refusal>>,
}

impl Known {
    fn weight(&self) -> usize {
        let schema = self.schema.as_ref().and_then(|schema| schema.as_ref().ok());
        BARE + schema.map_or(0, |schema| schema.weight)
    }
}

impl Schemas {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::default(),
            loading: Mutex::default(),
            threads: Threads::start(),
        }))
    }

    /// Checks a payload against the schema that is known for its event type; nothing when none is known.
    pub(crate) async fn check(
        &self,
        tenant: TenantId,
        event_type: &str,
        payload: &str,
        allowance: &Allowance,
    ) -> Option<Checked> {
        let known = {
            let mut kept = self.kept();
            let own = kept.find(tenant, event_type);
            own.or_else(|| kept.find(TenantId::OWN, event_type))?
        };
        let verdict = match &known.schema {
            None => Ok(()),
            // One that was taken when another version of this service allowed more.
            Some(Err(refusal)) => Err(refusal.clone().into()),
            Some(Ok(schema)) => self.verdict(tenant, schema, payload, allowance).await,
        };
        Some(Checked {
            edition: known.edition,
            verdict,
        })
    }

    async fn verdict(
        &self,
        tenant: TenantId,
        schema: &Arc<Schema>,
        payload: &str,
        allowance: &Allowance,
    ) -> Result<(), ApiError> {
        let mut left = allowance.0.lock().await;
        if payload.len() <= SMALL {
            let began = Instant::now();
            let little = Allowed::little();
            let checked = schema.check(payload, &little);
            let steps = checked.as_ref().map_or(little.steps, |(_, steps)| *steps);
            left.spend(steps, began.elapsed()).await;
            if let Ok((findings, _)) = checked {
                return findings.map_err(ApiError::invalid);
            }
        }
        let time = left.time.min(CHECK);
        let (schema, payload) = (schema.clone(), payload.to_owned());
        let (checked, took) = self
            .apart(tenant, move || {
                let began = Instant::now();
                let allowed = Allowed::at_most(STACK_OF_CHECK, Some(began + time));
                (schema.check(&payload, &allowed), began.elapsed())
            })
            .await?;
        left.time = left.time.saturating_sub(took);
        match checked {
            Ok((findings, _)) => findings.map_err(ApiError::invalid),
            Err(TooMuch) => {
                let error = payload_fault("costs too much to check against the schema");
                Err(ApiError::of_fields(Code::SchemaTooExpensive, vec![error]))
            }
        }
    }

    /// Compiles a schema that a tenant registers or uses.
    ///
    /// # Errors
    /// 422 when it cannot be used, 429 when too much of this tenant's work waits.
    pub(super) async fn compile(
        &self,
        tenant: TenantId,
        schema: serde_json::Value,
    ) -> Result<Result<Schema, Refusal>, ApiError> {
        self.apart(tenant, move || Schema::compile(&schema)).await
    }

    /// Does work of a tenant beside the threads that answer requests.
    async fn apart<T: Send + 'static>(
        &self,
        tenant: TenantId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = self.0.threads.run(tenant, work).await;
        done.map_err(|undone| match undone {
            Undone::Busy => {
                let detail = "too many of this tenant's schema checks wait; try again";
                ApiError::new(Code::RateLimited, detail).retry_after(1)
            }
            Undone::Failed => ApiError::new(Code::Internal, "the schema check failed"),
        })
    }

    /// Loads the schema of an event type, the tenant's own or else the platform's, unless another request has loaded it since
    /// `checked`. That of the platform is kept once for all tenants.
    ///
    /// # Errors
    /// When the database fails, and 429 when too much of this tenant's work waits.
    pub(crate) async fn load(
        &self,
        db: &Database,
        tenant: TenantId,
        event_type: &str,
        checked: Option<Edition>,
    ) -> Result<(), ApiError> {
        for owner in [tenant, TenantId::OWN] {
            let key = (owner, event_type.to_owned());
            if self.load_of(db, tenant, key, checked).await? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the owner has such an event type. Compiling it is work of `tenant`.
    async fn load_of(
        &self,
        db: &Database,
        tenant: TenantId,
        key: (TenantId, String),
        checked: Option<Edition>,
    ) -> Result<bool, ApiError> {
        let loading = self.loading().entry(key.clone()).or_default().clone();
        let loaded = {
            let _loading = loading.lock().await;
            self.load_alone(db, tenant, &key, checked).await
        };
        drop(loading);
        let mut all = self.loading();
        if all
            .get(&key)
            .is_some_and(|loading| Arc::strong_count(loading) == 1)
        {
            all.remove(&key);
        }
        loaded
    }

    async fn load_alone(
        &self,
        db: &Database,
        tenant: TenantId,
        (owner, event_type): &(TenantId, String),
        checked: Option<Edition>,
    ) -> Result<bool, ApiError> {
        let kept = self.kept().find(*owner, event_type);
        if kept.is_some_and(|known| Some(known.edition) != checked) {
            return Ok(true);
        }
        let row = event_type::Entity::of_tenant(*owner)
            .filter(event_type::Column::Name.eq(event_type))
            .one(db)
            .await?;
        let Some(row) = row else {
            self.kept().forget(*owner, event_type);
            return Ok(false);
        };
        let schema = match row.schema {
            None => None,
            Some(schema) => Some(self.compile(tenant, schema).await?.map(Arc::new)),
        };
        let known = Known {
            edition: Edition {
                id: row.id,
                version: row.schema_version,
            },
            schema,
        };
        self.kept().keep(*owner, event_type, known);
        Ok(true)
    }

    fn loading(&self) -> MutexGuard<'_, Loading> {
        self.0
            .loading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checked {
    /// Against which state of the schema.
    pub(crate) fn edition(&self) -> Edition {
        self.edition
    }
}

/// What is kept, by tenant and event type, with when it was last used.
#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<TenantId, HashMap<String, (Known, u64)>>,
    weight: usize,
    uses: u64,
}

impl Kept {
    fn find(&mut self, tenant: TenantId, event_type: &str) -> Option<Known> {
        self.uses += 1;
        let (known, used) = self.entries.get_mut(&tenant)?.get_mut(event_type)?;
        *used = self.uses;
        Some(known.clone())
    }

    fn keep(&mut self, tenant: TenantId, event_type: &str, known: Known) {
        self.forget(tenant, event_type);
        while self.weight + known.weight() > ROOM {
            // Of the tenant that has most: one that has many large schemas does not push out those of others.
            let weight = |of: &HashMap<String, (Known, u64)>| -> usize {
                of.values().map(|(known, _)| known.weight()).sum()
            };
            let heaviest = self.entries.iter().max_by_key(|(_, of)| weight(of));
            let oldest = heaviest.and_then(|(tenant, of)| {
                let (name, _) = of.iter().min_by_key(|(_, (_, used))| *used)?;
                Some((*tenant, name.clone()))
            });
            let Some((tenant, name)) = oldest else { break };
            self.forget(tenant, &name);
        }
        self.weight += known.weight();
        let of_tenant = self.entries.entry(tenant).or_default();
        of_tenant.insert(event_type.to_owned(), (known, self.uses));
    }

    fn forget(&mut self, tenant: TenantId, event_type: &str) {
        let Some(of_tenant) = self.entries.get_mut(&tenant) else {
            return;
        };
        if let Some((known, _)) = of_tenant.remove(event_type) {
            self.weight -= known.weight();
        }
        if of_tenant.is_empty() {
            self.entries.remove(&tenant);
        }
    }
}

//! The schemas that payloads are checked against, compiled and kept.
//!
//! A payload is checked in the task of its request, before it joins the batch that is written: no transaction waits for
//! it. The transaction only looks whether the schema is still the one that was checked; if it is not, the request loads
//! the new one and comes again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use relaypost_shared::{
    db::Database,
    entities::event_type,
    ids::{EventTypeId, TenantId},
};
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use tokio::sync::Semaphore;

use super::schema::{Findings, Schema, payload_fault};
use crate::http::{ApiError, Code, FieldError};

/// Memory that compiled schemas may take together, in bytes.
const ROOM: usize = 256 << 20;
/// What a name without a schema takes.
const BARE: usize = 512;
/// Payloads of up to so many bytes are checked at once, as long as it costs little.
const SMALL: usize = 16 * 1024;
const LITTLE: u64 = 50_000;
/// What checking one payload may cost: about a second.
const MUCH: u64 = 20_000_000;
/// How many threads check what costs more.
const THREADS: usize = 2;

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
    findings: Findings,
}

impl Checked {
    /// Whether the payload fits the schema of this edition.
    ///
    /// # Errors
    /// 422 when it does not, and [`is_stale`] when it was checked against another schema, or not at all.
    pub(crate) fn verdict(checked: Option<&Self>, current: Edition) -> Result<(), ApiError> {
        match checked {
            Some(checked) if checked.edition == current => {
                checked.findings.clone().map_err(ApiError::invalid)
            }
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
    /// Held while a schema is loaded, so that those that wait for the same one find it.
    loading: tokio::sync::Mutex<()>,
    threads: Semaphore,
}

/// What is kept of an event type.
#[derive(Clone, Debug)]
struct Known {
    edition: Edition,
    schema: Option<Arc<Schema>>,
}

impl Known {
    fn weight(&self) -> usize {
        BARE + self.schema.as_ref().map_or(0, |schema| schema.weight)
    }
}

impl Schemas {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            threads: Semaphore::new(THREADS),
        }))
    }

    /// Checks a payload against the schema that is known for its event type; nothing when none is known.
    pub(crate) async fn check(
        &self,
        tenant: TenantId,
        event_type: &str,
        payload: &str,
    ) -> Option<Checked> {
        let known = self.kept().find(tenant, event_type)?;
        let findings = match &known.schema {
            None => Ok(()),
            Some(schema) => self.findings(schema, payload).await,
        };
        Some(Checked {
            edition: known.edition,
            findings,
        })
    }

    async fn findings(&self, schema: &Arc<Schema>, payload: &str) -> Findings {
        if payload.len() <= SMALL
            && let Ok(findings) = schema.check(payload, LITTLE)
        {
            return findings;
        }
        let (schema, payload) = (schema.clone(), payload.to_owned());
        let checked = self.apart(move || schema.check(&payload, MUCH)).await;
        match checked {
            Some(Ok(findings)) => findings,
            Some(Err(_)) => Err(vec![payload_fault(
                "takes too much work to check against the schema",
            )]),
            None => Err(vec![payload_fault("cannot be checked against the schema")]),
        }
    }

    /// Compiles a schema that somebody registers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn compile(&self, schema: serde_json::Value) -> Result<Schema, FieldError> {
        let compiled = self.apart(move || Schema::compile(&schema)).await;
        compiled.unwrap_or_else(|| {
            Err(FieldError {
                path: "schema".to_owned(),
                message: "cannot be compiled".to_owned(),
            })
        })
    }

    /// Does work beside the threads that answer requests; nothing when it panics.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _thread = self.0.threads.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// Loads the schema of an event type, unless another request has loaded it since `checked`.
    ///
    /// # Errors
    /// When the database fails, or what it holds is no schema.
    pub(crate) async fn load(
        &self,
        db: &Database,
        tenant: TenantId,
        event_type: &str,
        checked: Option<Edition>,
    ) -> Result<(), ApiError> {
        let _loading = self.0.loading.lock().await;
        let kept = self.kept().find(tenant, event_type);
        if kept.is_some_and(|known| Some(known.edition) != checked) {
            return Ok(());
        }
        let row = event_type::Entity::of_tenant(tenant)
            .filter(event_type::Column::Name.eq(event_type))
            .one(db)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let schema = match row.schema {
            None => None,
            Some(schema) => {
                let compiled = self.compile(schema).await;
                let invalid = |error: FieldError| ApiError::new(Code::Internal, error.message);
                Some(Arc::new(compiled.map_err(invalid)?))
            }
        };
        let known = Known {
            edition: Edition {
                id: row.id,
                version: row.schema_version,
            },
            schema,
        };
        self.kept().keep(tenant, event_type, known);
        Ok(())
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
            let all = self.entries.iter().flat_map(|(tenant, of)| {
                let one = move |(name, (_, used)): (&String, &(Known, u64))| {
                    (*used, *tenant, name.clone())
                };
                of.iter().map(one)
            });
            let Some((_, oldest, name)) = all.min() else {
                break;
            };
            self.forget(oldest, &name);
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

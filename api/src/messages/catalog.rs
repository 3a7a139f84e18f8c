//! What decides where a tenant's messages go, its endpoints and event types, kept in memory.
//!
//! A cached catalog is never used stale. A trigger of the database counts `tenants.catalog_edition` up with every change, and
//! the statement that stores messages stores nothing of a tenant that has another edition than its cached catalog: then the
//! catalog is loaded again. So an endpoint gets every message that is published after it was created, through whichever
//! process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use relaypost_shared::{entities::endpoint, ids::TenantId, queue::Limits};
use sea_orm::{ConnectionTrait, DbErr, Statement};

use crate::{endpoints, event_types::Registered};

/// How many bytes the catalogs of all tenants may take, about. Beyond it everything is forgotten.
const ROOM: usize = 64 << 20;
/// What a row takes beside its texts, about.
const ROW: usize = 512;
/// How long one is kept. An edition says nothing across a restored backup or a standby that has lost the last changes.
const LASTS: Duration = Duration::from_secs(10);

/// One tenant's endpoints and event types, as they were at one edition or later.
#[derive(Debug)]
pub(crate) struct Catalog {
    /// None: the tenant does not exist, or the editions of this database are not counted.
    pub(super) edition: Option<i64>,
    /// Those that may get messages at all, each with the limits of its jobs.
    pub(super) endpoints: Vec<(endpoint::Model, Limits)>,
    /// The event types that were registered.
    pub(super) registered: Registered,
    loaded: Instant,
}

impl Catalog {
    fn weight(&self) -> usize {
        let endpoints = self.endpoints.iter().map(|(endpoint, _)| {
            let names = endpoint.event_types.0.iter().chain(&endpoint.channels.0);
            let headers = endpoint.headers.0.iter();
            let headers = headers.map(|(name, value)| name.len() + value.len() + ROW / 4);
            let names = names.map(|name| name.len() + ROW / 16);
            ROW + endpoint.url.len() + names.sum::<usize>() + headers.sum::<usize>()
        });
        ROW + self.registered.len() * ROW + endpoints.sum::<usize>()
    }

    /// Loads those of some tenants, with editions that were read before, if they are to be kept. `names` narrows down which
    /// event types are looked up.
    pub(super) async fn load(
        db: &impl ConnectionTrait,
        mut tenants: Vec<TenantId>,
        names: Option<Vec<&str>>,
        editions: &HashMap<TenantId, i64>,
    ) -> Result<Lookup, DbErr> {
        tenants.sort_unstable();
        tenants.dedup();
        let mut registered = Registered::load(db, &tenants, names).await?;
        let mut endpoints: HashMap<TenantId, Vec<(endpoint::Model, Limits)>> = HashMap::new();
        for row in endpoints::active_of(tenants.clone()).all(db).await? {
            let limits = Limits::of(&row);
            let of_tenant = endpoints.entry(row.tenant_id).or_default();
            of_tenant.push((row, limits));
        }
        Ok(tenants
            .into_iter()
            .map(|tenant| {
                let catalog = Self {
                    edition: editions.get(&tenant).copied(),
                    loaded: Instant::now(),
                    endpoints: endpoints.remove(&tenant).unwrap_or_default(),
                    registered: registered.remove(&tenant).unwrap_or_default(),
                };
                (tenant, Arc::new(catalog))
            })
            .collect())
    }
}

/// The catalogs of the tenants of a batch.
pub(crate) type Lookup = HashMap<TenantId, Arc<Catalog>>;

/// The catalogs that this process keeps. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogs(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    catalogs: Lookup,
    weight: usize,
}

impl Catalogs {
    /// The catalogs of these tenants, and the platform's own, whose event types count for all of them: those that are kept,
    /// and the others from the database.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn of(
        &self,
        db: &impl ConnectionTrait,
        tenants: impl Iterator<Item = TenantId>,
    ) -> Result<Lookup, DbErr> {
        let (mut found, mut missing) = (Lookup::new(), Vec::new());
        {
            let kept = self.kept();
            for tenant in tenants.chain([TenantId::OWN]) {
                if found.contains_key(&tenant) {
                    continue;
                }
                match kept.catalogs.get(&tenant) {
                    Some(catalog) if catalog.loaded.elapsed() < LASTS => {
                        found.insert(tenant, catalog.clone());
                    }
                    _ => missing.push(tenant),
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        // Before the rows: what is loaded may be newer than its edition says, and never older.
        let editions = editions(db, &missing).await?;
        for (tenant, catalog) in Catalog::load(db, missing, None, &editions).await? {
            self.kept().keep(tenant, &catalog);
            found.insert(tenant, catalog);
        }
        Ok(found)
    }

    /// Forgets the catalog of a tenant.
    pub(super) fn forget(&self, tenant: TenantId) {
        self.kept().forget(&tenant);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, tenant: TenantId, catalog: &Arc<Catalog>) {
        self.forget(&tenant);
        let weight = catalog.weight();
        if weight > ROOM {
            return;
        }
        if self.weight + weight > ROOM {
            *self = Self::default();
        }
        self.weight += weight;
        self.catalogs.insert(tenant, catalog.clone());
    }

    fn forget(&mut self, tenant: &TenantId) {
        if let Some(gone) = self.catalogs.remove(tenant) {
            self.weight -= gone.weight();
        }
    }
}

/// The editions of these tenants in PostgreSQL.
async fn editions(
    db: &impl ConnectionTrait,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, i64>, DbErr> {
    let backend = db.get_database_backend();
    let ids: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
    let sql = "SELECT id, catalog_edition FROM tenants WHERE id = ANY($1)";
    let statement = Statement::from_sql_and_values(backend, sql, [ids.into()]);
    let rows = db.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("", "id")?, row.try_get("", "catalog_edition")?)))
        .collect()
}

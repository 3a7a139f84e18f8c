//! Finds the caller behind a key. Requests that arrive together share one query, and a key that was looked up a moment ago
//! needs none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::TimeDelta;
use relaypost_shared::{
    batch::Batcher,
    clock::{Clock, Timestamp},
    db::Database,
    entities::api_key,
    health::{LONGEST_TURN, Loops, Stage},
    ids::KeyId,
};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, ExprTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{
    Actor, Caller, Scope,
    key::{self, PresentedKey},
    remembered::Remembered,
};
use crate::http::ApiError;

/// How many keys one query asks for at most.
const BATCH: usize = 100;

type Found = Result<Option<Arc<api_key::Model>>, DbErr>;

/// The lookup, shared by all requests.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    remembered: Remembered,
    rows: Batcher<KeyId, Found>,
    last_used: LastUsed,
    clock: Clock,
}

impl Keys {
    /// Starts the task that asks the database. Queries pass through `looking`; one that fails has not got through it.
    pub(crate) fn start(db: Database, clock: Clock, looking: Stage, loops: &Loops) -> Self {
        let turn = loops.add(looking.name(), LONGEST_TURN);
        let last_used = LastUsed {
            db: db.clone(),
            written: Arc::default(),
        };
        let remembered = Remembered::default();
        let kept = remembered.clone();
        let rows = Batcher::start(BATCH, db.batch_limit(), move |ids: Vec<KeyId>| {
            let (db, remembered) = (db.clone(), kept.clone());
            let (looking, turn) = (looking.clone(), turn.clone());
            async move {
                let passage = looking.enter();
                let found = turn.during(load(&db, &remembered, &ids)).await;
                if found.iter().all(Result::is_ok) {
                    passage.through();
                }
                found
            }
        });
        Self {
            remembered,
            rows,
            last_used,
            clock,
        }
    }

    /// Whose key this is; nobody's when it is unknown, revoked, expired or its secret is wrong.
    pub(crate) async fn find(&self, key: PresentedKey) -> Result<Option<Caller>, ApiError> {
        let row = match self.remembered.find(key.id) {
            Some(row) => Some(row),
            None => self.rows.call(key.id).await??,
        };
        let now = self.clock.now();
        Ok(row.and_then(|row| caller(&key, &row, now, &self.last_used)))
    }

    /// To be called when a key was changed: what this process has looked up holds no longer.
    pub(crate) fn changed(&self, id: KeyId) {
        self.remembered.forget(id);
    }
}

async fn load(db: &Database, remembered: &Remembered, ids: &[KeyId]) -> Vec<Found> {
    let began = remembered.begin();
    let mut distinct = ids.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let rows = api_key::Entity::find()
        .filter(api_key::Column::Id.is_in(distinct))
        .all(db)
        .await;
    let rows = match rows {
        Ok(rows) => rows.into_iter().map(|row| (row.id, Arc::new(row))),
        Err(error) => return ids.iter().map(|_| Err(error.clone())).collect(),
    };
    let rows: HashMap<KeyId, Arc<api_key::Model>> = rows.collect();
    for row in rows.values() {
        remembered.keep(began, row.clone());
    }
    ids.iter().map(|id| Ok(rows.get(id).cloned())).collect()
}

fn caller(
    presented: &PresentedKey,
    row: &api_key::Model,
    now: Timestamp,
    last_used: &LastUsed,
) -> Option<Caller> {
    let secret_fits = key::same(&presented.hash, &row.secret_hash);
    let valid = row.revoked_at.is_none() && row.expires_at.is_none_or(|at| now < at);
    if !(secret_fits && valid) {
        return None;
    }
    last_used.note(row, now);
    let scopes = row.scopes.0.iter();
    // Whatever the row says: a tenant's key is never the platform's, and the platform's is nothing less.
    let of_platform = row.tenant_id.is_none();
    let scopes = scopes
        .filter_map(|word| Scope::from_word(word))
        .filter(|scope| (*scope == Scope::Platform) == of_platform);
    Some(Caller {
        actor: Actor::Key(row.id),
        tenant: row.tenant_id,
        scopes: scopes.collect(),
        session: None,
    })
}

/// Writes `last_used_at`, at most once a minute for each key, beside the requests and not in their way.
#[derive(Clone, Debug)]
struct LastUsed {
    db: Database,
    /// When this process last wrote which key.
    written: Arc<Mutex<HashMap<KeyId, Timestamp>>>,
}

impl LastUsed {
    fn note(&self, row: &api_key::Model, now: Timestamp) {
        let id = row.id;
        let minute_ago = now - TimeDelta::minutes(1);
        if row.last_used_at.is_some_and(|at| at > minute_ago) {
            return;
        }
        {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            if written.get(&id).is_some_and(|at| *at > minute_ago) {
                return;
            }
            written.retain(|_, at| *at > minute_ago);
            written.insert(id, now);
        }
        let db = self.db.clone();
        tokio::spawn(async move {
            let column = api_key::Column::LastUsedAt;
            let result = api_key::Entity::update_many()
                .col_expr(column, Expr::value(now))
                .filter(api_key::Column::Id.eq(id))
                .filter(column.is_null().or(column.lt(now)))
                .exec(&db)
                .await;
            if let Err(error) = result {
                tracing::debug!(%error, key_id = %id, "last_used_at was not written");
            }
        });
    }
}

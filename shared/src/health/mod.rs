//! How a process is doing: whether it can do its work (readiness) and whether its own loops turn (liveness).
//!
//! The API and the worker of one process share a [`Health`]. docs/operations.md says what each probe is for.

pub mod access;
pub mod answers;
pub mod ask;
mod database;
mod details;
mod loops;
mod probe;
mod readiness;
mod stage;
mod tables;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{db::Database, queue::Queue, shutdown};
pub use details::{CIRCUITS_COUNTED, Component, Details, open_circuits};
pub use loops::{Loop, LoopState, Loops, Phase};
pub use probe::Found;
use probe::Probe;
pub use readiness::{Check, Readiness};
pub use stage::{Passage, Stage};
pub use tables::Tables;

/// How long a look at the database may take with the diagnosis of a failure.
const DATABASE_LIMIT: Duration = Duration::from_secs(3);
/// How long one at the queue or the migrations may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long after a failure of the database or the queue a loop that is silent may still be busy with it.
const RECOVERY: Duration = Duration::from_secs(60);
/// How long a lane may go without looking for work, which it does every second or two, before the process is not ready.
const LANE_SILENT: Duration = Duration::from_secs(8);
/// Why a loop does not turn that is about to start again.
const ENDED: &str = "it ended and starts again";
/// How long a loop whose turns are short may be silent: several times the deadline of a statement.
pub const LONGEST_TURN: Duration = Duration::from_secs(60);

/// How a process is doing. Clones share it.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    loops: Loops,
    lanes: Mutex<Vec<(Loop, Stages)>>,
    pools: Pools,
    database: Probe,
    migrations: Probe,
    queue: Probe,
    needs_queue: AtomicBool,
    /// When the database or the queue last failed while a loop was silent.
    failed: Mutex<Option<Instant>>,
    stopping: watch::Sender<bool>,
}

type Pools = Arc<Mutex<Vec<Pool>>>;
type Stages = Vec<Stage>;

/// What one look at the database takes in.
#[derive(Clone)]
struct Pool {
    db: Database,
    tables: Tables,
    stages: Stages,
}

impl Health {
    /// How a process on this database and this queue is doing. `pending` names the migrations that are not applied.
    /// Starts tasks on the current Tokio runtime that look when somebody asks.
    pub fn start(
        db: &Database,
        queue: &Queue,
        pending: impl Fn(Database) -> BoxFuture<'static, Result<Vec<String>, DbErr>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let pools: Pools = Arc::new(Mutex::new(vec![Pool {
            db: db.clone(),
            tables: Tables::Deliveries,
            stages: Vec::new(),
        }]));
        let (looked_at, db, queue) = (pools.clone(), db.clone(), queue.clone());
        let known = Arc::new(Mutex::new(Ok(())));
        let database = Probe::start(DATABASE_LIMIT, move || {
            let pools = lock(&looked_at).clone();
            Box::pin(async move { look_at(&pools).await })
        });
        let migrations = Probe::start(LIMIT * 2, move || {
            let (asked, known) = (pending(db.clone()), known.clone());
            Box::pin(async move { look_at_migrations(asked, &known).await })
        });
        let queue = Probe::start(LIMIT * 2, move || {
            let queue = queue.clone();
            Box::pin(async move {
                let probed = timeout(LIMIT, queue.probe()).await;
                let probed = probed.map_err(|_| "no answer in 2 s".to_owned())?;
                probed.map_err(|error| error.reason())
            })
        });
        Self(Arc::new(Inner {
            loops: Loops::default(),
            lanes: Mutex::default(),
            pools,
            database,
            migrations,
            queue,
            needs_queue: AtomicBool::new(false),
            failed: Mutex::default(),
            stopping: watch::Sender::new(false),
        }))
    }

    /// The loops of the process.
    pub fn loops(&self) -> &Loops {
        &self.0.loops
    }

    /// From now on the database is only well when this pool writes too, no other session holds these tables, and work gets
    /// through these stages.
    pub fn watch_pool(&self, pool: &Database, tables: Tables, stages: Vec<Stage>) {
        let mut pools = lock(&self.0.pools);
        // SQLite has one connection, which is looked at already.
        match pools.first_mut() {
            Some(known) if known.db.get_database_backend() != DbBackend::Postgres => {
                known.stages.extend(stages);
            }
            _ => pools.push(Pool {
                db: pool.clone(),
                tables,
                stages,
            }),
        }
    }

    /// From now on the process is only ready while this lane turns and work gets through these stages.
    pub fn watch_lane(&self, lane: Loop, stages: Vec<Stage>) {
        lock(&self.0.lanes).push((lane, stages));
    }

    /// From now on the process is not ready without its queue.
    pub fn needs_queue(&self) {
        self.0.needs_queue.store(true, Relaxed);
    }

    /// Whether the process can do its work.
    pub async fn readiness(&self) -> Readiness {
        let inner = &*self.0;
        let (database, migrations, queue) = tokio::join!(
            inner.database.ask(),
            inner.migrations.ask(),
            inner.queue.ask()
        );
        let needed = inner.needs_queue.load(Relaxed);
        let mut checks = BTreeMap::from([
            ("database", Check::of(database.result, true)),
            ("migrations", Check::of(migrations.result, true)),
            ("redis", Check::of(queue.result, needed)),
        ]);
        if let Some(lanes) = self.look_at_lanes() {
            checks.insert("lanes", Check::of(lanes, true));
            checks.insert("background", Check::of(self.look_at_background(), false));
        }
        Readiness {
            checks,
            stopping: self.is_stopping(),
        }
    }

    /// Whether the lanes of a worker deliver; nothing in a process that has none.
    fn look_at_lanes(&self) -> Option<Result<(), String>> {
        let lanes = lock(&self.0.lanes);
        if lanes.is_empty() {
            return None;
        }
        let stuck = lanes.iter().find_map(|(lane, stages)| {
            if lane.is_restarting() {
                return Some(format!("{}: {ENDED}", lane.name()));
            }
            let silent = lane.silent_for().filter(|silent| *silent > LANE_SILENT);
            let silent = silent.map(|silent| {
                format!(
                    "{}: it has not looked for work in {} s",
                    lane.name(),
                    silent.as_secs()
                )
            });
            silent.or_else(|| stages.iter().find_map(Stage::stuck))
        });
        Some(stuck.map_or(Ok(()), Err))
    }

    /// Whether a loop beside the lanes has ended and has not started again yet.
    fn look_at_background(&self) -> Result<(), String> {
        let restarting = self.0.loops.restarting();
        let lanes = lock(&self.0.lanes);
        let mut beside = restarting
            .iter()
            .filter(|state| lanes.iter().all(|(lane, _)| lane.name() != state.name));
        beside
            .next()
            .map_or(Ok(()), |state| Err(format!("{}: {ENDED}", state.name)))
    }

    /// Whether the process's own loops turn.
    ///
    /// # Errors
    /// The loops that hang, although the database and the queue work and have done so for a while. A process that was
    /// told to stop has none.
    pub async fn liveness(&self) -> Result<(), Vec<LoopState>> {
        if self.is_stopping() || self.0.loops.stuck().is_empty() {
            return Ok(());
        }
        let (database, queue) = tokio::join!(self.0.database.ask(), self.0.queue.ask());
        if database.result.is_err() || queue.result.is_err() {
            *lock(&self.0.failed) = Some(Instant::now());
            return Ok(());
        }
        let failed_lately = lock(&self.0.failed).is_some_and(|at| at.elapsed() < RECOVERY);
        let stuck = self.0.loops.stuck();
        if failed_lately || stuck.is_empty() {
            return Ok(());
        }
        Err(stuck)
    }

    /// What the last look at the database found, or a new one.
    pub async fn database(&self) -> Found {
        self.0.database.ask().await
    }

    /// What the last look at the queue found, or a new one.
    pub async fn queue(&self) -> Found {
        self.0.queue.ask().await
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// The process was told to stop: from now on it is not ready. Returns after `delay`, in which load balancers notice, or
    /// at once on the next SIGTERM or SIGINT. A second call waits for nothing.
    pub async fn stop(&self, delay: Duration) {
        let told_before = self.0.stopping.send_replace(true);
        if told_before || delay.is_zero() {
            return;
        }
        tracing::info!(
            delay_ms = delay.as_millis(),
            "stopping: not ready any more, still serving"
        );
        tokio::select! {
            () = sleep(delay) => {}
            () = shutdown::signal() => tracing::info!("told to stop again: the delay is over"),
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

/// The check's own writes decide first: they know the cause, and a stage that is stuck only shows the effect.
async fn look_at(pools: &[Pool]) -> Result<(), String> {
    let writes = pools
        .iter()
        .map(|pool| database::write(&pool.db, pool.tables));
    join_all(writes)
        .await
        .into_iter()
        .collect::<Result<(), _>>()?;
    let mut stages = pools.iter().flat_map(|pool| &pool.stages);
    stages.find_map(Stage::stuck).map_or(Ok(()), Err)
}

/// A schema that cannot be asked about is as it was last seen.
async fn look_at_migrations(
    asked: BoxFuture<'static, Result<Vec<String>, DbErr>>,
    known: &Mutex<Result<(), String>>,
) -> Result<(), String> {
    if let Ok(Ok(pending)) = timeout(LIMIT, asked).await {
        *lock(known) = match pending.as_slice() {
            [] => Ok(()),
            pending => Err(format!("pending: {}", pending.join(", "))),
        };
    }
    lock(known).clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The handle through which everything reaches the database.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, Statement, TransactionOptions, TransactionTrait as _,
    prelude::async_trait::async_trait,
    sqlx::{self, PgPool},
};

use super::{fault::driver_error, sessions::Sessions};

/// How long a batch may take where statements have no deadline.
const BATCH: Duration = Duration::from_secs(60);
/// How long replaced connections are kept for what still runs on them.
const RETIRE_AFTER: Duration = Duration::from_secs(30);

/// A database: a pool of connections in which every wait has a deadline, and which replaces connections that are of no use
/// any more. Clones share it.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    backend: DbBackend,
    sessions: Arc<Sessions>,
    open: Open,
    /// The pool, with its generation.
    pool: RwLock<(u64, DatabaseConnection)>,
}

/// Makes the pool of a generation.
pub(super) type Open = Box<dyn Fn(&Arc<Sessions>, u64) -> DatabaseConnection + Send + Sync>;

impl Database {
    pub(super) fn new(sessions: Arc<Sessions>, open: Open) -> Self {
        let generation = sessions.generation();
        let pool = open(&sessions, generation);
        Self(Arc::new(Inner {
            backend: pool.get_database_backend(),
            sessions,
            open,
            pool: RwLock::new((generation, pool)),
        }))
    }

    /// Another pool to the same server. When one of them meets a silence, both replace their connections.
    pub(super) fn beside(&self, open: Open) -> Self {
        Self::new(self.0.sessions.clone(), open)
    }

    /// The pool of the moment, for what wants the ORM's own type: migrations.
    pub fn connection(&self) -> DatabaseConnection {
        self.current().1
    }

    fn current(&self) -> (u64, DatabaseConnection) {
        let generation = self.0.sessions.generation();
        {
            let pool = self.0.pool.read().unwrap_or_else(PoisonError::into_inner);
            if pool.0 == generation {
                return pool.clone();
            }
        }
        let mut pool = self.0.pool.write().unwrap_or_else(PoisonError::into_inner);
        if pool.0 != generation {
            let fresh = (self.0.open)(&self.0.sessions, generation);
            let (_, old) = std::mem::replace(&mut *pool, (generation, fresh));
            tokio::spawn(retire(old));
        }
        pool.clone()
    }

    /// How long a batch of statements may take before it is cut off: longer than the few statements of one take together
    /// if each of them uses up its time.
    pub fn batch_limit(&self) -> Duration {
        self.0
            .sessions
            .patience()
            .map_or(BATCH, |patience| patience * 4)
    }

    /// How long somebody waits for a batch that others share: as long as a statement of their own could take, although the
    /// batch before theirs may have met a silence as well.
    pub fn answer_limit(&self) -> Duration {
        self.0.sessions.patience().unwrap_or(BATCH)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let (generation, pool) = self.current();
        self.0.sessions.within(generation, pool.ping()).await
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn begin(&self) -> Result<Transaction, DbErr> {
        self.begin_with(TransactionOptions::default()).await
    }

    pub(super) async fn begin_with(
        &self,
        options: TransactionOptions,
    ) -> Result<Transaction, DbErr> {
        let (generation, pool) = self.current();
        let sessions = self.0.sessions.clone();
        let begun = sessions.within(generation, pool.begin_with_options(options));
        let inner = begun.await?;
        Ok(Transaction {
            inner,
            sessions,
            generation,
        })
    }

    /// The connections themselves, for statements that are written for PostgreSQL's driver. None on SQLite.
    pub fn postgres(&self) -> Option<Postgres> {
        (self.0.backend == DbBackend::Postgres).then(|| {
            let (generation, pool) = self.current();
            Postgres {
                pool: pool.get_postgres_connection_pool().clone(),
                sessions: self.0.sessions.clone(),
                generation,
            }
        })
    }

    /// Closes the connections. What uses the handle afterwards fails.
    pub async fn close(&self) {
        let (_, pool) = self.current();
        // There is nothing to be done about a connection that does not close.
        let _ = tokio::time::timeout(super::ACQUIRE_TIMEOUT, pool.close()).await;
    }
}

/// Closes replaced connections, after what still runs on them has come to an end.
async fn retire(pool: DatabaseConnection) {
    tokio::time::sleep(RETIRE_AFTER).await;
    // What is still out by then never comes back: its task is left behind, and the system closes it one day.
    let _ = tokio::time::timeout(RETIRE_AFTER, pool.close()).await;
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

#[async_trait]
impl ConnectionTrait for Database {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let (generation, pool) = self.current();
        let done = pool.execute_raw(statement);
        self.0.sessions.within(generation, done).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let (generation, pool) = self.current();
        let done = pool.execute_unprepared(sql);
        self.0.sessions.within(generation, done).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let (generation, pool) = self.current();
        let row = pool.query_one_raw(statement);
        self.0.sessions.within(generation, row).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let (generation, pool) = self.current();
        let rows = pool.query_all_raw(statement);
        self.0.sessions.within(generation, rows).await
    }
}

/// PostgreSQL's connections, for statements that are written for its driver.
#[derive(Clone, Debug)]
pub struct Postgres {
    pool: PgPool,
    sessions: Arc<Sessions>,
    generation: u64,
}

impl Postgres {
    /// Waits for a statement on the pool, up to its deadline.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&PgPool) -> Result<T, sqlx::Error>,
    ) -> Result<T, DbErr> {
        let done = async { statement(&self.pool).await.map_err(driver_error) };
        self.sessions.within(self.generation, done).await
    }
}

/// A transaction. When it is dropped it is rolled back.
#[derive(Debug)]
pub struct Transaction {
    inner: DatabaseTransaction,
    sessions: Arc<Sessions>,
    generation: u64,
}

impl Transaction {
    /// Commits. After an error it is not known whether it was committed.
    ///
    /// # Errors
    /// When the database does not confirm it.
    pub async fn commit(self) -> Result<(), DbErr> {
        let commit = self.inner.commit();
        self.sessions.within(self.generation, commit).await
    }

    /// Rolls back and waits for it. On a connection that was replaced there is nobody to wait for: the server rolls back
    /// when the connection closes.
    ///
    /// # Errors
    /// When the database does not confirm it.
    pub async fn rollback(self) -> Result<(), DbErr> {
        if self.sessions.generation() != self.generation {
            return Ok(());
        }
        let rollback = self.inner.rollback();
        self.sessions.within(self.generation, rollback).await
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let done = self.inner.execute_raw(statement);
        self.sessions.within(self.generation, done).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let done = self.inner.execute_unprepared(sql);
        self.sessions.within(self.generation, done).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let row = self.inner.query_one_raw(statement);
        self.sessions.within(self.generation, row).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.inner.query_all_raw(statement);
        self.sessions.within(self.generation, rows).await
    }
}

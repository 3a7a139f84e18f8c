//! What PostgreSQL tells about itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TryGetable,
};
use tokio::time::Instant;

use crate::steady::quantile;

/// A connection to the database of the product that runs.
pub(crate) struct Postgres {
    db: DatabaseConnection,
    /// The server's first process.
    pub(crate) postmaster: u32,
}

impl Postgres {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(1)
            .test_before_acquire(false)
            .sqlx_logging(false);
        let db = Database::connect(options).await?;
        let mut postgres = Self { db, postmaster: 0 };
        let own: i32 = postgres.get("SELECT pg_backend_pid()").await?;
        postgres.postmaster = parent_of(own)?;
        Ok(postgres)
    }

    /// The first column of the only row.
    pub(crate) async fn get<T: TryGetable>(&self, sql: &str) -> Result<T> {
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let row = self.db.query_one_raw(statement).await?;
        let row = row.with_context(|| format!("no row: {sql}"))?;
        row.try_get_by_index(0).with_context(|| sql.to_owned())
    }

    /// The first column of every row.
    pub(crate) async fn list(&self, sql: &str) -> Result<Vec<String>> {
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let rows = self.db.query_all_raw(statement).await?;
        let texts = rows.iter().map(|row| row.try_get_by_index(0));
        texts
            .collect::<Result<_, _>>()
            .with_context(|| sql.to_owned())
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<()> {
        let done = self.db.execute_unprepared(sql).await;
        done.with_context(|| sql.to_owned())?;
        Ok(())
    }

    /// Bytes of WAL that the server has ever written.
    pub(crate) async fn wal_bytes(&self) -> Result<f64> {
        self.get("SELECT (pg_current_wal_insert_lsn() - '0/0')::float8")
            .await
    }

    /// Transactions that wrote anything, ever.
    pub(crate) async fn writing_transactions(&self) -> Result<f64> {
        self.get("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::float8")
            .await
    }

    /// The median time of a single-row INSERT in a transaction of its own on one connection, in milliseconds.
    pub(crate) async fn commit_p50_ms(&self, count: usize) -> Result<f64> {
        self.run("CREATE TABLE IF NOT EXISTS bench_commits (number bigserial PRIMARY KEY, payload text NOT NULL)")
            .await?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let sql = "INSERT INTO bench_commits (payload) VALUES ($1)";
            let values = [crate::load::BODY.into()];
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            let began = Instant::now();
            self.db.execute_raw(statement).await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(quantile(&times, 0.5))
    }

    /// Waits until every delivery is settled in the database.
    pub(crate) async fn settled(&self, deadline: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let pending: i64 = self
                .get("SELECT COUNT(*) FROM deliveries WHERE status = 'pending'")
                .await?;
            if pending == 0 {
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < deadline,
                "{pending} deliveries are still pending after {deadline:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn close(self) -> Result<()> {
        Ok(self.db.close().await?)
    }
}

fn parent_of(pid: i32) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .context("PostgreSQL does not run on this machine")?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(parent.context("no parent")?.trim().parse()?)
}

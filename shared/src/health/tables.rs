//! The tables that work needs, in the way that the work uses them. A lock on one of them stops the work, while the database
//! answers everything else.

use sea_orm::sqlx::{PgConnection, query_scalar};

use crate::store::locks;

/// Which tables a check of the database looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// Those that deliveries are recorded in.
    Deliveries,
    /// Those that a request reads and writes until it is authorized and stored, deliveries included.
    Requests,
}

/// A row that refers to a tenant or an endpoint locks that as `FOR KEY SHARE` does. The other tables are only read, apart
/// from the keys of idempotency.
const REQUESTS: &str = "\
    SELECT 1 FROM api_keys, sessions, users, memberships, event_types WHERE false; \
    SELECT 1 FROM tenants, endpoints WHERE false FOR KEY SHARE; \
    UPDATE idempotency_keys SET tenant_id = tenant_id WHERE false";

/// The first of the tables that another session holds, or a partition of it, in a mode in which it keeps writers out.
/// System tables are never locked with them.
const HELD: &str = "\
    SELECT relation.relname::text FROM pg_locks held \
    JOIN pg_class relation ON relation.oid = coalesce(pg_partition_root(held.relation)::oid, held.relation) \
    WHERE held.granted AND held.pid <> pg_backend_pid() AND relation.relname = ANY($1) \
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
      AND held.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
    ORDER BY relation.relname LIMIT 1";

impl Tables {
    /// The statements that take the locks and nothing else, for the simple protocol of PostgreSQL.
    pub(super) fn locks(self) -> String {
        match self {
            Self::Deliveries => locks::WRITING.to_owned(),
            Self::Requests => format!("{}; {REQUESTS}", locks::WRITING),
        }
    }

    fn names(self) -> Vec<&'static str> {
        let mut names = locks::TABLES.to_vec();
        if self == Self::Requests {
            names.extend([
                "api_keys",
                "sessions",
                "users",
                "memberships",
                "event_types",
                "tenants",
                "endpoints",
                "idempotency_keys",
            ]);
        }
        names
    }
}

/// Which of the tables another session holds, if it can be found out.
pub(super) async fn locked_table(connection: &mut PgConnection, tables: Tables) -> Option<String> {
    let asked = query_scalar(HELD).bind(tables.names());
    asked.fetch_optional(connection).await.ok().flatten()
}

//! Fills the database with deliveries, faster than the product could make them. Each is a copy of one that the product
//! has written, with ids and times of its own, so it looks as if the product had written it, whatever its columns are.

use anyhow::{Result, ensure};

use crate::postgres::Postgres;

/// Rows of one statement.
const CHUNK: u64 = 250_000;
/// The tables of a delivery, with how to find the rows of a pattern.
const TABLES: [(&str, &str); 4] = [
    ("messages", "bench_patterns.message_id = copied.id"),
    (
        "message_payloads",
        "bench_patterns.message_id = copied.message_id",
    ),
    ("deliveries", "bench_patterns.delivery_id = copied.id"),
    (
        "attempts",
        "bench_patterns.delivery_id = copied.delivery_id",
    ),
];

/// Deliveries to make.
pub(crate) struct Fill {
    /// How many.
    pub(crate) count: u64,
    /// The number of the first one; no two fills of a database may share a number.
    pub(crate) first: u64,
    /// The time over which they were accepted, in minutes. It ends an hour ago.
    pub(crate) minutes: u64,
}

impl Fill {
    /// Copies the deliveries that there are, in turns. Each of them has to be the only one of its message.
    pub(crate) async fn copy_all(&self, postgres: &Postgres) -> Result<()> {
        for sql in [
            "DROP TABLE IF EXISTS bench_patterns",
            "CREATE UNLOGGED TABLE bench_patterns AS SELECT row_number() OVER (ORDER BY id) - 1 AS slot, \
             id AS delivery_id, message_id FROM deliveries ORDER BY id LIMIT 1000",
            // Lost at worst with the whole machine, and then the run is over anyway.
            "SET synchronous_commit = off",
        ] {
            postgres.run(sql).await?;
        }
        let patterns: i64 = postgres.get("SELECT COUNT(*) FROM bench_patterns").await?;
        ensure!(patterns > 0, "there is nothing to copy");
        let now: i64 = postgres
            .get("SELECT (extract(epoch FROM now()) * 1000)::bigint")
            .await?;
        let start = now - 3_600_000 - i64::try_from(self.minutes)? * 60_000;
        for (table, found) in TABLES {
            let copied = format!("bench_{table}");
            postgres
                .run(&format!("DROP TABLE IF EXISTS {copied}"))
                .await?;
            postgres
                .run(&format!(
                    "CREATE UNLOGGED TABLE {copied} AS SELECT bench_patterns.slot, copied.* \
                     FROM {table} copied JOIN bench_patterns ON {found}"
                ))
                .await?;
            let columns = self.columns(postgres, table, start).await?;
            let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
            let insert = format!(
                "INSERT INTO {table} ({}) SELECT {} FROM generate_series",
                names.join(", "),
                values.join(", ")
            );
            let end = self.first + self.count;
            for from in (self.first..end).step_by(usize::try_from(CHUNK)?) {
                let to = (from + CHUNK).min(end) - 1;
                let rows = format!(
                    "({from}::bigint, {to}::bigint) n JOIN {copied} c ON c.slot = n % {patterns}"
                );
                postgres.run(&format!("{insert}{rows} ORDER BY n")).await?;
            }
            postgres.run(&format!("DROP TABLE {copied}")).await?;
        }
        for sql in [
            "DROP TABLE bench_patterns",
            "RESET synchronous_commit",
            "VACUUM ANALYZE",
            "CHECKPOINT",
        ] {
            postgres.run(sql).await?;
        }
        Ok(())
    }

    /// The columns of a table, and what the copy number `n` of pattern `c` has in each.
    async fn columns(
        &self,
        postgres: &Postgres,
        table: &str,
        start: i64,
    ) -> Result<Vec<(String, String)>> {
        let names = postgres
            .list(&format!(
                "SELECT column_name || ' ' || data_type FROM information_schema.columns \
                 WHERE table_schema = 'public' AND table_name = '{table}' AND is_generated = 'NEVER' ORDER BY ordinal_position"
            ))
            .await?;
        let columns = names.iter().filter_map(|name| name.split_once(' '));
        Ok(columns
            .map(|(name, kind)| (format!("\"{name}\""), self.value(table, name, kind, start)))
            .collect())
    }

    fn value(&self, table: &str, name: &str, kind: &str, start: i64) -> String {
        let millis = format!(
            "({start} + (n - {}) * {} / {})",
            self.first,
            self.minutes * 60_000,
            self.count
        );
        // Ids grow with time, as those of the product do: version 7. The number keeps them apart.
        let id = |of: u8| {
            format!(
                "(lpad(to_hex({millis}), 12, '0') || '700{of}8000' || lpad(to_hex(n), 12, '0'))::uuid"
            )
        };
        match (table, name) {
            ("messages", "id") | (_, "message_id") => id(1),
            ("deliveries", "id") | (_, "delivery_id") => id(2),
            ("attempts", "id") => id(3),
            _ if kind.starts_with("timestamp") => {
                format!(
                    "CASE WHEN c.\"{name}\" IS NOT NULL THEN to_timestamp({millis} / 1000.0) END"
                )
            }
            _ => format!("c.\"{name}\""),
        }
    }
}

//! How many statements and transactions a delivery takes: a pass of its own, because counting costs something.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::{
    Bench, DEADLINE, load,
    postgres::Postgres,
    stack::{Sink, Stack},
    throughput::end_to_end,
};

/// The server counts statements only in this database. `scripts/bench` loads the extension's library, switched off; without
/// it there are no such figures.
pub(crate) async fn count(bench: &mut Bench) -> Result<()> {
    let mut stack = Stack::start(&bench.bin_dir, 0).await?;
    let loaded: String = stack
        .postgres
        .get("SELECT current_setting('shared_preload_libraries')")
        .await?;
    if !loaded.contains("pg_stat_statements") {
        eprintln!("statements are not counted: PostgreSQL runs without pg_stat_statements");
        return stack.stop().await;
    }
    let database: String = stack
        .postgres
        .get("SELECT current_database()::text")
        .await?;
    let settings = ["compute_query_id = on", "pg_stat_statements.track = 'all'"];
    for setting in settings {
        stack
            .postgres
            .run(&format!("ALTER DATABASE \"{database}\" SET {setting}"))
            .await?;
    }
    stack
        .postgres
        .run("CREATE EXTENSION pg_stat_statements")
        .await?;
    // Only connections made from now on count.
    let tenant = stack.world.tenant("statements").await;
    stack.world.apis.clear();
    stack.world.start_api().await;
    let tenant = relaypost_testkit::Tenant {
        api: tenant.api.with_base(&stack.world.apis[0].base_url()),
        ..tenant
    };
    let sink = Sink::start(1).await;
    tenant
        .endpoint(&sink.receiver.url("/hook"), &["bench"])
        .await;
    stack.world.start_worker().await;

    // As in the run that is measured.
    let mut published = 0;
    for (connections, count) in bench.sizes.ingest_on {
        load::publish(&tenant.api, connections, count).await?;
        published += count;
        sink.wait(published).await?;
    }
    stack.postgres.settled(DEADLINE).await?;
    let before = transactions(&stack.postgres).await?;
    stack
        .postgres
        .run("SELECT pg_stat_statements_reset()")
        .await?;
    let messages = bench.sizes.counted;
    end_to_end(&mut stack, &tenant, &sink, published, messages).await?;
    let statements: f64 = stack
        .postgres
        .get(&format!("SELECT sum(calls)::float8 FROM {COUNTED}"))
        .await?;
    // A process hands in its last counts when its connections end.
    stack.stop_workers().await?;
    stack.world.apis.clear();
    let transactions = transactions(&stack.postgres).await? - before;
    let each = |total: f64| total / messages as f64;
    let what = "end to end, 1 endpoint, counted in a pass of its own:";
    let report = &mut bench.report;
    report.add(
        format!("{what} statements per delivery"),
        "",
        each(statements),
    );
    report.add(
        format!("{what} transactions per delivery"),
        "",
        each(transactions),
    );
    let top = format!(
        "SELECT round((total_exec_time * 1000 / {messages})::numeric, 1) || ' µs, ' || \
         round(calls::numeric / {messages}, 4) || ' calls: ' || left(query, 120) \
         FROM {COUNTED} ORDER BY total_exec_time DESC LIMIT 12"
    );
    bench.top_statements = stack.postgres.list(&top).await?;
    stack.stop().await
}

/// Without what the benchmark asks itself.
const COUNTED: &str = "pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND query NOT LIKE '%pg_stat%' AND query NOT LIKE '%pg_current_%'";

/// Transactions of this database, read or write, as far as handed in: a process does so when it has been idle for a second,
/// or ends.
async fn transactions(postgres: &Postgres) -> Result<f64> {
    sleep(Duration::from_millis(1_500)).await;
    let sql = "SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = current_database()";
    postgres.get(sql).await
}

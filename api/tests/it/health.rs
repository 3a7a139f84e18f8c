//! Probes.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use relaypost_shared::{
    db::{self, begin_write},
    queue::Queue,
};
use relaypost_testkit::{RedisServer, eventually};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use crate::{Api, api};

/// In which time readiness follows what happens.
const TURNS: Duration = Duration::from_secs(5);

/// Waits until readiness has this status, and a check fails or is degraded for this reason.
async fn turns(api: &Api, status: u16, check: &str, reason: Option<&str>) -> Value {
    let began = Instant::now();
    let ready = eventually(TURNS, || async {
        let ready = api.anonymous().get("/health/ready").await;
        let why = ready.body["reasons"][check].as_str();
        let fits = match reason {
            Some(reason) => why.is_some_and(|why| why.contains(reason)),
            None => why.is_none(),
        };
        if ready.status == status && fits {
            return Ok(ready.body);
        }
        Err(ready.to_string())
    })
    .await;
    assert!(began.elapsed() <= TURNS);
    // Whatever the dependencies do, the process itself lives.
    api.anonymous().get("/health").await.expect(200);
    ready
}

/// Waits until the service is not ready because nothing gets through this step. Readiness follows what happens to requests, so
/// that `ask` sends one that goes through the step before each look.
async fn nothing_gets_through<T: Display>(api: &Api, step: &str, ask: impl AsyncFn() -> T) {
    let ready = eventually(2 * TURNS, || async {
        let refused = ask().await;
        let ready = api.anonymous().get("/health/ready").await;
        match ready.status {
            503 => Ok(ready.body),
            _ => Err(format!("{refused}; {ready}")),
        }
    });
    let ready = ready.await;
    let why = ready["reasons"]["database"].as_str().unwrap();
    let expected = format!("{step}: nothing got through");
    assert!(why.starts_with(&expected), "{why}");
}

fn is_postgres(api: &Api) -> bool {
    api.db.get_database_backend() == DbBackend::Postgres
}

/// Other connections to the same database.
async fn beside(api: &Api) -> db::Database {
    db::connect(&api.settings.database_url, 2, None)
        .await
        .unwrap()
}

/// Makes the database read-only, or writable again, for every session.
async fn read_only(api: &Api, on: bool) {
    if !is_postgres(api) {
        let pragma = format!("PRAGMA query_only = {on}");
        api.db.execute_unprepared(&pragma).await.unwrap();
        return;
    }
    let operator = beside(api).await;
    let change = format!(
        "SET TRANSACTION READ WRITE; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {on}', current_database()); END $$"
    );
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    operator.execute_unprepared(&change).await.unwrap();
    if on {
        operator.execute_unprepared(end).await.unwrap();
    }
    operator.close().await;
}

#[tokio::test]
async fn a_read_only_database_is_not_ready_until_it_can_be_written_again() {
    let api = api().await;
    turns(&api, 200, "database", None).await;
    read_only(&api, true).await;
    let ready = turns(&api, 503, "database", Some("read-only")).await;
    let checks = json!({"database": "failed", "redis": "ok", "migrations": "ok"});
    assert_eq!(ready["checks"], checks);
    // The sessions that are read-only stay so; others take their place.
    read_only(&api, false).await;
    turns(&api, 200, "database", None).await;
    api.stop().await;
}

#[tokio::test]
async fn a_locked_table_is_not_ready_until_it_is_free() {
    let api = api().await;
    turns(&api, 200, "database", None).await;
    let operator = beside(&api).await;
    let holder = begin_write(&operator).await.unwrap();
    let reason = if is_postgres(&api) {
        let lock = "LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE";
        holder.execute_unprepared(lock).await.unwrap();
        "locked"
    } else {
        "no answer in 2 s"
    };
    turns(&api, 503, "database", Some(reason)).await;
    holder.rollback().await.unwrap();
    turns(&api, 200, "database", None).await;
    operator.close().await;
    api.stop().await;
}

#[tokio::test]
async fn a_lock_on_any_table_that_requests_need_is_not_ready_and_names_the_table() {
    let api = api().await;
    if !is_postgres(&api) {
        // SQLite has one lock for everything.
        return api.stop().await;
    }
    let operator = beside(&api).await;
    for table in [
        "api_keys",
        "sessions",
        "users",
        "memberships",
        "tenants",
        "endpoints",
        "event_types",
        "idempotency_keys",
        "emails",
    ] {
        turns(&api, 200, "database", None).await;
        let holder = begin_write(&operator).await.unwrap();
        let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        holder.execute_unprepared(&lock).await.unwrap();
        let held = format!("locked: another session holds `{table}`");
        turns(&api, 503, "database", Some(&held)).await;
        holder.rollback().await.unwrap();
    }
    turns(&api, 200, "database", None).await;
    operator.close().await;
    api.stop().await;
}

#[tokio::test]
async fn look_ups_that_fail_are_not_ready_although_the_check_itself_writes() {
    let api = api().await;
    if !is_postgres(&api) {
        return api.stop().await;
    }
    let tenant = api.tenant().await;
    // The check reads no row of it. A column that is gone fails every look-up.
    let (hide, show) = (
        "ALTER TABLE api_keys RENAME COLUMN secret_hash TO hidden",
        "ALTER TABLE api_keys RENAME COLUMN hidden TO secret_hash",
    );
    api.db.execute_unprepared(hide).await.unwrap();
    // A key that was looked up a moment ago needs no look-up; then each request fails.
    let ask = async || tenant.api.get("/v1/endpoints").await;
    nothing_gets_through(&api, "look up API keys", ask).await;
    api.db.execute_unprepared(show).await.unwrap();
    tenant.api.get("/v1/endpoints").await.expect(200);
    turns(&api, 200, "database", None).await;
    api.stop().await;
}

/// A database that answers, and refuses what is right, and how to mend it. The check itself writes to all of them.
const BROKEN: [(&str, &str); 2] = [
    (
        "ALTER TABLE messages RENAME COLUMN metadata TO hidden",
        "ALTER TABLE messages RENAME COLUMN hidden TO metadata",
    ),
    (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION refuse()",
        "DROP TRIGGER refuse ON deliveries",
    ),
];

#[tokio::test]
async fn a_database_that_refuses_every_message_is_not_ready_and_the_sender_is_told_to_try_again() {
    let api = api().await;
    if !is_postgres(&api) {
        return api.stop().await;
    }
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    for (break_it, mend_it) in BROKEN {
        api.db.execute_unprepared(break_it).await.unwrap();
        let ask = async || {
            let body = json!({"event_type": "a.b", "payload": {}});
            tenant.api.post("/v1/messages", body).await.expect(503)
        };
        nothing_gets_through(&api, "store messages", ask).await;
        api.db.execute_unprepared(mend_it).await.unwrap();
        tenant.publish("a.b").await;
        turns(&api, 200, "database", None).await;
    }
    api.stop().await;
}

#[tokio::test]
async fn a_full_disk_stays_the_reason_while_publishing_fails_for_it() {
    let api = api().await;
    if !is_postgres(&api) {
        // The disk of SQLite is filled in the tests of the one process.
        return api.stop().await;
    }
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let fill = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$; \
                CREATE TRIGGER no_room BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION no_room()";
    api.db.execute_unprepared(fill).await.unwrap();
    let (began, mut failed) = (Instant::now(), 0);
    while began.elapsed() < 2 * TURNS {
        let body = json!({"event_type": "a.b", "payload": {}});
        tenant.api.post("/v1/messages", body).await.expect(507);
        let ready = api.anonymous().get("/health/ready").await;
        if ready.status == 503 {
            assert_eq!(ready.body["reasons"], json!({"database": "disk full"}));
            failed += 1;
        }
    }
    assert!(failed > 0, "ready while nothing can be stored");
    let free = "DROP TRIGGER no_room ON messages";
    api.db.execute_unprepared(free).await.unwrap();
    tenant.publish("a.b").await;
    turns(&api, 200, "database", None).await;
    api.stop().await;
}

#[tokio::test]
async fn an_api_without_a_free_connection_is_not_ready() {
    let api = api().await;
    let connections = if is_postgres(&api) { 10 } else { 1 };
    let mut taken = Vec::new();
    for _ in 0..connections {
        taken.push(begin_write(&api.db).await.unwrap());
    }
    let reason = if is_postgres(&api) {
        "no free connection in 2 s"
    } else {
        "no answer in 2 s"
    };
    turns(&api, 503, "database", Some(reason)).await;
    for one in taken {
        one.rollback().await.unwrap();
    }
    turns(&api, 200, "database", None).await;
    api.stop().await;
}

#[tokio::test]
async fn many_polls_share_one_write_a_second() {
    let api = api().await;
    let count = match is_postgres(&api) {
        true => {
            "CREATE TABLE writes (at timestamptz); \
             CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO writes VALUES (now()); RETURN NULL; END $$; \
             CREATE TRIGGER writes AFTER INSERT OR UPDATE ON probes FOR EACH ROW EXECUTE FUNCTION count_write()"
        }
        false => {
            "CREATE TABLE writes (at text); \
             CREATE TRIGGER inserts AFTER INSERT ON probes BEGIN INSERT INTO writes VALUES (''); END; \
             CREATE TRIGGER updates AFTER UPDATE ON probes BEGIN INSERT INTO writes VALUES (''); END"
        }
    };
    api.db.execute_unprepared(count).await.unwrap();
    let (began, client) = (Instant::now(), api.anonymous());
    for _ in 0..10 {
        let polls = (0..50).map(|_| client.get("/health/ready"));
        for answer in futures::future::join_all(polls).await {
            answer.expect(200);
        }
    }
    let seconds = i64::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let asked = Statement::from_string(
        api.db.get_database_backend(),
        "SELECT count(*) AS n FROM writes",
    );
    let row = api.db.query_one_raw(asked).await.unwrap().unwrap();
    let writes: i64 = row.try_get("", "n").unwrap();
    // One for each of the two pools.
    assert!(
        (1..=2 * seconds).contains(&writes),
        "{writes} writes in {seconds} s"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_redis_that_cannot_be_used_is_degraded_or_fails_by_the_settings_and_is_told_from_a_well_one()
 {
    for required in [false, true] {
        let redis = RedisServer::start().await;
        let setting = [(
            "READINESS_REQUIRES_REDIS",
            if required { "true" } else { "false" },
        )];
        let api = Api::with(&setting, Queue::open(Some(&redis.url())).unwrap()).await;
        let (status, check) = if required {
            (503, "failed")
        } else {
            (200, "degraded")
        };
        turns(&api, 200, "redis", None).await;
        for (spoil, mend, reason) in [
            (
                &["CONFIG", "SET", "maxmemory", "1"][..],
                &["CONFIG", "SET", "maxmemory", "0"][..],
                "full",
            ),
            (
                &["ACL", "SETUSER", "default", "-@scripting"],
                &["ACL", "SETUSER", "default", "+@all"],
                "no permission",
            ),
            (
                &["REPLICAOF", "127.0.0.1", "9"],
                &["REPLICAOF", "NO", "ONE"],
                "read-only",
            ),
        ] {
            redis.command(spoil).await;
            let ready = turns(&api, status, "redis", Some(reason)).await;
            assert_eq!(ready["checks"]["redis"], check);
            redis.command(mend).await;
            turns(&api, 200, "redis", None).await;
        }
        redis.kill9().await;
        turns(&api, status, "redis", Some("not reachable")).await;
        api.stop().await;
    }
}

#[tokio::test]
async fn liveness_fails_only_for_a_loop_that_hangs_while_its_dependencies_work() {
    let api = api().await;
    let short = Duration::from_millis(20);
    let hangs = api.health().loops().add("a loop of a test", short);
    hangs.turns();
    let dead = eventually(TURNS, || async {
        let live = api.anonymous().get("/health/live").await;
        if live.status == 503 {
            Ok(live.body)
        } else {
            Err(live.to_string())
        }
    })
    .await;
    assert_eq!(dead["loops"][0]["name"], "a loop of a test");
    assert_eq!(dead["loops"].as_array().unwrap().len(), 1);
    hangs.idles();
    api.anonymous().get("/health/live").await.expect(200);
    hangs.turns();
    api.db.clone().close().await;
    turns(&api, 503, "database", Some("")).await;
    api.stop().await;
}

#[tokio::test]
async fn a_live_process_says_so_without_a_key() {
    let api = api().await;
    for path in ["/health", "/healthz", "/health/live"] {
        let live = api.anonymous().get(path).await.expect(200);
        assert_eq!(
            live,
            json!({"status": "ok", "timestamp": "2026-01-31T09:30:00.000Z"})
        );
    }
    for path in ["/health/ready", "/readyz", "/ready"] {
        let ready = api.anonymous().get(path).await.expect(200);
        let checks = json!({"database": "ok", "redis": "ok", "migrations": "ok"});
        assert_eq!(
            ready,
            json!({"status": "ready", "checks": checks}),
            "{path}"
        );
    }
    api.stop().await;
}

fn no_redis() -> Queue {
    // Nothing listens on the discard port.
    Queue::open(Some("redis://127.0.0.1:9/")).unwrap()
}

#[tokio::test]
async fn without_redis_the_api_is_ready_unless_told_otherwise() {
    let api = Api::with(&[], no_redis()).await;
    let ready = api.anonymous().get("/ready").await.expect(200);
    assert_eq!(
        (&ready["status"], &ready["checks"]["redis"]),
        (&json!("ready"), &json!("degraded"))
    );
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    tenant.publish("a.b").await;
    api.stop().await;

    let strict = Api::with(&[("READINESS_REQUIRES_REDIS", "true")], no_redis()).await;
    let ready = strict.anonymous().get("/ready").await.expect(503);
    assert_eq!(
        (&ready["status"], &ready["checks"]["redis"]),
        (&json!("not_ready"), &json!("failed"))
    );
    strict.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_not_up_to_date_is_not_ready() {
    let api = api().await;
    api.db
        .execute_unprepared("DELETE FROM seaql_migrations")
        .await
        .unwrap();
    let ready = api.anonymous().get("/ready").await.expect(503);
    let checks = json!({"database": "ok", "redis": "ok", "migrations": "failed"});
    assert_eq!(ready["checks"], checks);
    assert!(
        ready["reasons"]["migrations"]
            .as_str()
            .unwrap()
            .starts_with("pending: m0001")
    );
    api.stop().await;

    // A database that is away says nothing about its schema.
    let api = crate::api().await;
    api.db.clone().close().await;
    let ready = api.anonymous().get("/ready").await.expect(503);
    let checks = json!({"database": "failed", "redis": "ok", "migrations": "ok"});
    assert_eq!(ready["checks"], checks);
    api.stop().await;
}

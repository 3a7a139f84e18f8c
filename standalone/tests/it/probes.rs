//! Probes of the real processes: what turns them not ready and what does not, how they stop, and what tells how much work
//! waits.

use std::time::Duration;

use relaypost_testkit::{Api, Backend, Proc, Receiver, Reply, World, WorldOptions, eventually};
use sea_orm::{ConnectionTrait as _, Database, TransactionTrait as _};
use serde_json::{Value, json};

use crate::{SOON, options, world};

/// In which time readiness follows what happens.
const TURNS: Duration = Duration::from_secs(10);

fn on_stack() -> bool {
    Backend::from_env() == Backend::Stack
}

/// The process that delivers: a worker, or the one process of the embedded mode.
fn worker(world: &World) -> Api {
    let process = world.workers.first().unwrap_or(&world.apis[0]);
    Api::new(&process.base_url(), "").without_key()
}

async fn until_ready_is(probes: &Api, status: u16) -> Value {
    eventually(TURNS, || async {
        let ready = probes.get("/health/ready").await;
        match ready.status == status {
            true => Ok(ready.body),
            false => Err(ready.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn a_worker_whose_results_cannot_be_recorded_is_not_ready_and_lives() {
    if !on_stack() {
        // SQLite has one lock for everything, which the check of the database sees.
        return;
    }
    let world = World::start(options().workers(1)).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    let probes = worker(&world);
    until_ready_is(&probes, 200).await;
    let operator = Database::connect(world.database.url()).await.unwrap();
    let holder = operator.begin().await.unwrap();
    let lock = "LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE";
    holder.execute_unprepared(lock).await.unwrap();
    tenant.publish("a.b", json!(1)).await;
    receiver.wait_for(1, SOON).await;
    let ready = until_ready_is(&probes, 503).await;
    assert_eq!(ready["checks"]["lanes"], "failed");
    let why = ready["reasons"]["lanes"].as_str().unwrap();
    assert!(
        why.starts_with("record webhooks: nothing got through"),
        "{why}"
    );
    probes.get("/health/live").await.expect(200);
    holder.rollback().await.unwrap();
    until_ready_is(&probes, 200).await;
    operator.close().await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_worker_stays_ready_while_all_its_slots_wait_for_receivers_that_are_slow_or_broken() {
    let settings = options()
        .workers(1)
        .env("WEBHOOK_CONCURRENCY", "4")
        .env("WEBHOOK_TIMEOUT_MS", "12000");
    let world = World::start(settings).await;
    let (slow, broken) = (Receiver::start().await, Receiver::start().await);
    slow.respond(Reply::Hang);
    broken.respond(Reply::Status(500));
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&broken.url("/"), &["broken"]).await;
    tenant.endpoint(&slow.url("/"), &["slow"]).await;
    for _ in 0..4 {
        tenant.publish("broken", json!(1)).await;
    }
    broken.wait_for(4, SOON).await;
    for _ in 0..12 {
        tenant.publish("slow", json!(1)).await;
    }
    slow.wait_in_flight(4, SOON).await;
    let probes = worker(&world);
    // Until the first four have timed out and others have taken their slots: longer than anything may stand still.
    eventually(SOON, || async {
        let ready = probes.get("/health/ready").await;
        assert_eq!(ready.status, 200, "{ready}");
        match slow.count() {
            hits if hits > 4 => Ok(()),
            hits => Err(format!("{hits} attempts")),
        }
    })
    .await;
    slow.release();
    world.stop().await;
}

/// A world in which processes still serve for a while when they are told to stop.
async fn patient() -> World {
    let options = options().workers(1).env("SHUTDOWN_DELAY_SECONDS", "60");
    World::start(options).await
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_is_not_ready_at_once_still_serves_and_ends_when_told_again()
{
    let world = patient().await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    let api = &world.apis[0];
    let probes = world.client.without_key();
    until_ready_is(&probes, 200).await;
    api.sigterm();
    let ready = until_ready_is(&probes, 503).await;
    assert_eq!(ready["reasons"]["process"], "it was told to stop");
    probes.get("/health/live").await.expect(200);
    tenant.publish("a.b", json!(1)).await;
    receiver.wait_for(1, SOON).await;
    assert!(api.is_running());
    api.sigterm();
    assert_eq!(api.wait_exit(SOON).await, 0, "{}", api.describe());
    for process in &world.workers {
        let probes = Api::new(&process.base_url(), "").without_key();
        process.sigterm();
        until_ready_is(&probes, 503).await;
        process.sigterm();
        assert_eq!(process.wait_exit(SOON).await, 0, "{}", process.describe());
    }
    world.stop().await;
}

/// Runs the command `health` of a program beside the process on this port.
async fn health(world: &World, program: &str, address: &str, live: bool) -> (i32, String) {
    let args: &[&str] = if live {
        &["health", "--live"]
    } else {
        &["health"]
    };
    let set = [
        ("BIND_ADDR", address),
        ("WORKER_BIND_ADDR", address),
        ("REDIS_URL", "redis://127.0.0.1:9/"),
    ];
    let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let asked = Proc::spawn(folder.path(), &options().bin_dir.join(program), args, &set);
    let code = asked.wait_exit(SOON).await;
    assert_eq!(asked.stderr(), "", "{program}");
    world.assert_all_running();
    (code, asked.stdout())
}

#[tokio::test]
async fn the_health_command_says_in_one_line_how_the_process_is_doing() {
    let world = World::start(options().workers(1)).await;
    let (api, delivers) = match on_stack() {
        true => ("relaypost-api", "relaypost-worker"),
        false => ("relaypost", "relaypost"),
    };
    let worker = world.workers.first().unwrap_or(&world.apis[0]);
    for (program, process) in [(api, &world.apis[0]), (delivers, worker)] {
        let port = process.base_url().rsplit(':').next().unwrap().to_owned();
        let everywhere = format!("0.0.0.0:{port}");
        for live in [false, true] {
            let (code, said) = health(&world, program, &everywhere, live).await;
            assert_eq!((code, said.lines().count()), (0, 1), "{said}");
            assert!(
                said.contains(&format!("127.0.0.1:{port}/health/")),
                "{said}"
            );
        }
        let (code, said) = health(&world, program, "127.0.0.1:9", false).await;
        assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    }
    world.stop().await;
}

#[tokio::test]
async fn three_processes_that_migrate_on_start_may_start_at_once() {
    if !on_stack() {
        return;
    }
    // The schema goes away again; what is left is what a first start finds.
    let mut world = World::start(options().apis(0).workers(0)).await;
    let clean = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    world.database.execute(clean).await;
    let refused = world.try_serve("relaypost-api").await;
    let refused = refused
        .err()
        .expect("a process without its tables does not start");
    assert!(
        refused.contains("relaypost-migrate up") && refused.contains("MIGRATE_ON_START"),
        "{refused}"
    );
    world.set("MIGRATE_ON_START", "true");
    let (one, two, three) = tokio::join!(
        world.try_serve("relaypost-api"),
        world.try_serve("relaypost-api"),
        world.try_serve("relaypost-worker"),
    );
    for process in [one, two, three] {
        let process = process.unwrap();
        let probes = Api::new(&process.base_url(), "").without_key();
        until_ready_is(&probes, 200).await;
    }
    // The same lock is taken by the command.
    world.database.execute(clean).await;
    let commands = [(); 3].map(|()| world.spawn("relaypost-migrate", "up"));
    for command in commands {
        assert_eq!(command.wait_exit(SOON).await, 0, "{}", command.describe());
    }
    world.stop().await;
}

/// The figures of the lane of webhooks.
async fn webhooks(world: &World) -> Value {
    let scaling = world
        .client
        .without_key()
        .get("/v1/scaling")
        .await
        .expect(200);
    scaling["lanes"]["webhooks"].clone()
}

async fn until_webhooks(world: &World, what: &str, fits: impl Fn(u64, u64, f64) -> bool) {
    eventually(SOON, || async {
        let lane = webhooks(world).await;
        let figure = |name: &str| lane[name].as_u64().unwrap();
        let age = lane["oldest_due_age_s"].as_f64().unwrap();
        match fits(figure("backlog"), figure("due_now"), age) {
            true => Ok(()),
            false => Err(format!("{what}: {lane}")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_its_endpoint_is_no_work_for_more_workers() {
    const EACH: u64 = 30;
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let endpoint = async |kind: &str, path: &str, more: Value| {
        let mut body = json!({"url": receiver.url(path), "event_types": [kind]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        tenant.endpoint_with(body).await.0
    };
    receiver.respond(Reply::Hang);
    let paused = endpoint("paused", "/paused", json!({})).await;
    tenant
        .api
        .post(&format!("/v1/endpoints/{paused}/pause"), json!({}))
        .await
        .success();
    endpoint("slow", "/slow", json!({"rate_limit_per_s": 1})).await;
    endpoint("capped", "/capped", json!({"max_in_flight": 1})).await;
    endpoint("ordered", "/ordered", json!({"ordering": "fifo"})).await;
    let open = endpoint("open", "/open", json!({})).await;
    tenant
        .api
        .post(&format!("/v1/endpoints/{open}/circuit/open"), json!({}))
        .await
        .success();
    for kind in ["paused", "slow", "capped", "ordered", "open"] {
        for n in 0..EACH {
            tenant.publish(kind, json!(n)).await;
        }
    }
    // Of the slow one, as many as its rate let through meanwhile are under way.
    until_webhooks(&world, "held back by endpoints", |backlog, due_now, _| {
        backlog >= 3 * EACH + EACH / 2 && due_now <= 1
    })
    .await;
    receiver.release();
    world.stop().await;
}

#[tokio::test]
async fn work_that_no_worker_has_taken_is_due_and_ages() {
    if !on_stack() {
        // Its worker would take it.
        return;
    }
    let mut world = World::start(WorldOptions::workers(options(), 0)).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    for n in 0..20 {
        tenant.publish("a.b", json!(n)).await;
    }
    until_webhooks(&world, "nobody delivers", |backlog, due_now, age| {
        (backlog, due_now) == (20, 20) && age >= 1.0
    })
    .await;
    world.start_worker().await;
    until_webhooks(&world, "all is delivered", |backlog, due_now, age| {
        (backlog, due_now, age) == (0, 0, 0.0)
    })
    .await;
    // What a worker has taken is no backlog, and may still be on its way.
    receiver.wait_for(20, SOON).await;
    world.stop().await;
}

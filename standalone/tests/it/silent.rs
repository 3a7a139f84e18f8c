//! Connections to PostgreSQL and Redis that go silent: no FIN, no RST, and new connections work. The product finds that
//! out and replaces them by itself, and nothing that it accepted is lost. A guarantee of the stack.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::future::join_all;
use relaypost_testkit::{Receiver, Relay, Reply, Silence, Tenant, World, eventually, note};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::faults::turn;
use crate::trickle::Trickle;
use crate::{SOON, options};

/// Within this time everything works again without anybody's help.
const GUARANTEE: Duration = Duration::from_secs(15);
/// How long a test waits for that, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);
/// Within this time each request is answered: `DATABASE_TIMEOUT_MS` (10 s), and what a busy machine adds.
const ANSWERED: Duration = Duration::from_secs(15);
/// How long connections are idle before they go silent.
const IDLE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn silent_database_connections_are_replaced_and_lose_nothing() {
    under_load("database, both ways", database, Silence::BothWays).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_connections_that_lose_only_answers_are_replaced_and_lose_nothing() {
    under_load("database, answers", database, Silence::Answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_database_that_lost_its_power_are_replaced_and_lose_nothing() {
    under_load("database, server gone", database, Silence::ServerGone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_redis_connections_are_replaced_and_delay_no_delivery_for_long() {
    under_load("Redis, both ways", redis, Silence::BothWays).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_connections_that_lose_only_answers_are_replaced_and_delay_no_delivery_for_long() {
    under_load("Redis, answers", redis, Silence::Answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_not_lost_with_the_answers_of_a_silent_database() {
    let what = "database, answers, with retries";
    let Some(_turn) = turn(what).await else {
        return;
    };
    let scene = Scene::set().await;
    let seen = Mutex::new(HashSet::new());
    scene.receiver.respond(Reply::func(move |hit| {
        let id = hit.header("webhook-id").unwrap_or_default().to_owned();
        let first = seen.lock().unwrap().insert(id);
        (if first { 500 } else { 200 }, Vec::new(), Vec::new())
    }));
    let trickle = Trickle::start(&scene.tenant);
    // Retries are due all the time. Several silences, because a claim has to be under way when one begins.
    for _ in 0..10 {
        let more = scene.receiver.count() + 25;
        scene.receiver.wait_for(more, PATIENCE).await;
        database(&scene.world).silence(Silence::Answers);
    }
    scene.recovers(what, trickle, Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_connections_that_went_silent_while_idle_cost_no_request_more_than_its_deadline() {
    after_idling("idle database", database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_connections_that_went_silent_while_idle_delay_no_delivery_for_long() {
    after_idling("idle Redis", redis).await;
}

fn database(world: &World) -> &Relay {
    &world.relays().database
}

fn redis(world: &World) -> &Relay {
    &world.relays().redis
}

/// The product behind relays, with a tenant and its endpoint.
struct Scene {
    world: World,
    receiver: Receiver,
    tenant: Tenant,
}

impl Scene {
    async fn set() -> Scene {
        // A receiver that refuses is the test's own, and no reason to hold deliveries back.
        let options = options().relays().env("CIRCUIT_FAILURE_THRESHOLD", "1000");
        let world = World::start(options).await;
        let receiver = Receiver::start().await;
        let tenant = world.tenant("acme").await;
        let endpoint = json!({
            "url": receiver.url("/"),
            "event_types": ["order.created"],
            "retry_schedule": [1, 1, 1, 1, 1],
        });
        tenant.endpoint_with(endpoint).await;
        Scene {
            world,
            receiver,
            tenant,
        }
    }

    /// Waits until everything works again, and holds what was accepted to its guarantees.
    async fn recovers(self, what: &str, trickle: Trickle, since: Instant) {
        let Scene {
            world,
            receiver,
            tenant,
        } = self;
        let again = eventually(PATIENCE, || async {
            trickle.works_again(&receiver, since, GUARANTEE)
        });
        let again = again.await;
        let accepted = timeout(PATIENCE, trickle.stop()).await;
        let accepted = accepted.expect("every key is accepted");
        tenant.wait_until_nothing_is_pending(SOON).await;
        let twice = accepted.check(&tenant, &receiver).await;
        note(&format!(
            "{what}: works again after {again:.1?}; {} accepted, {} times told to try again, {} replayed, the slowest \
             answer took {:.1?}, {twice} arrived more than once",
            accepted.ids.len(),
            accepted.refused,
            accepted.replayed,
            accepted.slowest
        ));
        assert!(accepted.slowest < ANSWERED, "{:?}", accepted.slowest);
        world.assert_all_running();
        world.stop().await;
    }
}

async fn under_load(what: &str, relay: fn(&World) -> &Relay, silence: Silence) {
    let Some(_turn) = turn(what).await else {
        return;
    };
    let scene = Scene::set().await;
    let trickle = Trickle::start(&scene.tenant);
    scene.receiver.wait_for_distinct(20, SOON).await;
    let since = Instant::now();
    assert_ne!(
        relay(&scene.world).silence(silence),
        0,
        "nothing to silence"
    );
    scene.recovers(what, trickle, since).await;
}

async fn after_idling(what: &str, relay: fn(&World) -> &Relay) {
    let Some(_turn) = turn(what).await else {
        return;
    };
    let scene = Scene::set().await;
    // A burst, so that many connections are open.
    let burst = (0..50).map(|_| scene.tenant.api.get("/v1/messages"));
    for answer in join_all(burst).await {
        answer.expect(200);
    }
    sleep(IDLE).await;
    let since = Instant::now();
    assert_ne!(relay(&scene.world).silence(Silence::BothWays), 0);
    let trickle = Trickle::start(&scene.tenant);
    let reads = (0..10).map(|_| async {
        let began = Instant::now();
        let answer = scene.tenant.api.get("/v1/messages").await;
        let told = answer.status == 200 || answer.header("retry-after").is_some();
        assert!(told, "{answer}");
        began.elapsed()
    });
    let slowest = join_all(reads).await.into_iter().max();
    note(&format!("{what}: the slowest list took {slowest:.1?}"));
    assert!(slowest < Some(ANSWERED), "{slowest:?}");
    scene.recovers(what, trickle, since).await;
}

//! The embedded process on a disk that gets full, and is freed again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use relaypost_testkit::{Answer, Backend, Receiver, Reply, SmallDisk, Tenant, World, WorldOptions};
use relaypost_testkit::{eventually, note, skip};
use serde_json::json;

use crate::{SOON, id, options};

const MEGABYTES: u32 = 24;
/// Within 15 s of being freed everything works again; a machine that is busy with other tests gets more.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_it_cannot_store_and_loses_nothing_that_was_accepted() {
    let test = "a_full_disk_refuses_what_it_cannot_store_and_loses_nothing_that_was_accepted";
    let Some(mut scene) = Scene::set(test).await else {
        return;
    };
    scene.publish(20).await;
    for round in 1..=2 {
        scene.disk.fill();
        scene.publish_until_refused().await;
        scene.says_that_it_is_full().await;
        scene.publish_while_full(50).await;
        scene.works_again(test, round).await;
        scene.publish(20).await;
    }
    scene.restart().await;
    scene.check(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_while_the_disk_was_full_is_recorded_or_delivered_again() {
    let test = "what_was_delivered_while_the_disk_was_full_is_recorded_or_delivered_again";
    let Some(mut scene) = Scene::set(test).await else {
        return;
    };
    scene.receiver.respond(Reply::Hang);
    scene.publish(30).await;
    scene.receiver.wait_in_flight(30, SOON).await;
    scene.disk.fill();
    scene.publish_until_refused().await;
    scene.receiver.release();
    scene.receiver.wait_in_flight_at_most(0, SOON).await;
    scene.publish_while_full(50).await;
    scene.says_that_it_is_full().await;
    scene.works_again(test, 1).await;
    scene.tenant.wait_until_nothing_is_pending(PATIENCE).await;
    scene.restart().await;
    scene.check(test).await;
}

/// `relaypost serve` on a small disk, a tenant with an endpoint, and what was accepted.
struct Scene {
    world: World,
    receiver: Receiver,
    tenant: Tenant,
    /// The payload of each message that was answered with 201, by id.
    accepted: BTreeMap<String, String>,
    sent: usize,
    /// Unmounted after the processes have ended.
    disk: SmallDisk,
}

impl Scene {
    async fn set(test: &str) -> Option<Scene> {
        if Backend::from_env() == Backend::Stack {
            // `relaypost serve` on SQLite is the embedded backend.
            return None;
        }
        let disk = match SmallDisk::mount(MEGABYTES) {
            Ok(disk) => disk,
            Err(why) => {
                skip(test, &why);
                return None;
            }
        };
        let settings = WorldOptions {
            sqlite_dir: Some(disk.path().to_owned()),
            ..options()
        };
        let world = World::start(settings).await;
        let receiver = Receiver::start().await;
        let tenant = world.tenant("acme").await;
        tenant
            .endpoint(&receiver.url("/"), &["order.created"])
            .await;
        Some(Scene {
            world,
            receiver,
            tenant,
            accepted: BTreeMap::new(),
            sent: 0,
            disk,
        })
    }

    async fn publish_one(&mut self) -> Answer {
        self.sent += 1;
        // Large enough that a few hundred fill what room SQLite has in its own files.
        let payload = json!({"n": self.sent, "note": "x".repeat(2_000)});
        let message = json!({"event_type": "order.created", "payload": payload});
        let answer = self.tenant.api.post("/v1/messages", message).await;
        if answer.status == 201 {
            let id = id(&answer.body).to_owned();
            self.accepted.insert(id, payload.to_string());
        }
        answer
    }

    /// Publishes this many, each of which has to be accepted.
    async fn publish(&mut self, messages: usize) {
        for _ in 0..messages {
            self.publish_one().await.expect(201);
        }
    }

    /// SQLite may have some room of its own left; it does not last.
    async fn publish_until_refused(&mut self) {
        let began = Instant::now();
        loop {
            let answer = self.publish_one().await;
            if answer.status != 201 {
                return refused(&answer);
            }
            assert!(began.elapsed() < PATIENCE, "the full disk takes everything");
        }
    }

    async fn publish_while_full(&mut self, messages: usize) {
        for _ in 0..messages {
            let answer = self.publish_one().await;
            if answer.status != 201 {
                refused(&answer);
            }
        }
    }

    /// Not ready, for this reason; alive.
    async fn says_that_it_is_full(&self) {
        let api = self.world.client.without_key();
        eventually(SOON, || async {
            let ready = api.get("/health/ready").await;
            let failed = ready.body["checks"]["database"] == "failed";
            let why = ready.body["reasons"]["database"].to_string();
            match ready.status == 503 && failed && names_it(&why) {
                true => Ok(()),
                false => Err(format!("wanted not ready and why, got {ready}")),
            }
        })
        .await;
        api.get("/health/live").await.expect(200);
    }

    /// Frees the disk. The process is ready again by itself, and then accepts at once.
    async fn works_again(&mut self, test: &str, round: usize) {
        self.disk.free();
        let freed = Instant::now();
        let api = self.world.client.without_key();
        eventually(PATIENCE, || async {
            let ready = api.get("/health/ready").await;
            let database = &ready.body["checks"]["database"];
            match ready.status == 200 && *database == "ok" {
                true => Ok(()),
                false => Err(format!("wanted ready, got {ready}")),
            }
        })
        .await;
        self.publish(1).await;
        note(&format!(
            "{test}: works again {:.1?} after the disk was freed (round {round})",
            freed.elapsed()
        ));
        self.world.assert_all_running();
    }

    /// `kill -9`, and the same again.
    async fn restart(&mut self) {
        let process = self.world.apis.remove(0);
        process.kill9();
        process.wait_exit(SOON).await;
        let process = self.world.try_serve("relaypost").await.unwrap();
        self.world.client = self.world.client.with_base(&process.base_url());
        self.tenant.api = self.tenant.api.with_base(&process.base_url());
        self.world.apis.push(process);
    }

    /// Everything that was accepted is stored and has arrived as it was published.
    async fn check(self, test: &str) {
        let mut lost = Vec::new();
        for id in self.accepted.keys() {
            let stored = self.tenant.api.get(&format!("/v1/messages/{id}")).await;
            if stored.status != 200 {
                lost.push(id);
            }
        }
        let accepted = self.accepted.len();
        assert!(
            lost.is_empty(),
            "{} of {accepted} accepted messages are lost: {lost:?}",
            lost.len()
        );
        self.tenant.wait_until_nothing_is_pending(PATIENCE).await;
        let hits = self.receiver.hits();
        for (id, payload) in &self.accepted {
            let to_it = hits
                .iter()
                .filter(|hit| hit.header("webhook-id") == Some(id));
            let bodies: Vec<_> = to_it.map(|hit| hit.body.as_slice()).collect();
            assert!(!bodies.is_empty(), "{id} was accepted and never arrived");
            assert!(bodies.iter().all(|body| *body == payload.as_bytes()));
        }
        for delivery in self.tenant.list("/v1/deliveries").await {
            assert_eq!(delivery["status"], "delivered", "{delivery}");
        }
        note(&format!(
            "{test}: {accepted} of {} accepted, {} requests at the receiver",
            self.sent,
            hits.len()
        ));
        self.world.stop().await;
    }
}

/// Refused for want of room, and told when to try again.
fn refused(answer: &Answer) {
    assert!(matches!(answer.status, 503 | 507), "{answer}");
    assert!(answer.header("retry-after").is_some(), "{answer}");
    let content_type = answer.header("content-type");
    assert_eq!(content_type, Some("application/problem+json"), "{answer}");
    assert!(names_it(&answer.body["code"].to_string()), "{answer}");
}

/// Whether a code or a reason says that there is no room.
fn names_it(text: &str) -> bool {
    ["full", "space", "storage"]
        .iter()
        .any(|word| text.contains(word))
}

//! Secrets at rest, seen from outside: neither the database nor the logs hold one, and keys can be changed under way.

use relaypost_shared::secrets::Keyring;
use relaypost_testkit::{Backend, Receiver, Reply, Tenant, World, secrets::stands_in};
use serde_json::json;

use crate::{SOON, delivery_ids, id, verifies, world};

const TOKEN: &str = "Bearer a-token-of-the-receiver";
const PLANTED: &str = "planted-where-it-may-stand";

/// 32 bytes as `ENCRYPTION_KEYS` takes them.
fn key(byte: &str) -> String {
    byte.repeat(32)
}

/// Goes through everything that has to do with secrets, and returns each of them, by what it is. What makes a secret
/// belongs in here.
async fn journey(world: &World) -> Vec<(&'static str, String)> {
    let receiver = Receiver::start().await;
    let tenant = world.tenant(PLANTED).await;
    let api = tenant.api.with_header("X-Request-ID", PLANTED);
    let (_, other_key) = world.api_key(&tenant.id).await;
    let mut secrets = vec![
        ("the platform's key", world.client.key().to_owned()),
        ("a tenant's key", tenant.api.key().to_owned()),
        ("another key", other_key),
        ("a header of an endpoint", TOKEN.to_owned()),
    ];

    let new = json!({"url": receiver.url("/"), "headers": {"Authorization": TOKEN}});
    let keyed = api.with_header("Idempotency-Key", "endpoint-1");
    let created = keyed.post("/v1/endpoints", new.clone()).await.expect(201);
    keyed.post("/v1/endpoints", new).await.expect(200);
    let secret = created["secret"].as_str().unwrap().to_owned();
    secrets.push(("an endpoint's secret", secret));
    let path = format!("/v1/endpoints/{}", id(&created));
    let rotated = api
        .post(
            &format!("{path}/secret/rotate"),
            json!({"grace_period_s": 3600}),
        )
        .await
        .expect(200);
    let secret = rotated["secret"].as_str().unwrap().to_owned();
    secrets.push(("a rotated secret", secret));
    let mut ed25519 = json!({"url": receiver.url("/"), "signing": "ed25519"});
    ed25519["headers"] = json!({"X-Token": "another-token-of-the-receiver"});
    api.post("/v1/endpoints", ed25519).await.expect(201);
    secrets.push(("a changed header", "a-header-set-later".to_owned()));
    let changed = json!({"headers": {"Authorization": TOKEN, "X-Later": "a-header-set-later"}});
    api.patch(&path, changed).await.expect(200);

    // The receiver repeats what it was sent: as a success, and as a failure, of which the log tells.
    for status in [200, 500] {
        receiver.respond(Reply::Body {
            status,
            bytes: format!("{{\"authorization\": \"{TOKEN}\"}}").into(),
        });
        api.post(&format!("{path}/test"), json!({}))
            .await
            .expect(200);
    }
    receiver.respond(Reply::Status(200));
    let message = json!({"event_type": "order.created", "payload": {"n": PLANTED}});
    let message = api.post("/v1/messages", message).await.expect(201);
    let email = json!({"to": ["to@example.test"], "subject": "Hello", "text": "Hello"});
    let email = api.post("/v1/emails", email).await.expect(201);
    for delivery in [delivery_ids(&message), delivery_ids(&email)].concat() {
        tenant.wait_delivery(&delivery, "delivered", SOON).await;
    }
    secrets
}

#[tokio::test]
async fn neither_a_dump_of_the_database_nor_a_log_holds_a_secret() {
    let world = world(&[("LOG", "trace")]).await;
    let secrets = journey(&world).await;
    let seen = world.client.secrets();
    let all = seen.all();
    for (what, secret) in &secrets {
        assert!(all.contains(secret), "{what} was not noticed: {all:?}");
    }
    assert!(secrets.len() >= 7 && all.len() >= secrets.len());

    let dump = world.database.dump().await;
    let readable = String::from_utf8_lossy(&dump);
    assert!(stands_in(&readable, PLANTED), "the dump is one");
    assert!(stands_in(&readable, "sealed1."), "there are secrets in it");
    assert_eq!(seen.found_in(&dump), [""; 0], "in the dump");

    let processes = world.apis.iter().chain(&world.workers);
    let logs: Vec<u8> = processes.flat_map(|process| process.log()).collect();
    let readable = String::from_utf8_lossy(&logs);
    assert!(readable.contains(PLANTED), "the logs are there");
    assert!(readable.contains("DEBUG"), "all of them");
    assert_eq!(seen.found_in(&logs), [""; 0], "in the logs");
    world.stop().await;
}

async fn publish(tenant: &Tenant, count: usize) {
    for n in 0..count {
        tenant.publish("order.created", json!({"n": n})).await;
    }
}

fn at(world: &World, tenant: &Tenant) -> Tenant {
    Tenant {
        api: tenant.api.with_base(world.client.base()),
        id: tenant.id.clone(),
    }
}

#[tokio::test]
async fn keys_are_changed_while_deliveries_go_on_and_the_old_one_is_dropped() {
    let (old, new) = (key("0f"), key("aa"));
    let mut world = world(&[("ENCRYPTION_KEYS", &old)]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let endpoint = json!({"url": receiver.url("/"), "headers": {"Authorization": TOKEN}});
    let keyed = tenant.api.with_header("Idempotency-Key", "endpoint-1");
    let created = keyed
        .post("/v1/endpoints", endpoint.clone())
        .await
        .expect(201);
    publish(&tenant, 5).await;

    world
        .restart_with("ENCRYPTION_KEYS", &format!("{new},{old}"))
        .await;
    let tenant = at(&world, &tenant);
    publish(&tenant, 5).await;
    let binary = match Backend::from_env() {
        Backend::Embedded => "relaypost",
        Backend::Stack => "relaypost-migrate",
    };
    for sealed in [1, 0] {
        let reseal = world.spawn(binary, "reseal");
        let (code, ()) = tokio::join!(reseal.wait_exit(SOON), publish(&tenant, 20));
        assert_eq!(code, 0, "{}", reseal.describe());
        for column in [
            "endpoint_secrets.secret",
            "endpoints.headers",
            "idempotency_keys.response",
        ] {
            let line = format!("{column}: {sealed} sealed under the newest key");
            assert!(
                reseal.stdout().contains(&line),
                "{line} in {}",
                reseal.stdout()
            );
        }
    }

    world.restart_with("ENCRYPTION_KEYS", &new).await;
    let tenant = at(&world, &tenant);
    publish(&tenant, 5).await;
    receiver.wait_for(55, SOON).await;
    tenant.wait_until_nothing_is_pending(SOON).await;
    let secret = created["secret"].as_str().unwrap();
    for hit in receiver.hits() {
        assert!(verifies(&hit, secret), "{:?}", hit.headers);
        assert_eq!(hit.header("authorization"), Some(TOKEN));
    }
    let keyed = tenant.api.with_header("Idempotency-Key", "endpoint-1");
    assert_eq!(
        keyed.post("/v1/endpoints", endpoint).await.expect(200),
        created
    );
    world.stop().await;
}

#[tokio::test]
async fn nothing_starts_without_a_key_that_the_database_needs() {
    let (old, new) = (key("0f"), key("aa"));
    let mut world = world(&[("ENCRYPTION_KEYS", &old)]).await;
    let tenant = world.tenant("acme").await;
    tenant.endpoint("http://127.0.0.1:1/", &[]).await;
    let binaries: &[&str] = match Backend::from_env() {
        Backend::Embedded => &["relaypost"],
        Backend::Stack => &["relaypost-api", "relaypost-worker"],
    };
    let keyring: Keyring = old.parse().unwrap();
    let lost = keyring.ids().next().unwrap();
    // On the embedded backend its file would be refused to a second process.
    for process in world.apis.drain(..) {
        process.kill9();
        process.wait_exit(SOON).await;
    }
    world.set("ENCRYPTION_KEYS", &new);
    for binary in binaries {
        let Err(why) = world.try_serve(binary).await else {
            panic!("{binary} has started");
        };
        let named = format!("ENCRYPTION_KEYS: the key {lost} is missing");
        assert!(why.contains(&named), "{why}");
        assert!(why.ends_with("exited with 2"), "{why}");
        assert!(!why.contains("panicked"), "{why}");
    }
    world.set("ENCRYPTION_KEYS", &format!("{new},{old}"));
    for binary in binaries {
        world.try_serve(binary).await.map(drop).unwrap();
    }
    world.stop().await;
}

//! A request that is sent again does its work once.

use futures::future::join_all;
use relaypost_shared::entities::{endpoint, tenant};
use relaypost_shared::store::fixtures::{email, message};
use serde_json::{Value, json};

use crate::{Answer, api, support::Client};

fn message(n: u32) -> Value {
    json!({"event_type": "a.b", "payload": {"n": n}})
}

fn keyed(client: &Client, key: &str) -> Client {
    client.header("idempotency-key", key)
}

/// Of answers to one request that was sent many times at once one is 201, whose body this returns; the others repeat it,
/// or say that it was still running.
fn one_first(answers: &[Answer]) -> Vec<u8> {
    let mut firsts = answers.iter().filter(|answer| answer.status == 201);
    let first = firsts.next().expect("a first answer");
    assert!(firsts.next().is_none(), "{answers:?}");
    for answer in answers {
        let replayed = answer.headers.get("idempotency-replayed");
        let repeats = answer.status == 200;
        assert_eq!(replayed.is_some_and(|value| value == "true"), repeats);
        match answer.status {
            200 | 201 => assert_eq!(answer.bytes, first.bytes),
            _ => in_use(answer),
        }
    }
    first.bytes.clone()
}

#[track_caller]
fn in_use(answer: &Answer) {
    assert_eq!(
        answer.faults(409, "idempotency_key_in_use"),
        [""; 0],
        "{answer}"
    );
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.body["retryable"], true);
}

#[tokio::test]
async fn fifty_requests_at_once_with_one_key_make_one_message_and_get_one_body() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let client = keyed(&tenant.api, "order-42");
    let answers = join_all((0..50).map(|_| client.post("/v1/messages", message(1)))).await;
    let body = one_first(&answers);
    let further = client.post("/v1/messages", message(1)).await;
    assert_eq!((further.status, &further.bytes), (200, &body), "{further}");
    assert_eq!(api.count::<message::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn however_many_repeat_a_request_at_once_each_gets_the_first_answer() {
    let api = api().await;
    let tenant = api.tenant().await;
    let email = json!({"to": ["a@example.com"], "subject": "Hello", "text": "Hello"});
    let endpoint = json!({"url": "https://example.com/"});
    for (path, body) in [
        ("/v1/messages", message(1)),
        ("/v1/emails", email),
        ("/v1/endpoints", endpoint),
    ] {
        let here = keyed(&tenant.api, "k");
        let there = api.elsewhere(&here);
        let first = here.post(path, body.clone()).await;
        assert_eq!(first.status, 201, "{first}");
        let both = (0..50).map(|n| if n % 2 == 0 { &here } else { &there });
        let answers = join_all(both.map(|client| client.post(path, body.clone()))).await;
        for again in answers {
            assert_eq!((again.status, &again.bytes), (200, &first.bytes), "{again}");
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn an_accepted_request_is_answered_as_it_was_when_it_would_be_refused_by_now() {
    let api = api().await;
    let tenant = api.tenant().await;
    let client = keyed(&tenant.api, "k");
    let event_type = json!({"name": "a.b"});
    let created = tenant.api.post("/v1/event-types", event_type).await;
    created.expect(201);
    let first = client.post("/v1/messages", message(1)).await;
    assert_eq!(first.status, 201, "{first}");
    tenant.api.delete("/v1/event-types/a.b").await;
    let refused = tenant.api.post("/v1/messages", message(1)).await;
    assert_eq!(refused.status, 422, "{refused}");
    for client in [&client, &api.elsewhere(&client)] {
        let again = client.post("/v1/messages", message(1)).await;
        assert_eq!((again.status, &again.bytes), (200, &first.bytes), "{again}");
    }
    let other = client.post("/v1/messages", message(2)).await;
    assert_eq!(
        other.faults(409, "idempotency_key_reused"),
        [""; 0],
        "{other}"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_key_is_good_for_one_thing_across_processes() {
    let api = api().await;
    let tenant = api.tenant().await;
    let endpoint = json!({"url": "https://example.com/"});
    let mail = json!({"to": ["a@example.com"], "subject": "Hello", "text": "Hello"});
    for round in 0..10 {
        let here = keyed(&tenant.api, &format!("k{round}"));
        let there = api.elsewhere(&here);
        for (path, body) in [
            ("/v1/messages", message(1)),
            ("/v1/endpoints", endpoint.clone()),
            ("/v1/emails", mail.clone()),
        ] {
            let both = (0..20).map(|n| if n % 2 == 0 { &here } else { &there });
            let answers = join_all(both.map(|client| client.post(path, body.clone()))).await;
            let first = one_first(&answers);
            for client in [&here, &there] {
                let further = client.post(path, body.clone()).await;
                assert_eq!((further.status, &further.bytes), (200, &first), "{further}");
            }
        }
    }
    assert_eq!(api.count::<message::Entity>().await, 10);
    assert_eq!(api.count::<endpoint::Entity>().await, 10);
    assert_eq!(api.count::<email::Entity>().await, 10);
    api.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_body_one_tenant_and_one_operation() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let client = keyed(&tenant.api, "k");
    client.post("/v1/messages", message(1)).await.expect(201);
    let refused = client.post("/v1/messages", message(2)).await;
    assert_eq!(
        refused.faults(409, "idempotency_key_reused"),
        [""; 0],
        "{refused}"
    );
    keyed(&other.api, "k")
        .post("/v1/messages", message(2))
        .await
        .expect(201);
    let email = json!({"to": ["a@example.com"], "subject": "Hello", "text": "Hello"});
    let endpoint = json!({"url": "https://example.com/"});
    for (path, body) in [("/v1/emails", email), ("/v1/endpoints", endpoint)] {
        let first = client.post(path, body.clone()).await;
        assert_eq!(first.status, 201, "{first}");
        let again = client.post(path, body).await;
        assert_eq!((again.status, again.bytes), (200, first.bytes));
        client
            .post(path, json!({"url": "https://example.com/2", "to": []}))
            .await;
    }
    assert_eq!(api.count::<message::Entity>().await, 2);
    assert_eq!(api.count::<email::Entity>().await, 1);
    assert_eq!(api.count::<endpoint::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn different_bodies_at_once_with_one_key_make_one_message_and_conflicts() {
    let api = api().await;
    let tenant = api.tenant().await;
    let client = keyed(&tenant.api, "k");
    let requests = (0..20).map(|n| client.post("/v1/messages", message(n)));
    let mut statuses: Vec<u16> = join_all(requests)
        .await
        .iter()
        .map(|answer| answer.status)
        .collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (201, &[409; 19][..]));
    assert_eq!(api.count::<message::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_time() {
    let api = api().await;
    let tenant = api.tenant().await;
    let client = keyed(&tenant.api, "k");
    let first = client.post("/v1/messages", message(1)).await;
    api.advance(86_399);
    let again = client.post("/v1/messages", message(1)).await;
    assert_eq!((again.status, &again.bytes), (200, &first.bytes));
    api.advance(1);
    client.post("/v1/messages", message(2)).await.expect(201);
    client.post("/v1/messages", message(1)).await.expect(409);
    client.post("/v1/messages", message(2)).await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_key_up() {
    let api = api().await;
    let tenant = api.tenant().await;
    let client = keyed(&tenant.api, "k");
    client
        .post("/v1/messages", json!({"payload": 1}))
        .await
        .expect(422);
    client.post("/v1/messages", message(1)).await.expect(201);
    api.stop().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_refused_and_not_overlooked() {
    let api = api().await;
    let tenant = api.tenant().await;
    for key in ["", "with space", "zoë", &"x".repeat(256)] {
        let refused = keyed(&tenant.api, key)
            .post("/v1/messages", message(1))
            .await;
        assert_eq!(
            refused.faults(400, "invalid_parameter"),
            [""; 0],
            "{key}: {refused}"
        );
    }
    let two = keyed(&keyed(&tenant.api, "a"), "b");
    two.post("/v1/messages", message(1)).await.expect(400);
    assert_eq!(api.count::<message::Entity>().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn a_tenant_is_created_once_and_no_other_tenant_s_keys_are_in_the_way() {
    let api = api().await;
    let before = api.count::<tenant::Entity>().await;
    let here = keyed(&api.root(), "acme");
    let there = api.elsewhere(&here);
    let new = json!({"name": "Acme"});
    let both = (0..20).map(|n| if n % 2 == 0 { &here } else { &there });
    let answers = join_all(both.map(|client| client.post("/v1/tenants", new.clone()))).await;
    let first = one_first(&answers);
    let again = here.post("/v1/tenants", new).await;
    assert_eq!((again.status, &again.bytes), (200, &first));
    let other = here.post("/v1/tenants", json!({"name": "Other"})).await;
    assert_eq!(
        other.faults(409, "idempotency_key_reused"),
        [""; 0],
        "{other}"
    );
    assert_eq!(api.count::<tenant::Entity>().await, before + 1);
    let tenant = api.tenant().await;
    keyed(&tenant.api, "acme")
        .post("/v1/messages", message(1))
        .await
        .expect(201);
    api.stop().await;
}

//! What a sender says about its events: what they look like, what they are signed with, and that they are not wanted
//! any more.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use relaypost_testkit::{Hit, Receiver};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::{SOON, delivery_ids, id, verifies, world};

/// Whether one of the hit's signatures is made with the private half of this key.
fn verifies_publicly(hit: &Hit, public_key: &Value) -> bool {
    let public_key = public_key.as_str().unwrap().strip_prefix("whpk_").unwrap();
    let public_key = BASE64_STANDARD.decode(public_key).unwrap();
    let header = |name| hit.header(name).unwrap();
    let head = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
    let signed = [head.as_bytes(), &hit.body].concat();
    let mut signatures = header("webhook-signature").split(' ');
    signatures.any(|signature| {
        let signature = signature.strip_prefix("v1a,");
        let signature = signature.map(|encoded| BASE64_STANDARD.decode(encoded).unwrap());
        let key = UnparsedPublicKey::new(&ED25519, &public_key);
        signature.is_some_and(|signature| key.verify(&signed, &signature).is_ok())
    })
}

#[tokio::test]
async fn what_fits_its_schema_arrives_signed_so_that_the_public_key_verifies_it() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let endpoint = json!({"url": receiver.url("/"), "signing": "ed25519"});
    let created = tenant.api.post("/v1/endpoints", endpoint).await.expect(201);
    assert_eq!(created.get("secret"), None);
    let schema = json!({
        "type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"],
    });
    let order = json!({"name": "order.created", "schema": schema});
    tenant.api.post("/v1/event-types", order).await.expect(201);

    let wrong = json!({"event_type": "order.created", "payload": {"total": "12.50"}});
    let refused = tenant.api.post("/v1/messages", wrong).await.expect(422);
    assert_eq!(refused["errors"][0]["path"], "payload.total", "{refused}");
    let right = json!({"total": 12.5});
    tenant.publish("order.created", right).await;
    receiver.wait_for(1, SOON).await;
    let hit = receiver.hits().remove(0);
    assert!(
        verifies_publicly(&hit, &created["public_key"]),
        "{:?}",
        hit.headers
    );
    let mut changed = hit.clone();
    changed.body.push(b' ');
    assert!(!verifies_publicly(&changed, &created["public_key"]));

    // Back to a secret that both sides have: for a day both sign.
    let path = format!("/v1/endpoints/{}", id(&created));
    let hmac = json!({"signing": "hmac"});
    tenant.api.patch(&path, hmac).await.expect(200);
    let read = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    tenant.publish("order.created", json!({"total": 1})).await;
    receiver.wait_for(2, SOON).await;
    let hit = receiver.hits().remove(1);
    assert!(
        verifies_publicly(&hit, &created["public_key"]),
        "{:?}",
        hit.headers
    );
    assert!(
        verifies(&hit, read["secret"].as_str().unwrap()),
        "{:?}",
        hit.headers
    );
    world.stop().await;
}

#[tokio::test]
async fn of_what_waits_the_cancelled_never_arrives_and_the_hastened_does() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/"), &[]).await;
    let endpoint = tenant.api.get(&format!("/v1/endpoints/{endpoint}")).await;
    let created_at = endpoint.expect(200)["created_at"].to_string();
    let created_at: DateTime<Utc> = created_at.trim_matches('"').parse().unwrap();
    let tomorrow = (created_at + TimeDelta::days(1)).to_rfc3339();
    let later = json!({"event_type": "a", "payload": {}, "deliver_at": tomorrow});
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let accepted = tenant.api.post("/v1/messages", later.clone()).await;
        waiting.push(accepted.expect(201));
    }
    let [cancelled, hastened] = waiting.try_into().unwrap();
    let path = format!("/v1/messages/{}", id(&cancelled));
    let cancel = format!("{path}/cancel");
    tenant.api.post(&cancel, json!({})).await.expect(200);
    let [delivery] = delivery_ids(&cancelled).try_into().unwrap();
    let given_up = tenant.wait_delivery(&delivery, "discarded", SOON).await;
    assert_eq!(given_up["reason"], "cancelled");

    let path = format!("/v1/messages/{}", id(&hastened));
    let now = json!({"deliver_at": created_at.to_rfc3339()});
    tenant.api.patch(&path, now).await.expect(200);
    let [delivery] = delivery_ids(&hastened).try_into().unwrap();
    tenant.wait_delivery(&delivery, "delivered", SOON).await;
    let late = tenant.api.post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!(late.expect(409)["code"], "too_late");
    assert_eq!(receiver.count(), 1);
    world.stop().await;
}

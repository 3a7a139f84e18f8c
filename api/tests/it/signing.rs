//! What an endpoint's webhooks are signed with, and its limits.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use relaypost_shared::{entities::endpoint_secret, secrets::Keyring};
use sea_orm::{EntityTrait as _, QueryOrder as _};
use serde_json::{Value, json};

use crate::{Api, api, id};

/// The rows with what is sealed in them.
async fn secrets(api: &Api) -> Vec<endpoint_secret::Model> {
    let mut rows = endpoint_secret::Entity::find()
        .order_by_asc(endpoint_secret::Column::Id)
        .all(&api.db)
        .await
        .unwrap();
    for row in &mut rows {
        row.secret = row.open(&Keyring::of_development()).unwrap();
    }
    rows
}

/// The bytes behind a prefix.
fn decode(text: &str, prefix: &str) -> Vec<u8> {
    let encoded = text.strip_prefix(prefix);
    let encoded = encoded.unwrap_or_else(|| panic!("{prefix} in {text}"));
    BASE64_STANDARD.decode(encoded).unwrap()
}

fn public_key(answer: &Value) -> Vec<u8> {
    assert_eq!(answer.get("secret"), None, "the private key stays here");
    decode(answer["public_key"].as_str().unwrap(), "whpk_")
}

#[tokio::test]
async fn the_limits_of_an_endpoint_are_shown_changed_and_cleared() {
    let api = api().await;
    let tenant = api.tenant().await;
    let limits = json!({"rate_limit_per_s": 10, "max_in_flight": 5, "ordering": "fifo"});
    let mut new = limits.clone();
    new["url"] = json!("https://example.com/");
    let created = tenant.api.post("/v1/endpoints", new).await.expect(201);
    let path = format!("/v1/endpoints/{}", id(&created));
    let shown = tenant.api.get(&path).await.expect(200);
    for (field, value) in limits.as_object().unwrap() {
        assert_eq!((&created[field], &shown[field]), (value, value), "{field}");
    }
    assert_eq!(created["signing"], "hmac");
    let change = json!({"rate_limit_per_s": 10_000, "max_in_flight": 1});
    let changed = tenant.api.patch(&path, change).await.expect(200);
    assert_eq!(
        (&changed["rate_limit_per_s"], &changed["max_in_flight"]),
        (&json!(10_000), &json!(1))
    );
    assert_eq!(changed["ordering"], "fifo");
    let none = json!({"rate_limit_per_s": null, "max_in_flight": null, "ordering": null});
    let cleared = tenant.api.patch(&path, none.clone()).await.expect(200);
    for field in none.as_object().unwrap().keys() {
        assert_eq!(cleared.get(field), None, "{field}");
    }
    for (field, wrong) in [
        ("rate_limit_per_s", json!(0)),
        ("rate_limit_per_s", json!(10_001)),
        ("max_in_flight", json!(0)),
        ("max_in_flight", json!(10_001)),
        ("ordering", json!("lifo")),
        ("signing", json!("rsa")),
    ] {
        let new = json!({"url": "https://example.com/", field: wrong});
        for refused in [
            tenant.api.post("/v1/endpoints", new).await,
            tenant.api.patch(&path, json!({field: wrong})).await,
        ] {
            assert_eq!(
                refused.faults(422, "validation_failed"),
                [""; 0],
                "{refused}"
            );
            assert_eq!(refused.body["errors"][0]["path"], field, "{refused}");
        }
    }
    let null = tenant.api.patch(&path, json!({"signing": null})).await;
    assert_eq!(null.faults(422, "validation_failed"), [""; 0], "{null}");
    api.stop().await;
}

#[tokio::test]
async fn an_ed25519_endpoint_shows_its_public_key_and_never_the_private_one() {
    let api = api().await;
    let tenant = api.tenant().await;
    let new = json!({"url": "https://example.com/", "signing": "ed25519"});
    let created = tenant.api.post("/v1/endpoints", new).await.expect(201);
    assert_eq!(created["signing"], "ed25519");
    let public = public_key(&created);
    assert_eq!(public.len(), 32);
    let path = format!("/v1/endpoints/{}", id(&created));
    let read = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(read, json!({"public_key": created["public_key"]}));
    let stored = secrets(&api).await.remove(0).secret;
    let pair = decode(&stored, "whsk_");
    assert_eq!((pair.len(), &pair[32..]), (64, &public[..]));

    let rotated = tenant
        .api
        .post(
            &format!("{path}/secret/rotate"),
            json!({"grace_period_s": 60}),
        )
        .await
        .expect(200);
    assert_ne!(public_key(&rotated), public);
    assert_eq!(rotated["previous_expires_at"], "2026-01-31T09:31:00.000Z");
    let read = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(read["public_key"], rotated["public_key"]);
    api.stop().await;
}

#[tokio::test]
async fn a_change_of_the_signature_makes_a_new_key_and_the_old_one_signs_on_for_a_day() {
    let api = api().await;
    let tenant = api.tenant().await;
    let new = json!({"url": "https://example.com/"});
    let created = tenant.api.post("/v1/endpoints", new).await.expect(201);
    let path = format!("/v1/endpoints/{}", id(&created));
    for same in [json!({"signing": "hmac"}), json!({"description": "x"})] {
        tenant.api.patch(&path, same).await.expect(200);
    }
    assert_eq!(secrets(&api).await.len(), 1, "nothing has changed");

    let change = json!({"signing": "ed25519"});
    let changed = tenant.api.patch(&path, change.clone()).await.expect(200);
    assert_eq!(changed["signing"], "ed25519");
    tenant.api.patch(&path, change).await.expect(200);
    let stored = secrets(&api).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(created["secret"], *stored[0].secret);
    let expires = stored[0].expires_at.unwrap() - api.clock.now();
    assert_eq!(expires.num_hours(), 24);
    assert_eq!(stored[1].expires_at, None);
    let read = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(public_key(&read), decode(&stored[1].secret, "whsk_")[32..]);
    let back = json!({"signing": "hmac"});
    tenant.api.patch(&path, back).await.expect(200);
    let read = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    assert!(read["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_ne!(read["secret"], created["secret"]);
    api.stop().await;
}

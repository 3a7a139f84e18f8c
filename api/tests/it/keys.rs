//! Keys: who may do what, and whose things.

use poem::http::Method;
use relaypost_shared::entities::api_key;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use crate::{Api, api, id, support::Client};

async fn client(api: &Api, tenant: &str, scopes: &[&str]) -> Client {
    let key = api.key(tenant, scopes).await;
    api.anonymous().key(key["key"].as_str().unwrap())
}

/// The scope that the document says an operation asks for.
fn documented_scope(operation: &Value) -> Option<&str> {
    let description = operation["responses"]["403"]["description"].as_str()?;
    description.split('`').nth(1)
}

/// What nobody needs a key for: how one signs in.
const FOR_ANYBODY: [&str; 7] = [
    "auth_login",
    "auth_refresh",
    "auth_verify_email",
    "auth_verify_email_resend",
    "auth_password_forgot",
    "auth_password_reset",
    "auth_demo",
];

/// Every operation of the document with its method, a path that leads to nothing, and its scope.
fn operations() -> Vec<(Method, String, String)> {
    let document: Value = serde_json::from_str(&relaypost_api::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation["security"][0].is_null() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(FOR_ANYBODY.contains(&name), "{name} asks for nothing");
                continue;
            }
            let Some(scope) = documented_scope(operation) else {
                // Those are for people who have signed in: `sessions.rs`.
                continue;
            };
            let path = path.replace("{user_id}", "usr_00000000000000000000000000");
            let path = path.replace("{key_id}", "key_00000000000000000000000000");
            let path = path.replace("{message_id}", "msg_00000000000000000000000000");
            let path = path.replace("{email_id}", "eml_00000000000000000000000000");
            let path = path.replace("{endpoint_id}", "ep_00000000000000000000000000");
            let path = path.replace("{delivery_id}", "dlv_00000000000000000000000000");
            let method = method.to_uppercase().parse().unwrap();
            operations.push((method, path, scope.to_owned()));
        }
    }
    operations
}

#[tokio::test]
async fn every_operation_asks_for_the_scope_that_the_document_names() {
    let api = api().await;
    let tenant = api.tenant().await;
    let all = ["send", "read", "manage", "admin"];
    for (method, path, scope) in operations() {
        let path = path.replace("{tenant_id}", &tenant.id);
        let ask = async |scopes: &[&str]| {
            let client = client(&api, &tenant.id, scopes).await;
            client
                .send(method.clone(), &path, Some(b"{}".to_vec()))
                .await
        };
        let others: Vec<&str> = all
            .into_iter()
            .filter(|other| *other != scope && *other != "admin")
            .collect();
        let refused = ask(&others).await;
        assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
        assert!(
            refused.body["detail"]
                .as_str()
                .unwrap()
                .contains(&format!("`{scope}`")),
            "{refused}"
        );
        if scope != "platform" {
            for enough in [&[scope.as_str()][..], &["admin"]] {
                let answer = ask(enough).await;
                assert!(answer.status != 403 && answer.status != 401, "{answer}");
            }
        } else {
            ask(&all).await.expect(403);
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn a_platform_key_names_the_tenant_and_a_tenants_key_stands_for_its_own() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    tenant.publish("a.b").await;
    let of = |client: &Client, tenant: &str| client.header("x-tenant-id", tenant);
    let seen = of(&api.root(), &tenant.id)
        .get("/v1/messages")
        .await
        .expect(200);
    assert_eq!(seen["data"].as_array().unwrap().len(), 1);
    let seen = of(&api.root(), &other.id)
        .get("/v1/messages")
        .await
        .expect(200);
    assert_eq!(seen["data"], json!([]));
    for nobody in ["ten_00000000000000000000000000", "nonsense", "zoë"] {
        let refused = of(&api.root(), nobody).get("/v1/messages").await;
        assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
    }
    of(&tenant.api, &tenant.id)
        .get("/v1/messages")
        .await
        .expect(200);
    let refused = of(&tenant.api, &other.id).get("/v1/messages").await;
    assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
    api.stop().await;
}

#[tokio::test]
async fn what_another_tenant_has_is_not_found() {
    let api = api().await;
    let (owner, other) = (api.tenant().await, api.tenant().await);
    let endpoint = owner.endpoint(&[]).await;
    let message = owner.publish("a.b").await;
    let email = json!({"to": ["a@example.com"], "subject": "Hello", "text": "Hello"});
    let email = id(&owner.api.post("/v1/emails", email).await.expect(201));
    let delivery = id(&message["deliveries"][0]);
    let key = id(&api.key(&owner.id, &["read"]).await);
    let rotate = format!("/v1/endpoints/{endpoint}/secret/rotate");
    let keys = format!("/v1/tenants/{}/api-keys", owner.id);
    for (method, path, body) in [
        ("GET", format!("/v1/messages/{}", id(&message)), None),
        ("GET", format!("/v1/emails/{email}"), None),
        ("GET", format!("/v1/deliveries/{delivery}"), None),
        ("GET", format!("/v1/deliveries/{delivery}/attempts"), None),
        ("GET", format!("/v1/endpoints/{endpoint}"), None),
        ("GET", format!("/v1/endpoints/{endpoint}/secret"), None),
        (
            "PATCH",
            format!("/v1/endpoints/{endpoint}"),
            Some(b"{\"description\": \"mine\"}".to_vec()),
        ),
        ("POST", rotate, Some(b"{}".to_vec())),
        ("DELETE", format!("/v1/endpoints/{endpoint}"), None),
        ("GET", keys.clone(), None),
        (
            "POST",
            keys.clone(),
            Some(b"{\"name\": \"a\", \"scopes\": [\"read\"]}".to_vec()),
        ),
        ("DELETE", format!("{keys}/{key}"), None),
    ] {
        let method: Method = method.parse().unwrap();
        let refused = other.api.send(method.clone(), &path, body.clone()).await;
        assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
        let owned = owner.api.send(method, &path, body).await;
        assert!(owned.status < 300, "{owned}");
    }
    for list in ["messages", "emails", "endpoints", "deliveries"] {
        let seen = other.api.get(&format!("/v1/{list}")).await.expect(200);
        assert_eq!(seen["data"], json!([]), "{list}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_key_is_refused_from_the_moment_it_is_revoked_or_expires() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let until = json!({"name": "a", "scopes": ["read"], "expires_at": "2026-01-31T09:31:00Z"});
    let expiring = tenant.api.post(&keys, until).await.expect(201);
    let expiring = api.anonymous().key(expiring["key"].as_str().unwrap());
    let revoked = api.key(&tenant.id, &["read"]).await;
    let client = api.anonymous().key(revoked["key"].as_str().unwrap());
    client.get("/v1/messages").await.expect(200);
    expiring.get("/v1/messages").await.expect(200);

    tenant
        .api
        .delete(&format!("{keys}/{}", id(&revoked)))
        .await
        .expect(204);
    let refused = client.get("/v1/messages").await;
    assert_eq!(refused.faults(401, "unauthorized"), [""; 0], "{refused}");
    tenant
        .api
        .delete(&format!("{keys}/{}", id(&revoked)))
        .await
        .expect(204);
    api.advance(59);
    expiring.get("/v1/messages").await.expect(200);
    api.advance(1);
    expiring.get("/v1/messages").await.expect(401);
    api.stop().await;
}

#[tokio::test]
async fn a_key_with_a_wrong_secret_is_refused_like_no_key() {
    let api = api().await;
    let tenant = api.tenant().await;
    let key = api.key(&tenant.id, &["read"]).await["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let (head, last) = key.split_at(key.len() - 1);
    let wrong = format!("{head}{}", if last == "A" { "B" } else { "A" });
    let expected = api.anonymous().get("/v1/messages").await.body["detail"].clone();
    for text in [
        wrong.as_str(),
        "rp_nonsense",
        "",
        "rp_root_test_key_0123456789abcdeg",
    ] {
        let refused = api.anonymous().key(text).get("/v1/messages").await;
        assert_eq!(refused.faults(401, "unauthorized"), [""; 0], "{refused}");
        assert_eq!(refused.body["detail"], expected);
    }
    let basic = api
        .anonymous()
        .header("authorization", &format!("Basic {key}"));
    basic.get("/v1/messages").await.expect(401);
    let lower = api
        .anonymous()
        .header("authorization", &format!("bearer {key}"));
    lower.get("/v1/messages").await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let api = api().await;
    let tenant = api.tenant().await;
    let created = api.key(&tenant.id, &["send", "read"]).await;
    let key = created["key"].as_str().unwrap();
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let listed = tenant.api.get(&keys).await.expect(200);
    let shown = &listed["data"][0];
    assert_eq!(shown["id"], created["id"]);
    assert_eq!(shown["scopes"], json!(["send", "read"]));
    assert!(key.starts_with(shown["prefix"].as_str().unwrap()));
    assert_eq!(shown.get("key"), None);
    for row in api_key::Entity::find().all(&api.db).await.unwrap() {
        assert!(!format!("{row:?}").contains(&key[key.len() - 20..]));
    }
    api.stop().await;
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted_once_a_minute() {
    let api = api().await;
    let tenant = api.tenant().await;
    let created = api.key(&tenant.id, &["read"]).await;
    let client = api.anonymous().key(created["key"].as_str().unwrap());
    let noted = async |time: &str| {
        relaypost_testkit::eventually(std::time::Duration::from_secs(5), || async {
            let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
            let listed = api.root().get(&keys).await.expect(200);
            let shown = listed["data"]
                .as_array()
                .unwrap()
                .iter()
                .find(|key| key["id"] == created["id"])
                .unwrap();
            if shown["last_used_at"] == time {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
    };
    client.get("/v1/messages").await.expect(200);
    noted("2026-01-31T09:30:00.000Z").await;
    api.advance(30);
    client.get("/v1/messages").await.expect(200);
    api.advance(30);
    client.get("/v1/messages").await.expect(200);
    noted("2026-01-31T09:31:00.000Z").await;
    api.stop().await;
}

#[tokio::test]
async fn a_tenants_key_cannot_become_a_platform_key() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    for scopes in [
        json!(["platform"]),
        json!(["read", "read"]),
        json!([]),
        json!(["everything"]),
    ] {
        let new = json!({"name": "a", "scopes": scopes});
        let refused = tenant.api.post(&keys, new).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
    }
    tenant
        .api
        .post("/v1/tenants", json!({"name": "b"}))
        .await
        .expect(403);
    api.stop().await;
}

//! What an operation does not take is refused and not overlooked.

use std::collections::BTreeSet;

use poem::http::Method;
use relaypost_shared::entities::{api_key, tenant};
use serde_json::{Value, json};

use crate::{api, declared::operation, sign_in::person};

/// Every operation of the document with its method and its path, variables filled in.
fn operations(tenant: &str) -> Vec<(Method, String)> {
    let document: Value = serde_json::from_str(&relaypost_api::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        if path == "/auth/oauth/{provider}/callback" {
            // Providers put in what they like (RFC 6749, section 4.1.2).
            continue;
        }
        let path = path
            .replace("{tenant_id}", tenant)
            .replace("{name}", "order.created");
        let path = [("message", "msg"), ("email", "eml"), ("endpoint", "ep")]
            .into_iter()
            .chain([("delivery", "dlv"), ("key", "key"), ("replay", "rpl")])
            .fold(path, |path, (name, prefix)| {
                let id = format!("{prefix}_00000000000000000000000000");
                path.replace(&format!("{{{name}_id}}"), &id)
            });
        for method in methods.as_object().unwrap().keys() {
            operations.push((method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    operations
}

#[tokio::test]
async fn an_unknown_query_parameter_is_refused_by_name_on_every_operation() {
    let api = api().await;
    let tenant = api.tenant().await;
    // A person of the platform: nothing is refused to them.
    let person = person(&api, json!({"platform": true})).await;
    let client = person.api.header("x-tenant-id", &tenant.id);
    // `/v1/scaling` asks first where the caller is, and this client has no address.
    let guarded = |path: &str| path == "/v1/scaling";
    let operations = operations(&tenant.id).into_iter();
    for (method, path) in operations.filter(|(_, path)| !guarded(path)) {
        for name in ["colour", "Limit"] {
            let path = format!("{path}?{name}=1");
            let refused = client.send(method.clone(), &path, None).await;
            assert_eq!(
                refused.faults(400, "invalid_parameter"),
                [""; 0],
                "{refused}"
            );
            let detail = refused.body["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("{name}: ")), "{refused}");
        }
    }
    // Who may not come in learns nothing else.
    let refused = api.anonymous().get("/v1/messages?colour=red").await;
    assert_eq!(refused.faults(401, "unauthorized"), [""; 0], "{refused}");
    for path in ["/health", "/openapi.json", "/docs"] {
        let answer = api.anonymous().get(&format!("{path}?colour=red")).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    for query in ["", "limit=5", "&limit=5&"] {
        let path = format!("/v1/messages?{query}");
        tenant.api.get(&path).await.expect(200);
    }
    api.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_is_refused_where_it_would_promise_what_is_not_kept() {
    let api = api().await;
    let tenant = api.tenant().await;
    let endpoint = tenant.endpoint(&[]).await;
    let keyed = |client: &crate::support::Client| client.header("idempotency-key", "k");
    let (tenants, keys) = (
        api.count::<tenant::Entity>().await,
        api.count::<api_key::Entity>().await,
    );
    for (client, path, body) in [
        (
            tenant.api.clone(),
            format!("/v1/tenants/{}/api-keys", tenant.id),
            json!({"name": "a", "scopes": ["read"]}),
        ),
        (
            tenant.api.clone(),
            format!("/v1/endpoints/{endpoint}/secret/rotate"),
            json!({}),
        ),
    ] {
        let refused = keyed(&client).post(&path, body).await;
        assert_eq!(
            refused.faults(400, "invalid_parameter"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(
            refused.body["detail"],
            "this operation takes no Idempotency-Key"
        );
    }
    assert_eq!(api.count::<tenant::Entity>().await, tenants);
    assert_eq!(api.count::<api_key::Entity>().await, keys);
    // What only reads is the same twice anyway.
    keyed(&tenant.api).get("/v1/messages").await.expect(200);
    api.stop().await;
}

/// What may be sent again without a key: done twice, it is done once.
const SAFE_TO_REPEAT: [&str; 15] = [
    "auth_logout",
    "auth_password_forgot",
    "auth_verify_email_resend",
    "deliveries_retry",
    "emails_cancel",
    "emails_dlq_replay",
    "endpoints_close_circuit",
    "endpoints_open_circuit",
    "endpoints_pause",
    "endpoints_resume",
    "members_unlock",
    "messages_cancel",
    "replays_cancel",
    "users_unlock",
    "webhooks_dlq_replay",
];

#[tokio::test]
async fn a_post_takes_an_idempotency_key_or_refuses_it_or_is_safe_to_repeat() {
    let api = api().await;
    let tenant = api.tenant().await;
    let mut safe = BTreeSet::new();
    for (method, path) in operations(&tenant.id) {
        if method != Method::POST {
            continue;
        }
        let operation = operation(&method, &path).unwrap();
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        if parameters.any(|one| one["name"] == "Idempotency-Key") {
            continue;
        }
        // Somebody new each time: one of the operations signs out.
        let person = person(&api, json!({"platform": true})).await;
        let client = person.api.header("x-tenant-id", &tenant.id);
        let answer = client
            .header("idempotency-key", "k")
            .post(&path, json!({}))
            .await;
        if answer.body["detail"] != "this operation takes no Idempotency-Key" {
            safe.insert(operation["operationId"].as_str().unwrap());
        }
    }
    assert_eq!(safe, BTreeSet::from(SAFE_TO_REPEAT));
    api.stop().await;
}

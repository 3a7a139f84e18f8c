//! What the document promises about bodies holds for the bodies that come.

use serde_json::{Value, json};

use crate::{
    api,
    dead::{dead_email, dead_webhook},
};

#[tokio::test]
async fn the_examples_of_the_document_are_accepted() {
    let api = api().await;
    let tenant = api.tenant().await;
    let document: Value = serde_json::from_str(&relaypost_api::openapi()).unwrap();
    let example = |schema: &str| document["components"]["schemas"][schema]["example"].clone();
    let endpoint = tenant
        .api
        .post("/v1/endpoints", example("NewEndpoint"))
        .await
        .expect(201);
    let path = format!("/v1/endpoints/{}", crate::id(&endpoint));
    tenant
        .api
        .patch(&path, example("EndpointChanges"))
        .await
        .expect(200);
    tenant
        .api
        .post(&format!("{path}/secret/rotate"), example("RotateSecret"))
        .await
        .expect(200);
    tenant
        .api
        .post("/v1/messages", example("NewMessage"))
        .await
        .expect(201);
    tenant
        .api
        .post("/v1/emails", example("NewEmail"))
        .await
        .expect(201);
    let created = api
        .root()
        .post("/v1/tenants", example("NewTenant"))
        .await
        .expect(201);
    let keys = format!("/v1/tenants/{}/api-keys", crate::id(&created));
    api.root()
        .post(&keys, example("NewApiKey"))
        .await
        .expect(201);
    api.stop().await;
}

#[tokio::test]
async fn answers_have_the_fields_that_their_schema_requires_and_no_others() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let message = tenant.publish("a.b").await;
    let document: Value = serde_json::from_str(&relaypost_api::openapi()).unwrap();
    let email = json!({"to": ["a@example.com"], "subject": "Hello", "text": "Hello"});
    let webhook = dead_webhook(&api, &tenant, "a.b").await;
    let (mail, _) = dead_email(&api, &tenant).await;
    let letter = async |path: String| tenant.api.get(&path).await.expect(200);
    for (schema, body) in [
        ("Message", message.clone()),
        ("Delivery", message["deliveries"][0].clone()),
        (
            "MessageDetail",
            tenant
                .api
                .get(&format!("/v1/messages/{}", crate::id(&message)))
                .await
                .expect(200),
        ),
        (
            "MessagePage",
            tenant.api.get("/v1/messages").await.expect(200),
        ),
        (
            "Email",
            tenant.api.post("/v1/emails", email).await.expect(201),
        ),
        (
            "EndpointPage",
            tenant.api.get("/v1/endpoints").await.expect(200),
        ),
        (
            "Endpoint",
            tenant.api.get("/v1/endpoints").await.expect(200)["data"][0].clone(),
        ),
        (
            "Tenant",
            api.root()
                .get(&format!("/v1/tenants/{}", tenant.id))
                .await
                .expect(200),
        ),
        (
            "WebhookDeadLetter",
            letter(format!("/v1/webhooks/dlq/{webhook}")).await,
        ),
        (
            "EmailDeadLetter",
            letter(format!("/v1/emails/dlq/{mail}")).await,
        ),
        (
            "EmailContent",
            letter(format!("/v1/emails/dlq/{mail}")).await["payload"].clone(),
        ),
        ("CreatedApiKey", api.key(&tenant.id, &["read"]).await),
        (
            "Problem",
            api.anonymous().get("/v1/messages").await.expect(401),
        ),
    ] {
        let schema_of = &document["components"]["schemas"][schema];
        for required in schema_of["required"].as_array().unwrap() {
            assert!(
                body.get(required.as_str().unwrap()).is_some(),
                "{schema}: no {required} in {body}"
            );
        }
        for field in body.as_object().unwrap().keys() {
            assert!(
                schema_of["properties"].get(field).is_some(),
                "{schema}: {field} in {body}"
            );
        }
    }
    api.stop().await;
}

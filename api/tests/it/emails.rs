//! Emails.

use relaypost_shared::{queue::Lane, store::fixtures::delivery};
use serde_json::{Value, json};

use crate::{api, id};

fn email(field: &str, value: Value) -> Value {
    let mut email = json!({"to": ["a@example.com"], "subject": "Hello", "text": "Hello"});
    email[field] = value;
    email
}

#[tokio::test]
async fn an_email_has_one_delivery_for_each_distinct_address() {
    let api = api().await;
    let tenant = api.tenant().await;
    let new = json!({
        "to": ["Ann <ann@example.com>", "bob@example.com"], "cc": ["ann@EXAMPLE.com"], "bcc": ["hidden@example.com"],
        "reply_to": "Desk <desk@example.com>", "subject": "Grüße", "text": "Hello", "html": "<p>Hello</p>",
        "headers": {"X-Campaign": "1"}, "tags": ["welcome"],
    });
    let sent = tenant.api.post("/v1/emails", new.clone()).await.expect(201);
    let deliveries = sent["deliveries"].as_array().unwrap();
    let recipients: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery["recipient"].as_str().unwrap())
        .collect();
    assert_eq!(
        recipients,
        ["ann@example.com", "bob@example.com", "hidden@example.com"]
    );
    for delivery in deliveries {
        assert_eq!(
            (&delivery["kind"], &delivery["email_id"]),
            (&json!("email"), &sent["id"])
        );
    }
    assert_eq!(sent["from"], "Relaypost <noreply@example.test>");
    assert_eq!((sent.get("text"), sent.get("html")), (None, None));

    let shown = tenant
        .api
        .get(&format!("/v1/emails/{}", id(&sent)))
        .await
        .expect(200);
    for (field, value) in new.as_object().unwrap() {
        assert_eq!(shown[field], *value, "{field}");
    }
    let listed = tenant.api.get("/v1/emails").await.expect(200);
    assert_eq!(listed["data"], json!([sent]));
    relaypost_testkit::eventually(std::time::Duration::from_secs(5), || async {
        match api.queue.depth(Lane::Emails).await.unwrap() {
            3 => Ok(()),
            depth => Err(format!("{depth} jobs")),
        }
    })
    .await;
    api.stop().await;
}

#[tokio::test]
async fn what_an_email_cannot_be_is_named() {
    let api = api().await;
    let tenant = api.tenant().await;
    let many: Vec<String> = (0..51).map(|n| format!("a{n}@example.com")).collect();
    for (path, new) in [
        ("to[0]", email("to", json!(["nobody at example"]))),
        (
            "to[0]",
            email("to", json!(["a@example.com\r\nBcc: b@example.com"])),
        ),
        ("to[0]", email("to", json!(["a@bücher.example"]))),
        (
            "to[0]",
            email("to", json!(["a@example.com, b@example.com"])),
        ),
        ("to", email("to", json!([]))),
        ("to", email("to", json!(many))),
        ("cc[1]", email("cc", json!(["c@example.com", ""]))),
        ("from", email("from", json!("nobody"))),
        ("reply_to", email("reply_to", json!("nobody"))),
        (
            "subject",
            email("subject", json!("Hello\r\nBcc: b@example.com")),
        ),
        ("subject", email("subject", json!("x".repeat(999)))),
        ("text", json!({"to": ["a@example.com"], "subject": "Hello"})),
        ("html", email("html", json!("a\u{0}"))),
        ("headers.Subject", email("headers", json!({"Subject": "a"}))),
        (
            "headers.Content-Type",
            email("headers", json!({"Content-Type": "a"})),
        ),
        ("tags[0]", email("tags", json!(["a\nb"]))),
        ("attachments", email("attachments", json!([]))),
        ("template", email("template", json!({"name": "a"}))),
    ] {
        let refused = tenant.api.post("/v1/emails", new).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], path, "{refused}");
    }
    assert_eq!(api.count::<delivery::Entity>().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn an_email_for_later_waits() {
    let api = api().await;
    let tenant = api.tenant().await;
    let later = tenant
        .api
        .post(
            "/v1/emails",
            email("send_at", json!("2026-02-01T00:00:00Z")),
        )
        .await
        .expect(201);
    assert_eq!(later["send_at"], "2026-02-01T00:00:00.000Z");
    let too_late = email("send_at", json!("2027-01-31T09:30:01Z"));
    let refused = tenant.api.post("/v1/emails", too_late).await;
    assert_eq!(
        refused.faults(422, "validation_failed"),
        [""; 0],
        "{refused}"
    );
    assert_eq!(refused.body["errors"][0]["path"], "send_at", "{refused}");
    assert_eq!(
        later["deliveries"][0]["next_attempt_at"],
        "2026-02-01T00:00:00.000Z"
    );
    api.stop().await;
}

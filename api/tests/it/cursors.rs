//! Cursors that nobody was given. `PROPTEST_CASES` says how many.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use crate::{
    api,
    support::{Client, ids},
};

const LISTS: [&str; 7] = [
    "/v1/messages",
    "/v1/endpoints",
    "/v1/deliveries",
    "/v1/emails",
    "/v1/event-types",
    "/v1/webhooks/dlq",
    "/v1/emails/dlq",
];

fn cursor() -> impl Strategy<Value = Vec<u8>> {
    let encoded = |bytes: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(bytes).into_bytes();
    prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..60),
        "[A-Za-z0-9_=+/-]{0,40}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(encoded),
        // The right form, and any place in any list.
        any::<[u8; 16]>().prop_map(move |uuid| encoded([&[1], &uuid[..]].concat())),
    ]
}

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

/// The ids that the page below this cursor shows, or nothing when the cursor is refused.
async fn page(client: &Client, list: &str, cursor: &[u8]) -> Option<Vec<String>> {
    let path = format!("{list}?cursor={}", percent_encoded(cursor));
    let answer = client.get(&path).await;
    if answer.status == 200 {
        return Some(ids(&answer.body["data"]));
    }
    assert_eq!(answer.faults(400, "invalid_cursor"), [""; 0], "{answer}");
    None
}

#[tokio::test]
async fn an_arbitrary_cursor_is_refused_or_shows_what_is_the_tenants_own() {
    let api = api().await;
    let (one, other) = (api.tenant().await, api.tenant().await);
    for tenant in [&one, &other] {
        tenant.endpoint(&[]).await;
        for _ in 0..3 {
            tenant.publish("a.b").await;
        }
    }
    let own = ids(&one.api.get("/v1/messages").await.expect(200)["data"]);
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..runner.config().cases {
        let cursor = cursor().new_tree(&mut runner).unwrap().current();
        let shown = page(&one.api, "/v1/messages", &cursor).await;
        let shown = shown.unwrap_or_default();
        assert!(shown.iter().all(|id| own.contains(id)), "{cursor:?}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_cursor_of_another_tenant_or_list_shows_nothing_of_theirs() {
    let api = api().await;
    let (one, other) = (api.tenant().await, api.tenant().await);
    for tenant in [&one, &other, &one, &other] {
        tenant.endpoint(&[]).await;
        tenant.publish("a.b").await;
        tenant.publish("c.d").await;
    }
    let mut cursors = Vec::new();
    for list in ["/v1/messages", "/v1/endpoints", "/v1/deliveries"] {
        let first = other.api.get(&format!("{list}?limit=1")).await.expect(200);
        cursors.push(first["next_cursor"].as_str().unwrap().to_owned());
    }
    for list in LISTS {
        let all = one.api.get(&format!("{list}?limit=100")).await.expect(200);
        // A dead letter or an email there is none of; what there is may be shown.
        let own = match all["data"].as_array().unwrap().first() {
            Some(first) if first["id"].is_string() => ids(&all["data"]),
            _ => continue,
        };
        for cursor in &cursors {
            let shown = page(&one.api, list, cursor.as_bytes()).await.unwrap();
            assert!(
                shown.iter().all(|id| own.contains(id)),
                "{list} from {cursor}"
            );
        }
    }
    api.stop().await;
}

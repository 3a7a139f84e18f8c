//! Publishing.

use relaypost_shared::{
    ids::MessageId,
    queue::Lane,
    store::fixtures::{delivery, message, payload},
};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use crate::{api, id, support::ids};

/// A payload that any parsing and printing on the way would change.
const ODD: &str = "{ \"z\" : 1,\r\n\t\"a\":\"\\u00e9 \\/ é 😀 \\u0000\" ,\"a\": 123456789012345678901234567890.10,\
    \"e\":1E+2, \"empty\" : [ ], \"-0\": -0.0 }";

#[tokio::test]
async fn a_payload_is_stored_and_shown_byte_for_byte() {
    let api = api().await;
    let tenant = api.tenant().await;
    for payload in [ODD, "null", "\"text\"", "0.10", "[1, 2]", "true"] {
        let body = format!("{{\"event_type\":\"a.b\",\"payload\":  {payload}\n}}");
        let accepted = tenant
            .api
            .post_bytes("/v1/messages", body)
            .await
            .expect(201);
        assert_eq!(accepted.get("payload"), None, "the payload is not repeated");
        let found: MessageId = id(&accepted).parse().unwrap();
        let stored = payload::Entity::find_by_id(found)
            .one(&api.db)
            .await
            .unwrap();
        assert_eq!(String::from_utf8(stored.unwrap().payload).unwrap(), payload);
        let shown = tenant
            .api
            .get(&format!("/v1/messages/{}", id(&accepted)))
            .await;
        let text = String::from_utf8(shown.bytes.clone()).unwrap();
        assert!(text.contains(&format!("\"payload\":{payload}}}")), "{text}");
    }
    api.stop().await;
}

/// Publishes and returns the endpoints that get it.
async fn targets(tenant: &crate::support::Tenant, message: Value) -> Vec<String> {
    let accepted = tenant.api.post("/v1/messages", message).await.expect(201);
    let deliveries = accepted["deliveries"].as_array().unwrap().iter();
    let mut targets: Vec<String> = deliveries
        .map(|delivery| delivery["endpoint_id"].as_str().unwrap().to_owned())
        .collect();
    targets.sort();
    targets
}

#[tokio::test]
async fn a_message_goes_to_the_active_endpoints_that_want_its_type_and_channel() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    other.endpoint(&[]).await;
    let all = tenant.endpoint(&[]).await;
    let orders = tenant.endpoint(&["order.created", "order.paid"]).await;
    let eu = json!({"url": "https://example.com/eu", "channels": ["eu", "uk"]});
    let eu = id(&tenant.api.post("/v1/endpoints", eu).await.expect(201));
    let deleted = tenant.endpoint(&[]).await;
    tenant
        .api
        .delete(&format!("/v1/endpoints/{deleted}"))
        .await
        .expect(204);

    let of = |event_type: &str, channels: &[&str]| json!({"event_type": event_type, "payload": 1, "channels": channels});
    assert_eq!(
        targets(&tenant, of("order.paid", &[])).await,
        [all.clone(), orders.clone()]
    );
    assert_eq!(
        targets(&tenant, of("order", &[])).await,
        std::slice::from_ref(&all)
    );
    assert_eq!(
        targets(&tenant, of("order", &["eu"])).await,
        [all.clone(), eu.clone()]
    );
    assert_eq!(
        targets(&tenant, of("order.paid", &["us", "uk"])).await,
        [all, orders, eu]
    );
    api.stop().await;
}

#[tokio::test]
async fn what_is_accepted_is_shown_and_queued() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let message = json!({
        "event_type": "order.created", "payload": {"n": 1}, "channels": ["eu"], "metadata": {"a": [1, null]},
    });
    let accepted = tenant
        .api
        .header("x-request-id", "order-42")
        .post("/v1/messages", message)
        .await
        .expect(201);
    assert_eq!(accepted["created_at"], "2026-01-31T09:30:00.000Z");
    assert_eq!(accepted["metadata"], json!({"a": [1, null]}));
    let delivery = &accepted["deliveries"][0];
    assert_eq!(delivery["kind"], "webhook");
    assert_eq!(delivery["status"], "pending");
    assert_eq!(delivery["attempt_count"], 0);
    assert_eq!(delivery["message_id"], accepted["id"]);

    let mut shown = tenant
        .api
        .get(&format!("/v1/messages/{}", id(&accepted)))
        .await
        .expect(200);
    assert_eq!(
        shown.as_object_mut().unwrap().remove("payload"),
        Some(json!({"n": 1}))
    );
    assert_eq!(shown, accepted);
    let listed = tenant.api.get("/v1/messages").await.expect(200);
    assert_eq!(listed["data"], json!([accepted]));
    let found: MessageId = id(&accepted).parse().unwrap();
    let stored = message::Entity::find_by_id(found)
        .one(&api.db)
        .await
        .unwrap();
    assert_eq!(stored.unwrap().request_id, "order-42");
    relaypost_testkit::eventually(std::time::Duration::from_secs(5), || async {
        match api.queue.depth(Lane::Webhooks).await.unwrap() {
            1 => Ok(()),
            depth => Err(format!("{depth} jobs")),
        }
    })
    .await;
    api.stop().await;
}

#[tokio::test]
async fn a_message_for_later_waits_in_the_database() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let at = |time: &str| json!({"event_type": "a.b", "payload": 1, "deliver_at": time});
    let later = tenant
        .api
        .post("/v1/messages", at("2026-02-01T00:00:00+01:00"))
        .await
        .expect(201);
    assert_eq!(later["deliver_at"], "2026-01-31T23:00:00.000Z");
    assert_eq!(
        later["deliveries"][0]["next_attempt_at"],
        "2026-01-31T23:00:00.000Z"
    );
    tenant
        .api
        .post("/v1/messages", at("2027-01-31T09:30:00Z"))
        .await
        .expect(201);
    let refused = tenant
        .api
        .post("/v1/messages", at("2027-01-31T09:30:00.001Z"))
        .await;
    assert_eq!(
        refused.faults(422, "validation_failed"),
        [""; 0],
        "{refused}"
    );
    assert_eq!(refused.body["errors"][0]["path"], "deliver_at", "{refused}");
    let past = tenant
        .api
        .post("/v1/messages", at("2020-01-01T00:00:00Z"))
        .await
        .expect(201);
    assert_eq!(past["deliveries"][0].get("next_attempt_at"), None);

    let rows = delivery::Entity::find().all(&api.db).await.unwrap();
    let of = |message: &Value| {
        rows.iter()
            .find(|row| row.message_id.unwrap().to_string() == id(message))
            .unwrap()
    };
    assert_eq!(of(&later).dispatch_at, of(&later).next_attempt_at);
    assert!(of(&later).dispatch_at.is_some());
    assert_eq!(
        (of(&past).dispatch_at, of(&past).next_attempt_at),
        (None, None)
    );
    api.stop().await;
}

#[tokio::test]
async fn messages_that_arrive_together_each_get_their_own_answer() {
    let api = api().await;
    let (one, two) = (api.tenant().await, api.tenant().await);
    let (to_one, to_two) = (one.endpoint(&[]).await, two.endpoint(&[]).await);
    let requests = (0..200).map(|n| {
        let (tenant, endpoint) = if n % 2 == 0 {
            (&one, &to_one)
        } else {
            (&two, &to_two)
        };
        async move {
            let event_type = format!("event.{n}");
            let accepted = tenant.publish(&event_type).await;
            assert_eq!(accepted["event_type"], event_type);
            assert_eq!(accepted["deliveries"][0]["endpoint_id"], *endpoint);
            id(&accepted)
        }
    });
    let mut accepted = futures::future::join_all(requests).await;
    accepted.sort();
    accepted.dedup();
    assert_eq!(accepted.len(), 200);
    assert_eq!(api.count::<message::Entity>().await, 200);
    assert_eq!(api.count::<delivery::Entity>().await, 200);
    api.stop().await;
}

#[tokio::test]
async fn a_fan_out_above_the_parameters_of_one_statement_is_stored_whole() {
    let api = api().await;
    let tenant = api.tenant().await;
    let endpoint = tenant.endpoint(&[]).await.parse().unwrap();
    use relaypost_shared::{entities::endpoint, ids::EndpointId};
    use sea_orm::IntoActiveModel as _;
    let row = endpoint::Entity::find_by_id::<EndpointId>(endpoint)
        .one(&api.db)
        .await
        .unwrap()
        .unwrap();
    for _ in 0..5 {
        let more = (0..500).map(|_| endpoint::Model {
            id: EndpointId::generate(api.clock.now()),
            ..row.clone()
        });
        endpoint::Entity::insert_many(more.map(|row| row.into_active_model()))
            .exec_without_returning(&api.db)
            .await
            .unwrap();
    }
    let accepted = tenant.publish("a.b").await;
    let shown = ids(&accepted["deliveries"]);
    assert_eq!(shown.len(), 2501);
    assert_eq!(api.count::<delivery::Entity>().await, 2501);
    api.stop().await;
}

#[tokio::test]
async fn the_list_can_be_narrowed_to_an_event_type() {
    let api = api().await;
    let tenant = api.tenant().await;
    let wanted = id(&tenant.publish("order.paid").await);
    tenant.publish("order.created").await;
    let listed = tenant
        .api
        .get("/v1/messages?event_type=order.paid")
        .await
        .expect(200);
    assert_eq!(ids(&listed["data"]), [wanted]);
    api.stop().await;
}

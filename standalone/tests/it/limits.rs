//! Limits of endpoints, as their owner changes them through the API.

use relaypost_testkit::{Receiver, Reply};
use reqwest::Method;
use serde_json::json;

use crate::{SOON, world};

#[tokio::test]
async fn a_changed_limit_holds_for_what_is_queued_already() {
    // No request ends by itself meanwhile: the queue would learn of the limit from the next job.
    let world = world(&[("WEBHOOK_TIMEOUT_MS", "120000")]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    receiver.respond(Reply::Hang);
    let new = json!({"url": receiver.url("/"), "max_in_flight": 1, "external_id": "shop"});
    let (id, _) = tenant.endpoint_with(new).await;
    for n in 0..4 {
        tenant.publish("order.created", json!({"n": n})).await;
    }
    receiver.wait_in_flight(1, SOON).await;

    let path = format!("/v1/endpoints/{id}");
    let wider = json!({"max_in_flight": 2});
    tenant.api.patch(&path, wider).await.expect(200);
    receiver.wait_in_flight(2, SOON).await;

    let path = "/v1/endpoints/by-external-id/shop";
    let none = json!({"url": receiver.url("/")}).to_string().into();
    let body = Some(("application/json", none));
    tenant.api.send(Method::PUT, path, body).await.expect(200);
    receiver.wait_in_flight(4, SOON).await;
    receiver.release();
    world.stop().await;
}

//! What one tenant has does not exist for another.

use relaypost_testkit::Receiver;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{SOON, delivery_ids, id, world};

#[tokio::test]
async fn another_tenants_things_are_not_found() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let (owner, other) = (world.tenant("owner").await, world.tenant("other").await);
    let (endpoint, _) = owner.endpoint(&receiver.url("/"), &[]).await;
    let message = owner.publish("order.created", json!({"n": 1})).await;
    let email = json!({"to": ["to@example.test"], "subject": "Hello", "text": "Hello"});
    let email = owner.api.post("/v1/emails", email).await.expect(201);
    let deliveries = [delivery_ids(&message), delivery_ids(&email)].concat();
    for delivery in &deliveries {
        owner.wait_delivery(delivery, "delivered", SOON).await;
    }

    let mut owned = vec![
        format!("/v1/messages/{}", id(&message)),
        format!("/v1/emails/{}", id(&email)),
    ];
    for delivery in &deliveries {
        owned.push(format!("/v1/deliveries/{delivery}"));
        owned.push(format!("/v1/deliveries/{delivery}/attempts"));
    }
    let endpoint_path = format!("/v1/endpoints/{endpoint}");
    owned.extend([endpoint_path.clone(), format!("{endpoint_path}/secret")]);
    for path in &owned {
        let refused = other.api.get(path).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (404, &json!("not_found")),
            "{refused}"
        );
        owner.api.get(path).await.expect(200);
    }

    let rotate = format!("{endpoint_path}/secret/rotate");
    let changes = [
        (
            Method::PATCH,
            &endpoint_path,
            json!({"description": "mine now"}),
        ),
        (Method::POST, &rotate, json!({"grace_period_s": 60})),
        (Method::DELETE, &endpoint_path, Value::Null),
    ];
    let before = owner.api.get(&endpoint_path).await.expect(200);
    for (method, path, body) in changes {
        let body = (!body.is_null()).then(|| ("application/json", body.to_string().into_bytes()));
        other.api.send(method, path, body).await.expect(404);
    }
    assert_eq!(owner.api.get(&endpoint_path).await.expect(200), before);

    for list in ["messages", "emails", "deliveries", "endpoints"] {
        let seen = other.api.get(&format!("/v1/{list}")).await.expect(200);
        assert_eq!(seen["data"], json!([]), "{list}");
    }
    let others = other.publish("order.created", json!({"n": 2})).await;
    assert_eq!(others["deliveries"], json!([]), "{others}");
    assert_eq!(receiver.count(), 1);
    world.stop().await;
}

//! What one tenant has does not exist for another, and what one endpoint does is not felt by another.

use std::time::Duration;

use relaypost_testkit::{Receiver, Reply};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

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
    let controls = ["pause", "resume", "circuit/open", "circuit/close", "test"];
    let mut asked: Vec<String> = controls
        .iter()
        .map(|control| format!("{endpoint_path}/{control}"))
        .collect();
    asked.push(format!("/v1/messages/{}/cancel", id(&message)));
    asked.push(format!("/v1/emails/{}/cancel", id(&email)));
    let before = owner.api.get(&endpoint_path).await.expect(200);
    for (method, path, body) in changes {
        let body = (!body.is_null()).then(|| ("application/json", body.to_string().into_bytes()));
        other.api.send(method, path, body).await.expect(404);
    }
    for path in &asked {
        other.api.send(Method::POST, path, None).await.expect(404);
    }
    let recover = format!("{endpoint_path}/recover");
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    other.api.post(&recover, since).await.expect(404);
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

/// A server that answers 200 and then sends a byte of the body each second; returns where it is.
async fn dripping() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = client.read(&mut request).await;
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
                let mut sent = client.write_all(head).await;
                let mut seconds = tokio::time::interval(Duration::from_secs(1));
                while sent.is_ok() {
                    seconds.tick().await;
                    sent = client.write_all(b".").await;
                }
            });
        }
    });
    format!("http://{address}/")
}

#[tokio::test]
async fn no_way_of_being_broken_is_felt_by_another_endpoint() {
    // Every broken one has as many messages as a worker has places.
    let world = world(&[
        ("WEBHOOK_CONCURRENCY", "24"),
        ("WEBHOOK_MAX_IN_FLIGHT", "2"),
    ])
    .await;
    let (hanging, elsewhere) = (Receiver::start().await, Receiver::start().await);
    hanging.respond(Reply::Hang);
    let (resetting, redirecting, flooding) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    resetting.respond(Reply::Reset);
    redirecting.respond(Reply::Redirect(elsewhere.url("/")));
    flooding.respond(Reply::Body {
        status: 200,
        bytes: vec![b'x'; 10 << 20],
    });
    let broken = [
        hanging.url("/"),
        dripping().await,
        resetting.url("/"),
        redirecting.url("/"),
        flooding.url("/"),
        // Nobody listens, nobody speaks TLS, nobody has the name.
        "http://127.0.0.1:1/".to_owned(),
        hanging.url("/").replace("http://", "https://"),
        "http://nobody.invalid/".to_owned(),
    ];
    let tenant = world.tenant("acme").await;
    for url in &broken {
        tenant.endpoint(url, &["broken"]).await;
    }
    let healthy = Receiver::start().await;
    tenant.endpoint(&healthy.url("/"), &["order.created"]).await;
    for n in 0..24 {
        tenant.publish("broken", json!(n)).await;
    }
    hanging.wait_in_flight(2, SOON).await;
    for n in 0..24 {
        tenant.publish("order.created", json!(n)).await;
    }
    healthy.wait_for(24, SOON).await;
    assert_eq!(hanging.in_flight(), 2, "it still hangs");
    flooding.wait_for(24, SOON).await;
    assert_eq!(elsewhere.count(), 0);
    world.stop().await;
}

//! Where the binaries connect to, and where they do not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use relaypost_testkit::{Receiver, Reply};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{SOON, delivery_ids, id, world};

#[tokio::test]
async fn a_proxy_of_the_environment_sees_nothing() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let seen = Arc::<AtomicUsize>::default();
    let count = seen.clone();
    // Hangs up on everybody: what went through it would fail.
    tokio::spawn(async move {
        while proxy.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (http, socks) = (format!("http://{address}"), format!("socks5h://{address}"));
    let world = world(&[
        ("HTTP_PROXY", &http),
        ("http_proxy", &http),
        ("HTTPS_PROXY", &http),
        ("https_proxy", &http),
        ("ALL_PROXY", &socks),
        ("all_proxy", &socks),
    ])
    .await;
    let tenant = world.tenant("acme").await;
    let receiver = Receiver::start().await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    // TLS goes straight there too: the answer is plain text, and that is what fails.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = format!("https://{}/", plain.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.read_u8().await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let (over_tls, _) = tenant.endpoint(&secure, &["tls.only"]).await;
    let message = tenant.publish("a.b", json!({})).await;
    for delivery in delivery_ids(&message) {
        tenant.wait_delivery(&delivery, "delivered", SOON).await;
    }
    let path = format!("/v1/endpoints/{over_tls}/test");
    let tested = tenant.api.post(&path, json!({})).await.expect(200);
    assert_eq!(tested["attempt"]["error_class"], "tls", "{tested}");
    assert_eq!((receiver.count(), seen.load(Ordering::SeqCst)), (1, 0));
    world.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = world(&[]).await;
    let tenant = world.tenant("acme").await;
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    receiver.respond(Reply::Redirect(elsewhere.url("/")));
    let (endpoint, _) = tenant.endpoint(&receiver.url("/"), &[]).await;
    let path = format!("/v1/endpoints/{endpoint}/test");
    let tested = tenant.api.post(&path, json!({})).await.expect(200);
    assert_eq!(tested["attempt"]["error_class"], "redirect", "{tested}");
    assert_eq!((receiver.count(), elsewhere.count()), (1, 0));
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_was_stored_before_a_stricter_rule_is_refused_at_its_test_and_at_its_attempts()
 {
    let world = world(&[]).await;
    let tenant = world.tenant("acme").await;
    let (endpoint, _) = tenant.endpoint("http://127.0.0.1:9/", &[]).await;
    for url in [
        "http://10.0.0.1/",
        "http://[::ffff:a9fe:a9fe]/latest/meta-data",
        "gopher://127.0.0.1:9/",
    ] {
        let statement = format!("UPDATE endpoints SET url = '{url}'");
        world.database.execute(&statement).await;
        let path = format!("/v1/endpoints/{endpoint}/test");
        let tested = tenant.api.post(&path, json!({})).await.expect(200);
        assert_eq!(tested["delivered"], false, "{tested}");
        assert_eq!(tested["attempt"]["error_class"], "ssrf", "{tested}");
        let message = tenant.publish("a.b", json!({})).await;
        let dead = tenant
            .wait_delivery(&delivery_ids(&message)[0], "dead", SOON)
            .await;
        assert_eq!(dead["reason"], "ssrf_blocked", "{dead}");
        assert_eq!(tenant.attempts(id(&dead)).await.len(), 1);
        let refused = tenant.api.post("/v1/endpoints", json!({"url": url})).await;
        assert_eq!(refused.status, 422, "{refused}");
    }
    world.stop().await;
}

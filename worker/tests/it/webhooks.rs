//! What happens to a webhook, attempt by attempt.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use relaypost_shared::{
    delivery::{AttemptOutcome, ErrorClass, Reason, Status},
    entities::endpoint_secret,
    queue::Lane,
};
use relaypost_testkit::{Receiver, Reply};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::fixture::{Bench, SECRET};

#[tokio::test]
async fn a_failing_delivery_walks_its_whole_schedule_and_then_is_dead() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Status(500));
    let endpoint = bench.endpoint(&receiver.url("/hook"), None).await;
    let id = bench.webhook(endpoint).await;
    let lane = bench.lane(Lane::Webhooks);
    lane.work(&[id]).await;
    for seconds in [5, 30, 120, 600, 1800, 7200, 18_000, 36_000] {
        let waiting = bench.delivery(id).await;
        assert_eq!(waiting.status, Status::Pending);
        let due = waiting.next_attempt_at.unwrap();
        let wait = (due - bench.now()).num_milliseconds();
        assert!(
            (seconds * 800..=seconds * 1200).contains(&wait),
            "{seconds} s, waited {wait} ms"
        );

        bench
            .clock
            .advance(due - bench.now() - TimeDelta::milliseconds(1));
        assert_eq!(
            bench.dispatch().await,
            0,
            "nothing is due a moment before its time"
        );
        bench.clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(bench.dispatch().await, 1);
        lane.work(&[id]).await;
    }
    let dead = bench.delivery(id).await;
    assert_eq!(
        (dead.status, dead.reason),
        (Status::Dead, Some(Reason::RetriesExhausted))
    );
    assert_eq!(
        (dead.attempt_count, dead.next_attempt_at, dead.dispatch_at),
        (9, None, None)
    );
    let attempts = bench.attempts().await;
    assert_eq!(attempts.len(), 9);
    assert!(attempts.iter().all(|one| one.error_class == Some(ErrorClass::Http5xx) && one.http_status == Some(500)));
    let hits = receiver.hits();
    assert_eq!(hits.len(), 9);
    assert!(
        hits.iter()
            .all(|hit| hit.header("webhook-id") == hits[0].header("webhook-id"))
    );
    assert!(
        hits.windows(2)
            .all(|pair| pair[0].header("webhook-timestamp") < pair[1].header("webhook-timestamp"))
    );
    bench.close().await;
}

#[tokio::test]
async fn a_failed_handshake_is_told_from_a_failed_connection() {
    let bench = Bench::new(&[]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // A client that hangs up first is fine as well.
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let id = bench.webhook(bench.endpoint(&url, None).await).await;
    bench.lane(Lane::Webhooks).work(&[id]).await;
    assert_eq!(bench.delivery(id).await.error_class, Some(ErrorClass::Tls));
    bench.close().await;
}

#[tokio::test]
async fn a_second_job_for_a_finished_delivery_sends_nothing() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let id = bench
        .webhook(bench.endpoint(&receiver.url("/"), None).await)
        .await;
    let lane = bench.lane(Lane::Webhooks);
    lane.work(&[id]).await;
    lane.work(&[id]).await;
    assert_eq!(receiver.count(), 1);
    let delivery = bench.delivery(id).await;
    assert_eq!(
        (delivery.status, delivery.attempt_count),
        (Status::Delivered, 1)
    );
    assert_eq!(bench.attempts().await[0].outcome, AttemptOutcome::Delivered);
    bench.close().await;
}

#[tokio::test]
async fn a_job_that_comes_before_its_time_sends_nothing() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Status(500));
    let id = bench
        .webhook(bench.endpoint(&receiver.url("/"), Some(vec![60])).await)
        .await;
    let lane = bench.lane(Lane::Webhooks);
    lane.work(&[id]).await;
    lane.work(&[id]).await;
    assert_eq!(
        (receiver.count(), bench.delivery(id).await.attempt_count),
        (1, 1)
    );
    bench.close().await;
}

#[tokio::test]
async fn a_slice_is_sent_together_and_each_delivery_gets_its_own_outcome() {
    let bench = Bench::new(&[]).await;
    let (good, bad) = (Receiver::start().await, Receiver::start().await);
    bad.respond(Reply::Status(500));
    let (to_good, to_bad) = (
        bench.endpoint(&good.url("/"), None).await,
        bench.endpoint(&bad.url("/"), None).await,
    );
    let mut ids = Vec::new();
    for endpoint in [to_good, to_bad].repeat(50) {
        ids.push(bench.webhook(endpoint).await);
    }
    bench.lane(Lane::Webhooks).work(&ids).await;
    assert_eq!((good.count(), bad.count()), (50, 50));
    for (index, id) in ids.iter().enumerate() {
        let expected = if index % 2 == 0 {
            Status::Delivered
        } else {
            Status::Pending
        };
        assert_eq!(bench.delivery(*id).await.status, expected);
    }
    assert_eq!(bench.attempts().await.len(), 100);
    bench.close().await;
}

#[tokio::test]
async fn a_request_carries_the_headers_of_the_contract_and_of_its_endpoint() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let id = bench
        .webhook(bench.endpoint(&receiver.url("/a?b=c"), None).await)
        .await;
    bench.lane(Lane::Webhooks).work(&[id]).await;
    let hit = receiver.hits().remove(0);
    assert_eq!((hit.method.as_str(), hit.path.as_str()), ("POST", "/a?b=c"));
    assert_eq!(hit.header("content-type"), Some("application/json"));
    assert_eq!(hit.header("x-own"), Some("yes"));
    assert!(hit.header("user-agent").unwrap().starts_with("Relaypost/"));
    let message = bench.delivery(id).await.message_id.unwrap().to_string();
    assert_eq!(hit.header("webhook-id"), Some(message.as_str()));
    let trace = hit.header("traceparent").unwrap();
    assert!(trace.starts_with("00-") && trace.len() == 55, "{trace}");
    let signed = standardwebhooks::Webhook::new(SECRET).unwrap();
    let at = bench.now().timestamp();
    assert_eq!(
        hit.header("webhook-signature"),
        Some(signed.sign(&message, at, b"{}").unwrap().as_str())
    );
    bench.close().await;
}

#[tokio::test]
async fn while_the_kind_of_signature_changes_every_receiver_can_verify() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    let now = bench.now();
    let hmac = endpoint_secret::Entity::find().one(&bench.db).await;
    let mut hmac = hmac.unwrap().unwrap().into_active_model();
    hmac.expires_at = Set(Some(now + TimeDelta::days(1)));
    hmac.update(&bench.db).await.unwrap();
    let seed = [7; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let both = [&seed[..], pair.public_key().as_ref()].concat();
    let key = format!("whsk_{}", BASE64_STANDARD.encode(both));
    bench.secret(endpoint, &key).await;
    let lane = bench.lane(Lane::Webhooks);
    lane.work(&[bench.webhook(endpoint).await]).await;
    bench.clock.advance(TimeDelta::days(1));
    lane.work(&[bench.webhook(endpoint).await]).await;

    let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    for (hit, kinds) in receiver.hits().iter().zip([&["v1a", "v1"][..], &["v1a"]]) {
        let header = hit.header("webhook-signature").unwrap();
        let parts = header.split(' ').map(|one| one.split_once(',').unwrap());
        let parts: Vec<(&str, &str)> = parts.collect();
        let versions: Vec<&str> = parts.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, kinds);
        let [id, at] = ["webhook-id", "webhook-timestamp"].map(|name| hit.header(name).unwrap());
        let signed = [format!("{id}.{at}.").as_bytes(), &hit.body].concat();
        let signature = BASE64_STANDARD.decode(parts[0].1).unwrap();
        public.verify(&signed, &signature).unwrap();
        if let Some((_, hmac)) = parts.get(1) {
            let library = standardwebhooks::Webhook::new(SECRET).unwrap();
            let expected = library.sign(id, at.parse().unwrap(), &hit.body).unwrap();
            assert_eq!(format!("v1,{hmac}"), expected);
        }
    }
    assert_eq!(receiver.count(), 2);
    bench.close().await;
}

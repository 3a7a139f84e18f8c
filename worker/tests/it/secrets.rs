//! What the worker does with secrets that it can open, and with those that it cannot.

use std::sync::Arc;

use chrono::TimeDelta;
use relaypost_shared::{
    delivery::Status,
    entities::{Pairs, endpoint, endpoint_secret},
    ids::EndpointId,
    queue::Lane,
    secrets::{Keyring, Place},
    settings::Settings,
};
use relaypost_testkit::{Receiver, Reply};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ColumnTrait as _, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _,
};

use crate::fixture::{Bench, SECRET};

const TOKEN: &str = "Bearer a-token-of-the-receiver";

fn keys(texts: &[&str]) -> Keyring {
    let keys: Vec<String> = texts.iter().map(|text| text.repeat(32)).collect();
    keys.join(",").parse().unwrap()
}

fn take_keys(bench: &mut Bench, keys: Keyring) {
    bench.settings = Arc::new(Settings {
        keyring: keys,
        ..(*bench.settings).clone()
    });
}

/// Seals the secret of the fixture and a header under these keys.
async fn seal(bench: &Bench, id: EndpointId, keys: &Keyring) {
    let secret = endpoint_secret::Entity::find()
        .filter(endpoint_secret::Column::EndpointId.eq(id))
        .one(&bench.db)
        .await;
    let secret = secret.unwrap().unwrap();
    let sealed = keys.seal(Place::endpoint_secret(secret.id), SECRET.as_bytes());
    let mut secret = secret.into_active_model();
    secret.secret = Set(sealed.unwrap());
    secret.update(&bench.db).await.unwrap();
    let headers = Pairs(vec![("authorization".into(), TOKEN.into())]);
    let endpoint = endpoint::Entity::find_by_id(id).one(&bench.db).await;
    let mut endpoint = endpoint.unwrap().unwrap().into_active_model();
    endpoint.headers = Set(endpoint::Model::seal_headers(keys, id, headers).unwrap());
    endpoint.update(&bench.db).await.unwrap();
}

#[tokio::test]
async fn a_webhook_whose_secret_cannot_be_opened_waits_without_an_attempt_and_others_go_out() {
    let mut bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let unreadable = bench.endpoint(&receiver.url("/lost"), Some(vec![])).await;
    let fine = bench.endpoint(&receiver.url("/fine"), None).await;
    seal(&bench, unreadable, &keys(&["0f"])).await;
    seal(&bench, fine, &keys(&["aa"])).await;
    take_keys(&mut bench, keys(&["aa"]));
    let (waiting, sent) = (bench.webhook(unreadable).await, bench.webhook(fine).await);
    bench.lane(Lane::Webhooks).work(&[waiting, sent]).await;
    assert_eq!(bench.delivery(sent).await.status, Status::Delivered);
    // Without a single retry in its schedule, so an attempt would have been its last.
    for _ in 0..3 {
        let row = bench.delivery(waiting).await;
        assert_eq!((row.status, row.attempt_count), (Status::Pending, 0));
        assert_eq!((row.reason, row.error_class), (None, None));
        assert_eq!(row.next_attempt_at, row.dispatch_at);
        let wait = row.dispatch_at.unwrap() - bench.now();
        assert!((60..=80).contains(&wait.num_seconds()), "{wait}");
        bench.clock.advance(wait - TimeDelta::milliseconds(1));
        assert_eq!(bench.dispatch().await, 0, "it does not spin");
        bench.clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(bench.dispatch().await, 1);
        bench.lane(Lane::Webhooks).work(&[waiting]).await;
    }
    assert_eq!(bench.attempts().await.len(), 1);
    assert_eq!(receiver.count(), 1);

    take_keys(&mut bench, keys(&["aa", "0f"]));
    bench.clock.advance(TimeDelta::seconds(80));
    bench.lane(Lane::Webhooks).work(&[waiting]).await;
    let row = bench.delivery(waiting).await;
    assert_eq!((row.status, row.attempt_count), (Status::Delivered, 1));
    let hit = receiver.hits().pop().unwrap();
    assert_eq!(hit.header("authorization"), Some(TOKEN));
    bench.close().await;
}

#[tokio::test]
async fn an_answer_that_repeats_an_endpoints_headers_is_kept_without_them() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Body {
        status: 500,
        bytes: format!(r#"{{"you sent": "{TOKEN}"}}"#).into_bytes(),
    });
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    seal(&bench, endpoint, &Keyring::of_development()).await;
    let id = bench.webhook(endpoint).await;
    bench.lane(Lane::Webhooks).work(&[id]).await;
    let kept = bench.attempts().await.remove(0).response_snippet;
    assert_eq!(kept.as_deref(), Some(r#"{"you sent": "[hidden]"}"#));
    bench.close().await;
}

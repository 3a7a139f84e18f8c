//! Sending an endpoint what it has missed.

use std::collections::HashSet;

use chrono::TimeDelta;
use futures::future::join_all;
use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, EndpointStatus, ReplayKind, ReplayStatus, Status},
    entities::{Texts, endpoint},
    ids::{EndpointId, MessageId},
    queue::Lane,
    replay::{Missed, Selection},
    store::fixtures::{delivery, message, payload},
};
use relaypost_testkit::Receiver;
use relaypost_worker::replay::step;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter,
};
use uuid::Uuid;

use crate::fixture::Bench;

/// The `n`th message of this bench's time: a generated id sorts after every other of this process, and other tests may
/// have set their clocks ahead.
fn message(bench: &Bench, n: u128, event_type: &str, channels: &[&str]) -> message::Model {
    let floor = MessageId::floor(bench.now()).uuid().as_u128();
    message::Model {
        id: MessageId::from_uuid(Uuid::from_u128(floor + n)),
        tenant_id: bench.tenant,
        event_type: event_type.into(),
        channels: Texts(channels.iter().map(|one| (*one).to_owned()).collect()),
        metadata: None,
        ordering_key: None,
        request_id: "req-test".into(),
        traceparent: None,
        created_at: bench.now(),
        deliver_at: None,
        expires_at: None,
        cancelled_at: None,
    }
}

async fn insert(bench: &Bench, rows: Vec<message::Model>) -> Vec<MessageId> {
    let ids = rows.iter().map(|row| row.id).collect();
    for chunk in rows.chunks(500) {
        let payloads = chunk.iter().map(|row| payload::Model {
            message_id: row.id,
            payload: b"{}".to_vec(),
        });
        payload::Entity::insert_many(payloads.map(IntoActiveModel::into_active_model))
            .exec_without_returning(&bench.db)
            .await
            .unwrap();
        let chunk = chunk
            .iter()
            .cloned()
            .map(IntoActiveModel::into_active_model);
        message::Entity::insert_many(chunk)
            .exec_without_returning(&bench.db)
            .await
            .unwrap();
    }
    ids
}

fn since(bench: &Bench, since: Timestamp, endpoint_id: EndpointId) -> Selection {
    Selection::Missed(Missed {
        endpoint_id,
        since,
        until: bench.now(),
    })
}

async fn wants(bench: &Bench, endpoint: EndpointId, types: &[&str], channels: &[&str]) {
    let texts = |list: &[&str]| Texts(list.iter().map(|one| (*one).to_owned()).collect());
    let row = endpoint::ActiveModel {
        id: Set(endpoint),
        event_types: Set(texts(types)),
        channels: Set(texts(channels)),
        ..Default::default()
    };
    row.update(&bench.db).await.unwrap();
}

async fn of(bench: &Bench, message: MessageId) -> Vec<delivery::Model> {
    delivery::Entity::find()
        .filter(delivery::Column::MessageId.eq(message))
        .all(&bench.db)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_endpoint_gets_what_failed_and_what_it_missed_and_nothing_twice() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    wants(&bench, endpoint, &["a", "b"], &["x"]).await;
    let too_early = insert(&bench, vec![message(&bench, 0, "a", &["x"])]).await;
    bench.clock.advance(TimeDelta::minutes(1));
    let begin = bench.now();
    let rows = [
        ("a", "x"),
        ("a", "x"),
        ("b", "x"),
        ("c", "x"),
        ("a", "y"),
        ("a", "x"),
    ];
    let rows = (0..).zip(rows);
    let rows = rows.map(|(n, (kind, channel))| message(&bench, n, kind, &[channel]));
    let mut rows: Vec<_> = rows.collect();
    let later = bench.now() + TimeDelta::hours(2);
    rows[5].deliver_at = Some(later);
    let messages = insert(&bench, rows).await;
    let to = |message| delivery::Model {
        message_id: Some(message),
        endpoint_id: Some(endpoint),
        ..bench.pending(DeliveryKind::Webhook)
    };
    let delivered = delivery::Model {
        status: Status::Delivered,
        finished_at: Some(bench.now()),
        ..to(messages[0])
    };
    bench.insert(delivered).await;
    let [failed] = bench.dead(1, &to(messages[1])).await.try_into().unwrap();
    bench.dead(1, &to(too_early[0])).await;
    bench.clock.advance(TimeDelta::minutes(1));
    let too_late = insert(&bench, vec![message(&bench, 0, "a", &["x"])]).await;

    let job = since(&bench, begin, endpoint);
    let job = bench.job(ReplayKind::Recover, job, None).await;
    assert_eq!(bench.job_row(job).await.total, 1);
    assert_eq!(bench.release_all().await, 3);
    let row = bench.job_row(job).await;
    assert_eq!([row.total, row.released, row.skipped], [3, 3, 0]);
    assert_eq!(bench.delivery(failed).await.replay_id, Some(job));
    let [missed] = of(&bench, messages[2]).await.try_into().unwrap();
    assert_eq!(
        (missed.replay_id, missed.endpoint_id),
        (Some(job), Some(endpoint))
    );
    assert!(missed.replayed_at.is_some() && missed.dispatch_at <= Some(bench.now()));
    let [waits] = of(&bench, messages[5]).await.try_into().unwrap();
    assert_eq!(
        (waits.next_attempt_at, waits.dispatch_at),
        (Some(later), Some(later))
    );
    for (message, wanted) in [
        (messages[0], [Status::Delivered].as_slice()),
        (messages[3], &[]),
        (messages[4], &[]),
        (too_early[0], &[Status::Dead]),
        (too_late[0], &[]),
    ] {
        let found: Vec<Status> = of(&bench, message)
            .await
            .iter()
            .map(|row| row.status)
            .collect();
        assert_eq!(found, wanted);
    }
    bench.lane(Lane::Bulk).work(&[failed, missed.id]).await;
    bench.clock.advance(TimeDelta::hours(2));
    bench.lane(Lane::Bulk).work(&[waits.id]).await;
    let row = bench.job_row(job).await;
    assert_eq!((row.delivered, row.status), (3, ReplayStatus::Completed));
    assert_eq!((receiver.count(), receiver.distinct()), (3, 3));
    bench.close().await;
}

#[tokio::test]
async fn jobs_that_recover_the_same_endpoint_at_once_make_each_delivery_once() {
    let bench = Bench::new(&[]).await;
    let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
    let begin = bench.now();
    let rows = (0..2_500).map(|n| message(&bench, n, "a", &[])).collect();
    insert(&bench, rows).await;
    bench.clock.advance(TimeDelta::seconds(1));
    for _ in 0..3 {
        let job = since(&bench, begin, endpoint);
        bench.job(ReplayKind::Recover, job, None).await;
    }
    let mut batches = HashSet::new();
    for _ in 0..40 {
        let steps = (0..3).map(|_| step(&bench.db, &bench.queue, bench.now()));
        for one in join_all(steps).await {
            batches.insert(one.unwrap().released);
        }
        bench.clock.advance(TimeDelta::milliseconds(100));
    }
    let made = delivery::Entity::find().all(&bench.db).await.unwrap();
    let messages: HashSet<_> = made.iter().map(|row| row.message_id).collect();
    assert_eq!((made.len(), messages.len()), (2_500, 2_500));
    assert!(batches.iter().all(|batch| *batch <= 1_500), "{batches:?}");
    bench.close().await;
}

#[tokio::test]
async fn recovering_stops_when_the_endpoint_is_disabled_or_deleted() {
    for disabled in [true, false] {
        let bench = Bench::new(&[]).await;
        let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
        let begin = bench.now();
        let rows = (0..1_200).map(|n| message(&bench, n, "a", &[])).collect();
        insert(&bench, rows).await;
        bench.clock.advance(TimeDelta::seconds(1));
        let job = since(&bench, begin, endpoint);
        let job = bench.job(ReplayKind::Recover, job, None).await;
        assert_eq!(bench.release().await, 0, "nothing failed");
        assert_eq!(bench.release().await, 500);
        let mut gone = endpoint::ActiveModel {
            id: Set(endpoint),
            ..Default::default()
        };
        if disabled {
            gone.status = Set(EndpointStatus::Disabled);
        } else {
            gone.deleted_at = Set(Some(bench.now()));
        }
        gone.update(&bench.db).await.unwrap();
        bench.clock.advance(TimeDelta::seconds(1));
        assert_eq!(bench.release_all().await, 0);
        let row = bench.job_row(job).await;
        assert_eq!((row.released, row.next_at), (500, None));
        assert_eq!(
            delivery::Entity::find().count(&bench.db).await.unwrap(),
            500
        );
        bench.close().await;
    }
}

#[tokio::test]
async fn what_was_cancelled_or_is_too_late_was_not_missed_and_what_can_expire_still_does() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    let begin = bench.now();
    let mut rows: Vec<_> = (0..4).map(|n| message(&bench, n, "a", &[])).collect();
    rows[0].cancelled_at = Some(begin);
    rows[1].expires_at = Some(begin + TimeDelta::seconds(30));
    let later = begin + TimeDelta::hours(1);
    rows[2].expires_at = Some(later);
    let messages = insert(&bench, rows).await;
    bench.clock.advance(TimeDelta::minutes(1));
    bench
        .job(ReplayKind::Recover, since(&bench, begin, endpoint), None)
        .await;
    bench.release_all().await;
    let mut expiries = Vec::new();
    for message in messages {
        let made = of(&bench, message).await;
        expiries.push(made.first().map(|row| row.expires_at));
    }
    assert_eq!(expiries, [None, None, Some(Some(later)), Some(None)]);
    bench.close().await;
}

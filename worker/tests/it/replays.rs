//! What happens to a delivery that was replayed.

use chrono::TimeDelta;
use relaypost_shared::{
    delivery::{DeliveryKind, Reason, Status},
    entities::endpoint,
    ids::DeliveryId,
    queue::{Lane, Queue},
    store::fixtures::delivery,
};
use relaypost_testkit::{Receiver, Reply};
use relaypost_worker::dispatch;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};

use crate::fixture::Bench;

/// Replays a dead delivery as the API does.
async fn replay(bench: &Bench, id: DeliveryId) {
    let dead = bench.delivery(id).await;
    assert_eq!(dead.status, Status::Dead);
    assert!(dead.dead_at.is_some() && dead.dead_at == dead.finished_at);
    let attempts = dead.attempt_count;
    let mut row = dead.into_active_model();
    row.status = Set(Status::Pending);
    row.reason = Set(None);
    row.finished_at = Set(None);
    row.dead_at = Set(None);
    row.dispatch_at = Set(Some(bench.now()));
    row.replayed_at = Set(Some(bench.now()));
    row.schedule_start = Set(attempts);
    row.update(&bench.db).await.unwrap();
}

async fn depths(bench: &Bench) -> [u64; 3] {
    let mut depths = [0; 3];
    for (depth, lane) in depths.iter_mut().zip(Lane::ALL) {
        *depth = bench.queue.depth(lane).await.unwrap();
    }
    depths
}

#[tokio::test]
async fn a_replayed_delivery_starts_its_schedule_anew_and_keeps_its_webhook_id() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Status(500));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![60])).await;
    let id = bench.webhook(endpoint).await;
    let (live, bulk) = (bench.lane(Lane::Webhooks), bench.lane(Lane::Bulk));
    live.work(&[id]).await;
    bench.clock.advance(TimeDelta::seconds(72));
    live.work(&[id]).await;
    assert_eq!(bench.delivery(id).await.attempt_count, 2);

    replay(&bench, id).await;
    bulk.work(&[id]).await;
    let waiting = bench.delivery(id).await;
    assert_eq!(
        (waiting.status, waiting.attempt_count),
        (Status::Pending, 3)
    );
    let wait = (waiting.next_attempt_at.unwrap() - bench.now()).num_seconds();
    assert!((48..=72).contains(&wait), "{wait} s");
    bench.clock.advance(TimeDelta::seconds(72));
    bulk.work(&[id]).await;
    let dead = bench.delivery(id).await;
    assert_eq!(
        (dead.status, dead.reason, dead.attempt_count),
        (Status::Dead, Some(Reason::RetriesExhausted), 4)
    );

    replay(&bench, id).await;
    receiver.respond(Reply::Status(200));
    bulk.work(&[id]).await;
    let delivered = bench.delivery(id).await;
    assert_eq!(
        (delivered.status, delivered.attempt_count, delivered.dead_at),
        (Status::Delivered, 5, None)
    );
    let mut numbers: Vec<i32> = bench
        .attempts()
        .await
        .iter()
        .map(|one| one.number)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!((receiver.count(), receiver.distinct()), (5, 1));
    bench.close().await;
}

#[tokio::test]
async fn replays_travel_in_the_bulk_lane_from_their_first_job_to_their_last() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Status(500));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![60])).await;
    let webhook = bench.webhook(endpoint).await;
    let row = delivery::Model {
        dispatch_at: Some(bench.now()),
        replayed_at: Some(bench.now()),
        ..bench.delivery(webhook).await
    };
    row.into_active_model()
        .reset_all()
        .update(&bench.db)
        .await
        .unwrap();
    for kind in [DeliveryKind::Webhook, DeliveryKind::Email] {
        for replayed_at in [None, Some(bench.now())] {
            let row = delivery::Model {
                dispatch_at: Some(bench.now()),
                replayed_at,
                ..bench.pending(kind)
            };
            bench.insert(row).await;
        }
    }
    assert_eq!(bench.dispatch().await, 5);
    assert_eq!(depths(&bench).await, [1, 1, 3]);

    bench.lane(Lane::Bulk).work(&[webhook]).await;
    bench.clock.advance(TimeDelta::minutes(11));
    let fresh = Queue::open(None).unwrap();
    dispatch::step(&bench.db, &fresh, bench.now())
        .await
        .unwrap();
    assert_eq!(
        fresh.depth(Lane::Bulk).await.unwrap(),
        3,
        "its retry, and two claims that ran out"
    );
    bench.close().await;
}

#[tokio::test]
async fn a_full_bulk_lane_holds_no_live_delivery_back() {
    let bench = Bench::new(&[]).await;
    bench.fill(Lane::Bulk, 1_000).await;
    let rows = (0..2_000).map(|_| {
        let row = delivery::Model {
            dispatch_at: Some(bench.now()),
            replayed_at: Some(bench.now()),
            ..bench.pending(DeliveryKind::Webhook)
        };
        delivery::ActiveModel::from(row)
    });
    let rows: Vec<_> = rows.collect();
    for chunk in rows.chunks(500) {
        delivery::Entity::insert_many(chunk.to_vec())
            .exec_without_returning(&bench.db)
            .await
            .unwrap();
    }
    while bench.dispatch().await > 0 {}
    assert_eq!(depths(&bench).await, [0, 0, dispatch::FULL]);
    let live = delivery::Model {
        dispatch_at: Some(bench.now()),
        ..bench.pending(DeliveryKind::Webhook)
    };
    bench.insert(live).await;
    assert_eq!(bench.dispatch().await, 1);
    assert_eq!(depths(&bench).await, [1, 0, dispatch::FULL]);
    bench.close().await;
}

#[tokio::test]
async fn a_replay_to_a_deleted_endpoint_dies_again_without_an_attempt() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Status(500));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![])).await;
    let id = bench.webhook(endpoint).await;
    bench.lane(Lane::Webhooks).work(&[id]).await;
    replay(&bench, id).await;
    endpoint::ActiveModel {
        id: Set(endpoint),
        deleted_at: Set(Some(bench.now())),
        ..Default::default()
    }
    .update(&bench.db)
    .await
    .unwrap();
    bench.lane(Lane::Bulk).work(&[id]).await;
    let dead = bench.delivery(id).await;
    assert_eq!(
        (dead.status, dead.reason, dead.attempt_count),
        (Status::Dead, Some(Reason::EndpointDeleted), 1)
    );
    assert!(dead.dead_at.is_some());
    assert_eq!(receiver.count(), 1);
    bench.close().await;
}

//! The sweep.

use chrono::TimeDelta;
use relaypost_shared::{
    delivery::DeliveryKind,
    queue::{Lane, Queue},
    store::fixtures::delivery,
};
use relaypost_testkit::Receiver;
use relaypost_worker::sweep::{Found, Full, Recent};
use sea_orm::{EntityTrait as _, IntoActiveModel as _};

use crate::fixture::Bench;

#[tokio::test]
async fn a_delivery_that_was_never_queued_is_found_and_queued_once() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    bench.webhook(endpoint).await;
    bench.email("user@example.test").await;
    let mut sweep = Recent::begin(bench.now());

    let fresh = sweep
        .step(&bench.db, &bench.queue, bench.now())
        .await
        .unwrap();
    assert_eq!(
        fresh,
        Found {
            requeued: 0,
            complete: true
        },
        "a push that is on its way is left alone"
    );
    bench.clock.advance(TimeDelta::seconds(10));
    let found = sweep
        .step(&bench.db, &bench.queue, bench.now())
        .await
        .unwrap();
    assert_eq!(
        found,
        Found {
            requeued: 2,
            complete: true
        }
    );
    let again = sweep
        .step(&bench.db, &bench.queue, bench.now())
        .await
        .unwrap();
    assert_eq!(
        again.requeued, 0,
        "what is in the queue is not queued again"
    );
    for lane in [Lane::Webhooks, Lane::Emails] {
        assert_eq!(bench.queue.depth(lane).await.unwrap(), 1);
    }
    bench.close().await;
}

#[tokio::test]
async fn the_recent_walk_never_passes_what_is_not_settled() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    let mut sweep = Recent::begin(bench.now());
    let first = bench.webhook(endpoint).await;
    let stuck = bench.webhook(endpoint).await;
    let last = bench.webhook(endpoint).await;
    bench.lane(Lane::Webhooks).work(&[first, last]).await;
    for _ in 0..3 {
        bench.clock.advance(TimeDelta::hours(1));
        // Each time the queue has been lost.
        let empty = Queue::open(None).unwrap();
        let found = sweep.step(&bench.db, &empty, bench.now()).await.unwrap();
        assert_eq!(found.requeued, 1);
    }
    bench.lane(Lane::Webhooks).work(&[stuck]).await;
    let empty = Queue::open(None).unwrap();
    let found = sweep.step(&bench.db, &empty, bench.now()).await.unwrap();
    assert_eq!(found.requeued, 0);
    bench.close().await;
}

#[tokio::test]
async fn the_recent_walk_finds_an_old_backlog_again_as_often_as_it_is_lost() {
    let bench = Bench::new(&[]).await;
    let mut sweep = Recent::begin(bench.now());
    // More than it remembers one by one.
    for _ in 0..5 {
        let rows = (0..500).map(|_| bench.pending(DeliveryKind::Webhook).into_active_model());
        delivery::Entity::insert_many(rows)
            .exec_without_returning(&bench.db)
            .await
            .unwrap();
    }
    for _ in 0..3 {
        bench.clock.advance(TimeDelta::hours(1));
        let empty = Queue::open(None).unwrap();
        let mut requeued = 0;
        loop {
            let found = sweep.step(&bench.db, &empty, bench.now()).await.unwrap();
            requeued += found.requeued;
            if found.complete {
                break;
            }
        }
        assert_eq!(requeued, 2_500);
    }
    bench.close().await;
}

#[tokio::test]
async fn the_full_walk_finds_what_was_accepted_by_a_clock_that_is_days_wrong() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    bench.webhook(endpoint).await;
    bench.clock.advance(TimeDelta::days(3));
    let settled = bench.webhook(endpoint).await;
    bench.lane(Lane::Webhooks).work(&[settled]).await;
    bench.webhook(endpoint).await;
    let mut sweep = Full::default();
    let found = sweep
        .step(&bench.db, &bench.queue, bench.now())
        .await
        .unwrap();
    assert_eq!(
        found,
        Found {
            requeued: 2,
            complete: true
        }
    );
    let again = sweep
        .step(&bench.db, &bench.queue, bench.now())
        .await
        .unwrap();
    assert_eq!(again.requeued, 0);
    bench.close().await;
}

#[tokio::test]
async fn the_full_walk_finds_the_lost_job_of_a_retry_before_its_claim_runs_out() {
    let bench = Bench::new(&[]).await;
    let mut due = bench.pending(DeliveryKind::Webhook);
    (due.next_attempt_at, due.dispatch_at) = (Some(bench.now()), Some(bench.now()));
    due.attempt_count = 1;
    bench.insert(due).await;
    let later = bench.now() + TimeDelta::hours(1);
    let mut waiting = bench.pending(DeliveryKind::Webhook);
    (waiting.next_attempt_at, waiting.dispatch_at) = (Some(later), Some(later));
    bench.insert(waiting).await;
    assert_eq!(bench.dispatch().await, 1);
    let emptied = Queue::open(None).unwrap();
    let found = Full::default().step(&bench.db, &emptied, bench.now()).await;
    assert_eq!(found.unwrap().requeued, 1, "and not what is not due");
    bench.close().await;
}

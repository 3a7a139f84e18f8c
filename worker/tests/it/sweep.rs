//! The sweep.

use chrono::TimeDelta;
use relaypost_shared::queue::Lane;
use relaypost_testkit::Receiver;
use relaypost_worker::sweep::{Found, Sweep};

use crate::fixture::Bench;

#[tokio::test]
async fn a_delivery_that_was_never_queued_is_found_and_queued_once() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    bench.webhook(endpoint).await;
    bench.email("user@example.test").await;
    let mut sweep = Sweep::begin(&bench.db).await.unwrap();

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
async fn the_walk_begins_behind_what_is_settled_and_never_passes_what_is_not() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    let (first, stuck, last) = (
        bench.webhook(endpoint).await,
        bench.webhook(endpoint).await,
        bench.webhook(endpoint).await,
    );
    bench.lane(Lane::Webhooks).work(&[first, last]).await;
    bench.clock.advance(TimeDelta::hours(1));
    let mut sweep = Sweep::begin(&bench.db).await.unwrap();
    assert_eq!(
        sweep
            .step(&bench.db, &bench.queue, bench.now())
            .await
            .unwrap()
            .requeued,
        1
    );
    // The queue is lost, and so is the process: the next walk must still find the one that is not settled.
    let lost = relaypost_shared::queue::Queue::open(None).unwrap();
    let mut sweep = Sweep::begin(&bench.db).await.unwrap();
    assert_eq!(
        sweep
            .step(&bench.db, &lost, bench.now())
            .await
            .unwrap()
            .requeued,
        1
    );
    bench.lane(Lane::Webhooks).work(&[stuck]).await;
    assert_eq!(
        sweep
            .step(&bench.db, &lost, bench.now())
            .await
            .unwrap()
            .requeued,
        0
    );
    bench.close().await;
}

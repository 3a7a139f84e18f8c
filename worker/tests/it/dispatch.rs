//! The dispatcher.

use std::collections::HashSet;

use chrono::TimeDelta;
use futures::future::join_all;
use relaypost_shared::{
    delivery::DeliveryKind,
    queue::{Lane, Queue},
    store::fixtures::delivery,
};
use relaypost_worker::dispatch;
use sea_orm::EntityTrait;

use crate::fixture::Bench;

/// Deliveries whose time has come.
async fn due(bench: &Bench, count: usize) {
    let rows: Vec<delivery::ActiveModel> = (0..count)
        .map(|_| {
            let row = bench.pending(DeliveryKind::Webhook);
            delivery::Model {
                dispatch_at: Some(bench.now()),
                next_attempt_at: Some(bench.now()),
                ..row
            }
            .into()
        })
        .collect();
    for chunk in rows.chunks(500) {
        delivery::Entity::insert_many(chunk.to_vec())
            .exec_without_returning(&bench.db)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn any_number_of_dispatchers_move_each_delivery_once() {
    let bench = Bench::new(&[]).await;
    due(&bench, 2_000).await;
    // Each dispatcher has a queue of its own here, so that a second claim of the same delivery would show.
    let queues: Vec<Queue> = (0..8).map(|_| Queue::open(None).unwrap()).collect();
    let steps = queues
        .iter()
        .map(|queue| dispatch::step(&bench.db, queue, bench.now()));
    let moved: u64 = join_all(steps).await.into_iter().map(Result::unwrap).sum();
    let mut depth = 0;
    for queue in &queues {
        depth += queue.depth(Lane::Webhooks).await.unwrap();
    }
    assert_eq!((moved, depth), (2_000, 2_000));
    assert_eq!(bench.dispatch().await, 0);
    bench.close().await;
}

#[tokio::test]
async fn a_step_is_bounded_and_a_full_lane_gets_no_more() {
    let bench = Bench::new(&[]).await;
    bench.fill(Lane::Webhooks, 2_000).await;
    due(&bench, 4_000).await;
    let mut steps = HashSet::new();
    let mut total = 0;
    loop {
        let moved = bench.dispatch().await;
        if moved == 0 {
            break;
        }
        steps.insert(moved);
        total += moved;
    }
    assert_eq!((total, steps), (2_000, HashSet::from([dispatch::BATCH])));
    bench.close().await;
}

#[tokio::test]
async fn a_claim_whose_job_was_lost_is_moved_again_after_ten_minutes() {
    let bench = Bench::new(&[]).await;
    due(&bench, 1).await;
    assert_eq!(bench.dispatch().await, 1);
    let fresh = Queue::open(None).unwrap();
    assert_eq!(
        dispatch::step(&bench.db, &fresh, bench.now())
            .await
            .unwrap(),
        0
    );
    bench.clock.advance(TimeDelta::seconds(601));
    assert_eq!(
        dispatch::step(&bench.db, &fresh, bench.now())
            .await
            .unwrap(),
        1
    );
    bench.close().await;
}

#[tokio::test]
async fn what_was_left_over_is_found_by_the_look_at_everything() {
    let bench = Bench::new(&[]).await;
    due(&bench, 3).await;
    bench.clock.advance(TimeDelta::minutes(2));
    due(&bench, 2).await;
    let recent = dispatch::step_recent(&bench.db, &bench.queue, bench.now());
    assert_eq!(recent.await.unwrap(), 2);
    let everything = dispatch::step(&bench.db, &bench.queue, bench.now());
    assert_eq!(everything.await.unwrap(), 3);
    bench.close().await;
}

//! Jobs that replay or discard many dead letters.

use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use relaypost_shared::{
    delivery::{DeliveryKind, Outcome, ReplayKind, ReplayStatus, Status},
    ids::{DeliveryId, ReplayId, TenantId},
    queue::{Job, Lane, Queue},
    replay::{Filter, Selection, reviving},
    store::fixtures::{delivery, replay},
};
use relaypost_testkit::{Receiver, Reply};
use relaypost_worker::{
    load::{Loaded, Target},
    record,
    replay::step,
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter,
};

use crate::fixture::Bench;

const TICK: TimeDelta = TimeDelta::milliseconds(100);

fn all() -> Selection {
    Selection::Filter(Filter::default())
}

/// Dead letters that go nowhere.
async fn dead(bench: &Bench, count: usize) -> Vec<DeliveryId> {
    let like = bench.pending(DeliveryKind::Webhook);
    bench.dead(count, &like).await
}

/// A webhook of its own to this receiver, which died.
async fn dead_webhook(bench: &Bench, endpoint: relaypost_shared::ids::EndpointId) -> DeliveryId {
    let message = bench.message(b"{}").await;
    let like = delivery::Model {
        message_id: Some(message),
        endpoint_id: Some(endpoint),
        ..bench.pending(DeliveryKind::Webhook)
    };
    bench.dead(1, &like).await[0]
}

async fn count(bench: &Bench, status: Status) -> u64 {
    delivery::Entity::find()
        .filter(delivery::Column::Status.eq(status))
        .count(&bench.db)
        .await
        .unwrap()
}

/// What is cancelled as the API does it.
async fn cancel(bench: &Bench, job: ReplayId) {
    let row = replay::ActiveModel {
        id: Set(job),
        status: Set(ReplayStatus::Cancelled),
        next_at: Set(None),
        finished_at: Set(Some(bench.now())),
        ..Default::default()
    };
    row.update(&bench.db).await.unwrap();
}

fn outcomes(job: &replay::Model) -> [i32; 5] {
    [
        job.total,
        job.released,
        job.delivered,
        job.dead,
        job.skipped,
    ]
}

#[tokio::test]
async fn ten_thousand_dead_letters_leave_at_their_pace_in_every_second() {
    let bench = Bench::new(&[]).await;
    dead(&bench, 10_000).await;
    let job = bench.job(ReplayKind::Replay, all(), Some(500)).await;
    assert_eq!(bench.release().await, 0, "nothing is earned yet");
    let mut seconds = Vec::new();
    while bench.job_row(job).await.next_at.is_some() {
        let mut second = 0;
        for _ in 0..10 {
            bench.clock.advance(TICK);
            second += bench.release().await;
        }
        seconds.push(second);
    }
    let last = seconds.pop().unwrap();
    assert!(
        seconds.iter().all(|second| (450..=550).contains(second)),
        "{seconds:?}, {last}"
    );
    assert_eq!(seconds.iter().sum::<u64>() + last, 10_000);
    assert!((19..=22).contains(&seconds.len()), "{seconds:?}, {last}");
    assert_eq!(count(&bench, Status::Pending).await, 10_000);
    assert_eq!(
        outcomes(&bench.job_row(job).await),
        [10_000, 10_000, 0, 0, 0]
    );
    bench.close().await;
}

#[tokio::test]
async fn a_pace_that_no_step_divides_is_exact_over_time() {
    let bench = Bench::new(&[]).await;
    dead(&bench, 500).await;
    bench.job(ReplayKind::Replay, all(), Some(7)).await;
    let mut released = 0;
    for _ in 0..600 {
        bench.clock.advance(TimeDelta::milliseconds(97));
        released += bench.release().await;
    }
    // 58.2 s at 7 a second.
    assert!((406..=407).contains(&released), "{released}");
    bench.close().await;
}

#[tokio::test]
async fn workers_that_step_at_once_keep_one_pace_and_release_each_delivery_once() {
    let bench = Bench::new(&[]).await;
    dead(&bench, 1_500).await;
    let job = bench.job(ReplayKind::Replay, all(), Some(500)).await;
    let mut released = 0;
    for tick in 1..=40 {
        bench.clock.advance(TICK);
        let steps = (0..4).map(|_| step(&bench.db, &bench.queue, bench.now()));
        let steps = join_all(steps).await;
        released += steps
            .into_iter()
            .map(|one| one.unwrap().released)
            .sum::<u64>();
        assert!(released <= tick * 50, "{released} in {tick} ticks");
    }
    assert_eq!(released, 1_500);
    assert_eq!(outcomes(&bench.job_row(job).await), [1_500, 1_500, 0, 0, 0]);
    bench.close().await;
}

#[tokio::test]
async fn two_jobs_over_the_same_dead_letters_send_each_of_them_once() {
    let bench = Bench::new(&[]).await;
    let ids = dead(&bench, 2_000).await;
    let by_filter = bench.job(ReplayKind::Replay, all(), None).await;
    let by_ids = bench
        .job(ReplayKind::Replay, Selection::Ids(ids), None)
        .await;
    let mut released = 0;
    while bench.job_row(by_filter).await.next_at.is_some()
        || bench.job_row(by_ids).await.next_at.is_some()
    {
        let steps = (0..4).map(|_| step(&bench.db, &bench.queue, bench.now()));
        for one in join_all(steps).await {
            released += one.unwrap().released;
        }
        bench.clock.advance(TICK);
    }
    assert_eq!(
        (released, count(&bench, Status::Pending).await),
        (2_000, 2_000)
    );
    let jobs = [bench.job_row(by_filter).await, bench.job_row(by_ids).await];
    for job in &jobs {
        let theirs = delivery::Entity::find().filter(delivery::Column::ReplayId.eq(job.id));
        let theirs = theirs.count(&bench.db).await.unwrap();
        assert_eq!(u64::try_from(job.released).unwrap(), theirs);
        assert_eq!(job.released + job.skipped, 2_000);
    }
    bench.close().await;
}

#[tokio::test]
async fn after_a_pause_of_all_workers_no_more_than_a_second_is_made_up_for() {
    let bench = Bench::new(&[]).await;
    dead(&bench, 2_000).await;
    bench.job(ReplayKind::Replay, all(), Some(200)).await;
    bench.clock.advance(TimeDelta::seconds(1));
    assert_eq!(bench.release().await, 200);
    bench.clock.advance(TimeDelta::hours(1));
    assert_eq!(bench.release().await, 200);
    assert_eq!(bench.release().await, 0);
    bench.clock.advance(TimeDelta::seconds(1));
    assert_eq!(bench.release().await, 200);
    bench.close().await;
}

#[tokio::test]
async fn a_cancelled_job_releases_nothing_more_and_goes_on_counting() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    for _ in 0..5 {
        dead_webhook(&bench, endpoint).await;
    }
    let job = bench.job(ReplayKind::Replay, all(), Some(20)).await;
    bench.clock.advance(TICK);
    assert_eq!(bench.release().await, 2);
    cancel(&bench, job).await;
    for _ in 0..20 {
        bench.clock.advance(TICK);
        assert_eq!(bench.release().await, 0);
    }
    let released = delivery::Entity::find().filter(delivery::Column::Status.eq(Status::Pending));
    let released = released.all(&bench.db).await.unwrap();
    let released: Vec<DeliveryId> = released.iter().map(|row| row.id).collect();
    bench.lane(Lane::Bulk).work(&released).await;
    let row = bench.job_row(job).await;
    assert_eq!(outcomes(&row), [5, 2, 2, 0, 0]);
    assert_eq!(row.status, ReplayStatus::Cancelled);
    assert_eq!(count(&bench, Status::Dead).await, 3);
    bench.close().await;
}

#[tokio::test]
async fn a_job_is_complete_when_all_that_it_released_has_ended_and_its_outcomes_add_up() {
    let bench = Bench::new(&[]).await;
    let receiver = Receiver::start().await;
    let (good, bad) = (receiver.url("/good"), receiver.url("/bad"));
    receiver.respond(Reply::func(|hit| {
        let status = if hit.path == "/good" { 200 } else { 500 };
        (status, vec![], vec![])
    }));
    let good = bench.endpoint(&good, Some(vec![])).await;
    let bad = bench.endpoint(&bad, Some(vec![])).await;
    let mut ids = Vec::new();
    for endpoint in [good, good, good, bad, bad] {
        ids.push(dead_webhook(&bench, endpoint).await);
    }
    let before = bench.delivery(ids[0]).await;
    // Not this tenant's: an id that is nobody's looks the same.
    let unknown = DeliveryId::floor(bench.now() + TimeDelta::seconds(1));
    let mut selected = ids.clone();
    selected.push(unknown);
    let job = bench
        .job(ReplayKind::Replay, Selection::Ids(selected), None)
        .await;
    assert_eq!(bench.release_all().await, 5);
    let revived = bench.delivery(ids[0]).await;
    assert_eq!(
        (revived.status, revived.schedule_start, revived.replay_id),
        (Status::Pending, 2, Some(job))
    );
    assert_eq!(revived.message_id, before.message_id, "its webhook-id");
    assert!(revived.reason.is_none() && revived.dead_at.is_none());
    let bulk = bench.lane(Lane::Bulk);
    bulk.work(&ids[..4]).await;
    let row = bench.job_row(job).await;
    assert_eq!(
        (outcomes(&row), row.status),
        ([6, 5, 3, 1, 1], ReplayStatus::Running)
    );
    bulk.work(&ids[4..]).await;
    let row = bench.job_row(job).await;
    assert_eq!(
        (outcomes(&row), row.status),
        ([6, 5, 3, 2, 1], ReplayStatus::Completed)
    );
    assert_eq!(row.finished_at, Some(bench.now()));

    // What died again is another job's, or somebody's by hand: the first one has counted it.
    let again = bench.job(ReplayKind::Replay, all(), None).await;
    bench.release_all().await;
    bulk.work(&ids[3..]).await;
    let by_hand = reviving(bench.now(), None).filter(delivery::Column::Id.eq(ids[4]));
    by_hand.exec(&bench.db).await.unwrap();
    bulk.work(&ids[4..]).await;
    assert_eq!(outcomes(&bench.job_row(job).await), [6, 5, 3, 2, 1]);
    let again = bench.job_row(again).await;
    assert_eq!(
        (outcomes(&again), again.status),
        ([2, 2, 0, 2, 0], ReplayStatus::Completed)
    );
    receiver.wait_for(8, Duration::from_secs(5)).await;
    bench.close().await;
}

#[tokio::test]
async fn an_end_is_counted_by_the_job_in_the_row_and_not_by_the_one_that_was_loaded() {
    let bench = Bench::new(&[]).await;
    let [id] = dead(&bench, 1).await.try_into().unwrap();
    let jobs = [
        bench.job(ReplayKind::Replay, all(), None).await,
        bench.job(ReplayKind::Replay, all(), None).await,
    ];
    let row = |job| delivery::Model {
        replay_id: Some(job),
        attempt_count: 2,
        ..bench.pending(DeliveryKind::Webhook)
    };
    let stale = delivery::Model { id, ..row(jobs[0]) };
    let revived = reviving(bench.now(), Some(jobs[1])).exec(&bench.db).await;
    assert_eq!(revived.unwrap().rows_affected, 1);
    let recorded = record::Recorded {
        loaded: Loaded {
            delivery: stale,
            target: Target::Missing,
        },
        attempted: None,
        outcome: Outcome::Delivered,
        at: bench.now(),
    };
    let policy = &bench.settings.circuit;
    let written = record::record(&bench.db, policy, &[recorded.into()]).await;
    assert!(written.unwrap().effective.contains(&id));
    let delivered = [
        bench.job_row(jobs[0]).await.delivered,
        bench.job_row(jobs[1]).await.delivered,
    ];
    assert_eq!(delivered, [0, 1]);
    bench.close().await;
}

#[tokio::test]
async fn what_dies_after_the_job_was_made_is_left_alone() {
    let bench = Bench::new(&[]).await;
    let early = dead(&bench, 3).await;
    let job = bench.job(ReplayKind::Replay, all(), None).await;
    bench.clock.advance(TimeDelta::seconds(1));
    let late = dead(&bench, 2).await;
    assert_eq!(bench.release_all().await, 3);
    assert_eq!(bench.delivery(early[2]).await.status, Status::Pending);
    assert_eq!(bench.delivery(late[0]).await.status, Status::Dead);
    assert_eq!(outcomes(&bench.job_row(job).await), [3, 3, 0, 0, 0]);
    bench.close().await;
}

#[tokio::test]
async fn nothing_of_another_tenant_is_touched() {
    let bench = Bench::new(&[]).await;
    let like = delivery::Model {
        tenant_id: TenantId::generate(bench.now()),
        ..bench.pending(DeliveryKind::Email)
    };
    let theirs = bench.dead(3, &like).await;
    for (kind, selection) in [
        (ReplayKind::Replay, all()),
        (ReplayKind::Replay, Selection::Ids(theirs.clone())),
        (ReplayKind::Discard, Selection::Ids(theirs)),
    ] {
        let job = bench.job(kind, selection, None).await;
        assert_eq!(bench.release_all().await, 0);
        let job = bench.job_row(job).await;
        assert_eq!((job.released, job.status), (0, ReplayStatus::Completed));
        assert_eq!(job.skipped, job.total);
    }
    assert_eq!(count(&bench, Status::Dead).await, 3);
    bench.close().await;
}

#[tokio::test]
async fn a_job_without_a_pace_waits_while_the_bulk_lane_is_deep_and_others_do_not() {
    let bench = Bench::new(&[]).await;
    dead(&bench, 1_200).await;
    let jobs: Vec<Job> = (0..1_000)
        .map(|n| Job {
            delivery: DeliveryId::from_uuid(uuid::Uuid::from_u128(n)),
            tenant: bench.tenant,
            endpoint: None,
            limits: None,
        })
        .collect();
    bench.queue.push(Lane::Bulk, &jobs).await.unwrap();
    let job = bench.job(ReplayKind::Replay, all(), None).await;
    assert_eq!(bench.release().await, 0);
    bench.job(ReplayKind::Replay, all(), Some(10)).await;
    bench.clock.advance(TICK);
    assert_eq!(bench.release().await, 1);
    // Nor do they wait for a queue that does not answer.
    let down = Queue::open(Some("redis://127.0.0.1:1/")).unwrap();
    bench.clock.advance(TICK);
    let stepped = step(&bench.db, &down, bench.now()).await.unwrap();
    assert_eq!(stepped.released, 1);
    let empty = Queue::open(None).unwrap();
    let stepped = step(&bench.db, &empty, bench.now()).await.unwrap();
    assert_eq!((stepped.released, stepped.more), (500, false));
    assert_eq!(bench.job_row(job).await.released, 500);
    bench.close().await;
}

#[tokio::test]
async fn discarding_takes_what_fits_out_of_the_queue_in_bounded_batches() {
    let bench = Bench::new(&[]).await;
    dead(&bench, 1_200).await;
    let like = bench.pending(DeliveryKind::Email);
    let mails = bench.dead(2, &like).await;
    let filter = Filter {
        kind: Some(DeliveryKind::Webhook),
        ..Filter::default()
    };
    let job = bench
        .job(ReplayKind::Discard, Selection::Filter(filter), None)
        .await;
    let mut batches = Vec::new();
    while bench.job_row(job).await.next_at.is_some() {
        batches.push(bench.release().await);
    }
    assert_eq!(batches, [500, 500, 200]);
    let job = bench.job_row(job).await;
    assert_eq!(
        (outcomes(&job), job.status),
        ([1_200, 1_200, 0, 0, 0], ReplayStatus::Completed)
    );
    assert_eq!(count(&bench, Status::Discarded).await, 1_200);
    assert_eq!(bench.delivery(mails[0]).await.status, Status::Dead);
    let left = delivery::Entity::dead_of_tenant(bench.tenant);
    assert_eq!(left.count(&bench.db).await.unwrap(), 2);
    bench.close().await;
}

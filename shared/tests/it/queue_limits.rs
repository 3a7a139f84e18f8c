//! How much of a flow is in flight, and how often it goes, in both forms of the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use relaypost_shared::{
    ids::DeliveryId,
    queue::{Consumer, Job, Lane, Limits},
};
use relaypost_testkit::eventually;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{Alive, DEADLINE, Form, emails, more, on_both, tenant, webhooks};

const LANE: Lane = Lane::Webhooks;
const CAP: Option<u32> = Some(3);

const fn cap(max_in_flight: u32) -> Limits {
    Limits {
        max_in_flight: Some(max_in_flight),
        rate_per_s: None,
    }
}

const fn rate(per_s: u32) -> Limits {
    Limits {
        max_in_flight: None,
        rate_per_s: Some(per_s),
    }
}

fn all(jobs: &[DeliveryId], limits: Limits) -> Vec<(DeliveryId, Limits)> {
    jobs.iter().map(|delivery| (*delivery, limits)).collect()
}

#[tokio::test]
async fn an_endpoint_s_cap_holds_over_workers_and_over_lanes() {
    on_both(|form| async move {
        let jobs = webhooks(tenant(), 20);
        form.queue.push(LANE, &jobs[..10]).await.unwrap();
        form.queue.push(Lane::Bulk, &jobs[10..]).await.unwrap();
        let live = form.consumer(LANE, "one", CAP).await;
        let bulk = form.consumer(Lane::Bulk, "two", CAP).await;
        let first = live.fetch().await;
        assert_eq!(first.len(), 3);
        assert_eq!(bulk.fetch().await, []);
        live.acknowledge(&first[..2]).await;
        let second = bulk.fetch().await;
        assert_eq!(second.len(), 2);
        assert_eq!(live.fetch().await, []);
        bulk.hand_back(&second[..1]).await;
        assert_eq!(live.fetch().await.len() + bulk.fetch().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn limits_that_come_with_a_job_hold_from_its_first_take_on() {
    on_both(|form| async move {
        let limited = |limits: Limits, count| {
            let jobs = webhooks(tenant(), count).into_iter();
            jobs.map(|job| job.under(limits)).collect::<Vec<Job>>()
        };
        let worker = form.consumer(LANE, "one", None).await;
        form.queue.push(LANE, &limited(cap(2), 5)).await.unwrap();
        assert_eq!(worker.fetch().await.len(), 2);
        form.queue.push(LANE, &limited(rate(10), 5)).await.unwrap();
        assert_eq!(worker.fetch().await.len(), 1);
        let none = limited(Limits::default(), 5);
        form.queue.push(LANE, &none).await.unwrap();
        let taken = worker.fetch().await;
        // By now the rate may have let another one through.
        let all_taken = none.iter().all(|job| taken.contains(&job.delivery));
        assert!(all_taken, "{taken:?}");
    })
    .await;
}

#[tokio::test]
async fn limits_that_were_set_hold_at_once_whatever_a_job_brings() {
    on_both(|form| async move {
        let jobs = webhooks(tenant(), 9);
        let endpoint = jobs[0].endpoint.unwrap();
        let old: Vec<Job> = jobs.iter().map(|job| job.under(cap(1))).collect();
        let worker = form.consumer(LANE, "one", None).await;
        form.queue.push(LANE, &old[..5]).await.unwrap();
        assert_eq!(worker.fetch().await.len(), 1);
        let set = async |limits| {
            let of = jobs[0].tenant;
            form.queue.limit(of, endpoint, limits).await.unwrap();
        };
        set(cap(3)).await;
        assert_eq!(worker.fetch().await.len(), 2);
        form.queue.push(LANE, &old[5..]).await.unwrap();
        assert_eq!(worker.fetch().await, []);
        set(Limits::default()).await;
        assert_eq!(worker.fetch().await.len(), 6);
    })
    .await;
}

#[tokio::test]
async fn a_tenant_s_emails_have_no_cap_and_a_capped_endpoint_holds_up_nobody_else() {
    on_both(|form| async move {
        let tenant = tenant();
        form.queue
            .push(Lane::Bulk, &webhooks(tenant, 30))
            .await
            .unwrap();
        form.queue
            .push(Lane::Bulk, &emails(tenant, 30))
            .await
            .unwrap();
        let worker = form.consumer(Lane::Bulk, "one", CAP).await;
        assert_eq!(worker.fetch().await.len(), 33);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_acknowledged_twice_or_was_taken_over_frees_its_place_once() {
    on_both(|form| async move {
        form.queue
            .push(LANE, &webhooks(tenant(), 20))
            .await
            .unwrap();
        let silent = form.consumer(LANE, "silent", CAP).await;
        let lost = silent.fetch().await;
        assert_eq!(lost.len(), 3);
        form.die(&silent, "silent").await;
        let other = form.consumer(LANE, "other", CAP).await;
        let alive = Alive::keep(&other);
        eventually(DEADLINE, || async {
            let depth = form.queue.depth(LANE).await.unwrap();
            if depth == 20 {
                Ok(())
            } else {
                Err(depth.to_string())
            }
        })
        .await;
        drop(alive);
        let taken = other.fetch().await;
        assert_eq!(
            taken, lost,
            "the places of the dead are free, and its jobs come first"
        );
        silent.acknowledge(&lost[..1]).await;
        silent.hand_back(&lost[1..]).await;
        assert_eq!(other.fetch().await, [], "what another has is not freed");
        other.acknowledge(&taken[..1]).await;
        other.acknowledge(&taken[..1]).await;
        assert_eq!(other.fetch().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn after_a_flush_what_is_held_still_takes_its_places() {
    let form = Form::redis().await;
    let redis = form.redis.as_ref().unwrap();
    let jobs = webhooks(tenant(), 10);
    form.queue.push(LANE, &jobs[..3]).await.unwrap();
    let worker = form.consumer(LANE, "one", CAP).await;
    let held = worker.fetch().await;
    assert_eq!(held.len(), 3);
    redis.command(&["FLUSHALL"]).await;
    let alive = Alive::keep(&worker);
    timeout(DEADLINE, worker.lost()).await.unwrap();
    form.queue.push(LANE, &jobs).await.unwrap();
    assert_eq!(form.queue.depth(LANE).await.unwrap(), 7);
    assert_eq!(worker.fetch().await, []);
    worker.acknowledge(&held).await;
    let rest = worker.fetch().await;
    assert_eq!(rest.len(), 3);
    drop(alive);
}

#[tokio::test]
async fn limits_that_the_queue_does_not_know_call_the_jobs_back_and_hold_from_then_on() {
    on_both(|form| async move {
        let jobs = webhooks(tenant(), 10);
        form.queue.push(LANE, &jobs).await.unwrap();
        let worker = form.consumer(LANE, "one", Some(5)).await;
        let early = worker.fetch().await;
        assert_eq!(early.len(), 5);
        // Asked in two parts, as a worker asks that has them in two jobs: each part came too early.
        let (one, two) = early.split_at(2);
        assert_eq!(worker.limit(&all(one, cap(2))).await.unwrap(), one);
        assert_eq!(worker.limit(&all(two, cap(2))).await.unwrap(), two);
        worker.hand_back(&early).await;
        let now = worker.fetch().await;
        assert_eq!(now, early[..2]);
        assert_eq!(worker.limit(&all(&now, cap(2))).await.unwrap(), []);
        assert_eq!(worker.fetch().await, []);
        // Wider: these may go, and so may what waits for a place.
        assert_eq!(worker.limit(&all(&now, cap(4))).await.unwrap(), []);
        assert_eq!(worker.fetch().await.len(), 2);
        assert_eq!(
            worker.limit(&all(&now, Limits::default())).await.unwrap(),
            []
        );
        assert_eq!(worker.fetch().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn limits_that_the_queue_knows_and_none_where_there_are_none_cost_no_call() {
    let form = Form::redis().await;
    let redis = form.redis.as_ref().unwrap();
    let calls = || async {
        let stats = redis.command(&["INFO", "stats"]).await;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let (limited, free) = (webhooks(tenant(), 4), webhooks(tenant(), 1));
    form.limit(limited[0], cap(1)).await;
    form.queue.push(LANE, &limited[1..]).await.unwrap();
    form.queue.push(LANE, &free).await.unwrap();
    let worker = form.consumer(LANE, "one", CAP).await;
    assert_eq!(worker.fetch().await.len(), 2);
    let asked = [
        (limited[1].delivery, cap(1)),
        (free[0].delivery, Limits::default()),
        (limited[3].delivery, cap(9)),
    ];
    let before = calls().await;
    assert_eq!(worker.limit(&asked).await.unwrap(), []);
    // The look itself is one.
    assert_eq!(calls().await - before, 1);
}

#[tokio::test]
async fn limits_that_were_lost_with_redis_are_told_again() {
    let form = Form::redis().await;
    let redis = form.redis.as_ref().unwrap();
    let jobs = webhooks(tenant(), 6);
    form.limit(jobs[0], cap(1)).await;
    let worker = form.consumer(LANE, "one", CAP).await;
    redis.command(&["FLUSHALL"]).await;
    worker.join().await;
    form.queue.push(LANE, &jobs).await.unwrap();
    let early = worker.fetch().await;
    assert_eq!(early.len(), 3);
    assert_eq!(worker.limit(&all(&early, cap(1))).await.unwrap(), early);
    worker.hand_back(&early).await;
    assert_eq!(worker.fetch().await, early[..1]);
}

#[tokio::test]
async fn limits_go_when_they_are_not_used() {
    let form = Form::redis().await;
    let redis = form.redis.as_ref().unwrap();
    let jobs = webhooks(tenant(), 2);
    form.limit(jobs[0], rate(1)).await;
    let key = format!("relaypost:flows:limits:{}", jobs[0].flow());
    let lasts = || async { redis.command(&["PTTL", &key]).await.parse::<i64>().unwrap() };
    assert!((1..=3_600_000).contains(&lasts().await));
    redis.command(&["PEXPIRE", &key, "100000"]).await;
    form.queue.push(LANE, &jobs[1..]).await.unwrap();
    let worker = form.consumer(LANE, "one", None).await;
    assert_eq!(worker.fetch().await.len(), 1);
    assert!(lasts().await > 100_000, "a use makes them last again");
}

/// Takes and acknowledges until `wanted` jobs have come, and compares each time with what the rate permits.
async fn take_all(consumer: Consumer, came: Arc<AtomicUsize>, wanted: usize, start: Instant) {
    while came.load(Ordering::SeqCst) < wanted {
        let jobs = consumer.fetch().await;
        let total = came.fetch_add(jobs.len(), Ordering::SeqCst) + jobs.len();
        let permitted = 5.0 + 50.0 * start.elapsed().as_secs_f64();
        assert!(total as f64 <= permitted, "{total} came, {permitted} may");
        consumer.acknowledge(&jobs).await;
    }
}

#[tokio::test]
async fn a_rate_holds_over_workers_and_lanes_and_everything_comes() {
    on_both(|form| async move {
        let jobs = webhooks(tenant(), 80);
        form.limit(jobs[0], rate(50)).await;
        let start = Instant::now();
        form.queue.push(LANE, &jobs[..40]).await.unwrap();
        form.queue.push(Lane::Bulk, &jobs[40..]).await.unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for (lane, name) in [(LANE, "one"), (LANE, "two"), (Lane::Bulk, "three")] {
            let consumer = form.consumer(lane, name, None).await;
            workers.spawn(take_all(consumer, came.clone(), 80, start));
        }
        timeout(DEADLINE, async {
            while let Some(ended) = workers.join_next().await {
                ended.unwrap();
            }
        })
        .await
        .unwrap();
        assert_eq!(form.work_keys().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_waits_for_a_rate_wakes_in_time() {
    let form = Form::redis().await;
    let jobs = webhooks(tenant(), 102);
    form.limit(jobs[0], rate(20)).await;
    form.queue.push(LANE, &jobs[1..]).await.unwrap();
    let worker = form.consumer(LANE, "one", None).await;
    let start = Instant::now();
    let mut came = 0;
    while came < 101 {
        came += worker.fetch().await.len();
    }
    // 101 jobs are due within 5 s; with the full wait of a second after each burst of two it would be 50.
    assert!(start.elapsed() < Duration::from_secs(25));
}

#[tokio::test(start_paused = true)]
async fn in_memory_a_rate_is_kept_to_the_millisecond() {
    let form = Form::memory();
    let jobs = webhooks(tenant(), 102);
    form.limit(jobs[0], rate(20)).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    form.queue.push(LANE, &jobs[1..]).await.unwrap();
    let worker = form.consumer(LANE, "one", None).await;
    let start = tokio::time::Instant::now();
    let mut came = 0;
    while came < 101 {
        came += worker.fetch().await.len();
    }
    let took = start.elapsed().as_millis();
    assert!((4_950..=5_150).contains(&took), "{took} ms");
}

#[tokio::test]
async fn a_free_place_wakes_the_workers_of_whichever_lane_waits_for_it() {
    let form = Form::redis().await;
    let redis = form.redis.as_ref().unwrap();
    let jobs = webhooks(tenant(), 5);
    let (live, bulk) = waiting_for_a_place(&form, &jobs).await;
    let bell = ["EXISTS", "relaypost:bulk:signal"];
    assert_eq!(redis.command(&bell).await, "0");
    live.acknowledge(&[jobs[0].delivery]).await;
    assert_eq!(redis.command(&bell).await, "1");
    assert_eq!(bulk.fetch().await.len(), 1);
    live.hand_back(&[jobs[1].delivery]).await;
    assert_eq!(bulk.fetch().await.len() + live.fetch().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_memory_a_free_place_wakes_at_once() {
    let form = Form::memory();
    let jobs = webhooks(tenant(), 5);
    let (live, bulk) = waiting_for_a_place(&form, &jobs).await;
    let start = tokio::time::Instant::now();
    let done = [jobs[0].delivery];
    let (came, ()) = tokio::join!(bulk.fetch(), live.acknowledge(&done));
    assert_eq!((came.len(), start.elapsed()), (1, Duration::ZERO));
}

/// The first consumer has the first three jobs, and nothing is left in its lane; the second waits for a place, and has
/// heard the bell of the push.
async fn waiting_for_a_place(form: &Form, jobs: &[Job]) -> (Consumer, Consumer) {
    let live = form.consumer(LANE, "one", CAP).await;
    let bulk = form.consumer(Lane::Bulk, "two", CAP).await;
    form.queue.push(LANE, &jobs[..3]).await.unwrap();
    assert_eq!(live.fetch().await.len(), 3);
    form.queue.push(Lane::Bulk, &jobs[3..]).await.unwrap();
    assert_eq!(bulk.fetch().await, []);
    (live, bulk)
}

#[tokio::test]
async fn jobs_of_one_endpoint_keep_coming_when_another_of_the_tenant_is_full() {
    on_both(|form| async move {
        let tenant = tenant();
        let (full, other) = (webhooks(tenant, 50), webhooks(tenant, 1));
        form.queue.push(LANE, &full).await.unwrap();
        let worker = form.consumer(LANE, "one", CAP).await;
        assert_eq!(worker.fetch().await.len(), 3);
        let endpoint = other[0].endpoint.unwrap();
        for _ in 0..3 {
            let job = more(tenant, endpoint, 1);
            form.queue.push(LANE, &job).await.unwrap();
            assert_eq!(worker.fetch().await, [job[0].delivery]);
        }
        let more = more(tenant, full[0].endpoint.unwrap(), 5);
        form.queue.push(LANE, &more).await.unwrap();
        assert_eq!(
            worker.fetch().await,
            [],
            "new jobs do not bring a full endpoint back"
        );
    })
    .await;
}

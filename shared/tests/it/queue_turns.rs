//! Who gets his jobs when, in both forms of the queue.

use std::collections::{HashMap, HashSet};

use relaypost_shared::{
    ids::DeliveryId,
    queue::{Flow, Job, Lane},
};

use crate::support::{emails, more, on_both, tenant, webhooks};

const LANE: Lane = Lane::Webhooks;

fn ids(jobs: &[Job]) -> Vec<DeliveryId> {
    jobs.iter().map(|job| job.delivery).collect()
}

#[tokio::test]
async fn a_tenant_with_100_000_jobs_delays_another_s_by_one_fetch_at_most() {
    on_both(|form| async move {
        let many = webhooks(tenant(), 100_000);
        form.queue.push(LANE, &many).await.unwrap();
        let worker = form.consumer(LANE, "one", None).await;
        worker.fetch().await;
        let one = webhooks(tenant(), 1);
        form.queue.push(LANE, &one).await.unwrap();
        let next = worker.fetch().await;
        assert!(
            next.contains(&one[0].delivery),
            "not among the next {}",
            next.len()
        );
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_with_a_backlog_delays_another_of_its_tenant_by_one_fetch_at_most() {
    on_both(|form| async move {
        let tenant = tenant();
        form.queue
            .push(LANE, &webhooks(tenant, 10_000))
            .await
            .unwrap();
        let worker = form.consumer(LANE, "one", None).await;
        worker.fetch().await;
        let one = webhooks(tenant, 1);
        form.queue.push(LANE, &one).await.unwrap();
        assert!(worker.fetch().await.contains(&one[0].delivery));
    })
    .await;
}

#[tokio::test]
async fn tenants_share_alike_however_many_endpoints_they_have() {
    on_both(|form| async move {
        let (few, many) = (tenant(), tenant());
        let mut owners = HashMap::new();
        for tenant in [many, many, many, few, many] {
            let jobs = webhooks(tenant, 200);
            form.queue.push(LANE, &jobs).await.unwrap();
            owners.extend(jobs.iter().map(|job| (job.delivery, *job)));
        }
        let worker = form.consumer(LANE, "one", None).await;
        let mut taken: HashMap<_, usize> = HashMap::new();
        for _ in 0..4 {
            for delivery in worker.fetch().await {
                let job: &Job = &owners[&delivery];
                *taken.entry((job.tenant, job.endpoint)).or_default() += 1;
            }
        }
        for ((tenant, _), count) in &taken {
            let fair = if *tenant == few { 128 } else { 32 };
            assert_eq!(*count, fair, "{taken:?}");
        }
        assert_eq!(taken.len(), 5);
    })
    .await;
}

#[tokio::test]
async fn the_jobs_of_an_endpoint_come_in_their_order_those_handed_back_first() {
    on_both(|form| async move {
        let jobs = webhooks(tenant(), 200);
        form.queue.push(LANE, &jobs).await.unwrap();
        let worker = form.consumer(LANE, "one", None).await;
        let first = worker.fetch().await;
        assert_eq!(first, ids(&jobs[..first.len()]));
        worker.hand_back(&first).await;
        assert_eq!(worker.fetch().await, first);
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_counted_by_lane_and_by_flow() {
    on_both(|form| async move {
        let tenant = tenant();
        let (hooks, mails) = (webhooks(tenant, 5), emails(tenant, 3));
        form.queue.push(Lane::Bulk, &hooks).await.unwrap();
        form.queue.push(Lane::Bulk, &mails).await.unwrap();
        form.queue.push(Lane::Bulk, &mails).await.unwrap();
        let endpoint = Flow::Endpoint(hooks[0].endpoint.unwrap());
        assert_eq!(hooks[0].flow(), endpoint);
        let (queue, lane) = (&form.queue, Lane::Bulk);
        assert_eq!(queue.depth(lane).await.unwrap(), 8);
        assert_eq!(queue.waiting(lane, endpoint).await.unwrap(), 5);
        assert_eq!(queue.waiting(lane, Flow::Tenant(tenant)).await.unwrap(), 3);
        assert_eq!(queue.waiting(LANE, endpoint).await.unwrap(), 0);
        let worker = form.consumer(lane, "one", None).await;
        let taken: HashSet<_> = worker.fetch().await.into_iter().collect();
        assert_eq!(taken.len(), 8);
        assert_eq!(queue.depth(lane).await.unwrap(), 0);
        assert_eq!(queue.waiting(lane, endpoint).await.unwrap(), 0);
        worker.hand_back(&ids(&hooks)).await;
        assert_eq!(queue.depth(lane).await.unwrap(), 5);
        assert_eq!(queue.waiting(lane, endpoint).await.unwrap(), 5);
    })
    .await;
}

#[tokio::test]
async fn a_delivery_that_is_pushed_twice_at_once_has_one_job() {
    on_both(|form| async move {
        let jobs = webhooks(tenant(), 2);
        let endpoint = jobs[0].endpoint.unwrap();
        let twice = [
            jobs.clone(),
            jobs.clone(),
            more(jobs[0].tenant, endpoint, 1),
        ]
        .concat();
        form.queue.push(LANE, &twice).await.unwrap();
        assert_eq!(form.queue.depth(LANE).await.unwrap(), 3);
        let worker = form.consumer(LANE, "one", None).await;
        let taken = worker.fetch().await;
        assert_eq!(taken.len(), 3);
        worker.acknowledge(&taken).await;
        assert_eq!(form.queue.missing(LANE, &twice).await.unwrap().len(), 5);
        assert_eq!(form.work_keys().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_is_pushed_while_it_is_worked_on_comes_again_once_it_is_acknowledged() {
    on_both(|form| async move {
        let jobs = webhooks(tenant(), 3);
        form.queue.push(LANE, &jobs).await.unwrap();
        // What waits is seen as it is by whoever takes it, however often it was pushed.
        form.queue.push(LANE, &jobs[2..]).await.unwrap();
        let worker = form.consumer(LANE, "one", Some(3)).await;
        let taken = worker.fetch().await;
        assert_eq!(taken.len(), 3);
        form.queue.push(LANE, &jobs[..1]).await.unwrap();
        assert_eq!(form.queue.depth(LANE).await.unwrap(), 0);
        worker.acknowledge(&taken).await;
        assert_eq!(form.queue.missing(LANE, &jobs).await.unwrap(), jobs[1..]);
        assert_eq!(form.queue.depth(LANE).await.unwrap(), 1);
        let again = worker.fetch().await;
        assert_eq!(again, [jobs[0].delivery]);
        // A worker that dies takes the wish with it: its job comes again anyway, once.
        form.queue.push(LANE, &jobs[..1]).await.unwrap();
        worker.hand_back(&again).await;
        assert_eq!(worker.fetch().await, again);
        worker.acknowledge(&again).await;
        assert_eq!(form.queue.missing(LANE, &jobs).await.unwrap(), jobs);
        assert_eq!(form.work_keys().await, Vec::<String>::new());
    })
    .await;
}

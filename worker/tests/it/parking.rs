//! What is held back, and what ends, overtakes or changes beside it.

use chrono::TimeDelta;
use relaypost_shared::{
    db::begin_write,
    delivery::{CircuitState, EndpointStatus, Ordering, Reason, Status},
    entities::Texts,
    ids::{DeliveryId, EndpointId},
    queue::{Job, Lane},
    store::fixtures::{circuit, delivery},
};
use relaypost_testkit::{Receiver, Reply};
use relaypost_worker::circuit::{expire, find_forgotten};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait as _, DbBackend, EntityTrait,
    IntoActiveModel,
};

use crate::{
    circuits::{SETTINGS, open},
    fixture::Bench,
};

impl Bench {
    async fn rewrite(&self, id: DeliveryId, change: impl FnOnce(&mut delivery::ActiveModel)) {
        let mut row = self.delivery(id).await.into_active_model();
        change(&mut row);
        row.update(&self.db).await.unwrap();
    }

    async fn expire(&self) -> u64 {
        expire(&self.db, &self.queue, self.now()).await.unwrap()
    }

    async fn release_at(&self, id: EndpointId, at: Option<chrono::DateTime<chrono::Utc>>) {
        let row = circuit::ActiveModel {
            id: Set(id.uuid()),
            release_at: Set(at),
            ..Default::default()
        };
        circuit::Entity::update(row)
            .validate()
            .unwrap()
            .exec(&self.db)
            .await
            .unwrap();
    }

    async fn messages_of(&self, ids: &[DeliveryId]) -> Vec<String> {
        let mut messages = Vec::new();
        for id in ids {
            messages.push(self.delivery(*id).await.message_id.unwrap().to_string());
        }
        messages
    }
}

fn arrived(receiver: &Receiver) -> Vec<String> {
    let hits = receiver.hits();
    let ids = hits.iter().map(|hit| hit.header("webhook-id").unwrap());
    ids.map(str::to_owned).collect()
}

#[tokio::test]
async fn in_an_ordered_endpoint_a_message_whose_job_is_late_is_not_overtaken() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![60])).await;
    bench
        .change(endpoint, |row| row.ordering = Set(Some(Ordering::Fifo)))
        .await;
    let ids = bench.webhooks(endpoint, 4).await;
    receiver.respond(Reply::statuses_then(&[500], Reply::Status(200)));
    lane.work(&[ids[0], ids[2]]).await;
    // One that ends out of turn settles nothing of what came before it.
    let now = bench.now();
    bench
        .rewrite(ids[3], |row| row.expires_at = Set(Some(now)))
        .await;
    lane.work(&[ids[3]]).await;
    bench.clock.advance(TimeDelta::seconds(80));
    lane.work(&[ids[0]]).await;
    lane.work_queue().await;
    assert_eq!(
        receiver.count(),
        2,
        "the second has the turn, and no job yet"
    );
    lane.work(&[ids[1]]).await;
    lane.work_queue().await;
    let order = [&ids[..1], &ids[..3]].concat();
    assert_eq!(arrived(&receiver), bench.messages_of(&order).await);
    bench.close().await;
}

#[tokio::test]
async fn in_an_ordered_endpoint_a_head_that_expires_behind_an_open_circuit_lets_the_next_one_probe()
{
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, _) = open(&bench, &lane, &receiver, 0).await;
    bench
        .change(endpoint, |row| row.ordering = Set(Some(Ordering::Fifo)))
        .await;
    let ids = bench.webhooks(endpoint, 3).await;
    for failed in delivery::Entity::find().all(&bench.db).await.unwrap() {
        if failed.attempt_count > 0 {
            bench
                .rewrite(failed.id, |row| row.status = Set(Status::Discarded))
                .await;
        }
    }
    let soon = bench.now() + TimeDelta::seconds(1);
    bench
        .rewrite(ids[0], |row| row.expires_at = Set(Some(soon)))
        .await;
    lane.work(&ids).await;
    assert_eq!(bench.parked().await, 3);
    receiver.respond(Reply::Status(200));
    bench.clock.advance(TimeDelta::seconds(10));
    for _ in 0..6 {
        bench.conduct().await;
        lane.work_queue().await;
    }
    assert_eq!(bench.delivery(ids[0]).await.reason, Some(Reason::Expired));
    assert_eq!(arrived(&receiver)[3..], bench.messages_of(&ids[1..]).await);
    assert_eq!(bench.circuit(endpoint).await.state, CircuitState::Closed);
    bench.close().await;
}

#[tokio::test]
async fn what_expires_behind_an_open_circuit_ends_and_takes_no_probe_s_place() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, parked) = open(&bench, &lane, &receiver, 42).await;
    let (expiring, live) = parked.split_at(40);
    let soon = bench.now() + TimeDelta::seconds(1);
    for id in expiring {
        bench
            .rewrite(*id, |row| row.expires_at = Set(Some(soon)))
            .await;
    }
    receiver.respond(Reply::Status(200));
    bench.clock.advance(TimeDelta::seconds(10));
    bench.conduct().await;
    lane.work_queue().await;
    // Both are under way at once.
    let mut probes = arrived(&receiver).split_off(3);
    probes.sort_unstable();
    assert_eq!(probes, bench.messages_of(live).await);
    for id in expiring {
        let row = bench.delivery(*id).await;
        assert_eq!((row.reason, row.attempt_count), (Some(Reason::Expired), 0));
    }
    assert_eq!(bench.circuit(endpoint).await.state, CircuitState::Closed);
    bench.close().await;
}

#[tokio::test]
async fn an_attempt_whose_delivery_was_given_up_meanwhile_is_on_record_and_revives_nothing() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    let id = bench.webhook(endpoint).await;
    receiver.respond(Reply::Hang);
    let meanwhile = async {
        receiver
            .wait_in_flight(1, std::time::Duration::from_secs(10))
            .await;
        bench
            .rewrite(id, |row| row.status = Set(Status::Discarded))
            .await;
        receiver.release();
    };
    let ids = [id];
    futures::join!(lane.work(&ids), meanwhile);
    let row = bench.delivery(id).await;
    assert_eq!((row.status, row.attempt_count), (Status::Discarded, 1));
    assert_eq!(bench.attempts().await.len(), 1);
    bench.close().await;
}

#[tokio::test]
async fn what_has_ended_is_not_brought_back_by_a_release() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (_, parked) = open(&bench, &lane, &receiver, 1).await;
    bench
        .rewrite(parked[0], |row| row.status = Set(Status::Discarded))
        .await;
    bench.clock.advance(TimeDelta::seconds(10));
    bench.conduct().await;
    let row = bench.delivery(parked[0]).await;
    assert_eq!((row.parked_for, row.dispatch_at), (None, None));
    bench.close().await;
}

#[tokio::test]
async fn failures_count_in_a_row_also_among_attempts_that_were_under_way_together() {
    let bench = Bench::new(&[("CIRCUIT_FAILURE_THRESHOLD", "12")]).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let count = std::sync::atomic::AtomicU32::new(0);
    receiver.respond(Reply::func(move |_| {
        let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let status = if count.is_multiple_of(4) { 500 } else { 200 };
        (status, Vec::new(), Vec::new())
    }));
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    let ids = bench.webhooks(endpoint, 96).await;
    lane.work(&ids).await;
    assert_eq!(receiver.count(), 96);
    let circuit = bench.circuit(endpoint).await;
    assert_eq!(
        circuit.state,
        CircuitState::Closed,
        "{} of 24",
        circuit.failures
    );
    bench.close().await;
}

#[tokio::test]
async fn only_what_nobody_looks_at_and_nobody_holds_back_counts_as_forgotten() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let forgotten = || find_forgotten(&bench.db, bench.now());
    let (opened, _) = open(&bench, &lane, &receiver, 2).await;
    assert_eq!(
        forgotten().await.unwrap(),
        0,
        "it is looked at when it is due"
    );
    bench.release_at(opened, None).await;
    assert_eq!(forgotten().await.unwrap(), 1);
    assert_eq!(bench.circuit(opened).await.release_at, Some(bench.now()));

    let mut row = bench.circuit(opened).await;
    row.open_by_hand(bench.now());
    let row = row.into_active_model().reset_all();
    row.update(&bench.db).await.unwrap();
    let paused = bench.endpoint(&receiver.url("/"), None).await;
    bench
        .change(paused, |row| row.status = Set(EndpointStatus::Paused))
        .await;
    lane.work(&bench.webhooks(paused, 2).await).await;
    let ordered = bench.endpoint(&receiver.url("/"), Some(vec![3600])).await;
    bench
        .change(ordered, |row| row.ordering = Set(Some(Ordering::Fifo)))
        .await;
    lane.work(&bench.webhooks(ordered, 2).await).await;
    assert_eq!(bench.parked().await, 2 + 2 + 1);
    assert_eq!(forgotten().await.unwrap(), 0);
    bench.close().await;
}

#[tokio::test]
async fn operator_events_go_to_endpoints_that_name_them_and_to_no_customer() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let [customer, operators] = [Receiver::start().await, Receiver::start().await];
    bench.endpoint(&customer.url("/"), None).await;
    let hears = bench.endpoint(&operators.url("/"), None).await;
    bench
        .change(hears, |row| {
            row.event_types = Set(Texts(vec!["circuit.opened".to_owned()]))
        })
        .await;
    open(&bench, &lane, &receiver, 1).await;
    lane.work_queue().await;
    assert_eq!((operators.count(), customer.count()), (1, 0));
    bench.close().await;
}

#[tokio::test]
async fn what_expires_while_its_endpoint_is_paused_ends_at_once_and_not_when_it_is_resumed() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    bench
        .change(endpoint, |row| row.status = Set(EndpointStatus::Paused))
        .await;
    let kept = [bench.webhook(endpoint).await, bench.webhook(endpoint).await];
    let soon = bench.now() + TimeDelta::seconds(2);
    bench
        .rewrite(kept[0], |row| row.expires_at = Set(Some(soon)))
        .await;
    lane.work(&kept).await;
    assert_eq!(bench.expire().await, 0);
    bench.clock.advance(TimeDelta::seconds(2));
    assert_eq!(bench.expire().await, 1);
    lane.work_queue().await;
    let row = bench.delivery(kept[0]).await;
    assert_eq!(
        (row.status, row.reason),
        (Status::Dead, Some(Reason::Expired))
    );
    assert_eq!((bench.parked().await, receiver.count()), (1, 0));
    bench.close().await;
}

#[tokio::test]
async fn what_has_a_rate_and_is_held_up_by_the_database_goes_back_instead_of_going_out_in_a_burst()
{
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    bench
        .change(endpoint, |row| row.rate_limit_per_s = Set(Some(1)))
        .await;
    let ids = [bench.webhook(endpoint).await, bench.webhook(endpoint).await];
    let jobs = ids.map(|delivery| Job {
        delivery,
        tenant: bench.tenant,
        endpoint: Some(endpoint),
        limits: None,
    });
    bench.queue.push(Lane::Webhooks, &jobs).await.unwrap();
    lane.work_queue().await;
    assert_eq!(receiver.count(), 1);

    bench.clock.advance(TimeDelta::seconds(1));
    // SQLite has this one connection; on PostgreSQL nobody reads the table meanwhile.
    let standstill = begin_write(&bench.db).await.unwrap();
    if bench.db.get_database_backend() == DbBackend::Postgres {
        let lock = "LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE";
        standstill.execute_unprepared(lock).await.unwrap();
    }
    let standing_still = async {
        bench.clock.advance(TimeDelta::milliseconds(600));
        standstill.rollback().await.unwrap();
    };
    futures::join!(lane.work_queue(), standing_still);
    assert_eq!(receiver.count(), 1);
    bench.clock.advance(TimeDelta::milliseconds(400));
    lane.work_queue().await;
    assert_eq!(receiver.count(), 2);
    bench.close().await;
}

//! What a circuit lets through, holds back and releases again.

use std::time::Duration;

use chrono::TimeDelta;
use relaypost_shared::{
    delivery::{CircuitState, EndpointStatus, Ordering, ParkedReason, Reason, Status},
    entities::{Texts, endpoint},
    ids::{DeliveryId, EndpointId},
    queue::Lane,
    store::fixtures::{circuit, delivery},
};
use relaypost_testkit::{Receiver, Reply};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};

use crate::fixture::{Bench, LaneBench};

/// Three failures open a circuit for ten seconds, and two probes close it.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("CIRCUIT_FAILURE_THRESHOLD", "3"),
    ("CIRCUIT_OPEN_SECONDS", "10"),
    ("CIRCUIT_OPEN_MAX_SECONDS", "40"),
    ("CIRCUIT_PROBES", "2"),
];

impl Bench {
    pub(crate) async fn circuit(&self, id: EndpointId) -> circuit::Model {
        circuit::Entity::find_by_id(id.uuid())
            .one(&self.db)
            .await
            .unwrap()
            .expect("the endpoint has a circuit")
    }

    pub(crate) async fn change(
        &self,
        id: EndpointId,
        change: impl FnOnce(&mut endpoint::ActiveModel),
    ) {
        let row = endpoint::Entity::find_by_id(id)
            .one(&self.db)
            .await
            .unwrap();
        let mut row = row.unwrap().into_active_model();
        change(&mut row);
        row.update(&self.db).await.unwrap();
    }

    pub(crate) async fn webhooks(&self, endpoint: EndpointId, count: usize) -> Vec<DeliveryId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.webhook(endpoint).await);
        }
        ids
    }

    async fn watch(&self) {
        let threshold = self.settings.dlq_threshold;
        relaypost_worker::threshold::step(&self.db, &self.queue, threshold, self.now())
            .await
            .unwrap();
    }

    pub(crate) async fn parked(&self) -> usize {
        let rows = delivery::Entity::find().all(&self.db).await.unwrap();
        rows.iter().filter(|row| row.parked_for.is_some()).count()
    }
}

/// An endpoint whose circuit has just opened, with `waiting` deliveries parked behind it.
pub(crate) async fn open(
    bench: &Bench,
    lane: &LaneBench,
    receiver: &Receiver,
    waiting: usize,
) -> (EndpointId, Vec<DeliveryId>) {
    receiver.respond(Reply::Status(500));
    let endpoint = bench
        .endpoint(&receiver.url("/"), Some(vec![3600, 3600]))
        .await;
    let failing = bench.webhooks(endpoint, 3).await;
    lane.work(&failing).await;
    let parked = bench.webhooks(endpoint, waiting).await;
    lane.work(&parked).await;
    assert_eq!(bench.circuit(endpoint).await.state, CircuitState::Open);
    assert_eq!(bench.parked().await, waiting);
    (endpoint, parked)
}

#[tokio::test]
async fn a_success_ends_a_row_of_failures_that_began_after_it_was_sent() {
    let bench = Bench::new(SETTINGS).await;
    let receiver = Receiver::start().await;
    let (here, elsewhere) = (bench.lane(Lane::Webhooks), bench.lane(Lane::Webhooks));
    let endpoint = bench
        .endpoint(&receiver.url("/"), Some(vec![3600, 3600]))
        .await;
    let ids = bench.webhooks(endpoint, 5).await;
    receiver.respond(Reply::Hang);
    let slow = here.work(&ids[..1]);
    let meanwhile = async {
        receiver.wait_in_flight(1, Duration::from_secs(10)).await;
        receiver.respond(Reply::Status(500));
        elsewhere.work(&ids[1..3]).await;
        assert_eq!(bench.circuit(endpoint).await.failures, 2);
        receiver.release();
    };
    tokio::join!(slow, meanwhile);
    assert_eq!(bench.circuit(endpoint).await.failures, 0);

    receiver.respond(Reply::Status(500));
    elsewhere.work(&ids[3..]).await;
    let circuit = bench.circuit(endpoint).await;
    assert_eq!((circuit.state, circuit.failures), (CircuitState::Closed, 2));
    bench.close().await;
}

#[tokio::test]
async fn what_comes_for_an_open_circuit_is_parked_and_uses_up_no_attempt() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, parked) = open(&bench, &lane, &receiver, 4).await;
    assert_eq!(receiver.count(), 3);
    for id in &parked {
        let row = bench.delivery(*id).await;
        assert_eq!((row.status, row.attempt_count), (Status::Pending, 0));
        assert_eq!(row.parked_for, Some(endpoint.uuid()));
        assert_eq!(row.dispatch_at, None);
        let since = bench.now();
        assert_eq!(row.parked(), Some((ParkedReason::CircuitOpen, since)));
    }
    bench.clock.advance(TimeDelta::milliseconds(9_999));
    assert_eq!(bench.conduct().await, 0, "it stays open for ten seconds");
    assert_eq!(bench.dispatch().await, 0);
    lane.work(&parked).await;
    assert_eq!(receiver.count(), 3, "a stray job sends nothing either");
    bench.close().await;
}

#[tokio::test]
async fn a_half_open_circuit_lets_exactly_its_probes_through_however_many_workers_ask() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, parked) = open(&bench, &lane, &receiver, 10).await;
    bench.clock.advance(TimeDelta::seconds(10));
    // All of them ring at once, at several workers.
    let workers: Vec<LaneBench> = (0..5).map(|_| bench.lane(Lane::Webhooks)).collect();
    let jobs = workers.iter().zip(parked.chunks(2));
    futures::future::join_all(jobs.map(|(worker, ids)| worker.work(ids))).await;
    assert_eq!(receiver.count(), 3 + 2);
    let circuit = bench.circuit(endpoint).await;
    assert_eq!(circuit.state, CircuitState::Open, "the probes failed");
    assert_eq!(
        circuit.retry_at,
        Some(bench.now() + TimeDelta::seconds(20)),
        "it stays open for twice as long"
    );
    bench.close().await;
}

#[tokio::test]
async fn a_circuit_whose_probes_succeed_closes_and_what_it_held_back_is_delivered() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, parked) = open(&bench, &lane, &receiver, 300).await;
    receiver.respond(Reply::Status(200));
    bench.clock.advance(TimeDelta::seconds(10));
    bench.conduct().await;
    assert_eq!(bench.parked().await, 298, "the probes, and no more");
    lane.work_queue().await;
    assert_eq!(bench.circuit(endpoint).await.state, CircuitState::Closed);

    let mut released = Vec::new();
    while bench.parked().await > 0 || bench.queue.depth(Lane::Webhooks).await.unwrap() > 0 {
        let before = bench.parked().await;
        bench.conduct().await;
        released.push(before - bench.parked().await);
        lane.work_queue().await;
        bench.clock.advance(TimeDelta::milliseconds(250));
        assert!(released.len() < 100, "released so far: {released:?}");
    }
    assert!(released[0] <= 8, "slowly at first: {released:?}");
    assert!(
        released.iter().max().unwrap() >= &16,
        "then faster: {released:?}"
    );
    for id in parked {
        let row = bench.delivery(id).await;
        assert_eq!((row.status, row.attempt_count), (Status::Delivered, 1));
    }
    let states: Vec<String> = bench
        .circuit(endpoint)
        .await
        .history
        .0
        .into_iter()
        .map(|change| change.state)
        .collect();
    assert_eq!(states, ["open", "half_open", "closed"]);
    bench.close().await;
}

#[tokio::test]
async fn the_time_that_a_circuit_stays_open_doubles_up_to_its_limit() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, _) = open(&bench, &lane, &receiver, 30).await;
    let mut waits = Vec::new();
    for _ in 0..4 {
        let circuit = bench.circuit(endpoint).await;
        let wait = circuit.retry_at.unwrap() - bench.now();
        waits.push(wait.num_seconds());
        bench.clock.advance(wait);
        bench.conduct().await;
        lane.work_queue().await;
    }
    assert_eq!(waits, [10, 20, 40, 40]);
    bench.close().await;
}

#[tokio::test]
async fn a_receiver_that_is_busy_is_slowed_down_before_it_counts_as_failing() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    receiver.respond(Reply::Status(429));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![3600])).await;
    let mut paces = Vec::new();
    for _ in 0..7 {
        lane.work(&[bench.webhook(endpoint).await]).await;
        let circuit = bench.circuit(endpoint).await;
        assert_eq!((circuit.state, circuit.failures), (CircuitState::Closed, 0));
        paces.push(circuit.pace.unwrap());
        bench.clock.advance(TimeDelta::seconds(1));
    }
    assert_eq!(paces, [64, 32, 16, 8, 4, 2, 1]);
    for _ in 0..3 {
        lane.work(&[bench.webhook(endpoint).await]).await;
    }
    assert_eq!(bench.circuit(endpoint).await.state, CircuitState::Open);
    bench.close().await;
}

#[tokio::test]
async fn a_paused_endpoint_keeps_what_arrives_and_gets_it_when_resumed() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    bench
        .change(endpoint, |row| row.status = Set(EndpointStatus::Paused))
        .await;
    let kept = bench.webhooks(endpoint, 5).await;
    lane.work(&kept).await;
    bench.clock.advance(TimeDelta::days(3));
    bench.conduct().await;
    assert_eq!((receiver.count(), bench.parked().await), (0, 5));
    let reasons = bench.parked_reasons(&kept).await;
    assert!(
        reasons
            .iter()
            .all(|one| one.is_some_and(|(reason, _)| reason == ParkedReason::Paused))
    );

    bench
        .change(endpoint, |row| row.status = Set(EndpointStatus::Active))
        .await;
    let mut row = bench.circuit(endpoint).await;
    row.begin_release(bench.now());
    row.into_active_model()
        .reset_all()
        .update(&bench.db)
        .await
        .unwrap();
    for _ in 0..8 {
        bench.conduct().await;
        lane.work_queue().await;
        bench.clock.advance(TimeDelta::milliseconds(250));
    }
    assert_eq!((receiver.count(), bench.parked().await), (5, 0));
    bench.close().await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled_and_what_waits_for_it_ends() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, parked) = open(&bench, &lane, &receiver, 3).await;
    receiver.respond(Reply::Status(410));
    bench.clock.advance(TimeDelta::seconds(10));
    for _ in 0..3 {
        bench.conduct().await;
        lane.work_queue().await;
    }
    let row = endpoint::Entity::find_by_id(endpoint)
        .one(&bench.db)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.status, EndpointStatus::Disabled);
    assert_eq!(row.disabled_reason.as_deref(), Some("gone"));
    for id in parked {
        let row = bench.delivery(id).await;
        assert_eq!(
            (row.status, row.reason),
            (Status::Dead, Some(Reason::EndpointDisabled))
        );
    }
    bench.close().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_for_five_days_is_disabled_and_its_operators_hear_of_it_before_and_after()
 {
    let bench = Bench::new(&[("CIRCUIT_FAILURE_THRESHOLD", "100000")]).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let operators = Receiver::start().await;
    let hears = bench.endpoint(&operators.url("/"), None).await;
    let wanted = [
        "endpoint.disabling",
        "endpoint.disabled",
        "delivery.exhausted",
    ];
    bench
        .change(hears, |row| {
            row.event_types = Set(relaypost_shared::entities::Texts(
                wanted.map(String::from).to_vec(),
            ))
        })
        .await;
    receiver.respond(Reply::Status(500));
    let failing = bench.endpoint(&receiver.url("/"), Some(vec![])).await;
    for _ in 0..=12 {
        lane.work(&[bench.webhook(failing).await]).await;
        lane.work_queue().await;
        bench.clock.advance(TimeDelta::hours(11));
    }
    let row = endpoint::Entity::find_by_id(failing)
        .one(&bench.db)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.status, EndpointStatus::Disabled);
    assert_eq!(row.disabled_reason.as_deref(), Some("failing"));
    let told: Vec<serde_json::Value> = operators
        .hits()
        .iter()
        .map(|hit| serde_json::from_slice(&hit.body).unwrap())
        .collect();
    let told = |kind: &str| {
        told.iter()
            .filter(|one| one["type"] == kind)
            .collect::<Vec<_>>()
    };
    let percents: Vec<_> = told("endpoint.disabling")
        .iter()
        .map(|one| one["data"]["percent"].as_i64().unwrap())
        .collect();
    assert_eq!(percents, [50, 90]);
    assert_eq!(told("endpoint.disabled").len(), 1);
    assert_eq!(
        told("endpoint.disabled")[0]["data"]["endpoint_id"],
        failing.to_string()
    );
    assert_eq!(
        told("delivery.exhausted").len(),
        12,
        "once for each that was tried"
    );
    bench.close().await;
}

#[tokio::test]
async fn messages_of_an_ordered_endpoint_arrive_in_order_and_a_failing_one_holds_the_next_back() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![60, 60])).await;
    bench
        .change(endpoint, |row| row.ordering = Set(Some(Ordering::Fifo)))
        .await;
    let ids = bench.webhooks(endpoint, 6).await;
    receiver.respond(Reply::statuses_then(&[200, 500, 500], Reply::Status(200)));
    // The jobs ring in the wrong order, and at two workers.
    let other = bench.lane(Lane::Webhooks);
    futures::join!(lane.work(&ids[3..]), other.work(&ids[..3]));
    lane.work_queue().await;
    assert_eq!(
        receiver.count(),
        2,
        "the second failed and holds the others back"
    );
    for _ in 0..2 {
        bench.clock.advance(TimeDelta::seconds(80));
        bench.conduct().await;
        bench.dispatch().await;
        lane.work_queue().await;
    }
    let mut order: Vec<String> = receiver
        .hits()
        .iter()
        .map(|hit| hit.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(order.len(), 6 + 2);
    order.dedup();
    let mut expected = Vec::new();
    for id in &ids {
        let row = bench.delivery(*id).await;
        assert_eq!(row.status, Status::Delivered);
        expected.push(row.message_id.unwrap().to_string());
    }
    assert_eq!(order, expected);
    bench.close().await;
}

#[tokio::test]
async fn in_an_ordered_endpoint_a_dead_delivery_lets_the_next_one_go() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![])).await;
    bench
        .change(endpoint, |row| row.ordering = Set(Some(Ordering::Fifo)))
        .await;
    let ids = bench.webhooks(endpoint, 3).await;
    receiver.respond(Reply::statuses_then(&[500], Reply::Status(200)));
    lane.work(&ids).await;
    lane.work_queue().await;
    let statuses = [Status::Dead, Status::Delivered, Status::Delivered];
    for (id, status) in ids.iter().zip(statuses) {
        assert_eq!(bench.delivery(*id).await.status, status);
    }
    bench.close().await;
}

#[tokio::test]
async fn a_delivery_that_came_too_late_expires_instead_of_being_sent() {
    let bench = Bench::new(&[]).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![3600])).await;
    let until = bench.now() + TimeDelta::seconds(60);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = bench.webhook(endpoint).await;
        let mut row = bench.delivery(id).await.into_active_model();
        row.expires_at = Set(Some(until));
        row.update(&bench.db).await.unwrap();
        ids.push(id);
    }
    receiver.respond(Reply::Status(500));
    lane.work(&ids[..1]).await;
    bench.clock.advance(TimeDelta::seconds(60));
    lane.work(&ids[1..]).await;
    assert_eq!(receiver.count(), 1);
    for id in ids {
        let row = bench.delivery(id).await;
        assert_eq!(
            (row.status, row.reason),
            (Status::Dead, Some(Reason::Expired))
        );
    }
    bench.close().await;
}

#[tokio::test]
async fn operators_hear_once_that_the_dead_letter_queue_is_over_its_threshold() {
    let bench = Bench::new(&[("DLQ_THRESHOLD", "4")]).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let operators = Receiver::start().await;
    let hears = bench.endpoint(&operators.url("/"), None).await;
    let wanted = Texts(vec!["dlq.threshold".to_owned()]);
    bench
        .change(hears, |row| row.event_types = Set(wanted))
        .await;
    receiver.respond(Reply::Status(500));
    let failing = bench.endpoint(&receiver.url("/"), Some(vec![])).await;
    for expected in [0, 0, 0, 1, 1, 1] {
        lane.work(&[bench.webhook(failing).await]).await;
        bench.watch().await;
        lane.work_queue().await;
        assert_eq!(operators.count(), expected);
    }
    // Somebody discards all but one, and then it fills again.
    let dead = delivery::Entity::find().all(&bench.db).await.unwrap();
    for row in dead.into_iter().filter(|row| row.dead_at.is_some()).skip(1) {
        let mut row = row.into_active_model();
        (row.status, row.dead_at) = (Set(Status::Discarded), Set(None));
        row.update(&bench.db).await.unwrap();
    }
    bench.watch().await;
    lane.work(&bench.webhooks(failing, 3).await).await;
    bench.watch().await;
    lane.work_queue().await;
    assert_eq!(operators.count(), 2);
    bench.close().await;
}

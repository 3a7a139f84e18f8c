//! A day behind an open circuit, and what comes after it. `DRAIN_DELIVERIES=100000` asks for more than the usual number.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Clock,
    delivery::{CircuitState, DeliveryKind, Status},
    ids::{DeliveryId, EndpointId},
    queue::Lane,
    store::fixtures::{attempt, circuit, delivery},
};
use relaypost_testkit::{Receiver, Reply};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
    Statement,
};

use crate::fixture::{Bench, LaneBench};

/// What the receiver can take in a second once it is back.
const CAPACITY: usize = 400;
const STEP: TimeDelta = TimeDelta::milliseconds(250);

/// Counts every update of a delivery in a table beside it.
async fn count_writes(bench: &Bench) {
    let counting = match bench.db.get_database_backend() {
        DbBackend::Postgres => {
            "CREATE TABLE writes (id uuid NOT NULL);
             CREATE FUNCTION count_write() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO writes VALUES (NEW.id); RETURN NULL; END $$;
             CREATE TRIGGER writes AFTER UPDATE ON deliveries FOR EACH ROW EXECUTE FUNCTION count_write()"
        }
        _ => {
            "CREATE TABLE writes (id blob NOT NULL);
             CREATE TRIGGER writes AFTER UPDATE ON deliveries
             BEGIN INSERT INTO writes VALUES (NEW.id); END"
        }
    };
    bench.db.execute_unprepared(counting).await.unwrap();
}

/// How many updates each delivery had.
async fn writes(bench: &Bench) -> HashMap<DeliveryId, i64> {
    let sql = "SELECT id, COUNT(*) AS count FROM writes GROUP BY id";
    let statement = Statement::from_string(bench.db.get_database_backend(), sql);
    let rows = bench.db.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| {
            let id: uuid::Uuid = row.try_get("", "id").unwrap();
            (DeliveryId::from_uuid(id), row.try_get("", "count").unwrap())
        })
        .collect()
}

async fn accept(bench: &Bench, endpoint: EndpointId, count: usize) -> Vec<DeliveryId> {
    let message = Some(bench.message(b"{}").await);
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let rows: Vec<delivery::Model> = (ids.len()..count)
            .take(500)
            .map(|_| delivery::Model {
                message_id: message,
                endpoint_id: Some(endpoint),
                ..bench.pending(DeliveryKind::Webhook)
            })
            .collect();
        ids.extend(rows.iter().map(|row| row.id));
        let rows = rows.into_iter().map(delivery::ActiveModel::from);
        delivery::Entity::insert_many(rows)
            .exec_without_returning(&bench.db)
            .await
            .unwrap();
    }
    ids
}

async fn parked(bench: &Bench) -> u64 {
    delivery::Entity::find()
        .filter(delivery::Column::ParkedFor.is_not_null())
        .count(&bench.db)
        .await
        .unwrap()
}

async fn state(bench: &Bench, endpoint: EndpointId) -> circuit::Model {
    let row = circuit::Entity::find_by_id(endpoint.uuid());
    row.one(&bench.db).await.unwrap().unwrap()
}

/// Answers 503 to what is over its capacity in a second of the test's clock.
fn limited(clock: Clock, turned_away: Arc<AtomicUsize>) -> Reply {
    let window = Mutex::new((0, 0));
    Reply::func(move |_| {
        let second = clock.now().timestamp();
        let mut window = window.lock().unwrap();
        if window.0 != second {
            *window = (second, 0);
        }
        window.1 += 1;
        let status = if window.1 > CAPACITY {
            turned_away.fetch_add(1, Relaxed);
            503
        } else {
            200
        };
        (status, Vec::new(), Vec::new())
    })
}

/// A healthy endpoint beside the one in trouble: what is accepted for it is delivered in the same step.
struct Neighbour {
    endpoint: EndpointId,
    receiver: Receiver,
    sent: usize,
}

impl Neighbour {
    async fn new(bench: &Bench) -> Self {
        let receiver = Receiver::start().await;
        receiver.record(false);
        Self {
            endpoint: bench.endpoint(&receiver.url("/"), None).await,
            receiver,
            sent: 0,
        }
    }

    async fn step(&mut self, bench: &Bench, lane: &LaneBench) {
        let ids = accept(bench, self.endpoint, 5).await;
        lane.work(&ids).await;
        self.sent += ids.len();
        assert_eq!(self.receiver.count(), self.sent, "its neighbour waits");
    }
}

#[tokio::test]
async fn a_day_behind_an_open_circuit_costs_three_writes_each_and_the_drain_does_not_open_it_again()
{
    let wanted = std::env::var("DRAIN_DELIVERIES").ok();
    let count = wanted.map_or(20_000, |count| count.parse().unwrap());
    let bench = Bench::new(&[]).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    receiver.record(false);
    receiver.respond(Reply::Status(500));
    let mut neighbour = Neighbour::new(&bench).await;
    let endpoint = bench.endpoint(&receiver.url("/"), None).await;
    let began = std::time::Instant::now();

    let failing = accept(&bench, endpoint, 10).await;
    lane.work(&failing).await;
    assert_eq!(state(&bench, endpoint).await.state, CircuitState::Open);
    count_writes(&bench).await;
    let ids = accept(&bench, endpoint, count).await;
    for slice in ids.chunks(64) {
        lane.work(slice).await;
    }
    assert_eq!(parked(&bench).await, count as u64);
    println!("{count} parked after {:?}", began.elapsed());

    let until = bench.now() + TimeDelta::hours(24);
    while let Some(at) = state(&bench, endpoint)
        .await
        .release_at
        .filter(|at| *at < until)
    {
        // Probes that failed come back by their schedule before it is time for the next ones.
        let ahead = at - bench.now();
        bench.clock.advance((ahead - STEP).max(TimeDelta::zero()));
        bench.dispatch().await;
        lane.work_queue().await;
        bench.clock.advance(ahead.min(STEP).max(TimeDelta::zero()));
        bench.conduct().await;
        lane.work_queue().await;
        neighbour.step(&bench, &lane).await;
    }
    let probes = receiver.count() - failing.len();
    assert!((90..600).contains(&probes), "{probes} probes in a day");
    println!("a day and {probes} probes after {:?}", began.elapsed());

    let turned_away = Arc::<AtomicUsize>::default();
    receiver.respond(limited(bench.clock.clone(), turned_away.clone()));
    bench
        .clock
        .advance(until - bench.now() + TimeDelta::minutes(15));
    let (mut closed, mut seconds, mut fastest) = (false, 0.0, 0);
    loop {
        bench.conduct().await;
        bench.dispatch().await;
        lane.work_queue().await;
        neighbour.step(&bench, &lane).await;
        let circuit = state(&bench, endpoint).await;
        assert!(
            !closed || circuit.state == CircuitState::Closed,
            "the drain opened it: {:?}",
            circuit.history
        );
        closed |= circuit.state == CircuitState::Closed;
        fastest = fastest.max(circuit.pace.unwrap_or(0));
        if closed && parked(&bench).await == 0 {
            break;
        }
        bench.clock.advance(STEP);
        seconds += 0.25;
        assert!(seconds < 60.0 + count as f64 / 20.0, "{circuit:?}");
    }
    println!(
        "drained in {seconds} simulated seconds, pace up to {fastest}, {} turned away, after {:?}",
        turned_away.load(Relaxed),
        began.elapsed()
    );
    assert!(
        turned_away.load(Relaxed) * 4 < count,
        "the pace follows what the receiver takes"
    );
    come_to_an_end(&bench, &lane, endpoint).await;

    let writes = writes(&bench).await;
    let attempts = attempts(&bench).await;
    // Parked, released, delivered. One attempt more is written down, claimed, parked and released once more at most.
    let beyond = |id: &&DeliveryId| writes[*id] > 3 + 4 * (attempts[*id] - 1);
    let crowded_out = ids.iter().filter(beyond).count();
    assert!(
        crowded_out <= 6,
        "{crowded_out}: a probe whose place was taken when it came is parked once more, nothing else"
    );
    let total: i64 = ids.iter().map(|id| writes[id]).sum();
    let again: i64 = ids.iter().map(|id| attempts[id] - 1).sum();
    assert!(total <= 3 * count as i64 + 4 * again);
    println!(
        "{total} writes for {count} deliveries with {again} attempts more than one each, after {:?}",
        began.elapsed()
    );
    bench.close().await;
}

/// What was turned away comes back by its schedule.
async fn come_to_an_end(bench: &Bench, lane: &LaneBench, endpoint: EndpointId) {
    use delivery::Column;
    let waiting = delivery::Entity::find()
        .filter(Column::EndpointId.eq(endpoint))
        .filter(Column::Status.ne(Status::Delivered));
    for _ in 0..2_000 {
        let waits = waiting.clone().count(&bench.db).await.unwrap();
        if waits == 0 {
            return;
        }
        bench.clock.advance(TimeDelta::seconds(30));
        bench.conduct().await;
        while bench.dispatch().await > 0 {}
        lane.work_queue().await;
        let circuit = state(bench, endpoint).await;
        assert_eq!(circuit.state, CircuitState::Closed, "{:?}", circuit.history);
    }
    panic!("{:?}", waiting.limit(3).all(&bench.db).await);
}

async fn attempts(bench: &Bench) -> HashMap<DeliveryId, i64> {
    let rows = attempt::Entity::find()
        .select_only()
        .column(attempt::Column::DeliveryId)
        .into_tuple::<DeliveryId>()
        .all(&bench.db)
        .await
        .unwrap();
    let mut counts = HashMap::new();
    for id in rows {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

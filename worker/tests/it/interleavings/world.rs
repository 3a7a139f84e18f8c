//! What the operations do, and what must hold after each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use chrono::TimeDelta;
use futures::future::join_all;
use relaypost_shared::{
    circuit,
    clock::Timestamp,
    db::{Transaction, begin_write},
    delivery::{EndpointStatus, Ordering, Reason, Status},
    entities::endpoint,
    ids::{DeliveryId, EndpointId},
    queue::Lane,
    store::fixtures::{attempt, circuit as circuits, delivery},
};
use relaypost_testkit::{Receiver, Reply};
use relaypost_worker::sweep::Full;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, sea_query::Expr,
};

use super::{Behaviour, Op};
use crate::{
    circuits::SETTINGS,
    fixture::{Bench, LaneBench},
};

/// Two ordinary endpoints and two that deliver in order.
pub(super) const ENDPOINTS: usize = 4;
const SCHEDULE: [u32; 3] = [5, 30, 120];
const PROBES: i32 = 2;

/// What a receiver answered, in order: the `webhook-id` and the status.
type Log = Arc<Mutex<Vec<(String, u16)>>>;

struct Target {
    id: EndpointId,
    receiver: Receiver,
    in_order: bool,
    log: Log,
}

pub(super) struct World {
    bench: Bench,
    workers: Vec<LaneBench>,
    bulk: Vec<LaneBench>,
    targets: Vec<Target>,
    /// Where each delivery goes, and its `webhook-id`.
    published: BTreeMap<DeliveryId, (usize, String)>,
    seen: BTreeMap<DeliveryId, Status>,
    /// What an operator replayed, discarded or cancelled, and what died: it is in no order any more.
    out_of_order: BTreeSet<DeliveryId>,
}

impl World {
    pub(super) async fn new() -> Self {
        let mut settings = SETTINGS.to_vec();
        settings.push(("WEBHOOK_TIMEOUT_MS", "100"));
        let bench = Bench::new(&settings).await;
        let mut targets = Vec::new();
        for index in 0..ENDPOINTS {
            let receiver = Receiver::start().await;
            let schedule = Some(SCHEDULE.to_vec());
            let id = bench.endpoint(&receiver.url("/"), schedule).await;
            let in_order = index >= ENDPOINTS / 2;
            if in_order {
                bench
                    .change(id, |row| row.ordering = Set(Some(Ordering::Fifo)))
                    .await;
            }
            let target = Target {
                id,
                receiver,
                in_order,
                log: Log::default(),
            };
            target.answer(Behaviour::Works);
            targets.push(target);
        }
        Self {
            workers: (0..3).map(|_| bench.lane(Lane::Webhooks)).collect(),
            bulk: (0..2).map(|_| bench.lane(Lane::Bulk)).collect(),
            bench,
            targets,
            published: BTreeMap::new(),
            seen: BTreeMap::new(),
            out_of_order: BTreeSet::new(),
        }
    }

    pub(super) async fn close(self) {
        self.bench.close().await;
    }

    pub(super) async fn play(&mut self, op: Op) {
        match op {
            Op::Publish(to, count) => {
                for _ in 0..count {
                    let id = self.bench.webhook(self.targets[to].id).await;
                    let message = self.bench.delivery(id).await.message_id.unwrap();
                    self.published.insert(id, (to, message.to_string()));
                }
            }
            Op::Ring(count) => self.ring(count).await,
            Op::WorkQueues => self.work_queues().await,
            Op::Dispatch => {
                self.bench.dispatch().await;
            }
            Op::Conduct => {
                self.bench.conduct().await;
            }
            Op::Sweep => self.sweep().await,
            Op::AllAtOnce => {
                futures::join!(
                    self.work_queues(),
                    self.bench.conduct(),
                    self.bench.dispatch(),
                    self.sweep(),
                    self.bench.conduct(),
                );
            }
            Op::LoseJobs => {
                for worker in self.workers.iter().chain(&self.bulk) {
                    worker.lose_queue().await;
                }
            }
            Op::Answer(endpoint, how) => self.targets[endpoint].answer(how),
            Op::Pass(millis) => self.bench.clock.advance(TimeDelta::milliseconds(millis)),
            Op::Pause(endpoint) => self.pause(endpoint).await,
            Op::Meanwhile(endpoint, on) => {
                let operator = async {
                    if on {
                        self.resume(endpoint).await;
                    } else {
                        self.pause(endpoint).await;
                    }
                };
                futures::join!(self.work_queues(), self.bench.conduct(), operator);
            }
            Op::Resume(endpoint) => self.resume(endpoint).await,
            Op::OpenByHand(endpoint) => {
                self.operate(endpoint, None, |circuit, now| {
                    circuit.open_by_hand(now);
                })
                .await;
            }
            Op::CloseByHand(endpoint) => {
                self.operate(endpoint, None, |circuit, now| {
                    circuit.close_by_hand(now);
                })
                .await;
            }
            Op::ReplayDead(which) => self.replay(which).await,
            Op::DiscardDead(which) => self.end(which, Status::Dead, None).await,
            Op::Cancel(which) => {
                self.end(which, Status::Pending, Some(Reason::Cancelled))
                    .await;
            }
        }
    }

    async fn ring(&mut self, count: usize) {
        let rows = self.rows().await;
        let pending: Vec<DeliveryId> = rows
            .iter()
            .filter(|row| row.status == Status::Pending)
            .map(|row| row.id)
            .take(count)
            .collect();
        // Overlapping slices, in another order at each worker.
        let slices = self.workers.iter().enumerate().map(|(index, worker)| {
            let mut mine: Vec<_> = pending.iter().skip(index).step_by(2).copied().collect();
            let turned = index.min(mine.len());
            mine.rotate_left(turned);
            async move { worker.work(&mine).await }
        });
        join_all(slices).await;
    }

    async fn work_queues(&self) {
        let workers = self.workers.iter().chain(&self.bulk);
        join_all(workers.map(LaneBench::work_queue)).await;
    }

    async fn sweep(&self) {
        let found = Full::default()
            .step(&self.bench.db, &self.bench.queue, self.bench.now())
            .await;
        assert!(found.unwrap().complete);
    }

    /// What an operator does: the circuit's row first, which every worker that asks or records waits for.
    async fn operate(
        &self,
        endpoint: usize,
        status: Option<EndpointStatus>,
        act: impl FnOnce(&mut circuits::Model, Timestamp),
    ) {
        let (now, id) = (self.bench.now(), self.targets[endpoint].id);
        let tx = begin_write(&self.bench.db).await.unwrap();
        let owner = [(id.uuid(), Some(self.bench.tenant))];
        circuit::create_missing(&tx, owner, now).await.unwrap();
        let mut row = circuit::lock(&tx, [id.uuid()]).await.unwrap();
        let mut row = row.remove(&id.uuid()).unwrap();
        act(&mut row, now);
        circuit::save(&tx, row, now).await.unwrap();
        if let Some(status) = status {
            set_status(&tx, id, status).await;
        }
        tx.commit().await.unwrap();
    }

    async fn pause(&self, endpoint: usize) {
        self.operate(endpoint, Some(EndpointStatus::Paused), |_, _| {})
            .await;
    }

    async fn resume(&self, endpoint: usize) {
        self.operate(endpoint, Some(EndpointStatus::Active), |circuit, now| {
            circuit.begin_release(now);
        })
        .await;
    }

    /// As the API does it.
    async fn replay(&mut self, which: usize) {
        use delivery::Column;
        let Some(row) = self.pick(which, Status::Dead).await else {
            return;
        };
        let none = || Expr::value(Option::<Timestamp>::None);
        delivery::Entity::update_many()
            .col_expr(Column::Status, Expr::value(Status::Pending))
            .col_expr(Column::Reason, Expr::value(Option::<String>::None))
            .col_expr(Column::NextAttemptAt, none())
            .col_expr(Column::DispatchAt, Expr::value(self.bench.now()))
            .col_expr(Column::FinishedAt, none())
            .col_expr(Column::DeadAt, none())
            .col_expr(Column::ReplayedAt, Expr::value(self.bench.now()))
            .col_expr(Column::ScheduleStart, Expr::col(Column::AttemptCount))
            .filter(Column::Id.eq(row.id))
            .filter(Column::Status.eq(Status::Dead))
            .exec(&self.bench.db)
            .await
            .unwrap();
        self.seen.insert(row.id, Status::Pending);
    }

    async fn end(&mut self, which: usize, from: Status, reason: Option<Reason>) {
        let Some(row) = self.pick(which, from).await else {
            return;
        };
        let (id, endpoint) = (row.id, row.endpoint_id.unwrap());
        let mut row = row.into_active_model();
        (row.status, row.dead_at) = (Set(Status::Discarded), Set(None));
        (row.parked_for, row.dispatch_at) = (Set(None), Set(None));
        row.reason = Set(reason);
        row.update(&self.bench.db).await.unwrap();
        circuit::wake(&self.bench.db, endpoint.uuid(), self.bench.now())
            .await
            .unwrap();
        self.out_of_order.insert(id);
    }

    async fn pick(&self, which: usize, status: Status) -> Option<delivery::Model> {
        let mut rows = self.rows().await;
        rows.retain(|row| row.status == status);
        let count = rows.len();
        (count > 0).then(|| rows.swap_remove(which % count))
    }

    async fn rows(&self) -> Vec<delivery::Model> {
        delivery::Entity::find()
            .order_by_asc(delivery::Column::Id)
            .all(&self.bench.db)
            .await
            .unwrap()
    }

    /// What holds at any time.
    pub(super) async fn check(&mut self) {
        let rows = self.rows().await;
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        assert!(ids.iter().eq(self.published.keys()), "nothing is lost");
        let mut numbers: BTreeMap<DeliveryId, Vec<i32>> = BTreeMap::new();
        for attempt in attempt::Entity::find().all(&self.bench.db).await.unwrap() {
            numbers
                .entry(attempt.delivery_id)
                .or_default()
                .push(attempt.number);
        }
        for row in rows {
            let mut numbers = numbers.remove(&row.id).unwrap_or_default();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(1..=row.attempt_count), "{row:?}");
            let of_schedule = row.attempt_count - row.schedule_start;
            assert!(of_schedule <= SCHEDULE.len() as i32 + 1, "{row:?}");
            if row.status != Status::Pending {
                assert_eq!((row.parked_for, row.dispatch_at), (None, None), "{row:?}");
            }
            if row.status == Status::Dead {
                self.out_of_order.insert(row.id);
            }
            let before = self.seen.insert(row.id, row.status);
            let allowed = match before {
                None | Some(Status::Pending) => true,
                Some(Status::Dead) => matches!(row.status, Status::Dead | Status::Discarded),
                Some(ended) => row.status == ended,
            };
            assert!(allowed, "{before:?} became {row:?}");
        }
        for circuit in circuits::Entity::find().all(&self.bench.db).await.unwrap() {
            assert!(circuit.probes <= PROBES, "{circuit:?}");
        }
        self.targets
            .iter()
            .for_each(|target| self.check_order(target));
    }

    /// In order, a message goes out only when each before it has arrived.
    fn check_order(&self, target: &Target) {
        let log = target.log.lock().unwrap();
        if !target.in_order {
            return;
        }
        let exempt = self.out_of_order.iter().map(|id| &self.published[id].1);
        let exempt: BTreeSet<&String> = exempt.collect();
        // A message's id sorts as its delivery's does: both were made together.
        let (mut arrived, mut newest) = (BTreeSet::new(), None);
        for (message, status) in log.iter().filter(|(id, _)| !exempt.contains(id)) {
            assert!(
                newest <= Some(message) || arrived.contains(message),
                "{message} came after a later one: {log:?}"
            );
            newest = newest.max(Some(message));
            if *status == 200 {
                arrived.insert(message);
            }
        }
    }

    /// Everything works again: everything that waits is to come to its end, found by nothing but what runs all the time.
    pub(super) async fn come_to_rest(&mut self) {
        for endpoint in 0..ENDPOINTS {
            self.targets[endpoint].answer(Behaviour::Works);
            self.operate(endpoint, Some(EndpointStatus::Active), |circuit, now| {
                circuit.close_by_hand(now);
            })
            .await;
        }
        for _ in 0..200 {
            self.sweep().await;
            self.bench.dispatch().await;
            self.bench.conduct().await;
            self.work_queues().await;
            self.check().await;
            let rows = self.rows().await;
            if rows.iter().all(|row| row.status != Status::Pending) {
                return self.check_delivered(&rows);
            }
            self.bench.clock.advance(TimeDelta::milliseconds(2_500));
        }
        let mut rows = self.rows().await;
        rows.retain(|row| row.status == Status::Pending);
        let circuits = circuits::Entity::find().all(&self.bench.db).await.unwrap();
        panic!(
            "{}: still waiting: {rows:#?}\n{circuits:#?}",
            self.bench.now()
        );
    }

    fn check_delivered(&self, rows: &[delivery::Model]) {
        for row in rows.iter().filter(|row| row.status == Status::Delivered) {
            let message = row.message_id.unwrap().to_string();
            let log = self.targets[self.published[&row.id].0].log.lock().unwrap();
            assert!(
                log.contains(&(message, 200)),
                "delivered means that the receiver said so: {row:?}"
            );
        }
    }
}

async fn set_status(tx: &Transaction, id: EndpointId, status: EndpointStatus) {
    use endpoint::Column;
    endpoint::Entity::update_many()
        .col_expr(Column::Status, Expr::value(status))
        .filter(Column::Id.eq(id))
        .exec(tx)
        .await
        .unwrap();
}

impl Target {
    fn answer(&self, how: Behaviour) {
        let log = self.log.clone();
        let count = std::sync::atomic::AtomicUsize::new(0);
        self.receiver.respond(match how {
            Behaviour::Hangs => Reply::Hang,
            answers => Reply::func(move |hit| {
                let turn = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let status = match answers {
                    Behaviour::Works | Behaviour::Hangs => 200,
                    Behaviour::Fails => 500,
                    Behaviour::Busy => 429,
                    Behaviour::Gone => 410,
                    Behaviour::Flaps => [200, 500][turn % 2],
                };
                let id = hit.header("webhook-id").unwrap().to_owned();
                log.lock().unwrap().push((id, status));
                (status, Vec::new(), Vec::new())
            }),
        });
    }
}

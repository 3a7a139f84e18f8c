//! Parking and releasing: the operations of the store, and what a delivery says of them.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    delivery::{DeliveryKind, EndpointStatus, Ordering, ParkedReason, Status},
    ids::DeliveryId,
    queue::{CLAIM, Lane},
    store::fixtures::delivery,
    store::{claim::Dispatched, park::park, release},
};
use relaypost_testkit::{Receiver, Reply};
use sea_orm::ActiveValue::Set;
use uuid::Uuid;

use crate::{
    circuits::{SETTINGS, open},
    fixture::Bench,
};

const CIRCUIT: Uuid = Uuid::from_u128(7);

impl Bench {
    /// Why each of these deliveries is parked and since when, as far as it is.
    pub(crate) async fn parked_reasons(
        &self,
        ids: &[DeliveryId],
    ) -> Vec<Option<(ParkedReason, Timestamp)>> {
        let mut reasons = Vec::new();
        for id in ids {
            reasons.push(self.delivery(*id).await.parked());
        }
        reasons
    }

    /// Parks deliveries for [`CIRCUIT`].
    async fn park(&self, ids: &[DeliveryId]) {
        let tx = begin_write(&self.db).await.unwrap();
        let reason = ParkedReason::CircuitOpen;
        park(&tx, CIRCUIT, reason, ids, self.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Makes and parks one delivery for each number, which is how many attempts it has had.
    async fn parked_with_attempts(&self, attempts: &[i32]) -> Vec<DeliveryId> {
        let mut ids = Vec::new();
        for count in attempts {
            let row = self.pending(DeliveryKind::Email);
            let row = delivery::Model {
                attempt_count: *count,
                ..row
            };
            ids.push(self.insert(row).await);
        }
        self.park(&ids).await;
        ids
    }
}

fn ids(released: &[Dispatched]) -> Vec<DeliveryId> {
    let mut ids: Vec<DeliveryId> = released.iter().map(|one| one.job.delivery).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn parking_takes_only_what_is_pending_out_of_the_dispatchers_sight() {
    let bench = Bench::new(SETTINGS).await;
    let due = delivery::Model {
        dispatch_at: Some(bench.now()),
        attempt_count: 1,
        ..bench.pending(DeliveryKind::Email)
    };
    let done = delivery::Model {
        status: Status::Delivered,
        ..bench.pending(DeliveryKind::Email)
    };
    let (due, done) = (bench.insert(due).await, bench.insert(done).await);
    bench.park(&[due, done]).await;
    assert_eq!(bench.dispatch().await, 0);
    let row = bench.delivery(due).await;
    assert_eq!((row.status, row.attempt_count), (Status::Pending, 1));
    assert_eq!((row.parked_for, row.dispatch_at), (Some(CIRCUIT), None));
    let row = bench.delivery(done).await;
    assert_eq!((row.status, row.parked_for), (Status::Delivered, None));
    bench.close().await;
}

#[tokio::test]
async fn of_several_that_release_the_same_delivery_one_gets_its_job() {
    let bench = Bench::new(SETTINGS).await;
    let parked = bench.parked_with_attempts(&[0, 0, 0]).await;
    let now = bench.now();
    let tx = begin_write(&bench.db).await.unwrap();
    let first = release::oldest(&tx, CIRCUIT, 2, now).await.unwrap();
    let again = release::one(&tx, parked[0], now).await.unwrap();
    let rest = release::oldest(&tx, CIRCUIT, 2, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((ids(&first), ids(&again)), (parked[..2].to_vec(), vec![]));
    assert_eq!(ids(&rest), parked[2..]);
    assert_eq!(
        (first[0].lane, first[0].job.tenant),
        (Lane::Emails, bench.tenant)
    );
    for id in parked {
        let row = bench.delivery(id).await;
        let claimed = (None, Some(now + CLAIM));
        assert_eq!((row.parked_for, row.dispatch_at), claimed, "as claimed");
    }
    bench.close().await;
}

#[tokio::test]
async fn probes_are_those_of_the_oldest_that_have_had_the_fewest_attempts() {
    let bench = Bench::new(SETTINGS).await;
    let parked = bench.parked_with_attempts(&[3, 1, 2, 1, 0]).await;
    let tx = begin_write(&bench.db).await.unwrap();
    let now = bench.now();
    let probes = release::probes(&tx, CIRCUIT, 2, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ids(&probes), [parked[1], parked[4]]);
    bench.close().await;
}

#[tokio::test]
async fn a_delivery_says_why_it_is_parked_and_since_when_until_it_is_released() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    let (endpoint, parked) = open(&bench, &lane, &receiver, 3).await;
    let since = bench.now();
    bench.clock.advance(TimeDelta::seconds(1));
    bench
        .change(endpoint, |row| row.status = Set(EndpointStatus::Paused))
        .await;
    lane.work(&parked[..1]).await;
    let reasons = bench.parked_reasons(&parked).await;
    let (paused, open) = (ParkedReason::Paused, ParkedReason::CircuitOpen);
    assert_eq!(
        reasons,
        [
            Some((paused, since)),
            Some((open, since)),
            Some((open, since))
        ],
        "a delivery whose job comes again is parked since the first time"
    );

    bench
        .change(endpoint, |row| row.status = Set(EndpointStatus::Active))
        .await;
    bench.clock.advance(TimeDelta::seconds(10));
    bench.conduct().await;
    assert_eq!(
        bench.parked_reasons(&parked).await,
        [None, None, Some((open, since))],
        "two are released as probes"
    );
    lane.work_queue().await;
    bench.clock.advance(TimeDelta::seconds(1));
    let more = bench.webhooks(endpoint, 1).await;
    lane.work(&more).await;
    let now = bench.now();
    assert_eq!(bench.parked_reasons(&more).await, [Some((open, now))]);
    bench.close().await;
}

#[tokio::test]
async fn behind_a_message_that_goes_first_a_delivery_is_parked_as_ordered() {
    let bench = Bench::new(SETTINGS).await;
    let (receiver, lane) = (Receiver::start().await, bench.lane(Lane::Webhooks));
    receiver.respond(Reply::Status(500));
    let endpoint = bench.endpoint(&receiver.url("/"), Some(vec![60])).await;
    bench
        .change(endpoint, |row| row.ordering = Set(Some(Ordering::Fifo)))
        .await;
    let ids = bench.webhooks(endpoint, 2).await;
    lane.work(&ids).await;
    let ordered = Some((ParkedReason::Ordered, bench.now()));
    assert_eq!(bench.parked_reasons(&ids).await, [None, ordered]);

    receiver.respond(Reply::Status(200));
    bench.clock.advance(TimeDelta::seconds(90));
    lane.work(&ids[..1]).await;
    assert_eq!(bench.parked_reasons(&ids).await, [None, None]);
    lane.work_queue().await;
    assert_eq!(bench.delivery(ids[1]).await.status, Status::Delivered);
    bench.close().await;
}

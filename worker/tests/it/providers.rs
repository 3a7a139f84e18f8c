//! The circuits of mail providers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use chrono::TimeDelta;
use relaypost_shared::{
    delivery::{CircuitState, ParkedReason, Status},
    ids::DeliveryId,
    queue::Lane,
    store::fixtures::circuit,
};
use relaypost_testkit::SmtpServer;
use sea_orm::EntityTrait;
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Bench, LaneBench};

/// A mail server that can be down: then it hangs up on whoever connects.
struct Provider {
    server: SmtpServer,
    url: String,
    up: Arc<AtomicBool>,
    tried: Arc<AtomicUsize>,
}

impl Provider {
    async fn down() -> Self {
        let server = SmtpServer::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}?tls=none", listener.local_addr().unwrap());
        let (up, tried) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (door, count, behind) = (up.clone(), Arc::clone(&tried), server.addr());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                if door.load(Ordering::SeqCst) {
                    let mut server = TcpStream::connect(behind).await.unwrap();
                    tokio::spawn(async move {
                        // Either side may hang up first.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    });
                }
            }
        });
        Self {
            server,
            url,
            up,
            tried,
        }
    }

    fn comes_up(&self) {
        self.up.store(true, Ordering::SeqCst);
    }

    fn tried(&self) -> usize {
        self.tried.load(Ordering::SeqCst)
    }
}

/// Three failures open a circuit for ten seconds, and one probe closes it.
async fn bench(providers: &str) -> Bench {
    Bench::new(&[
        ("EMAIL_PROVIDERS", providers),
        ("CIRCUIT_FAILURE_THRESHOLD", "3"),
        ("CIRCUIT_OPEN_SECONDS", "10"),
        ("CIRCUIT_PROBES", "1"),
    ])
    .await
}

impl Bench {
    async fn mails(&self, count: usize) -> Vec<DeliveryId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.email("user@example.test").await);
        }
        ids
    }

    async fn provider(&self, index: usize) -> Option<circuit::Model> {
        let id = self.settings.emails.providers[index].circuit();
        let row = circuit::Entity::find_by_id(id).one(&self.db).await;
        row.unwrap()
    }

    async fn statuses(&self, ids: &[DeliveryId]) -> Vec<(Status, i32)> {
        let mut statuses = Vec::new();
        for id in ids {
            let row = self.delivery(*id).await;
            statuses.push((row.status, row.attempt_count));
        }
        statuses
    }

    async fn play(&self, lane: &LaneBench, seconds: u32) {
        for _ in 0..seconds * 4 {
            self.dispatch().await;
            self.conduct().await;
            lane.work_queue().await;
            self.clock.advance(TimeDelta::milliseconds(250));
        }
    }
}

#[tokio::test]
async fn mails_pass_a_provider_that_is_down_by_until_one_of_them_finds_it_back() {
    let (first, second) = (Provider::down().await, SmtpServer::start().await);
    let both = format!("{},smtp://{}?tls=none", first.url, second.addr());
    let bench = bench(&both).await;
    let lane = bench.lane(Lane::Emails);
    for id in bench.mails(3).await {
        lane.work(&[id]).await;
    }
    assert_eq!(bench.provider(0).await.unwrap().state, CircuitState::Open);
    assert_eq!(first.tried(), 3);
    lane.work(&bench.mails(5).await).await;
    assert_eq!(first.tried(), 3, "it is left alone");
    assert_eq!(second.mails().len(), 3 + 5);

    bench.clock.advance(TimeDelta::seconds(10));
    let (other, some, more) = (
        bench.lane(Lane::Emails),
        bench.mails(5).await,
        bench.mails(5).await,
    );
    futures::join!(lane.work(&some), other.work(&more));
    assert_eq!(first.tried(), 4, "one mail probes it");
    assert_eq!(
        second.mails().len(),
        8 + 10,
        "and goes to the next one then"
    );

    first.comes_up();
    bench.clock.advance(TimeDelta::seconds(20));
    lane.work(&bench.mails(1).await).await;
    assert_eq!(bench.provider(0).await.unwrap().state, CircuitState::Closed);
    lane.work(&bench.mails(4).await).await;
    assert_eq!((first.server.mails().len(), second.mails().len()), (5, 18));
    assert!(bench.provider(1).await.is_none(), "it has had no trouble");
    bench.close().await;
}

#[tokio::test]
async fn while_no_provider_is_up_mails_are_held_back_and_any_that_comes_back_sends_them() {
    for back in [0, 1] {
        let providers = [Provider::down().await, Provider::down().await];
        let both = format!("{},{}", providers[0].url, providers[1].url);
        let bench = bench(&both).await;
        let lane = bench.lane(Lane::Emails);
        let tried = bench.mails(3).await;
        lane.work(&tried).await;
        let held = bench.mails(40).await;
        lane.work(&held[..20]).await;
        assert_eq!(bench.parked().await, 20);
        let row = bench.delivery(held[0]).await;
        assert_eq!(row.parked(), Some((ParkedReason::CircuitOpen, bench.now())));
        assert!(
            bench
                .statuses(&held[..20])
                .await
                .iter()
                .all(|one| *one == (Status::Pending, 0))
        );
        // One probe each, which fails. Then the other one is due first.
        bench.play(&lane, 15).await;
        lane.work(&held[20..]).await;
        assert_eq!(providers.each_ref().map(Provider::tried), [4, 4]);

        providers[back].comes_up();
        bench.play(&lane, 60).await;
        assert_eq!(bench.parked().await, 0);
        assert_eq!(providers[back].server.mails().len(), 43);
        let sent = bench.statuses(&held).await;
        let probes = sent.iter().filter(|one| **one != (Status::Delivered, 1));
        assert!(probes.count() <= 4, "{sent:?}");
        bench.close().await;
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_a_provider_that_is_down() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("mail");
    std::fs::write(&folder, "in the way").unwrap();
    let bench = bench(&format!("file://{}", folder.display())).await;
    let lane = bench.lane(Lane::Emails);
    lane.work(&bench.mails(3).await).await;
    let held = bench.mails(5).await;
    lane.work(&held).await;
    assert_eq!(bench.parked().await, 5);
    std::fs::remove_file(&folder).unwrap();
    bench.play(&lane, 30).await;
    assert_eq!(bench.statuses(&held).await, [(Status::Delivered, 1); 5]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3 + 5);
    bench.close().await;
}

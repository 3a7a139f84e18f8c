//! The processes, and what is done to them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use relaypost_testkit::{Proc, RedisServer, Relay, Silence, World, WorldOptions};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, sleep_until},
};

use crate::{
    broken::Broken,
    calm::Calm,
    plan::{Fault, Planned},
    probe::Probe,
    struck::Struck,
};

/// A process that was told to stop has this long. It is more than its grace, so that one that uses it up still counts.
const STOP_DEADLINE: Duration = Duration::from_secs(40);
/// A process that ends instead of listening, because the database is away, is started again this often, for this long.
const START_AGAIN: Duration = Duration::from_millis(250);
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Two API processes, two workers, PostgreSQL and Redis.
pub(crate) struct Fleet {
    pub(crate) world: World,
    apis: Vec<Place>,
    workers: Vec<Place>,
    redis: Mutex<RedisServer>,
    /// Held while PostgreSQL restarts.
    postgres: Mutex<()>,
    probe: Probe,
    calm: Calm,
    broken: Broken,
}

/// A place in the fleet: the process that stands there is replaced when it has ended.
struct Place {
    name: String,
    binary: &'static str,
    process: Mutex<Proc>,
    url: watch::Sender<String>,
}

impl Place {
    fn all(what: &str, binary: &'static str, processes: Vec<Proc>) -> Vec<Self> {
        let place = |(number, process): (usize, Proc)| Self {
            name: format!("{what} {number}"),
            binary,
            url: watch::Sender::new(process.base_url()),
            process: Mutex::new(process),
        };
        processes.into_iter().enumerate().map(place).collect()
    }
}

impl Fleet {
    pub(crate) async fn start(options: WorldOptions, broken: Broken) -> Result<Self> {
        let mut world = World::start(options.relays()).await;
        let probe = Probe::start(&world).await;
        Ok(Self {
            apis: Place::all("API", "relaypost-api", std::mem::take(&mut world.apis)),
            workers: Place::all(
                "worker",
                "relaypost-worker",
                std::mem::take(&mut world.workers),
            ),
            redis: Mutex::new(world.redis.take().context("the stack has a Redis")?),
            postgres: Mutex::default(),
            probe,
            calm: Calm::new(),
            world,
            broken,
        })
    }

    /// Where the API processes listen, now and later.
    pub(crate) fn api_urls(&self) -> Vec<watch::Receiver<String>> {
        self.apis
            .iter()
            .map(|place| place.url.subscribe())
            .collect()
    }

    /// Lets the plan come true.
    pub(crate) async fn suffer(&self, began: Instant, plan: &[Planned]) -> Vec<Struck> {
        let mut struck = join_all(plan.iter().map(|planned| self.strike(began, *planned))).await;
        struck.sort_by_key(|one| one.from);
        struck
    }

    /// Tells the workers to stop, so that whatever they have begun has come to its end.
    pub(crate) async fn stop_workers(&self) {
        self.stop_all(&self.workers).await;
    }

    /// Tells the API processes to stop and removes everything.
    pub(crate) async fn end(self) {
        self.stop_all(&self.apis).await;
        let Self { world, .. } = self;
        world.stop().await;
    }

    async fn strike(&self, began: Instant, planned: Planned) -> Struck {
        sleep_until((began + planned.at).into()).await;
        let from = match planned.fault {
            Fault::KillApi(slot) => self.kill(&self.apis[slot], planned.away).await,
            Fault::KillWorker(slot) => self.kill(&self.workers[slot], planned.away).await,
            Fault::StopApi(slot) => self.replace(&self.apis[slot], planned.away).await,
            Fault::StopWorker(slot) => self.replace(&self.workers[slot], planned.away).await,
            Fault::CrashPostgres => {
                let _turn = self.postgres.lock().await;
                let _away = self.calm.away();
                let from = Instant::now();
                self.world.database.crash_server().await;
                from
            }
            Fault::FlushRedis => {
                let redis = self.redis.lock().await;
                let _away = self.calm.away();
                let from = Instant::now();
                redis.command(&["FLUSHALL"]).await;
                from
            }
            Fault::LoseRedis => {
                let mut redis = self.redis.lock().await;
                let _away = self.calm.away();
                let from = Instant::now();
                redis.kill9().await;
                sleep(planned.away).await;
                redis.restart_empty().await;
                from
            }
            Fault::SilentDatabase(silence) => {
                self.silence(&self.world.relays().database, silence).await
            }
            Fault::SilentRedis(silence) => self.silence(&self.world.relays().redis, silence).await,
        };
        println!(
            "{:6.1} s  {}",
            from.duration_since(began).as_secs_f64(),
            planned.fault
        );
        Struck::by(planned.fault, from, Instant::now())
    }

    /// Silences every open connection and waits until everything works again. Returns when it began.
    async fn silence(&self, relay: &Relay, silence: Silence) -> Instant {
        let from = Instant::now();
        relay.silence(silence);
        drop(self.calm.away());
        self.probe
            .until_all_work(&self.api_urls(), &self.calm, &self.broken)
            .await;
        from
    }

    /// Kills a process and starts it again. Returns when it was killed.
    async fn kill(&self, place: &Place, away: Duration) -> Instant {
        let mut process = place.process.lock().await;
        let _away = self.calm.away();
        self.expect_running(place, &process);
        let from = Instant::now();
        process.kill9();
        sleep(away).await;
        *process = self.start_again(place).await;
        from
    }

    /// Tells a process to stop and starts it again. Returns when it was told.
    async fn replace(&self, place: &Place, away: Duration) -> Instant {
        let mut process = place.process.lock().await;
        let _away = self.calm.away();
        let from = self.stop(place, &process).await;
        sleep(away).await;
        *process = self.start_again(place).await;
        from
    }

    async fn stop_all(&self, places: &[Place]) {
        join_all(places.iter().map(async |place| {
            let process = place.process.lock().await;
            self.stop(place, &process).await
        }))
        .await;
    }

    async fn stop(&self, place: &Place, process: &Proc) -> Instant {
        self.expect_running(place, process);
        let from = Instant::now();
        process.sigterm();
        match process.exit_within(STOP_DEADLINE).await {
            Some(0) => {}
            Some(code) => self.broken.note(format!(
                "{} was told to stop and exited with {code}: {}",
                place.name,
                process.describe()
            )),
            None => self.broken.note(format!(
                "{} was told to stop and still runs: {}",
                place.name,
                process.describe()
            )),
        }
        from
    }

    fn expect_running(&self, place: &Place, process: &Proc) {
        if !process.is_running() {
            self.broken.note(format!(
                "{} ended by itself: {}",
                place.name,
                process.describe()
            ));
        }
    }

    /// What a supervisor does: it starts the process until it stays.
    async fn start_again(&self, place: &Place) -> Proc {
        let began = Instant::now();
        loop {
            match self.world.try_serve(place.binary).await {
                Ok(process) => {
                    place.url.send_replace(process.base_url());
                    return process;
                }
                Err(why) => assert!(
                    began.elapsed() < START_DEADLINE,
                    "{} does not start again: {why}",
                    place.name
                ),
            }
            sleep(START_AGAIN).await;
        }
    }
}

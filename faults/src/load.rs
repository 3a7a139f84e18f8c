//! The load: publishers that send at a steady rate and send again until they get an answer.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use relaypost_testkit::{Answer, Tenant};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    broken::Broken,
    receivers::{event_types, text},
};

/// Publishers, each with one request at a time.
const PUBLISHERS: usize = 24;
/// The share of emails.
const EMAILS: f64 = 0.07;
/// The share of requests that are sent once more although they were answered.
const ONCE_MORE: f64 = 0.1;
/// The share of first tries that are hung up on, and how soon: whether those are accepted nobody knows.
const HUNG_UP: f64 = 0.03;
const HANG_UP_MS: std::ops::Range<u64> = 1..30;
/// Between two tries of the same request.
const PAUSE: Duration = Duration::from_millis(100);
/// Something that nobody accepts for this long is never accepted.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) tenant: usize,
    pub(crate) id: String,
    pub(crate) what: What,
}

/// What was handed in.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Message {
        event_type: &'static str,
        payload: String,
    },
    Email {
        recipient: String,
    },
}

/// What the publishers went through.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Tries that no answer came to.
    pub(crate) unanswered: AtomicUsize,
    /// Tries that were answered with "try again".
    pub(crate) unavailable: AtomicUsize,
    /// Answers 200 to a key whose first answer was lost.
    pub(crate) replayed: AtomicUsize,
    /// Requests that were sent once more on purpose, and got the same answer.
    pub(crate) once_more: AtomicUsize,
}

/// The publishers' side of the world. Clones share it.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) tenants: Arc<[Tenant]>,
    pub(crate) urls: Arc<[watch::Receiver<String>]>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) broken: Broken,
    pub(crate) seed: u64,
}

/// A request with its key.
struct Keyed {
    tenant: usize,
    key: String,
    path: &'static str,
    body: String,
    /// How long its first try is waited for, if that is to be too short.
    hang_up: Option<Duration>,
    what: What,
}

impl Load {
    /// Publishes `rate` requests a second for this long, then goes on until each of them is answered.
    pub(crate) async fn run(&self, rate: f64, load: Duration) -> Vec<Acknowledged> {
        let mut publishers = JoinSet::new();
        for number in 0..PUBLISHERS {
            publishers.spawn(self.clone().publish(number, rate, load));
        }
        publishers.join_all().await.concat()
    }

    async fn publish(self, number: usize, rate: f64, load: Duration) -> Vec<Acknowledged> {
        let mut random = StdRng::seed_from_u64(self.seed ^ (1 << 32) ^ number as u64);
        let mut ticks = interval(Duration::from_secs_f64(PUBLISHERS as f64 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, mut acknowledged) = (Instant::now(), Vec::new());
        for turn in 0.. {
            ticks.tick().await;
            if began.elapsed() >= load {
                break;
            }
            let key = format!("{:x}-{number}-{turn}", self.seed);
            let keyed = Keyed::draw(&mut random, self.tenants.len(), key);
            let Some(id) = self.until_answered(&keyed, number, None).await else {
                continue;
            };
            if random.random_bool(ONCE_MORE) {
                self.until_answered(&keyed, number + 1, Some(&id)).await;
            }
            acknowledged.push(Acknowledged {
                tenant: keyed.tenant,
                id,
                what: keyed.what,
            });
        }
        acknowledged
    }

    /// Sends it to one API process after the other until one has accepted it, and returns the id. `known` is the id that
    /// an earlier answer gave.
    async fn until_answered(
        &self,
        keyed: &Keyed,
        first: usize,
        known: Option<&str>,
    ) -> Option<String> {
        let began = Instant::now();
        let mut may_be_known = known.is_some();
        for turn in first.. {
            if began.elapsed() > GIVE_UP {
                break;
            }
            let patience = keyed.hang_up.filter(|_| turn == first);
            let Some(answer) = self.send(keyed, turn, patience).await else {
                self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                may_be_known = true;
                sleep(PAUSE).await;
                continue;
            };
            match answer.status {
                201 | 200 => return self.accepted(keyed, &answer, known, may_be_known),
                // "Try again." Whether the transaction was committed is not known: the database's answer may be lost.
                503 | 507 | 409 | 429 if answer.header("retry-after").is_some() => {
                    self.counts.unavailable.fetch_add(1, Ordering::Relaxed);
                    may_be_known = true;
                }
                _ => {
                    self.broken
                        .note(format!("key {}: an unexpected answer: {answer}", keyed.key));
                    may_be_known = true;
                }
            }
            sleep(PAUSE).await;
        }
        self.broken.note(format!(
            "key {}: not accepted within {GIVE_UP:?}",
            keyed.key
        ));
        None
    }

    /// One try. `None`: no whole answer came, or not within the caller's patience.
    async fn send(&self, keyed: &Keyed, turn: usize, patience: Option<Duration>) -> Option<Answer> {
        let url = self.urls[turn % self.urls.len()].borrow().clone();
        let api = self.tenants[keyed.tenant].api.with_base(&url);
        let api = api.with_header("Idempotency-Key", &keyed.key);
        let body = ("application/json", keyed.body.clone().into_bytes());
        let answer = api.try_send(Method::POST, keyed.path, Some(body));
        match patience {
            Some(patience) => timeout(patience, answer).await.ok()?.ok(),
            None => answer.await.ok(),
        }
    }

    /// Checks an answer that says yes, and takes the id out of it.
    fn accepted(
        &self,
        keyed: &Keyed,
        answer: &Answer,
        known: Option<&str>,
        may_be_known: bool,
    ) -> Option<String> {
        let id = text(&answer.body, "id").to_owned();
        let again = answer.status == 200;
        let marked = answer.header("idempotency-replayed") == Some("true");
        let wrong = again != marked
            || (again && !may_be_known)
            || known.is_some_and(|known| !again || known != id);
        if wrong || id.is_empty() {
            self.broken.note(format!(
                "key {}: {answer} (known: {known:?}, may be known: {may_be_known}, marked as replayed: {marked})",
                keyed.key
            ));
        }
        match known {
            Some(_) => self.counts.once_more.fetch_add(1, Ordering::Relaxed),
            None => self
                .counts
                .replayed
                .fetch_add(again.into(), Ordering::Relaxed),
        };
        (!id.is_empty()).then_some(id)
    }
}

impl Keyed {
    fn draw(random: &mut StdRng, tenants: usize, key: String) -> Self {
        let tenant = random.random_range(0..tenants);
        let hang_up = random
            .random_bool(HUNG_UP)
            .then(|| Duration::from_millis(random.random_range(HANG_UP_MS)));
        if random.random_bool(EMAILS) {
            let recipient = format!("{key}@example.test");
            let body = json!({"to": [&recipient], "subject": "A fault", "text": key});
            return Self {
                tenant,
                path: "/v1/emails",
                body: body.to_string(),
                hang_up,
                what: What::Email { recipient },
                key,
            };
        }
        let names = event_types(tenant);
        let event_type = names[random.random_range(0..names.len())];
        // Written in a way that no serializer would choose: the receiver gets these very bytes.
        let payload = format!(r#"{{ "key":"{key}",  "note":"h\u00e9 ü", "total":12.50 }}"#);
        Self {
            tenant,
            path: "/v1/messages",
            body: format!(r#"{{"event_type":"{event_type}","payload":{payload}}}"#),
            hang_up,
            what: What::Message {
                event_type,
                payload,
            },
            key,
        }
    }
}

/// The ids of what was acknowledged. Each may stand there once: no two keys share an id.
pub(crate) fn distinct<'a>(
    acknowledged: impl IntoIterator<Item = &'a Acknowledged>,
    broken: &Broken,
) -> HashSet<&'a str> {
    let mut ids = HashSet::new();
    for one in acknowledged {
        if !ids.insert(one.id.as_str()) {
            broken.note(format!("two keys were answered with the id {}", one.id));
        }
    }
    ids
}

/// The id of a row of a list.
pub(crate) fn id(row: &Value) -> &str {
    text(row, "id")
}

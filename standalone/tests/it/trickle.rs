//! A steady trickle of messages by a client that does what the documentation tells it to: each message has an
//! `Idempotency-Key` and is sent again until it is accepted.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relaypost_testkit::{Answer, Receiver, Tenant};
use reqwest::Method;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::id;

/// Between two messages.
const EVERY: Duration = Duration::from_millis(100);
/// Between two tries of one message.
const PAUSE: Duration = Duration::from_millis(500);
/// A message that is accepted and has arrived within this time went through without trouble.
const QUICK: Duration = Duration::from_secs(2);
/// The product works again when this many messages in a row went through without trouble.
const IN_A_ROW: usize = 20;

/// One request.
struct Try {
    key: usize,
    at: Instant,
    took: Duration,
    /// The error means that no answer came.
    answer: Result<Answer, String>,
}

/// One message.
struct Story {
    /// When its first request was sent.
    began: Instant,
    /// Its id, and when it was accepted.
    accepted: Option<(String, Instant)>,
    refused: usize,
}

/// How it went with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Its first request was accepted, and it arrived, both at once.
    Smooth,
    Late,
    NotAccepted,
    NotArrived,
    /// Too early to tell.
    Young,
}

impl Story {
    fn how(&self, arrived: &HashMap<String, Instant>) -> How {
        let accepted = self.accepted.as_ref();
        let arrival = accepted.and_then(|(id, _)| arrived.get(id));
        match (accepted, arrival) {
            (Some((_, at)), Some(arrival)) => {
                let took = at.max(arrival).duration_since(self.began);
                if self.refused == 0 && took < QUICK {
                    How::Smooth
                } else {
                    How::Late
                }
            }
            _ if self.began.elapsed() < QUICK => How::Young,
            (None, _) => How::NotAccepted,
            (Some(_), None) => How::NotArrived,
        }
    }
}

/// Publishes until it is stopped.
pub(crate) struct Trickle {
    tries: Arc<Mutex<Vec<Try>>>,
    started: Arc<Mutex<Vec<Instant>>>,
    stopping: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Trickle {
    /// Starts to publish as this tenant.
    pub(crate) fn start(tenant: &Tenant) -> Trickle {
        let stopping = Arc::new(AtomicBool::new(false));
        let (tries, started) = (Arc::default(), Arc::default());
        let clients = publish(
            tenant.clone(),
            Arc::clone(&tries),
            Arc::clone(&started),
            stopping.clone(),
        );
        Trickle {
            task: tokio::spawn(clients),
            tries,
            started,
            stopping,
        }
    }

    /// How long after `since` everything worked again: from then on each message was accepted at once and arrived at
    /// once. This is known only when `since` is `guarantee` ago; until then, and while a message waits, the error says
    /// why.
    pub(crate) fn works_again(
        &self,
        receiver: &Receiver,
        since: Instant,
        guarantee: Duration,
    ) -> Result<Duration, String> {
        let arrived = first_arrivals(receiver);
        let stories = self.stories();
        let how: Vec<_> = stories
            .iter()
            .map(|one| (one.began, one.how(&arrived)))
            .collect();
        let count = |wanted| how.iter().filter(|(_, how)| *how == wanted).count();
        let smooth: Vec<_> = how
            .iter()
            .rev()
            .filter(|(_, how)| *how != How::Young)
            .take_while(|(_, how)| *how == How::Smooth)
            .map(|(began, _)| *began)
            .collect();
        let (refused, lost) = (count(How::NotAccepted), count(How::NotArrived));
        match smooth[..] {
            [newest, .., oldest]
                if refused + lost == 0
                    && smooth.len() >= IN_A_ROW
                    && newest > since + guarantee =>
            {
                Ok(oldest.saturating_duration_since(since))
            }
            _ => Err(format!(
                "of {} messages {refused} are not accepted and {lost} accepted ones have not arrived; the last {} were \
                 accepted and arrived at once",
                how.len(),
                smooth.len()
            )),
        }
    }

    /// Sends nothing new, goes on until every message is accepted, and returns what was answered.
    pub(crate) async fn stop(self) -> Accepted {
        self.stopping.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let tries = self.tries.lock().unwrap();
        for one in tries.iter() {
            one.check();
        }
        let slowest = tries.iter().max_by_key(|one| one.took).expect("a request");
        let refused = tries.iter().filter(|one| !one.accepts()).count();
        let replayed = tries.iter().filter(|one| one.has(200)).count();
        let stories = stories(&tries, &self.started.lock().unwrap());
        let ids = stories.into_iter().map(|story| {
            let accepted = story.accepted.expect("every message is accepted");
            accepted.0
        });
        Accepted {
            ids: ids.collect(),
            slowest: slowest.took,
            refused,
            replayed,
        }
    }

    fn stories(&self) -> Vec<Story> {
        stories(&self.tries.lock().unwrap(), &self.started.lock().unwrap())
    }
}

/// What the messages of a [`Trickle`] were answered.
pub(crate) struct Accepted {
    /// The id of each message, in order.
    pub(crate) ids: Vec<String>,
    /// The longest that a request waited for its answer.
    pub(crate) slowest: Duration,
    /// How many requests were told to try again.
    pub(crate) refused: usize,
    /// How many messages had been stored although their first request was not accepted.
    pub(crate) replayed: usize,
}

impl Accepted {
    /// Each key has exactly one message, nothing else is stored, and each has arrived with its own payload. Returns how
    /// many arrived more than once.
    pub(crate) async fn check(&self, tenant: &Tenant, receiver: &Receiver) -> usize {
        let stored = tenant.list("/v1/messages").await;
        let stored: Vec<&str> = stored.iter().map(id).collect();
        let wanted: HashSet<&str> = self.ids.iter().map(String::as_str).collect();
        assert_eq!(wanted.len(), self.ids.len(), "two keys have one message");
        assert_eq!(stored.len(), wanted.len(), "a message for each key");
        let missing: Vec<_> = wanted.iter().filter(|id| !stored.contains(id)).collect();
        assert!(missing.is_empty(), "accepted and not stored: {missing:?}");
        let hits = receiver.hits();
        let mut again = 0;
        for (key, id) in self.ids.iter().enumerate() {
            let to_it = hits
                .iter()
                .filter(|hit| hit.header("webhook-id") == Some(id));
            let bodies: Vec<_> = to_it.map(|hit| hit.body.as_slice()).collect();
            assert!(!bodies.is_empty(), "{id} was accepted and never arrived");
            let payload = json!({"n": key}).to_string();
            assert!(bodies.iter().all(|body| *body == payload.as_bytes()));
            again += usize::from(bodies.len() > 1);
        }
        again
    }
}

impl Try {
    fn accepts(&self) -> bool {
        self.has(200) || self.has(201)
    }

    fn has(&self, status: u16) -> bool {
        let answer = self.answer.as_ref();
        answer.is_ok_and(|answer| answer.status == status)
    }

    /// It was accepted, or told when to try again.
    fn check(&self) {
        let answer = self.answer.as_ref();
        let answer = answer.unwrap_or_else(|why| panic!("key {}: no answer: {why}", self.key));
        let right = match answer.status {
            201 => true,
            200 => answer.header("idempotency-replayed") == Some("true"),
            409 | 429 | 503 | 507 => answer.header("retry-after").is_some(),
            _ => false,
        };
        assert!(right, "key {}: {answer} {:?}", self.key, answer.headers);
    }
}

async fn publish(
    tenant: Tenant,
    tries: Arc<Mutex<Vec<Try>>>,
    started: Arc<Mutex<Vec<Instant>>>,
    stopping: Arc<AtomicBool>,
) {
    let mut clients = JoinSet::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for key in 0.. {
        ticks.tick().await;
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        started.lock().unwrap().push(Instant::now());
        clients.spawn(until_accepted(tenant.clone(), key, tries.clone()));
    }
    clients.join_all().await;
}

async fn until_accepted(tenant: Tenant, key: usize, tries: Arc<Mutex<Vec<Try>>>) {
    let api = tenant
        .api
        .with_header("Idempotency-Key", &format!("trickle-{key}"));
    let body = json!({"event_type": "order.created", "payload": {"n": key}}).to_string();
    loop {
        let at = Instant::now();
        let body = Some(("application/json", body.clone().into_bytes()));
        let answer = api.try_send(Method::POST, "/v1/messages", body).await;
        let one = Try {
            key,
            at,
            took: at.elapsed(),
            answer: answer.map_err(|error| format!("{error:?}")),
        };
        let accepts = one.accepts();
        tries.lock().unwrap().push(one);
        if accepts {
            break;
        }
        sleep(PAUSE).await;
    }
}

fn stories(tries: &[Try], started: &[Instant]) -> Vec<Story> {
    let story = |began: &Instant| Story {
        began: *began,
        accepted: None,
        refused: 0,
    };
    let mut stories: Vec<_> = started.iter().map(story).collect();
    for one in tries {
        let story = &mut stories[one.key];
        match &one.answer {
            Ok(answer) if one.accepts() => {
                story.accepted = Some((id(&answer.body).to_owned(), one.at + one.took));
            }
            Ok(_) | Err(_) => story.refused += 1,
        }
    }
    stories
}

fn first_arrivals(receiver: &Receiver) -> HashMap<String, Instant> {
    let mut arrived = HashMap::new();
    for hit in receiver.hits() {
        let id = hit.header("webhook-id").unwrap_or_default();
        arrived.entry(id.to_owned()).or_insert(hit.at);
    }
    arrived
}

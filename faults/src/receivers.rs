//! The tenants, and their endpoints of different behaviour.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use relaypost_testkit::{Hit, Receiver, Reply, Tenant, World};
use serde_json::{Value, json};
use tokio::time::sleep_until;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// 200 at once.
    Steady,
    /// 500 now and then, at random.
    Flaky,
    /// 200 after a while.
    Slow,
    /// Resets every connection during a part of the load.
    Away,
    /// 500 to one message of five, however often it comes: those end in the dead-letter queue.
    Refusing,
}

/// Tenant, event type, manner.
const ENDPOINTS: [(usize, &str, Manner); 7] = [
    (0, "order.created", Manner::Steady),
    (0, "order.created", Manner::Flaky),
    (0, "invoice.paid", Manner::Refusing),
    (1, "order.created", Manner::Steady),
    (1, "order.created", Manner::Slow),
    (2, "order.created", Manner::Steady),
    (2, "stock.low", Manner::Away),
];
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

const SLOWLY: Duration = Duration::from_millis(200);
const FLAKY: f64 = 0.3;
const REFUSED: u64 = 5;
/// The part of the load in which the endpoint that goes away is away.
const AWAY: std::ops::Range<f64> = 0.35..0.5;

/// One request that an endpoint has got.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
    /// Whether it was answered with 200.
    pub(crate) taken: bool,
}

type Arrivals = HashMap<String, Vec<Arrival>>;

/// An endpoint of a tenant, with everything that has arrived there.
pub(crate) struct Endpoint {
    pub(crate) tenant: usize,
    pub(crate) id: String,
    pub(crate) event_type: &'static str,
    manner: Manner,
    receiver: Receiver,
    arrivals: Arc<Mutex<Arrivals>>,
    random: Arc<Mutex<StdRng>>,
}

/// Creates the tenants.
pub(crate) async fn tenants(world: &World) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for name in TENANTS {
        tenants.push(world.tenant(name).await);
    }
    tenants
}

/// Creates the endpoints.
pub(crate) async fn endpoints(tenants: &[Tenant], seed: u64) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (number, (tenant, event_type, manner)) in ENDPOINTS.into_iter().enumerate() {
        let receiver = Receiver::start().await;
        receiver.record(false);
        let mut wanted = json!({"url": receiver.url("/"), "event_types": [event_type]});
        if manner == Manner::Refusing {
            wanted["retry_schedule"] = json!([1, 1]);
        }
        let (id, _) = tenants[tenant].endpoint_with(wanted).await;
        let endpoint = Endpoint {
            tenant,
            id,
            event_type,
            manner,
            receiver,
            arrivals: Arc::default(),
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed ^ number as u64))),
        };
        endpoint.behave();
        endpoints.push(endpoint);
    }
    endpoints
}

/// The event types that a tenant publishes.
pub(crate) fn event_types(tenant: usize) -> Vec<&'static str> {
    let mut names: Vec<_> = ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.0 == tenant)
        .map(|endpoint| endpoint.1)
        .collect();
    names.dedup();
    names
}

/// Whether anybody publishes this event type.
pub(crate) fn is_published(event_type: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| endpoint.1 == event_type)
}

/// Lets the endpoint that goes away do so.
pub(crate) async fn go_away(endpoints: &[Endpoint], began: Instant, load: Duration) {
    let going = endpoints.iter().filter(|one| one.manner == Manner::Away);
    for endpoint in going {
        sleep_until((began + load.mul_f64(AWAY.start)).into()).await;
        endpoint.receiver.respond(Reply::Reset);
        sleep_until((began + load.mul_f64(AWAY.end)).into()).await;
        endpoint.behave();
    }
}

impl Endpoint {
    /// Everything that has arrived, in order, by `webhook-id`.
    pub(crate) fn arrivals(&self) -> Arrivals {
        lock(&self.arrivals).clone()
    }

    /// What it is, for messages about it.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{:?} endpoint {} of {}",
            self.manner, self.id, TENANTS[self.tenant]
        )
    }

    fn behave(&self) {
        let (manner, arrivals, random) = (self.manner, self.arrivals.clone(), self.random.clone());
        let answer = Reply::func(move |hit| {
            let id = hit.header("webhook-id").unwrap_or_default().to_owned();
            let taken = match manner {
                Manner::Flaky => !lock(&random).random_bool(FLAKY),
                Manner::Refusing => !is_refused(&id),
                Manner::Steady | Manner::Slow | Manner::Away => true,
            };
            lock(&arrivals)
                .entry(id)
                .or_default()
                .push(Arrival::of(hit, taken));
            (if taken { 200 } else { 500 }, Vec::new(), Vec::new())
        });
        self.receiver.respond(match manner {
            Manner::Slow => Reply::After(SLOWLY, Box::new(answer)),
            _ => answer,
        });
    }
}

impl Arrival {
    fn of(hit: &Hit, taken: bool) -> Self {
        Self {
            body: hit.body.clone(),
            // Not the hit's own time, which a slow endpoint's answer is long behind.
            at: Instant::now(),
            taken,
        }
    }
}

/// Decided by the message alone, so that no attempt of it ever fares better.
fn is_refused(webhook_id: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    webhook_id.hash(&mut hasher);
    hasher.finish().is_multiple_of(REFUSED)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text of a field, or nothing.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

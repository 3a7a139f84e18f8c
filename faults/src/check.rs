//! What has to be true at the end: everything that was acknowledged has been delivered or is in the dead-letter queue.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use relaypost_testkit::{Mail, Tenant};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    broken::Broken,
    load::{Acknowledged, What, distinct, id},
    receivers::{self, Arrival, Endpoint, text},
};

/// Between two looks at what is pending.
const LOOK: Duration = Duration::from_millis(500);

/// How many deliveries ended how: `webhook delivered`, `email dead (uncertain)`.
pub(crate) type Ends = BTreeMap<String, usize>;

/// What the deliveries came to.
#[derive(Default)]
pub(crate) struct Settled {
    pub(crate) ends: Ends,
    /// Every delivery as the API shows it, by [`row_key`].
    pub(crate) rows: HashMap<String, Value>,
}

/// What a delivery is found by: where it goes to, with the message if that is an endpoint.
pub(crate) fn row_key(message: &str, to: &str) -> String {
    format!("{message} {to}").trim_start().to_owned()
}

/// Everything that the check compares.
pub(crate) struct Evidence<'a> {
    pub(crate) tenants: &'a [Tenant],
    pub(crate) endpoints: &'a [Endpoint],
    pub(crate) acknowledged: &'a [Acknowledged],
    pub(crate) mails: &'a [Mail],
    pub(crate) broken: &'a Broken,
}

/// Waits until nothing is pending and returns how long that took. At the deadline, what still is pending is a broken
/// guarantee.
pub(crate) async fn drain(tenants: &[Tenant], deadline: Duration, broken: &Broken) -> Duration {
    let began = Instant::now();
    for tenant in tenants {
        loop {
            let pending = tenant.pending(20).await;
            if pending.is_empty() {
                break;
            }
            if began.elapsed() > deadline {
                for delivery in pending {
                    broken.note(format!("pending {deadline:?} after the load: {delivery}"));
                }
                break;
            }
            sleep(LOOK).await;
        }
    }
    began.elapsed()
}

impl Evidence<'_> {
    /// Notes what is broken and counts what is not.
    pub(crate) async fn check(&self) -> Settled {
        let mut settled = Settled::default();
        let ids = distinct(self.acknowledged, self.broken);
        let arrived: Vec<_> = self.endpoints.iter().map(Endpoint::arrivals).collect();
        for (endpoint, arrivals) in self.endpoints.iter().zip(&arrived) {
            for id in arrivals.keys().filter(|id| !ids.contains(id.as_str())) {
                self.broken.note(format!(
                    "{id} came to the {} and belongs to no key",
                    endpoint.describe()
                ));
            }
        }
        let mut recipients: HashMap<&str, usize> = HashMap::new();
        for recipient in self.mails.iter().flat_map(|mail| &mail.to) {
            *recipients.entry(recipient).or_default() += 1;
        }
        for (number, tenant) in self.tenants.iter().enumerate() {
            let stored = Stored::load(tenant).await;
            for extra in stored.things.keys().filter(|id| !ids.contains(id.as_str())) {
                self.broken
                    .note(format!("{extra} was stored and belongs to no key"));
            }
            for one in self.acknowledged.iter().filter(|one| one.tenant == number) {
                let Some(deliveries) = stored.things.get(&one.id) else {
                    self.broken
                        .note(format!("{} was acknowledged and is not stored", one.id));
                    continue;
                };
                match &one.what {
                    What::Message {
                        event_type,
                        payload,
                    } => {
                        self.fan_out(one, event_type, deliveries);
                        self.arrived(one, payload, &arrived, deliveries);
                    }
                    What::Email { recipient } => {
                        self.mailed(&one.id, recipients.get(recipient.as_str()), deliveries)
                    }
                }
                for delivery in deliveries {
                    let end = self.end(delivery, &stored);
                    *settled.ends.entry(end).or_default() += 1;
                    let to = format!(
                        "{}{}",
                        text(delivery, "endpoint_id"),
                        text(delivery, "recipient")
                    );
                    let key = row_key(text(delivery, "message_id"), &to);
                    settled.rows.insert(key, delivery.clone());
                }
            }
        }
        settled
    }

    /// A message has one delivery for each endpoint that wants it.
    fn fan_out(&self, one: &Acknowledged, event_type: &str, deliveries: &[Value]) {
        let wanting = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.tenant == one.tenant && endpoint.event_type == event_type);
        let wanting: BTreeSet<_> = wanting.map(|endpoint| endpoint.id.as_str()).collect();
        let has: BTreeSet<_> = deliveries
            .iter()
            .map(|delivery| text(delivery, "endpoint_id"))
            .collect();
        if wanting != has || has.len() != deliveries.len() {
            self.broken.note(format!(
                "{} has other deliveries than one to each of {wanting:?}: {deliveries:?}",
                one.id
            ));
        }
    }

    /// What counts as delivered has arrived, and whatever arrived is the payload as it was published.
    fn arrived(
        &self,
        one: &Acknowledged,
        payload: &str,
        arrived: &[HashMap<String, Vec<Arrival>>],
        deliveries: &[Value],
    ) {
        for (endpoint, arrivals) in self.endpoints.iter().zip(arrived) {
            let arrivals = arrivals.get(&one.id).map_or(&[][..], Vec::as_slice);
            if arrivals.iter().any(|one| one.body != payload.as_bytes()) {
                self.broken.note(format!(
                    "{} came to the {} with another payload",
                    one.id,
                    endpoint.describe()
                ));
            }
            let to_it = deliveries
                .iter()
                .filter(|delivery| text(delivery, "endpoint_id") == endpoint.id);
            for delivery in to_it.filter(|delivery| text(delivery, "status") == "delivered") {
                if !arrivals.iter().any(|one| one.taken) {
                    self.broken.note(format!(
                        "marked as delivered, and the {} took nothing: {delivery}",
                        endpoint.describe()
                    ));
                }
            }
        }
    }

    /// A mail that counts as delivered has arrived.
    fn mailed(&self, id: &str, arrived: Option<&usize>, deliveries: &[Value]) {
        if deliveries.len() != 1 {
            self.broken.note(format!(
                "{id} has other deliveries than one to its recipient: {deliveries:?}"
            ));
        }
        for delivery in deliveries {
            if text(delivery, "status") == "delivered" && arrived.is_none() {
                self.broken.note(format!(
                    "marked as delivered, and the mail server took nothing: {delivery}"
                ));
            }
        }
    }

    /// How a delivery ended, in words.
    fn end(&self, delivery: &Value, stored: &Stored) -> String {
        let (kind, status) = (text(delivery, "kind"), text(delivery, "status"));
        match status {
            "delivered" => format!("{kind} delivered"),
            "dead" => {
                if !stored.dead.contains(id(delivery)) {
                    self.broken
                        .note(format!("dead and not in the dead-letter queue: {delivery}"));
                }
                format!("{kind} dead ({})", text(delivery, "reason"))
            }
            _ => {
                self.broken
                    .note(format!("neither delivered nor dead: {delivery}"));
                format!("{kind} {status}")
            }
        }
    }
}

/// What the API shows of a tenant.
struct Stored {
    /// The deliveries of each message and of each email.
    things: HashMap<String, Vec<Value>>,
    /// The ids in the dead-letter queues.
    dead: HashSet<String>,
}

impl Stored {
    async fn load(tenant: &Tenant) -> Self {
        let (mut things, mut dead) = (HashMap::new(), HashSet::new());
        for path in ["/v1/messages", "/v1/emails"] {
            let mut list = tenant.list(path).await;
            // What the product has to say about itself is nobody's key.
            list.retain(|thing| {
                thing["event_type"]
                    .as_str()
                    .is_none_or(receivers::is_published)
            });
            for thing in list {
                let deliveries = thing["deliveries"].as_array().cloned().unwrap_or_default();
                things.insert(id(&thing).to_owned(), deliveries);
            }
        }
        for path in ["/v1/webhooks/dlq", "/v1/emails/dlq"] {
            let letters = tenant.list(path).await;
            dead.extend(letters.iter().map(|letter| id(letter).to_owned()));
        }
        Self { things, dead }
    }
}

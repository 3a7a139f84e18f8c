//! Whether everything works again after a fault that nobody repairs.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use relaypost_testkit::{Receiver, Tenant, World};
use reqwest::Method;
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use crate::{broken::Broken, calm::Calm, receivers::text};

/// The guarantee is 15 s from the moment at which nothing is away any more; a machine under load gets more.
const BACK: Duration = Duration::from_secs(30);
/// Messages to each API process: enough that each worker gets some.
const MESSAGES: usize = 8;
/// Between two tries, and between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A tenant of its own, whose messages say whether they get through.
pub(crate) struct Probe {
    tenant: Tenant,
    receiver: Receiver,
    sent: AtomicUsize,
}

impl Probe {
    pub(crate) async fn start(world: &World) -> Self {
        let tenant = world.tenant("probe").await;
        let receiver = Receiver::start().await;
        receiver.record(false);
        tenant.endpoint(&receiver.url("/"), &[]).await;
        Self {
            tenant,
            receiver,
            sent: AtomicUsize::new(0),
        }
    }

    /// Waits until each of these API processes accepts messages and all of them have arrived. When that takes too long
    /// although nothing else is away, a guarantee is broken.
    pub(crate) async fn until_all_work(
        &self,
        apis: &[watch::Receiver<String>],
        calm: &Calm,
        broken: &Broken,
    ) {
        let messages = apis.iter().flat_map(|api| (0..MESSAGES).map(move |_| api));
        let through = async {
            let ids = join_all(messages.map(|api| self.until_accepted(api))).await;
            let mut missing: HashSet<String> = ids.into_iter().collect();
            while !missing.is_empty() {
                sleep(PAUSE).await;
                let arrived = self.receiver.by_webhook_id();
                missing.retain(|id| !arrived.contains_key(id));
            }
        };
        tokio::select! {
            () = through => {}
            () = calm.lasts(BACK) => broken.note(format!("not everything works again within {BACK:?}")),
        }
    }

    async fn until_accepted(&self, api: &watch::Receiver<String>) -> String {
        let key = format!("probe-{}", self.sent.fetch_add(1, Ordering::Relaxed));
        let body = json!({"event_type": "probe", "payload": {}}).to_string();
        loop {
            let client = self.tenant.api.with_base(&api.borrow());
            let client = client.with_header("Idempotency-Key", &key);
            let body = Some(("application/json", body.clone().into_bytes()));
            match client.try_send(Method::POST, "/v1/messages", body).await {
                Ok(answer) if matches!(answer.status, 200 | 201) => {
                    return text(&answer.body, "id").to_owned();
                }
                // It is what the load finds out whether these refusals are right.
                Ok(_) | Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

//! A tenant of the product and what its tests do most often.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Api;
use crate::wait::eventually;

/// A tenant with a key of its own that may do everything within it.
#[derive(Clone)]
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// A client with its key.
    pub api: Api,
}

impl Tenant {
    /// Creates an endpoint and returns its id and its secret. No event types means all of them.
    pub async fn endpoint(&self, url: &str, event_types: &[&str]) -> (String, String) {
        self.endpoint_with(json!({"url": url, "event_types": event_types}))
            .await
    }

    /// Creates an endpoint from a whole body and returns its id and its secret.
    pub async fn endpoint_with(&self, body: Value) -> (String, String) {
        let created = self.api.post("/v1/endpoints", body).await.expect(201);
        (text(&created, "id"), text(&created, "secret"))
    }

    /// Publishes a message and returns it with its deliveries.
    pub async fn publish(&self, event_type: &str, payload: Value) -> Value {
        let message = json!({"event_type": event_type, "payload": payload});
        self.api.post("/v1/messages", message).await.expect(201)
    }

    /// Waits until a delivery has this status and returns it.
    pub async fn wait_delivery(&self, id: &str, status: &str, deadline: Duration) -> Value {
        let path = format!("/v1/deliveries/{id}");
        eventually(deadline, || async {
            let delivery = self.api.get(&path).await.expect(200);
            let reached = delivery["status"] == status;
            if reached {
                Ok(delivery)
            } else {
                Err(format!("wanted {status}, is {delivery}"))
            }
        })
        .await
    }

    /// Every entry of a list, which is fetched page by page. `path` has no query.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let address = format!("{path}?limit=100{cursor}");
            let page = self.api.get(&address).await.expect(200);
            all.extend_from_slice(page["data"].as_array().expect("a list"));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Up to `limit` deliveries that are pending.
    pub async fn pending(&self, limit: usize) -> Vec<Value> {
        let path = format!("/v1/deliveries?status=pending&limit={limit}");
        let page = self.api.get(&path).await.expect(200);
        page["data"].as_array().expect("a list").clone()
    }

    /// Waits until no delivery is pending.
    pub async fn wait_until_nothing_is_pending(&self, deadline: Duration) {
        eventually(deadline, || async {
            match self.pending(1).await.as_slice() {
                [] => Ok(()),
                pending => Err(format!("still pending: {pending:?}")),
            }
        })
        .await;
    }

    /// The attempts of a delivery, oldest first.
    pub async fn attempts(&self, delivery_id: &str) -> Vec<Value> {
        let list = self
            .api
            .get(&format!("/v1/deliveries/{delivery_id}/attempts"))
            .await
            .expect(200);
        let mut attempts = list["data"].as_array().expect("a list").clone();
        attempts.sort_by_key(|attempt| attempt["number"].as_u64());
        attempts
    }
}

/// A text field that has to be there.
pub(crate) fn text(object: &Value, field: &str) -> String {
    let value = object[field].as_str();
    value
        .unwrap_or_else(|| panic!("no text field `{field}` in {object}"))
        .to_owned()
}

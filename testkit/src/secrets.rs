//! The secrets that a test has come across, which nothing may hold in clear text.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Fields of bodies, of either direction, whose texts are secrets.
const FIELDS: [&str; 6] = [
    "key",
    "secret",
    "token",
    "access_token",
    "refresh_token",
    "password",
];
/// Shorter texts stand in logs by chance.
const SHORTEST: usize = 8;

/// A list of secrets that grows while a test runs. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<Mutex<BTreeSet<String>>>);

impl Secrets {
    /// Notes one.
    pub fn add(&self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.0.lock().unwrap().insert(secret.to_owned());
        }
    }

    /// Notes those of a body: the fields that hold secrets, wherever they stand, and the values of `headers`.
    pub fn add_body(&self, body: &Value) {
        match body {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if FIELDS.contains(&name.as_str()) => self.add(text),
                        Value::Object(headers) if name == "headers" => headers
                            .values()
                            .filter_map(Value::as_str)
                            .for_each(|text| self.add(text)),
                        other => self.add_body(other),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.add_body(item)),
            _ => {}
        }
    }

    /// Every one so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }

    /// Those that stand in these bytes, as they are or in the hexadecimal digits that `pg_dump` prints bytes with; of one
    /// that has a prefix (`whsec_…`) or a scheme (`Bearer …`), the rest of it alone is enough.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let mut all = self.all();
        all.retain(|secret| {
            let bare = secret
                .rsplit_once(' ')
                .map_or(secret.as_str(), |(_, bare)| bare);
            let bare = bare.strip_prefix("whsec_").unwrap_or(bare);
            stands_in(&text, bare)
        });
        all
    }
}

/// Whether this text stands there, as it is or in hexadecimal digits.
pub fn stands_in(text: &str, wanted: &str) -> bool {
    let hex: String = wanted.bytes().map(|byte| format!("{byte:02x}")).collect();
    text.contains(wanted) || text.contains(&hex)
}

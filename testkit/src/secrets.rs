//! The secrets that a test has come across, which nothing may hold in clear text.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aho_corasick::AhoCorasick;
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
    /// that has a prefix (`whsec_…`) or a scheme (`Bearer …`), the rest of it alone is enough. It takes one pass, because a
    /// long run comes across thousands of them and logs megabytes.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        let all = self.all();
        let forms = all.iter().flat_map(|secret| {
            let bare = bare(secret);
            [bare.to_owned(), hexadecimal(bare)]
        });
        let search = AhoCorasick::new(forms).expect("the secrets fit an automaton");
        let found: BTreeSet<usize> = search
            .find_overlapping_iter(bytes)
            .map(|found| found.pattern().as_usize() / 2)
            .collect();
        found.into_iter().map(|at| all[at].clone()).collect()
    }
}

/// A secret without what stands before it.
fn bare(secret: &str) -> &str {
    let bare = secret.rsplit_once(' ').map_or(secret, |(_, bare)| bare);
    bare.strip_prefix("whsec_").unwrap_or(bare)
}

/// Whether this text stands there, as it is or in hexadecimal digits.
pub fn stands_in(text: &str, wanted: &str) -> bool {
    text.contains(wanted) || text.contains(&hexadecimal(wanted))
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

//! Whether a process can do its work, check by check.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// How one check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It works.
    Ok,
    /// It does not, and the process does its work without it for now.
    Degraded(String),
    /// It does not, and the process cannot do its work.
    Failed(String),
}

impl Check {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Degraded(why) | Self::Failed(why) => Some(why),
        }
    }

    /// What a look comes to at something that the process needs, or does without for now.
    pub(super) fn of(result: Result<(), String>, needed: bool) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(why) if needed => Self::Failed(why),
            Err(why) => Self::Degraded(why),
        }
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Ok => "ok",
            Self::Degraded(_) => "degraded",
            Self::Failed(_) => "failed",
        })
    }
}

/// Whether a process can do its work.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Every check by its name.
    pub checks: BTreeMap<&'static str, Check>,
    /// It was told to stop.
    pub stopping: bool,
}

impl Readiness {
    /// Whether it can.
    pub fn is_ready(&self) -> bool {
        let mut checks = self.checks.values();
        !self.stopping && !checks.any(|check| matches!(check, Check::Failed(_)))
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let status = if self.is_ready() {
            "ready"
        } else {
            "not_ready"
        };
        let reasons = self.checks.iter();
        let reasons = reasons.filter_map(|(name, check)| Some((*name, check.reason()?)));
        let stopping = self.stopping.then_some(("process", "it was told to stop"));
        let reasons: BTreeMap<&str, &str> = reasons.chain(stopping).collect();
        let mut body = json!({"status": status, "checks": self.checks});
        if !reasons.is_empty() {
            body["reasons"] = json!(reasons);
        }
        body
    }
}

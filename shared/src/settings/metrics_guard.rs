//! Who may read the figures that are for machines: `/v1/scaling`.

use std::str::FromStr;

use super::{AppEnv, Networks, Secret, reader::Reader};

/// Who may read the figures that are for machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsGuard {
    /// Callers with this secret.
    Secret(Secret),
    /// Callers from these networks.
    Cidr(Networks),
    /// Callers on this machine: development without a guard.
    Loopback,
    /// Nobody: production without a guard.
    Nobody,
}

/// The kinds of guard that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    Cidr,
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "secret" => Ok(Self::Secret),
            "cidr" => Ok(Self::Cidr),
            _ => Err("expected secret or cidr"),
        }
    }
}

impl MetricsGuard {
    pub(super) fn read(from: &mut Reader, env: AppEnv) -> Self {
        let kind = from.optional("METRICS_GUARD", "Who may read `/v1/scaling`: `secret` (callers with `METRICS_GUARD_SECRET`) or `cidr` (callers from `METRICS_GUARD_ALLOWLIST`). Not set: only this machine in development (nobody when `TRUST_PROXY` is set), nobody in production.");
        from.example("METRICS_GUARD", "secret");
        let secret: Option<Secret> = from.optional("METRICS_GUARD_SECRET", "The secret of `METRICS_GUARD=secret`, at least 24 characters. Callers send it in the header `x-metrics-secret` or as a bearer token.");
        from.example("METRICS_GUARD_SECRET", "$(openssl rand -hex 24)");
        let networks: Networks = from.or("METRICS_GUARD_ALLOWLIST", "", "The networks of `METRICS_GUARD=cidr`, in CIDR notation with commas between them. A caller's address is found by `TRUST_PROXY`.");
        from.example("METRICS_GUARD_ALLOWLIST", "10.0.0.0/8");
        let forgotten = kind.is_none() && (secret.is_some() || !networks.0.is_empty());
        from.advise(
            forgotten,
            "METRICS_GUARD",
            "not set: the secret or the networks beside it let nobody in",
        );
        match (kind, secret) {
            (Some(Kind::Secret), Some(secret)) => Self::Secret(secret),
            (Some(Kind::Secret), None) => {
                if !from.is_wrong("METRICS_GUARD_SECRET") {
                    from.refuse(
                        "METRICS_GUARD_SECRET",
                        "missing beside METRICS_GUARD=secret",
                    );
                }
                Self::Nobody
            }
            (Some(Kind::Cidr), _) => {
                if networks.0.is_empty() && !from.is_wrong("METRICS_GUARD_ALLOWLIST") {
                    from.refuse(
                        "METRICS_GUARD_ALLOWLIST",
                        "missing beside METRICS_GUARD=cidr",
                    );
                }
                Self::Cidr(networks)
            }
            (None, _) if env == AppEnv::Production => Self::Nobody,
            (None, _) => Self::Loopback,
        }
    }
}

//! Who may see what is not for everybody: the details of a process, and figures for machines.

use std::net::IpAddr;

use poem::{
    Request,
    http::{HeaderMap, StatusCode, header},
};
use subtle::ConstantTimeEq as _;

use crate::settings::{MetricsGuard, Proxies, Secret, Settings};

/// The header of `HEALTH_KEY`.
const HEALTH_KEY: &str = "x-health-key";
/// The header of `METRICS_GUARD_SECRET`.
const METRICS_SECRET: &str = "x-metrics-secret";
/// A proxy on this machine adds one of these, or one that begins with `x-forwarded-`. Its clients are not on this machine.
const FORWARDING: [&str; 6] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "cf-connecting-ip",
    "true-client-ip",
];

/// Why somebody may not see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 401: with the right secret they may. 403: they may not.
    pub status: StatusCode,
    /// What the caller can do about it.
    pub detail: &'static str,
}

impl Refusal {
    const fn unauthorized(detail: &'static str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            detail,
        }
    }

    const fn forbidden(detail: &'static str) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            detail,
        }
    }
}

/// Whether the caller of `/health/detailed` has the key of `HEALTH_KEY`, or is on this machine.
///
/// # Errors
/// Why not.
pub fn may_see_details(request: &Request, settings: &Settings) -> Result<(), Refusal> {
    let proxies = &settings.proxies;
    if is_local(request, proxies) {
        return Ok(());
    }
    let Some(key) = &settings.health_key else {
        return Err(Refusal::forbidden(if proxies.are_set() {
            "nobody may ask behind a proxy (TRUST_PROXY) until HEALTH_KEY is set"
        } else {
            "only this machine may ask, because HEALTH_KEY is not set"
        }));
    };
    match said(request.headers(), HEALTH_KEY) {
        Some(said) if is(said, key) => Ok(()),
        _ => Err(Refusal::unauthorized(
            "send the key of HEALTH_KEY in the header `X-Health-Key`",
        )),
    }
}

/// Whether the caller at `client` may read figures for machines. A refusal is logged.
///
/// # Errors
/// Why not.
pub fn may_read_metrics(
    request: &Request,
    client: IpAddr,
    settings: &Settings,
) -> Result<(), Refusal> {
    let allowed = match &settings.metrics_guard {
        MetricsGuard::Secret(secret) => {
            let headers = request.headers();
            let said = said(headers, METRICS_SECRET).or_else(|| bearer(headers));
            said.filter(|said| is(said, secret)).map(drop).ok_or(
                Refusal::unauthorized("send the secret of METRICS_GUARD_SECRET in the header `x-metrics-secret` or as a bearer token"),
            )
        }
        MetricsGuard::Cidr(networks) => networks
            .0
            .iter()
            .any(|network| network.contains(&client))
            .then_some(())
            .ok_or(Refusal::forbidden(
                "your address is in no network of METRICS_GUARD_ALLOWLIST",
            )),
        MetricsGuard::Loopback if settings.proxies.are_set() => Err(Refusal::forbidden(
            "nobody may ask behind a proxy (TRUST_PROXY) until METRICS_GUARD is set",
        )),
        MetricsGuard::Loopback => {
            is_local(request, &settings.proxies)
                .then_some(())
                .ok_or(Refusal::forbidden(
                    "only this machine may ask, because METRICS_GUARD is not set",
                ))
        }
        MetricsGuard::Nobody => Err(Refusal::forbidden(
            "nobody may ask until METRICS_GUARD is set to secret or cidr",
        )),
    };
    if let Err(refusal) = &allowed {
        let (status, reason) = (refusal.status.as_u16(), refusal.detail);
        let path = request.uri().path();
        tracing::warn!(target: "metrics_guard", %client, path, status, reason, "refused");
    }
    allowed
}

/// Whether the request was made on this machine, and not passed on by a proxy on it. Where a proxy is expected, that cannot be
/// told from a request of the proxy.
fn is_local(request: &Request, proxies: &Proxies) -> bool {
    let peer = request.remote_addr().as_socket_addr();
    let loopback = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let forwarded = request.headers().keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || FORWARDING.contains(&name)
    });
    loopback && !forwarded && !proxies.are_set()
}

fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(|value| value.as_bytes())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim().as_bytes())
}

fn is(said: &[u8], secret: &Secret) -> bool {
    said.ct_eq(secret.expose().as_bytes()).into()
}

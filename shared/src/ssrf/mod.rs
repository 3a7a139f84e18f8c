//! Where webhooks may go: the guard against server-side request forgery (OWASP API7:2023).
//!
//! One [`Guard`] decides everywhere. [`Guard::target`] judges the text of a URL, [`Guard::address`] an address, and
//! [`Guard::resolve`] finds a name's addresses and leaves out those that may not be reached. The API asks when an endpoint
//! is created or changed ([`Guard::foresee`]), the workers ask at every attempt, a test's included, and connect to nothing
//! but an address that has just been vetted. A name is looked up once for each connection, so that an answer that changes
//! between the check and the connect (DNS rebinding) changes nothing.

mod address;
mod names;
mod target;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};
use url::Host;

use crate::settings::{Networks, Webhooks};

pub use names::{Names, SystemNames, Unresolved};
pub use target::{Refused, Target};

/// How long creating an endpoint waits for its name to be looked up. What is not known by then is left to the attempts.
const FORESEE_WITHIN: Duration = Duration::from_secs(2);
/// How many names a process looks up at a time for endpoints that are created. A look-up that nobody waits for any more
/// cannot be called off and goes on holding a thread.
const FORESEE_AT_ONCE: usize = 16;

/// The address leads into a network that webhooks may not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address is in a private, local or reserved network")]
pub struct Forbidden;

/// Decides where webhooks may go. Clones share it.
#[derive(Clone, Debug)]
pub struct Guard {
    allowed: Arc<Networks>,
    allow_http: bool,
    names: Arc<dyn Names>,
    foreseeing: Arc<Semaphore>,
}

impl Guard {
    /// The guard of a process with these settings, which looks names up as the system does.
    pub fn new(settings: &Webhooks) -> Self {
        Self::with_names(settings, Arc::new(SystemNames))
    }

    /// The same with another way to look names up.
    pub fn with_names(settings: &Webhooks, names: Arc<dyn Names>) -> Self {
        Self {
            allowed: Arc::new(settings.allow_cidrs.clone()),
            allow_http: settings.allow_http,
            names,
            foreseeing: Arc::new(Semaphore::new(FORESEE_AT_ONCE)),
        }
    }

    /// Whether this address may be reached. An IPv6 address that stands for an IPv4 one is judged as that one.
    ///
    /// # Errors
    /// [`Forbidden`] when it may not.
    pub fn address(&self, address: IpAddr) -> Result<(), Forbidden> {
        address::vet(address, &self.allowed.0)
    }

    /// Whether webhooks may be sent to this URL, as far as its text says: its form, its scheme, and its host if that is
    /// an address in any spelling. A host that is a name is [resolved](Self::resolve) when it is connected to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn target(&self, text: &str) -> Result<Target, Refused> {
        let target = Target::parse(text, self.allow_http)?;
        match target.host() {
            Host::Ipv4(address) => self.address(address.into())?,
            Host::Ipv6(address) => self.address(address.into())?,
            // RFC 6761, section 6.3: these names are this machine, whatever a resolver says.
            Host::Domain(name) if is_localhost(name) => self
                .address(Ipv4Addr::LOCALHOST.into())
                .or_else(|_| self.address(Ipv6Addr::LOCALHOST.into()))?,
            Host::Domain(_) => {}
        }
        Ok(target)
    }

    /// The addresses of a name that may be reached. One that may not be reached is left out, however many others there
    /// are.
    ///
    /// # Errors
    /// When the name has no address, or none that may be reached.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let found = self.names.addresses(name).await;
        let found = found.map_err(|_| Unresolved::NoAddress)?;
        if found.is_empty() {
            return Err(Unresolved::NoAddress);
        }
        let vetted = found.into_iter().filter(|ip| self.address(*ip).is_ok());
        let vetted: Vec<IpAddr> = vetted.collect();
        if vetted.is_empty() {
            return Err(Forbidden.into());
        }
        Ok(vetted)
    }

    /// What an attempt would decide about this URL just now, for the one who is about to store it: the same as
    /// [`target`](Self::target), and its name is resolved too. A name that has no address yet, or whose look-up takes
    /// longer than two seconds, is not refused: the attempts decide.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn foresee(&self, text: &str) -> Result<(), Refused> {
        let Host::Domain(name) = self.target(text)?.host().to_owned() else {
            return Ok(());
        };
        let Ok(place) = self.foreseeing.clone().try_acquire_owned() else {
            return Ok(());
        };
        let guard = self.clone();
        let looking = tokio::spawn(async move {
            // Kept until the look-up has ended, even if nobody waits for it by then.
            let _place = place;
            guard.resolve(&name).await
        });
        match timeout(FORESEE_WITHIN, looking).await {
            Ok(Ok(Err(Unresolved::Forbidden(forbidden)))) => Err(forbidden.into()),
            _ => Ok(()),
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

//! The kinds of value that settings have, each with its own parser and its own "expected …".

use std::{fmt, net::SocketAddr, ops::Deref, str::FromStr, time::Duration};

use ipnet::{IpNet, Ipv4Net};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use url::Url;

use crate::mail_address;

/// What the process runs for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppEnv {
    /// A developer's machine.
    #[default]
    Development,
    /// Anything that matters.
    Production,
}

impl FromStr for AppEnv {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err("expected development or production"),
        }
    }
}

/// Whether an address can be taken apart. A `/`, `?` or `#` in a password has to be percent-encoded.
fn is_url(text: &str) -> bool {
    Url::parse(text).is_ok()
}

/// The address of the database.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The address, password included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the database is a file of this machine.
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }

    /// The file of an SQLite database.
    pub fn sqlite_path(&self) -> Option<&str> {
        let path = self
            .0
            .strip_prefix("sqlite://")
            .or_else(|| self.0.strip_prefix("sqlite:"))?;
        path.split('?').next()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_sqlite() {
            "sqlite://…"
        } else {
            "postgres://…"
        })
    }
}

impl FromStr for DatabaseUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = ["postgres://", "postgresql://", "sqlite:"];
        if known.iter().any(|scheme| text.starts_with(scheme)) && is_url(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "expected postgres://user:password@host/name, with %2F for a / in the password, or sqlite://file",
            )
        }
    }
}

/// The address of the Redis server, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl Deref for RedisUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis://…")
    }
}

impl FromStr for RedisUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = ["redis://", "redis+unix://", "unix://"];
        if known.iter().any(|scheme| text.starts_with(scheme)) && is_url(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected redis://:password@host:port/0, with %2F for a / in the password")
        }
    }
}

/// Seconds before each retry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetrySchedule(pub Vec<u32>);

impl FromStr for RetrySchedule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds: Result<Vec<u32>, _> =
            text.split(',').map(|part| part.trim().parse()).collect();
        match seconds {
            Ok(seconds) if seconds.len() <= 50 => Ok(Self(seconds)),
            _ => Err("expected up to 50 whole seconds with commas between them"),
        }
    }
}

/// A text that must not be logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() >= 24 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected at least 24 visible ASCII characters")
        }
    }
}

/// Networks in CIDR notation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

impl Networks {
    /// Adds this machine itself, of both address families.
    pub(super) fn allow_loopback(&mut self) {
        self.0.extend(
            ["127.0.0.0/8", "::1/128"]
                .iter()
                .filter_map(|net| net.parse::<IpNet>().ok()),
        );
    }
}

impl FromStr for Networks {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let networks: Result<Vec<IpNet>, _> = parts
            .map(|part| part.parse::<IpNet>().map(without_mapping))
            .collect();
        networks
            .map(Self)
            .map_err(|_| "expected networks in CIDR notation with commas between them")
    }
}

/// A network of IPv4 that is written as one of IPv6 (`::ffff:10.0.0.0/104`), as what it is. Every other network of IPv6,
/// `::/0` too, holds only addresses of IPv6.
fn without_mapping(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let length = mapped.prefix_len().checked_sub(96);
    let plain = mapped.addr().to_ipv4_mapped().zip(length);
    plain
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(net, IpNet::V4)
}

/// An address with a port.
pub(super) struct Address(pub(super) SocketAddr);

impl Default for Address {
    fn default() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 0)))
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self)
            .map_err(|_| "expected an address with a port")
    }
}

/// Which log lines are written, as it was given.
#[derive(Default)]
pub(super) struct LogFilter(pub(super) String);

impl FromStr for LogFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The filter takes any text for the name of a target, and with a misspelt level nothing at all would be logged.
        let is_known =
            |part: &str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
        let plain = text
            .split(',')
            .map(str::trim)
            .all(|part| part.is_empty() || is_known(part));
        match EnvFilter::try_new(text) {
            Ok(_) if plain && !text.contains(['/', '@']) => Ok(Self(text.to_owned())),
            _ => {
                Err("expected error, warn, info, debug, trace or off, or targets with one of them")
            }
        }
    }
}

/// Who sends a mail, with or without a display name.
#[derive(Default)]
pub(super) struct Sender(pub(super) String);

impl FromStr for Sender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        mail_address::parse(text).map(|_| Self(text.to_owned()))
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Default)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Whole<MIN, MAX> {
    pub(super) fn seconds(self) -> Duration {
        Duration::from_secs(self.0.into())
    }

    pub(super) fn millis(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl<const MIN: u32, const MAX: u32> FromStr for Whole<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("expected a whole number from {MIN} to {MAX}")),
        }
    }
}

impl<const MIN: u32, const MAX: u32> From<Whole<MIN, MAX>> for u32 {
    fn from(whole: Whole<MIN, MAX>) -> Self {
        whole.0
    }
}

impl<const MIN: u32, const MAX: u32> From<Whole<MIN, MAX>> for usize {
    fn from(whole: Whole<MIN, MAX>) -> Self {
        whole.0 as Self
    }
}

/// Values with commas between them, at least one.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        text.split(',')
            .map(|part| part.trim().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

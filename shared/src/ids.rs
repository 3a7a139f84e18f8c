//! Typed, sortable ids: `msg_01jd…`, `ep_01jd…`.
//!
//! An id is a UUIDv7 (RFC 9562, section 5.7) in the database and, outside, a prefix with 26 characters of Crockford's
//! base32, the alphabet of a ULID, in lower case. The type parameter keeps an endpoint's id from being passed where a
//! message's belongs:
//!
//! ```compile_fail
//! use relaypost_shared::ids::{EndpointId, MessageId};
//! fn load(_: MessageId) {}
//! fn mix(endpoint: EndpointId) { load(endpoint) }
//! ```

use std::{
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use sea_orm::{
    ColIdx, DbErr, QueryResult, TryFromU64, TryGetError, TryGetable,
    sea_query::{ArrayType, ColumnType, Nullable, Value, ValueType, ValueTypeErr},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::clock::Timestamp;

/// What an id belongs to; its prefix is the part that people see.
pub trait Kind: Send + Sync + 'static {
    /// The text before the underscore.
    const PREFIX: &'static str;
}

/// An id of a `K`.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $alias:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {}
        impl Kind for $kind {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $alias = Id<$kind>;
    )*
        /// The prefix of every kind.
        const PREFIXES: &[&str] = &[$($prefix),*];
    };
}

kinds! {
    /// A tenant.
    Tenant TenantId "ten";
    /// An API key.
    ApiKey KeyId "key";
    /// A webhook endpoint.
    Endpoint EndpointId "ep";
    /// A signing secret of an endpoint.
    Secret SecretId "sec";
    /// An event type.
    EventType EventTypeId "evt";
    /// A published message.
    Message MessageId "msg";
    /// An email.
    Email EmailId "eml";
    /// The delivery of one message to one endpoint, or of one email to one recipient.
    Delivery DeliveryId "dlv";
    /// One try to deliver.
    Attempt AttemptId "att";
    /// An entry of the audit log.
    AuditEntry AuditEntryId "aud";
    /// A replay job.
    Replay ReplayId "rpl";
    /// Somebody who signs in.
    User UserId "usr";
    /// A session of a user, from signing in to signing out.
    Session SessionId "ses";
    /// A refresh token of a session, or a token in a mail.
    Token TokenId "tok";
    /// A sign-in through another provider that has begun.
    OauthState OauthStateId "oas";
    /// An HTTP request that this service received.
    Request RequestId "req";
}

impl TenantId {
    /// The platform's own tenant, which the migrations make. It has the mails that Relaypost itself sends to its users, and
    /// the event types that all tenants share.
    pub const OWN: Self = Self::from_uuid(Uuid::from_u128(0x7000_8000_0000_0000_0001));
}

/// Whether a text has the form of an id of any kind: a prefix, `_` and 26 letters and digits.
pub fn is_like_an_id(text: &str) -> bool {
    text.split_once('_').is_some_and(|(prefix, digits)| {
        PREFIXES.contains(&prefix)
            && digits.len() == TEXT_LEN
            && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The text is not an id of the kind that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected `{prefix}_` and 26 letters and digits")]
pub struct InvalidId {
    prefix: &'static str,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

impl<K: Kind> Id<K> {
    /// A new id that sorts after every id that this process has made before, unless its clock has stepped back by a minute or
    /// more.
    pub fn generate(now: Timestamp) -> Self {
        let (millis, sequence) = next_tick(now.timestamp_millis().max(0).cast_unsigned());
        let random: u64 = rand::random();
        let high = (millis << 16) | 0x7000 | u64::from(sequence);
        let low = (random >> 2) | (0b10 << 62);
        Self::from_uuid(Uuid::from_u64_pair(high, low))
    }

    /// The smallest id that could have been made at `at`: a bound for "older than".
    pub fn floor(at: Timestamp) -> Self {
        let millis = at.timestamp_millis().max(0).cast_unsigned();
        Self::from_uuid(Uuid::from_u64_pair((millis << 16) | 0x7000, 0b10 << 62))
    }

    /// The id with this UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    /// The UUID that the database holds.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

/// The millisecond and the 12-bit counter of an id.
type Tick = (u64, u16);

/// How far a clock may step while the ids go on in one order.
const STEP_MS: u64 = 60_000;
/// How many clocks the ids of one process can follow. A process has one; each test has its own.
const CLOCKS: usize = 16;

/// The next id's tick: the counter method of RFC 9562, section 6.2. A full counter borrows from the next millisecond, and a
/// clock that steps back by less than a minute does not take the ids with it. After a larger step the ids follow the clock:
/// ids far ahead of it would lie in weeks for which the database has no partition.
fn next_tick(now: u64) -> Tick {
    static LAST: Mutex<[Tick; CLOCKS]> = Mutex::new([(0, 0); CLOCKS]);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let followed = last
        .iter()
        .position(|(millis, _)| millis.abs_diff(now) < STEP_MS);
    // The one that was used last is the first.
    let oldest = CLOCKS - 1;
    last[..=followed.unwrap_or(oldest)].rotate_right(1);
    last[0] = match last[0] {
        _ if followed.is_none() => (now, 0),
        (millis, _) if now > millis => (now, 0),
        (millis, 0xfff) => (millis + 1, 0),
        (millis, sequence) => (millis, sequence + 1),
    };
    last[0]
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_u128();
        let mut text = [0_u8; TEXT_LEN];
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        write!(f, "{}_", K::PREFIX)?;
        text.iter()
            .try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { prefix: K::PREFIX };
        let digits = text
            .strip_prefix(K::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .filter(|digits| digits.len() == TEXT_LEN)
            .ok_or(invalid)?;
        // 26 × 5 = 130 bits: a first digit above 7 would not fit in 128.
        if digits.as_bytes()[0] > b'7' {
            return Err(invalid);
        }
        let mut value = 0_u128;
        for byte in digits.bytes() {
            let digit = ALPHABET.iter().position(|known| *known == byte);
            value = (value << 5) | digit.ok_or(invalid)? as u128;
        }
        Ok(Self::from_uuid(Uuid::from_u128(value)))
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Written by hand because `derive` would ask for the same trait of `K`.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

// How sea-orm reads and writes an id: as the UUID inside.
impl<K> From<Id<K>> for Value {
    fn from(id: Id<K>) -> Self {
        id.0.into()
    }
}
impl<K> Nullable for Id<K> {
    fn null() -> Value {
        <Uuid as Nullable>::null()
    }
}
impl<K> ValueType for Id<K> {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        <Uuid as ValueType>::try_from(value).map(|uuid| Self(uuid, PhantomData))
    }
    fn type_name() -> String {
        "Id".to_owned()
    }
    fn array_type() -> ArrayType {
        <Uuid as ValueType>::array_type()
    }
    fn column_type() -> ColumnType {
        ColumnType::Uuid
    }
}
impl<K> TryGetable for Id<K> {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        Uuid::try_get_by(row, index).map(|uuid| Self(uuid, PhantomData))
    }
}
impl<K> TryFromU64 for Id<K> {
    fn try_from_u64(_: u64) -> Result<Self, DbErr> {
        Err(DbErr::ConvertFromU64("Id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn an_id_survives_its_text() {
        let id = MessageId::generate(Clock::system().now());
        let text = id.to_string();
        assert!(text.starts_with("msg_"));
        assert_eq!(text.len(), 4 + TEXT_LEN);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.uuid().get_version_num(), 7);
    }

    #[test]
    fn ids_sort_in_the_order_they_were_made_even_when_the_clock_stands_still() {
        let now = Clock::system().now();
        let ids: Vec<_> = (0..10_000).map(|_| DeliveryId::generate(now)).collect();
        assert!(ids.is_sorted());
        let texts: Vec<_> = ids.iter().map(ToString::to_string).collect();
        assert!(texts.is_sorted());
    }

    #[test]
    fn what_is_no_id_of_that_kind_is_refused() {
        let endpoint = EndpointId::generate(Clock::system().now()).to_string();
        for text in [
            "",
            "msg_",
            "msg_1",
            "nonsense",
            &endpoint,
            "msg_zzzzzzzzzzzzzzzzzzzzzzzzzz",
        ] {
            assert!(text.parse::<MessageId>().is_err(), "{text}");
        }
    }
}

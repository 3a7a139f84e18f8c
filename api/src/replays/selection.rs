//! Which dead letters are meant, as it stands in bodies.

use std::{fmt, marker::PhantomData};

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, ErrorClass, Reason},
    ids,
    replay::{Filter, Selection},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::http::{ApiError, Checks, EventTypeName, Moment, Ref, Text, example_id};

const MAX_IDS: usize = 10_000;
const MAX_RATE: u32 = 10_000;

/// Which dead letters to replay: `ids` or `filter`, one of the two.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewReplay {
    /// Deliveries of either kind, 1 to 10000. Those that are no dead letters are skipped.
    #[serde(default, deserialize_with = "given")]
    #[oai(validator(min_items = 1, max_items = 10_000), nullable)]
    ids: Option<Vec<Ref<ids::Delivery>>>,
    /// Every dead letter that fits; `{}`: all of them. Emails that are dead as `uncertain` may have arrived: they are left
    /// out unless `reason` is `uncertain`.
    #[serde(default, deserialize_with = "given_object")]
    filter: Option<DeadLetterFilter>,
    /// How many are sent off a second, 1 to 10000. Without it: as many as the workers take.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")), nullable)]
    pub(super) rate_per_s: Option<u32>,
    /// Only count them.
    #[oai(nullable)]
    pub(super) dry_run: Option<bool>,
}

/// Which dead letters to discard: `ids` or `filter`, one of the two.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewDiscard {
    /// Deliveries of either kind, 1 to 10000. Those that are no dead letters are skipped.
    #[serde(default, deserialize_with = "given")]
    #[oai(validator(min_items = 1, max_items = 10_000), nullable)]
    ids: Option<Vec<Ref<ids::Delivery>>>,
    /// Every dead letter that fits; `{}`: all of them.
    #[serde(default, deserialize_with = "given_object")]
    filter: Option<DeadLetterFilter>,
    /// Only count them.
    #[oai(nullable)]
    pub(super) dry_run: Option<bool>,
}

/// What a dead letter has to be like: it has to fit all that are given.
// No field takes null: a program that has lost its value would select everything.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct DeadLetterFilter {
    /// Only this kind.
    #[serde(default, deserialize_with = "given")]
    kind: Option<Text<DeliveryKind>>,
    /// Only webhooks to this endpoint.
    #[serde(default, deserialize_with = "given")]
    endpoint_id: Option<Ref<ids::Endpoint>>,
    /// Only webhooks of this event type.
    #[serde(default, deserialize_with = "given")]
    event_type: Option<Text<EventTypeName>>,
    /// Only those that died for this reason.
    #[serde(default, deserialize_with = "given")]
    reason: Option<Text<Reason>>,
    /// Only those whose last attempt failed for this reason.
    #[serde(default, deserialize_with = "given")]
    error_class: Option<Text<ErrorClass>>,
    /// Only those accepted at this time or later.
    #[serde(default, deserialize_with = "given")]
    since: Option<Moment>,
    /// Only those accepted before this time.
    #[serde(default, deserialize_with = "given")]
    until: Option<Moment>,
}

/// Reads a field that may be left out and may not be null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The same for an object. serde would take `[]` for one without fields, which selects everything.
fn given_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    struct Fields<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(fields))
        }
    }
    from.deserialize_map(Fields(PhantomData)).map(Some)
}

impl NewReplay {
    /// What is selected.
    ///
    /// # Errors
    /// 422 with everything that is wrong with the body.
    pub(super) fn check(&mut self) -> Result<Selection, ApiError> {
        let mut checks = Checks::default();
        let rate = self.rate_per_s.unwrap_or(1);
        checks.require((1..=MAX_RATE).contains(&rate), "rate_per_s", || {
            format!("expected a whole number from 1 to {MAX_RATE}")
        });
        let mut selection = select(checks, self.ids.take(), self.filter.take())?;
        if let Selection::Filter(filter) = &mut selection {
            // A second copy of a mail goes out only to who has asked for it.
            filter.except_uncertain = filter.reason.is_none();
        }
        Ok(selection)
    }
}

impl NewDiscard {
    /// What is selected.
    ///
    /// # Errors
    /// 422 with everything that is wrong with the body.
    pub(super) fn check(&mut self) -> Result<Selection, ApiError> {
        select(Checks::default(), self.ids.take(), self.filter.take())
    }
}

fn select(
    mut checks: Checks,
    ids: Option<Vec<Ref<ids::Delivery>>>,
    filter: Option<DeadLetterFilter>,
) -> Result<Selection, ApiError> {
    let one_of_two = ids.is_some() != filter.is_some();
    checks.require(one_of_two, "", || {
        "expected either `ids` or `filter`".to_owned()
    });
    let count = ids.as_ref().map_or(1, Vec::len);
    checks.require((1..=MAX_IDS).contains(&count), "ids", || {
        format!("expected 1 to {MAX_IDS} ids, got {count}")
    });
    let filter = filter.unwrap_or_default();
    let until = filter.until.map(|until| until.0);
    span(
        &mut checks,
        "filter.until",
        filter.since.map(|since| since.0),
        until,
    );
    checks.finish()?;
    let Some(ids) = ids else {
        return Ok(Selection::Filter(filter.into()));
    };
    let mut ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(Selection::Ids(ids))
}

/// A span of time has to have something in it.
pub(super) fn span(
    checks: &mut Checks,
    path: &str,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) {
    let fits = since.zip(until).is_none_or(|(since, until)| since < until);
    checks.require(fits, path, || "expected a time after `since`".to_owned());
}

impl From<DeadLetterFilter> for Filter {
    fn from(filter: DeadLetterFilter) -> Self {
        Self {
            kind: filter.kind.map(|kind| kind.0),
            endpoint_id: filter.endpoint_id.map(|id| id.0),
            event_type: filter.event_type.map(|name| name.0.0),
            reason: filter.reason.map(|reason| reason.0),
            error_class: filter.error_class.map(|class| class.0),
            since: filter.since.map(|time| time.0),
            until: filter.until.map(|time| time.0),
            except_uncertain: false,
        }
    }
}

impl Example for NewReplay {
    fn example() -> Self {
        Self {
            ids: None,
            filter: Some(DeadLetterFilter {
                endpoint_id: Some(example_id().into()),
                reason: Some(Text(Reason::RetriesExhausted)),
                ..DeadLetterFilter::default()
            }),
            rate_per_s: Some(100),
            dry_run: Some(true),
        }
    }
}

impl Example for NewDiscard {
    fn example() -> Self {
        let NewReplay {
            ids,
            filter,
            dry_run,
            ..
        } = NewReplay::example();
        Self {
            ids,
            filter,
            dry_run,
        }
    }
}

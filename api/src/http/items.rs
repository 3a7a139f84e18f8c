//! Batches: many bodies of one kind in one request, each with a result of its own.

use std::{borrow::Cow, marker::PhantomData};

use bytes::Bytes;
use poem_openapi::{
    Object,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{Example, ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use relaypost_shared::ids;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{
    ApiError,
    problem::Problem,
    reply::{Repeatable, to_bytes},
    request_id::RequestId,
    strict_json::parse,
    text::example_id,
};
use crate::idempotency::{Accepted, Batch};

/// Bodies of the kind `T`, at least one and at most `MAX`, not yet read: one that is wrong is its own failure and not the
/// batch's.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Items<T, const MAX: usize>(Vec<Box<RawValue>>, PhantomData<fn() -> T>);

impl<T: DeserializeOwned, const MAX: usize> Items<T, MAX> {
    /// The bodies as they came.
    ///
    /// # Errors
    /// 422 at `path` when there are none or too many.
    pub(crate) fn checked(self, path: &str) -> Result<Vec<Box<RawValue>>, ApiError> {
        if (1..=MAX).contains(&self.0.len()) {
            Ok(self.0)
        } else {
            Err(ApiError::field(path, format!("expected 1 to {MAX} items")))
        }
    }
}

impl<T: Example + ToJSON, const MAX: usize> Items<T, MAX> {
    /// One body, for the document.
    pub(crate) fn example() -> Self {
        let item = to_raw_value(&T::example().to_json()).ok();
        Self(item.into_iter().collect(), PhantomData)
    }
}

/// Reads one body of a batch.
///
/// # Errors
/// 422 when it does not fit `T`.
pub(crate) fn read_item<T: DeserializeOwned>(item: &RawValue) -> Result<T, ApiError> {
    parse(item.get().as_bytes())
}

/// What came of a batch, in the order of the request.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(crate) struct Results {
    /// One for each item.
    results: Vec<ItemResult>,
}

/// What came of one item.
#[derive(Debug, Serialize, Object)]
#[oai(skip_serializing_if_is_none)]
struct ItemResult {
    /// The status that the item alone would have been answered with: 201, 200 when it was known already, or an error's.
    status: u16,
    /// The id of what was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Why nothing was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl Example for Results {
    fn example() -> Self {
        let (created, refused) = (
            ItemResult {
                status: 201,
                id: Some(example_id::<ids::Message>().to_string()),
                error: None,
            },
            ItemResult {
                status: 422,
                id: None,
                error: Some(Problem::example()),
            },
        );
        Self {
            results: vec![created, refused],
        }
    }
}

impl Results {
    /// The results of a request's items.
    ///
    /// Also says whether they are final: sent again, none would come out better.
    fn new(answers: Vec<Result<Accepted, ApiError>>, request: &RequestId) -> (Self, bool) {
        let results = answers.into_iter().map(|answer| match answer {
            Ok(Accepted::First(body)) => ItemResult {
                status: 201,
                id: id(&body),
                error: None,
            },
            Ok(Accepted::Again(body)) => ItemResult {
                status: 200,
                id: id(&body),
                error: None,
            },
            Err(error) => {
                let problem = error.problem(request.as_str());
                ItemResult {
                    status: problem.status,
                    id: None,
                    error: Some(problem),
                }
            }
        });
        let results: Vec<ItemResult> = results.collect();
        let mut errors = results.iter().filter_map(|result| result.error.as_ref());
        let is_final = errors.all(|problem| !problem.retryable);
        (Self { results }, is_final)
    }

    /// The answer to a batch, remembered if it is final.
    ///
    /// # Errors
    /// When the answer cannot be written as JSON.
    pub(crate) async fn answer(
        batch: &Batch<'_>,
        answers: Vec<Result<Accepted, ApiError>>,
        request: &RequestId,
    ) -> Result<Repeatable<Self>, ApiError> {
        let (results, is_final) = Self::new(answers, request);
        let body = to_bytes(&results)?;
        if is_final {
            batch.remember(&body).await;
        }
        Ok(Repeatable::first(body))
    }
}

fn id(body: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Created {
        id: String,
    }
    serde_json::from_slice(body)
        .ok()
        .map(|created: Created| created.id)
}

impl<T: Type, const MAX: usize> Type for Items<T, MAX> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("array_{}", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            items: Some(Box::new(T::schema_ref())),
            min_items: Some(1),
            max_items: Some(MAX),
            ..MetaSchema::new("array")
        }))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

// Bodies are read and written by serde; the derived `Object` of a struct asks for these two all the same.
impl<T: Type, const MAX: usize> ParseFromJSON for Items<T, MAX> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl<T: Type, const MAX: usize> ToJSON for Items<T, MAX> {
    fn to_json(&self) -> Option<Value> {
        serde_json::to_value(&self.0).ok()
    }
}

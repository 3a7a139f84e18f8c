//! Request bodies, read strictly: what is not understood is refused with the place and the reason.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use poem::{Body, Request, RequestBody, http::header};
use poem_openapi::{
    impl_apirequest_for_payload,
    payload::{ParsePayload, Payload},
    registry::{MetaSchemaRef, Registry},
    types::Type,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::{
    incoming,
    problem::{ApiError, Code},
};

/// Longer messages of the JSON parser are cut: they repeat what the client sent.
const MAX_MESSAGE: usize = 300;

/// A JSON body and the bytes it came as.
///
/// Errors: 415 when it is compressed, 413 above the setting's size, 408 when it does not come in time, 400 for what is not JSON, 422 for what is JSON and does not fit `T`, unknown
/// and repeated fields included (`T` has to deny unknown fields).
#[derive(Debug)]
pub(crate) struct StrictJson<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<T: Type> Payload for StrictJson<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn check_content_type(content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        essence == "application/json"
            || (essence.starts_with("application/") && essence.ends_with("+json"))
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: DeserializeOwned + Type> ParsePayload for StrictJson<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        refuse_encoded(request)?;
        let bytes = read(body.take()?).await?;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

impl_apirequest_for_payload!(StrictJson<T>, T: DeserializeOwned + Type);

/// Without this a compressed body would be called broken JSON.
fn refuse_encoded(request: &Request) -> Result<(), ApiError> {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(ApiError::new(
        Code::UnsupportedMediaType,
        "a body with a Content-Encoding is not taken; send it as it is",
    ))
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let mut stream = Box::pin(body.into_bytes_stream());
    let mut next = async || {
        let part = stream.try_next().await;
        part.map_err(|error| incoming::refusal(&error))
    };
    // Most bodies come in one part, which needs no copy.
    let Some(first) = next().await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = next().await? else {
        return Ok(first);
    };
    let mut read = BytesMut::from(first);
    read.extend_from_slice(&second);
    while let Some(part) = next().await? {
        read.extend_from_slice(&part);
    }
    Ok(read.freeze())
}

/// Reads `T`, one of the objects of the document, from the bytes of a body.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::new(Code::MalformedJson, "the body is empty"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ApiError::new(Code::MalformedJson, "the body is not UTF-8"))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(no_object(text));
    }
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    // Once more for the place of what is wrong: to keep track of it costs as much as reading itself.
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        refusal(&path, &error.into_inner())
    })?;
    json.end().map_err(|error| refusal("", &error))?;
    Ok(value)
}

/// serde would read a list as the fields of an object by their places, which no document promises.
fn no_object(text: &str) -> ApiError {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => ApiError::field("", "expected an object"),
        Err(error) => refusal("", &error),
    }
}

fn refusal(path: &str, error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    if error.classify() != Category::Data {
        return ApiError::new(Code::MalformedJson, message);
    }
    // serde_json adds where in the text, which the path says better.
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    let parent = if path == "." { "" } else { path };
    // Of a missing or repeated field serde knows the parent's path only.
    let path = match named_field(message) {
        Some(field) if parent.is_empty() => field.to_owned(),
        Some(field) => format!("{parent}.{field}"),
        None => parent.to_owned(),
    };
    ApiError::field(path, message.chars().take(MAX_MESSAGE).collect::<String>())
}

fn named_field(message: &str) -> Option<&str> {
    ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "only its parsing is tested")]
        name: String,
        #[serde(default)]
        #[expect(dead_code, reason = "only its parsing is tested")]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its parsing is tested")]
        n: u8,
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        let cases = [
            (r#"{"name": 7}"#, "name"),
            (r#"{}"#, "name"),
            (r#"{"name": "a", "name": "b"}"#, "name"),
            (r#"{"name": "a", "other": 1}"#, "other"),
            (
                r#"{"name": "a", "list": [{"n": 1}, {"n": 256}]}"#,
                "list[1].n",
            ),
            (r#"{"name": "a", "list": [{}]}"#, "list[0].n"),
            ("[]", ""),
            (r#" ["a", []]"#, ""),
            ("null", ""),
            ("7", ""),
            (r#""a""#, ""),
        ];
        for (body, path) in cases {
            let problem = parse::<Body>(body.as_bytes()).unwrap_err().problem("");
            assert_eq!(problem.code, "validation_failed", "{body}: {problem:?}");
            assert_eq!(problem.errors[0].path, path, "{body}: {problem:?}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused_as_such() {
        let cases: [&[u8]; 9] = [
            b"",
            b"{",
            b"{\"name\": \"a\"} x",
            b"{\"name\": \"\xff\"}",
            b"\xef\xbb\xbf{\"name\": \"a\"}",
            b"{'name': 'a'}",
            b"{\"name\": \"a\nb\"}",
            b"[\"a\",",
            b"[\"a\"] x",
        ];
        for body in cases {
            let error = parse::<Body>(body).unwrap_err();
            assert_eq!(error.code, Code::MalformedJson, "{body:?}: {error}");
        }
    }
}

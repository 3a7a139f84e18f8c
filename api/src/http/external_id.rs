//! Ids that a product has of its own for tenants and endpoints, so that it need not keep a map.

use std::fmt;

use poem_openapi::registry::MetaSchema;
use relaypost_shared::ids::{Endpoint, Kind, Tenant, is_like_an_id};
use sea_orm::{DbErr, SqlErr};
use serde_json::json;

use super::{
    failures,
    problem::{ApiError, Code},
    text::TextValue,
};

const MAX_LEN: usize = 255;
const EXPECTED: &str = "expected a letter or digit, and up to 254 more letters, digits and ._:@-";
const IS_OURS: &str =
    "expected an id of your own: `ten_…`, `ep_…` and the other ids of Relaypost are refused";

/// An external id.
///
/// A `/` is not part of one, because proxies decode a `%2F` in a path. It begins with no dot, because `.` and `..` in a
/// path are resolved by clients. It is never an id of Relaypost: `X-Tenant-Id` takes both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalId(String);

impl ExternalId {
    /// As it is stored.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let fits = text.len() <= MAX_LEN
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte));
    if !(begins_well && fits) {
        return Err(EXPECTED);
    }
    // A part of one as well: it is a mistake, and no other tenant or endpoint.
    let is_part = [Tenant::PREFIX, Endpoint::PREFIX].iter().any(|prefix| {
        let rest = text.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with('_'))
    });
    if is_part || is_like_an_id(text) {
        return Err(IS_OURS);
    }
    Ok(())
}

impl TextValue for ExternalId {
    fn schema() -> MetaSchema {
        MetaSchema {
            pattern: Some(format!(
                "^[A-Za-z0-9][A-Za-z0-9._:@-]{{0,{}}}$",
                MAX_LEN - 1
            )),
            example: Some(json!("customer-42")),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An external id in a path. What is none is refused by [`NamedInPath::checked`], because an id that can be created is not
/// one of nothing (404).
#[derive(Clone, Debug)]
pub(crate) struct NamedInPath(String);

impl NamedInPath {
    /// The external id, which the body may repeat.
    ///
    /// # Errors
    /// 400 when it is none, 422 when the body names another one.
    pub(crate) fn checked(self, in_body: Option<&ExternalId>) -> Result<ExternalId, ApiError> {
        check(&self.0)
            .map_err(|why| ApiError::new(Code::InvalidParameter, format!("external_id: {why}")))?;
        if in_body.is_some_and(|named| named.0 != self.0) {
            let other = "the path names another one; leave it out, or change it with PATCH";
            return Err(ApiError::field("external_id", other));
        }
        Ok(ExternalId(self.0))
    }
}

impl TextValue for NamedInPath {
    fn schema() -> MetaSchema {
        ExternalId::schema()
    }

    fn read(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error of a change that gave a tenant or an endpoint an external id.
pub(crate) fn taken_or(error: DbErr) -> ApiError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => taken(),
        _ => error.into(),
    }
}

failures! {
    /// Another one has this `external_id`; look it up with `?external_id=`.
    ExternalIdTaken = ExternalIdTaken;
}

/// The answer to an external id that another one has.
pub(crate) fn taken() -> ApiError {
    ApiError::new(
        Code::ExternalIdTaken,
        "another one has this external_id; look it up with `?external_id=`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_id_is_no_id_of_relaypost_and_safe_in_a_path() {
        for good in [
            "1",
            "customer-42",
            "org:eu.42",
            "a@example.com",
            &"x".repeat(255),
        ] {
            assert_eq!(ExternalId::read(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "a/b",
            "a b",
            "a?",
            "é",
            "a\0",
            &"x".repeat(256),
        ] {
            assert_eq!(ExternalId::read(bad).unwrap_err(), EXPECTED, "{bad}");
        }
        for ours in [
            "ten_01jd3b4a407c3a9d2e5f810b64",
            "ten_42",
            "ep_",
            "msg_01jd3b4a407c3a9d2e5f810b64",
            "usr_01JD3B4A407C3A9D2E5F810B64",
        ] {
            assert_eq!(ExternalId::read(ours).unwrap_err(), IS_OURS, "{ours}");
        }
        ExternalId::read("usr_42").unwrap();
    }
}

//! Every place in the database that holds sealed texts.

use super::Place;
use crate::ids::{EmailId, EndpointId, OauthStateId, SecretId, TenantId};

impl<'a> Place<'a> {
    /// A signing secret of an endpoint.
    pub const fn endpoint_secret(id: SecretId) -> Self {
        Self::of("endpoint_secrets.secret", id.uuid(), "")
    }

    /// The value of a header of an endpoint's own. Endpoints are given credentials that way.
    pub const fn endpoint_header(id: EndpointId, name: &'a str) -> Self {
        Self::of("endpoints.headers", id.uuid(), name)
    }

    /// A remembered answer that holds a secret. `key` is the column `key`: the operation and the `Idempotency-Key`.
    pub const fn idempotent_answer(tenant: TenantId, key: &'a str) -> Self {
        Self::of("idempotency_keys.response", tenant.uuid(), key)
    }

    /// The plain text of a sealed email.
    pub const fn email_text(id: EmailId) -> Self {
        Self::of("email_bodies.text", id.uuid(), "")
    }

    /// The HTML of a sealed email.
    pub const fn email_html(id: EmailId) -> Self {
        Self::of("email_bodies.html", id.uuid(), "")
    }

    /// The PKCE verifier and the nonce of a sign-in.
    pub const fn oauth_secrets(id: OauthStateId) -> Self {
        Self::of("oauth_states.secrets", id.uuid(), "")
    }

    const fn of(column: &'static str, row: uuid::Uuid, part: &'a str) -> Self {
        Self { column, row, part }
    }
}

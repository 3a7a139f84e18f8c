//! What browsers are answered. Nothing of it may be kept by a cache, and no token stands in an address.

use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaResponse, MetaResponses, Registry},
    types::Type,
};

use super::cookie::{Cookie, Site};
use crate::{
    http::{
        ApiError,
        reply::{documented, json},
        to_bytes,
    },
    people::sessions::Tokens,
};

/// 302 to a provider, with the cookie that ties the sign-in to the browser.
#[derive(Debug)]
pub(super) struct ToProvider(Response);

/// The end of a sign-in at the callback.
#[derive(Debug)]
pub(super) struct Back(Response);

/// 200 with tokens.
#[derive(Debug)]
pub(super) struct Exchanged(Response);

/// Sent along with an answer.
pub(super) type SetCookie = Option<HeaderValue>;

impl ToProvider {
    pub(super) fn to(url: &str, cookie: SetCookie) -> Result<Self, ApiError> {
        redirect(StatusCode::FOUND, url, [cookie]).map(Self)
    }
}

impl Back {
    /// The tokens, in the body.
    pub(super) fn tokens(tokens: &Tokens, ended: &Cookie, site: &Site) -> Result<Self, ApiError> {
        with_tokens(tokens, ended.remove(site)).map(Self)
    }

    /// To a page of ours, which exchanges the code.
    pub(super) fn to_page(url: &str, cookies: [SetCookie; 2]) -> Result<Self, ApiError> {
        redirect(StatusCode::SEE_OTHER, url, cookies).map(Self)
    }
}

impl Exchanged {
    pub(super) fn tokens(tokens: &Tokens, ended: &Cookie, site: &Site) -> Result<Self, ApiError> {
        with_tokens(tokens, ended.remove(site)).map(Self)
    }
}

fn with_tokens(tokens: &Tokens, cookie: SetCookie) -> Result<Response, ApiError> {
    let response = json(StatusCode::OK, to_bytes(tokens)?);
    Ok(private(response, [cookie]))
}

fn redirect<const N: usize>(
    status: StatusCode,
    url: &str,
    cookies: [SetCookie; N],
) -> Result<Response, ApiError> {
    let location = HeaderValue::from_str(url)
        .map_err(|error| ApiError::caused(crate::http::Code::Internal, error))?;
    let response = Response::builder()
        .status(status)
        .header(header::LOCATION, location)
        .finish();
    Ok(private(response, cookies))
}

fn private<const N: usize>(mut response: Response, cookies: [SetCookie; N]) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies.into_iter().flatten() {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

impl IntoResponse for ToProvider {
    fn into_response(self) -> Response {
        self.0
    }
}

impl IntoResponse for Back {
    fn into_response(self) -> Response {
        self.0
    }
}

impl IntoResponse for Exchanged {
    fn into_response(self) -> Response {
        self.0
    }
}

fn location(description: &'static str) -> MetaHeader {
    MetaHeader {
        name: "Location".to_owned(),
        description: Some(description.to_owned()),
        required: true,
        deprecated: false,
        schema: String::schema_ref(),
    }
}

fn redirection(status: u16, description: &'static str, to: &'static str) -> MetaResponse {
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![],
        headers: vec![location(to)],
    }
}

impl ApiResponse for ToProvider {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![redirection(
                302,
                "To the provider. A cookie ties the sign-in to this browser.",
                "The provider's page.",
            )],
        }
    }

    fn register(_: &mut Registry) {}
}

impl ApiResponse for Back {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![
                documented::<Tokens>(200, "Signed in."),
                redirection(
                    303,
                    "Signed in, when the sign-in began with `return_to`.",
                    "`return_to` with a `code` for `oauth_exchange`.",
                ),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        Tokens::register(registry);
    }
}

impl ApiResponse for Exchanged {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![documented::<Tokens>(200, "Signed in.")],
        }
    }

    fn register(registry: &mut Registry) {
        Tokens::register(registry);
    }
}

//! The pages that the links in mails lead to. Opening one does nothing: mail scanners follow links, and must not use a
//! token up. Its form does, and needs no script.

use poem::{
    Body, Request, Response, Route, get, handler,
    http::{HeaderValue, StatusCode, header},
    web::Data,
};
use url::form_urlencoded;

use super::proofs;
use crate::{
    Services,
    http::{ApiError, Code, request_id::RequestId},
};

/// Nothing is loaded, nothing runs, and the form goes to this host.
const POLICY: &str =
    "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// A form with a token and a password is far smaller.
const MAX_FORM: usize = 8 * 1024;
const MAX_TOKEN: usize = 200;

/// Adds the pages.
pub(crate) fn routes(route: Route) -> Route {
    route
        .at("/auth/verify-email", get(ask_verify).post(verify))
        .at("/auth/reset-password", get(ask_reset).post(reset))
}

#[handler]
fn ask_verify(request: &Request) -> Response {
    match token_of(request.uri().query().unwrap_or_default().as_bytes()) {
        Some(token) => page(
            StatusCode::OK,
            "Verify your address",
            &format!(
                "<form method=\"post\" action=\"verify-email\"><input type=\"hidden\" name=\"token\" value=\"{token}\">\
                 <button>This address is mine</button></form>"
            ),
        ),
        None => incomplete(),
    }
}

#[handler]
async fn verify(request: &Request, body: Body, Data(services): Data<&Services>) -> Response {
    let done = async {
        let form = read(request, body).await?;
        let token = token_of(&form).unwrap_or_default();
        proofs::verify(services, &token, &RequestId::current(request)?).await
    };
    match done.await {
        Ok(()) => page(
            StatusCode::OK,
            "Your address is verified",
            "<p>You can sign in now.</p>",
        ),
        Err(error) => refused(&error, "verify-email"),
    }
}

#[handler]
fn ask_reset(request: &Request) -> Response {
    match token_of(request.uri().query().unwrap_or_default().as_bytes()) {
        Some(token) => page(
            StatusCode::OK,
            "Choose a new password",
            &format!(
                "<form method=\"post\" action=\"reset-password\"><input type=\"hidden\" name=\"token\" value=\"{token}\">\
                 <p><label>New password, 12 to 128 characters<br><input type=\"password\" name=\"password\" required \
                 minlength=\"12\" maxlength=\"128\" autocomplete=\"new-password\"></label></p><button>Set the \
                 password</button></form>"
            ),
        ),
        None => incomplete(),
    }
}

#[handler]
async fn reset(request: &Request, body: Body, Data(services): Data<&Services>) -> Response {
    let done = async {
        let form = read(request, body).await?;
        let token = token_of(&form).unwrap_or_default();
        let password = field(&form, "password").unwrap_or_default();
        proofs::reset(services, &token, password, &RequestId::current(request)?).await
    };
    match done.await {
        Ok(()) => page(
            StatusCode::OK,
            "Your password is set",
            "<p>You were signed out everywhere. Sign in with the new password.</p>",
        ),
        Err(error) => refused(&error, "reset-password"),
    }
}

async fn read(request: &Request, body: Body) -> Result<Vec<u8>, ApiError> {
    let form = request
        .content_type()
        .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
    if !form {
        return Err(ApiError::new(
            Code::UnsupportedMediaType,
            "expected the form of this page",
        ));
    }
    let bytes = body.into_bytes_limit(MAX_FORM).await;
    let too_large = |_| ApiError::new(Code::PayloadTooLarge, "the form is too large");
    bytes.map(Into::into).map_err(too_large)
}

fn field(form: &[u8], name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(form);
    fields
        .find(|(own, _)| own == name)
        .map(|(_, value)| value.into_owned())
}

/// The token, if it looks like one: then it can stand in a page as it is.
fn token_of(form: &[u8]) -> Option<String> {
    field(form, "token").filter(|token| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(plain)
    })
}

fn incomplete() -> Response {
    page(
        StatusCode::BAD_REQUEST,
        "This link is not complete",
        "<p>Open the whole link of the mail.</p>",
    )
}

fn refused(error: &ApiError, back: &str) -> Response {
    if let Some(cause) = &error.cause {
        tracing::error!(code = error.code.as_str(), %cause, page = back, "the request failed");
    }
    let detail = escape(&error.problem("").detail);
    page(
        error.code.status(),
        "That did not work",
        &format!("<p>{detail}</p>"),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let mut response = Response::builder()
        .status(status)
        .content_type("text/html; charset=utf-8")
        .body(format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title}</title></head><body><h1>{title}</h1>{content}</body></html>"
        ));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // The address of the page holds the token.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

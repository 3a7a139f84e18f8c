//! The HTTP client that speaks to providers.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use poem::http;
use relaypost_shared::VERSION;
use reqwest::{Client, redirect::Policy};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a provider may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes. Discovery documents and key sets are a few kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// Speaks to providers: follows no redirect, uses no proxy of the environment, and reads only so much for only so long.
#[derive(Clone, Debug)]
pub(super) struct ProviderClient(Option<Client>);

/// A provider gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// TLS could not be set up when this process started.
    #[error("the HTTP client could not be built when the process started")]
    NoClient,
    /// It was not reached, or did not answer in time.
    #[error("{}", Chain(.0))]
    Unreachable(#[from] reqwest::Error),
    /// It says itself that it cannot.
    #[error("it answered {0}")]
    Failed(http::StatusCode),
    /// It answers more than an answer can be.
    #[error("its answer has more than {MAX_ANSWER} bytes")]
    TooLarge,
    /// The answer cannot be represented.
    #[error("its answer is no HTTP answer: {0}")]
    Malformed(#[from] http::Error),
}

/// An error with its causes. Neither holds a secret: the addresses of a provider's endpoints have no query.
struct Chain<'a>(&'a reqwest::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl ProviderClient {
    /// A client, if one is needed. Without one (no root certificates, say) the rest of the API works all the same.
    pub(super) fn new(needed: bool) -> Self {
        if !needed {
            return Self(None);
        }
        // Refused when another part of this process has chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(format!("Relaypost/{VERSION}"))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build();
        if let Err(error) = &client {
            tracing::error!(%error, "nobody can sign in through a provider: no HTTP client");
        }
        Self(client.ok())
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`CallError`]. An answer of 5xx or 429 is one too: the provider will not say anything else.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, CallError> {
        let client = self.0.as_ref().ok_or(CallError::NoClient)?;
        let mut answer = client.execute(request.try_into()?).await?;
        let status = answer.status();
        if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
            return Err(CallError::Failed(status));
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(CallError::TooLarge);
            }
            body.extend_from_slice(&part);
        }
        let mut response = http::Response::builder().status(status);
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        Ok(response.body(body)?)
    }
}

/// A call on its way. A type without lifetimes: with one, the compiler no longer sees that the futures of `openidconnect` may
/// move between threads.
pub(super) struct Calling(BoxFuture<'static, Result<HttpResponse, CallError>>);

impl Future for Calling {
    type Output = Result<HttpResponse, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl AsyncHttpClient<'_> for ProviderClient {
    type Error = CallError;
    type Future = Calling;

    fn call(&self, request: HttpRequest) -> Calling {
        let client = self.clone();
        Calling(Box::pin(async move { client.send(request).await }))
    }
}

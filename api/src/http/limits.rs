//! How large the head of a request may be, and how long a request may take.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use poem::{Endpoint, FromRequest, Request, RequestBody, Response, http::header};
use relaypost_shared::settings::Settings;

use super::{
    incoming,
    problem::{ApiError, Code},
};

/// The longest path with its query, in bytes.
const MAX_URI: usize = 8 << 10;
/// The largest headers together, in bytes, each counted with its colon, space and line end.
const MAX_HEADERS: usize = 16 << 10;
/// What stands between a header's name, its value and the next.
const AROUND_HEADER: usize = ": \r\n".len();

/// The limits of every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    body: usize,
    body_time: Duration,
    time: Duration,
}

/// Whether the operation at work has a deadline of its own.
#[derive(Clone, Debug, Default)]
struct Lifted(Arc<AtomicBool>);

/// Declares that an operation has a deadline of its own: `REQUEST_TIMEOUT_MS` does not cut it from here on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnDeadline;

impl<'a> FromRequest<'a> for OwnDeadline {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let lifted = request.data::<Lifted>();
        let lifted =
            lifted.ok_or_else(|| ApiError::new(Code::Internal, "the request has no time limit"))?;
        lifted.0.store(true, Ordering::Relaxed);
        Ok(Self)
    }
}

impl Limits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            body: settings.max_body_bytes,
            body_time: settings.http.body_timeout,
            time: settings.http.request_timeout,
        }
    }

    /// Answers a request within the limits, and waits for no more than the beginning of the answer: one that then flows for
    /// long, such as a stream of events, is not cut.
    ///
    /// What cannot wait any longer is dropped wherever it is. That is safe: a transaction that was not committed is rolled
    /// back, what was handed to a group commit is written whole without us, and what was committed but not pushed
    /// onto the queue is found by the workers' sweep.
    ///
    /// # Errors
    /// 414 and 431 when the head is too large, 400 when it names two hosts: a proxy may have gone by the other one
    /// ([RFC 9112](https://www.rfc-editor.org/rfc/rfc9112#section-3.2)). When the time is over, unless the operation declares
    /// an [`OwnDeadline`]: 408 when the client is what we wait for, else 503. 500 when the operation panics, and whatever it
    /// fails with.
    pub(crate) async fn answer<E>(
        &self,
        inside: &E,
        mut request: Request,
    ) -> Result<Response, ApiError>
    where
        E: Endpoint<Output = Response>,
    {
        let uri = request.uri();
        let uri_length = uri.path().len() + uri.query().map_or(0, str::len);
        if uri_length > MAX_URI {
            let detail = format!("the path and the query are longer than {MAX_URI} bytes");
            return Err(ApiError::new(Code::UriTooLong, detail));
        }
        if request.headers().get_all(header::HOST).iter().count() > 1 {
            let detail = "Host: expected only one";
            return Err(ApiError::new(Code::InvalidParameter, detail));
        }
        let headers = request.headers().iter();
        let size = headers.map(|(name, value)| name.as_str().len() + value.len() + AROUND_HEADER);
        if size.sum::<usize>() > MAX_HEADERS {
            let detail = format!("the headers are larger than {MAX_HEADERS} bytes");
            return Err(ApiError::new(Code::HeadersTooLarge, detail));
        }
        let owed = incoming::guard(&mut request, self.body, self.body_time);
        let lifted = Lifted::default();
        request.set_data(lifted.clone());
        // Boxed: what is around it holds it several times over, and all that would be moved for each request.
        let mut answering = AssertUnwindSafe(inside.call(request).boxed()).catch_unwind();
        let answered = match tokio::time::timeout(self.time, &mut answering).await {
            Ok(answered) => answered,
            Err(_) if lifted.0.load(Ordering::Relaxed) => answering.await,
            Err(_) if owed.is_waited_for() => {
                let detail = "the body did not arrive in time";
                return Err(ApiError::new(Code::RequestTimeout, detail));
            }
            Err(_) => return Err(ApiError::took_too_long()),
        };
        let Ok(response) = answered else {
            tracing::error!("the handler panicked");
            return Err(ApiError::new(Code::Internal, "the service failed"));
        };
        Ok(response?)
    }
}

impl ApiError {
    /// The answer to a request that waits no longer, although its work may still be done.
    pub(crate) fn took_too_long() -> Self {
        Self::new(
            Code::TookTooLong,
            "the answer took too long; what was asked for may have been done all the same: with the same \
             `Idempotency-Key` it is safe to ask again",
        )
    }
}

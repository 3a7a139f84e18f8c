//! The body of a request on its way in: how large it may be and how long it may take, whoever reads it.

use std::{
    error::Error as StdError,
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use poem::{
    Body, Request,
    http::{HeaderMap, header},
};
use relaypost_shared::serve::Seat;
use tokio::time::{Sleep, sleep};

use super::problem::{ApiError, Code};

/// A client that sends more than is allowed is heard out up to this many bytes: closing the connection on it at once
/// would often cost it the answer.
const HEARD_OUT: usize = 16 << 20;

/// Why a body was not read to its end. It travels as the cause of an [`io::Error`].
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Cut {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    Late,
}

/// Whether the client still owes a part of the body that somebody waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owed(Arc<AtomicBool>);

impl Owed {
    pub(crate) fn is_waited_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Holds the body of `request` to at most `limit` bytes, which arrive within `time` from now.
pub(crate) fn guard(request: &mut Request, limit: usize, time: Duration) -> Owed {
    let owed = Owed::default();
    let body = request.take_body();
    if body.is_empty() {
        request.set_body(body);
        return owed;
    }
    let announced = asks_first(request.headers(), limit);
    let guarded = Guarded {
        parts: Box::pin(body.into_bytes_stream()),
        late: Box::pin(sleep(time)),
        owed: owed.clone(),
        seat: request.data::<Arc<Seat>>().cloned(),
        seen: 0,
        limit,
        // It has not begun to send, and will not if it hears at once that it is in vain.
        cut: announced.then_some(Cut::TooLarge(limit)),
        ended: false,
    };
    request.set_body(Body::from_bytes_stream(guarded));
    owed
}

/// Whether the client announces a body that is too large, and waits with it for our word (`Expect: 100-continue`).
fn asks_first(headers: &HeaderMap, limit: usize) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    headers.contains_key(header::EXPECT) && length.is_some_and(|length| length > limit as u64)
}

/// The error of reading a body, as the client gets it.
pub(crate) fn refusal(error: &io::Error) -> ApiError {
    match cut(error) {
        Some(cut @ Cut::TooLarge(_)) => ApiError::new(Code::PayloadTooLarge, cut.to_string()),
        Some(cut @ Cut::Late) => ApiError::new(Code::RequestTimeout, cut.to_string()),
        None => ApiError::new(Code::MalformedJson, "the body ended before it was complete"),
    }
}

/// Readers wrap it up in errors of their own.
fn cut(error: &io::Error) -> Option<Cut> {
    let mut cause: &(dyn StdError + 'static) = error.get_ref()?;
    loop {
        if let Some(cut) = cause.downcast_ref() {
            return Some(*cut);
        }
        cause = match cause.downcast_ref::<io::Error>() {
            Some(wrapped) => wrapped.get_ref()?,
            None => cause.source()?,
        };
    }
}

struct Guarded<S> {
    parts: Pin<Box<S>>,
    late: Pin<Box<Sleep>>,
    owed: Owed,
    seat: Option<Arc<Seat>>,
    seen: usize,
    limit: usize,
    cut: Option<Cut>,
    ended: bool,
}

impl<S> Guarded<S> {
    /// What the reader gets of a part; nothing while the client is only heard out.
    fn take(&mut self, part: Bytes) -> Option<Bytes> {
        self.seen = self.seen.saturating_add(part.len());
        if self.seen <= self.limit {
            return Some(part);
        }
        if self.seen > self.limit.saturating_add(HEARD_OUT) {
            self.cut = Some(Cut::TooLarge(self.limit));
        }
        None
    }

    fn wait(&self) {
        if !self.owed.0.swap(true, Ordering::Relaxed)
            && let Some(seat) = &self.seat
        {
            seat.awaits_body();
        }
    }

    fn go_on(&self) {
        if self.owed.0.swap(false, Ordering::Relaxed)
            && let Some(seat) = &self.seat
        {
            seat.body_came();
        }
    }
}

impl<S: Stream<Item = io::Result<Bytes>>> Stream for Guarded<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            if let Some(cut) = self.cut {
                self.ended = true;
                self.go_on();
                return Poll::Ready(Some(Err(io::Error::other(cut))));
            }
            match self.parts.as_mut().poll_next(cx) {
                Poll::Pending if self.late.as_mut().poll(cx).is_ready() => {
                    self.cut = Some(Cut::Late);
                }
                Poll::Pending => {
                    self.wait();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(part))) => {
                    self.go_on();
                    if let Some(part) = self.take(part) {
                        return Poll::Ready(Some(Ok(part)));
                    }
                }
                Poll::Ready(None) if self.seen > self.limit => {
                    self.cut = Some(Cut::TooLarge(self.limit));
                }
                Poll::Ready(end) => {
                    self.ended = true;
                    self.go_on();
                    return Poll::Ready(end);
                }
            }
        }
        Poll::Ready(None)
    }
}

// A reader that goes away waits for nothing any more. What the client owed when it was cut off stays known.
impl<S> Drop for Guarded<S> {
    fn drop(&mut self) {
        if let Some(seat) = &self.seat {
            seat.body_came();
        }
    }
}

//! How a receiver answers.

use std::sync::Arc;
use std::time::Duration;

use super::Hit;
use super::http::Response;

/// Decides on an answer from the request.
pub type ReplyFn = Arc<dyn Fn(&Hit) -> (u16, Vec<(String, String)>, Vec<u8>) + Send + Sync>;

/// How a receiver answers from now on.
#[derive(Clone)]
pub enum Reply {
    /// This status, with an empty body.
    Status(u16),
    /// Each of these statuses once, in order, and then the other reply for good.
    StatusThen(Vec<u16>, Box<Reply>),
    /// A status with headers.
    Headers {
        /// The status.
        status: u16,
        /// Names and values, sent as they are.
        headers: Vec<(String, String)>,
    },
    /// A status with a body.
    Body {
        /// The status.
        status: u16,
        /// The body.
        bytes: Vec<u8>,
    },
    /// `302` to this address.
    Redirect(String),
    /// Reads the request and never answers, until [`Receiver::release`](super::Receiver::release).
    Hang,
    /// Reads the request and resets the connection.
    Reset,
    /// The other reply, this much later. The request counts as arrived only then, and a client that does not wait gets
    /// none.
    After(Duration, Box<Reply>),
    /// Whatever the function says.
    Func(ReplyFn),
}

impl Reply {
    /// [`Reply::StatusThen`] without the boxing.
    pub fn statuses_then(statuses: &[u16], then: Reply) -> Reply {
        Reply::StatusThen(statuses.to_vec(), Box::new(then))
    }

    /// [`Reply::Func`] from a closure.
    pub fn func(
        decide: impl Fn(&Hit) -> (u16, Vec<(String, String)>, Vec<u8>) + Send + Sync + 'static,
    ) -> Reply {
        Reply::Func(Arc::new(decide))
    }

    /// How long to wait before the step.
    pub(super) fn wait(&self) -> Duration {
        match self {
            Reply::After(wait, then) => *wait + then.wait(),
            _ => Duration::ZERO,
        }
    }

    /// Uses up one step of the script.
    pub(super) fn step(&mut self) -> Step {
        match self {
            Reply::StatusThen(statuses, then) if statuses.is_empty() => {
                *self = (**then).clone();
                self.step()
            }
            Reply::StatusThen(statuses, _) => {
                Step::Answer((statuses.remove(0), Vec::new(), Vec::new()))
            }
            Reply::Status(status) => Step::Answer((*status, Vec::new(), Vec::new())),
            Reply::Headers { status, headers } => {
                Step::Answer((*status, headers.clone(), Vec::new()))
            }
            Reply::Body { status, bytes } => Step::Answer((*status, Vec::new(), bytes.clone())),
            Reply::Redirect(to) => {
                let location = ("location".to_owned(), to.clone());
                Step::Answer((302, vec![location], Vec::new()))
            }
            Reply::After(_, then) => then.step(),
            Reply::Hang => Step::Hang,
            Reply::Reset => Step::Reset,
            Reply::Func(decide) => Step::Ask(decide.clone()),
        }
    }
}

/// What to do with one request.
pub(super) enum Step {
    Answer(Response),
    Ask(ReplyFn),
    Hang,
    Reset,
}

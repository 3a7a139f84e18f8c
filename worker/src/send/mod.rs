//! Step 3: send, and say what happened. Nothing here decides what it means.

mod echo;
mod email;
mod mailer;
mod resolver;
mod smtp;
mod webhook;

use std::time::Duration;

use relaypost_shared::{
    circuit::Report,
    clock::{Clock, Timestamp},
    delivery::ErrorClass,
    entities::endpoint,
    settings::Settings,
    ssrf::Guard,
    store::{
        Delivery,
        load::{Outgoing, OutgoingEmail},
    },
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    circuit::Pass,
    handover::{Handover, Withheld},
    load::Credentials,
};

pub use mailer::Mailer;
pub use webhook::WebhookClient;

/// How much of an answer is kept, in bytes.
const SNIPPET: usize = 1024;

/// One try, and what came of it.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub result: Result<Success, Failure>,
    /// What it says about the circuits that it went through.
    pub reports: Vec<Report>,
    /// Of a mail whose content was to be handed over: what the attempt has marked the delivery with.
    pub handover: Option<Uuid>,
}

impl Attempted {
    /// How long it took, in milliseconds.
    pub(crate) fn millis(&self) -> i32 {
        i32::try_from(self.duration.as_millis()).unwrap_or(i32::MAX)
    }

    /// Whether the receiver said that it is gone for good (RFC 9110, section 15.5.11).
    pub(crate) fn is_gone(&self) -> bool {
        matches!(&self.result, Err(failure) if failure.status == Some(410) && failure.class == ErrorClass::Http4xx)
    }
}

/// The receiver confirmed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    /// Its status code.
    pub status: Option<u16>,
    /// The beginning of its answer.
    pub snippet: Option<String>,
}

/// The receiver did not confirm it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub class: ErrorClass,
    /// The receiver's status code, where there was one.
    pub status: Option<u16>,
    /// The beginning of its answer, or what went wrong in words.
    pub snippet: Option<String>,
    /// The earliest time of the next attempt, as far as the receiver has asked for one.
    pub not_before: Option<Timestamp>,
    /// It may have been accepted all the same: the answer to a mail's content never came.
    pub uncertain: bool,
    /// It was this recipient that the mail server refused.
    pub recipient_refused: bool,
}

/// A mail was not sent.
#[derive(Debug)]
enum Unsent {
    /// The provider failed, or refused it.
    Failed(Failure),
    /// The content was handed over and this worker stops before the answer, which says nothing about the provider.
    Interrupted(Failure),
    /// The content was not handed over, because of us. No attempt was made.
    Withheld(Withheld),
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Withheld> for Unsent {
    fn from(withheld: Withheld) -> Self {
        Self::Withheld(withheld)
    }
}

impl Failure {
    /// The content was handed over and the answer is unknown: the mail may have been accepted.
    pub(crate) fn uncertain(words: &str) -> Self {
        Self {
            uncertain: true,
            ..Self::new(ErrorClass::Timeout, words)
        }
    }

    fn new(class: ErrorClass, words: impl Into<String>) -> Self {
        Self {
            class,
            status: None,
            snippet: Some(snippet(words.into().as_bytes())),
            not_before: None,
            uncertain: false,
            recipient_refused: false,
        }
    }
}

/// Chooses the cryptography that every HTTP client of this process uses. It has to come before the first client is built;
/// a second call changes nothing.
pub fn choose_tls_provider() {
    // Refused when another part of this process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Everything that sends. Clones share connections.
#[derive(Clone, Debug)]
pub struct Sender {
    webhooks: WebhookClient,
    mailer: Mailer,
    clock: Clock,
}

/// A sender cannot be made from these settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built: {0}")]
    Http(#[from] reqwest::Error),
    /// A mail provider cannot be used.
    #[error("a mail provider cannot be used: {0}")]
    Smtp(#[from] lettre::transport::smtp::Error),
}

impl Sender {
    /// A sender with these settings.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: &Settings, clock: Clock) -> Result<Self, SetupError> {
        Self::guarded(settings, Guard::new(&settings.webhooks), clock)
    }

    /// The same with a guard of its own, which may look names up in another way.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn guarded(settings: &Settings, guard: Guard, clock: Clock) -> Result<Self, SetupError> {
        Ok(Self {
            webhooks: WebhookClient::new(&settings.webhooks, guard)?,
            mailer: Mailer::new(&settings.emails.providers, settings.keyring.clone())?,
            clock,
        })
    }

    /// The ids of the mail providers' circuits, in the order in which the providers are tried.
    pub fn providers(&self) -> Vec<Uuid> {
        self.mailer.circuits().collect()
    }

    /// Sends a webhook, under the epoch in which `pass` lets it through.
    pub(crate) async fn webhook(
        &self,
        message: &Outgoing,
        endpoint: &endpoint::Model,
        credentials: &Credentials,
        pass: &Pass,
    ) -> Attempted {
        let (started_at, began) = (self.clock.now(), Instant::now());
        let sending = self
            .webhooks
            .send(message, endpoint, credentials, started_at);
        let result = sending.await;
        let circuit = endpoint.id.uuid();
        let report = Report {
            circuit,
            epoch: pass.through(circuit).flatten(),
            signal: webhook::signal(&result),
        };
        Attempted {
            started_at,
            duration: began.elapsed(),
            result,
            reports: vec![report],
            handover: None,
        }
    }

    /// Sends one recipient's copy of a mail, the way that `pass` allows. Its content is handed over under `handover`.
    ///
    /// # Errors
    /// When the content was not handed over because of us: that is no attempt.
    pub(crate) async fn mail(
        &self,
        delivery: &Delivery,
        email: &OutgoingEmail,
        recipient: &str,
        pass: &Pass,
        handover: &Handover<'_>,
    ) -> Result<Attempted, Withheld> {
        let (started_at, began) = (self.clock.now(), Instant::now());
        let sending = self.mailer.send(delivery, email, recipient, pass, handover);
        let (result, reports) = sending.await?;
        Ok(Attempted {
            started_at,
            duration: began.elapsed(),
            result,
            reports,
            handover: handover.token(),
        })
    }
}

/// The beginning of an answer as text that every database takes: no NUL, cut between characters.
fn snippet(bytes: &[u8]) -> String {
    let mut text =
        String::from_utf8_lossy(&bytes[..bytes.len().min(SNIPPET)]).replace('\0', "\u{fffd}");
    // A character that the cut went through shows as one replacement character at the very end.
    if bytes.len() > SNIPPET && text.ends_with('\u{fffd}') {
        text.pop();
    }
    text
}

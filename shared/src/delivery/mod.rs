//! The life of a delivery: its states, what ends it, and why an attempt failed. The worker decides, the database
//! keeps, the API shows; this is the vocabulary that they share. `docs/delivery-flow.md` draws it.

mod operator;
mod state;

pub use operator::{OperatorEvent, TEST_EVENT, is_reserved};
pub use state::{Outcome, TRANSITIONS, Transition};

words! {
    /// What is delivered.
    DeliveryKind {
        /// A message to an endpoint.
        Webhook = "webhook",
        /// An email to one recipient.
        Email = "email",
    }

    /// Where a delivery stands.
    Status {
        /// Not done yet: waiting in a queue, being sent, waiting for its next attempt, or parked.
        Pending = "pending",
        /// The receiver confirmed it.
        Delivered = "delivered",
        /// In the dead-letter queue, with a [`Reason`].
        Dead = "dead",
        /// Given up for good without having been delivered: taken out of the dead-letter queue, or cancelled before its
        /// time.
        Discarded = "discarded",
    }

    /// Why a delivery is dead, or was given up before its time.
    Reason {
        /// Every attempt of its schedule failed.
        RetriesExhausted = "retries_exhausted",
        /// Its endpoint is disabled.
        EndpointDisabled = "endpoint_disabled",
        /// Its endpoint was deleted.
        EndpointDeleted = "endpoint_deleted",
        /// Its address leads into a network that webhooks may not reach.
        SsrfBlocked = "ssrf_blocked",
        /// It was not delivered before its `expires_at`.
        Expired = "expired",
        /// Its sender cancelled it before its time.
        Cancelled = "cancelled",
        /// The receiver says that the payload is more than it takes.
        PayloadTooLarge = "payload_too_large",
        /// The mail server refused the mail for good.
        Rejected = "rejected",
        /// The mail server says that there is no such recipient.
        InvalidRecipient = "invalid_recipient",
        /// The mail server's answer to the mail's content is unknown: the mail may have been accepted, so it is not sent
        /// again.
        Uncertain = "uncertain",
    }

    /// Whether a mail is sent again when the mail server may have accepted it.
    EmailOnUncertain {
        /// It is dead with the reason `uncertain` until an operator replays or discards it.
        Hold = "hold",
        /// It is sent again by the retry schedule. The recipient may get it twice.
        Resend = "resend",
    }

    /// Why a pending delivery is parked: held back, so that it is not sent and uses up no attempt.
    ParkedReason {
        /// The circuit of its endpoint, or of every mail provider, is open or half-open.
        CircuitOpen = "circuit_open",
        /// Its endpoint is paused.
        Paused = "paused",
        /// Its endpoint gets messages in order, and another one goes first.
        Ordered = "ordered",
    }

    /// Why an attempt failed.
    ErrorClass {
        /// The host name has no address.
        Dns = "dns",
        /// No connection was made.
        Connect = "connect",
        /// The TLS handshake failed.
        Tls = "tls",
        /// No complete answer within the time allowed.
        Timeout = "timeout",
        /// The receiver answered 4xx.
        Http4xx = "http_4xx",
        /// The receiver answered 5xx.
        Http5xx = "http_5xx",
        /// The receiver answered with a redirect, which is never followed.
        Redirect = "redirect",
        /// Every address of the host is in a network that webhooks may not reach.
        Ssrf = "ssrf",
        /// The receiver answered 413: the payload is more than it takes.
        BodyTooLarge = "body_too_large",
        /// The answer was not HTTP, or not SMTP, as the standard has it.
        Protocol = "protocol",
        /// The mail server answered 4yz: try later.
        Smtp4xx = "smtp_4xx",
        /// The mail server answered 5yz: do not try again.
        Smtp5xx = "smtp_5xx",
    }

    /// How an attempt ended.
    AttemptOutcome {
        /// The receiver confirmed it.
        Delivered = "delivered",
        /// It failed, with an [`ErrorClass`].
        Failed = "failed",
    }

    /// Whether an endpoint takes deliveries.
    EndpointStatus {
        /// It takes deliveries.
        Active = "active",
        /// What arrives for it is kept until it is resumed.
        Paused = "paused",
        /// It takes none until somebody resumes it; `disabled_reason` says why.
        Disabled = "disabled",
    }

    /// Why an endpoint is disabled.
    DisabledReason {
        /// It answered 410: it wants nothing any more.
        Gone = "gone",
        /// Every attempt failed for longer than the service puts up with.
        Failing = "failing",
    }

    /// In which order an endpoint gets its messages.
    Ordering {
        /// In the order accepted, one at a time.
        Fifo = "fifo",
    }

    /// What an endpoint's webhooks are signed with.
    Signing {
        /// HMAC-SHA256 with a secret that both sides have: `v1`.
        Hmac = "hmac",
        /// Ed25519, whose public key is all that the receiver has: `v1a`.
        Ed25519 = "ed25519",
    }

    /// Where a circuit stands.
    CircuitState {
        /// Everything goes through.
        Closed = "closed",
        /// Nothing goes through: what comes is parked.
        Open = "open",
        /// A few probes go through; what comes of them decides.
        HalfOpen = "half_open",
    }

    /// What a replay job does.
    ReplayKind {
        /// Replays dead letters.
        Replay = "replay",
        /// Discards dead letters.
        Discard = "discard",
        /// Replays what failed at an endpoint, and sends it what it has missed.
        Recover = "recover",
    }

    /// Where a replay job stands.
    ReplayStatus {
        /// It still releases deliveries, or waits for the end of some.
        Running = "running",
        /// Everything that it released has ended.
        Completed = "completed",
        /// Somebody cancelled it; what was released goes on.
        Cancelled = "cancelled",
    }
}

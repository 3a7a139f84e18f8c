//! One mail server (RFC 5321). The commands are given one by one, so that it is known whether a connection broke before
//! the mail's content was sent, when trying again is safe, or after, when the mail may have been accepted.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, Mechanism},
    client::{AsyncSmtpConnection, TlsParameters},
    commands::{Data, Mail, Rcpt},
    extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    response::Response,
};
use relaypost_shared::{delivery::ErrorClass, settings::SmtpTls};
use tokio::time::{Instant, timeout};

use super::{Failure, Success, Unsent, mailer::Copy, snippet};
use crate::handover::{Handover, Withheld};

/// How long connecting, signing in and each command may take.
const COMMAND: Duration = Duration::from_secs(30);
/// How long the answer to a mail's content may take (RFC 5321, section 4.5.3.2.6 asks for patience here).
const CONTENT: Duration = Duration::from_secs(120);
/// How long an idle connection is kept. Servers hang up after a while, and a dead one costs a round trip.
const IDLE: Duration = Duration::from_secs(20);
/// How many idle connections are kept.
const KEEP: usize = 16;

/// The words of an attempt that this worker's stop has ended.
const STOPPED: &str =
    "The worker stopped before the mail server answered. The mail may have been accepted.";

/// Connections to one mail server.
pub(super) struct SmtpPool {
    host: String,
    port: u16,
    credentials: Option<Credentials>,
    tls: Option<TlsParameters>,
    mode: SmtpTls,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

impl fmt::Debug for SmtpPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smtp://{}:{}", self.host, self.port)
    }
}

impl SmtpPool {
    pub(super) fn new(
        host: &str,
        port: u16,
        credentials: Option<&(String, String)>,
        mode: SmtpTls,
    ) -> Result<Self, Error> {
        let tls = match mode {
            SmtpTls::None => None,
            SmtpTls::Required | SmtpTls::StartTls => Some(TlsParameters::new(host.to_owned())?),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            credentials: credentials
                .cloned()
                .map(|(user, password)| Credentials::new(user, password)),
            tls,
            mode,
            idle: Mutex::default(),
        })
    }

    pub(super) async fn send(
        &self,
        copy: &Copy,
        handover: &Handover<'_>,
    ) -> Result<Success, Unsent> {
        // Whatever keeps us from a usable connection is the provider's fault and not the mail's: never final, and the
        // next provider may do better.
        let connected = bounded(self.connection()).await;
        let mut connection = connected.map_err(|failure| Failure {
            class: match failure.class {
                class @ (ErrorClass::Tls | ErrorClass::Timeout) => class,
                // Turned away, or hung up on, as by a load balancer whose servers are down.
                _ => ErrorClass::Connect,
            },
            status: None,
            ..failure
        })?;
        let sent = converse(&mut connection, copy, handover).await;
        if sent.is_ok() {
            self.keep(connection);
        }
        // Otherwise the server may be anywhere in the transaction. Such a connection is closed without QUIT, whose answer a
        // server that is silent would owe us as well.
        sent
    }

    /// An idle connection that still answers, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, Error> {
        while let Some((since, mut connection)) = self.take() {
            if since.elapsed() < IDLE && connection.test_connected().await {
                return Ok(connection);
            }
        }
        let hello = ClientId::default();
        let implicit = self.tls.clone().filter(|_| self.mode == SmtpTls::Required);
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(COMMAND), &hello, implicit, None)
                .await?;
        if let (SmtpTls::StartTls, Some(tls)) = (self.mode, &self.tls) {
            connection.starttls(tls.clone(), &hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], credentials)
                .await?;
        }
        Ok(connection)
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle();
        if idle.len() < KEEP {
            idle.push((Instant::now(), connection));
        }
    }

    fn take(&self) -> Option<(Instant, AsyncSmtpConnection)> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, AsyncSmtpConnection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn converse(
    connection: &mut AsyncSmtpConnection,
    Copy { mail, from, to }: &Copy,
    handover: &Handover<'_>,
) -> Result<Success, Unsent> {
    let mut options = Vec::new();
    if !mail.is_ascii()
        && connection
            .server_info()
            .supports_feature(Extension::EightBitMime)
    {
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    bounded(connection.command(Mail::new(Some(from.clone()), options))).await?;
    let named = bounded(connection.command(Rcpt::new(to.clone(), Vec::new()))).await;
    named.map_err(|failure| Failure {
        recipient_refused: failure.status.is_some(),
        ..failure
    })?;
    handover.begin().await?;
    let stopping = || Withheld::Stopping.into();
    waiting(handover, bounded(connection.command(Data)), stopping).await?;
    let interrupted = || Unsent::Interrupted(Failure::uncertain(STOPPED));
    let answered = waiting(handover, content(connection, mail), interrupted).await?;
    let words: Vec<&str> = answered.message().collect();
    Ok(Success {
        status: answered.code().to_string().parse().ok(),
        snippet: Some(snippet(words.join(" ").as_bytes())),
    })
}

/// Waits for a step of the handover and renews the mark meanwhile. It ends early when this worker stops.
async fn waiting<T>(
    handover: &Handover<'_>,
    step: impl Future<Output = Result<T, Failure>>,
    stopped: impl FnOnce() -> Unsent,
) -> Result<T, Unsent> {
    tokio::select! {
        done = step => done.map_err(Unsent::Failed),
        () = handover.cut_off() => Err(stopped()),
        never = handover.renew() => match never {},
    }
}

/// Sends the content, which the server has agreed to take.
async fn content(connection: &mut AsyncSmtpConnection, mail: &[u8]) -> Result<Response, Failure> {
    match timeout(CONTENT, connection.message(mail)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            let failure = classify(&error);
            Err(Failure {
                uncertain: failure.status.is_none(),
                ..failure
            })
        }
        Err(_) => Err(Failure::uncertain("no answer to the mail's content")),
    }
}

async fn bounded<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match timeout(COMMAND, step).await {
        Ok(result) => result.map_err(|error| classify(&error)),
        Err(_) => Err(Failure::new(
            ErrorClass::Timeout,
            "the mail server did not answer in time",
        )),
    }
}

fn classify(error: &Error) -> Failure {
    let class = if error.is_transient() {
        ErrorClass::Smtp4xx
    } else if error.is_permanent() {
        ErrorClass::Smtp5xx
    } else if error.is_timeout() {
        ErrorClass::Timeout
    } else if error.is_tls() {
        ErrorClass::Tls
    } else if error.is_response() || error.is_client() {
        ErrorClass::Protocol
    } else {
        ErrorClass::Connect
    };
    let status = error
        .status()
        .and_then(|code| code.to_string().parse().ok());
    Failure {
        status,
        ..Failure::new(class, error.to_string())
    }
}

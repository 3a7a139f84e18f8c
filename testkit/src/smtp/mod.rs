//! A mail server: real SMTP on a port of its own, without TLS, that records every mail it accepts.

mod session;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use session::Session;

use crate::wait::watched;

/// One accepted mail: an envelope and what came after `DATA`, dots unstuffed.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The address of `MAIL FROM`.
    pub from: String,
    /// The addresses of `RCPT TO` that were accepted.
    pub to: Vec<String>,
    /// Headers and body with their CRLF line ends.
    pub data: Vec<u8>,
    /// When all of it had arrived.
    pub at: Instant,
}

impl Mail {
    /// The mail as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// The head of the mail: everything before the first empty line.
    pub fn head(&self) -> String {
        let text = self.text();
        text.split_once("\r\n\r\n")
            .map_or(text.clone(), |(head, _)| head.to_owned())
    }
}

/// An answer that a server keeps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The answer to `RCPT TO`.
    Recipient,
    /// The answer to `DATA`: the content has not arrived yet.
    Data,
    /// The answer to the content, all of which has arrived.
    Content,
}

#[derive(Clone, Copy)]
struct Hold {
    stage: Stage,
    at_most: Option<Duration>,
}

type Reply = (u16, String);
type RcptRule = Box<dyn Fn(&str) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    rcpt_rule: Mutex<Option<RcptRule>>,
    data_failure: Mutex<Option<Reply>>,
    silent: Mutex<bool>,
    count: watch::Sender<usize>,
    connections: watch::Sender<usize>,
    holds: watch::Sender<Vec<Hold>>,
    held: watch::Sender<usize>,
}

impl Shared {
    /// Keeps an answer back for as long as the test wants it.
    async fn hold(&self, stage: Stage) {
        let mut changes = self.holds.subscribe();
        let of_stage = |holds: &Vec<Hold>| holds.iter().copied().find(|hold| hold.stage == stage);
        let wanted = of_stage(&changes.borrow());
        let Some(hold) = wanted else { return };
        self.held.send_modify(|held| *held += 1);
        let released = changes.wait_for(|holds| of_stage(holds).is_none());
        match hold.at_most {
            // The end of the time and the release are alike.
            Some(at_most) => drop(timeout(at_most, released).await),
            None => drop(released.await),
        }
        self.held.send_modify(|held| *held -= 1);
    }
}

/// A mail server. Accepts everything until told otherwise; stops when dropped.
pub struct SmtpServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl SmtpServer {
    /// Listens on a free port of the loopback interface.
    pub async fn start() -> SmtpServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = tokio::spawn(accept(listener, shared.clone()));
        SmtpServer {
            addr,
            shared,
            server,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every mail so far, in order.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.lock().unwrap().clone()
    }

    /// How many connections have been opened so far.
    pub fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Answers `RCPT TO` with what the rule returns for the address; `None` accepts it.
    pub fn respond_rcpt(&self, rule: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) {
        *self.shared.rcpt_rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// Refuses every mail with this answer once its data has arrived; `None` accepts again.
    pub fn fail_data(&self, failure: Option<(u16, &str)>) {
        let failure = failure.map(|(code, text)| (code, text.to_owned()));
        *self.shared.data_failure.lock().unwrap() = failure;
    }

    /// `true`: takes a mail's data and closes the connection without an answer, so that the sender cannot know.
    pub fn vanish_after_data(&self, on: bool) {
        *self.shared.silent.lock().unwrap() = on;
    }

    /// Keeps back the answers of this stage from now on, until [`SmtpServer::release_answers`] or each for `at_most`.
    pub fn hold_answers(&self, stage: Stage, at_most: Option<Duration>) {
        self.shared
            .holds
            .send_modify(|holds| holds.push(Hold { stage, at_most }));
    }

    /// Gives the answers of this stage that were kept back, and keeps no more back.
    pub fn release_answers(&self, stage: Stage) {
        self.shared
            .holds
            .send_modify(|holds| holds.retain(|hold| hold.stage != stage));
    }

    /// Waits until exactly `n` answers are kept back.
    pub async fn wait_for_held(&self, n: usize, deadline: Duration) {
        let held = || {
            format!(
                "wanted {n} answers kept back, are {}",
                *self.shared.held.borrow()
            )
        };
        watched(&self.shared.held, deadline, |held| *held == n, held).await;
    }

    /// Waits until at least `n` mails have been accepted.
    pub async fn wait_for(&self, n: usize, deadline: Duration) {
        let seen = || {
            let mails = self.mails();
            let lines = mails
                .iter()
                .map(|mail| format!("\n  {} -> {:?}", mail.from, mail.to));
            format!(
                "wanted {n} mails, got {}{}",
                mails.len(),
                lines.collect::<String>()
            )
        };
        watched(&self.shared.count, deadline, |count| *count >= n, seen).await;
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned by this task, so that aborting it closes every connection.
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    shared.connections.send_modify(|count| *count += 1);
                    sessions.spawn(Session::new(stream, shared.clone()).run());
                }
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

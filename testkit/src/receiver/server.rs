//! The server behind a [`Receiver`](super::Receiver).

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::script::Step;
use super::{Hit, Reply, http};

#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) hits: usize,
    pub(super) distinct: usize,
    pub(super) held: usize,
}

pub(super) struct Shared {
    pub(super) recording: AtomicBool,
    pub(super) hits: Mutex<Vec<Hit>>,
    pub(super) by_id: Mutex<HashMap<String, u32>>,
    pub(super) script: Mutex<Reply>,
    pub(super) released: watch::Sender<u64>,
    pub(super) tally: watch::Sender<Tally>,
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned by this task, so that aborting it closes every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, shared.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(hit) = http::read(&mut stream, &mut buffer).await? {
        let (wait, step, mut released) = shared.step();
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = http::gone(&stream) => {
                    shared.arrived(hit, 0);
                    return Ok(());
                }
            }
        }
        match step {
            Step::Answer(response) => {
                shared.arrived(hit, 0);
                http::write(&mut stream, response).await?;
            }
            Step::Ask(decide) => {
                let response = decide(&hit);
                shared.arrived(hit, 0);
                http::write(&mut stream, response).await?;
            }
            Step::Reset => {
                shared.arrived(hit, 0);
                return stream.set_zero_linger();
            }
            Step::Hang => {
                shared.arrived(hit, 1);
                let held = Held(&shared.tally);
                tokio::select! {
                    _ = released.changed() => {}
                    () = http::gone(&stream) => return Ok(()),
                }
                drop(held);
                http::write(&mut stream, (200, Vec::new(), Vec::new())).await?;
            }
        }
    }
    Ok(())
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared {
            recording: AtomicBool::new(true),
            hits: Mutex::default(),
            by_id: Mutex::default(),
            script: Mutex::new(Reply::Status(200)),
            released: watch::Sender::new(0),
            tally: watch::Sender::default(),
        }
    }

    /// Under one lock with `release`, so that a request either hangs before a release or sees the new script.
    fn step(&self) -> (Duration, Step, watch::Receiver<u64>) {
        let mut script = self.script.lock().unwrap();
        (script.wait(), script.step(), self.released.subscribe())
    }

    fn arrived(&self, hit: Hit, held: usize) {
        let mut fresh = false;
        if let Some(id) = hit.header("webhook-id") {
            let mut by_id = self.by_id.lock().unwrap();
            let seen = by_id.entry(id.to_owned()).or_default();
            *seen += 1;
            fresh = *seen == 1;
        }
        if self.recording.load(Ordering::Relaxed) {
            self.hits.lock().unwrap().push(hit);
        }
        self.tally.send_modify(|tally| {
            tally.hits += 1;
            tally.distinct += usize::from(fresh);
            tally.held += held;
        });
    }
}

/// Counts a held request off when it ends, however it ends.
struct Held<'a>(&'a watch::Sender<Tally>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|tally| tally.held -= 1);
    }
}

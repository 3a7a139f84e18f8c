//! A TCP relay between the product and a service it needs. It can lose what its connections carry without closing
//! them: no FIN, no RST, and the kernel still acknowledges every byte. That is what a client sees when the other machine
//! loses power, an address moves, or a firewall forgets the connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The bytes that a silent connection loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Requests and answers. The server keeps its end of the connection, with whatever is locked there.
    BothWays,
    /// Only the answers: the server does what it is asked to, and the client never hears of it.
    Answers,
    /// Requests and answers, and the server's end is closed: the server is gone, and another one has its address.
    ServerGone,
}

/// A relay to one server. Dropping it closes every connection.
pub struct Relay {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    to: SocketAddr,
    /// The silence that each open connection is in, and the one that new connections start with.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<watch::Sender<Option<Silence>>>,
    new: Option<Silence>,
}

impl Relay {
    /// Listens on a free port of the loopback interface and connects each client to `to`.
    pub async fn start(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            state: Mutex::default(),
        });
        let server = tokio::spawn(accept(listener, shared.clone()));
        Relay {
            addr,
            shared,
            server,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Silences every connection that is open now, for good, and returns how many these are. New connections work.
    pub fn silence(&self, silence: Silence) -> usize {
        let mut state = self.shared.state();
        state.open.retain(|connection| !connection.is_closed());
        let begins = |now: &mut Option<Silence>| {
            let talks = now.is_none();
            now.get_or_insert(silence);
            talks
        };
        let talking = state.open.iter().filter(|one| one.send_if_modified(begins));
        talking.count()
    }

    /// Silences new connections as well, from their first byte on, until [`Relay::restore`].
    pub fn silence_new(&self, silence: Silence) {
        self.shared.state().new = Some(silence);
    }

    /// Lets new connections work again. What has gone silent stays so: its bytes are lost.
    pub fn restore(&self) {
        self.shared.state().new = None;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Registers a connection and returns the silence that it is in, now and later.
    fn connection(&self) -> watch::Receiver<Option<Silence>> {
        let mut state = self.state();
        let (silence, silenced) = watch::channel(state.new);
        state.open.retain(|connection| !connection.is_closed());
        state.open.push(silence);
        silenced
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned by this task, so that aborting it closes every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(relay(client, shared.to, shared.connection()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(
    mut client: TcpStream,
    to: SocketAddr,
    mut silence: watch::Receiver<Option<Silence>>,
) -> io::Result<()> {
    let Ok(mut server) = TcpStream::connect(to).await else {
        // The nearest to a refused connection that a relay can do.
        return client.set_zero_linger();
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let requests_lost = |silence| matches!(silence, Some(Silence::BothWays | Silence::ServerGone));
    let (requests, answers) = (silence.clone(), silence.clone());
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        // Both ends stay open until both directions have ended: an end that is lost closes nothing.
        let both = async {
            tokio::join!(
                pump(&mut from_client, &mut to_server, || requests_lost(
                    *requests.borrow()
                )),
                pump(&mut from_server, &mut to_client, || answers
                    .borrow()
                    .is_some()),
            )
        };
        tokio::select! {
            _ = both => return Ok(()),
            _ = silence.wait_for(|silence| *silence == Some(Silence::ServerGone)) => {}
        }
    }
    drop(server);
    tokio::io::copy(&mut client, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Moves bytes until there are no more, or loses them.
async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, lost: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let moved = match (read, lost()) {
            (0, true) => return,
            (0, false) => to.shutdown().await,
            (_, true) => Ok(()),
            (_, false) => to.write_all(&buffer[..read]).await,
        };
        if read == 0 || moved.is_err() {
            return;
        }
    }
}

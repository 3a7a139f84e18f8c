//! Serving HTTP/1.1 on a socket, such that no client can keep others out.
//!
//! Every wait for a client has an end: for the head of a request, for the next request, for the client to take its
//! answer. (The body's is kept by who reads it.) The number of connections has a limit, and a newcomer at that limit
//! takes the place of the connection that has kept us waiting for longest; only when all are at work does it wait for
//! the first to finish. So neither slow clients nor idle ones can shut anybody out, health probes included.
//!
//! TLS and HTTP/2 are the business of the proxy in front.

mod connection;
mod files;
pub mod headers;
mod seat;
mod socket;

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use poem::{Endpoint, Response};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use crate::settings::Http;
pub use seat::Seat;
use seat::{House, Patience};

/// Connections that the kernel keeps while we are busy.
const BACKLOG: u32 = 1024;
/// How long accepting rests when it fails, for want of files or memory: trying again at once would only burn time.
const REST: Duration = Duration::from_millis(100);

/// Takes the address.
///
/// # Errors
/// When it is in use or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it: small answers must not wait for the client's acknowledgement.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `endpoint` until `shutdown` is ready, then finishes the requests at hand within `grace` and returns. Requests
/// carry an `Arc` of their [`Seat`] as data. Raises the process's limit of open files.
pub async fn serve<E>(
    listener: TcpListener,
    endpoint: E,
    settings: &Http,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) where
    E: Endpoint<Output = Response> + 'static,
{
    let (endpoint, house) = (Arc::new(endpoint), Arc::new(House::default()));
    let patience = Patience {
        head: settings.header_timeout,
        next: settings.keep_alive,
    };
    let most = most_connections(settings.max_connections);
    let stopping = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut newcomer: Option<(TcpStream, SocketAddr)> = None;
    let mut shutdown = pin!(shutdown);
    loop {
        if connections.len() < most
            && let Some((stream, client)) = newcomer.take()
        {
            house.no_hurry();
            let seat = Seat::new(house.clone(), patience);
            let (endpoint, stopping) = (endpoint.clone(), stopping.subscribe());
            connections.spawn(connection::serve(stream, client, seat, endpoint, stopping));
        }
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(ended),
            accepted = accept(&listener, &house), if newcomer.is_none() => {
                if connections.len() >= most {
                    house.make_way();
                }
                newcomer = Some(accepted);
            }
        }
    }
    drop((listener, newcomer));
    stopping.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(grace, all).await.is_err() {
        let open = connections.len();
        tracing::warn!(open, "the grace period is over: connections are cut");
        connections.shutdown().await;
    }
}

/// Waits for a connection. A failure to accept one is no reason to stop serving the others.
async fn accept(listener: &TcpListener, house: &House) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                // One of those that are open may hold what is missing.
                house.make_way();
                sleep(REST).await;
            }
        }
    }
}

/// The client was gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}

/// As many as are wished, but a quarter of the files that may be open is left to the database and everything else.
fn most_connections(wished: usize) -> usize {
    let files = files::raise_limit();
    let most = files
        .map_or(wished, |files| wished.min(files - files / 4))
        .max(1);
    if most < wished {
        tracing::warn!(
            files,
            connections = most,
            "MAX_CONNECTIONS is more than the limit of open files allows"
        );
    } else {
        tracing::info!(files, connections = most, "limits of the server");
    }
    most
}

fn note(ended: Result<io::Result<()>, JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        // The client was gone before the connection was served.
        Ok(Err(error)) => tracing::debug!(%error, "a connection was gone"),
        Err(error) => tracing::error!(%error, "a connection ended unexpectedly"),
    }
}

//! Listening.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use poem::{Server, listener::TcpAcceptor};
use tokio::net::{TcpListener, TcpSocket};

use crate::{Services, app};

/// Connections that the kernel keeps while we are busy.
const BACKLOG: u32 = 1024;
/// A connection on which nothing moves for this long is closed.
const IDLE: Duration = Duration::from_secs(75);

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

/// Serves the API until `shutdown` is ready, then finishes what is in flight within the setting's grace. Prints
/// `listening on http://ADDRESS:PORT` on standard output once it listens, and nothing else there.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    services: Services,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let grace = services.settings.shutdown_grace;
    let address = listener.local_addr()?;
    let acceptor = TcpAcceptor::from_tokio(listener)?;
    let app = app(services);
    println!("listening on http://{address}");
    Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE)
        .run_with_graceful_shutdown(app, shutdown, Some(grace))
        .await
}

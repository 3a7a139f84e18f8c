//! Listening.

use std::{future::Future, io};

use relaypost_shared::serve;
use tokio::net::TcpListener;

use crate::{Services, app};

/// Serves the API until `shutdown` is ready and the delay of the settings is over, in which it is not ready any more and
/// still serves; then finishes what is in flight within the setting's grace. Prints
/// `listening on http://ADDRESS:PORT` on standard output once it listens, and nothing else there.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(
    services: Services,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (address, settings) = (listener.local_addr()?, services.settings.clone());
    let (health, delay) = (services.health().clone(), settings.shutdown_delay);
    let app = app(services);
    let shutdown = async move {
        shutdown.await;
        health.stop(delay).await;
    };
    println!("listening on http://{address}");
    serve::serve(
        listener,
        app,
        &settings.http,
        shutdown,
        settings.shutdown_grace,
    )
    .await;
    Ok(())
}

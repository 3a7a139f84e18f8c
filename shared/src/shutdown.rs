//! Being told to stop.

use tokio::signal::unix::{SignalKind, signal as on};

/// A future that completes on the first SIGTERM or SIGINT (Ctrl-C) after this call. Until the call such a signal ends the
/// process at once, so it comes before the process says that it listens.
pub fn signal() -> impl Future<Output = ()> + Send {
    let registered = on(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, on(SignalKind::interrupt())?)));
    async move {
        let Ok((mut terminate, mut interrupt)) = registered else {
            tracing::error!("signals cannot be received: only SIGKILL will stop this process");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

//! Being told to stop.

use tokio::signal::unix::{SignalKind, signal as on};

/// Completes on the first SIGTERM or SIGINT (Ctrl-C).
pub async fn signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (on(SignalKind::terminate()), on(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received: only SIGKILL will stop this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

//! The receiver of the demo: what a customer of yours would run.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use poem::{
    EndpointExt as _, Route, Server, handler,
    http::{HeaderMap, StatusCode},
    listener::{Acceptor as _, Listener as _, TcpListener},
    post,
    web::Data,
};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::{Duration, timeout},
};

/// How long the demo waits for a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it came in.
pub(super) struct Received {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

type Inbox = Arc<mpsc::UnboundedSender<Received>>;

/// A server that answers 200 and keeps what it got.
pub(super) struct Receiver {
    address: SocketAddr,
    received: Mutex<mpsc::UnboundedReceiver<Received>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Receiver {
    pub(super) async fn start() -> Result<Self> {
        let (sender, received) = mpsc::unbounded_channel();
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await?;
        let address = acceptor
            .local_addr()
            .first()
            .and_then(|address| address.as_socket_addr().copied());
        let app = Route::new()
            .at("/webhooks", post(receive))
            .data(Inbox::new(sender));
        Ok(Self {
            address: address.context("the receiver has no address")?,
            received: Mutex::new(received),
            serving: tokio::spawn(Server::new_with_acceptor(acceptor).run(app)),
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    pub(super) async fn next(&self) -> Result<Received> {
        let received = timeout(PATIENCE, async { self.received.lock().await.recv().await }).await;
        received
            .context("no webhook arrived within ten seconds")?
            .context("the receiver stopped")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[handler]
fn receive(headers: &HeaderMap, body: Vec<u8>, inbox: Data<&Inbox>) -> StatusCode {
    // The demo may be over already.
    let _ = inbox.send(Received {
        headers: headers.clone(),
        body,
    });
    StatusCode::OK
}

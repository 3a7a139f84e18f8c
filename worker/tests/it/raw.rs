//! Receivers that see and say bytes, where [`relaypost_testkit::Receiver`] speaks proper HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Counts connections, keeps what arrives on them, and answers every request with the same bytes.
pub(crate) struct Raw {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Raw {
    pub(crate) async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, answer)
    }

    pub(crate) fn on(listener: TcpListener, answer: &str) -> Self {
        let address = listener.local_addr().unwrap();
        let (connections, heads) = (
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (count, kept, answer) = (connections.clone(), heads.clone(), answer.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (kept, answer) = (kept.clone(), answer.clone());
                tokio::spawn(async move {
                    while let Some(head) = read_request(&mut stream).await {
                        kept.lock().unwrap().push(head);
                        // A client that hangs up before it has the answer is fine.
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        Self {
            address,
            connections,
            heads,
            accepting,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The head of every request that arrived, with its body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Listens no more.
    pub(crate) async fn stop(self) {
        self.accepting.abort();
        // Cancelled, as it was just told to be.
        let _ = self.accepting.await;
    }
}

/// One request with the two bytes of body that every test's message has, or nothing when the client has hung up.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n{}") {
        let read = stream.read_buf(&mut bytes).await.ok()?;
        if read == 0 {
            return None;
        }
    }
    Some(String::from_utf8(bytes).unwrap())
}

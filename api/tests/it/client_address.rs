//! Whose request it is, behind real proxies: servers that forward over sockets and add their peer's address. The limit of
//! wrong keys is kept by client address, and so shows which one the API takes.

use std::net::SocketAddr;

use relaypost_shared::queue::{MemoryQueue, Queue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::Api;

/// How a proxy says whom it forwards for.
#[derive(Clone, Copy)]
enum Adds {
    /// At the end of the line of `X-Forwarded-For` that came, as nginx does.
    ToTheLine,
    /// On a line of its own, as HAProxy does.
    ALine,
    /// In `Forwarded`, at the end of the line that came.
    Forwarded,
}

/// Connects from this address of the machine: all of 127.0.0.0/8 are its own.
async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// The head of a request, its lines without the empty one.
async fn head(stream: &mut TcpStream) -> Vec<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    let text = String::from_utf8(bytes).unwrap();
    text.trim_end().split("\r\n").map(str::to_owned).collect()
}

/// Starts a proxy that speaks to `next` from the address `at`.
async fn proxy(
    tasks: &mut JoinSet<()>,
    at: &'static str,
    next: SocketAddr,
    adds: Adds,
) -> SocketAddr {
    let listener = TcpListener::bind((at, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        loop {
            let (mut inside, peer) = listener.accept().await.unwrap();
            let mut lines = head(&mut inside).await;
            let (name, element) = match adds {
                Adds::ToTheLine | Adds::ALine => ("x-forwarded-for", peer.ip().to_string()),
                Adds::Forwarded => ("forwarded", format!("for=\"{peer}\";proto=http")),
            };
            let found = lines.iter_mut().rev().find(|line| line.starts_with(name));
            match found {
                Some(line) if !matches!(adds, Adds::ALine) => {
                    line.push_str(&format!(", {element}"))
                }
                _ => lines.push(format!("{name}: {element}")),
            }
            let mut outside = connect(at, next).await;
            let request = format!("{}\r\n\r\n", lines.join("\r\n"));
            outside.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            outside.read_to_end(&mut answer).await.unwrap();
            inside.write_all(&answer).await.unwrap();
        }
    });
    address
}

/// How many more wrong keys the API takes from whom it holds this client for.
async fn left(from: &str, to: SocketAddr, forged: &str) -> usize {
    let mut stream = connect(from, to).await;
    let request =
        format!("GET /v1/messages HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{forged}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let field = "ratelimit: \"invalid-key\";r=";
    let rest = answer
        .split_once(field)
        .unwrap_or_else(|| panic!("{answer}"))
        .1;
    rest.split(';').next().unwrap().parse().unwrap()
}

/// What clients make up to be somebody else.
const FORGED: [&str; 7] = [
    "",
    "x-forwarded-for: 198.51.100.1\r\n",
    "x-forwarded-for: 198.51.100.2, 127.0.0.10\r\nx-forwarded-for: 127.0.0.10\r\n",
    "forwarded: for=198.51.100.3\r\n",
    "forwarded: for=\"\r\n",
    "forwarded: for=198.51.100.4;by=\"\\\r\nx-forwarded-for: ,,\"\r\n",
    "x-forwarded-for: unknown\r\nforwarded: for=unknown, for=_a\r\nx-real-ip: 198.51.100.5\r\n",
];

/// Two clients behind these proxies, the outermost first, are themselves, whatever they make up.
async fn nobody_is_somebody_else(trust: &str, header: &str, proxies: &[(&'static str, Adds)]) {
    let settings = [
        ("RATE_LIMIT_ENABLED", "true"),
        ("TRUST_PROXY", trust),
        ("TRUST_PROXY_HEADER", header),
    ];
    let api = Api::with(&settings, Queue::Memory(MemoryQueue::default())).await;
    let mut tasks = JoinSet::new();
    let mut entry = api.serve(&mut tasks);
    for (at, adds) in proxies.iter().rev() {
        entry = proxy(&mut tasks, at, entry, *adds).await;
    }
    for (n, forged) in FORGED.iter().enumerate() {
        for client in ["127.0.0.50", "127.0.0.51"] {
            let left = left(client, entry, forged).await;
            assert_eq!(left, 59 - n, "TRUST_PROXY={trust}, {client}: {forged:?}");
        }
    }
    tasks.shutdown().await;
    api.stop().await;
}

#[tokio::test]
async fn without_a_proxy_the_client_is_who_connects() {
    for header in ["x-forwarded-for", "forwarded"] {
        nobody_is_somebody_else("0", header, &[]).await;
    }
    // A network that is believed, and in which no client is.
    nobody_is_somebody_else("127.0.0.10,10.0.0.0/8", "x-forwarded-for", &[]).await;
}

#[tokio::test]
async fn behind_one_proxy_the_client_is_who_connects_to_it() {
    for (header, adds) in [
        ("x-forwarded-for", Adds::ToTheLine),
        ("x-forwarded-for", Adds::ALine),
        ("forwarded", Adds::Forwarded),
    ] {
        for trust in ["1", "127.0.0.10"] {
            nobody_is_somebody_else(trust, header, &[("127.0.0.10", adds)]).await;
        }
    }
}

#[tokio::test]
async fn behind_two_proxies_the_client_is_who_connects_to_the_outer_one() {
    for (header, outer, inner) in [
        ("x-forwarded-for", Adds::ALine, Adds::ToTheLine),
        ("x-forwarded-for", Adds::ToTheLine, Adds::ALine),
        ("forwarded", Adds::Forwarded, Adds::Forwarded),
    ] {
        for trust in ["2", "private,127.0.0.16/28"] {
            let proxies = [("127.0.0.17", outer), ("127.0.0.18", inner)];
            nobody_is_somebody_else(trust, header, &proxies).await;
        }
    }
}

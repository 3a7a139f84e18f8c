use std::io;

use relaypost_testkit::{Relay, Silence};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::SOON;

/// A server behind a relay, and a client of it.
struct Line {
    relay: Relay,
    listener: TcpListener,
}

impl Line {
    async fn new() -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(listener.local_addr().unwrap()).await;
        Line { relay, listener }
    }

    /// A connection: the client's end and the server's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.relay.addr()).await.unwrap();
        let accepted = timeout(SOON, self.listener.accept()).await;
        (client, accepted.unwrap().unwrap().0)
    }
}

async fn carries(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    let read = timeout(SOON, to.read_exact(&mut got)).await;
    read.expect("the bytes arrive").unwrap();
    assert_eq!(&got, b"ping");
}

/// Nothing has come, no end either. A marker on a connection that works shows that the relay has had its turn.
async fn silent(line: &Line, stream: &TcpStream) {
    let (mut client, mut server) = line.connect().await;
    carries(&mut client, &mut server).await;
    let nothing = stream.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_relay_carries_both_ways_and_passes_the_end_on() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    carries(&mut client, &mut server).await;
    carries(&mut server, &mut client).await;
    drop(client);
    let ended = timeout(SOON, server.read(&mut [0; 1])).await;
    assert_eq!(ended.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_silent_connection_loses_bytes_both_ways_and_new_ones_work() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    carries(&mut client, &mut server).await;
    assert_eq!(line.relay.silence(Silence::BothWays), 1);
    assert_eq!(line.relay.silence(Silence::BothWays), 0, "silent already");
    client.write_all(b"lost").await.unwrap();
    server.write_all(b"lost").await.unwrap();
    silent(&line, &client).await;
    silent(&line, &server).await;
    // The other ends are not told of an end either.
    drop(client);
    silent(&line, &server).await;
}

#[tokio::test]
async fn a_connection_can_lose_only_the_answers() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    carries(&mut client, &mut server).await;
    line.relay.silence(Silence::Answers);
    carries(&mut client, &mut server).await;
    server.write_all(b"lost").await.unwrap();
    drop(server);
    silent(&line, &client).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_silent_to_its_clients() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    carries(&mut client, &mut server).await;
    line.relay.silence(Silence::ServerGone);
    let ended = timeout(SOON, server.read(&mut [0; 1])).await;
    assert_eq!(ended.unwrap().unwrap(), 0, "the server's end is closed");
    client.write_all(b"lost").await.unwrap();
    silent(&line, &client).await;
}

#[tokio::test]
async fn new_connections_are_silent_too_until_the_relay_is_restored() {
    let line = Line::new().await;
    line.relay.silence_new(Silence::BothWays);
    let (mut client, server) = line.connect().await;
    client.write_all(b"lost").await.unwrap();
    line.relay.restore();
    silent(&line, &server).await;
    let (mut client, mut server) = line.connect().await;
    carries(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_relay_without_its_server_ends_connections_at_once() {
    let line = Line::new().await;
    let addr = line.relay.addr();
    drop(line.listener);
    let mut client = TcpStream::connect(addr).await.unwrap();
    let ended = timeout(SOON, client.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

//! Receivers that mean harm: whatever they say, however long they say it, the attempt ends within its time, in a class,
//! and takes no more of them than fits a bound.

use std::time::Duration;

use futures::future::join_all;
use relaypost_shared::{
    delivery::{ErrorClass, Status},
    queue::Lane,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{fixture::Bench, raw::read_request};

/// The deadline of the test, not of the attempt.
const LATER: Duration = Duration::from_secs(120);
/// What a receiver gets rid of at most: what the worker reads, and what the two systems' buffers hold (6 MB and 4 MB on a
/// Linux that nobody has tuned).
const BOUND: usize = 32 << 20;

/// What a receiver says once, and then over and over.
struct Attack {
    what: &'static str,
    opening: &'static [u8],
    again: Again,
    /// The class, and the status that was received.
    end: (Option<ErrorClass>, Option<i32>),
}

#[derive(Clone, Copy)]
enum Again {
    /// As fast as the connection takes it.
    Flood(&'static [u8]),
    /// With a moment between each two.
    Drip(&'static [u8]),
    /// Hangs up.
    Close,
}

const NO_ANSWER: (Option<ErrorClass>, Option<i32>) = (Some(ErrorClass::Timeout), None);
const NO_HTTP: (Option<ErrorClass>, Option<i32>) = (Some(ErrorClass::Protocol), None);
const FAILED: (Option<ErrorClass>, Option<i32>) = (Some(ErrorClass::Http5xx), Some(500));

/// Heads that never end.
fn endless_heads() -> Vec<Attack> {
    use Again::{Drip, Flood};
    let attack = |what, opening, again, end| Attack {
        what,
        opening,
        again,
        end,
    };
    vec![
        attack(
            "an endless status line",
            b"HTTP/1.1 200 ",
            Flood(&[b'a'; 4096]),
            NO_HTTP,
        ),
        attack(
            "an endless header",
            b"HTTP/1.1 200 OK\r\nx: ",
            Flood(&[b'a'; 4096]),
            NO_HTTP,
        ),
        attack(
            "endless headers",
            b"HTTP/1.1 200 OK\r\n",
            Flood(b"x: y\r\n"),
            NO_HTTP,
        ),
        attack("endless nonsense", b"", Flood(&[0xff; 4096]), NO_HTTP),
        attack("endless line ends", b"", Flood(b"\r\n"), NO_HTTP),
        attack(
            "endless 100",
            b"",
            Flood(b"HTTP/1.1 100 Continue\r\n\r\n"),
            NO_ANSWER,
        ),
        attack(
            "endless 103",
            b"",
            Flood(b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n"),
            NO_ANSWER,
        ),
        attack(
            "100 by 100",
            b"",
            Drip(b"HTTP/1.1 100 Continue\r\n\r\n"),
            NO_ANSWER,
        ),
        attack(
            "a header drop by drop",
            b"HTTP/1.1 200 OK\r\nx: ",
            Drip(b"a"),
            NO_ANSWER,
        ),
        attack(
            "headers drop by drop",
            b"HTTP/1.1 200 OK\r\n",
            Drip(b"x: y\r\n"),
            NO_ANSWER,
        ),
    ]
}

/// Bodies after a status that has been received. It stands, whatever comes then.
fn endless_bodies() -> Vec<Attack> {
    use Again::{Close, Drip, Flood};
    let attack = |what, opening, again| Attack {
        what,
        opening,
        again,
        end: FAILED,
    };
    vec![
        attack(
            "an endless body",
            b"HTTP/1.1 500 No\r\n\r\n",
            Flood(&[b'a'; 4096]),
        ),
        attack(
            "a body of a terabyte",
            b"HTTP/1.1 500 No\r\ncontent-length: 1000000000000\r\n\r\n",
            Flood(&[b'a'; 4096]),
        ),
        attack(
            "endless chunks",
            b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n",
            Flood(b"1\r\na\r\n"),
        ),
        attack(
            "an endless chunk size",
            b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n",
            Flood(b"0"),
        ),
        attack(
            "an endless extension",
            b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n1;",
            Flood(b"aaaa"),
        ),
        attack(
            "endless trailers",
            b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            Flood(b"x: y\r\n"),
        ),
        attack(
            "a body drop by drop",
            b"HTTP/1.1 500 No\r\n\r\n",
            Drip(b"a"),
        ),
        attack(
            "a chunk size that is none",
            b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            Close,
        ),
        attack(
            "a chunk size that no number holds",
            b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\na",
            Close,
        ),
        attack(
            "a body that stops short",
            b"HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\na",
            Close,
        ),
    ]
}

/// Answers that are none.
fn nonsense() -> Vec<Attack> {
    let attack = |what, opening, end| Attack {
        what,
        opening,
        again: Again::Close,
        end,
    };
    let upgraded = (Some(ErrorClass::Protocol), Some(101));
    vec![
        attack("nothing", b"", NO_HTTP),
        attack("half a head", b"HTTP/1.1 200 OK\r\nx: y\r\n", NO_HTTP),
        attack("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n", NO_HTTP),
        attack("no version", b"<html>hello</html>\r\n\r\n", NO_HTTP),
        attack("an unknown version", b"HTTP/3.7 200 OK\r\n\r\n", NO_HTTP),
        attack("HTTP/2", b"\0\0\0\x04\0\0\0\0\0", NO_HTTP),
        attack("no status", b"HTTP/1.1 OK\r\n\r\n", NO_HTTP),
        attack(
            "a status of four digits",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            NO_HTTP,
        ),
        attack(
            "two lengths",
            b"HTTP/1.1 500 No\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
            NO_HTTP,
        ),
        attack(
            "a length below zero",
            b"HTTP/1.1 500 No\r\ncontent-length: -1\r\n\r\n",
            NO_HTTP,
        ),
        attack(
            "another protocol from now on",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\nconnection: upgrade\r\n\r\n",
            upgraded,
        ),
    ]
}

/// Plays the attack on one client and returns how many bytes it got rid of.
async fn play(mut client: TcpStream, opening: &[u8], again: Again) -> usize {
    let Some(_) = read_request(&mut client).await else {
        return 0;
    };
    let mut written = opening.len();
    if client.write_all(opening).await.is_err() {
        return written;
    }
    let (bytes, pause) = match again {
        Again::Close => return written,
        // Many at a time, so that the attack costs more there than here.
        Again::Flood(bytes) => (bytes.repeat(4096 / bytes.len()), None),
        Again::Drip(bytes) => (bytes.to_vec(), Some(Duration::from_millis(10))),
    };
    while client.write_all(&bytes).await.is_ok() && written <= BOUND {
        written += bytes.len();
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
    written
}

async fn receiver(opening: &'static [u8], again: Again) -> (String, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let playing = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        play(client, opening, again).await
    });
    (url, playing)
}

#[tokio::test]
async fn whatever_a_receiver_does_the_attempt_ends_in_a_class_and_takes_little() {
    // Long enough for all of them at once on a machine that has other work.
    let bench = Bench::new(&[("WEBHOOK_TIMEOUT_MS", "5000")]).await;
    let lane = bench.lane(Lane::Webhooks);
    let attacks = endless_heads()
        .into_iter()
        .chain(endless_bodies())
        .chain(nonsense());
    join_all(attacks.map(|attack| {
        let (bench, lane) = (&bench, &lane);
        async move {
            let (url, playing) = receiver(attack.opening, attack.again).await;
            let id = bench.webhook(bench.endpoint(&url, None).await).await;
            lane.work(&[id]).await;
            let row = bench.delivery(id).await;
            let attempts = bench.attempts().await;
            let attempt = attempts
                .iter()
                .find(|attempt| attempt.delivery_id == id)
                .unwrap();
            assert_eq!(
                (row.error_class, attempt.http_status),
                attack.end,
                "{}",
                attack.what
            );
            assert_eq!(row.status, Status::Pending, "{}", attack.what);
            let snippet = attempt.response_snippet.as_deref().unwrap_or_default();
            assert!(snippet.len() <= 4096, "{}", attack.what);
            // It ends because the worker hangs up, and not because it has said enough.
            let written = timeout(LATER, playing).await;
            let written = written.unwrap_or_else(|_| panic!("{}: still connected", attack.what));
            assert!(written.unwrap() <= BOUND, "{}", attack.what);
        }
    }))
    .await;
    bench.close().await;
}

#[tokio::test]
async fn a_success_stands_however_its_body_goes_on() {
    let bench = Bench::new(&[("WEBHOOK_TIMEOUT_MS", "500")]).await;
    let lane = bench.lane(Lane::Webhooks);
    for again in [Again::Flood(&[b'a'; 4096]), Again::Drip(b"a"), Again::Close] {
        let opening = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
        let (url, playing) = receiver(opening, again).await;
        let id = bench.webhook(bench.endpoint(&url, None).await).await;
        lane.work(&[id]).await;
        assert_eq!(bench.delivery(id).await.status, Status::Delivered);
        let written = timeout(LATER, playing).await.unwrap();
        assert!(written.unwrap() <= BOUND);
    }
    bench.close().await;
}

#[tokio::test]
async fn a_packed_answer_is_kept_as_it_came() {
    // A million zeros, packed by gzip into a thousand bytes, of which these are the first.
    let bomb: &[u8] = b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: 21\r\n\r\n\
        \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xed\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf";
    let bench = Bench::new(&[]).await;
    let (url, _playing) = receiver(bomb, Again::Close).await;
    let id = bench.webhook(bench.endpoint(&url, None).await).await;
    bench.lane(Lane::Webhooks).work(&[id]).await;
    let attempt = bench.attempts().await.remove(0);
    let body = &bomb[bomb.len() - 21..];
    let kept = String::from_utf8_lossy(body).replace('\0', "\u{fffd}");
    assert_eq!(attempt.response_snippet, Some(kept));
    assert_eq!(attempt.error_class, Some(ErrorClass::Http5xx));
    bench.close().await;
}

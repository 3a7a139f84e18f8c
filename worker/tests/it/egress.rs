//! Where webhooks go, and where they do not.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use futures::future::BoxFuture;
use poem::http::Uri;
use proptest::prelude::*;
use relaypost_shared::{
    delivery::{ErrorClass, Reason, Status},
    ids::DeliveryId,
    queue::Lane,
    settings::Settings,
    ssrf::{Guard, Names},
};
use sea_orm::ActiveValue::Set;
use tokio::net::TcpListener;

use crate::{
    fixture::{Bench, LaneBench},
    raw::Raw,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// Stands for every address that may be reached.
const GOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Stands for every address that may not.
const TRAP: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Gives these answers one after the other, the last one for good.
#[derive(Debug)]
struct Script(Mutex<VecDeque<Vec<IpAddr>>>, Mutex<usize>);

impl Script {
    fn of(answers: &[&[Ipv4Addr]]) -> Arc<Self> {
        let answers = answers
            .iter()
            .map(|answer| answer.iter().map(|ip| (*ip).into()).collect());
        Arc::new(Self(Mutex::new(answers.collect()), Mutex::new(0)))
    }

    fn asked(&self) -> usize {
        *self.1.lock().unwrap()
    }
}

impl Names for Script {
    fn addresses(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        *self.1.lock().unwrap() += 1;
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        Box::pin(async { Ok(answer.unwrap_or_default()) })
    }
}

/// What listens on the address that may be reached, and on the same port of the one that may not.
async fn twins() -> (Raw, Raw) {
    loop {
        let good = TcpListener::bind((GOOD, 0)).await.unwrap();
        let port = good.local_addr().unwrap().port();
        // Somebody else may have this port.
        if let Ok(trap) = TcpListener::bind((TRAP, port)).await {
            return (Raw::on(good, OK), Raw::on(trap, OK));
        }
    }
}

/// A worker of its own, with connections of its own, that may reach the one address.
fn worker(bench: &Bench, allow_http: bool, names: &Arc<Script>) -> LaneBench {
    let mut webhooks = bench.settings.webhooks.clone();
    webhooks.allow_cidrs = format!("{GOOD}/32").parse().unwrap();
    webhooks.allow_http = allow_http;
    bench.guarded(Lane::Webhooks, Guard::with_names(&webhooks, names.clone()))
}

async fn ends(bench: &Bench, id: DeliveryId) -> (Status, Option<Reason>, Option<ErrorClass>) {
    let row = bench.delivery(id).await;
    (row.status, row.reason, row.error_class)
}

const DELIVERED: (Status, Option<Reason>, Option<ErrorClass>) = (Status::Delivered, None, None);
const BLOCKED: (Status, Option<Reason>, Option<ErrorClass>) = (
    Status::Dead,
    Some(Reason::SsrfBlocked),
    Some(ErrorClass::Ssrf),
);

#[tokio::test]
async fn a_name_that_changes_its_answer_gets_nowhere() {
    let bench = Bench::new(&[]).await;
    let (good, trap) = twins().await;
    let url = format!("http://rebinding.example:{}/", good.port());
    let endpoint = bench.endpoint(&url, None).await;
    let names = Script::of(&[&[GOOD], &[TRAP]]);

    // What was vetted is connected to: nothing asks a second time, and so nobody hears the second answer.
    let lane = worker(&bench, true, &names);
    let first = bench.webhook(endpoint).await;
    lane.work(&[first]).await;
    assert_eq!(ends(&bench, first).await, DELIVERED);
    assert_eq!(
        (good.connections(), trap.connections(), names.asked()),
        (1, 0, 1)
    );

    // The connection that was vetted is used again.
    let second = bench.webhook(endpoint).await;
    lane.work(&[second]).await;
    assert_eq!(ends(&bench, second).await, DELIVERED);
    assert_eq!(
        (good.connections(), trap.connections(), names.asked()),
        (1, 0, 1)
    );

    // A new one hears it, and is not made.
    let third = bench.webhook(endpoint).await;
    worker(&bench, true, &names).work(&[third]).await;
    assert_eq!(ends(&bench, third).await, BLOCKED);
    assert_eq!(
        (good.connections(), trap.connections(), names.asked()),
        (1, 0, 2)
    );
    bench.close().await;
}

#[tokio::test]
async fn a_name_with_a_private_address_among_others_never_leads_there() {
    let bench = Bench::new(&[]).await;
    for answer in [&[TRAP, GOOD][..], &[GOOD, TRAP], &[TRAP, TRAP, GOOD, TRAP]] {
        let (good, trap) = twins().await;
        let url = format!("http://mixed.example:{}/", good.port());
        let endpoint = bench.endpoint(&url, None).await;
        let names = Script::of(&[answer]);
        let id = bench.webhook(endpoint).await;
        worker(&bench, true, &names).work(&[id]).await;
        assert_eq!(ends(&bench, id).await, DELIVERED, "{answer:?}");

        // Not even when nobody else answers.
        good.stop().await;
        let id = bench.webhook(endpoint).await;
        worker(&bench, true, &names).work(&[id]).await;
        let refused = (Status::Pending, None, Some(ErrorClass::Connect));
        assert_eq!(ends(&bench, id).await, refused, "{answer:?}");
        assert_eq!(trap.connections(), 0, "{answer:?}");
    }
    bench.close().await;
}

#[tokio::test]
async fn what_an_endpoint_was_stored_with_is_judged_again_at_every_attempt() {
    let bench = Bench::new(&[]).await;
    let (good, trap) = twins().await;
    let port = good.port();
    let names = Script::of(&[&[GOOD]]);
    for (allow_http, url) in [
        (true, format!("http://127.0.0.1:{port}/")),
        (true, format!("http://2130706433:{port}/")),
        (true, format!("http://0x7f.1:{port}/")),
        (
            true,
            format!("http://127\u{3002}0\u{3002}0\u{3002}1:{port}/"),
        ),
        (true, format!("http://%31%32%37.0.0.1:{port}/")),
        (true, format!("http://[::ffff:127.0.0.1]:{port}/")),
        (true, format!("http://[::1]:{port}/")),
        (true, format!("http://localhost:{port}/")),
        (true, format!("http://user:password@127.0.0.2:{port}/")),
        (true, format!("http://127.0.0.2:{port}/#top")),
        (false, format!("http://127.0.0.2:{port}/")),
        (false, format!("http://name.example:{port}/")),
        (true, format!("ftp://127.0.0.2:{port}/")),
        (true, "nonsense".to_owned()),
    ] {
        let id = bench.webhook(bench.endpoint(&url, None).await).await;
        worker(&bench, allow_http, &names).work(&[id]).await;
        assert_eq!(ends(&bench, id).await, BLOCKED, "{url}");
    }
    assert_eq!(
        (good.connections(), trap.connections(), names.asked()),
        (0, 0, 0)
    );
    let url = format!("http://127.0.0.2:{port}/");
    let id = bench.webhook(bench.endpoint(&url, None).await).await;
    worker(&bench, true, &names).work(&[id]).await;
    assert_eq!(ends(&bench, id).await, DELIVERED);
    bench.close().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_nothing_goes_where_it_points() {
    let bench = Bench::new(&[]).await;
    let elsewhere = Raw::start(OK).await;
    let lane = bench.lane(Lane::Webhooks);
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {0}\r\nrefresh: 0; url={0}\r\nalt-svc: http/1.1=\":{1}\"\r\n\
             content-length: 0\r\n\r\n",
            elsewhere.url(),
            elsewhere.port(),
        );
        let receiver = Raw::start(&answer).await;
        let endpoint = bench.endpoint(&receiver.url(), None).await;
        for _ in 0..2 {
            let id = bench.webhook(endpoint).await;
            lane.work(&[id]).await;
            let failed = (Status::Pending, None, Some(ErrorClass::Redirect));
            assert_eq!(ends(&bench, id).await, failed, "{status}");
        }
        assert_eq!(receiver.requests().len(), 2, "{status}");
    }
    assert_eq!(elsewhere.connections(), 0);
    bench.close().await;
}

#[tokio::test]
async fn an_endpoints_headers_replace_none_of_ours_even_if_they_were_stored_once() {
    let bench = Bench::new(&[]).await;
    let receiver = Raw::start(OK).await;
    let endpoint = bench.endpoint(&receiver.url(), None).await;
    let forged = [
        "Webhook-Id",
        "webhook-timestamp",
        "WEBHOOK-SIGNATURE",
        "Content-Type",
        "content-length",
        "Content-Encoding",
        "Host",
        "User-Agent",
        "traceparent",
        "tracestate",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "HTTP2-Settings",
        "Expect",
        "Date",
        "Accept-Encoding",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Forwarded",
        "X-Forwarded-For",
        "Via",
    ];
    let own = forged.map(|name| (name.to_owned(), "forged".to_owned()));
    let own = own.into_iter().chain([
        ("X-Own".to_owned(), "yes".to_owned()),
        ("Accept".to_owned(), "own".to_owned()),
    ]);
    let own = bench.sealed(endpoint, own.collect());
    bench.change(endpoint, |row| row.headers = Set(own)).await;
    let id = bench.webhook(endpoint).await;
    bench.lane(Lane::Webhooks).work(&[id]).await;
    assert_eq!(ends(&bench, id).await, DELIVERED);

    let request = receiver.requests().remove(0);
    assert!(!request.contains("forged"), "{request}");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{}");
    let mut counts = HashMap::<String, usize>::new();
    for line in head.lines().skip(1) {
        let (name, _) = line.split_once(':').unwrap();
        *counts.entry(name.to_ascii_lowercase()).or_default() += 1;
    }
    let mut names: Vec<&str> = counts.keys().map(String::as_str).collect();
    names.sort_unstable();
    let wanted = [
        "accept",
        "content-length",
        "content-type",
        "host",
        "traceparent",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "x-own",
    ];
    assert_eq!(names, wanted, "{head}");
    assert!(counts.values().all(|count| *count == 1), "{head}");
    for line in [
        "content-type: application/json",
        "content-length: 2",
        "x-own: yes",
        "accept: own",
    ] {
        assert!(
            head.lines().any(|found| found == line),
            "no {line} in {head}"
        );
    }
    bench.close().await;
}

#[tokio::test]
async fn a_header_with_a_line_end_is_never_sent() {
    let bench = Bench::new(&[]).await;
    let receiver = Raw::start(OK).await;
    let lane = bench.lane(Lane::Webhooks);
    for (name, value) in [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\nX-B: b"),
        ("X-A", "a\rX-B: b"),
        ("X-A", "a\0"),
        ("X-A\r\nX-B", "b"),
        ("X-A: a\r\nX-B", "b"),
        ("X A", "a"),
        ("", "a"),
    ] {
        let endpoint = bench.endpoint(&receiver.url(), None).await;
        let own = bench.sealed(endpoint, vec![(name.to_owned(), value.to_owned())]);
        bench.change(endpoint, |row| row.headers = Set(own)).await;
        let id = bench.webhook(endpoint).await;
        lane.work(&[id]).await;
        let failed = (Status::Pending, None, Some(ErrorClass::Protocol));
        assert_eq!(ends(&bench, id).await, failed, "{name:?}: {value:?}");
    }
    assert_eq!(receiver.connections(), 0);
    bench.close().await;
}

proptest! {
    /// The guard reads URLs with one parser and the HTTP client with another.
    #[test]
    fn the_http_client_goes_to_the_host_that_was_vetted(
        host in prop_oneof![
            "[a-zA-Z0-9._\\-\u{e4}\u{3002}\u{ff41}-\u{ff4a}]{1,30}",
            "[0-9xa-f.]{1,20}",
            "\\[[0-9a-f:.]{2,30}\\]",
            any::<String>(),
        ],
        port in prop::option::of(any::<u16>()),
        rest in prop_oneof![Just(String::new()), any::<String>(), "[/?a-z@:%\\[\\]{}|^`\"<>]{0,20}"],
    ) {
        let webhooks = Settings::from_map(HashMap::new()).unwrap().webhooks;
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        if let Ok(target) = Guard::new(&webhooks).target(&format!("http://{host}{port}/{rest}")) {
            let url = target.url();
            let uri: Uri = url.as_str().parse().unwrap();
            prop_assert_eq!(uri.host(), url.host_str());
            prop_assert_eq!(uri.port_u16().or(Some(80)), url.port_or_known_default());
            prop_assert_eq!(uri.authority().map(|all| all.as_str().contains('@')), Some(false));
        }
    }
}

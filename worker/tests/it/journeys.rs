//! From accepted to the end, one row for each way that a delivery can take. The clock jumps from one attempt to the next.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use chrono::TimeDelta;
use futures::future::join_all;
use relaypost_shared::{
    clock::Timestamp,
    delivery::{EndpointStatus, ErrorClass, Reason, Status},
    entities::endpoint,
    ids::DeliveryId,
    queue::Lane,
};
use relaypost_testkit::{Receiver, Reply, SmtpServer};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, IntoActiveModel};

use crate::fixture::{Bench, smtp_url};

/// How it ends: status, attempts, reason, the class of the last attempt, and within how many seconds.
type End = (
    Status,
    i32,
    Option<Reason>,
    Option<ErrorClass>,
    std::ops::RangeInclusive<i64>,
);

/// The whole default schedule, varied by a fifth.
const SCHEDULE: std::ops::RangeInclusive<i64> = 51_000..=76_600;

/// What happens to the endpoint or the delivery before the first job rings.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    EndpointDeleted,
    EndpointDisabled,
    ExpiresIn(i64),
}

struct Webhook {
    what: &'static str,
    to: To,
    before: Before,
    end: End,
}

enum To {
    /// A receiver that answers like this; it gets the test's time.
    Receiver(fn(Timestamp) -> Reply),
    Url(&'static str),
}

fn webhook(what: &'static str, answer: fn(Timestamp) -> Reply, end: End) -> Webhook {
    Webhook {
        what,
        to: To::Receiver(answer),
        before: Before::Nothing,
        end,
    }
}

fn exhausted(class: ErrorClass) -> End {
    let reason = Some(Reason::RetriesExhausted);
    (Status::Dead, 9, reason, Some(class), SCHEDULE)
}

fn dead(attempts: i32, reason: Reason, class: Option<ErrorClass>) -> End {
    (Status::Dead, attempts, Some(reason), class, 0..=0)
}

fn asks_for(time: String) -> Reply {
    let count = AtomicU32::new(0);
    Reply::func(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => (
            429,
            vec![("Retry-After".to_owned(), time.clone())],
            Vec::new(),
        ),
        _ => (200, Vec::new(), Vec::new()),
    })
}

fn answers() -> Vec<Webhook> {
    use ErrorClass::{BodyTooLarge, Connect, Http4xx, Http5xx, Redirect, Timeout};
    let delivered = |attempts, within| (Status::Delivered, attempts, None, None, within);
    vec![
        webhook("200", |_| Reply::Status(200), delivered(1, 0..=0)),
        webhook(
            "500 once, then 200",
            |_| Reply::statuses_then(&[500], Reply::Status(200)),
            delivered(2, 4..=6),
        ),
        webhook(
            "500 four times, then 200",
            |_| Reply::statuses_then(&[500; 4], Reply::Status(200)),
            delivered(5, 600..=910),
        ),
        webhook(
            "500 eight times, then 200",
            |_| Reply::statuses_then(&[500; 8], Reply::Status(200)),
            delivered(9, SCHEDULE),
        ),
        webhook("500", |_| Reply::Status(500), exhausted(Http5xx)),
        webhook("503", |_| Reply::Status(503), exhausted(Http5xx)),
        webhook("404", |_| Reply::Status(404), exhausted(Http4xx)),
        webhook("429", |_| Reply::Status(429), exhausted(Http4xx)),
        webhook(
            "301",
            |_| Reply::Headers {
                status: 301,
                headers: vec![("Location".to_owned(), "http://127.0.0.1:1/".to_owned())],
            },
            exhausted(Redirect),
        ),
        webhook(
            "410",
            |_| Reply::Status(410),
            dead(1, Reason::EndpointDisabled, Some(Http4xx)),
        ),
        webhook(
            "413",
            |_| Reply::Status(413),
            dead(1, Reason::PayloadTooLarge, Some(BodyTooLarge)),
        ),
        webhook(
            "429 with Retry-After in seconds, then 200",
            |_| asks_for("3600".to_owned()),
            delivered(2, 3600..=3600),
        ),
        webhook(
            "429 with Retry-After as a date, then 200",
            |now| asks_for(httpdate::fmt_http_date((now + TimeDelta::hours(2)).into())),
            delivered(2, 7200..=7200),
        ),
        webhook("no answer", |_| Reply::Hang, exhausted(Timeout)),
        webhook("a reset", |_| Reply::Reset, exhausted(Connect)),
    ]
}

fn circumstances() -> Vec<Webhook> {
    let fails: fn(Timestamp) -> Reply = |_| Reply::Status(500);
    let elsewhere = |what, to, end| Webhook {
        what,
        to,
        before: Before::Nothing,
        end,
    };
    let given = |what, before, end| Webhook {
        what,
        to: To::Receiver(fails),
        before,
        end,
    };
    let expired = Some(Reason::Expired);
    vec![
        elsewhere(
            "nobody listens",
            To::Url("http://127.0.0.1:1/"),
            exhausted(ErrorClass::Connect),
        ),
        elsewhere(
            "no such host",
            To::Url("http://nobody.invalid/"),
            exhausted(ErrorClass::Dns),
        ),
        elsewhere(
            "a private network",
            To::Url("http://10.0.0.1/"),
            dead(1, Reason::SsrfBlocked, Some(ErrorClass::Ssrf)),
        ),
        given(
            "deleted",
            Before::EndpointDeleted,
            dead(0, Reason::EndpointDeleted, None),
        ),
        given(
            "disabled",
            Before::EndpointDisabled,
            dead(0, Reason::EndpointDisabled, None),
        ),
        given(
            "expired at once",
            Before::ExpiresIn(0),
            dead(0, Reason::Expired, None),
        ),
        given(
            "expired before its fourth attempt",
            Before::ExpiresIn(60),
            (Status::Dead, 3, expired, Some(ErrorClass::Http5xx), 28..=42),
        ),
    ]
}

/// Rings the first job, and then follows the delivery from one due time to the next.
async fn travel(bench: &Bench, id: DeliveryId, lane: Lane) -> End {
    let (began, lane) = (bench.now(), bench.lane(lane));
    lane.work(&[id]).await;
    for _ in 0..20 {
        let row = bench.delivery(id).await;
        if row.status != Status::Pending {
            let took = (bench.now() - began).num_seconds();
            assert_eq!(bench.attempts().await.len() as i32, row.attempt_count);
            assert!(row.parked_for.is_none() && row.dispatch_at.is_none());
            return (
                row.status,
                row.attempt_count,
                row.reason,
                row.error_class,
                took..=took,
            );
        }
        let due = row.next_attempt_at.unwrap();
        bench.clock.advance(due - bench.now());
        assert_eq!(bench.dispatch().await, 1, "{row:?}");
        lane.work_queue().await;
        if bench.delivery(id).await.attempt_count == row.attempt_count {
            // A busy endpoint is slowed down, which the queue enforces by a moment's wait.
            bench.clock.advance(TimeDelta::seconds(1));
            lane.work_queue().await;
        }
    }
    panic!("it never ends: {:?}", bench.delivery(id).await);
}

fn compare(what: &str, actual: End, expected: End) {
    let (status, attempts, reason, class, within) = expected;
    assert_eq!(
        (actual.0, actual.1, actual.2, actual.3),
        (status, attempts, reason, class),
        "{what}"
    );
    let took = *actual.4.start();
    assert!(within.contains(&took), "{what} took {took} s");
}

async fn prepare(bench: &Bench, id: DeliveryId, before: Before) {
    let row = bench.delivery(id).await;
    let target = row.endpoint_id.unwrap();
    if let Before::ExpiresIn(seconds) = before {
        let mut row = row.into_active_model();
        row.expires_at = Set(Some(bench.now() + TimeDelta::seconds(seconds)));
        row.update(&bench.db).await.unwrap();
        return;
    }
    let change = |row: &mut endpoint::ActiveModel| match before {
        Before::EndpointDeleted => row.deleted_at = Set(Some(bench.now())),
        Before::EndpointDisabled => row.status = Set(EndpointStatus::Disabled),
        Before::Nothing | Before::ExpiresIn(_) => {}
    };
    bench.change(target, change).await;
}

#[tokio::test]
async fn each_webhook_ends_as_its_receiver_decides() {
    let journeys = answers().into_iter().chain(circumstances());
    join_all(journeys.map(|journey| async move {
        let bench = Bench::new(&[("WEBHOOK_TIMEOUT_MS", "250")]).await;
        let receiver = Receiver::start().await;
        if let To::Receiver(answer) = journey.to {
            receiver.respond(answer(bench.now()));
        }
        let url = match journey.to {
            To::Url(url) => url.to_owned(),
            To::Receiver(_) => receiver.url("/"),
        };
        let endpoint = bench.endpoint(&url, None).await;
        let id = bench.webhook(endpoint).await;
        prepare(&bench, id, journey.before).await;
        let (_, attempts, ..) = journey.end;
        let arrives = matches!(journey.to, To::Receiver(_));
        let end = travel(&bench, id, Lane::Webhooks).await;
        compare(journey.what, end, journey.end);
        let expected = if arrives { attempts as usize } else { 0 };
        assert_eq!(receiver.count(), expected, "{}", journey.what);
        if journey.what == "410" {
            let row = endpoint::Entity::find_by_id(endpoint).one(&bench.db).await;
            assert_eq!(row.unwrap().unwrap().status, EndpointStatus::Disabled);
        }
        bench.close().await;
    }))
    .await;
}

#[tokio::test]
async fn each_mail_ends_as_its_server_decides() {
    type Setup = fn(&SmtpServer);
    let journeys: [(&str, Setup, usize, End); 6] = [
        ("250", |_| {}, 1, (Status::Delivered, 1, None, None, 0..=0)),
        (
            "451 once, then 250",
            |server| {
                let count = Arc::new(AtomicU32::new(0));
                server.respond_rcpt(move |_| {
                    let first = count.fetch_add(1, Ordering::Relaxed) == 0;
                    first.then(|| (451, "later".to_owned()))
                });
            },
            1,
            (Status::Delivered, 2, None, None, 4..=6),
        ),
        (
            "451",
            |server| server.fail_data(Some((451, "later"))),
            0,
            exhausted(ErrorClass::Smtp4xx),
        ),
        (
            "550 for the recipient",
            |server| server.respond_rcpt(|_| Some((550, "no such user".to_owned()))),
            0,
            dead(1, Reason::InvalidRecipient, Some(ErrorClass::Smtp5xx)),
        ),
        (
            "554 for the mail",
            |server| server.fail_data(Some((554, "never"))),
            0,
            dead(1, Reason::Rejected, Some(ErrorClass::Smtp5xx)),
        ),
        (
            "a hang-up after the content",
            |server| server.vanish_after_data(true),
            1,
            dead(1, Reason::Uncertain, Some(ErrorClass::Protocol)),
        ),
    ];
    for (what, setup, arrived, expected) in journeys {
        let server = SmtpServer::start().await;
        setup(&server);
        let bench = Bench::new(&[("EMAIL_PROVIDERS", &smtp_url(&server))]).await;
        let id = bench.email("user@example.test").await;
        compare(what, travel(&bench, id, Lane::Emails).await, expected);
        assert_eq!(server.mails().len(), arrived, "{what}");
        bench.close().await;
    }
}

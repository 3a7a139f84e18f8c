//! The contracts of the store's operations that a worker goes by, on each of the databases.

use std::collections::{BTreeSet, HashSet};

use chrono::TimeDelta;
use relaypost_shared::{
    db::{self, Transaction, hot},
    delivery::{AttemptOutcome, DeliveryKind, ErrorClass, Outcome, Reason, Status},
    ids::DeliveryId,
    queue::Lane,
    store::{
        Attempt, Delivery, claim,
        find_lost::{Part, new_among, new_between},
        fixtures::delivery,
        load::{self, Content},
        mark::{self, Mark},
        record::{self, Delivered, Ended, Report},
        retry,
    },
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};
use uuid::Uuid;

use crate::fixture::Bench;

/// An attempt that has delivered.
fn delivered(bench: &Bench) -> Ended<'static> {
    Ended {
        started_at: bench.now(),
        duration_ms: 7,
        result: Ok(()),
        status: Some(200),
        snippet: Some("ok"),
        request_id: "req-test",
        token: None,
        uncertain: false,
    }
}

/// An attempt of a mail that has failed, with the mark that it has set.
fn failed(bench: &Bench, token: Uuid, uncertain: bool) -> Ended<'static> {
    Ended {
        result: Err(ErrorClass::Timeout),
        status: None,
        snippet: None,
        token: Some(token),
        uncertain,
        ..delivered(bench)
    }
}

fn report<'a>(
    bench: &Bench,
    delivery: &'a Delivery,
    attempt: Option<Ended<'a>>,
    outcome: Outcome,
) -> Report<'a> {
    Report {
        delivery,
        attempt,
        outcome,
        at: bench.now(),
    }
}

/// Records one report in a transaction of its own, and returns whether its outcome took effect.
async fn write(bench: &Bench, report: Report<'_>) -> bool {
    let tx: Transaction = db::begin_write(&bench.db).await.unwrap();
    let effective = record::write(&tx, &[report], bench.now()).await.unwrap();
    tx.commit().await.unwrap();
    effective.contains(&report.delivery.id)
}

async fn set(bench: &Bench, mark: Mark) -> bool {
    let set = mark::set(&bench.db, &[mark], bench.now()).await.unwrap();
    set.contains(&mark.delivery)
}

fn mark_of(delivery: &Delivery) -> Mark {
    Mark {
        delivery: delivery.id,
        seen: delivery.attempt_count,
        token: Uuid::from_u128(rand::random()),
    }
}

/// An attempt without the id that it was given.
fn nameless(attempt: &Attempt, of: &Attempt) -> Attempt {
    Attempt {
        id: of.id,
        delivery_id: of.delivery_id,
        ..attempt.clone()
    }
}

#[tokio::test]
async fn a_delivery_that_is_named_twice_is_loaded_once_and_one_that_has_ended_not_at_all() {
    let bench = Bench::new(&[]).await;
    let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
    let webhook = bench.webhook(endpoint).await;
    let mail = bench.email("user@example.test").await;
    let ended = bench.webhook(endpoint).await;
    let row = bench.delivery(ended).await;
    let outcome = Outcome::DeadLettered(Reason::Expired);
    assert!(write(&bench, report(&bench, &row, None, outcome)).await);

    let ids = [mail, webhook, ended, webhook, mail];
    let slice = load::load(&hot(&bench.db), &ids, &[]).await.unwrap();
    let mut loaded: Vec<DeliveryId> = Vec::new();
    for one in &slice.deliveries {
        loaded.push(one.delivery.id);
        assert_eq!(one.delivery, bench.delivery(one.delivery.id).await);
        match &one.content {
            Content::Webhook {
                message,
                endpoint: to,
            } => {
                assert_eq!(Some(message.id), one.delivery.message_id);
                assert_eq!((&message.payload[..], *to), (&b"{}"[..], endpoint));
            }
            Content::Email {
                recipient, sending, ..
            } => assert_eq!((recipient.as_str(), *sending), ("user@example.test", None)),
            Content::Missing => panic!("{one:?}"),
        }
    }
    loaded.sort_unstable();
    assert_eq!(loaded, [webhook, mail]);
    assert!(slice.endpoints.contains_key(&endpoint));
    assert!(slice.circuits.is_empty());
    bench.close().await;
}

#[tokio::test]
async fn both_forms_of_recording_a_success_leave_the_same_rows() {
    let bench = Bench::new(&[]).await;
    // SQLite has one form.
    let Some(postgres) = bench.db.postgres() else {
        return;
    };
    let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let like = bench.delivery(bench.webhook(endpoint).await).await;
        let waiting = Delivery {
            message_id: like.message_id,
            endpoint_id: like.endpoint_id,
            attempt_count: 3,
            next_attempt_at: Some(bench.now()),
            dispatch_at: Some(bench.now()),
            error_class: Some(ErrorClass::Http5xx),
            parked_for: Some(endpoint.uuid()),
            ..bench.pending(DeliveryKind::Webhook)
        };
        ids.push(bench.insert(waiting).await);
    }
    let (first, second) = (bench.delivery(ids[0]).await, bench.delivery(ids[1]).await);
    let attempt = delivered(&bench);
    assert!(
        write(
            &bench,
            report(&bench, &first, Some(attempt), Outcome::Delivered)
        )
        .await
    );
    let one = Delivered {
        delivery: &second,
        attempt,
        circuit: Some(endpoint.uuid()),
        at: bench.now(),
    };
    let done = record::delivered(&postgres, &[one]).await.unwrap();
    assert_eq!(done, HashSet::from([second.id]));

    let (first, second) = (bench.delivery(ids[0]).await, bench.delivery(ids[1]).await);
    assert_eq!((first.status, first.attempt_count), (Status::Delivered, 4));
    let alike = Delivery {
        id: first.id,
        message_id: first.message_id,
        ..second
    };
    assert_eq!(alike, first);
    let attempts = bench.attempts().await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(nameless(&attempts[1], &attempts[0]), attempts[0]);
    bench.close().await;
}

#[tokio::test]
async fn an_outcome_takes_effect_once_and_its_attempt_is_stored_once() {
    let bench = Bench::new(&[]).await;
    let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
    let row = bench.delivery(bench.webhook(endpoint).await).await;
    let attempt = Some(delivered(&bench));
    let one = report(&bench, &row, attempt, Outcome::Delivered);
    assert!(write(&bench, one).await);
    assert!(!write(&bench, one).await, "another worker had it too");
    let later = Outcome::RetryAt(bench.now());
    assert!(!write(&bench, report(&bench, &row, attempt, later)).await);
    let after = bench.delivery(row.id).await;
    assert_eq!((after.status, after.attempt_count), (Status::Delivered, 1));
    assert_eq!(bench.attempts().await.len(), 1);
    bench.close().await;
}

#[tokio::test]
async fn an_attempt_is_counted_although_its_delivery_was_ended_meanwhile() {
    let bench = Bench::new(&[]).await;
    let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
    let row = bench.delivery(bench.webhook(endpoint).await).await;
    let expired = Outcome::DeadLettered(Reason::Expired);
    assert!(write(&bench, report(&bench, &row, None, expired)).await);
    let late = report(&bench, &row, Some(delivered(&bench)), Outcome::Delivered);
    assert!(!write(&bench, late).await);
    let after = bench.delivery(row.id).await;
    assert_eq!((after.status, after.attempt_count), (Status::Dead, 1));
    assert_eq!(after.reason, Some(Reason::Expired));
    assert_eq!(bench.attempts().await.len(), 1);
    bench.close().await;
}

#[tokio::test]
async fn a_mail_is_marked_by_one_attempt_alone_until_its_outcome_is_recorded() {
    let bench = Bench::new(&[]).await;
    let row = bench.delivery(bench.email("user@example.test").await).await;
    let (mine, other) = (mark_of(&row), mark_of(&row));
    assert!(set(&bench, mine).await);
    assert!(set(&bench, mine).await, "a renewal");
    assert!(!set(&bench, other).await);
    let cleared = mark::clear(&bench.db, &[other]).await.unwrap();
    assert!(cleared.is_empty());
    let foreign = failed(&bench, other.token, false);
    let later = Outcome::RetryAt(bench.now());
    assert!(!write(&bench, report(&bench, &row, Some(foreign), later)).await);

    let own = failed(&bench, mine.token, false);
    assert!(write(&bench, report(&bench, &row, Some(own), later)).await);
    assert!(!set(&bench, mine).await, "it is not as it was loaded");
    let row = bench.delivery(row.id).await;
    let next = mark_of(&row);
    assert!(set(&bench, next).await, "the mark ended with the outcome");
    let cleared = mark::clear(&bench.db, &[next]).await.unwrap();
    assert_eq!(cleared, HashSet::from([row.id]));
    bench.close().await;
}

#[tokio::test]
async fn the_answer_to_an_uncertain_mail_corrects_it_until_somebody_else_has_changed_it() {
    let bench = Bench::new(&[]).await;
    let row = bench.delivery(bench.email("user@example.test").await).await;
    let mark = mark_of(&row);
    assert!(set(&bench, mark).await);
    let lost = failed(&bench, mark.token, true);
    let uncertain = Outcome::DeadLettered(Reason::Uncertain);
    assert!(write(&bench, report(&bench, &row, Some(lost), uncertain)).await);

    let known = Ended {
        token: Some(mark.token),
        ..delivered(&bench)
    };
    let late = report(&bench, &row, Some(known), Outcome::Delivered);
    assert!(write(&bench, late).await);
    let after = bench.delivery(row.id).await;
    assert_eq!((after.status, after.attempt_count), (Status::Delivered, 1));
    assert_eq!((after.reason, after.dead_at), (None, None));
    let attempts = bench.attempts().await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Delivered);
    assert_eq!(
        (attempts[0].error_class, attempts[0].http_status),
        (None, Some(200))
    );
    assert!(!write(&bench, late).await, "once");
    bench.close().await;
}

#[tokio::test]
async fn an_email_held_back_in_the_database_has_no_mark_once_it_is_replayed() {
    let bench = Bench::new(&[]).await;
    let row = bench.delivery(bench.email("user@example.test").await).await;
    assert!(set(&bench, mark_of(&row)).await);
    delivery::Entity::update_many()
        .col_expr(delivery::Column::Status, Expr::value(Status::Dead))
        .filter(delivery::Column::Id.eq(row.id))
        .exec(&bench.db)
        .await
        .unwrap();

    let tx = db::begin_write(&bench.db).await.unwrap();
    retry::delivery(&tx, bench.tenant, row.id, bench.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let replayed = bench.delivery(row.id).await;
    assert_eq!(replayed.status, Status::Pending);
    // With the old mark it would be uncertain again, and not be sent.
    assert!(set(&bench, mark_of(&replayed)).await);
    bench.close().await;
}

#[tokio::test]
async fn a_marked_mail_is_put_off_and_any_other_is_left_alone() {
    let bench = Bench::new(&[]).await;
    let marked = bench.delivery(bench.email("one@example.test").await).await;
    let other = bench.email("two@example.test").await;
    assert!(set(&bench, mark_of(&marked)).await);
    let at = bench.now() + TimeDelta::seconds(6);
    let both = [marked.id, other];
    mark::put_off(&bench.db, &both, at).await.unwrap();
    assert_eq!(bench.delivery(marked.id).await.dispatch_at, Some(at));
    assert_eq!(bench.delivery(other).await.dispatch_at, None);
    bench.close().await;
}

#[tokio::test]
async fn a_claim_is_given_back_or_released_and_then_found_again() {
    let bench = Bench::new(&[]).await;
    let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
    for _ in 0..3 {
        let row = bench.delivery(bench.webhook(endpoint).await).await;
        let later = Outcome::RetryAt(bench.now());
        assert!(write(&bench, report(&bench, &row, None, later)).await);
    }
    let long_ago = bench.now() - TimeDelta::hours(1);
    let due = async || {
        let claimed = claim::due(&bench.db, Lane::Webhooks, long_ago, bench.now());
        claimed.await.unwrap()
    };
    let jobs = due().await;
    assert_eq!(jobs.len(), 3);
    assert_eq!(due().await, [], "they are claimed");
    claim::give_back(&bench.db, &jobs[..2], bench.now())
        .await
        .unwrap();
    let again: BTreeSet<DeliveryId> = due().await.iter().map(|job| job.delivery).collect();
    assert_eq!(again, jobs[..2].iter().map(|job| job.delivery).collect());
    let released = claim::release_lost(&bench.db, bench.now()).await.unwrap();
    assert_eq!(released, 3);
    assert_eq!(due().await.len(), 3);
    bench.close().await;
}

#[tokio::test]
async fn the_walks_find_what_waits_for_its_job_and_nothing_else() {
    let bench = Bench::new(&[]).await;
    let endpoint = bench.endpoint("http://127.0.0.1:9/", None).await;
    let new = bench.webhook(endpoint).await;
    let ended = bench.webhook(endpoint).await;
    let claimed = bench.webhook(endpoint).await;
    let parked = Delivery {
        endpoint_id: Some(endpoint),
        parked_for: Some(endpoint.uuid()),
        ..bench.pending(DeliveryKind::Webhook)
    };
    let parked = bench.insert(parked).await;
    let mail = bench.email("user@example.test").await;
    let row = bench.delivery(ended).await;
    write(
        &bench,
        report(&bench, &row, Some(delivered(&bench)), Outcome::Delivered),
    )
    .await;
    let row = bench.delivery(claimed).await;
    write(
        &bench,
        report(&bench, &row, None, Outcome::RetryAt(bench.now())),
    )
    .await;
    let long_ago = bench.now() - TimeDelta::hours(1);
    let jobs = claim::due(&bench.db, Lane::Webhooks, long_ago, bench.now()).await;
    assert_eq!(jobs.unwrap().len(), 1);

    let found = |found: Vec<claim::Dispatched>| -> Vec<DeliveryId> {
        found.iter().map(|one| one.job.delivery).collect()
    };
    let between = new_between(&bench.db, new, mail, 10).await.unwrap();
    assert_eq!(found(between), [], "both ends are left out");
    let among = new_among(&bench.db, &[mail, parked, claimed, ended, new])
        .await
        .unwrap();
    assert_eq!(found(among), [new, mail]);
    let first = Part::next(&bench.db, None, 2).await.unwrap();
    assert_eq!(first.last(), Some(parked));
    assert_eq!(
        found(first.waiting(&bench.db, bench.now()).await.unwrap()),
        [mail]
    );
    let second = Part::next(&bench.db, first.last(), 10).await.unwrap();
    assert_eq!(second.last(), None);
    let mut rest = found(second.waiting(&bench.db, bench.now()).await.unwrap());
    rest.sort_unstable();
    assert_eq!(rest, [new, claimed]);
    bench.close().await;
}

//! A mail that the server may have accepted is not sent a second time: the mark of its row, and what it is good for.

use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use relaypost_shared::{
    db,
    delivery::{AttemptOutcome, EmailOnUncertain, ErrorClass, Reason, ReplayKind, Status},
    entities::tenant,
    ids::DeliveryId,
    queue::Lane,
    replay::{Filter, Selection, reviving},
    store::fixtures::{attempt, delivery},
};
use relaypost_testkit::{SmtpServer, Stage, eventually};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, Statement,
    sea_query::Expr,
};
use tokio::{task::JoinHandle, time::timeout};
use uuid::Uuid;

use crate::fixture::{Bench, smtp_url};

const SOON: Duration = Duration::from_secs(20);
/// As a sweep and the dispatcher find a mail whose worker said nothing for this long.
const OLD: TimeDelta = TimeDelta::seconds(60);

/// A bench with a mail server.
async fn bench() -> (Bench, SmtpServer) {
    let server = SmtpServer::start().await;
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &smtp_url(&server))]).await;
    (bench, server)
}

async fn mails(bench: &Bench, count: usize) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(bench.email(&format!("user{number}@example.test")).await);
    }
    ids
}

/// A worker that works on these deliveries. Aborting it is as good as killing it.
fn begin(bench: &Bench, ids: &[DeliveryId]) -> JoinHandle<()> {
    let (lane, ids) = (bench.lane(Lane::Emails), ids.to_vec());
    tokio::spawn(async move { lane.work(&ids).await })
}

/// Another worker works on these deliveries. One that sends a mail whose answer is kept back fails the test.
async fn take_up(bench: &Bench, ids: &[DeliveryId]) {
    let worked = timeout(SOON, begin(bench, ids)).await;
    worked.expect("it waits for no mail server").unwrap();
}

/// What of these deliveries is marked.
async fn marks(bench: &Bench, ids: &[DeliveryId]) -> Vec<bool> {
    let mut marks = Vec::new();
    for id in ids {
        let marked = delivery::Entity::find_by_id(*id)
            .filter(Expr::cust(
                "sending_token IS NOT NULL AND sending_at IS NOT NULL",
            ))
            .one(&bench.db);
        marks.push(marked.await.unwrap().is_some());
    }
    marks
}

/// Makes marks as old as those of a worker that died a while ago.
async fn age(bench: &Bench) {
    let long_ago = db::now(&bench.db, &bench.clock).await.unwrap() - OLD;
    let statement = Statement::from_sql_and_values(
        bench.db.get_database_backend(),
        "UPDATE deliveries SET sending_at = $1 WHERE sending_token IS NOT NULL",
        [long_ago.into()],
    );
    bench.db.execute_raw(statement).await.unwrap();
}

async fn choose(bench: &Bench, choice: EmailOnUncertain) {
    let changed = tenant::Entity::update_many()
        .col_expr(tenant::Column::EmailOnUncertain, Expr::value(choice))
        .filter(tenant::Column::Id.eq(bench.tenant))
        .exec(&bench.db);
    assert_eq!(changed.await.unwrap().rows_affected, 1);
}

async fn states(bench: &Bench, ids: &[DeliveryId]) -> Vec<(Status, Option<Reason>, i32)> {
    let mut states = Vec::new();
    for id in ids {
        let row = bench.delivery(*id).await;
        states.push((row.status, row.reason, row.attempt_count));
    }
    states
}

/// How each attempt ended, and with which answer.
async fn attempts(bench: &Bench) -> Vec<(i32, AttemptOutcome, Option<i32>)> {
    let rows: Vec<attempt::Model> = bench.attempts().await;
    let mut ends: Vec<_> = rows
        .iter()
        .map(|row| (row.number, row.outcome, row.http_status))
        .collect();
    ends.sort_by_key(|(number, ..)| *number);
    ends
}

const UNCERTAIN: (Status, Option<Reason>, i32) = (Status::Dead, Some(Reason::Uncertain), 1);
const DELIVERED: (Status, Option<Reason>, i32) = (Status::Delivered, None, 1);

#[tokio::test]
async fn mails_whose_worker_died_before_the_last_answer_are_uncertain_and_not_sent_again() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 3).await;
    server.hold_answers(Stage::Content, None);
    let dying = begin(&bench, &ids);
    server.wait_for_held(3, SOON).await;
    assert_eq!(marks(&bench, &ids).await, [true; 3]);
    dying.abort();
    server.release_answers(Stage::Content);

    age(&bench).await;
    take_up(&bench, &ids).await;
    assert_eq!(states(&bench, &ids).await, [UNCERTAIN; 3]);
    assert_eq!(marks(&bench, &ids).await, [false; 3]);
    assert_eq!(
        attempts(&bench).await,
        [(1, AttemptOutcome::Failed, None); 3]
    );
    assert_eq!(server.mails().len(), 3, "one copy each");
    bench.close().await;
}

#[tokio::test]
async fn a_worker_that_dies_between_the_mark_and_the_content_leaves_an_uncertain_mail() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 1).await;
    server.hold_answers(Stage::Data, None);
    let dying = begin(&bench, &ids);
    server.wait_for_held(1, SOON).await;
    dying.abort();
    server.release_answers(Stage::Data);
    age(&bench).await;
    take_up(&bench, &ids).await;
    assert_eq!(states(&bench, &ids).await, [UNCERTAIN]);
    assert_eq!(server.mails().len(), 0);
    bench.close().await;
}

#[tokio::test]
async fn a_mail_that_a_living_worker_hands_over_is_neither_sent_nor_called_uncertain() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 2).await;
    server.hold_answers(Stage::Content, None);
    let sending = begin(&bench, &ids);
    server.wait_for_held(2, SOON).await;

    // As after a loss of Redis: the sweep has queued them again, and another worker has them.
    take_up(&bench, &ids).await;
    assert_eq!(states(&bench, &ids).await, [(Status::Pending, None, 0); 2]);
    // The dispatcher brings them back when the marks could be old.
    let row = bench.delivery(ids[0]).await;
    let again_in = row.dispatch_at.unwrap() - bench.now();
    assert!(
        TimeDelta::zero() < again_in && again_in <= TimeDelta::seconds(6),
        "{again_in}"
    );

    server.release_answers(Stage::Content);
    sending.await.unwrap();
    assert_eq!(states(&bench, &ids).await, [DELIVERED; 2]);
    assert_eq!(bench.delivery(ids[0]).await.dispatch_at, None);
    assert_eq!(server.mails().len(), 2);
    bench.close().await;
}

#[tokio::test]
async fn a_worker_renews_its_marks_while_it_waits_for_the_answer() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 2).await;
    server.hold_answers(Stage::Content, None);
    let sending = begin(&bench, &ids);
    server.wait_for_held(2, SOON).await;
    age(&bench).await;
    let old = "SELECT count(*) AS old FROM deliveries WHERE sending_at < $1";
    let recently = db::now(&bench.db, &bench.clock).await.unwrap() - OLD / 2;
    eventually(SOON, || async {
        let backend = bench.db.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, old, [recently.into()]);
        let row = bench.db.query_one_raw(statement).await.unwrap().unwrap();
        match row.try_get::<i64>("", "old").unwrap() {
            0 => Ok(()),
            old => Err(format!("{old} marks are old")),
        }
    })
    .await;
    take_up(&bench, &ids).await;
    assert_eq!(states(&bench, &ids).await, [(Status::Pending, None, 0); 2]);
    server.release_answers(Stage::Content);
    sending.await.unwrap();
    assert_eq!(states(&bench, &ids).await, [DELIVERED; 2]);
    bench.close().await;
}

#[tokio::test]
async fn of_two_workers_that_have_loaded_the_same_mails_one_sends_each() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 20).await;
    // Both have loaded all of them and stand before `DATA` of some at the same time.
    server.hold_answers(Stage::Content, Some(Duration::from_millis(20)));
    let workers = [begin(&bench, &ids), begin(&bench, &ids)];
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    assert_eq!(states(&bench, &ids).await, [DELIVERED; 20]);
    assert_eq!(server.mails().len(), 20);
    bench.close().await;
}

#[tokio::test]
async fn a_refusal_before_the_content_does_not_settle_what_another_worker_hands_over() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 1).await;
    server.hold_answers(Stage::Content, None);
    let sending = begin(&bench, &ids);
    server.wait_for_held(1, SOON).await;
    // The second one has loaded it before the mark was set: the mark is out of its sight while it loads.
    let mark = take_mark(&bench, ids[0]).await;
    server.respond_rcpt(|_| Some((451, "4.2.1 later".into())));
    server.hold_answers(Stage::Recipient, None);
    let second = begin(&bench, &ids);
    server.wait_for_held(2, SOON).await;
    set_mark(&bench, ids[0], Some(mark)).await;
    server.release_answers(Stage::Recipient);
    second.await.unwrap();
    assert_eq!(states(&bench, &ids).await, [(Status::Pending, None, 0)]);

    server.release_answers(Stage::Content);
    sending.await.unwrap();
    assert_eq!(states(&bench, &ids).await, [DELIVERED]);
    assert_eq!(server.mails().len(), 1);
    bench.close().await;
}

async fn take_mark(bench: &Bench, id: DeliveryId) -> Uuid {
    let statement = Statement::from_sql_and_values(
        bench.db.get_database_backend(),
        "SELECT sending_token FROM deliveries WHERE id = $1",
        [id.into()],
    );
    let row = bench.db.query_one_raw(statement).await.unwrap().unwrap();
    let token = row.try_get("", "sending_token").unwrap();
    set_mark(bench, id, None).await;
    token
}

async fn set_mark(bench: &Bench, id: DeliveryId, token: Option<Uuid>) {
    let statement = Statement::from_sql_and_values(
        bench.db.get_database_backend(),
        "UPDATE deliveries SET sending_token = $1 WHERE id = $2",
        [token.into(), id.into()],
    );
    bench.db.execute_raw(statement).await.unwrap();
}

#[tokio::test]
async fn the_mark_goes_with_every_recorded_attempt() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 2).await;
    server.fail_data(Some((451, "4.3.0 later")));
    begin(&bench, &ids[..1]).await.unwrap();
    assert_eq!(
        states(&bench, &ids[..1]).await,
        [(Status::Pending, None, 1)]
    );
    server.fail_data(Some((554, "5.6.0 no")));
    begin(&bench, &ids[1..]).await.unwrap();
    assert_eq!(
        states(&bench, &ids[1..]).await,
        [(Status::Dead, Some(Reason::Rejected), 1)]
    );
    assert_eq!(marks(&bench, &ids).await, [false; 2]);

    // What was refused for now is sent when its time comes.
    server.fail_data(None);
    bench.clock.advance(TimeDelta::seconds(10));
    begin(&bench, &ids[..1]).await.unwrap();
    assert_eq!(
        states(&bench, &ids[..1]).await,
        [(Status::Delivered, None, 2)]
    );
    assert_eq!(marks(&bench, &ids).await, [false; 2]);
    bench.close().await;
}

/// A worker that was frozen while it waited for the last answer: another one takes its mails for abandoned, and then it
/// goes on.
async fn thawed(bench: &Bench, server: &SmtpServer, ids: &[DeliveryId]) -> JoinHandle<()> {
    server.hold_answers(Stage::Content, None);
    let frozen = begin(bench, ids);
    server.wait_for_held(ids.len(), SOON).await;
    age(bench).await;
    take_up(bench, ids).await;
    frozen
}

#[tokio::test]
async fn a_known_delivery_corrects_uncertain() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 3).await;
    let frozen = thawed(&bench, &server, &ids).await;
    assert_eq!(states(&bench, &ids).await, [UNCERTAIN; 3]);
    server.release_answers(Stage::Content);
    frozen.await.unwrap();
    assert_eq!(states(&bench, &ids).await, [DELIVERED; 3]);
    let row = bench.delivery(ids[0]).await;
    assert_eq!((row.error_class, row.dead_at), (None, None));
    assert_eq!(
        attempts(&bench).await,
        [(1, AttemptOutcome::Delivered, Some(250)); 3]
    );
    assert_eq!(server.mails().len(), 3);
    bench.close().await;
}

#[tokio::test]
async fn a_known_refusal_corrects_uncertain() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 1).await;
    server.fail_data(Some((451, "4.3.0 later")));
    let frozen = thawed(&bench, &server, &ids).await;
    assert_eq!(states(&bench, &ids).await, [UNCERTAIN]);
    server.release_answers(Stage::Content);
    frozen.await.unwrap();
    let row = bench.delivery(ids[0]).await;
    assert_eq!(
        (row.status, row.error_class, row.dead_at),
        (Status::Pending, Some(ErrorClass::Smtp4xx), None)
    );
    assert!(row.next_attempt_at.is_some() && row.next_attempt_at == row.dispatch_at);
    bench.close().await;
}

#[tokio::test]
async fn a_late_answer_changes_nothing_once_somebody_has_replayed_or_discarded_the_mail() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 2).await;
    let frozen = thawed(&bench, &server, &ids).await;
    let of = |id| delivery::Column::Id.eq(id);
    let replayed = reviving(bench.now(), None).filter(of(ids[0]));
    assert_eq!(replayed.exec(&bench.db).await.unwrap().rows_affected, 1);
    let discarded = relaypost_shared::replay::discarding().filter(of(ids[1]));
    assert_eq!(discarded.exec(&bench.db).await.unwrap().rows_affected, 1);
    server.release_answers(Stage::Content);
    frozen.await.unwrap();
    assert_eq!(
        states(&bench, &ids).await,
        [
            (Status::Pending, None, 1),
            (Status::Discarded, Some(Reason::Uncertain), 1)
        ]
    );
    bench.close().await;
}

#[tokio::test]
async fn a_late_answer_moves_the_mail_in_the_counts_of_its_replay_job() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 1).await;
    server.fail_data(Some((554, "5.6.0 no")));
    begin(&bench, &ids).await.unwrap();
    server.fail_data(None);
    let job = bench
        .job(
            ReplayKind::Replay,
            Selection::Filter(Filter::default()),
            None,
        )
        .await;
    assert_eq!(bench.release_all().await, 1);
    let frozen = thawed(&bench, &server, &ids).await;
    let row = bench.job_row(job).await;
    assert_eq!((row.delivered, row.dead), (0, 1));
    server.release_answers(Stage::Content);
    frozen.await.unwrap();
    let row = bench.job_row(job).await;
    assert_eq!((row.delivered, row.dead), (1, 0));
    bench.close().await;
}

#[tokio::test]
async fn with_resend_an_uncertain_mail_is_sent_again_by_the_schedule() {
    let (bench, server) = bench().await;
    choose(&bench, EmailOnUncertain::Resend).await;
    let ids = mails(&bench, 2).await;
    // Once the connection is lost after the content, once the worker dies.
    server.vanish_after_data(true);
    begin(&bench, &ids[..1]).await.unwrap();
    server.vanish_after_data(false);
    server.hold_answers(Stage::Content, None);
    let dying = begin(&bench, &ids[1..]);
    server.wait_for_held(1, SOON).await;
    dying.abort();
    server.release_answers(Stage::Content);
    age(&bench).await;
    begin(&bench, &ids[1..]).await.unwrap();
    assert_eq!(states(&bench, &ids).await, [(Status::Pending, None, 1); 2]);
    assert!(bench.delivery(ids[1]).await.next_attempt_at.is_some());

    bench.clock.advance(TimeDelta::seconds(10));
    begin(&bench, &ids).await.unwrap();
    assert_eq!(
        states(&bench, &ids).await,
        [(Status::Delivered, None, 2); 2]
    );
    assert_eq!(server.mails().len(), 4, "two copies each, as chosen");
    bench.close().await;
}

#[tokio::test]
async fn with_resend_a_late_answer_keeps_the_second_copy_from_going_out() {
    let (bench, server) = bench().await;
    choose(&bench, EmailOnUncertain::Resend).await;
    let ids = mails(&bench, 1).await;
    let frozen = thawed(&bench, &server, &ids).await;
    assert_eq!(states(&bench, &ids).await, [(Status::Pending, None, 1)]);
    server.release_answers(Stage::Content);
    frozen.await.unwrap();
    assert_eq!(states(&bench, &ids).await, [DELIVERED]);
    bench.clock.advance(TimeDelta::seconds(10));
    begin(&bench, &ids).await.unwrap();
    assert_eq!(server.mails().len(), 1);
    bench.close().await;
}

#[tokio::test]
async fn with_resend_a_mail_that_stays_uncertain_ends_with_that_reason() {
    let server = SmtpServer::start().await;
    let env = [
        ("EMAIL_PROVIDERS", &*smtp_url(&server)),
        ("RETRY_SCHEDULE", "1"),
    ];
    let bench = Bench::new(&env).await;
    choose(&bench, EmailOnUncertain::Resend).await;
    let ids = mails(&bench, 1).await;
    server.vanish_after_data(true);
    begin(&bench, &ids).await.unwrap();
    bench.clock.advance(TimeDelta::seconds(2));
    begin(&bench, &ids).await.unwrap();
    assert_eq!(
        states(&bench, &ids).await,
        [(Status::Dead, Some(Reason::Uncertain), 2)]
    );
    bench.close().await;
}

#[tokio::test]
async fn a_mail_whose_row_cannot_be_marked_is_not_sent_and_uses_up_no_attempt() {
    let (bench, server) = bench().await;
    let ids = mails(&bench, 1).await;
    // As a database that fails at this one statement.
    refuse_marks(&bench).await;
    let lane = bench.lane(Lane::Emails);
    lane.work(&ids).await;
    assert_eq!(states(&bench, &ids).await, [(Status::Pending, None, 0)]);
    assert_eq!((server.mails().len(), bench.attempts().await.len()), (0, 0));
    allow_marks(&bench).await;
    lane.work(&ids).await;
    assert_eq!(states(&bench, &ids).await, [DELIVERED]);
    bench.close().await;
}

async fn refuse_marks(bench: &Bench) {
    let sql = match bench.db.get_database_backend() {
        sea_orm::DbBackend::Postgres => {
            "CREATE FUNCTION no_mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.sending_token IS NOT NULL THEN RAISE 'no mark'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER no_mark BEFORE UPDATE ON deliveries FOR EACH ROW EXECUTE FUNCTION no_mark()"
        }
        _ => {
            "CREATE TRIGGER no_mark BEFORE UPDATE ON deliveries WHEN NEW.sending_token IS NOT NULL \
             BEGIN SELECT RAISE(ABORT, 'no mark'); END"
        }
    };
    bench.db.execute_unprepared(sql).await.unwrap();
}

async fn allow_marks(bench: &Bench) {
    let sql = match bench.db.get_database_backend() {
        sea_orm::DbBackend::Postgres => "DROP TRIGGER no_mark ON deliveries",
        _ => "DROP TRIGGER no_mark",
    };
    bench.db.execute_unprepared(sql).await.unwrap();
}

#[tokio::test]
async fn a_mail_kept_as_a_file_is_marked_before_the_file_appears() {
    let folder = tempfile::tempdir().unwrap();
    let provider = format!("file://{}", folder.path().display());
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &provider)]).await;
    let ids = mails(&bench, 1).await;
    let file = folder.path().join(format!("{}.eml", ids[0]));
    refuse_marks(&bench).await;
    take_up(&bench, &ids).await;
    assert!(!file.exists());
    allow_marks(&bench).await;
    take_up(&bench, &ids).await;
    assert!(file.exists());
    assert_eq!(states(&bench, &ids).await, [DELIVERED]);
    assert_eq!(marks(&bench, &ids).await, [false]);
    bench.close().await;
}

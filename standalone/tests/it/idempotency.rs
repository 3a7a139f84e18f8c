//! An idempotency key outlives whatever ends the request that used it first. These are guarantees of the stack: on the
//! embedded backend the process that could be in the way is the one that ends.

use relaypost_testkit::{Answer, Api, Backend, World, eventually};
use reqwest::Method;
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction, Statement,
    TransactionTrait as _,
};
use serde_json::{Value, json};

use crate::{SOON, id, options};

/// A transaction that writes a message or an endpoint waits for the lock 42: before its commit, or in the middle of it.
const WAIT: &str = "
    CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;";
const BEFORE_COMMIT: &str = "CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW
    EXECUTE FUNCTION wait_for_the_test();
    CREATE TRIGGER slow BEFORE INSERT ON endpoints FOR EACH ROW EXECUTE FUNCTION wait_for_the_test();";
const IN_COMMIT: &str = "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON messages
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_the_test();";
const WAITING: &str =
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Two API processes, of which the first is held up with a request that has a key.
struct Held {
    world: World,
    db: DatabaseConnection,
    held: DatabaseTransaction,
    /// The request.
    first: tokio::task::JoinHandle<Option<Answer>>,
    /// The process of PostgreSQL that does its work.
    backend: i32,
    /// A client of the second process with the same key.
    there: Api,
    what: What,
}

/// The request: its path and its body.
type What = (&'static str, Value);

/// A message, which one statement stores and commits.
fn message() -> What {
    (
        "/v1/messages",
        json!({"event_type": "a.b", "payload": {"n": 1}}),
    )
}

/// An endpoint, which a transaction of several statements stores.
fn endpoint() -> What {
    ("/v1/endpoints", json!({"url": "http://127.0.0.1:9/hook"}))
}

async fn held(what: What, trigger: &str) -> Option<Held> {
    if Backend::from_env() != Backend::Stack {
        println!("a guarantee of the stack backend, not run on the embedded one");
        return None;
    }
    let world = World::start(options().apis(2).workers(0)).await;
    let db = Database::connect(world.database.url()).await.unwrap();
    db.execute_unprepared(&format!("{WAIT}{trigger}"))
        .await
        .unwrap();
    let tenant = world.tenant("acme").await;
    let here = tenant.api.with_header("Idempotency-Key", "order-42");
    let there = here.with_base(&world.apis[1].base_url());
    let held = db.begin().await.unwrap();
    held.execute_unprepared("SELECT pg_advisory_xact_lock(42)")
        .await
        .unwrap();
    let (path, body) = what.clone();
    let first = tokio::spawn(async move {
        let body = ("application/json", body.to_string().into_bytes());
        let sent = here.try_send(Method::POST, path, Some(body));
        sent.await.ok()
    });
    let backend = eventually(SOON, || async {
        let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), WAITING));
        let row = row.await.unwrap();
        row.map(|row| row.try_get::<i32>("", "pid").unwrap())
            .ok_or_else(|| "nobody waits".to_owned())
    })
    .await;
    Some(Held {
        world,
        db,
        held,
        first,
        backend,
        there,
        what,
    })
}

async fn send(client: &Api, (path, body): &What) -> Answer {
    client.post(path, body.clone()).await
}

impl Held {
    /// Sends the request to the second process, while the first is in the way.
    async fn is_in_use(&self) {
        let answer = send(&self.there, &self.what).await;
        assert_eq!(answer.status, 409, "{answer}");
        assert_eq!(answer.body["code"], "idempotency_key_in_use");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }

    /// Kills the first process, which answers nothing any more.
    async fn kill(&mut self) {
        self.world.apis.remove(0).kill9();
        assert!((&mut self.first).await.unwrap().is_none());
    }

    /// Lets the database go on, sends the request again as its 409 asks for, and expects this status in the end. The
    /// message or the endpoint is there once.
    async fn ends_with(self, status: u16) {
        self.held.commit().await.unwrap();
        let (there, what) = (&self.there, &self.what);
        let settled = eventually(SOON, || async {
            let answer = send(there, what).await;
            match answer.status {
                409 => Err(answer.to_string()),
                _ => Ok(answer),
            }
        })
        .await;
        assert_eq!(settled.status, status, "{settled}");
        let replayed = settled.header("idempotency-replayed") == Some("true");
        assert_eq!(replayed, status == 200);
        let again = send(there, what).await;
        assert_eq!((again.status, &again.raw), (200, &settled.raw));
        let list = there.get(what.0).await.expect(200);
        let stored = list["data"].as_array().unwrap();
        assert_eq!(stored.len(), 1, "{list}");
        assert_eq!(id(&stored[0]), id(&again.body));
        self.db.close().await.unwrap();
        self.world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_process_is_killed_before_its_commit_is_free_again() {
    let Some(mut held) = held(endpoint(), BEFORE_COMMIT).await else {
        return;
    };
    held.is_in_use().await;
    held.kill().await;
    held.ends_with(201).await;
}

/// A message is stored and committed by one statement, so that PostgreSQL brings it to its end without the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_process_is_killed_while_its_message_is_stored_repeats_the_answer() {
    let Some(mut held) = held(message(), BEFORE_COMMIT).await else {
        return;
    };
    held.is_in_use().await;
    held.kill().await;
    held.ends_with(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_process_is_killed_between_commit_and_answer_repeats_the_answer() {
    let Some(mut held) = held(message(), IN_COMMIT).await else {
        return;
    };
    held.is_in_use().await;
    held.kill().await;
    held.ends_with(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_database_connection_is_ended_is_free_again() {
    for what in [message(), endpoint()] {
        let Some(mut held) = held(what, BEFORE_COMMIT).await else {
            return;
        };
        held.is_in_use().await;
        let end = format!("SELECT pg_terminate_backend({})", held.backend);
        held.db.execute_unprepared(&end).await.unwrap();
        let first = (&mut held.first).await.unwrap().unwrap();
        assert_eq!(first.status, 503, "{first}");
        assert_eq!(first.body["retryable"], true);
        held.ends_with(201).await;
    }
}

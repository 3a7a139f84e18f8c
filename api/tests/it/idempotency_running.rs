//! What a request with a key finds while another is at work: held up in the database by PostgreSQL's own means, in the
//! middle of its transaction. SQLite does one transaction after another; what one process knows of its requests is tested
//! where it is kept.

use std::{collections::HashMap, time::Duration};

use futures::future::join_all;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use relaypost_shared::{db::Database, entities::endpoint, ids::TenantId, store::fixtures::message};
use relaypost_testkit::eventually;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use crate::{Answer, Api, api, support::Client};

const SOON: Duration = Duration::from_secs(20);

/// A message of the type `slow` waits in its transaction for the lock 42, and so does an endpoint with that description.
const SLOW: &str = "
    CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.event_type = 'slow')
        EXECUTE FUNCTION wait_for_the_test();
    CREATE TRIGGER slow BEFORE INSERT ON endpoints FOR EACH ROW WHEN (NEW.description = 'slow')
        EXECUTE FUNCTION wait_for_the_test();";

fn message(event_type: &str) -> Value {
    json!({"event_type": event_type, "payload": 1})
}

fn endpoint(description: &str) -> Value {
    json!({"url": "https://example.com/", "description": description})
}

fn keyed(client: &Client, key: &str) -> Client {
    client.header("idempotency-key", key)
}

#[track_caller]
fn in_use(answer: &Answer) {
    assert_eq!(
        answer.faults(409, "idempotency_key_in_use"),
        [""; 0],
        "{answer}"
    );
    assert_eq!(answer.headers["retry-after"], "1");
}

/// Nothing on SQLite.
async fn with_slow_rows(settings: &[(&str, &str)]) -> Option<Api> {
    let api = Api::with(
        settings,
        relaypost_shared::queue::Queue::Memory(Default::default()),
    )
    .await;
    if api.db.get_database_backend() != DbBackend::Postgres {
        println!("a transaction can be held up on PostgreSQL only");
        api.stop().await;
        return None;
    }
    api.db.execute_unprepared(SLOW).await.unwrap();
    Some(api)
}

/// Waits until this many transactions wait for the test.
async fn waiting(db: &Database, wanted: i64) {
    const WAITING: &str = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT \
         granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually(SOON, || async {
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, WAITING));
        let found: i64 = row.await.unwrap().unwrap().try_get("", "n").unwrap();
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found} of {wanted} wait"))
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_first_is_at_work_its_key_is_in_use_in_every_process_and_then_answers_again() {
    let Some(api) = with_slow_rows(&[]).await else {
        return;
    };
    let tenant = api.tenant().await;
    for (path, slow) in [
        ("/v1/messages", message("slow")),
        ("/v1/endpoints", endpoint("slow")),
    ] {
        let here = keyed(&tenant.api, "k");
        let there = api.elsewhere(&here);
        let held = api.db.begin().await.unwrap();
        held.execute_unprepared("SELECT pg_advisory_xact_lock(42)")
            .await
            .unwrap();
        let first = tokio::spawn({
            let (here, slow) = (here.clone(), slow.clone());
            async move { here.post(path, slow).await }
        });
        waiting(&api.db, 1).await;
        for client in [&here, &there] {
            in_use(&client.post(path, slow.clone()).await);
        }
        held.commit().await.unwrap();
        let first = first.await.unwrap();
        assert_eq!(first.status, 201, "{first}");
        for client in [&here, &there] {
            let again = client.post(path, slow.clone()).await;
            assert_eq!((again.status, &again.bytes), (200, &first.bytes));
        }
    }
    assert_eq!(api.count::<message::Entity>().await, 1);
    assert_eq!(api.count::<endpoint::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn an_item_of_a_batch_whose_key_is_in_use_is_refused_by_itself() {
    let Some(api) = with_slow_rows(&[]).await else {
        return;
    };
    let tenant = api.tenant().await;
    let here = keyed(&tenant.api, "nightly");
    let there = api.elsewhere(&here);
    let held = api.db.begin().await.unwrap();
    held.execute_unprepared("SELECT pg_advisory_xact_lock(42)")
        .await
        .unwrap();
    let first = tokio::spawn(async move {
        let batch = json!({"messages": [message("slow"), message("a.b")]});
        here.post("/v1/messages/batch", batch).await
    });
    waiting(&api.db, 1).await;
    let batch = json!({"messages": [message("slow"), message("a.b")]});
    let statuses = |answer: &Value| -> Vec<u64> {
        let results = answer["results"].as_array().unwrap().iter();
        results.map(|one| one["status"].as_u64().unwrap()).collect()
    };
    let second = there.post("/v1/messages/batch", batch.clone()).await;
    let second = second.expect(200);
    // The first batch was written as far as its first item, or as a whole: its second item may have been answered.
    assert_eq!(statuses(&second)[0], 409, "{second}");
    let error = &second["results"][0]["error"];
    assert_eq!(error["code"], "idempotency_key_in_use");
    assert_eq!(error["retryable"], true);
    held.commit().await.unwrap();
    let first = first.await.unwrap();
    assert_eq!(first.status, 200);
    // The answer of the second was not final, and is not the one that is remembered.
    let third = there.post("/v1/messages/batch", batch).await;
    assert_eq!((third.status, &third.bytes), (200, &first.bytes));
    assert_eq!(api.count::<message::Entity>().await, 2);
    api.stop().await;
}

#[tokio::test]
async fn a_key_whose_lock_has_the_number_of_another_is_worth_another_try() {
    let Some(api) = with_slow_rows(&[]).await else {
        return;
    };
    let tenant = api.tenant().await;
    let id = tenant.id.parse::<TenantId>().unwrap().uuid();
    // The number that the lock of this tenant's key `k` has, taken by somebody else.
    let number = format!(
        "('x' || substr(encode(sha256(decode('{}', 'hex') || 'POST /v1/messages k'), 'hex'), 1, 16))::bit(64)::bigint",
        id.simple()
    );
    let held = api.db.begin().await.unwrap();
    let lock = format!("SELECT pg_advisory_xact_lock({number})");
    held.execute_unprepared(&lock).await.unwrap();
    let client = keyed(&tenant.api, "k");
    in_use(&client.post("/v1/messages", message("a.b")).await);
    // Nobody else is touched, in one transaction with it or not.
    let (k, other) = tokio::join!(
        client.post("/v1/messages", message("a.b")),
        tenant.api.post("/v1/messages", message("a.b")),
    );
    in_use(&k);
    assert_eq!(other.status, 201, "{other}");
    held.rollback().await.unwrap();
    client
        .post("/v1/messages", message("a.b"))
        .await
        .expect(201);
    api.stop().await;
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_in_flight_and_a_request_that_is_cut_off_counts_no_more() {
    let Some(api) = with_slow_rows(&[("IDEMPOTENCY_MAX", "2")]).await else {
        return;
    };
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let held = api.db.begin().await.unwrap();
    held.execute_unprepared("SELECT pg_advisory_xact_lock(42)")
        .await
        .unwrap();
    let start = |key: &str, path: &'static str, body: Value| {
        let client = keyed(&tenant.api, key);
        tokio::spawn(async move { client.post(path, body).await })
    };
    let slow = start("a", "/v1/endpoints", endpoint("slow"));
    waiting(&api.db, 1).await;
    // A batch is one request, however many items it has.
    let three = json!({"messages": [message("slow"), message("slow"), message("a.b")]});
    let batch = start("b", "/v1/messages/batch", three);
    waiting(&api.db, 2).await;
    let third = keyed(&tenant.api, "c");
    for (path, body) in [
        ("/v1/endpoints", endpoint("fast")),
        ("/v1/messages", message("a.b")),
        ("/v1/messages/batch", json!({"messages": [message("a.b")]})),
        (
            "/v1/emails",
            json!({"to": ["a@example.com"], "subject": "s", "text": "t"}),
        ),
    ] {
        let refused = third.post(path, body).await;
        assert_eq!(
            refused.faults(429, "too_many_in_flight"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.headers["retry-after"], "1");
        assert_eq!(refused.body["retryable"], true);
    }
    // Without a key, and for another tenant, there is room.
    tenant
        .api
        .post("/v1/endpoints", endpoint("fast"))
        .await
        .expect(201);
    keyed(&other.api, "c")
        .post("/v1/endpoints", endpoint("fast"))
        .await
        .expect(201);

    slow.abort();
    assert!(slow.await.unwrap_err().is_cancelled());
    third
        .post("/v1/endpoints", endpoint("fast"))
        .await
        .expect(201);
    held.commit().await.unwrap();
    assert_eq!(batch.await.unwrap().status, 200);
    // What was cut off has left nothing behind: its key is free, once its transaction has ended.
    let again = keyed(&tenant.api, "a");
    eventually(SOON, || async {
        let answer = again.post("/v1/endpoints", endpoint("slow")).await;
        match answer.status {
            201 => Ok(()),
            409 => Err(answer.to_string()),
            _ => panic!("{answer}"),
        }
    })
    .await;
    api.stop().await;
}

/// A request of a plan: which key, which body, and which of two processes.
type Step = (u8, u8, bool);

fn plans() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..3_u8, 0..2_u8, any::<bool>()), 1..24)
}

/// Sends what the plan says at once, and checks what came of it.
async fn play(here: &Client, there: &Client, round: usize, plan: &[Step]) -> Result<usize, String> {
    let send = async |&(key, body, elsewhere): &Step| {
        let client = if elsewhere { there } else { here };
        let client = keyed(client, &format!("{round}-{key}"));
        let message = json!({"event_type": "a.b", "payload": body});
        client.post("/v1/messages", message).await
    };
    let answers = join_all(plan.iter().map(&send)).await;
    let mut firsts: HashMap<u8, (u8, &Answer)> = HashMap::new();
    for (&(key, body, _), answer) in plan.iter().zip(&answers) {
        let seen = (answer.status == 201).then(|| firsts.insert(key, (body, answer)));
        if seen.flatten().is_some() {
            return Err(format!("a second 201: {answer}"));
        }
    }
    for (step, answer) in plan.iter().zip(&answers) {
        let Some((body, first)) = firsts.get(&step.0) else {
            return Err(format!("nobody was first with {step:?}"));
        };
        let same = step.1 == *body;
        let fits = match (answer.status, answer.body["code"].as_str()) {
            (201, _) => true,
            (200, _) => same && answer.bytes == first.bytes,
            (409, Some("idempotency_key_in_use")) => true,
            (409, Some("idempotency_key_reused")) => !same,
            _ => false,
        };
        let again = send(step).await;
        let settled = if same {
            again.status == 200 && again.bytes == first.bytes
        } else {
            again.body["code"] == "idempotency_key_reused"
        };
        if !fits || !settled {
            return Err(format!("{step:?}: {answer}, then {again}; first {first}"));
        }
    }
    Ok(firsts.len())
}

#[test]
fn whatever_meets_under_one_key_makes_one_message_and_repeats_its_answer() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (api, tenant) = runtime.block_on(async {
        let api = api().await;
        let tenant = api.tenant().await;
        (api, tenant)
    });
    let there = runtime.block_on(async { api.elsewhere(&tenant.api) });
    let (round, made) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let played = runner.run(&plans(), |plan| {
        round.set(round.get() + 1);
        let result = runtime.block_on(play(&tenant.api, &there, round.get(), &plan));
        made.set(made.get() + result.map_err(TestCaseError::fail)?);
        let stored = runtime.block_on(api.count::<message::Entity>());
        prop_assert_eq!(stored, made.get() as u64);
        Ok(())
    });
    played.unwrap();
    drop(there);
    runtime.block_on(api.stop());
}

#[test]
fn an_operation_that_takes_a_key_has_no_parameter_that_its_fingerprint_leaves_out() {
    let document: Value = serde_json::from_str(&relaypost_api::openapi()).unwrap();
    let mut taking = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let none = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&none);
            if !parameters
                .iter()
                .any(|one| one["name"] == "Idempotency-Key")
            {
                continue;
            }
            taking += 1;
            // What the path names is part of the key; the tenant is whose key it is.
            let known = ["path", "Idempotency-Key", "X-Tenant-Id"];
            for one in parameters {
                let (name, place) = (&one["name"], &one["in"]);
                assert!(
                    known.iter().any(|known| name == known || place == known),
                    "{method} {path}: {name}"
                );
            }
            for status in ["409", "429"] {
                assert!(
                    operation["responses"][status].is_object(),
                    "{method} {path}"
                );
            }
        }
    }
    assert!(taking >= 9, "{taking}");
}

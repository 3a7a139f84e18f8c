//! Partitions of PostgreSQL, a week each.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use relaypost_shared::{
    ids::MessageId,
    store::{
        fixtures::payload,
        partitions::{self, TABLES},
    },
};
use relaypost_testkit::Backend;
use sea_orm::{ConnectionTrait as _, DbBackend, EntityTrait as _, Statement};
use serde_json::json;

use crate::{api, id};

const TEN_WEEKS: i64 = 10 * 7 * 24 * 60 * 60;

#[tokio::test]
async fn a_message_and_an_email_are_accepted_in_a_week_that_has_no_partition_yet() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    for path in ["/v1/messages", "/v1/emails"] {
        api.advance(TEN_WEEKS);
        let body = match path {
            "/v1/messages" => json!({"event_type": "a.b", "payload": {"n": 1}}),
            _ => json!({"to": ["a@b.test"], "subject": "s", "text": "t"}),
        };
        let accepted = tenant.api.post(path, body).await.expect(201);
        let shown = tenant.api.get(&format!("{path}/{}", id(&accepted))).await;
        let shown = shown.expect(200);
        assert_eq!(shown["deliveries"].as_array().unwrap().len(), 1, "{shown}");
    }
    api.stop().await;
}

#[tokio::test]
async fn processes_that_start_together_make_each_partition_once() {
    let api = api().await;
    let later = api.clock.now() + TimeDelta::weeks(20);
    let (one, other) = tokio::join!(
        partitions::ahead(&api.db, later),
        partitions::ahead(&api.db, later)
    );
    let made: Vec<String> = [one.unwrap(), other.unwrap()].concat();
    let distinct: BTreeSet<&String> = made.iter().collect();
    let expected = match Backend::from_env() {
        Backend::Stack => 5 * TABLES.len(),
        Backend::Embedded => 0,
    };
    assert_eq!((made.len(), distinct.len()), (expected, expected));
    assert_eq!(partitions::ahead(&api.db, later).await.unwrap(), [""; 0]);
    api.stop().await;
}

/// Readers and writers of a table do not wait while a part is attached to it.
#[tokio::test]
async fn a_partition_is_made_while_a_transaction_writes_to_the_table() {
    let api = api().await;
    if Backend::from_env() == Backend::Embedded {
        // SQLite has one writer and no partitions.
        return api.stop().await;
    }
    let open = api.db.begin().await.unwrap();
    let write = "UPDATE deliveries SET tenant_id = tenant_id; SELECT count(*) FROM attempts";
    open.execute_unprepared(write).await.unwrap();
    let later = api.clock.now() + TimeDelta::weeks(30);
    assert_ne!(partitions::ahead(&api.db, later).await.unwrap(), [""; 0]);
    open.rollback().await.unwrap();
    api.stop().await;
}

#[tokio::test]
async fn a_part_has_every_index_of_its_table_and_room_for_updates_in_place() {
    let api = api().await;
    if Backend::from_env() == Backend::Stack {
        let sql = "SELECT count(DISTINCT (SELECT count(*) FROM pg_index WHERE indrelid = inhrelid))::int8 AS kinds, \
            bool_and((SELECT count(*) FROM pg_index WHERE indrelid = inhrelid) = \
                     (SELECT count(*) FROM pg_index WHERE indrelid = inhparent)) AS same, \
            bool_and('fillfactor=48' = ANY (part.reloptions)) AS room \
            FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid \
            WHERE part.relkind = 'r' AND inhparent = 'deliveries'::regclass";
        let row = api
            .db
            .query_one_raw(Statement::from_string(DbBackend::Postgres, sql));
        let row = row.await.unwrap().unwrap();
        let is = |column| row.try_get::<bool>("", column).unwrap();
        assert_eq!(row.try_get::<i64>("", "kinds").unwrap(), 1);
        assert!(is("same") && is("room"));
    }
    api.stop().await;
}

#[tokio::test]
async fn a_message_whose_payload_is_gone_is_shown_without_it() {
    let api = api().await;
    let tenant = api.tenant().await;
    let message = tenant.publish("a.b").await;
    let found: MessageId = id(&message).parse().unwrap();
    let path = format!("/v1/messages/{}", id(&message));
    assert!(
        tenant
            .api
            .get(&path)
            .await
            .expect(200)
            .get("payload")
            .is_some()
    );
    payload::Entity::delete_by_id(found)
        .exec(&api.db)
        .await
        .unwrap();
    assert_eq!(tenant.api.get(&path).await.expect(200).get("payload"), None);
    api.stop().await;
}

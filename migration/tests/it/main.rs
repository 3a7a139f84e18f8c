//! The schema on a real database. `RELAYPOST_TEST_BACKEND` says whether that is SQLite or PostgreSQL.
#![allow(
    clippy::unwrap_used,
    reason = "a broken fixture should stop the test where it breaks"
)]

mod down;
mod sealed;
mod support;

use futures::future::join_all;
use relaypost_migration::{self as migration, Up};
use relaypost_testkit::Backend;
use sea_orm_migration::sea_orm::{ConnectionTrait as _, Statement};

use support::{connect, database, empty, with_a_migration_of_a_newer_version};

#[tokio::test]
async fn of_several_processes_that_migrate_at_once_one_applies_everything_and_none_fails() {
    let database = empty().await;
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(connect(&database).await);
    }
    let ups = processes.iter().map(migration::up);
    let mut applied: Vec<usize> = join_all(ups)
        .await
        .into_iter()
        .map(|up| match up.unwrap() {
            Up::Applied(names) => names.len(),
            Up::Newer(names) => panic!("newer: {names:?}"),
        })
        .collect();
    applied.sort_unstable();
    let all = migration::status(&processes[0]).await.unwrap().len();
    assert_eq!(applied, [0, 0, 0, all]);
    for db in processes {
        db.close().await;
    }
    database.drop_now().await;
}

#[tokio::test]
async fn an_older_version_leaves_a_newer_schema_as_it_is_and_says_so() {
    let (database, db) = database().await;
    with_a_migration_of_a_newer_version(&db).await;
    let newer = vec!["m9999_from_the_future".to_owned()];
    assert_eq!(migration::up(&db).await.unwrap(), Up::Newer(newer.clone()));
    assert_eq!(migration::newer(&db).await.unwrap(), newer);
    assert_eq!(migration::pending(&db).await.unwrap(), [""; 0]);
    db.close().await;
    database.drop_now().await;
}

#[tokio::test]
async fn every_migration_can_be_taken_back_and_applied_again() {
    let (database, db) = database().await;
    let all = migration::status(&db).await.unwrap();
    for (name, _) in all.iter().rev() {
        migration::down(&db)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(migration::pending(&db).await.unwrap().len(), all.len());
    migration::up(&db).await.unwrap();
    assert_eq!(migration::pending(&db).await.unwrap(), [""; 0]);
    db.close().await;
    database.drop_now().await;
}

#[tokio::test]
async fn free_pages_of_an_sqlite_file_can_be_given_back() {
    let (database, db) = database().await;
    if Backend::from_env() == Backend::Embedded {
        let statement = Statement::from_string(db.get_database_backend(), "PRAGMA auto_vacuum");
        let row = db.query_one_raw(statement).await.unwrap().unwrap();
        // 0: never; 1: at every commit; 2: when asked (https://www.sqlite.org/pragma.html#pragma_auto_vacuum).
        assert_eq!(row.try_get_by_index::<i32>(0).unwrap(), 2);
    }
    db.close().await;
    database.drop_now().await;
}

/// An index on what every delivery changes, or pages without room, would make each success write to all indexes again.
#[tokio::test]
async fn a_batch_of_deliveries_that_succeed_is_updated_in_place() {
    if Backend::from_env() == Backend::Embedded {
        // SQLite updates every row in place.
        return;
    }
    let (database, db) = database().await;
    db.execute_unprepared(
        "INSERT INTO deliveries (id, tenant_id, kind, message_id, endpoint_id, status, attempt_count, created_at) \
         SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' \
           || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid, \
           gen_random_uuid(), 'webhook', gen_random_uuid(), gen_random_uuid(), 'pending', 0, now() \
         FROM generate_series(1, 500)",
    )
    .await
    .unwrap();
    let tx = db.begin().await.unwrap();
    tx.execute_unprepared(
        "UPDATE deliveries SET status = 'delivered', attempt_count = 1, next_attempt_at = NULL, dispatch_at = NULL, \
         reason = NULL, error_class = NULL, finished_at = now(), parked_for = NULL, dead_at = NULL",
    )
    .await
    .unwrap();
    let counted = "SELECT sum(n_tup_upd)::int8 AS n_tup_upd, sum(n_tup_hot_upd)::int8 AS n_tup_hot_upd \
                   FROM pg_stat_xact_user_tables WHERE relname LIKE 'deliveries\\_%'";
    let statement = Statement::from_string(tx.get_database_backend(), counted);
    let row = tx.query_one_raw(statement).await.unwrap().unwrap();
    let count = |column| row.try_get::<i64>("", column).unwrap();
    assert_eq!((count("n_tup_upd"), count("n_tup_hot_upd")), (500, 500));
    tx.rollback().await.unwrap();
    db.close().await;
    database.drop_now().await;
}

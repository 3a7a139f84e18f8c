//! What is removed in time.

use chrono::TimeDelta;
use relaypost_shared::entities::idempotency_key;
use relaypost_worker::prune;
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::fixture::Bench;

#[tokio::test]
async fn expired_idempotency_keys_go_in_batches_and_the_others_stay() {
    let bench = Bench::new(&[]).await;
    let row = |number: u32, hours: i64| {
        idempotency_key::ActiveModel::from(idempotency_key::Model {
            sealed: false,
            tenant_id: bench.tenant,
            key: format!("POST /v1/messages {number}"),
            fingerprint: vec![1],
            response: vec![2],
            created_at: bench.now(),
            expires_at: bench.now() + TimeDelta::hours(hours),
        })
    };
    let rows: Vec<_> = (0..1_500)
        .map(|number| row(number, 1))
        .chain([row(9_999, 48)])
        .collect();
    idempotency_key::Entity::insert_many(rows)
        .exec_without_returning(&bench.db)
        .await
        .unwrap();
    assert_eq!(prune::step(&bench.db, bench.now()).await.unwrap(), 0);
    bench.clock.advance(TimeDelta::hours(2));
    assert_eq!(
        prune::step(&bench.db, bench.now()).await.unwrap(),
        prune::BATCH
    );
    assert_eq!(prune::step(&bench.db, bench.now()).await.unwrap(), 500);
    assert_eq!(
        idempotency_key::Entity::find()
            .count(&bench.db)
            .await
            .unwrap(),
        1
    );
    bench.close().await;
}

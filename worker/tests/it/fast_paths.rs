//! What a worker keeps in memory of endpoints is never old, and what every delivery goes through finds rows by their ids.

use relaypost_shared::{
    clock::Timestamp,
    db::{Database, hot},
    delivery::Status,
    entities::{endpoint, endpoint_secret},
    ids::EndpointId,
    queue::Lane,
};
use relaypost_testkit::{Backend, Receiver};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbBackend, EntityTrait as _, QueryFilter as _,
    Statement, sea_query::Expr,
};
use standardwebhooks::Webhook;

use crate::fixture::{Bench, SECRET};

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// As the API does it: whatever an endpoint signs with, its row is written as well.
async fn sign_with(bench: &Bench, endpoint: EndpointId, secret: &str, old_ends: Timestamp) {
    use endpoint_secret::Column;
    endpoint_secret::Entity::update_many()
        .col_expr(Column::ExpiresAt, Expr::value(old_ends))
        .filter(Column::EndpointId.eq(endpoint))
        .filter(Column::ExpiresAt.is_null())
        .exec(&bench.db)
        .await
        .unwrap();
    bench.secret(endpoint, secret).await;
    change(bench, endpoint, endpoint::Column::UpdatedAt, bench.now()).await;
}

async fn change(
    bench: &Bench,
    endpoint: EndpointId,
    column: endpoint::Column,
    value: impl Into<sea_orm::Value>,
) {
    endpoint::Entity::update_many()
        .col_expr(column, Expr::value(value))
        .filter(endpoint::Column::Id.eq(endpoint))
        .exec(&bench.db)
        .await
        .unwrap();
}

/// Which of these secrets a signature of the newest request fits.
fn signed_by<'a>(receiver: &Receiver, secrets: &[&'a str]) -> Vec<&'a str> {
    let hit = receiver.hits().pop().unwrap();
    let header = |name| hit.header(name).unwrap();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp"));
    let signatures: Vec<&str> = header("webhook-signature").split(' ').collect();
    let fits = |secret: &&&str| {
        let webhook = Webhook::new(secret).unwrap();
        let expected = webhook.sign(id, at.parse().unwrap(), &hit.body).unwrap();
        signatures.contains(&expected.as_str())
    };
    secrets.iter().filter(fits).copied().collect()
}

#[tokio::test]
async fn a_change_of_an_endpoint_holds_for_the_next_delivery() {
    let bench = Bench::new(&[]).await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    let lane = bench.lane(Lane::Webhooks);
    let endpoint = bench.endpoint(&old.url("/"), None).await;
    lane.work(&[bench.webhook(endpoint).await]).await;
    assert_eq!(signed_by(&old, &[SECRET, OTHER]), [SECRET]);

    change(&bench, endpoint, endpoint::Column::Url, new.url("/")).await;
    lane.work(&[bench.webhook(endpoint).await]).await;
    assert_eq!((old.count(), new.count()), (1, 1));

    let grace = bench.now() + chrono::TimeDelta::seconds(60);
    sign_with(&bench, endpoint, OTHER, grace).await;
    lane.work(&[bench.webhook(endpoint).await]).await;
    assert_eq!(signed_by(&new, &[SECRET, OTHER]), [SECRET, OTHER]);
    // Nothing is written when the old one ends.
    bench.clock.advance(chrono::TimeDelta::seconds(60));
    lane.work(&[bench.webhook(endpoint).await]).await;
    assert_eq!(signed_by(&new, &[SECRET, OTHER]), [OTHER]);

    let disabled = relaypost_shared::delivery::EndpointStatus::Disabled;
    change(&bench, endpoint, endpoint::Column::Status, disabled).await;
    let last = bench.webhook(endpoint).await;
    lane.work(&[last]).await;
    assert_eq!(bench.delivery(last).await.status, Status::Dead);
    assert_eq!(new.count(), 3);
    bench.close().await;
}

/// PostgreSQL thought so of a table that had been empty when it last looked, and then read all of it for each batch.
#[tokio::test]
async fn what_every_delivery_goes_through_finds_rows_by_their_ids_in_a_table_thought_to_be_empty() {
    if Backend::from_env() != Backend::Stack {
        return;
    }
    let bench = Bench::new(&[]).await;
    let grown = "ANALYZE deliveries; \
        INSERT INTO deliveries (id, tenant_id, kind, status, attempt_count, schedule_start, created_at) \
        SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' \
        || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid, gen_random_uuid(), 'webhook', 'pending', 0, 0, now() FROM generate_series(1, 5000)";
    bench.db.execute_unprepared(grown).await.unwrap();
    let explain = "EXPLAIN WITH given AS (SELECT gen_random_uuid() AS delivery FROM generate_series(1, 100)) \
        UPDATE deliveries SET attempt_count = 1 FROM given WHERE id = delivery AND status = 'pending' AND replay_id IS NULL";
    let plan = async |db: &Database| -> String {
        let statement = Statement::from_string(DbBackend::Postgres, explain);
        let lines = db.query_all_raw(statement).await.unwrap();
        let lines = lines.iter().map(|line| line.try_get_by_index::<String>(0));
        lines.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
    };
    let usual = plan(&bench.db).await;
    assert!(usual.contains("Seq Scan on deliveries"), "{usual}");
    let hot = plan(&hot(&bench.db)).await;
    assert!(
        hot.contains("Index Scan using deliveries_") && !hot.contains("Seq Scan"),
        "{hot}"
    );
    bench.close().await;
}

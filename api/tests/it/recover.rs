//! Sending an endpoint what it has missed: how it is asked for.

use relaypost_shared::{
    delivery::EndpointStatus,
    entities::endpoint,
    replay::{Missed, Selection},
    store::{fixtures::replay, partitions},
};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, Set};
use serde_json::json;

use crate::{
    api,
    dead::{audited, dead_webhook},
    id,
};

#[tokio::test]
async fn a_recover_job_is_made_for_a_span_of_time_that_ends_now_at_the_latest() {
    let api = api().await;
    let tenant = api.tenant().await;
    let endpoint = tenant.endpoint(&[]).await;
    dead_webhook(&api, &tenant, "a.b").await;
    let path = format!("/v1/endpoints/{endpoint}/recover");
    api.advance(60 * 60 * 24 * 365);
    // As a process does when it starts: the entry of the audit log lies in the partition of its week.
    partitions::ahead(&api.db, api.clock.now()).await.unwrap();
    let wanted = json!({"since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"});
    let keyed = tenant.api.header("idempotency-key", "k");
    let first = keyed.post(&path, wanted.clone()).await;
    let job = first.body.clone();
    assert_eq!(
        (first.status, &job["kind"], &job["total"]),
        (202, &json!("recover"), &json!(1)),
        "{first}"
    );
    let again = keyed.post(&path, wanted).await;
    assert_eq!((again.status, again.bytes), (200, first.bytes));
    let rows = replay::Entity::find().all(&api.db).await.unwrap();
    let [row] = rows.try_into().unwrap();
    let missed = Missed {
        endpoint_id: endpoint.parse().unwrap(),
        since: "2026-01-01T00:00:00Z".parse().unwrap(),
        until: api.clock.now(),
    };
    assert_eq!(row.selection, Selection::Missed(missed));
    assert_eq!(audited(&api).await[0][1..3], ["recover.created", &id(&job)]);
    let cancel = format!("/v1/replays/{}/cancel", id(&job));
    let cancelled = tenant.api.post(&cancel, json!({})).await.expect(202);
    assert_eq!(cancelled["status"], "cancelled");
    api.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_is_not_recovered() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let endpoint = tenant.endpoint(&[]).await;
    let path = format!("/v1/endpoints/{endpoint}/recover");
    let wanted = json!({"since": "2026-01-01T00:00:00Z"});
    for (body, field) in [
        (json!({}), "since"),
        (json!({"since": null}), "since"),
        (json!({"since": "2099-01-01T00:00:00Z"}), "since"),
        (
            json!({"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
            "until",
        ),
        (
            json!({"since": "2026-01-01T00:00:00Z", "rate_per_s": 5}),
            "rate_per_s",
        ),
    ] {
        let refused = tenant.api.post(&path, body).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], field, "{refused}");
    }
    let refused = other.api.post(&path, wanted.clone()).await;
    assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
    let disabled = endpoint::ActiveModel {
        id: Set(endpoint.parse().unwrap()),
        status: Set(EndpointStatus::Disabled),
        ..Default::default()
    };
    disabled.update(&api.db).await.unwrap();
    let refused = tenant.api.post(&path, wanted.clone()).await;
    assert_eq!(
        refused.faults(409, "endpoint_disabled"),
        [""; 0],
        "{refused}"
    );
    let gone = format!("/v1/endpoints/{endpoint}");
    assert_eq!(tenant.api.delete(&gone).await.status, 204);
    let refused = tenant.api.post(&path, wanted).await;
    assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
    assert_eq!(api.count::<replay::Entity>().await, 0);
    api.stop().await;
}

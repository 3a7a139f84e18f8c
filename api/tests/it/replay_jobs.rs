//! Jobs over many dead letters: made, counted beforehand, listed, cancelled. What they do is tested with the worker.

use poem::http::Method;
use relaypost_shared::{
    delivery::{ErrorClass, Reason, ReplayStatus},
    replay::{Filter, Selection},
    store::fixtures::replay,
};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, Set};
use serde_json::{Value, json};

use crate::{
    api,
    dead::{audited, dead_email, dead_webhook, kill, listed},
    id,
    support::{Api, Tenant, ids},
};

async fn counted(tenant: &Tenant, body: Value) -> u64 {
    let mut body = body;
    body["dry_run"] = json!(true);
    let counted = tenant.api.post("/v1/dlq/replay", body.clone()).await;
    let counted = counted.expect(200);
    let same = tenant.api.post("/v1/dlq/discard", body).await.expect(200);
    assert_eq!((&counted, counted.as_object().unwrap().len()), (&same, 1));
    counted["count"].as_u64().unwrap()
}

async fn selection(api: &Api, job: &Value) -> Selection {
    row(api, job).await.selection
}

async fn row(api: &Api, job: &Value) -> replay::Model {
    let id: relaypost_shared::ids::ReplayId = id(job).parse().unwrap();
    let found = replay::Entity::find_by_id(id).one(&api.db).await;
    found.unwrap().unwrap()
}

/// What a worker does when everything that was released has ended.
async fn complete(api: &Api, job: &Value) {
    let mut done: replay::ActiveModel = row(api, job).await.into();
    done.status = Set(ReplayStatus::Completed);
    done.released = Set(2);
    done.delivered = Set(1);
    done.dead = Set(1);
    done.skipped = Set(1);
    done.finished_at = Set(Some(api.clock.now()));
    done.next_at = Set(None);
    done.update(&api.db).await.unwrap();
}

#[tokio::test]
async fn a_dry_run_counts_what_fits_and_changes_nothing() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let endpoint = tenant.endpoint(&[]).await;
    other.endpoint(&[]).await;
    let first = dead_webhook(&api, &tenant, "a.b").await;
    let second = id(&tenant.publish("c.d").await["deliveries"][0]);
    kill(&api, &second, Reason::SsrfBlocked, ErrorClass::Ssrf).await;
    let (mail, _) = dead_email(&api, &tenant).await;
    let alive = id(&tenant.publish("a.b").await["deliveries"][0]);
    let theirs = dead_webhook(&api, &other, "a.b").await;
    for (body, count) in [
        (json!({"filter": {}}), 3),
        (json!({"filter": {"kind": "webhook"}}), 2),
        (json!({"filter": {"kind": "email"}}), 1),
        (json!({"filter": {"endpoint_id": endpoint}}), 2),
        (json!({"filter": {"event_type": "a.b"}}), 1),
        (json!({"filter": {"reason": "ssrf_blocked"}}), 1),
        (json!({"filter": {"error_class": "http_5xx"}}), 1),
        (json!({"filter": {"kind": "email", "event_type": "a.b"}}), 0),
        (json!({"filter": {"since": "2020-01-01T00:00:00Z"}}), 3),
        (json!({"filter": {"until": "2020-01-01T00:00:00Z"}}), 0),
        (json!({"ids": [first, second, mail]}), 3),
        (json!({"ids": [first, first]}), 1),
        (json!({"ids": [alive, theirs]}), 0),
    ] {
        assert_eq!(counted(&tenant, body.clone()).await, count, "{body}");
    }
    assert_eq!(api.count::<replay::Entity>().await, 0);
    assert_eq!(audited(&api).await, [[""; 4]; 0]);
    let listed = listed(&tenant, "/v1/webhooks/dlq").await;
    assert_eq!(listed, [second, first]);
    api.stop().await;
}

#[tokio::test]
async fn a_job_is_made_with_what_was_asked_for_and_stands_in_the_audit_log() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let dead = [
        dead_webhook(&api, &tenant, "a.b").await,
        dead_webhook(&api, &tenant, "a.b").await,
    ];
    let by = tenant.api.header("x-request-id", "fix-7");
    let wanted = json!({"filter": {"event_type": "a.b"}, "rate_per_s": 50});
    let replay = by.post("/v1/dlq/replay", wanted).await.expect(202);
    let shown = json!({"id": replay["id"], "kind": "replay", "status": "running", "total": 2, "released": 0,
        "skipped": 0, "rate_per_s": 50, "created_at": "2026-01-31T09:30:00.000Z",
        "by_outcome": {"pending": 0, "delivered": 0, "dead": 0, "discarded": 0, "skipped": 0}});
    assert_eq!(replay, shown);
    assert!(id(&replay).starts_with("rpl_"));
    let filter = Filter {
        event_type: Some("a.b".into()),
        except_uncertain: true,
        ..Filter::default()
    };
    assert_eq!(selection(&api, &replay).await, Selection::Filter(filter));
    let wanted = json!({"ids": [dead[1], dead[0], dead[1]]});
    let discard = by.post("/v1/dlq/discard", wanted).await.expect(202);
    assert_eq!(
        [&discard["kind"], &discard["total"], &discard["rate_per_s"]],
        [&json!("discard"), &json!(2), &Value::Null]
    );
    let sorted = dead.map(|one| one.parse().unwrap()).to_vec();
    assert_eq!(selection(&api, &discard).await, Selection::Ids(sorted));
    let entries = audited(&api).await;
    let [first, second] = entries.as_slice() else {
        panic!("{entries:?}")
    };
    assert!(first[0].starts_with("key_"), "{first:?}");
    assert_eq!(first[1..], ["replay.created", &id(&replay), "fix-7"]);
    assert_eq!(second[1..], ["discard.created", &id(&discard), "fix-7"]);
    let kept = row(&api, &replay).await;
    assert_eq!(
        (kept.actor, kept.request_id),
        (first[0].clone(), "fix-7".to_owned())
    );
    api.stop().await;
}

#[tokio::test]
async fn a_job_that_is_asked_for_twice_with_one_key_is_made_once() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keyed = tenant.api.header("idempotency-key", "k");
    for path in ["/v1/dlq/replay", "/v1/dlq/discard"] {
        let first = keyed.post(path, json!({"filter": {}})).await;
        assert_eq!(
            (first.status, first.headers.get("idempotency-replayed")),
            (202, None)
        );
        let again = keyed.post(path, json!({"filter": {}})).await;
        assert_eq!((again.status, &again.bytes), (200, &first.bytes), "{again}");
        assert_eq!(again.headers["idempotency-replayed"], "true");
        let other = keyed.post(path, json!({"filter": {"kind": "email"}})).await;
        assert_eq!(
            other.faults(409, "idempotency_key_reused"),
            [""; 0],
            "{other}"
        );
    }
    assert_eq!(api.count::<replay::Entity>().await, 2);
    assert_eq!(audited(&api).await.len(), 2);
    api.stop().await;
}

#[tokio::test]
async fn what_does_not_say_clearly_what_to_replay_is_refused() {
    let api = api().await;
    let tenant = api.tenant().await;
    let dead = format!("dlv_{}", "0".repeat(26));
    let many: Vec<&str> = vec![&dead; 10_001];
    for (body, path) in [
        (json!({}), ""),
        (json!({"ids": [dead], "filter": {}}), ""),
        (json!({"ids": null}), "ids"),
        (json!({"filter": null}), "filter"),
        (json!({"ids": []}), "ids"),
        (json!({"ids": many}), "ids"),
        (json!({"ids": ["msg_00000000000000000000000000"]}), "ids[0]"),
        (json!({"filter": {"endpoint": "x"}}), "filter.endpoint"),
        (
            json!({"filter": {"endpoint_id": null}}),
            "filter.endpoint_id",
        ),
        (json!({"filter": {"reason": "bad luck"}}), "filter.reason"),
        (json!({"filter": {"event_type": ""}}), "filter.event_type"),
        (json!({"filter": []}), "filter"),
        (
            json!({"filter": {"since": "2026-01-02T00:00:00Z", "until": "2026-01-02T00:00:00Z"}}),
            "filter.until",
        ),
        (json!({"filter": {}, "dry_run": "yes"}), "dry_run"),
    ] {
        for operation in ["/v1/dlq/replay", "/v1/dlq/discard"] {
            let refused = tenant.api.post(operation, body.clone()).await;
            assert_eq!(
                refused.faults(422, "validation_failed"),
                [""; 0],
                "{refused}"
            );
            assert_eq!(refused.body["errors"][0]["path"], path, "{refused}");
        }
    }
    for rate in [json!(0), json!(10_001), json!(-1), json!(0.5), json!("1")] {
        let body = json!({"filter": {}, "rate_per_s": rate});
        let refused = tenant.api.post("/v1/dlq/replay", body.clone()).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], "rate_per_s");
        tenant.api.post("/v1/dlq/discard", body).await.expect(422);
    }
    assert_eq!(api.count::<replay::Entity>().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn jobs_are_listed_newest_first_and_only_to_their_tenant() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let mut made = Vec::new();
    for _ in 0..3 {
        let body = json!({"filter": {}});
        made.push(id(&tenant
            .api
            .post("/v1/dlq/replay", body)
            .await
            .expect(202)));
    }
    made.reverse();
    let page = tenant.api.get("/v1/replays?limit=2").await.expect(200);
    assert_eq!(ids(&page["data"]), made[..2]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = format!("/v1/replays?limit=2&cursor={cursor}");
    let rest = tenant.api.get(&rest).await.expect(200);
    assert_eq!(ids(&rest["data"]), made[2..]);
    assert_eq!(listed(&other, "/v1/replays").await, [""; 0]);
    let path = format!("/v1/replays/{}", made[0]);
    assert_eq!(tenant.api.get(&path).await.expect(200), page["data"][0]);
    let cancel = format!("{path}/cancel");
    for answer in [
        other.api.get(&path).await,
        other.api.send(Method::POST, &cancel, None).await,
    ] {
        assert_eq!(answer.faults(404, "not_found"), [""; 0], "{answer}");
    }
    let running = tenant.api.get(&path).await.expect(200);
    assert_eq!(running["status"], "running");
    api.stop().await;
}

#[tokio::test]
async fn reading_jobs_takes_read_and_making_or_cancelling_them_manage() {
    let api = api().await;
    let tenant = api.tenant().await;
    let with = async |scope: &str| {
        let key = api.key(&tenant.id, &[scope]).await;
        api.anonymous().key(key["key"].as_str().unwrap())
    };
    let (read, manage) = (with("read").await, with("manage").await);
    let wanted = json!({"filter": {}});
    let job = manage
        .post("/v1/dlq/replay", wanted.clone())
        .await
        .expect(202);
    let path = format!("/v1/replays/{}", id(&job));
    read.get(&path).await.expect(200);
    manage.get(&path).await.expect(403);
    for path in [
        "/v1/dlq/replay",
        "/v1/dlq/discard",
        &format!("{path}/cancel"),
        "/v1/endpoints/ep_00000000000000000000000000/recover",
    ] {
        let refused = read.post(path, wanted.clone()).await;
        assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
    }
    // An operator names the tenant.
    let root = api.root();
    root.post("/v1/dlq/replay", wanted.clone())
        .await
        .expect(400);
    let root = root.header("x-tenant-id", &tenant.id);
    root.post("/v1/dlq/replay", wanted).await.expect(202);
    api.stop().await;
}

#[tokio::test]
async fn cancelling_twice_is_as_good_as_once_and_a_completed_job_cannot_be() {
    let api = api().await;
    let tenant = api.tenant().await;
    let job = tenant
        .api
        .post("/v1/dlq/replay", json!({"filter": {}}))
        .await;
    let job = job.expect(202);
    let cancel = format!("/v1/replays/{}/cancel", id(&job));
    api.advance(5);
    let first = tenant
        .api
        .send(Method::POST, &cancel, None)
        .await
        .expect(202);
    assert_eq!(
        [&first["status"], &first["finished_at"]],
        [&json!("cancelled"), &json!("2026-01-31T09:30:05.000Z")]
    );
    assert_eq!(row(&api, &job).await.next_at, None);
    api.advance(5);
    let again = tenant.api.post(&cancel, json!({})).await.expect(202);
    assert_eq!(again, first);
    let entries = audited(&api).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!(entries[1][1..3], ["replay.cancelled", &id(&job)]);

    let done = json!({"ids": ["dlv_00000000000000000000000000", "dlv_00000000000000000000000001",
        "dlv_00000000000000000000000002"]});
    let done = tenant.api.post("/v1/dlq/replay", done).await.expect(202);
    complete(&api, &done).await;
    let path = format!("/v1/replays/{}", id(&done));
    let refused = tenant.api.post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!(
        refused.faults(409, "already_completed"),
        [""; 0],
        "{refused}"
    );
    let shown = tenant.api.get(&path).await.expect(200);
    assert_eq!(
        (&shown["status"], &shown["total"], &shown["by_outcome"]),
        (
            &json!("completed"),
            &json!(3),
            &json!({"pending": 0, "delivered": 1, "dead": 1, "discarded": 0, "skipped": 1})
        )
    );
    assert_eq!(audited(&api).await.len(), 3);
    api.stop().await;
}

#[tokio::test]
async fn a_replay_by_filter_leaves_mails_out_that_may_have_arrived_unless_it_names_them() {
    let api = api().await;
    let tenant = api.tenant().await;
    let (rejected, uncertain) = (
        dead_email(&api, &tenant).await.0,
        dead_email(&api, &tenant).await.0,
    );
    // As a mail server that accepted the content and never answered leaves it.
    let row = crate::dead::row(&api, &uncertain).await;
    let mut row = sea_orm::IntoActiveModel::into_active_model(row);
    row.reason = Set(Some(Reason::Uncertain));
    row.update(&api.db).await.unwrap();
    let count = async |operation: &str, filter: Value| -> u64 {
        let path = format!("/v1/dlq/{operation}");
        let body = json!({"filter": filter, "dry_run": true});
        let counted = tenant.api.post(&path, body).await.expect(200);
        counted["count"].as_u64().unwrap()
    };
    assert_eq!(count("replay", json!({})).await, 1);
    assert_eq!(count("replay", json!({"kind": "email"})).await, 1);
    assert_eq!(count("replay", json!({"reason": "uncertain"})).await, 1);
    assert_eq!(count("discard", json!({})).await, 2);
    let both = json!({"ids": [rejected, uncertain], "dry_run": true});
    let named = tenant.api.post("/v1/dlq/replay", both).await.expect(200);
    assert_eq!(named["count"], 2);
    api.stop().await;
}

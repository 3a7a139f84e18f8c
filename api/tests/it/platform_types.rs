//! Event types of the platform, which all tenants share.

use relaypost_shared::entities::audit_log;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, Statement,
};
use serde_json::{Value, json};

use crate::{Answer, Api, api, id, support::Client};

const TYPES: &str = "/v1/event-types";
const TYPE: &str = "/v1/event-types/order.paid";

fn typed(schema: &str) -> Value {
    json!({"name": "order.paid", "schema": {"type": schema}})
}

async fn publish(client: &Client, payload: Value) -> Answer {
    let message = json!({"event_type": "order.paid", "payload": payload});
    client.post("/v1/messages", message).await
}

/// Name and owner of each event type that a client sees.
async fn listed(client: &Client) -> Vec<(String, String)> {
    let list = client.get(TYPES).await.expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut listed: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(&one["name"]), text(&one["owner"])))
        .collect();
    listed.sort();
    listed
}

/// The sum of the editions of all tenants but the platform's own.
async fn editions(api: &Api) -> i64 {
    let sql =
        "SELECT CAST(sum(catalog_edition) AS bigint) AS sum FROM tenants WHERE name <> 'Relaypost'";
    let statement = Statement::from_string(api.db.get_database_backend(), sql);
    let row = api.db.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get("", "sum").unwrap()
}

#[tokio::test]
async fn a_change_of_a_platform_type_counts_for_all_tenants_in_every_process_at_once() {
    let api = api().await;
    let (root, one, other) = (api.root(), api.tenant().await, api.tenant().await);
    let clients = [&one, &other].map(|tenant| [tenant.api.clone(), api.elsewhere(&tenant.api)]);
    let clients = clients.as_flattened();
    for client in clients {
        publish(client, json!("text")).await.expect(201);
    }
    let before = editions(&api).await;
    root.post(TYPES, typed("number")).await.expect(201);
    for client in clients {
        let refused = publish(client, json!("text")).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        publish(client, json!(1)).await.expect(201);
    }
    for round in 0..3 {
        let (schema, good, bad) = match round % 2 {
            0 => ("string", json!("text"), json!(1)),
            _ => ("number", json!(1), json!("text")),
        };
        let change = json!({"schema": {"type": schema}});
        root.patch(TYPE, change).await.expect(200);
        for client in clients.iter().rev() {
            let refused = publish(client, bad.clone()).await;
            assert_eq!(
                refused.faults(422, "validation_failed"),
                [""; 0],
                "{refused}"
            );
            publish(client, good.clone()).await.expect(201);
        }
    }
    root.delete(TYPE).await.expect(204);
    for client in clients {
        let refused = publish(client, json!("text")).await;
        assert_eq!(
            refused.faults(422, "event_type_archived"),
            [""; 0],
            "{refused}"
        );
    }
    root.patch(TYPE, json!({"archived": false, "schema": null}))
        .await
        .expect(200);
    for client in clients {
        publish(client, json!({})).await.expect(201);
    }
    assert_eq!(
        editions(&api).await,
        before,
        "no row of a tenant is written"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_tenants_own_type_counts_before_the_platforms() {
    let api = api().await;
    let (root, one, other) = (api.root(), api.tenant().await, api.tenant().await);
    let there = api.elsewhere(&one.api);
    let shared = root.post(TYPES, typed("string")).await.expect(201);
    assert_eq!(shared["owner"], "platform");
    root.post(TYPES, json!({"name": "b"})).await.expect(201);
    one.api.post(TYPES, json!({"name": "c"})).await.expect(201);
    publish(&there, json!(1)).await.expect(422);
    assert_eq!(one.api.get(TYPE).await.expect(200), shared);

    let own = one.api.post(TYPES, typed("number")).await.expect(201);
    assert_eq!(own["owner"], "tenant");
    assert_eq!(one.api.get(TYPE).await.expect(200), own);
    publish(&there, json!(1)).await.expect(201);
    publish(&there, json!("text")).await.expect(422);
    publish(&other.api, json!("text")).await.expect(201);
    root.patch(TYPE, json!({"schema": {"type": "null"}}))
        .await
        .expect(200);
    publish(&there, json!(1)).await.expect(201);
    publish(&other.api, json!("text")).await.expect(422);

    let pairs = |pairs: &[(&str, &str)]| -> Vec<_> {
        let owned = pairs
            .iter()
            .map(|(name, owner)| ((*name).to_owned(), (*owner).to_owned()));
        owned.collect()
    };
    let (p, t) = ("platform", "tenant");
    assert_eq!(
        listed(&one.api).await,
        pairs(&[("b", p), ("c", t), ("order.paid", t)])
    );
    assert_eq!(
        listed(&other.api).await,
        pairs(&[("b", p), ("order.paid", p)])
    );
    assert_eq!(listed(&root).await, pairs(&[("b", p), ("order.paid", p)]));
    let named = root.header("x-tenant-id", &one.id);
    assert_eq!(listed(&named).await, listed(&one.api).await);

    // Its own is archived, and still counts.
    one.api.delete(TYPE).await.expect(204);
    let refused = publish(&there, json!(null)).await;
    assert_eq!(
        refused.faults(422, "event_type_archived"),
        [""; 0],
        "{refused}"
    );
    publish(&other.api, json!(null)).await.expect(201);
    api.stop().await;
}

#[tokio::test]
async fn only_the_platform_changes_its_types_and_the_audit_log_says_so() {
    let api = api().await;
    let (root, tenant) = (api.root(), api.tenant().await);
    let shared = root.post(TYPES, typed("string")).await.expect(201);
    let again = root.post(TYPES, typed("string")).await;
    assert_eq!(again.faults(409, "event_type_exists"), [""; 0], "{again}");
    for client in [tenant.api.clone(), root.header("x-tenant-id", &tenant.id)] {
        for refused in [
            client.patch(TYPE, json!({"schema": null})).await,
            client.delete(TYPE).await,
        ] {
            assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
        }
    }
    let missing = root
        .patch("/v1/event-types/none", json!({"schema": null}))
        .await;
    assert_eq!(missing.faults(404, "not_found"), [""; 0], "{missing}");
    root.patch(TYPE, json!({"schema": null})).await.expect(200);
    root.delete(TYPE).await.expect(204);
    let entries = audit_log::Entity::find()
        .filter(audit_log::Column::Target.eq(id(&shared)))
        .all(&api.db)
        .await
        .unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        assert_eq!((entry.tenant_id, entry.actor.as_str()), (None, "platform"));
    }
    api.stop().await;
}

//! Keys: who may do what, and whose things.

use std::time::Duration;

use relaypost_shared::{
    entities::{Texts, api_key},
    ids::KeyId,
};
use relaypost_testkit::eventually;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};
use serde_json::{Value, json};

use crate::{api, dead::audit_log, id, support::Client};

/// Far longer than any process remembers a key.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_platform_key_names_the_tenant_and_a_tenants_key_stands_for_its_own() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    tenant.publish("a.b").await;
    let of = |client: &Client, tenant: &str| client.header("x-tenant-id", tenant);
    let seen = of(&api.root(), &tenant.id)
        .get("/v1/messages")
        .await
        .expect(200);
    assert_eq!(seen["data"].as_array().unwrap().len(), 1);
    let seen = of(&api.root(), &other.id)
        .get("/v1/messages")
        .await
        .expect(200);
    assert_eq!(seen["data"], json!([]));
    for nobody in ["ten_00000000000000000000000000", "nonsense", "zoë"] {
        let refused = of(&api.root(), nobody).get("/v1/messages").await;
        assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
    }
    of(&tenant.api, &tenant.id)
        .get("/v1/messages")
        .await
        .expect(200);
    let refused = of(&tenant.api, &other.id).get("/v1/messages").await;
    assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
    api.stop().await;
}

#[tokio::test]
async fn a_key_is_refused_from_the_moment_it_is_revoked_or_expires() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let until = json!({"name": "a", "scopes": ["read"], "expires_at": "2026-01-31T09:31:00Z"});
    let expiring = tenant.api.post(&keys, until).await.expect(201);
    let expiring = api.anonymous().key(expiring["key"].as_str().unwrap());
    let revoked = api.key(&tenant.id, &["read"]).await;
    let client = api.anonymous().key(revoked["key"].as_str().unwrap());
    client.get("/v1/messages").await.expect(200);
    expiring.get("/v1/messages").await.expect(200);

    tenant
        .api
        .delete(&format!("{keys}/{}", id(&revoked)))
        .await
        .expect(204);
    let refused = client.get("/v1/messages").await;
    assert_eq!(refused.faults(401, "unauthorized"), [""; 0], "{refused}");
    tenant
        .api
        .delete(&format!("{keys}/{}", id(&revoked)))
        .await
        .expect(204);
    api.advance(59);
    expiring.get("/v1/messages").await.expect(200);
    api.advance(1);
    expiring.get("/v1/messages").await.expect(401);
    api.stop().await;
}

#[tokio::test]
async fn a_key_with_a_wrong_secret_is_refused_like_no_key() {
    let api = api().await;
    let tenant = api.tenant().await;
    let key = api.key(&tenant.id, &["read"]).await["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let (head, last) = key.split_at(key.len() - 1);
    let wrong = format!("{head}{}", if last == "A" { "B" } else { "A" });
    let expected = api.anonymous().get("/v1/messages").await.body["detail"].clone();
    for text in [
        wrong.as_str(),
        "rp_nonsense",
        "",
        "rp_Lq8vT2nXc5Rb9WjYk3Gd7HsPf6MzQa1F",
    ] {
        let refused = api.anonymous().key(text).get("/v1/messages").await;
        assert_eq!(refused.faults(401, "unauthorized"), [""; 0], "{refused}");
        assert_eq!(refused.body["detail"], expected);
    }
    let basic = api
        .anonymous()
        .header("authorization", &format!("Basic {key}"));
    basic.get("/v1/messages").await.expect(401);
    let lower = api
        .anonymous()
        .header("authorization", &format!("bearer {key}"));
    lower.get("/v1/messages").await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let api = api().await;
    let tenant = api.tenant().await;
    let created = api.key(&tenant.id, &["send", "read"]).await;
    let key = created["key"].as_str().unwrap();
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let listed = tenant.api.get(&keys).await.expect(200);
    let shown = &listed["data"][0];
    assert_eq!(shown["id"], created["id"]);
    assert_eq!(shown["scopes"], json!(["send", "read"]));
    assert!(key.starts_with(shown["prefix"].as_str().unwrap()));
    assert_eq!(shown.get("key"), None);
    for row in api_key::Entity::find().all(&api.db).await.unwrap() {
        assert!(!format!("{row:?}").contains(&key[key.len() - 20..]));
    }
    api.stop().await;
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted_once_a_minute() {
    let api = api().await;
    let tenant = api.tenant().await;
    let created = api.key(&tenant.id, &["read"]).await;
    let client = api.anonymous().key(created["key"].as_str().unwrap());
    let noted = async |time: &str| {
        relaypost_testkit::eventually(std::time::Duration::from_secs(5), || async {
            let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
            let listed = api.root().get(&keys).await.expect(200);
            let shown = listed["data"]
                .as_array()
                .unwrap()
                .iter()
                .find(|key| key["id"] == created["id"])
                .unwrap();
            if shown["last_used_at"] == time {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
    };
    client.get("/v1/messages").await.expect(200);
    noted("2026-01-31T09:30:00.000Z").await;
    api.advance(30);
    client.get("/v1/messages").await.expect(200);
    api.advance(30);
    client.get("/v1/messages").await.expect(200);
    noted("2026-01-31T09:31:00.000Z").await;
    api.stop().await;
}

#[tokio::test]
async fn a_tenants_key_cannot_become_a_platform_key() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    for scopes in [
        json!(["platform"]),
        json!(["read", "read"]),
        json!([]),
        json!(["everything"]),
    ] {
        let new = json!({"name": "a", "scopes": scopes});
        let refused = tenant.api.post(&keys, new).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
    }
    tenant
        .api
        .post("/v1/tenants", json!({"name": "b"}))
        .await
        .expect(403);
    api.stop().await;
}

#[tokio::test]
async fn a_rotated_key_goes_on_for_its_grace_beside_a_successor_that_may_do_the_same() {
    let api = api().await;
    let tenant = api.tenant().await;
    let old = api.key(&tenant.id, &["read", "send"]).await;
    let path = format!("/v1/tenants/{}/api-keys/{}", tenant.id, id(&old));
    let with = |key: &Value| api.anonymous().key(key["key"].as_str().unwrap());
    let grace = json!({"grace_period_s": 60});
    let new = tenant.api.post(&format!("{path}/rotate"), grace).await;
    let new = new.expect(201);
    for field in ["name", "scopes"] {
        assert_eq!(new[field], old[field]);
    }
    assert_ne!(new["key"], old["key"]);
    assert_eq!(new.get("expires_at"), None);
    let shown = tenant.api.get(&path).await.expect(200);
    assert_eq!(shown["expires_at"], "2026-01-31T09:31:00.000Z");
    api.advance(59);
    for key in [&old, &new] {
        with(key).get("/v1/messages").await.expect(200);
        with(key).get("/v1/endpoints").await.expect(200);
        with(key)
            .delete("/v1/endpoints/ep_00000000000000000000000000")
            .await
            .expect(403);
    }
    api.advance(1);
    with(&old).get("/v1/messages").await.expect(401);
    with(&new).get("/v1/messages").await.expect(200);

    let again = tenant.api.post(&format!("{path}/rotate"), json!({})).await;
    assert_eq!(again.faults(409, "api_key_ended"), [""; 0], "{again}");
    let path = format!("/v1/tenants/{}/api-keys/{}", tenant.id, id(&new));
    tenant.api.delete(&path).await.expect(204);
    let revoked = tenant.api.post(&format!("{path}/rotate"), json!({})).await;
    assert_eq!(revoked.faults(409, "api_key_ended"), [""; 0], "{revoked}");
    api.stop().await;
}

#[tokio::test]
async fn no_rotation_makes_a_key_live_longer_than_it_was_meant_to() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let ends = json!("2026-01-31T10:30:00.000Z");
    let new = json!({"name": "a", "scopes": ["read"], "expires_at": ends});
    let old = tenant.api.post(&keys, new).await.expect(201);
    let path = format!("{keys}/{}", id(&old));
    let day = json!({"grace_period_s": 86_400});
    let new = tenant.api.post(&format!("{path}/rotate"), day).await;
    assert_eq!(new.expect(201)["expires_at"], ends);
    let shown = tenant.api.get(&path).await.expect(200);
    assert_eq!(shown["expires_at"], ends, "the grace is no reprieve");

    let later = json!({"expires_at": "2026-03-01T00:00:00Z"});
    let new = tenant.api.post(&format!("{path}/rotate"), later).await;
    assert_eq!(new.expect(201)["expires_at"], "2026-03-01T00:00:00.000Z");
    for wrong in [
        json!({"grace_period_s": 604_801}),
        json!({"grace_period_s": -1}),
        json!({"expires_at": "2026-01-31T09:30:00Z"}),
    ] {
        let refused = tenant.api.post(&format!("{path}/rotate"), wrong).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
    }
    api.stop().await;
}

#[tokio::test]
async fn a_key_that_was_used_everywhere_is_refused_everywhere_once_it_is_revoked() {
    let api = api().await;
    let tenant = api.tenant().await;
    let key = api.key(&tenant.id, &["read"]).await;
    let here = api.anonymous().key(key["key"].as_str().unwrap());
    let there = api.elsewhere(&here);
    here.get("/v1/messages").await.expect(200);
    there.get("/v1/messages").await.expect(200);
    let path = format!("/v1/tenants/{}/api-keys/{}", tenant.id, id(&key));
    tenant.api.delete(&path).await.expect(204);
    here.get("/v1/messages").await.expect(401);
    // Another process remembers a key for less than a second.
    eventually(SOON, || async {
        let answer = there.get("/v1/messages").await;
        (answer.status == 401)
            .then_some(())
            .ok_or_else(|| answer.to_string())
    })
    .await;
    api.stop().await;
}

#[tokio::test]
async fn a_platform_key_operates_the_platform_until_it_is_revoked() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keys = "/v1/platform/api-keys";
    let created = api.root().post(keys, json!({"name": "on call"})).await;
    let created = created.expect(201);
    let operator = api.anonymous().key(created["key"].as_str().unwrap());
    operator.get("/v1/tenants").await.expect(200);
    let of_tenant = operator.header("x-tenant-id", &tenant.id);
    of_tenant.get("/v1/messages").await.expect(200);

    let shown = operator.get(&format!("{keys}/{}", id(&created))).await;
    let shown = shown.expect(200);
    assert_eq!(shown.get("key"), None);
    let listed = operator.get(keys).await.expect(200);
    assert_eq!(listed["data"][0]["id"], created["id"]);
    assert_eq!(
        listed["data"].as_array().unwrap().len(),
        1,
        "no tenant's key"
    );

    let rotate = format!("{keys}/{}/rotate", id(&created));
    let next = operator.post(&rotate, json!({"grace_period_s": 60})).await;
    let next = next.expect(201);
    let next_operator = api.anonymous().key(next["key"].as_str().unwrap());
    next_operator.get("/v1/tenants").await.expect(200);
    api.advance(60);
    operator.get("/v1/tenants").await.expect(401);
    let path = format!("{keys}/{}", id(&next));
    next_operator.delete(&path).await.expect(204);
    next_operator.get("/v1/tenants").await.expect(401);
    api.stop().await;
}

#[tokio::test]
async fn the_keys_of_a_tenant_and_of_the_platform_are_not_found_among_each_other() {
    let api = api().await;
    let tenant = api.tenant().await;
    let platform = api
        .root()
        .post("/v1/platform/api-keys", json!({"name": "a"}))
        .await;
    let platform = id(&platform.expect(201));
    let own = id(&api.key(&tenant.id, &["read"]).await);
    for path in [
        format!("/v1/platform/api-keys/{own}"),
        format!("/v1/tenants/{}/api-keys/{platform}", tenant.id),
    ] {
        let root = api.root();
        root.get(&path).await.expect(404);
        root.post(&format!("{path}/rotate"), json!({}))
            .await
            .expect(404);
        root.delete(&path).await.expect(404);
    }
    tenant.api.get("/v1/platform/api-keys").await.expect(403);
    api.stop().await;
}

#[tokio::test]
async fn what_a_row_claims_makes_no_tenants_key_a_platform_key_and_no_platform_key_less() {
    let api = api().await;
    let tenant = api.tenant().await;
    let key = api.key(&tenant.id, &["read"]).await;
    let claim = async |key: &str, scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let key: KeyId = key.parse().unwrap();
        let changed = api_key::Entity::update_many()
            .col_expr(api_key::Column::Scopes, Expr::value(Texts(scopes)))
            .filter(api_key::Column::Id.eq(key))
            .exec(&api.db)
            .await;
        assert_eq!(changed.unwrap().rows_affected, 1);
    };
    claim(&id(&key), &["read", "platform"]).await;
    let client = api.anonymous().key(key["key"].as_str().unwrap());
    client.get("/v1/messages").await.expect(200);
    client.get("/v1/tenants").await.expect(403);

    let new = json!({"name": "a"});
    let platform = api.root().post("/v1/platform/api-keys", new).await;
    let platform = platform.expect(201);
    claim(&id(&platform), &["admin"]).await;
    let client = api.anonymous().key(platform["key"].as_str().unwrap());
    let client = client.header("x-tenant-id", &tenant.id);
    client.get("/v1/messages").await.expect(403);
    api.stop().await;
}

#[tokio::test]
async fn every_administrative_act_is_in_the_audit_log_with_who_did_it_and_in_which_request() {
    let api = api().await;
    let root = api.root().header("x-request-id", "req-1");
    let new = json!({"name": "Acme"});
    let tenant = id(&root.post("/v1/tenants", new.clone()).await.expect(201));
    let keys = format!("/v1/tenants/{tenant}/api-keys");
    let admin = json!({"name": "a", "scopes": ["admin"]});
    let admin = root.post(&keys, admin).await.expect(201);
    let rename = root.patch(&format!("/v1/tenants/{tenant}"), new).await;
    rename.expect(200);
    let by_key = id(&admin);
    let client = api.anonymous().key(admin["key"].as_str().unwrap());
    let client = client.header("x-request-id", "req-2");

    let old = json!({"name": "b", "scopes": ["read"]});
    let old = id(&client.post(&keys, old).await.expect(201));
    let rotated = client
        .post(&format!("{keys}/{old}/rotate"), json!({}))
        .await;
    let rotated = id(&rotated.expect(201));
    for _ in 0..2 {
        let revoked = client.delete(&format!("{keys}/{old}")).await;
        revoked.expect(204);
    }
    let new = json!({"url": "https://example.com/hooks"});
    let endpoint = id(&client.post("/v1/endpoints", new).await.expect(201));
    let path = format!("/v1/endpoints/{endpoint}");
    let change = client.patch(&path, json!({"description": "a"})).await;
    change.expect(200);
    client.get(&format!("{path}/secret")).await.expect(200);
    let rotate = format!("{path}/secret/rotate");
    client.post(&rotate, json!({})).await.expect(200);
    client.delete(&path).await.expect(204);
    let new = json!({"name": "order.paid"});
    let event_type = client.post("/v1/event-types", new).await.expect(201);
    let event_type_path = "/v1/event-types/order.paid";
    let change = json!({"description": "a"});
    client.patch(event_type_path, change).await.expect(200);
    for _ in 0..2 {
        client.delete(event_type_path).await.expect(204);
    }

    let by_root =
        |action: &str, target: &str| ["platform", action, target, "req-1"].map(str::to_owned);
    let by_key = |action: &str, target: &str| [&by_key, action, target, "req-2"].map(str::to_owned);
    let mut wanted = vec![
        by_root("tenant.created", &tenant),
        by_root("api_key.created", &id(&admin)),
        by_root("tenant.changed", &tenant),
        by_key("api_key.created", &old),
        by_key("api_key.rotated", &old),
        by_key("api_key.created", &rotated),
        by_key("api_key.revoked", &old),
        by_key("endpoint.created", &endpoint),
        by_key("endpoint.changed", &endpoint),
        by_key("endpoint.secret_read", &endpoint),
        by_key("endpoint.secret_rotated", &endpoint),
        by_key("endpoint.deleted", &endpoint),
    ];
    let noted = audit_log(&api).await;
    let of_type = event_type["id"].as_str().map(str::to_owned);
    let of_type = of_type.unwrap_or_else(|| noted[12][2].clone());
    for action in ["created", "changed", "archived"] {
        wanted.push(by_key(&format!("event_type.{action}"), &of_type));
    }
    assert_eq!(noted, wanted);
    api.stop().await;
}

#[tokio::test]
async fn a_tenant_is_renamed_by_the_platform_alone() {
    let api = api().await;
    let tenant = api.tenant().await;
    let path = format!("/v1/tenants/{}", tenant.id);
    let name = json!({"name": "Acme Europe"});
    tenant.api.patch(&path, name.clone()).await.expect(403);
    let renamed = api.root().patch(&path, name).await.expect(200);
    assert_eq!(renamed["name"], "Acme Europe");
    let unchanged = api.root().patch(&path, json!({})).await.expect(200);
    assert_eq!(unchanged, renamed);
    assert_eq!(api.root().get(&path).await.expect(200), renamed);
    for wrong in [
        json!({"name": ""}),
        json!({"name": null}),
        json!({"name": "a\nb"}),
    ] {
        api.root().patch(&path, wrong).await.expect(422);
    }
    let nobody = "/v1/tenants/ten_00000000000000000000000000";
    let name = json!({"name": "a"});
    api.root().patch(nobody, name).await.expect(404);
    api.stop().await;
}

#[tokio::test]
async fn the_platform_chooses_for_a_tenant_what_happens_to_uncertain_emails() {
    let api = api().await;
    let root = api.root();
    let held = json!({"name": "Acme"});
    let held = root.post("/v1/tenants", held).await.expect(201);
    assert_eq!(held["email_on_uncertain"], "hold");
    let resending = json!({"name": "Acme", "email_on_uncertain": "resend"});
    let resending = root.post("/v1/tenants", resending).await.expect(201);
    assert_eq!(resending["email_on_uncertain"], "resend");

    let path = format!("/v1/tenants/{}", id(&held));
    let choice = json!({"email_on_uncertain": "resend"});
    let changed = root.patch(&path, choice.clone()).await.expect(200);
    assert_eq!(
        (&changed["email_on_uncertain"], &changed["name"]),
        (&json!("resend"), &json!("Acme"))
    );
    assert_eq!(root.get(&path).await.expect(200), changed);
    let renamed = root.patch(&path, json!({"name": "Acme Europe"})).await;
    assert_eq!(renamed.expect(200)["email_on_uncertain"], "resend");
    for wrong in [json!(null), json!("maybe"), json!(true)] {
        let body = json!({"email_on_uncertain": wrong});
        let refused = root.patch(&path, body).await.status;
        assert!([400, 422].contains(&refused), "{refused}");
    }
    let tenant = api.tenant().await;
    let own = format!("/v1/tenants/{}", tenant.id);
    tenant.api.patch(&own, choice).await.expect(403);
    api.stop().await;
}

#[tokio::test]
async fn only_the_platform_sees_how_the_service_itself_is_doing() {
    let api = api().await;
    let tenant = api.tenant().await;
    let own = tenant.api.get("/v1/stats").await.expect(200);
    assert_eq!((own.get("queues"), own.get("mail_providers")), (None, None));
    let platform = api.root().header("x-tenant-id", &tenant.id);
    let all = platform.get("/v1/stats").await.expect(200);
    assert_eq!(all["queues"]["webhooks"], 0, "{all}");
    assert_eq!(all["mail_providers"].as_array().unwrap().len(), 1, "{all}");
    api.stop().await;
}

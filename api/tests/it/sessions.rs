//! Access tokens and refresh tokens: what they open, and when they stop.

use futures::future::join_all;
use poem::http::Method;
use relaypost_shared::{
    entities::{refresh_token, session},
    queue::Queue,
    settings::JwtSecrets,
};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use crate::{
    Api, api,
    sign_in::{PASSWORD, Person, person, sign_in},
    support::Client,
};

async fn refresh(client: &Client, token: &Value) -> crate::Answer {
    let body = json!({"refresh_token": token});
    client.post("/v1/auth/refresh", body).await
}

fn with_access(api: &Api, tokens: &Value) -> Client {
    api.anonymous()
        .key(tokens["access_token"].as_str().unwrap())
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_once_and_the_access_tokens_of_its_session_go_on() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let second = refresh(&api.anonymous(), &ann.tokens["refresh_token"])
        .await
        .expect(200);
    assert_ne!(second["refresh_token"], ann.tokens["refresh_token"]);
    assert!(
        second["refresh_token"]
            .as_str()
            .unwrap()
            .starts_with("rpr_")
    );
    ann.api.get("/v1/auth/me").await.expect(200);
    with_access(&api, &second)
        .get("/v1/auth/me")
        .await
        .expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_ends_the_session_and_is_written_down() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let other = sign_in(&api.anonymous(), &ann.email, PASSWORD)
        .await
        .expect(200);
    let second = refresh(&api.anonymous(), &ann.tokens["refresh_token"])
        .await
        .expect(200);
    let reused = refresh(&api.anonymous(), &ann.tokens["refresh_token"]).await;
    assert_eq!(reused.faults(401, "unauthorized"), [""; 0], "{reused}");
    refresh(&api.anonymous(), &second["refresh_token"])
        .await
        .expect(401);
    with_access(&api, &second)
        .get("/v1/auth/me")
        .await
        .expect(401);
    with_access(&api, &other)
        .get("/v1/auth/me")
        .await
        .expect(200);
    let log = api
        .root()
        .get("/v1/audit-log?action=session.token_reused")
        .await;
    let log = log.expect(200);
    assert_eq!(log["data"].as_array().unwrap().len(), 1, "{log}");
    api.stop().await;
}

#[tokio::test]
async fn of_many_refreshes_at_once_with_one_token_in_two_processes_one_wins() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let here = api.anonymous();
    let there = api.elsewhere(&here);
    let token = &ann.tokens["refresh_token"];
    let answers = (0..20).map(|n| refresh(if n % 2 == 0 { &here } else { &there }, token));
    let answers = join_all(answers).await;
    let won = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(won, 1);
    assert!(answers.iter().all(|one| [200, 401].contains(&one.status)));
    // The others showed that somebody has a copy.
    let winner = answers.iter().find(|answer| answer.status == 200).unwrap();
    with_access(&api, &winner.body)
        .get("/v1/auth/me")
        .await
        .expect(401);
    api.stop().await;
}

#[tokio::test]
async fn a_session_ends_on_its_day_however_often_it_is_prolonged() {
    let api = Api::with(
        &[("AUTH_REFRESH_TOKEN_DAYS", "1")],
        Queue::Memory(Default::default()),
    )
    .await;
    let ann = person(&api, json!({})).await;
    api.advance(86_399);
    ann.api.get("/v1/auth/me").await.expect(401);
    let last = refresh(&api.anonymous(), &ann.tokens["refresh_token"])
        .await
        .expect(200);
    assert_eq!(
        (&last["expires_in"], &last["session_expires_in"]),
        (&json!(1), &json!(1))
    );
    with_access(&api, &last)
        .get("/v1/auth/me")
        .await
        .expect(200);
    api.advance(1);
    with_access(&api, &last)
        .get("/v1/auth/me")
        .await
        .expect(401);
    refresh(&api.anonymous(), &last["refresh_token"])
        .await
        .expect(401);
    api.stop().await;
}

#[tokio::test]
async fn who_signs_out_is_out_at_once_in_every_process() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let elsewhere = api.elsewhere(&ann.api);
    elsewhere.get("/v1/auth/me").await.expect(200);
    ann.api
        .send(Method::POST, "/v1/auth/logout", None)
        .await
        .expect(204);
    for client in [&ann.api, &elsewhere] {
        let refused = client.get("/v1/auth/me").await;
        assert_eq!(refused.faults(401, "unauthorized"), [""; 0], "{refused}");
    }
    refresh(&api.anonymous(), &ann.tokens["refresh_token"])
        .await
        .expect(401);
    api.stop().await;
}

#[tokio::test]
async fn a_change_of_what_somebody_may_do_counts_from_the_next_request_on() {
    let api = api().await;
    let tenant = api.tenant().await;
    let ann = person(
        &api,
        json!({"memberships": [{"tenant_id": tenant.id, "role": "operator"}]}),
    )
    .await;
    let message = json!({"event_type": "a.b", "payload": {}});
    ann.api
        .post("/v1/messages", message.clone())
        .await
        .expect(201);
    let member = format!("/v1/tenants/{}/members/{}", tenant.id, ann.id);
    tenant
        .api
        .put(&member, json!({"role": "viewer"}))
        .await
        .expect(200);
    let refused = ann.api.post("/v1/messages", message).await;
    assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
    ann.api.get("/v1/messages").await.expect(200);
    tenant.api.delete(&member).await.expect(204);
    ann.api.get("/v1/messages").await.expect(403);
    let user = format!("/v1/users/{}", ann.id);
    api.root()
        .patch(&user, json!({"disabled": true}))
        .await
        .expect(200);
    ann.api.get("/v1/auth/me").await.expect(401);
    api.root()
        .patch(&user, json!({"disabled": false}))
        .await
        .expect(200);
    ann.api.get("/v1/auth/me").await.expect(401);
    api.stop().await;
}

#[tokio::test]
async fn roles_are_sets_of_scopes_and_a_tenant_without_a_role_is_not_found() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let message = json!({"event_type": "a.b", "payload": {}});
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    for (role, read, send, manage, admin) in [
        ("viewer", 200, 403, 403, 403),
        ("operator", 200, 201, 201, 403),
        ("admin", 200, 201, 201, 200),
    ] {
        let roles = json!({"memberships": [{"tenant_id": tenant.id, "role": role}]});
        let Person { api: ann, .. } = person(&api, roles).await;
        ann.get("/v1/messages").await.expect(read);
        ann.post("/v1/messages", message.clone()).await.expect(send);
        let endpoint = json!({"url": "https://example.com/hooks"});
        ann.post("/v1/endpoints", endpoint).await.expect(manage);
        ann.get(&keys).await.expect(admin);
        ann.get("/v1/users").await.expect(403);
        ann.get("/v1/tenants").await.expect(403);
        for nobody in [
            other.id.as_str(),
            "ten_00000000000000000000000000",
            "nonsense",
        ] {
            let refused = ann.header("x-tenant-id", nobody).get("/v1/messages").await;
            assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
            let path = format!("/v1/tenants/{nobody}/api-keys");
            let refused = ann.get(&path).await;
            assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
            // Before anything of the body is looked at.
            let refused = ann.post(&path, json!({})).await;
            assert_eq!(refused.faults(404, "not_found"), [""; 0], "{refused}");
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn who_has_roles_in_several_tenants_names_one() {
    let api = api().await;
    let (one, two) = (api.tenant().await, api.tenant().await);
    let roles = json!({"memberships": [
        {"tenant_id": one.id, "role": "viewer"},
        {"tenant_id": two.id, "role": "admin"},
    ]});
    let ann = person(&api, roles).await;
    let refused = ann.api.get("/v1/messages").await;
    assert_eq!(refused.faults(400, "tenant_required"), [""; 0], "{refused}");
    let message = json!({"event_type": "a.b", "payload": {}});
    for (tenant, status) in [(&one.id, 403), (&two.id, 201)] {
        let named = ann.api.header("x-tenant-id", tenant);
        named
            .post("/v1/messages", message.clone())
            .await
            .expect(status);
    }
    let me = ann.api.get("/v1/auth/me").await.expect(200);
    assert_eq!(me["memberships"].as_array().unwrap().len(), 2, "{me}");
    assert_eq!(me["email"], ann.email);

    let boss = person(&api, json!({"platform": true})).await;
    boss.api.get("/v1/tenants").await.expect(200);
    boss.api.get("/v1/messages").await.expect(400);
    let named = boss.api.header("x-tenant-id", &two.id);
    let seen = named.get("/v1/messages").await.expect(200);
    assert_eq!(seen["data"].as_array().unwrap().len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn what_is_for_people_is_not_for_keys() {
    let api = api().await;
    let tenant = api.tenant().await;
    for client in [&tenant.api, &api.root()] {
        let refused = client.get("/v1/auth/me").await;
        assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
        client
            .send(Method::POST, "/v1/auth/logout", None)
            .await
            .expect(403);
    }
    for nobody in [api.anonymous(), api.anonymous().key("a.b.c")] {
        nobody.get("/v1/auth/me").await.expect(401);
    }
    api.stop().await;
}

#[tokio::test]
async fn a_new_secret_in_front_signs_nobody_out() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let secrets = |text: &str| text.parse::<JwtSecrets>().unwrap();
    let (old, new) = (
        "an old secret of at least 32 bytes",
        "a new secret that has 32 bytes as well",
    );
    let with = |secrets: JwtSecrets| {
        api.elsewhere_with(&api.anonymous(), |settings| {
            settings.auth.jwt_secrets = secrets
        })
    };
    let before = sign_in(&with(secrets(old)), &ann.email, PASSWORD)
        .await
        .expect(200);
    let access = before["access_token"].as_str().unwrap();
    let both = with(secrets(&format!("{new},{old}")));
    both.key(access).get("/v1/auth/me").await.expect(200);
    let only_new = with(secrets(new));
    only_new.key(access).get("/v1/auth/me").await.expect(401);
    let after = refresh(&both, &before["refresh_token"]).await.expect(200);
    let access = after["access_token"].as_str().unwrap();
    only_new.key(access).get("/v1/auth/me").await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn of_the_tokens_only_hashes_are_stored() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let refresh = ann.tokens["refresh_token"].as_str().unwrap();
    let rows = refresh_token::Entity::find().all(&api.db).await.unwrap();
    assert_eq!((rows.len(), rows[0].token_hash.len()), (1, 32));
    let sessions = session::Entity::find().all(&api.db).await.unwrap();
    let dump = format!("{rows:?}{sessions:?}");
    assert!(!dump.contains(&refresh[4..]), "{dump}");
    api.stop().await;
}

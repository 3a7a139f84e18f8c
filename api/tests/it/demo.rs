//! The demo: anybody signs in, in development only.

use futures::future::join_all;
use relaypost_shared::{
    entities::{membership, tenant, user},
    settings::{AppEnv, Settings},
};
use serde_json::json;

use crate::{Api, api};

#[tokio::test]
async fn each_user_of_the_demo_signs_in_with_their_role_and_is_made_once() {
    let api = api().await;
    for (name, role) in [
        ("admin", "admin"),
        ("alice", "operator"),
        ("bob", "viewer"),
        ("moderator", "operator"),
    ] {
        let path = format!("/auth/demo?user={name}&tenant=Acme");
        let client = api.anonymous();
        let answers = join_all((0..4).map(|_| client.get(&path))).await;
        for answer in answers {
            let tokens = answer.expect(200);
            let client = api
                .anonymous()
                .key(tokens["access_token"].as_str().unwrap());
            let me = client.get("/v1/auth/me").await.expect(200);
            assert_eq!(me["name"], name);
            let roles = me["memberships"].as_array().unwrap();
            assert_eq!(roles.len(), 1, "{me}");
            assert_eq!(
                (&roles[0]["role"], &roles[0]["tenant_name"]),
                (&json!(role), &json!("Acme"))
            );
            client.get("/v1/messages").await.expect(200);
        }
    }
    // With Relaypost's own.
    assert_eq!(api.count::<tenant::Entity>().await, 2);
    assert_eq!(api.count::<user::Entity>().await, 4);
    assert_eq!(api.count::<membership::Entity>().await, 4);
    api.anonymous().get("/auth/demo?user=bob").await.expect(200);
    assert_eq!(api.count::<tenant::Entity>().await, 3);
    for query in [
        "",
        "?user=king",
        "?user=bob&tenant=",
        "?user=bob&tenant=a%00",
        "?user=bob&other=1",
    ] {
        let refused = api.anonymous().get(&format!("/auth/demo{query}")).await;
        assert_eq!(
            refused.faults(400, "invalid_parameter"),
            [""; 0],
            "{refused}"
        );
    }
    api.stop().await;
}

#[tokio::test]
async fn nobody_becomes_a_member_of_relaypost_itself() {
    let api = api().await;
    let tokens = api
        .anonymous()
        .get("/auth/demo?user=admin&tenant=Relaypost")
        .await
        .expect(200);
    let client = api
        .anonymous()
        .key(tokens["access_token"].as_str().unwrap());
    let me = client.get("/v1/auth/me").await.expect(200);
    let own = relaypost_shared::ids::TenantId::OWN.to_string();
    assert_ne!(me["memberships"][0]["tenant_id"], own);
    api.stop().await;
}

#[tokio::test]
async fn there_is_no_demo_where_it_is_switched_off_nor_in_production_even_if_switched_on() {
    let off = |settings: &mut Settings| settings.auth.demo_mode = false;
    // The settings refuse this one; the code does not rely on it.
    let production = |settings: &mut Settings| {
        settings.env = AppEnv::Production;
        settings.auth.demo_mode = true;
    };
    for change in [off, production] {
        let api = Api::with_changed(change).await;
        let refused = api
            .anonymous()
            .get("/auth/demo?user=admin&tenant=demo")
            .await;
        assert_eq!(refused.faults(404, "route_not_found"), [""; 0], "{refused}");
        assert_eq!(api.count::<user::Entity>().await, 0);
        api.stop().await;
    }
}

#[tokio::test]
async fn a_session_of_the_demo_ends_where_there_is_no_demo() {
    let api = api().await;
    let path = "/auth/demo?user=admin&tenant=Acme";
    let tokens = api.anonymous().get(path).await.expect(200);
    let client = api
        .anonymous()
        .key(tokens["access_token"].as_str().unwrap());
    client.get("/v1/messages").await.expect(200);
    // The same database, in production or with the demo switched off.
    let off = |settings: &mut Settings| settings.auth.demo_mode = false;
    let elsewhere = api.elsewhere_with(&client, off);
    elsewhere.get("/v1/messages").await.expect(401);
    elsewhere.get("/v1/auth/me").await.expect(401);
    let refresh = json!({"refresh_token": tokens["refresh_token"]});
    let anonymous = api.elsewhere_with(&api.anonymous(), off);
    anonymous
        .post("/v1/auth/refresh", refresh)
        .await
        .expect(401);
    api.stop().await;
}

#[tokio::test]
async fn a_name_of_the_web_that_leads_here_signs_nobody_in() {
    let api = api().await;
    let path = "/auth/demo?user=admin";
    let named = async |host: &str| api.anonymous().header("host", host).get(path).await;
    for ours in [
        "localhost:3000",
        "127.0.0.1:3000",
        "[::1]:3000",
        "api:3000",
        "a.localhost",
    ] {
        named(ours).await.expect(200);
    }
    for foreign in [
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
    ] {
        let refused = named(foreign).await;
        assert_eq!(refused.faults(404, "route_not_found"), [""; 0], "{refused}");
    }
    api.stop().await;
}

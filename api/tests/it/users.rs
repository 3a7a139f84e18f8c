//! Users, as the operator of the platform makes and changes them.

use relaypost_shared::entities::{audit_log, idempotency_key, user};
use sea_orm::EntityTrait as _;
use serde_json::json;

use crate::{
    api, id,
    sign_in::{PASSWORD, person, sign_in},
    support::ids,
};

#[tokio::test]
async fn a_user_is_created_shown_changed_and_deleted() {
    let api = api().await;
    let tenant = api.tenant().await;
    let new = json!({"email": "Ann@Example.Test", "name": "Ann", "password": PASSWORD,
        "memberships": [{"tenant_id": tenant.id, "role": "operator"}]});
    let created = api.root().post("/v1/users", new).await.expect(201);
    assert_eq!(created["email"], "ann@example.test");
    assert_eq!(
        created["memberships"][0],
        json!({"tenant_id": tenant.id, "role": "operator"})
    );
    assert_eq!(
        (&created["has_password"], &created["platform"]),
        (&json!(true), &json!(false))
    );
    let path = format!("/v1/users/{}", id(&created));
    assert_eq!(api.root().get(&path).await.expect(200), created);
    let listed = api.root().get("/v1/users").await.expect(200);
    assert_eq!(listed["data"][0], created);

    for field in ["password", "platform", "disabled"] {
        let refused = api.root().patch(&path, json!({ field: null })).await;
        assert_eq!(refused.faults(422, "validation_failed"), [""; 0]);
    }
    let changed = api
        .root()
        .patch(&path, json!({"name": null, "platform": true}))
        .await
        .expect(200);
    assert_eq!(
        (changed.get("name"), &changed["platform"]),
        (None, &json!(true))
    );
    let tokens = sign_in(&api.anonymous(), "ann@example.test", PASSWORD)
        .await
        .expect(200);
    let ann = api
        .anonymous()
        .key(tokens["access_token"].as_str().unwrap());
    ann.get("/v1/users").await.expect(200);
    api.root()
        .patch(&path, json!({"platform": false}))
        .await
        .expect(200);
    ann.get("/v1/users").await.expect(403);

    api.root().delete(&path).await.expect(204);
    ann.get("/v1/auth/me").await.expect(401);
    for answer in [
        api.root().get(&path).await,
        api.root().delete(&path).await,
        api.root().patch(&path, json!({})).await,
    ] {
        assert_eq!(answer.faults(404, "not_found"), [""; 0], "{answer}");
    }
    sign_in(&api.anonymous(), "ann@example.test", PASSWORD)
        .await
        .expect(401);
    api.stop().await;
}

#[tokio::test]
async fn one_address_is_one_users_whatever_its_letters() {
    let api = api().await;
    let new = |email: &str| json!({"email": email});
    api.root()
        .post("/v1/users", new("ann@example.test"))
        .await
        .expect(201);
    let refused = api.root().post("/v1/users", new("ANN@example.TEST")).await;
    assert_eq!(refused.faults(409, "user_exists"), [""; 0], "{refused}");
    assert_eq!(api.count::<user::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn a_user_that_will_not_do_is_refused_and_leaves_nothing_behind() {
    let api = api().await;
    let tenant = api.tenant().await;
    let role = json!({"tenant_id": tenant.id, "role": "viewer"});
    let nowhere = json!({"tenant_id": "ten_00000000000000000000000000", "role": "viewer"});
    for (path, new) in [
        ("email", json!({"email": "nobody"})),
        ("email", json!({"email": "Ann <ann@example.test>"})),
        ("name", json!({"email": "a@example.test", "name": "a\nb"})),
        (
            "password",
            json!({"email": "a@example.test", "password": "short"}),
        ),
        (
            "password",
            json!({"email": "ann.lee@example.test", "password": "Ann.Lee@example.test"}),
        ),
        (
            "password",
            json!({"email": "a@example.test", "password": "x".repeat(129)}),
        ),
        (
            "memberships",
            json!({"email": "a@example.test", "memberships": [role, role]}),
        ),
        (
            "memberships[1].tenant_id",
            json!({"email": "a@example.test", "memberships": [role, nowhere]}),
        ),
        (
            "memberships[0].role",
            json!({"email": "a@example.test", "memberships": [{"tenant_id": tenant.id, "role": "king"}]}),
        ),
    ] {
        let refused = api.root().post("/v1/users", new).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], path, "{refused}");
    }
    assert_eq!(api.count::<user::Entity>().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn a_password_set_by_an_administrator_signs_out_and_is_repeated_nowhere() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let path = format!("/v1/users/{}", ann.id);
    let new = "a wholly new password";
    let changed = api.root().patch(&path, json!({"password": new})).await;
    assert!(
        !String::from_utf8_lossy(&changed.bytes).contains(new),
        "{changed}"
    );
    changed.expect(200);
    ann.api.get("/v1/auth/me").await.expect(401);
    sign_in(&api.anonymous(), &ann.email, PASSWORD)
        .await
        .expect(401);
    sign_in(&api.anonymous(), &ann.email, new).await.expect(200);
    let keyed = api.root().header("idempotency-key", "a");
    let user = json!({"email": "bob@example.test", "password": new});
    keyed.post("/v1/users", user).await.expect(400);
    assert_eq!(api.count::<idempotency_key::Entity>().await, 0);
    let log = audit_log::Entity::find().all(&api.db).await.unwrap();
    assert!(!format!("{log:?}").contains(new));
    api.stop().await;
}

#[tokio::test]
async fn users_are_listed_in_pages_newest_first() {
    let api = api().await;
    let mut made = Vec::new();
    for number in 0..3 {
        let new = json!({"email": format!("user{number}@example.test")});
        made.push(id(&api.root().post("/v1/users", new).await.expect(201)));
    }
    made.reverse();
    let first = api.root().get("/v1/users?limit=2").await.expect(200);
    assert_eq!(ids(&first["data"]), made[..2]);
    let next = first["next_cursor"].as_str().unwrap();
    let second = api
        .root()
        .get(&format!("/v1/users?limit=2&cursor={next}"))
        .await
        .expect(200);
    assert_eq!(ids(&second["data"]), made[2..]);
    assert_eq!(second["next_cursor"], json!(null));
    api.stop().await;
}

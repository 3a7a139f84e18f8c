//! Signing in with address and password.

use relaypost_shared::entities::user;
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, Set};
use serde_json::{Value, json};

use crate::{Answer, Api, api, id, support::Client};

pub(crate) const PASSWORD: &str = "correct horse battery";

/// Somebody who has signed in.
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) tokens: Value,
    pub(crate) api: Client,
}

/// Creates a user with these fields besides address and password.
pub(crate) async fn user(api: &Api, fields: Value) -> (String, String) {
    let number = api.count::<user::Entity>().await;
    let email = format!("ann.{number}@example.test");
    let mut new = json!({"email": email, "password": PASSWORD});
    for (name, value) in fields.as_object().unwrap() {
        new[name] = value.clone();
    }
    (
        id(&api.root().post("/v1/users", new).await.expect(201)),
        email,
    )
}

/// Creates a user and signs them in.
pub(crate) async fn person(api: &Api, fields: Value) -> Person {
    let (id, email) = user(api, fields).await;
    let tokens = sign_in(&api.anonymous(), &email, PASSWORD)
        .await
        .expect(200);
    Person {
        api: api
            .anonymous()
            .key(tokens["access_token"].as_str().unwrap()),
        id,
        email,
        tokens,
    }
}

pub(crate) async fn sign_in(client: &Client, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    client.post("/v1/auth/login", body).await
}

#[tokio::test]
async fn the_right_password_signs_in_whatever_the_letters_of_the_address() {
    let api = api().await;
    let (id, email) = user(&api, json!({"name": "Ann"})).await;
    let tokens = sign_in(&api.anonymous(), &email.to_uppercase(), PASSWORD)
        .await
        .expect(200);
    assert_eq!(
        (
            &tokens["token_type"],
            &tokens["expires_in"],
            &tokens["session_expires_in"]
        ),
        (&json!("Bearer"), &json!(900), &json!(2_592_000))
    );
    let client = api
        .anonymous()
        .key(tokens["access_token"].as_str().unwrap());
    let me = client.get("/v1/auth/me").await.expect(200);
    assert_eq!(
        (&me["id"], &me["name"], &me["platform"]),
        (&json!(id), &json!("Ann"), &json!(false))
    );
    let user = api.root().get(&format!("/v1/users/{id}")).await.expect(200);
    assert_eq!(user["last_signed_in_at"], "2026-01-31T09:30:00.000Z");
    api.stop().await;
}

#[tokio::test]
async fn an_unknown_address_no_password_and_a_wrong_password_are_one_answer_for_the_same_work() {
    let api = api().await;
    let (_, known) = user(&api, json!({})).await;
    let without = json!({"email": "without@example.test"});
    api.root().post("/v1/users", without).await.expect(201);
    let mut answers = Vec::new();
    for email in [
        known.as_str(),
        "without@example.test",
        "unknown@example.test",
    ] {
        let before = api.passwords_hashed();
        let refused = sign_in(&api.anonymous(), email, "not the password").await;
        assert_eq!(
            refused.faults(401, "invalid_credentials"),
            [""; 0],
            "{refused}"
        );
        answers.push((
            api.passwords_hashed() - before,
            refused.body["detail"].clone(),
            refused.headers["www-authenticate"].clone(),
        ));
    }
    assert_eq!(answers[0].0, 1);
    assert!(answers.iter().all(|one| *one == answers[0]), "{answers:?}");
    api.stop().await;
}

#[tokio::test]
async fn an_unknown_address_costs_what_users_cost_after_the_settings_have_changed_too() {
    let api = api().await;
    let (_, known) = user(&api, json!({})).await;
    // As users are whose passwords were stored under other settings, and have not signed in since.
    let row = user::Entity::find().one(&api.db).await.unwrap().unwrap();
    let old = row.password_hash.as_ref().unwrap();
    let stored = old.replace("m=64,t=1", "m=256,t=2");
    assert_ne!(old, &stored);
    let mut row = row.into_active_model();
    row.password_hash = Set(Some(stored));
    row.update(&api.db).await.unwrap();
    for email in [known.as_str(), "a@example.test", "unknown@example.test"] {
        let before = api.passwords_filled();
        sign_in(&api.anonymous(), email, "not the password")
            .await
            .expect(401);
        assert_eq!(api.passwords_filled() - before, 512, "{email}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_password_is_stored_as_argon2id_and_hashed_anew_when_the_settings_have_changed() {
    let api = api().await;
    let (_, email) = user(&api, json!({})).await;
    let stored = async || {
        user::Entity::find()
            .one(&api.db)
            .await
            .unwrap()
            .unwrap()
            .password_hash
            .unwrap()
    };
    let before = stored().await;
    assert!(
        before.starts_with("$argon2id$v=19$m=64,t=1,p=1$"),
        "{before}"
    );
    sign_in(&api.anonymous(), &email, PASSWORD)
        .await
        .expect(200);
    assert_eq!(stored().await, before);
    let stronger = api.elsewhere_with(&api.anonymous(), |settings| {
        settings.auth.argon2.memory_kib = 128;
    });
    sign_in(&stronger, &email, "not the password")
        .await
        .expect(401);
    assert_eq!(stored().await, before);
    sign_in(&stronger, &email, PASSWORD).await.expect(200);
    assert!(stored().await.starts_with("$argon2id$v=19$m=128,t=1,p=1$"));
    sign_in(&api.anonymous(), &email, PASSWORD)
        .await
        .expect(200);
    api.stop().await;
}

#[tokio::test]
async fn what_is_no_sign_in_is_refused_before_any_work_is_done() {
    let api = api().await;
    for body in [
        json!({}),
        json!({"email": "nobody", "password": PASSWORD}),
        json!({"email": "Ann <a@example.test>", "password": PASSWORD}),
        json!({"email": "a\u{0}@example.test", "password": PASSWORD}),
        json!({"email": "a@example.test"}),
        json!({"email": "a@example.test", "password": PASSWORD, "remember": true}),
    ] {
        let refused = api.anonymous().post("/v1/auth/login", body).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
    }
    let keyed = api.anonymous().header("idempotency-key", "a");
    sign_in(&keyed, "a@example.test", PASSWORD)
        .await
        .expect(400);
    assert_eq!(api.passwords_hashed(), 0);
    api.stop().await;
}

#[tokio::test]
async fn a_disabled_user_does_not_sign_in_and_only_the_right_password_tells() {
    let api = api().await;
    let (id, email) = user(&api, json!({})).await;
    let user = format!("/v1/users/{id}");
    api.root()
        .patch(&user, json!({"disabled": true}))
        .await
        .expect(200);
    sign_in(&api.anonymous(), &email, "not the password")
        .await
        .expect(401);
    let refused = sign_in(&api.anonymous(), &email, PASSWORD).await;
    assert_eq!(refused.faults(403, "user_disabled"), [""; 0], "{refused}");
    api.root()
        .patch(&user, json!({"disabled": false}))
        .await
        .expect(200);
    sign_in(&api.anonymous(), &email, PASSWORD)
        .await
        .expect(200);
    api.stop().await;
}

#[tokio::test]
async fn who_changes_their_password_stays_and_is_signed_out_elsewhere() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    let other = sign_in(&api.anonymous(), &ann.email, PASSWORD)
        .await
        .expect(200);
    let other = api.anonymous().key(other["access_token"].as_str().unwrap());
    let change = async |current: &str, new: &str| {
        let body = json!({"current": current, "new": new});
        ann.api.post("/v1/auth/password", body).await
    };
    for (current, new) in [
        ("not the password", "a wholly new password"),
        (PASSWORD, "short"),
        (PASSWORD, PASSWORD),
        (PASSWORD, ann.email.to_uppercase().as_str()),
        (PASSWORD, "x".repeat(129).as_str()),
    ] {
        let refused = change(current, new).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
    }
    change(PASSWORD, "a wholly new password").await.expect(204);
    ann.api.get("/v1/auth/me").await.expect(200);
    other.get("/v1/auth/me").await.expect(401);
    sign_in(&api.anonymous(), &ann.email, PASSWORD)
        .await
        .expect(401);
    sign_in(&api.anonymous(), &ann.email, "a wholly new password")
        .await
        .expect(200);
    api.stop().await;
}

//! The lock after failed sign-ins.

use futures::future::join_all;
use poem::http::Method;
use relaypost_shared::entities::sign_in_attempt;
use serde_json::json;

use crate::{
    api,
    sign_in::{PASSWORD, sign_in, user},
};

const WRONG: &str = "not the password";

#[tokio::test]
async fn the_fifth_failure_locks_the_address_known_or_not_for_a_quarter_of_an_hour() {
    let api = api().await;
    let (_, known) = user(&api, json!({})).await;
    for email in [known.as_str(), "unknown@example.test"] {
        for _ in 0..5 {
            sign_in(&api.anonymous(), email, WRONG).await.expect(401);
        }
        let before = api.passwords_hashed();
        // In other letters, and with the right password.
        let refused = sign_in(&api.anonymous(), &email.to_uppercase(), PASSWORD).await;
        assert_eq!(refused.faults(429, "sign_in_locked"), [""; 0], "{refused}");
        assert_eq!(refused.headers["retry-after"], "901");
        assert_eq!(refused.body["retryable"], true);
        assert_eq!(
            api.passwords_hashed(),
            before,
            "a locked address costs no hashing"
        );
    }
    api.advance(899);
    sign_in(&api.anonymous(), &known, PASSWORD)
        .await
        .expect(429);
    api.advance(1);
    sign_in(&api.anonymous(), &known, PASSWORD)
        .await
        .expect(200);
    let log = api.root().get("/v1/audit-log?limit=100").await.expect(200);
    let count = |action: &str| {
        let entries = log["data"].as_array().unwrap().iter();
        entries.filter(|entry| entry["action"] == action).count()
    };
    assert_eq!(
        (count("sign_in.failed"), count("sign_in.locked")),
        (10, 2),
        "{log}"
    );
    api.stop().await;
}

#[tokio::test]
async fn of_many_guesses_at_once_in_two_processes_no_more_are_looked_at_than_allowed() {
    let api = api().await;
    let (_, email) = user(&api, json!({})).await;
    let here = api.anonymous();
    let there = api.elsewhere(&here);
    let guesses = (0..40).map(|n| sign_in(if n % 2 == 0 { &here } else { &there }, &email, WRONG));
    let answers = join_all(guesses).await;
    let looked_at = answers.iter().filter(|answer| answer.status == 401).count();
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert_eq!((looked_at, refused), (5, 35));
    sign_in(&here, &email, PASSWORD).await.expect(429);
    api.stop().await;
}

#[tokio::test]
async fn the_last_attempt_allowed_may_be_the_right_one_and_counts_all_back() {
    let api = api().await;
    let (_, email) = user(&api, json!({})).await;
    for _ in 0..2 {
        for _ in 0..4 {
            sign_in(&api.anonymous(), &email, WRONG).await.expect(401);
        }
        sign_in(&api.anonymous(), &email, PASSWORD)
            .await
            .expect(200);
        assert_eq!(api.count::<sign_in_attempt::Entity>().await, 0);
    }
    api.stop().await;
}

#[tokio::test]
async fn failures_count_for_the_window_only() {
    let api = api().await;
    let (_, email) = user(&api, json!({})).await;
    for _ in 0..2 {
        for _ in 0..4 {
            sign_in(&api.anonymous(), &email, WRONG).await.expect(401);
        }
        api.advance(15 * 60);
    }
    sign_in(&api.anonymous(), &email, PASSWORD)
        .await
        .expect(200);
    api.stop().await;
}

#[tokio::test]
async fn an_administrator_of_the_platform_or_of_the_tenant_unlocks_and_it_is_written_down() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let roles = json!({"memberships": [{"tenant_id": tenant.id, "role": "viewer"}]});
    let (id, email) = user(&api, roles).await;
    let by_platform = format!("/v1/users/{id}/unlock");
    let by_tenant = format!("/v1/tenants/{}/members/{id}/unlock", tenant.id);
    for (client, path) in [(&api.root(), &by_platform), (&tenant.api, &by_tenant)] {
        for _ in 0..5 {
            sign_in(&api.anonymous(), &email, WRONG).await.expect(401);
        }
        sign_in(&api.anonymous(), &email, PASSWORD)
            .await
            .expect(429);
        other
            .api
            .send(Method::POST, &by_platform, None)
            .await
            .expect(403);
        other
            .api
            .send(Method::POST, &by_tenant, None)
            .await
            .expect(404);
        let elsewhere = by_tenant.replace(&tenant.id, &other.id);
        other
            .api
            .send(Method::POST, &elsewhere, None)
            .await
            .expect(404);
        client.send(Method::POST, path, None).await.expect(204);
        // Twice is once.
        client.send(Method::POST, path, None).await.expect(204);
        sign_in(&api.anonymous(), &email, PASSWORD)
            .await
            .expect(200);
    }
    let log = api
        .root()
        .get("/v1/audit-log?action=sign_in.unlocked")
        .await
        .expect(200);
    assert_eq!(log["data"].as_array().unwrap().len(), 2, "{log}");
    assert_eq!(log["data"][0]["tenant_id"], tenant.id);
    assert_eq!(log["data"][1]["actor"], "platform");
    api.stop().await;
}

#[tokio::test]
async fn an_administrator_who_adds_somebody_who_was_there_before_cannot_unlock_them() {
    let api = api().await;
    let (tenant, attacker) = (api.tenant().await, api.tenant().await);
    let members = format!("/v1/tenants/{}/members", attacker.id);
    let role = json!({"memberships": [{"tenant_id": tenant.id, "role": "viewer"}]});
    for fields in [role, json!({"platform": true}), json!({})] {
        let (id, email) = user(&api, fields).await;
        let add = json!({"email": email, "role": "viewer"});
        api.advance(1);
        attacker.api.post(&members, add).await.expect(201);
        for _ in 0..5 {
            sign_in(&api.anonymous(), &email, WRONG).await.expect(401);
        }
        let unlock = format!("{members}/{id}/unlock");
        let refused = attacker.api.send(Method::POST, &unlock, None).await;
        assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
        sign_in(&api.anonymous(), &email, PASSWORD)
            .await
            .expect(429);
        api.root()
            .send(Method::POST, &unlock, None)
            .await
            .expect(204);
        sign_in(&api.anonymous(), &email, PASSWORD)
            .await
            .expect(200);
    }
    api.stop().await;
}

//! The members of a tenant.

use relaypost_shared::entities::membership;
use serde_json::json;

use crate::{
    api,
    sign_in::{person, user},
};

#[tokio::test]
async fn an_administrator_adds_changes_and_removes_members_of_their_own_tenant_only() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let members = format!("/v1/tenants/{}/members", tenant.id);
    let (known, email) = user(&api, json!({})).await;
    let add = |email: &str, role: &str| json!({"email": email, "role": role});
    let added = tenant
        .api
        .post(&members, add(&email.to_uppercase(), "viewer"))
        .await
        .expect(201);
    assert_eq!(
        (&added["user_id"], &added["role"]),
        (&json!(known), &json!("viewer"))
    );
    // Whether there is such a user is not told.
    let new = tenant
        .api
        .post(&members, add("new@example.test", "admin"))
        .await
        .expect(201);
    assert_eq!(new["email"], "new@example.test");
    tenant
        .api
        .post(&members, add(&email, "operator"))
        .await
        .expect(201);
    let listed = tenant.api.get(&members).await.expect(200);
    let roles: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["role"])
        .collect();
    assert_eq!(roles, ["admin", "operator"], "{listed}");

    let member = format!("{members}/{known}");
    for (path, status) in [(&member, 404), (&members, 404)] {
        other.api.get(&members).await.expect(status);
        other.api.delete(&member).await.expect(status);
        other
            .api
            .put(&member, json!({"role": "admin"}))
            .await
            .expect(status);
        other
            .api
            .post(path, add(&email, "admin"))
            .await
            .faults(status, "not_found");
    }
    // Nor does the other tenant learn by its own list who there is.
    let probe = format!("/v1/tenants/{}/members/{known}", other.id);
    for answer in [
        other.api.put(&probe, json!({"role": "admin"})).await,
        other.api.delete(&probe).await,
    ] {
        assert_eq!(answer.faults(404, "not_found"), [""; 0], "{answer}");
    }
    let changed = tenant
        .api
        .put(&member, json!({"role": "viewer"}))
        .await
        .expect(200);
    assert_eq!(changed["role"], "viewer");
    tenant
        .api
        .put(&member, json!({"role": "king"}))
        .await
        .expect(422);
    tenant.api.delete(&member).await.expect(204);
    tenant.api.delete(&member).await.expect(404);
    let listed = tenant.api.get(&members).await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn members_are_managed_by_the_role_admin_alone_and_their_acts_carry_their_names() {
    let api = api().await;
    let tenant = api.tenant().await;
    let members = format!("/v1/tenants/{}/members", tenant.id);
    let with = |role: &str| json!({"memberships": [{"tenant_id": tenant.id, "role": role}]});
    for role in ["viewer", "operator"] {
        let person = person(&api, with(role)).await;
        let refused = person.api.get(&members).await;
        assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
        person.api.post(&members, json!({})).await.expect(403);
    }
    let ann = person(&api, with("admin")).await;
    let bob = json!({"email": "bob@example.test", "role": "viewer"});
    let bob = ann.api.post(&members, bob).await.expect(201);
    let path = format!("/v1/audit-log?action=member.added&actor={}", ann.id);
    let log = ann.api.get(&path).await.expect(200);
    let entry = &log["data"][0];
    assert_eq!(
        (&entry["actor"], &entry["target"], &entry["tenant_id"]),
        (&json!(ann.id), &bob["user_id"], &json!(tenant.id)),
        "{log}"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_role_that_somebody_gives_to_the_platform_does_not_become_its_tenant() {
    let api = api().await;
    let tenant = api.tenant().await;
    let person = person(&api, json!({"platform": true})).await;
    let members = format!("/v1/tenants/{}/members", tenant.id);
    let add = json!({"email": person.email, "role": "viewer"});
    tenant.api.post(&members, add).await.expect(201);
    let endpoint = json!({"url": "https://example.com/hooks"});
    let refused = person.api.post("/v1/endpoints", endpoint).await;
    assert_eq!(refused.faults(400, "tenant_required"), [""; 0], "{refused}");
    let named = person.api.header("x-tenant-id", &tenant.id);
    named.get("/v1/endpoints").await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn who_is_changed_and_deleted_at_once_is_changed_or_not_found() {
    let api = api().await;
    let tenant = api.tenant().await;
    for _ in 0..20 {
        let roles = json!({"memberships": [{"tenant_id": tenant.id, "role": "viewer"}]});
        let (id, _) = user(&api, roles).await;
        let member = format!("/v1/tenants/{}/members/{id}", tenant.id);
        let path = format!("/v1/users/{id}");
        let (root, change) = (api.root(), json!({"role": "operator"}));
        let (changed, removed, deleted) = tokio::join!(
            tenant.api.put(&member, change),
            tenant.api.delete(&member),
            root.delete(&path),
        );
        assert!([200, 404].contains(&changed.status), "{changed}");
        assert!([204, 404].contains(&removed.status), "{removed}");
        assert_eq!(deleted.status, 204, "{deleted}");
        api.root().get(&path).await.expect(404);
    }
    assert_eq!(api.count::<membership::Entity>().await, 0);
    api.stop().await;
}

//! The audit log as it is read.

use poem::http::Method;
use serde_json::json;

use crate::{
    api,
    sign_in::{PASSWORD, person, sign_in},
};

#[tokio::test]
async fn a_tenant_reads_its_own_entries_and_the_platform_all() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    for of in [&tenant, &other] {
        let members = format!("/v1/tenants/{}/members", of.id);
        let new = json!({"email": format!("{}@example.test", of.id), "role": "viewer"});
        of.api.post(&members, new).await.expect(201);
    }
    let added = "/v1/audit-log?action=member.added";
    let own = tenant.api.get(added).await.expect(200);
    let entries = own["data"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "{own}");
    assert_eq!(entries[0]["tenant_id"], tenant.id);
    assert_eq!(entries[0]["detail"], "role=viewer");
    assert_eq!(entries[0]["client_address"], "0.0.0.0");
    let all = api.root().get(added).await.expect(200);
    assert_eq!(all["data"].as_array().unwrap().len(), 2, "{all}");
    let named = api.root().header("x-tenant-id", &other.id);
    let others = named.get(added).await.expect(200);
    assert_eq!(others["data"].as_array().unwrap().len(), 1);
    // Those of the platform itself belong to no tenant.
    let made = "/v1/audit-log?action=tenant.created";
    let all = api.root().get(made).await.expect(200);
    assert_eq!(all["data"].as_array().unwrap().len(), 2, "{all}");
    let reader = api.key(&tenant.id, &["send", "read", "manage"]).await;
    let reader = api.anonymous().key(reader["key"].as_str().unwrap());
    reader.get("/v1/audit-log").await.expect(403);
    tenant
        .api
        .header("x-tenant-id", &other.id)
        .get("/v1/audit-log")
        .await
        .expect(403);
    api.stop().await;
}

#[tokio::test]
async fn signing_in_and_out_is_written_down_and_found_by_filters() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    sign_in(&api.anonymous(), &ann.email, "not the password")
        .await
        .expect(401);
    sign_in(&api.anonymous(), "unknown@example.test", PASSWORD)
        .await
        .expect(401);
    api.advance(60);
    ann.api
        .send(Method::POST, "/v1/auth/logout", None)
        .await
        .expect(204);
    let actions = async |query: &str| -> Vec<(String, String)> {
        let log = api
            .root()
            .get(&format!("/v1/audit-log{query}"))
            .await
            .expect(200);
        let entries = log["data"].as_array().unwrap().iter();
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        entries
            .map(|one| (word(&one["action"]), word(&one["actor"])))
            .collect()
    };
    let ann_did = |action: &str| (action.to_owned(), ann.id.clone());
    let nobody = ("sign_in.failed".to_owned(), "anonymous".to_owned());
    assert_eq!(
        actions("").await,
        [
            ann_did("session.ended"),
            nobody.clone(),
            nobody.clone(),
            ann_did("session.began"),
            ("user.created".to_owned(), "platform".to_owned()),
        ]
    );
    assert_eq!(
        actions("?since=2026-01-31T09:31:00Z").await,
        [ann_did("session.ended")]
    );
    assert_eq!(actions("?until=2026-01-31T09:31:00Z").await.len(), 4);
    assert_eq!(actions("?actor=anonymous").await, [nobody.clone(), nobody]);
    assert_eq!(
        actions("?action=session.began").await,
        [ann_did("session.began")]
    );
    assert_eq!(actions("?action=%00").await, []);
    let failed = api
        .root()
        .get("/v1/audit-log?action=sign_in.failed")
        .await
        .expect(200);
    // Who is known is named by their id; what may be a password in the wrong field is not written down.
    assert_eq!(failed["data"][1]["target"], ann.id);
    assert!(!failed.to_string().contains("unknown@"), "{failed}");
    api.stop().await;
}

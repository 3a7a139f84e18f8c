//! Secrets at rest: what is stored is sealed, and a lost key costs nothing else.

use chrono::TimeDelta;
use relaypost_migration::sealed;
use relaypost_shared::{
    entities::{Pairs, Texts, endpoint, endpoint_secret, idempotency_key, oauth_state},
    ids::{EmailId, OauthStateId},
    people::SignInMethod,
    secrets::{Keyring, Place, SEALED},
    store::fixtures::{email, email_body},
};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, sea_query::Expr,
};
use serde_json::{Value, json};

use crate::{Api, api, id};

const TOKEN: &str = "Bearer a-token-of-the-receiver";

fn keys(texts: &[&str]) -> Keyring {
    let keys: Vec<String> = texts.iter().map(|text| text.repeat(32)).collect();
    keys.join(",").parse().unwrap()
}

fn new_endpoint() -> Value {
    json!({"url": "https://example.com/", "headers": {"Authorization": TOKEN, "X-Own": "yes"}})
}

async fn stored(api: &Api) -> (endpoint::Model, endpoint_secret::Model) {
    let endpoint = endpoint::Entity::find().one(&api.db).await;
    let secret = endpoint_secret::Entity::find().one(&api.db).await;
    (endpoint.unwrap().unwrap(), secret.unwrap().unwrap())
}

#[tokio::test]
async fn secrets_are_stored_sealed_and_answered_in_clear_text() {
    let api = api().await;
    let tenant = api.tenant().await;
    let client = tenant.api.header("idempotency-key", "k");
    let created = client.post("/v1/endpoints", new_endpoint()).await;
    let again = client.post("/v1/endpoints", new_endpoint()).await;
    assert_eq!((created.status, again.status), (201, 200));
    assert_eq!(again.bytes, created.bytes, "the same answer again");
    assert_eq!(created.body["headers"]["Authorization"], TOKEN);

    let (endpoint, secret) = stored(&api).await;
    assert!(secret.secret.starts_with(SEALED), "{}", secret.secret);
    for (name, value) in &endpoint.headers.0 {
        assert!(value.starts_with(SEALED), "{name}: {value}");
    }
    let remembered = idempotency_key::Entity::find().one(&api.db).await;
    let remembered = remembered.unwrap().unwrap();
    assert!(remembered.sealed && remembered.response.starts_with(SEALED.as_bytes()));

    let path = format!("/v1/endpoints/{}", id(&created.body));
    let change = json!({"headers": {"Authorization": "Bearer another-token"}});
    let changed = tenant.api.patch(&path, change.clone()).await.expect(200);
    let shown = tenant.api.get(&path).await.expect(200);
    assert_eq!(
        (&changed["headers"], &shown["headers"]),
        (&change["headers"], &change["headers"])
    );
    let (endpoint, _) = stored(&api).await;
    assert!(endpoint.headers.0[0].1.starts_with(SEALED));

    // A message's answer holds no secret, and is remembered as it is.
    let message = json!({"event_type": "a.b", "payload": {}});
    client.post("/v1/messages", message).await.expect(201);
    let plain = idempotency_key::Entity::find()
        .filter(idempotency_key::Column::Sealed.eq(false))
        .all(&api.db)
        .await
        .unwrap();
    assert_eq!(plain.len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn a_text_in_clear_in_the_place_of_a_sealed_one_is_not_taken() {
    let api = api().await;
    let tenant = api.tenant().await;
    let created = tenant.api.post("/v1/endpoints", new_endpoint()).await;
    let path = format!("/v1/endpoints/{}/secret", id(&created.expect(201)));
    endpoint_secret::Entity::update_many()
        .col_expr(endpoint_secret::Column::Secret, Expr::value("whsec_known"))
        .exec(&api.db)
        .await
        .unwrap();
    let refused = tenant.api.get(&path).await;
    let faults = refused.faults(500, "secret_unreadable");
    assert!(faults.is_empty(), "{faults:?} {refused}");
    api.stop().await;
}

#[tokio::test]
async fn after_reseal_nothing_needs_the_old_key() {
    let api = api().await;
    let tenant = api.tenant().await;
    let (old, new) = (keys(&["0f"]), keys(&["aa"]));
    let both = keys(&["aa", "0f"]);
    let before = api
        .with_keys(&tenant.api, &old)
        .header("idempotency-key", "k");
    let created = before.post("/v1/endpoints", new_endpoint()).await;
    assert_eq!(created.status, 201);
    let (mail, state) = others(&api, &old).await;

    let lost = sealed::lost(&api.db, &new).await.unwrap();
    let id_of_old = old.ids().next().unwrap();
    assert_eq!(lost.0.len(), 1);
    assert_eq!(lost.0[id_of_old].len(), 5, "{lost}");
    assert!(lost.to_string().contains(id_of_old) && lost.to_string().contains("ENCRYPTION_KEYS"));
    assert!(sealed::lost(&api.db, &both).await.unwrap().0.is_empty());

    // With the old key gone there is nothing to be done, and everything stays as it was.
    sealed::reseal(&api.db, &new).await.unwrap_err();
    assert!(sealed::lost(&api.db, &both).await.unwrap().0.is_empty());

    sealed::reseal(&api.db, &both).await.unwrap();
    assert!(sealed::lost(&api.db, &new).await.unwrap().0.is_empty());
    let after = api
        .with_keys(&tenant.api, &new)
        .header("idempotency-key", "k");
    let again = after.post("/v1/endpoints", new_endpoint()).await;
    assert_eq!((again.status, &again.bytes), (200, &created.bytes));
    let path = format!("/v1/endpoints/{}", id(&created.body));
    let shown = after.get(&path).await.expect(200);
    assert_eq!(shown["headers"], created.body["headers"]);
    let read = after.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(read["secret"], created.body["secret"]);

    let row = email_body::Entity::find_by_id(mail).one(&api.db).await;
    let row = row.unwrap().unwrap();
    for (place, text) in [
        (Place::email_text(mail), row.text),
        (Place::email_html(mail), row.html),
    ] {
        assert_eq!(new.open_text(place, &text.unwrap()).unwrap(), "a link");
    }
    let row = oauth_state::Entity::find_by_id(state).one(&api.db).await;
    let secrets = row.unwrap().unwrap().secrets;
    assert_eq!(
        new.open_text(Place::oauth_secrets(state), &secrets)
            .unwrap(),
        "{}"
    );
    api.stop().await;
}

/// A sealed mail and a sign-in on its way.
async fn others(api: &Api, keys: &Keyring) -> (EmailId, OauthStateId) {
    let now = api.clock.now();
    let (mail, state) = (EmailId::generate(now), OauthStateId::generate(now));
    let row = email::Model {
        id: mail,
        tenant_id: relaypost_shared::ids::TenantId::OWN,
        sender: "a@example.test".into(),
        to_recipients: Texts::default(),
        cc_recipients: Texts::default(),
        bcc_recipients: Texts::default(),
        reply_to: None,
        subject: "Welcome".into(),
        headers: Pairs::default(),
        tags: Texts::default(),
        request_id: "req".into(),
        created_at: now,
        send_at: None,
    };
    row.into_active_model().insert(&api.db).await.unwrap();
    let body = email_body::Model {
        email_id: mail,
        sealed: true,
        text: Some(keys.seal(Place::email_text(mail), b"a link").unwrap()),
        html: Some(keys.seal(Place::email_html(mail), b"a link").unwrap()),
    };
    body.into_active_model().insert(&api.db).await.unwrap();
    let row = oauth_state::Model {
        id: state,
        state_hash: vec![1; 32],
        browser_hash: None,
        provider: SignInMethod::Github,
        secrets: keys.seal(Place::oauth_secrets(state), b"{}").unwrap(),
        return_to: None,
        user_id: None,
        created_at: now,
        expires_at: now + TimeDelta::minutes(10),
    };
    row.into_active_model().insert(&api.db).await.unwrap();
    (mail, state)
}

#[tokio::test]
async fn what_is_written_while_everything_is_sealed_anew_is_never_overwritten() {
    let api = api().await;
    let tenant = api.tenant().await;
    let old = api.with_keys(&tenant.api, &keys(&["0f"]));
    let both = keys(&["aa", "0f"]);
    let client = api.with_keys(&tenant.api, &both);
    let mut paths = Vec::new();
    for _ in 0..5 {
        let created = old.post("/v1/endpoints", new_endpoint()).await.expect(201);
        paths.push(format!("/v1/endpoints/{}", id(&created)));
    }
    for round in 0..10 {
        let changes = async {
            for path in &paths {
                let headers = json!({"headers": {"Authorization": format!("round-{round}")}});
                // By a process that still seals with the old key.
                old.patch(path, headers).await.expect(200);
            }
        };
        let (resealed, ()) = tokio::join!(sealed::reseal(&api.db, &both), changes);
        resealed.unwrap();
        for path in &paths {
            let shown = client.get(path).await.expect(200);
            assert_eq!(shown["headers"]["Authorization"], format!("round-{round}"));
        }
    }
    sealed::reseal(&api.db, &both).await.unwrap();
    let lost = sealed::lost(&api.db, &keys(&["aa"])).await.unwrap();
    assert!(lost.0.is_empty(), "{lost}");
    api.stop().await;
}

#[tokio::test]
async fn a_lost_key_is_told_of_by_a_code_of_its_own_and_spoils_no_other_endpoint() {
    let api = api().await;
    let tenant = api.tenant().await;
    let old = api.with_keys(&tenant.api, &keys(&["0f"]));
    let keyed = old.header("idempotency-key", "k");
    let lost = keyed
        .post("/v1/endpoints", new_endpoint())
        .await
        .expect(201);
    let client = api.with_keys(&tenant.api, &keys(&["aa"]));
    let fine = client
        .post("/v1/endpoints", new_endpoint())
        .await
        .expect(201);

    let path = format!("/v1/endpoints/{}", id(&lost));
    let replayed = client.header("idempotency-key", "k");
    let tested = client.post(&format!("{path}/test"), json!({})).await;
    for refused in [
        client.get(&path).await,
        client.get(&format!("{path}/secret")).await,
        replayed.post("/v1/endpoints", new_endpoint()).await,
        tested,
    ] {
        let faults = refused.faults(500, "secret_unreadable");
        assert!(faults.is_empty(), "{faults:?} {refused}");
    }
    let listed = client.get("/v1/endpoints").await.expect(200);
    let headers = |wanted: &Value| {
        let list = listed["data"].as_array().unwrap();
        let one = list.iter().find(|one| one["id"] == wanted["id"]).unwrap();
        one["headers"]["Authorization"].clone()
    };
    assert_eq!(
        (headers(&lost), headers(&fine)),
        (json!("[unreadable]"), json!(TOKEN))
    );
    client
        .get(&format!("/v1/endpoints/{}/secret", id(&fine)))
        .await
        .expect(200);
    client
        .post(&format!("{path}/pause"), json!({}))
        .await
        .expect(200);

    // What mends it needs no key.
    let rotate = json!({"grace_period_s": 0});
    client
        .post(&format!("{path}/secret/rotate"), rotate)
        .await
        .expect(200);
    client
        .patch(&path, json!({"headers": {"X-Own": "new"}}))
        .await
        .expect(200);
    client.get(&format!("{path}/secret")).await.expect(200);
    client.get(&path).await.expect(200);
    api.stop().await;
}

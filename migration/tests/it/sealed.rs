//! `relaypost-migrate check-sealed`: what it says of the sealed values of a restored database.

use chrono::DateTime;
use relaypost_migration::sealed;
use relaypost_shared::{
    db::Database,
    entities::oauth_state,
    ids::OauthStateId,
    people::SignInMethod,
    secrets::{Keyring, Place},
};
use sea_orm_migration::sea_orm::{
    ActiveModelTrait as _, ConnectionTrait as _, IntoActiveModel as _,
};

use crate::support::database;

async fn with_a_sealed_value(db: &Database, keys: &Keyring) {
    let now = DateTime::default();
    let id = OauthStateId::generate(now);
    let row = oauth_state::Model {
        id,
        state_hash: vec![1],
        browser_hash: None,
        provider: SignInMethod::Oidc,
        secrets: keys.seal(Place::oauth_secrets(id), b"secret").unwrap(),
        return_to: None,
        user_id: None,
        created_at: now,
        expires_at: now,
    };
    row.into_active_model().insert(db).await.unwrap();
}

#[tokio::test]
async fn sealed_values_that_open_pass_and_a_missing_key_is_named() {
    let (database, db) = database().await;
    let keys = Keyring::of_development();
    with_a_sealed_value(&db, &keys).await;
    sealed::check(&db, &keys).await.unwrap();

    let other: Keyring = "1f".repeat(32).parse().unwrap();
    let error = sealed::check(&db, &other).await.unwrap_err().to_string();
    let id = keys.ids().next().unwrap();
    assert!(
        error.contains(&format!("the key {id} is missing")),
        "{error}"
    );
    assert!(error.contains("oauth_states.secrets"), "{error}");
    db.close().await;
    database.drop_now().await;
}

#[tokio::test]
async fn a_sealed_value_that_was_changed_is_reported() {
    let (database, db) = database().await;
    let keys = Keyring::of_development();
    with_a_sealed_value(&db, &keys).await;
    db.execute_unprepared(
        "UPDATE oauth_states SET secrets = substr(secrets, 1, length(secrets) - 4)",
    )
    .await
    .unwrap();
    let error = sealed::check(&db, &keys).await.unwrap_err().to_string();
    assert!(error.contains("1 sealed texts cannot be opened"), "{error}");
    db.close().await;
    database.drop_now().await;
}

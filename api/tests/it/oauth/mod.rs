//! Signing in through other providers, which are scripted servers here; a real one is asked in `standalone`.

mod journeys;
mod providers;
mod refusals;

use std::sync::Arc;

use relaypost_shared::{
    entities::{audit_log, identity, oauth_state, refresh_token, session, user},
    ids::UserId,
    people::SignInMethod,
    queue::{MemoryQueue, Queue},
};
use relaypost_testkit::{
    Reply,
    identity::{Asked, Forgery, GithubServer, IssuerServer, TOKEN_PREFIX},
};
use sea_orm::{
    ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, QueryOrder as _, Set,
};
use serde_json::{Value, json};

use crate::{Answer, Api, support::Client};

const ADDRESS: &str = "alice@example.test";
/// When the clock of these tests starts, in seconds since 1970.
const NOW: i64 = 1_769_851_800;
const SITE: &str = "https://relaypost.test";

/// An API that people sign in to through these providers.
async fn api(settings: &[(&'static str, String)], more: &[(&str, &str)]) -> Api {
    let own = [("PUBLIC_URL", SITE)];
    let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
    let settings: Vec<_> = own
        .into_iter()
        .chain(settings)
        .chain(more.iter().copied())
        .collect();
    Api::with(&settings, Queue::Memory(MemoryQueue::default())).await
}

/// An issuer, and an API that trusts it.
async fn with_issuer(more: &[(&str, &str)]) -> (IssuerServer, Api) {
    let issuer = IssuerServer::start(NOW).await;
    let api = api(&issuer.settings(), more).await;
    (issuer, api)
}

/// Who a user is before they sign in.
#[derive(Clone, Copy, Default)]
struct Before {
    password: bool,
    verified: bool,
    disabled: bool,
}

async fn create(api: &Api, email: &str, before: Before) -> UserId {
    let now = api.clock.now();
    let id = UserId::generate(now);
    let row = user::Model {
        id,
        email: email.to_owned(),
        name: None,
        password_hash: before.password.then(|| "$argon2id$x".to_owned()),
        platform: false,
        email_verified_at: before.verified.then_some(now),
        disabled_at: before.disabled.then_some(now),
        last_signed_in_at: None,
        created_at: now,
        updated_at: now,
    };
    row.into_active_model().insert(&api.db).await.unwrap();
    id
}

async fn found(api: &Api, id: UserId) -> user::Model {
    user::Entity::find_by_id(id)
        .one(&api.db)
        .await
        .unwrap()
        .unwrap()
}

/// A browser that was sent to a provider: the address there, and the browser with the cookie that it got.
async fn start(api: &Api, provider: &str, return_to: &str) -> (String, Client) {
    let answer = begin(api, provider, return_to).await;
    assert_eq!(answer.status, 302, "{answer}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let cookie = &answer.headers["set-cookie"];
    let attributes = "; Path=/auth/oauth; Max-Age=600; HttpOnly; SameSite=Lax; Secure";
    assert!(cookie.ends_with(attributes), "{cookie}");
    (answer.headers["location"].clone(), with_cookie(api, cookie))
}

async fn begin(api: &Api, provider: &str, return_to: &str) -> Answer {
    let query = if return_to.is_empty() {
        String::new()
    } else {
        format!("?return_to={return_to}")
    };
    api.anonymous()
        .get(&format!("/auth/oauth/{provider}/start{query}"))
        .await
}

/// A browser with nothing but this cookie.
fn with_cookie(api: &Api, set: &str) -> Client {
    let pair = set.split(';').next().unwrap();
    api.anonymous()
        .header("cookie", &format!("theme=dark; {pair}"))
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.faults(status, code), [""; 0], "{answer}");
}

/// What a sign-in through the issuer comes to, when the ID token has these claims besides the usual ones.
async fn claiming(api: &Api, issuer: &IssuerServer, claims: Value) -> Answer {
    let (address, browser) = start(api, "oidc", "").await;
    browser.get(&issuer.sign_in(&address, claims)).await
}

async fn actions(api: &Api) -> Vec<(String, String)> {
    let entries = audit_log::Entity::find().order_by_asc(audit_log::Column::Id);
    let entries = entries.all(&api.db).await.unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.actor, entry.action))
        .collect()
}

//! Signing in through other providers, which are scripted servers here; a real one is asked in `standalone`.

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
    ActiveModelTrait as _, ConnectionTrait as _, DatabaseBackend, EntityTrait as _,
    IntoActiveModel as _, QueryOrder as _, Set, Statement,
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

#[tokio::test]
async fn a_verified_address_signs_its_user_in_and_the_account_is_linked() {
    let (issuer, api) = with_issuer(&[]).await;
    let alice = create(&api, ADDRESS, Before::default()).await;
    let (address, browser) = start(&api, "oidc", "").await;
    assert_eq!(
        Asked::read(&address).get("redirect_uri"),
        format!("{SITE}/auth/oauth/oidc/callback")
    );
    let answer = browser
        .get(&issuer.sign_in(&address, json!({"email": "Alice@Example.Test"})))
        .await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(
        answer.headers["set-cookie"].starts_with("relaypost_oauth=; Path=/auth/oauth; Max-Age=0;")
    );
    let tokens = answer.expect(200);
    assert_eq!(tokens["token_type"], "Bearer");
    assert!(tokens["access_token"].is_string() && tokens["refresh_token"].is_string());

    let sessions = session::Entity::find().all(&api.db).await.unwrap();
    assert_eq!(
        sessions
            .iter()
            .map(|one| (one.user_id, one.method))
            .collect::<Vec<_>>(),
        [(alice, SignInMethod::Oidc)]
    );
    // The provider's word is as good as a link in a mail.
    assert!(found(&api, alice).await.email_verified_at.is_some());
    let who = alice.to_string();
    let expected = ["identity.linked", "email.verified", "session.began"];
    assert_eq!(
        actions(&api).await,
        expected.map(|action| (who.clone(), action.to_owned()))
    );

    // From now on the account counts and not its address.
    let again = claiming(&api, &issuer, json!({"email": "alice@elsewhere.test"})).await;
    again.expect(200);
    assert_eq!(api.count::<identity::Entity>().await, 1);
    assert_eq!(api.count::<session::Entity>().await, 2);
    // And another account with the same address is linked with the same user.
    claiming(&api, &issuer, json!({"sub": "subject-2"}))
        .await
        .expect(200);
    assert_eq!(api.count::<identity::Entity>().await, 2);
    assert_eq!(api.count::<oauth_state::Entity>().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn a_callback_is_good_once_in_the_browser_that_began_for_ten_minutes() {
    let (issuer, api) = with_issuer(&[]).await;
    create(&api, ADDRESS, Before::default()).await;

    let (address, browser) = start(&api, "oidc", "").await;
    let back = issuer.sign_in(&address, json!({}));
    // Whoever is sent the address of somebody else's sign-in is not signed in by it, and does not spoil it.
    refused(&api.anonymous().get(&back).await, 400, "sign_in_over");
    let (_, other) = start(&api, "oidc", "").await;
    refused(&other.get(&back).await, 400, "sign_in_over");
    browser.get(&back).await.expect(200);
    refused(&browser.get(&back).await, 400, "sign_in_over");

    // The callback of one provider does not take what began with another; nor does anything unknown.
    let (address, browser) = start(&api, "oidc", "").await;
    let back = issuer.sign_in(&address, json!({}));
    let unknown = back.replace("state=", "state=x");
    refused(&browser.get(&unknown).await, 400, "sign_in_over");
    refused(
        &browser.get("/auth/oauth/oidc/callback?code=x").await,
        400,
        "sign_in_over",
    );
    api.advance(600);
    refused(&browser.get(&back).await, 400, "sign_in_over");
    assert_eq!(api.count::<session::Entity>().await, 1);

    // What nobody came back for goes with the next that begins.
    start(&api, "oidc", "").await;
    assert_eq!(api.count::<oauth_state::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn of_many_callbacks_at_once_on_several_processes_one_wins() {
    let (issuer, api) = with_issuer(&[]).await;
    create(&api, ADDRESS, Before::default()).await;
    let (address, browser) = start(&api, "oidc", "").await;
    let back = issuer.sign_in(&address, json!({}));
    let elsewhere = api.elsewhere(&browser);
    let (browser, elsewhere, back) = (Arc::new(browser), Arc::new(elsewhere), Arc::new(back));
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = if n % 2 == 0 {
            browser.clone()
        } else {
            elsewhere.clone()
        };
        let back = back.clone();
        racing.spawn(async move { client.get(&back).await.status });
    }
    let mut statuses = racing.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[1..], [400; 19]);
    assert_eq!(api.count::<session::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn an_id_token_that_does_not_hold_signs_nobody_in() {
    let (issuer, api) = with_issuer(&[]).await;
    create(&api, ADDRESS, Before::default()).await;
    let lies = [
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"aud": "another-client"}),
        json!({"aud": ["relaypost-client", "another-client"]}),
        json!({"azp": "another-client"}),
        json!({"iss": "https://another.example"}),
        json!({"exp": NOW}),
        json!({"sub": null}),
    ];
    for claims in lies {
        let answer = claiming(&api, &issuer, claims.clone()).await;
        assert_eq!(
            answer.faults(502, "provider_invalid"),
            [""; 0],
            "{claims}: {answer}"
        );
    }
    let forgeries = [
        Forgery::Changed,
        Forgery::Unsigned,
        Forgery::Symmetric,
        Forgery::OtherKey,
        Forgery::Missing,
    ];
    for forgery in forgeries {
        issuer.forge(forgery);
        let answer = claiming(&api, &issuer, json!({})).await;
        assert_eq!(
            answer.faults(502, "provider_invalid"),
            [""; 0],
            "{forgery:?}: {answer}"
        );
    }
    // RFC 9207: the answer of one issuer is not taken for that of another.
    issuer.forge(Forgery::None);
    let (address, browser) = start(&api, "oidc", "").await;
    let back = issuer
        .sign_in(&address, json!({}))
        .replace("iss=http", "iss=https");
    refused(&browser.get(&back).await, 502, "provider_invalid");
    assert_eq!(api.count::<session::Entity>().await, 0);
    assert_eq!(api.count::<identity::Entity>().await, 0);
    claiming(&api, &issuer, json!({})).await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn only_a_verified_address_of_a_user_who_may_sign_in_gets_in() {
    let (issuer, api) = with_issuer(&[]).await;
    create(&api, ADDRESS, Before::default()).await;
    for claims in [
        json!({"email_verified": false}),
        json!({"email_verified": null}),
        json!({"email": null}),
        json!({"email": "no address"}),
    ] {
        let answer = claiming(&api, &issuer, claims.clone()).await;
        assert_eq!(
            answer.faults(403, "address_not_verified"),
            [""; 0],
            "{claims}: {answer}"
        );
    }
    let stranger = claiming(&api, &issuer, json!({"email": "bob@example.test"})).await;
    refused(&stranger, 403, "no_such_user");
    // The letter that Unicode makes a k of.
    create(&api, "kim@example.test", Before::default()).await;
    let likeness = claiming(&api, &issuer, json!({"email": "\u{212a}im@example.test"})).await;
    refused(&likeness, 403, "no_such_user");

    let gone = Before {
        verified: true,
        disabled: true,
        ..Before::default()
    };
    create(&api, "gone@example.test", gone).await;
    let disabled = claiming(&api, &issuer, json!({"email": "gone@example.test"})).await;
    refused(&disabled, 403, "user_disabled");
    assert_eq!(api.count::<identity::Entity>().await, 0);
    assert_eq!(api.count::<session::Entity>().await, 0);

    // So is one who is disabled later, and none is told apart in the audit log from other failures.
    claiming(&api, &issuer, json!({})).await.expect(200);
    let mut row = user::Entity::find()
        .all(&api.db)
        .await
        .unwrap()
        .remove(0)
        .into_active_model();
    row.disabled_at = Set(Some(api.clock.now()));
    row.update(&api.db).await.unwrap();
    refused(
        &claiming(&api, &issuer, json!({})).await,
        403,
        "user_disabled",
    );
    let failed = actions(&api).await;
    let failed = failed
        .iter()
        .filter(|(actor, action)| actor == "anonymous" && action == "sign_in.failed");
    assert_eq!(failed.count(), 4);
    api.stop().await;
}

#[tokio::test]
async fn who_claimed_an_address_with_a_password_does_not_get_its_owners_account() {
    let (issuer, api) = with_issuer(&[]).await;
    let claimed = Before {
        password: true,
        ..Before::default()
    };
    let claimant = create(&api, ADDRESS, claimed).await;
    refused(
        &claiming(&api, &issuer, json!({})).await,
        403,
        "address_claimed",
    );
    assert_eq!(api.count::<identity::Entity>().await, 0);
    assert!(found(&api, claimant).await.email_verified_at.is_none());

    let owned = Before {
        password: true,
        verified: true,
        ..Before::default()
    };
    create(&api, "owner@example.test", owned).await;
    claiming(&api, &issuer, json!({"email": "owner@example.test"}))
        .await
        .expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_stranger_becomes_a_user_without_roles_only_where_that_is_wanted() {
    let (issuer, api) = with_issuer(&[("OAUTH_CREATE_USERS", "true")]).await;
    claiming(&api, &issuer, json!({})).await.expect(200);
    let users = user::Entity::find().all(&api.db).await.unwrap();
    let [alice] = users.as_slice() else {
        panic!("{users:?}")
    };
    assert_eq!((alice.email.as_str(), alice.platform), (ADDRESS, false));
    assert!(alice.password_hash.is_none() && alice.email_verified_at.is_some());
    let written: Vec<_> = actions(&api)
        .await
        .into_iter()
        .map(|(_, action)| action)
        .collect();
    assert_eq!(
        written,
        ["user.created", "identity.linked", "session.began"]
    );
    api.stop().await;
}

#[tokio::test]
async fn a_page_of_ours_exchanges_its_code_once_within_a_minute_in_the_same_browser() {
    let (issuer, api) = with_issuer(&[]).await;
    create(&api, ADDRESS, Before::default()).await;
    let signed_in = async || {
        let (address, browser) = start(&api, "oidc", "/app%3Ftab%3D1").await;
        let answer = browser.get(&issuer.sign_in(&address, json!({}))).await;
        assert_eq!(answer.status, 303, "{answer}");
        assert_eq!(answer.bytes, b"");
        let code = answer.headers["location"].strip_prefix(&format!("{SITE}/app?tab=1&code="));
        let cookie = &answer.headers["set-cookie"];
        let attributes = "; Path=/v1/auth/oauth; Max-Age=60; HttpOnly; SameSite=Strict; Secure";
        assert!(cookie.ends_with(attributes), "{cookie}");
        (json!({"code": code.unwrap()}), with_cookie(&api, cookie))
    };
    let exchange = "/v1/auth/oauth/token";
    let (code, browser) = signed_in().await;
    assert_eq!(api.count::<session::Entity>().await, 0);
    let (_, other) = signed_in().await;
    for stranger in [&other, &api.anonymous()] {
        refused(
            &stranger.post(exchange, code.clone()).await,
            400,
            "sign_in_over",
        );
    }
    let answer = browser.post(exchange, code.clone()).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.expect(200)["access_token"].is_string());
    refused(&browser.post(exchange, code).await, 400, "sign_in_over");

    let (code, browser) = signed_in().await;
    api.advance(60);
    refused(&browser.post(exchange, code).await, 400, "sign_in_over");
    assert_eq!(api.count::<session::Entity>().await, 1);

    // A state of the first half is no code of the second.
    let (address, browser) = start(&api, "oidc", "").await;
    let state = Asked::read(&address).get("state").to_owned();
    refused(
        &browser.post(exchange, json!({"code": state})).await,
        400,
        "sign_in_over",
    );
    api.stop().await;
}

#[tokio::test]
async fn nothing_leads_back_to_another_site() {
    let (_, api) = with_issuer(&[]).await;
    for elsewhere in [
        "https://evil.example/",
        "//evil.example",
        "/%5Cevil.example",
        "/..//evil.example",
        "app",
        "/%0Aevil",
    ] {
        refused(
            &begin(&api, "oidc", elsewhere).await,
            400,
            "invalid_parameter",
        );
    }
    assert_eq!(api.count::<oauth_state::Entity>().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn what_the_provider_refuses_or_cannot_is_said_and_never_a_fault_of_ours() {
    let (issuer, api) = with_issuer(&[]).await;
    for (error, status, code) in [
        ("access_denied", 403, "provider_refused"),
        ("invalid_scope", 403, "provider_refused"),
        ("temporarily_unavailable", 503, "provider_unavailable"),
    ] {
        let (address, browser) = start(&api, "oidc", "").await;
        let back = Asked::read(&address).back(&[("error", error), ("error_description", "x")]);
        refused(&browser.get(&back).await, status, code);
        refused(&browser.get(&back).await, 400, "sign_in_over");
    }
    let (address, browser) = start(&api, "oidc", "").await;
    let back = Asked::read(&address).back(&[("code", "wrong")]);
    refused(&browser.get(&back).await, 403, "provider_refused");

    // Between leaving and coming back the provider breaks, in one way or another.
    let broken = [
        (Reply::Status(500), 503, "provider_unavailable"),
        (Reply::Reset, 503, "provider_unavailable"),
        (
            Reply::Redirect("http://127.0.0.1:9/".to_owned()),
            502,
            "provider_invalid",
        ),
        (
            Reply::Body {
                status: 200,
                bytes: b"{".to_vec(),
            },
            502,
            "provider_invalid",
        ),
        (
            Reply::Body {
                status: 200,
                bytes: vec![b' '; 2 << 20],
            },
            503,
            "provider_unavailable",
        ),
    ];
    for (reply, status, code) in broken {
        let (address, browser) = start(&api, "oidc", "").await;
        let back = issuer.sign_in(&address, json!({}));
        issuer.receiver.respond(reply);
        refused(&browser.get(&back).await, status, code);
        issuer.up();
    }
    let away = [("OAUTH_OIDC_ISSUER", "http://127.0.0.1:9")];
    let (_, unreachable) = with_issuer(&away).await;
    let answer = begin(&unreachable, "oidc", "").await;
    refused(&answer, 503, "provider_unavailable");
    assert_eq!(
        (
            &answer.body["retryable"],
            answer.headers["retry-after"].as_str()
        ),
        (&json!(true), "1")
    );
    assert_eq!(unreachable.count::<oauth_state::Entity>().await, 0);
    unreachable.stop().await;
    api.stop().await;
}

#[tokio::test]
async fn an_issuer_is_asked_about_itself_once_an_hour_and_when_it_signs_with_a_new_key() {
    let (issuer, api) = with_issuer(&[]).await;
    create(&api, ADDRESS, Before::default()).await;
    let asked = || {
        let hits = issuer.receiver.hits();
        hits.iter()
            .filter(|hit| hit.path.starts_with("/.well-known/"))
            .count()
    };
    for _ in 0..3 {
        claiming(&api, &issuer, json!({})).await.expect(200);
    }
    assert_eq!(asked(), 1);
    issuer.rotate();
    claiming(&api, &issuer, json!({})).await.expect(200);
    assert_eq!(asked(), 2);
    api.advance(3600);
    claiming(&api, &issuer, json!({"exp": NOW + 7200}))
        .await
        .expect(200);
    assert_eq!(asked(), 3);
    api.stop().await;
}

#[tokio::test]
async fn github_signs_in_whoever_has_a_primary_verified_address() {
    let github = GithubServer::start().await;
    let api = api(&github.settings(), &[]).await;
    let alice = create(&api, ADDRESS, Before::default()).await;
    let sign_in = async |number: u64, addresses: Value| {
        let (address, browser) = start(&api, "github", "").await;
        browser
            .get(&github.sign_in(&address, number, addresses))
            .await
    };
    let entry = |email: &str, primary: bool, verified: bool| json!({"email": email, "primary": primary, "verified": verified, "visibility": null});
    for addresses in [
        json!([]),
        json!([entry(ADDRESS, true, false)]),
        json!([
            entry(ADDRESS, false, true),
            entry("other@example.test", true, false)
        ]),
    ] {
        refused(&sign_in(7, addresses).await, 403, "address_not_verified");
    }
    let other = json!([
        entry(ADDRESS, false, true),
        entry("bob@example.test", true, true)
    ]);
    refused(&sign_in(7, other).await, 403, "no_such_user");
    let good = json!([
        entry("x@example.test", false, true),
        entry("Alice@example.test", true, true)
    ]);
    sign_in(7, good).await.expect(200);
    let identities = identity::Entity::find().all(&api.db).await.unwrap();
    let linked: Vec<_> = identities
        .iter()
        .map(|one| (one.issuer.as_str(), one.subject.as_str(), one.user_id))
        .collect();
    assert_eq!(linked, [(github.receiver.url("").as_str(), "7", alice)]);
    let sessions = session::Entity::find().all(&api.db).await.unwrap();
    assert_eq!(sessions[0].method, SignInMethod::Github);

    // It answers 200 when it refuses a code.
    let (address, browser) = start(&api, "github", "").await;
    let back = Asked::read(&address).back(&[("code", "wrong")]);
    refused(&browser.get(&back).await, 403, "provider_refused");
    api.stop().await;
}

#[tokio::test]
async fn pkce_binds_the_code_to_who_began() {
    let github = GithubServer::start().await;
    let api = api(&github.settings(), &[]).await;
    create(&api, ADDRESS, Before::default()).await;
    // A code of another's sign-in, put into one's own callback: GitHub sees that the verifier does not fit.
    let addresses = json!([{"email": ADDRESS, "primary": true, "verified": true}]);
    let (victims, _) = start(&api, "github", "").await;
    let victims = github.sign_in(&victims, 7, addresses);
    let (_, code) = victims.split_once("code=").unwrap();
    let (own, browser) = start(&api, "github", "").await;
    let back = Asked::read(&own).back(&[("code", code)]);
    refused(&browser.get(&back).await, 403, "provider_refused");
    assert_eq!(api.count::<session::Entity>().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn a_wrong_client_secret_is_told_as_a_fault_of_the_set_up() {
    let github = GithubServer::start().await;
    let wrong = [("OAUTH_GITHUB_CLIENT_SECRET", "another-secret")];
    let api = api(&github.settings(), &wrong).await;
    let (address, browser) = start(&api, "github", "").await;
    let back = github.sign_in(&address, 7, json!([]));
    refused(&browser.get(&back).await, 502, "provider_invalid");
    api.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_not_configured_is_not_there() {
    let api = api(&[], &[]).await;
    for provider in ["github", "google", "oidc", "facebook"] {
        refused(&begin(&api, provider, "").await, 404, "not_found");
        let back = format!("/auth/oauth/{provider}/callback?state=x&code=y");
        refused(&api.anonymous().get(&back).await, 404, "not_found");
    }
    api.stop().await;
}

/// Every row of the tables of signing in, as the database would dump it.
async fn dump(api: &Api) -> String {
    let mut text = String::new();
    for table in [
        "users",
        "sessions",
        "refresh_tokens",
        "identities",
        "oauth_states",
        "audit_log",
    ] {
        let sql = match api.db.get_database_backend() {
            DatabaseBackend::Postgres => format!("SELECT CAST(t.* AS text) AS line FROM {table} t"),
            _ => format!("SELECT * FROM {table}"),
        };
        let statement = Statement::from_string(api.db.get_database_backend(), sql);
        for row in api.db.query_all_raw(statement).await.unwrap() {
            match row.try_get::<String>("", "line") {
                Ok(line) => text.push_str(&line),
                Err(_) => text.push_str(&format!("{row:?}")),
            }
            text.push('\n');
        }
    }
    text
}

#[tokio::test]
async fn the_database_keeps_nothing_that_signs_anybody_in() {
    let github = GithubServer::start().await;
    let api = api(&github.settings(), &[]).await;
    create(&api, ADDRESS, Before::default()).await;
    let (waiting, _) = start(&api, "github", "").await;
    let (address, browser) = start(&api, "github", "/app").await;
    let addresses = json!([{"email": ADDRESS, "primary": true, "verified": true}]);
    let back = github.sign_in(&address, 7, addresses);
    let answer = browser.get(&back).await;
    assert_eq!(answer.status, 303, "{answer}");
    let form = github
        .receiver
        .hits()
        .into_iter()
        .find(|hit| hit.method == "POST")
        .unwrap();
    let form = String::from_utf8(form.body).unwrap();
    let part = |name: &str| {
        form.split('&')
            .find_map(|pair| pair.strip_prefix(name))
            .unwrap()
            .to_owned()
    };
    let cookie = answer.headers["set-cookie"]
        .split(['=', ';'])
        .nth(1)
        .unwrap()
        .to_owned();
    let code = answer.headers["location"]
        .split_once("code=")
        .unwrap()
        .1
        .to_owned();
    let secrets = [
        Asked::read(&waiting).get("state").to_owned(),
        Asked::read(&address).get("state").to_owned(),
        part("code_verifier="),
        part("code="),
        part("client_secret="),
        TOKEN_PREFIX.to_owned(),
        cookie,
        code,
    ];
    let rows = dump(&api).await;
    assert!(
        rows.contains("sealed1.") && rows.contains(ADDRESS),
        "{rows}"
    );
    assert_eq!(api.count::<oauth_state::Entity>().await, 2);
    assert_eq!(api.count::<refresh_token::Entity>().await, 0);
    for secret in secrets {
        assert!(secret.len() >= 10, "{secret}");
        assert!(!rows.contains(&secret), "{secret} is in:\n{rows}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_sign_in_whose_secrets_do_not_open_is_over() {
    let (issuer, api) = with_issuer(&[]).await;
    let (address, browser) = start(&api, "oidc", "").await;
    let row = oauth_state::Entity::find()
        .one(&api.db)
        .await
        .unwrap()
        .unwrap();
    let mut row = row.into_active_model();
    row.secrets = Set("sealed1.00000000.AAAA".to_owned());
    row.update(&api.db).await.unwrap();
    refused(
        &browser.get(&issuer.sign_in(&address, json!({}))).await,
        400,
        "sign_in_over",
    );
    api.stop().await;
}

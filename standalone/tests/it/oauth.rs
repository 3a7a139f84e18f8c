//! Signing in through a real OpenID Connect provider, the certified `oidc-provider` package from npm, which insists on PKCE.

use relaypost_testkit::identity::{Asked, OidcProvider};
use relaypost_testkit::{Answer, World};
use serde_json::json;

use crate::options;

const SITE: &str = "https://relaypost.test";
const CALLBACK: &str = "https://relaypost.test/auth/oauth/oidc/callback";

/// The product, with two API processes where there can be several, and a provider.
async fn start(more: &[(&str, &str)]) -> (OidcProvider, World) {
    let provider = OidcProvider::start(CALLBACK, more).await;
    let options = options()
        .apis(2)
        .workers(1)
        .env("PUBLIC_URL", SITE)
        .env("OAUTH_CREATE_USERS", "true");
    let options = provider
        .settings()
        .iter()
        .fold(options, |options, (name, value)| options.env(name, value));
    (provider, World::start(options).await)
}

/// The `name=value` of the last cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    let set = answer
        .headers
        .iter()
        .rev()
        .find(|(name, _)| name == "set-cookie");
    let (_, set) = set.unwrap_or_else(|| panic!("no cookie: {answer}"));
    set.split(';').next().unwrap().to_owned()
}

/// Signs in: begins at one API process, comes back to another. Returns the secrets of the way too.
async fn sign_in(
    world: &World,
    provider: &OidcProvider,
    account: Option<&str>,
    query: &str,
) -> (Answer, Vec<String>) {
    let client = world.client.without_key();
    let begun = client.get(&format!("/auth/oauth/oidc/start{query}")).await;
    assert_eq!(begun.status, 302, "{begun}");
    let address = begun.header("location").unwrap();
    let back = provider.sign_in(address, account).await;
    let mut secrets = vec![
        Asked::read(address).get("state").to_owned(),
        Asked::read(address).get("nonce").to_owned(),
        cookie(&begun).split_once('=').unwrap().1.to_owned(),
    ];
    let code = back
        .split(['?', '&'])
        .find_map(|pair| pair.strip_prefix("code="));
    secrets.extend(code.map(str::to_owned));
    let other = world.apis.last().unwrap().base_url();
    let browser = client
        .with_base(&other)
        .with_header("cookie", &cookie(&begun));
    (browser.get(&back).await, secrets)
}

#[tokio::test]
async fn a_real_provider_signs_in_who_has_a_verified_address_and_the_log_keeps_no_secret() {
    let (provider, world) = start(&[]).await;
    let (answer, mut secrets) = sign_in(&world, &provider, Some("alice"), "").await;
    let tokens = answer.expect(200);
    let token = |name: &str| tokens[name].as_str().unwrap().to_owned();
    // A user without roles is known, and may not do this.
    let signed_in = world.client.with_key(&token("access_token"));
    signed_in.get("/v1/tenants").await.expect(403);
    signed_in
        .with_key("eyJ.x.y")
        .get("/v1/tenants")
        .await
        .expect(401);
    secrets.extend([token("access_token"), token("refresh_token")]);

    let (answer, more) = sign_in(&world, &provider, Some("alice"), "?return_to=/app").await;
    assert_eq!(answer.status, 303, "{answer}");
    let (page, code) = answer
        .header("location")
        .unwrap()
        .split_once("?code=")
        .unwrap();
    assert_eq!(page, format!("{SITE}/app"));
    let browser = world
        .client
        .without_key()
        .with_header("cookie", &cookie(&answer));
    let exchanged = browser
        .post("/v1/auth/oauth/token", json!({"code": code}))
        .await
        .expect(200);
    secrets.extend(more);
    secrets.push(code.to_owned());
    secrets.push(exchanged["refresh_token"].as_str().unwrap().to_owned());

    // `mallory` says that she has the same address, and nobody has checked that.
    let (answer, _) = sign_in(&world, &provider, Some("mallory"), "").await;
    assert_eq!(answer.expect(403)["code"], "address_not_verified");
    let (answer, _) = sign_in(&world, &provider, Some("nobody"), "").await;
    assert_eq!(answer.expect(403)["code"], "address_not_verified");
    let (answer, _) = sign_in(&world, &provider, None, "").await;
    assert_eq!(answer.expect(403)["code"], "provider_refused");

    let log: String = world
        .apis
        .iter()
        .map(|api| api.stdout() + &api.stderr())
        .collect();
    assert!(log.contains("/auth/oauth/oidc/callback"), "{log}");
    for secret in secrets {
        assert!(secret.len() >= 40, "{secret}");
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_address_may_come_with_the_id_token_and_the_client_may_authenticate_in_the_body() {
    let other_ways = [
        ("ADDRESS_IN_ID_TOKEN", "1"),
        ("CLIENT_AUTH_METHOD", "client_secret_post"),
    ];
    let (provider, world) = start(&other_ways).await;
    let (answer, _) = sign_in(&world, &provider, Some("alice"), "").await;
    answer.expect(200);
    let (answer, _) = sign_in(&world, &provider, Some("mallory"), "").await;
    assert_eq!(answer.expect(403)["code"], "address_not_verified");
    world.stop().await;
}

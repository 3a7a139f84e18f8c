//! Providers: what they say, how they lie, how they fail.

use super::*;

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

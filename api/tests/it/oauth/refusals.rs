//! Who does not get in, what leads nowhere, and what is not kept.

use super::*;

/// Every row of the tables of signing in.
async fn dump(api: &Api) -> String {
    let states = oauth_state::Entity::find().all(&api.db).await.unwrap();
    for state in &states {
        // What is no text is SHA-256.
        let hashes = [&state.state_hash, state.browser_hash.as_ref().unwrap()];
        assert_eq!(hashes.map(Vec::len), [32; 2]);
    }
    let users = user::Entity::find().all(&api.db).await.unwrap();
    let identities = identity::Entity::find().all(&api.db).await.unwrap();
    let sessions = session::Entity::find().all(&api.db).await.unwrap();
    let entries = audit_log::Entity::find().all(&api.db).await.unwrap();
    format!("{states:?} {users:?} {identities:?} {sessions:?} {entries:?}")
}

#[tokio::test]
async fn only_a_verified_address_of_a_user_who_may_sign_in_gets_in() {
    let (issuer, api) = with_issuer(&[]).await;
    let known = create(&api, ADDRESS, Before::default()).await;
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
    let mut row = found(&api, known).await.into_active_model();
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
async fn a_provider_that_is_not_configured_is_not_there() {
    let api = api(&[], &[]).await;
    for provider in ["github", "google", "oidc", "facebook"] {
        refused(&begin(&api, provider, "").await, 404, "not_found");
        let back = format!("/auth/oauth/{provider}/callback?state=x&code=y");
        refused(&api.anonymous().get(&back).await, 404, "not_found");
    }
    api.stop().await;
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

//! From the click to the session, once.

use super::*;

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
    let google = [
        ("OAUTH_GOOGLE_CLIENT_ID", "relaypost"),
        ("OAUTH_GOOGLE_CLIENT_SECRET", "of-google"),
    ];
    let (issuer, api) = with_issuer(&google).await;
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
    let elsewhere = back.replace("/oidc/", "/google/");
    refused(&browser.get(&elsewhere).await, 400, "sign_in_over");
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

//! Verification and password-reset mails, and the pages that they lead to.

use std::time::Duration;

use poem::http::Method;
use relaypost_shared::{
    entities::one_time_token,
    ids::TenantId,
    queue::Queue,
    store::fixtures::{delivery, email, email_body},
};
use relaypost_testkit::eventually;
use sea_orm::EntityTrait as _;
use serde_json::json;

use crate::{
    Answer, Api, api,
    sign_in::{PASSWORD, person, sign_in, user},
    support::Client,
};

const NEW: &str = "a wholly new password";

/// Waits until so many mails were written, and returns the token in the newest.
async fn mailed(api: &Api, count: usize) -> String {
    let text = eventually(Duration::from_secs(10), || async {
        match api.sealed_mails().await {
            (found, text) if found == count => Ok(text),
            (found, _) => Err(format!("{found} mails")),
        }
    })
    .await;
    let rest = text.split("token=").nth(1).unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

async fn ask(client: &Client, what: &str, email: &str) -> Answer {
    let path = format!("/v1/auth/{what}");
    client.post(&path, json!({"email": email})).await
}

async fn verifying() -> Api {
    let settings = [
        ("AUTH_EMAIL_VERIFICATION_REQUIRED", "true"),
        ("PUBLIC_URL", "https://post.example/r/"),
    ];
    Api::with(&settings, Queue::Memory(Default::default())).await
}

#[tokio::test]
async fn where_it_is_required_nobody_signs_in_before_their_address_is_verified() {
    let api = verifying().await;
    let (_, email) = user(&api, json!({})).await;
    sign_in(&api.anonymous(), &email, "not the password")
        .await
        .expect(401);
    let refused = sign_in(&api.anonymous(), &email, PASSWORD).await;
    assert_eq!(
        refused.faults(403, "email_not_verified"),
        [""; 0],
        "{refused}"
    );
    let token = mailed(&api, 1).await;
    let (_, text) = api.sealed_mails().await;
    assert!(
        text.contains(&format!(
            "https://post.example/r/auth/verify-email?token={token}\r\n"
        )),
        "{text}"
    );
    let verify = async |token: &str| {
        api.anonymous()
            .post("/v1/auth/verify-email", json!({"token": token}))
            .await
    };
    let refused = verify("rpt_nonsense").await;
    assert_eq!(
        refused.faults(422, "validation_failed"),
        [""; 0],
        "{refused}"
    );
    // A token is for one thing.
    let reset = json!({"token": token, "password": NEW});
    api.anonymous()
        .post("/v1/auth/password/reset", reset)
        .await
        .expect(422);
    verify(&token).await.expect(204);
    verify(&token).await.expect(422);
    sign_in(&api.anonymous(), &email, PASSWORD)
        .await
        .expect(200);
    api.stop().await;
}

#[tokio::test]
async fn the_mail_is_written_with_its_delivery_and_nobody_sees_its_text() {
    let api = verifying().await;
    let (_, address) = user(&api, json!({})).await;
    let token = mailed(&api, 1).await;
    let mail = email::Entity::find().one(&api.db).await.unwrap().unwrap();
    let body = email_body::Entity::find_by_id(mail.id).one(&api.db).await;
    let body = body.unwrap().unwrap();
    let delivery = delivery::Entity::find()
        .one(&api.db)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (mail.tenant_id, delivery.tenant_id),
        (TenantId::OWN, TenantId::OWN)
    );
    assert_eq!(
        (delivery.email_id, delivery.recipient.as_deref()),
        (Some(mail.id), Some(address.as_str()))
    );
    assert!(body.text.as_deref().unwrap().starts_with("sealed1."));
    let tokens = one_time_token::Entity::find().all(&api.db).await.unwrap();
    assert!(!format!("{mail:?}{body:?}{tokens:?}").contains(&token[4..]));
    let root = api.root().header("x-tenant-id", &TenantId::OWN.to_string());
    let shown = root
        .get(&format!("/v1/emails/{}", mail.id))
        .await
        .expect(200);
    assert_eq!(shown["to"], json!([address]));
    assert_eq!(
        (shown.get("text"), shown.get("html")),
        (None, None),
        "{shown}"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_forgotten_password_is_chosen_anew_once_and_every_session_ends() {
    let api = api().await;
    let ann = person(&api, json!({})).await;
    for _ in 0..5 {
        sign_in(&api.anonymous(), &ann.email, "not the password")
            .await
            .expect(401);
    }
    ask(
        &api.anonymous(),
        "password/forgot",
        &ann.email.to_uppercase(),
    )
    .await
    .expect(202);
    let token = mailed(&api, 1).await;
    let reset = async |token: &str, password: &str| {
        let body = json!({"token": token, "password": password});
        api.anonymous().post("/v1/auth/password/reset", body).await
    };
    // A password that will not do leaves the token good.
    reset(&token, "short").await.expect(422);
    reset(&token, NEW).await.expect(204);
    let again = reset(&token, "yet another password").await;
    assert_eq!(again.body["errors"][0]["path"], "token", "{again}");
    ann.api.get("/v1/auth/me").await.expect(401);
    sign_in(&api.anonymous(), &ann.email, PASSWORD)
        .await
        .expect(401);
    sign_in(&api.anonymous(), &ann.email, NEW).await.expect(200);
    let user = api
        .root()
        .get(&format!("/v1/users/{}", ann.id))
        .await
        .expect(200);
    assert!(user["email_verified_at"].is_string(), "{user}");
    api.stop().await;
}

#[tokio::test]
async fn a_token_expires_and_a_later_mail_makes_the_earlier_one_good_for_nothing() {
    let api = api().await;
    let (_, email) = user(&api, json!({})).await;
    let reset = async |token: &str| {
        let body = json!({"token": token, "password": NEW});
        api.anonymous().post("/v1/auth/password/reset", body).await
    };
    ask(&api.anonymous(), "password/forgot", &email)
        .await
        .expect(202);
    let first = mailed(&api, 1).await;
    api.advance(60);
    ask(&api.anonymous(), "password/forgot", &email)
        .await
        .expect(202);
    let second = mailed(&api, 2).await;
    reset(&first).await.expect(422);
    api.advance(3_600);
    reset(&second).await.expect(422);
    api.stop().await;
}

#[tokio::test]
async fn asking_for_a_mail_is_answered_alike_for_everybody_and_makes_one_a_minute() {
    let api = api().await;
    let (_, email) = user(&api, json!({})).await;
    let expected = ask(&api.anonymous(), "password/forgot", &email)
        .await
        .expect(202);
    mailed(&api, 1).await;
    for what in ["password/forgot", "verify-email/resend"] {
        for address in [email.as_str(), "unknown@example.test"] {
            assert_eq!(
                ask(&api.anonymous(), what, address).await.expect(202),
                expected
            );
        }
        let refused = ask(&api.anonymous(), what, "nobody").await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
    }
    // What was asked for within the minute has come to nothing once a mail of the next minute is there alone.
    api.advance(60);
    ask(&api.anonymous(), "verify-email/resend", &email)
        .await
        .expect(202);
    mailed(&api, 2).await;
    api.stop().await;
}

#[tokio::test]
async fn opening_the_page_of_a_link_uses_nothing_up_and_its_form_does() {
    let api = verifying().await;
    let (_, address) = user(&api, json!({})).await;
    let token = mailed(&api, 1).await;
    let forms = api
        .anonymous()
        .header("content-type", "application/x-www-form-urlencoded");
    for _ in 0..2 {
        let page = api
            .anonymous()
            .get(&format!("/auth/verify-email?token={token}"))
            .await;
        assert_eq!(page.status, 200, "{page}");
        let html = String::from_utf8(page.bytes.clone()).unwrap();
        assert!(
            html.contains(&token) && html.contains("method=\"post\"") && !html.contains("<script")
        );
        let policy = &page.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'; form-action 'self'"),
            "{policy}"
        );
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        assert_eq!(page.headers["cache-control"], "no-store");
    }
    let done = forms
        .post_bytes("/auth/verify-email", format!("token={token}"))
        .await;
    assert_eq!(done.status, 200, "{done}");
    let again = forms
        .post_bytes("/auth/verify-email", format!("token={token}"))
        .await;
    assert_eq!(again.status, 422, "{again}");
    sign_in(&api.anonymous(), &address, PASSWORD)
        .await
        .expect(200);

    api.advance(60);
    ask(&api.anonymous(), "password/forgot", &address)
        .await
        .expect(202);
    let token = mailed(&api, 2).await;
    let page = api
        .anonymous()
        .get(&format!("/auth/reset-password?token={token}"))
        .await;
    assert_eq!(page.status, 200, "{page}");
    let form = format!("token={token}&password=a+wholly+new+password");
    let done = forms.post_bytes("/auth/reset-password", form).await;
    assert_eq!(done.status, 200, "{done}");
    sign_in(&api.anonymous(), &address, NEW).await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_page_never_shows_what_is_no_token() {
    let api = api().await;
    let forms = api
        .anonymous()
        .header("content-type", "application/x-www-form-urlencoded");
    for page in ["/auth/verify-email", "/auth/reset-password"] {
        for query in [
            "",
            "?token=",
            "?token=%3Cscript%3E",
            "?token=a%22b",
            "?other=rpt_a",
        ] {
            let answer = api.anonymous().get(&format!("{page}{query}")).await;
            assert_eq!(answer.status, 400, "{answer}");
            assert!(
                !String::from_utf8_lossy(&answer.bytes).contains("script"),
                "{answer}"
            );
        }
        for (body, status) in [
            (
                "token=%3Cscript%3E&password=a+wholly+new+password".to_owned(),
                422,
            ),
            (format!("token={}", "a".repeat(9_000)), 413),
            ("\u{0}".to_owned(), 422),
        ] {
            let answer = forms.post_bytes(page, body).await;
            assert_eq!(answer.status, status, "{answer}");
            assert!(
                !String::from_utf8_lossy(&answer.bytes).contains("script"),
                "{answer}"
            );
        }
        api.anonymous()
            .post(page, json!({"token": "a"}))
            .await
            .expect(415);
        let refused = api.anonymous().send(Method::DELETE, page, None).await;
        assert_eq!(refused.status, 405, "{refused}");
    }
    api.stop().await;
}

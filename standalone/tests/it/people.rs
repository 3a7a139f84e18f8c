//! People who sign in, through whole running processes: their mails leave by Relaypost's own queue.

use serde_json::json;

use crate::{SOON, world};

/// The token of the last mail, which the mail server got in clear text.
fn token(text: &str) -> String {
    // Quoted-printable folds long lines and writes `=` as `=3D`.
    let text = text.replace("=\r\n", "").replace("=3D", "=");
    let rest = text.split("token=").nth(1).expect("a link with a token");
    rest.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_verification_mail_arrives_and_its_link_lets_somebody_sign_in() {
    let world = world(&[
        ("AUTH_EMAIL_VERIFICATION_REQUIRED", "true"),
        ("PUBLIC_URL", "https://post.example"),
    ])
    .await;
    let user =
        json!({"email": "ann@example.test", "password": "correct horse battery", "platform": true});
    world.client.post("/v1/users", user).await.expect(201);
    world.smtp.wait_for(1, SOON).await;
    let mail = &world.smtp.mails()[0];
    assert_eq!(mail.to, ["ann@example.test"]);
    assert!(
        mail.text()
            .contains("https://post.example/auth/verify-email?token"),
        "{}",
        mail.text()
    );

    let anonymous = world.client.with_key("");
    let login = json!({"email": "ann@example.test", "password": "correct horse battery"});
    anonymous
        .post("/v1/auth/login", login.clone())
        .await
        .expect(403);
    let verified = json!({"token": token(&mail.text())});
    anonymous
        .post("/v1/auth/verify-email", verified)
        .await
        .expect(204);
    let tokens = anonymous.post("/v1/auth/login", login).await.expect(200);
    let ann = world
        .client
        .with_key(tokens["access_token"].as_str().unwrap());
    let me = ann.get("/v1/auth/me").await.expect(200);
    assert_eq!(me["email"], "ann@example.test");
    ann.get("/v1/tenants").await.expect(200);
    world.stop().await;
}

#[tokio::test]
async fn production_has_no_demo_sign_in() {
    let world = world(&[("APP_ENV", "production")]).await;
    let refused = world.client.get("/auth/demo?user=admin&tenant=demo").await;
    assert_eq!(refused.status, 404, "{refused}");
    world.stop().await;
}

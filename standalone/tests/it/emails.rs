//! Mails that arrive, and one that does not.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{SOON, delivery_ids, id, world};

#[tokio::test]
async fn an_email_reaches_to_cc_and_bcc_each_on_its_own() {
    let world = world(&[]).await;
    let tenant = world.tenant("acme").await;
    let email = json!({
        "to": ["to@example.test"], "cc": ["cc@example.test"], "bcc": ["hidden@example.test"],
        "reply_to": "desk@example.test", "subject": "Order 42 shipped",
        "text": "It is on its way.", "html": "<p>It is on its way.</p>",
    });
    let accepted = tenant.api.post("/v1/emails", email).await.expect(201);
    assert!(id(&accepted).starts_with("eml_"), "{accepted}");
    let deliveries = delivery_ids(&accepted);
    assert_eq!(deliveries.len(), 3, "{accepted}");
    world.smtp.wait_for(3, SOON).await;

    let mails = world.smtp.mails();
    let recipients: BTreeSet<_> = mails
        .iter()
        .flat_map(|mail| mail.to.iter().map(String::as_str))
        .collect();
    let wanted = ["cc@example.test", "hidden@example.test", "to@example.test"];
    assert_eq!(recipients, BTreeSet::from(wanted));
    for mail in &mails {
        assert_eq!(
            (mail.from.as_str(), mail.to.len()),
            ("noreply@example.test", 1),
            "{mail:?}"
        );
        let head = mail.head();
        for visible in [
            "to@example.test",
            "cc@example.test",
            "desk@example.test",
            "Order 42 shipped",
        ] {
            assert!(head.contains(visible), "{visible} in {head}");
        }
        assert!(
            !mail.text().contains("hidden@example.test"),
            "{}",
            mail.text()
        );
        assert!(
            !head
                .lines()
                .any(|line| line.to_ascii_lowercase().starts_with("bcc:")),
            "{head}"
        );
        assert!(mail.text().contains("It is on its way."), "{}", mail.text());
    }
    for delivery in &deliveries {
        let delivered = tenant.wait_delivery(delivery, "delivered", SOON).await;
        assert_eq!(
            (&delivered["kind"], &delivered["email_id"]),
            (&json!("email"), &accepted["id"])
        );
        let attempts = tenant.attempts(delivery).await;
        assert_eq!(
            (attempts.len(), &attempts[0]["number"]),
            (1, &json!(1)),
            "{attempts:?}"
        );
    }
    assert_eq!(world.smtp.mails().len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn a_refused_recipient_stops_nobody_else() {
    let world = world(&[]).await;
    world.smtp.respond_rcpt(|to| {
        to.starts_with("gone")
            .then(|| (550, "5.1.1 no such user".into()))
    });
    let tenant = world.tenant("acme").await;
    let email = json!({"to": ["gone@example.test", "here@example.test"], "subject": "Hello", "text": "Hello"});
    let accepted = tenant.api.post("/v1/emails", email).await.expect(201);
    world.smtp.wait_for(1, SOON).await;
    assert_eq!(world.smtp.mails()[0].to, ["here@example.test"]);

    let mut ends = Vec::new();
    for delivery in accepted["deliveries"].as_array().unwrap() {
        let gone = delivery.to_string().contains("gone@example.test");
        let status = if gone { "dead" } else { "delivered" };
        ends.push(tenant.wait_delivery(id(delivery), status, SOON).await);
    }
    let dead = ends
        .iter()
        .find(|end| end["status"] == "dead")
        .expect("one is dead");
    let reason = dead["reason"].as_str().unwrap();
    assert!(
        ["rejected", "invalid_recipient"].contains(&reason),
        "{dead}"
    );
    world.stop().await;
}

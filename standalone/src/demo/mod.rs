//! `relaypost demo`: plays the main job on a fresh instance, from the first key to the attempts, and checks each step.

mod client;
mod receiver;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use relaypost_shared::{clock::Clock, ids::RequestId, telemetry};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::time::{Duration, Instant, interval};

use client::{Client, text};
use receiver::{Received, Receiver};

use crate::embedded::{self, Embedded};

/// The payload has its own spacing and a number that a double cannot hold: what arrives must be these bytes.
const PAYLOAD: &str = r#"{ "invoice": "in_1042",  "total": 12345678901234567890 }"#;
/// How long the demo waits for a delivery to be recorded.
const PATIENCE: Duration = Duration::from_secs(10);

/// Plays the demo.
///
/// # Errors
/// When a step does not do what it should; the error says which and how.
pub(crate) async fn play() -> Result<()> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let root_key = format!("rp_demo_{}", RequestId::generate(Clock::system().now()));
    let settings = embedded::demo_settings(folder.path(), &root_key)?;
    telemetry::start(&settings);
    println!("Relaypost demo: one process, no services. Everything below really happens.\n");
    let relaypost = Embedded::start(settings).await?;
    let base = relaypost.url();
    println!("   Relaypost serves {base}, with its database in a temporary folder.");
    println!(
        "   (In your own instance: `make dev`, then Swagger UI at http://127.0.0.1:3000/docs)\n"
    );
    let played = story(&base, &root_key, folder.path()).await;
    relaypost.stop().await?;
    played?;
    println!("Done: one event and one email were published, delivered, verified and recorded.");
    println!(
        "Next: `make dev` keeps an instance running, and the README says how to run it for real."
    );
    Ok(())
}

async fn story(base: &str, root_key: &str, folder: &Path) -> Result<()> {
    let root = Client::new(base, "ROOT_API_KEY", root_key)?;
    step(
        1,
        "Create a tenant: whoever sends through you. The root key may do this.",
    );
    let tenant = text(
        &root.post("/v1/tenants", r#"{"name":"Acme"}"#).await?,
        "/id",
    )?;
    println!("   → {tenant}\n");

    step(
        2,
        "Create an API key for it. The key is shown this one time.",
    );
    let path = format!("/v1/tenants/{tenant}/api-keys");
    let answer = root
        .post(
            &path,
            r#"{"name":"backend","scopes":["send","read","manage"]}"#,
        )
        .await?;
    let key = text(&answer, "/key")?;
    println!("   → {}…\n", key.get(..12).unwrap_or(&key));
    let acme = Client::new(base, "KEY", &key)?;

    step(
        3,
        "Create an endpoint: where a customer of Acme wants its webhooks. Here, a small server of this demo.",
    );
    let receiver = Receiver::start().await?;
    let body = format!(
        r#"{{"url":"{}","event_types":["invoice.paid"]}}"#,
        receiver.url()
    );
    let endpoint = acme.post("/v1/endpoints", &body).await?;
    let secret = text(&endpoint, "/secret")?;
    println!(
        "   → {}, which signs with a secret of its own\n",
        text(&endpoint, "/id")?
    );

    webhook(&acme, &receiver, &secret).await?;
    email(&acme, folder).await
}

async fn webhook(acme: &Client, receiver: &Receiver, secret: &str) -> Result<()> {
    step(
        4,
        "Publish an event. It is stored before the answer, and goes to every endpoint that wants its type.",
    );
    let body = format!(r#"{{"event_type":"invoice.paid","payload":{PAYLOAD}}}"#);
    let message = acme.post("/v1/messages", &body).await?;
    let id = text(&message, "/id")?;
    let delivery = text(&message, "/deliveries/0/id")?;
    println!("   → {id}, with the delivery {delivery}\n");

    step(
        5,
        "The receiver gets it, byte for byte, signed as Standard Webhooks asks.",
    );
    let received = receiver.next().await?;
    show(&received);
    check(&received, &id, secret)?;
    println!("   The signature is right, and a changed body, timestamp or secret is refused.\n");

    step(6, "Every attempt is on record.");
    delivered(acme, &delivery).await?;
    attempts(acme, &delivery).await
}

async fn email(acme: &Client, folder: &Path) -> Result<()> {
    step(
        7,
        "Send an email: the same way, the same states. Here each mail is kept as a file instead of being sent.",
    );
    let body = r#"{"from":"Acme <billing@acme.example>","to":["ada@example.com"],"subject":"Your invoice","text":"Paid. Thank you!"}"#;
    let answer = acme.post("/v1/emails", body).await?;
    let delivery = text(&answer, "/deliveries/0/id")?;
    delivered(acme, &delivery).await?;
    let file = folder.join("mail").join(format!("{delivery}.eml"));
    let mail = std::fs::read_to_string(&file)
        .with_context(|| format!("{} was not kept", file.display()))?;
    println!("   → {}, kept as {delivery}.eml:\n", text(&answer, "/id")?);
    for line in mail.lines() {
        println!("   | {line}");
    }
    ensure!(
        mail.contains("Subject: Your invoice") && mail.contains("Paid. Thank you!"),
        "the mail is not what was sent"
    );
    println!();
    attempts(acme, &delivery).await
}

fn step(number: u32, what: &str) {
    println!("{number}. {what}");
}

fn show(received: &Received) {
    println!("   | POST /webhooks");
    for (name, value) in &received.headers {
        println!("   | {name}: {}", value.to_str().unwrap_or("?"));
    }
    println!("   |\n   | {}\n", String::from_utf8_lossy(&received.body));
}

/// Checks the request with the public library that a receiver would use.
fn check(received: &Received, message: &str, secret: &str) -> Result<()> {
    ensure!(
        received.body == PAYLOAD.as_bytes(),
        "the payload is not the bytes that were published"
    );
    let header = |name: &str| {
        received
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    ensure!(
        header("webhook-id") == Some(message),
        "webhook-id is not the message's id"
    );
    let mine = Webhook::new(secret)?;
    mine.verify(&received.body, &received.headers)
        .context("the signature is wrong")?;
    let changed = PAYLOAD.replace("in_1042", "in_6666");
    ensure!(
        mine.verify(changed.as_bytes(), &received.headers).is_err(),
        "a changed body is accepted"
    );
    let mut later = received.headers.clone();
    let timestamp: i64 = header("webhook-timestamp")
        .unwrap_or_default()
        .parse()
        .context("webhook-timestamp is no number")?;
    later.insert("webhook-timestamp", (timestamp + 1).into());
    ensure!(
        mine.verify(&received.body, &later).is_err(),
        "a changed timestamp is accepted"
    );
    let other = Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
    ensure!(
        other.verify(&received.body, &received.headers).is_err(),
        "another secret is accepted"
    );
    Ok(())
}

/// Waits until the delivery is recorded as delivered.
async fn delivered(acme: &Client, delivery: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut look = interval(Duration::from_millis(20));
    loop {
        look.tick().await;
        let answer = acme.look(&format!("/v1/deliveries/{delivery}")).await?;
        if text(&answer, "/status")? == "delivered" {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the delivery is still not delivered after ten seconds: {answer}"
        );
    }
}

async fn attempts(acme: &Client, delivery: &str) -> Result<()> {
    let answer = acme
        .get(&format!("/v1/deliveries/{delivery}/attempts"))
        .await?;
    let list = answer
        .pointer("/data")
        .and_then(Value::as_array)
        .context("the answer has no data")?;
    ensure!(!list.is_empty(), "there is no attempt on record");
    for attempt in list {
        println!(
            "   → attempt {}: {} in {} ms{}",
            attempt["number"],
            text(attempt, "/outcome")?,
            attempt["duration_ms"],
            attempt["http_status"]
                .as_i64()
                .map(|code| format!(", the receiver answered {code}"))
                .unwrap_or_default()
        );
    }
    println!();
    Ok(())
}

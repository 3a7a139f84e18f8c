//! The public Standard Webhooks packages, as a receiver would use them, take our signatures and refuse changed ones.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use relaypost_testkit::{Hit, Receiver};
use serde_json::json;

use crate::{SOON, world};

#[tokio::test]
async fn the_python_package_verifies() {
    let python = PathBuf::from(setting("VERIFIER_PYTHON"));
    check(|| Command::new(&python), "verify.py").await;
}

#[tokio::test]
async fn the_javascript_package_verifies() {
    // The script looks its package up in this folder.
    setting("VERIFIER_NODE_DIR");
    check(|| Command::new("node"), "verify.mjs").await;
}

async fn check(interpreter: impl Fn() -> Command, script: &str) {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (_, secret) = tenant
        .endpoint(&receiver.url("/"), &["order.created"])
        .await;
    let (_, other_secret) = tenant
        .endpoint(&receiver.url("/"), &["something.else"])
        .await;
    tenant
        .publish("order.created", json!({"name": "Zoë", "total": 12.50}))
        .await;
    receiver.wait_for(1, SOON).await;
    let hit = receiver.hits().remove(0);
    world.stop().await;

    let mut other_body = hit.clone();
    other_body.body.push(b' ');
    let mut other_time = hit.clone();
    let sent_at: u64 = hit.header("webhook-timestamp").unwrap().parse().unwrap();
    let time = other_time
        .headers
        .iter_mut()
        .find(|(name, _)| name.eq_ignore_ascii_case("webhook-timestamp"));
    time.unwrap().1 = (sent_at + 1).to_string();
    let cases = [
        ("as it came", &hit, &secret, "accepted"),
        ("another body", &other_body, &secret, "refused"),
        ("another timestamp", &other_time, &secret, "refused"),
        ("another secret", &hit, &other_secret, "refused"),
    ];
    for (what, hit, secret, verdict) in cases {
        assert_eq!(
            verify(interpreter(), script, hit, secret),
            verdict,
            "{script}: {what}"
        );
    }
}

fn verify(mut interpreter: Command, script: &str, hit: &Hit, secret: &str) -> String {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/verifiers")
        .join(script);
    let command = interpreter
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run `make test`"));
    let input = hit.verifier_input(secret).to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the verifier cannot use {input}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, which installs the public packages and sets it")
    })
}

use std::path::Path;

use relaypost_testkit::{Proc, RedisServer, Secrets, eventually};
use serde_json::json;

use crate::SOON;

fn shell(script: &str) -> (&Path, [&str; 2]) {
    (Path::new("sh"), ["-c", script])
}

#[tokio::test]
async fn waits_for_the_listening_line_and_stops_on_a_signal() {
    let (sh, args) = shell("echo hello; echo log >&2; echo listening on $URL; exec sleep 60");
    let env = [("URL".to_owned(), "http://127.0.0.1:4242".to_owned())];
    let process = Proc::start(Path::new("/"), sh, &args, &env).await;
    assert_eq!(process.base_url(), "http://127.0.0.1:4242");
    assert!(process.is_running());
    eventually(SOON, || async {
        let ready = process.stderr() == "log\n";
        ready.then_some(()).ok_or_else(|| process.stderr())
    })
    .await;
    process.sigterm();
    assert_eq!(process.wait_exit(SOON).await, 128 + 15);
    assert!(!process.is_running());
}

#[tokio::test]
#[should_panic(expected = "bad setting")]
async fn shows_stderr_when_a_process_ends_early() {
    let (sh, args) = shell("echo bad setting >&2; exit 2");
    Proc::start(Path::new("/"), sh, &args, &[]).await;
}

#[tokio::test]
async fn says_how_a_process_ended_that_may_end() {
    let (sh, args) = shell("echo no database >&2; exit 1");
    let ended = Proc::try_start(Path::new("/"), sh, &args, &[]).await;
    let why = ended.err().unwrap_or_default();
    assert!(
        why.contains("no database") && why.contains("exited with 1"),
        "{why}"
    );

    let (sh, args) = shell("echo listening on http://127.0.0.1:4242; exec sleep 60");
    let process = Proc::try_start(Path::new("/"), sh, &args, &[]).await;
    let process = process.unwrap_or_else(|why| panic!("{why}"));
    let moment = std::time::Duration::from_millis(50);
    assert_eq!(process.exit_within(moment).await, None);
}

#[tokio::test]
#[should_panic(expected = "still red")]
async fn eventually_shows_the_last_reason() {
    eventually(std::time::Duration::from_millis(50), || async {
        Err::<(), _>("still red".to_owned())
    })
    .await;
}

#[tokio::test]
async fn redis_comes_back_empty_on_its_port() {
    let mut redis = RedisServer::start().await;
    assert_eq!(redis.command(&["SET", "k:1", "v\r\nw"]).await, "OK");
    assert_eq!(redis.command(&["GET", "k:1"]).await, "v\r\nw");
    assert_eq!(redis.command(&["GET", "absent"]).await, "");
    assert_eq!(redis.command(&["RPUSH", "l", "1", "2"]).await, "2");
    assert_eq!(redis.keys().await, ["k:1", "l"]);
    let url = redis.url();
    redis.restart_empty().await;
    assert_eq!((redis.url(), redis.keys().await.len()), (url, 0));
    redis.command(&["SET", "k", "v"]).await;
    assert_eq!(redis.command(&["FLUSHALL"]).await, "OK");
    assert!(redis.keys().await.is_empty());
}

#[tokio::test]
#[should_panic(expected = "has logged secrets")]
async fn a_process_that_logs_a_secret_fails_its_test() {
    let secrets = Secrets::default();
    let (sh, args) = shell("echo a-known-secret >&2");
    let process = Proc::spawn(Path::new("/"), sh, &args, &[]).keeping(secrets.clone());
    process.wait_exit(SOON).await;
    secrets.add_body(&json!({"data": [{"secret": "a-known-secret"}]}));
}

#[test]
fn secrets_are_found_in_bodies_and_known_again_in_dumps() {
    let secrets = Secrets::default();
    secrets.add_body(&json!({
        "id": "not-a-secret", "key": "rp_12345678", "token": "short", "secret": "whsec_zyxwvuts",
        "headers": {"Authorization": "Bearer abcdefghij"},
    }));
    assert_eq!(
        secrets.all(),
        ["Bearer abcdefghij", "rp_12345678", "whsec_zyxwvuts"]
    );
    for (text, found) in [
        ("x rp_12345678 y", vec!["rp_12345678"]),
        ("token=abcdefghij", vec!["Bearer abcdefghij"]),
        ("\\x72705f3132333435363738", vec!["rp_12345678"]),
        ("not-a-secret", vec![]),
    ] {
        assert_eq!(secrets.found_in(text.as_bytes()), found, "{text}");
    }
}

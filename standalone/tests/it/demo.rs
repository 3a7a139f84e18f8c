//! The newcomer's first command.

use std::path::Path;

use relaypost_testkit::{Proc, eventually};

use crate::SOON;

#[tokio::test]
async fn the_demo_plays_to_its_end_and_leaves_nothing_where_it_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_relaypost"));
    let demo = Proc::spawn(folder.path(), binary, &["demo"], &[]);
    assert_eq!(demo.wait_exit(SOON).await, 0, "{}", demo.describe());
    // What it printed is read beside waiting for its end, and may be behind it.
    let shown = eventually(SOON, || async {
        let shown = demo.stdout();
        if shown.contains("Done:") {
            Ok(shown)
        } else {
            Err(shown)
        }
    })
    .await;
    for proof in [
        "webhook-signature: v1,",
        r#"{ "invoice": "in_1042",  "total": 12345678901234567890 }"#,
        "a changed body, timestamp or secret is refused",
        "attempt 1: delivered",
        "Subject: Your invoice",
    ] {
        assert!(shown.contains(proof), "{proof} is not in:\n{shown}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_second_process_on_the_same_file_does_not_start_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_relaypost"));
    let env = [("BIND_ADDR".to_owned(), "127.0.0.1:0".to_owned())];
    let first = Proc::spawn(folder.path(), binary, &["serve"], &env);
    eventually(SOON, || async {
        let shown = first.stdout();
        shown.contains("listening on").then_some(()).ok_or(shown)
    })
    .await;
    let second = Proc::spawn(folder.path(), binary, &["serve"], &env);
    assert_eq!(second.wait_exit(SOON).await, 1, "{}", second.describe());
    eventually(SOON, || async {
        let said = second.describe();
        said.contains("another process of Relaypost serves from")
            .then_some(())
            .ok_or(said)
    })
    .await;
}

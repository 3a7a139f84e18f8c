//! The client's address in the log: of the believed proxy's word, and of nobody else's.

use relaypost_testkit::eventually;

use crate::{SOON, world};

#[tokio::test]
async fn the_log_line_of_a_request_names_the_client_behind_the_proxy() {
    for (trust, expected) in [("1", "203.0.113.7"), ("0", "127.0.0.1")] {
        let world = world(&[("TRUST_PROXY", trust), ("LOG", "info,access=debug")]).await;
        let forwarded = world
            .client
            .with_header("x-forwarded-for", "198.51.100.1, 203.0.113.7")
            .with_header("x-request-id", "who-is-it");
        forwarded.get("/v1/tenants").await;
        let line = eventually(SOON, || async {
            let log = world.apis[0].stderr();
            let line = log
                .lines()
                .find(|line| line.contains("who-is-it") && line.contains("answered"));
            line.map(str::to_owned).ok_or_else(|| log.clone())
        })
        .await;
        assert!(line.contains(&format!("client={expected}")), "{line}");
        world.stop().await;
    }
}

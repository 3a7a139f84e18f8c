//! Lists come in pages, newest first.

use crate::{api, support::ids};

#[tokio::test]
async fn pages_show_everything_once_newest_first() {
    let api = api().await;
    let tenant = api.tenant().await;
    let mut published = Vec::new();
    for _ in 0..45 {
        published.push(crate::id(&tenant.publish("a.b").await));
    }
    published.reverse();
    let (mut seen, mut sizes, mut path) = (Vec::new(), Vec::new(), "/v1/messages".to_owned());
    loop {
        let page = tenant.api.get(&path).await.expect(200);
        seen.extend(ids(&page["data"]));
        sizes.push(page["data"].as_array().unwrap().len());
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/messages?cursor={cursor}"),
            None => break,
        }
        // What is published meanwhile does not shift the pages.
        tenant.publish("later").await;
    }
    assert_eq!(sizes, [20, 20, 5]);
    assert_eq!(seen, published);
    api.stop().await;
}

#[tokio::test]
async fn a_full_last_page_has_no_next_one() {
    let api = api().await;
    let tenant = api.tenant().await;
    for _ in 0..3 {
        tenant.publish("a.b").await;
    }
    let page = tenant.api.get("/v1/messages?limit=3").await.expect(200);
    assert!(page["next_cursor"].is_null(), "{page}");
    let page = tenant.api.get("/v1/messages?limit=2").await.expect(200);
    assert!(page["next_cursor"].is_string(), "{page}");
    api.stop().await;
}

//! What happens to an email, attempt by attempt.

use relaypost_shared::{
    delivery::{ErrorClass, Status},
    queue::Lane,
};
use relaypost_testkit::SmtpServer;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::fixture::{Bench, smtp_url};

#[tokio::test]
async fn a_mail_arrives_as_mime_over_connections_that_are_used_again() {
    let server = SmtpServer::start().await;
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &smtp_url(&server))]).await;
    let lane = bench.lane(Lane::Emails);
    for number in 0..3 {
        let id = bench.email(&format!("user{number}@example.test")).await;
        lane.work(&[id]).await;
        assert_eq!(bench.delivery(id).await.status, Status::Delivered);
    }
    let mails = server.mails();
    assert_eq!(mails.len(), 3);
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.as_slice()),
        (
            "sender@example.test",
            &["user0@example.test".to_owned()][..]
        )
    );
    let text = mails[0].text();
    assert!(
        text.contains("From: Sender <sender@example.test>")
            || text.contains("From: \"Sender\" <sender@example.test>"),
        "{text}"
    );
    assert!(
        text.contains("multipart/alternative") && text.contains("Message-ID: <eml_"),
        "{text}"
    );
    assert_eq!(server.connections(), 1);
    bench.close().await;
}

#[tokio::test]
async fn a_refused_mail_does_not_spoil_the_next_one() {
    let server = SmtpServer::start().await;
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &smtp_url(&server))]).await;
    let lane = bench.lane(Lane::Emails);
    server.fail_data(Some((451, "later")));
    lane.work(&[bench.email("one@example.test").await]).await;
    server.fail_data(None);
    let id = bench.email("two@example.test").await;
    lane.work(&[id]).await;
    assert_eq!(bench.delivery(id).await.status, Status::Delivered);
    bench.close().await;
}

#[tokio::test]
async fn a_provider_that_turns_us_away_is_not_the_mail_s_fault() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = closed.accept().await {
            // A client that hangs up first is fine as well.
            let _ = client.write_all(b"554 not today\r\n").await;
        }
    });
    let alone = format!("smtp://{address}?tls=none");
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &alone)]).await;
    let id = bench.email("user@example.test").await;
    bench.lane(Lane::Emails).work(&[id]).await;
    let delivery = bench.delivery(id).await;
    assert_eq!(
        (delivery.status, delivery.error_class),
        (Status::Pending, Some(ErrorClass::Connect))
    );
    bench.close().await;

    let server = SmtpServer::start().await;
    let both = format!("{alone},{}", smtp_url(&server));
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &both)]).await;
    let id = bench.email("user@example.test").await;
    bench.lane(Lane::Emails).work(&[id]).await;
    assert_eq!(
        (bench.delivery(id).await.status, server.mails().len()),
        (Status::Delivered, 1)
    );
    bench.close().await;
}

#[tokio::test]
async fn the_next_provider_is_asked_when_the_first_cannot_be_reached() {
    let server = SmtpServer::start().await;
    let both = format!("smtp://127.0.0.1:1?tls=none,{}", smtp_url(&server));
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &both)]).await;
    let id = bench.email("user@example.test").await;
    bench.lane(Lane::Emails).work(&[id]).await;
    assert_eq!(
        (bench.delivery(id).await.status, server.mails().len()),
        (Status::Delivered, 1)
    );
    bench.close().await;
}

#[tokio::test]
async fn without_a_mail_server_each_mail_is_kept_as_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let provider = format!("file://{}", folder.path().display());
    let bench = Bench::new(&[("EMAIL_PROVIDERS", &provider)]).await;
    let id = bench.email("user@example.test").await;
    bench.lane(Lane::Emails).work(&[id]).await;
    assert_eq!(bench.delivery(id).await.status, Status::Delivered);
    let mail = std::fs::read_to_string(folder.path().join(format!("{id}.eml"))).unwrap();
    assert!(mail.contains("To: user@example.test"), "{mail}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    bench.close().await;
}

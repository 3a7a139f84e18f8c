use relaypost_testkit::SmtpServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::SOON;

/// Sends everything at once and returns the codes of all answers.
async fn talk(server: &SmtpServer, script: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(script.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let last = |line: &&str| line.as_bytes()[3] == b' ';
    answers
        .lines()
        .filter(last)
        .map(|line| line[..3].to_owned())
        .collect()
}

#[tokio::test]
async fn takes_pipelined_mails_on_one_connection() {
    let server = SmtpServer::start().await;
    let codes = talk(
        &server,
        "EHLO me\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nNOOP\r\nDATA\r\n\
         Subject: 1\r\n\r\n..dot\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nDATA\r\n\
         MAIL FROM:<c@x.test> SIZE=3\r\nRCPT TO:<d@x.test>\r\nRCPT TO:<e@x.test>\r\nDATA\r\n2\r\n.\r\nQUIT\r\n",
    )
    .await;
    let wanted = "220 250 235 250 250 250 354 250 250 250 503 250 250 250 354 250 221";
    assert_eq!(codes.join(" "), wanted);
    server.wait_for(2, SOON).await;
    let mails = server.mails();
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.as_slice()),
        ("a@x.test", ["b@x.test".into()].as_slice())
    );
    assert_eq!(
        (mails[0].head(), mails[0].text()),
        ("Subject: 1".into(), "Subject: 1\r\n\r\n.dot\r\n".into())
    );
    assert_eq!(mails[1].to, ["d@x.test", "e@x.test"]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn refuses_recipients_and_data_on_demand() {
    let server = SmtpServer::start().await;
    server.respond_rcpt(|to| to.starts_with("no").then(|| (550, "unknown".into())));
    let mail = "MAIL FROM:<a@x.test>\r\nRCPT TO:<no@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n.\r\nQUIT\r\n";
    assert_eq!(
        talk(&server, mail).await.join(" "),
        "220 250 550 250 354 250 221"
    );
    server.fail_data(Some((451, "later")));
    assert_eq!(
        talk(&server, mail).await.join(" "),
        "220 250 550 250 354 451 221"
    );
    server.fail_data(None);
    server.vanish_after_data(true);
    assert_eq!(talk(&server, mail).await.join(" "), "220 250 550 250 354");
    assert_eq!(server.mails().len(), 2);
}

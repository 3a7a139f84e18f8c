//! One SMTP connection, over which any number of mails may come.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::{Mail, Shared, Stage};

pub(super) struct Session {
    stream: BufStream<TcpStream>,
    shared: Arc<Shared>,
    from: Option<String>,
    to: Vec<String>,
}

impl Session {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>) -> Session {
        Session {
            stream: BufStream::new(stream),
            shared,
            from: None,
            to: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        self.stream.get_ref().set_nodelay(true)?;
        self.say(220, "testkit ESMTP").await?;
        while let Some(line) = self.line().await? {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = line
                .split([' ', ':'])
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => self.raw("250-testkit\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN LOGIN\r\n").await?,
                "AUTH" => self.auth(&line).await?,
                "MAIL" => self.mail(&line).await?,
                "RCPT" => self.rcpt(&line).await?,
                "DATA" if self.to.is_empty() => self.say(503, "no recipients").await?,
                "DATA" => {
                    if !self.data().await? {
                        return Ok(());
                    }
                }
                "NOOP" => self.say(250, "ok").await?,
                "HELO" | "RSET" => {
                    self.reset();
                    self.say(250, "ok").await?;
                }
                "QUIT" => {
                    self.say(221, "bye").await?;
                    return self.stream.flush().await;
                }
                _ => self.say(502, "unknown command").await?,
            }
        }
        Ok(())
    }

    async fn auth(&mut self, line: &str) -> io::Result<()> {
        // `AUTH LOGIN` asks for a name and a password unless the name came along; `AUTH PLAIN` for one line at most.
        let words = line.split(' ').count();
        let login = line.to_ascii_uppercase().contains("LOGIN");
        let questions = if login {
            4usize.saturating_sub(words)
        } else {
            3usize.saturating_sub(words)
        };
        for question in ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"]
            .into_iter()
            .skip(2usize.saturating_sub(questions))
        {
            self.say(334, question).await?;
            self.line().await?;
        }
        self.say(235, "welcome").await
    }

    async fn mail(&mut self, line: &str) -> io::Result<()> {
        self.reset();
        self.from = Some(address(line));
        self.say(250, "ok").await
    }

    async fn rcpt(&mut self, line: &str) -> io::Result<()> {
        let to = address(line);
        let refusal = self
            .shared
            .rcpt_rule
            .lock()
            .unwrap()
            .as_ref()
            .and_then(|rule| rule(&to));
        self.shared.hold(Stage::Recipient).await;
        match refusal {
            Some((code, text)) => self.say(code, &text).await,
            None if self.from.is_none() => self.say(503, "no sender").await,
            None => {
                self.to.push(to);
                self.say(250, "ok").await
            }
        }
    }

    /// Reads one mail and answers it. `false`: the connection is to be closed without an answer.
    async fn data(&mut self) -> io::Result<bool> {
        self.shared.hold(Stage::Data).await;
        self.say(354, "go on").await?;
        let mut data = Vec::new();
        loop {
            let line = self.line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match line.strip_prefix(b".") {
                Some(b"\r\n" | b"\n") => break,
                Some(unstuffed) => data.extend_from_slice(unstuffed),
                None => data.extend_from_slice(&line),
            }
        }
        let mail = Mail {
            from: self.from.take().unwrap_or_default(),
            to: std::mem::take(&mut self.to),
            data,
            at: Instant::now(),
        };
        let failure = self.shared.data_failure.lock().unwrap().clone();
        if let Some((code, text)) = failure {
            self.shared.hold(Stage::Content).await;
            return self.say(code, &text).await.map(|()| true);
        }
        self.shared.mails.lock().unwrap().push(mail);
        self.shared.count.send_modify(|count| *count += 1);
        self.shared.hold(Stage::Content).await;
        let silent = *self.shared.silent.lock().unwrap();
        if !silent {
            self.say(250, "queued").await?;
        }
        Ok(!silent)
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        // A pipelining client reads no answer before it has written all it has, so what is buffered goes out now.
        self.stream.flush().await?;
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await?;
        Ok((read > 0).then_some(line))
    }

    async fn say(&mut self, code: u16, text: &str) -> io::Result<()> {
        self.raw(&format!("{code} {text}\r\n")).await
    }

    async fn raw(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await
    }
}

/// What stands between the angle brackets.
fn address(line: &str) -> String {
    let after = line.split_once('<').map_or("", |(_, after)| after);
    after
        .split_once('>')
        .map_or("", |(address, _)| address)
        .to_owned()
}

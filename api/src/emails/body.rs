//! An email as it stands in bodies.

use poem_openapi::{Object, types::Example};
use relaypost_shared::{clock::Timestamp, ids, store};
use serde::{Deserialize, Serialize};

use crate::{
    deliveries::Delivery,
    http::{Checks, HeaderMap, Items, Moment, Ref, Text, example_id, example_time},
};

/// The longest line that a mail can have (RFC 5322, section 2.1.1).
const MAX_SUBJECT: usize = 998;
const MAX_TAGS: usize = 20;
/// Emails in one batch at most.
const MAX_BATCH: usize = 100;

/// Emails to send together.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub(crate) struct EmailBatch {
    /// 1 to 100 emails.
    pub(super) emails: Items<NewEmail, MAX_BATCH>,
}

impl Example for EmailBatch {
    fn example() -> Self {
        Self {
            emails: Items::example(),
        }
    }
}

/// When an email is to be sent instead.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub(crate) struct RescheduleEmail {
    /// The earliest time of the first attempts, up to 365 days ahead. In the past: now.
    pub(super) send_at: Moment,
}

impl Example for RescheduleEmail {
    fn example() -> Self {
        Self {
            send_at: example_time().into(),
        }
    }
}

/// What is sent.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct NewEmail {
    /// The sender: `a@example.com` or `Name <a@example.com>`. Without it: the service's default sender.
    #[oai(nullable)]
    pub(super) from: Option<String>,
    /// Whom it is to: at least one, and together with `cc` and `bcc` at most 50.
    #[oai(validator(min_items = 1, max_items = 50))]
    pub(super) to: Vec<String>,
    /// Who gets a copy.
    #[serde(default)]
    #[oai(default, validator(max_items = 49))]
    pub(super) cc: Vec<String>,
    /// Who gets a copy without being named in it.
    #[serde(default)]
    #[oai(default, validator(max_items = 49))]
    pub(super) bcc: Vec<String>,
    /// Where answers go.
    #[oai(nullable)]
    pub(super) reply_to: Option<String>,
    /// Its subject: one line.
    #[oai(validator(
        min_length = 1,
        max_length = 998,
        pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"
    ))]
    pub(super) subject: String,
    /// Its plain text. This, `html` or both have to be there.
    #[oai(nullable)]
    pub(super) text: Option<String>,
    /// Its HTML.
    #[oai(nullable)]
    pub(super) html: Option<String>,
    /// Headers of your own, up to 20. Those that make up the mail, such as `From` and `Subject`, are not free.
    #[serde(default)]
    #[oai(default)]
    pub(super) headers: HeaderMap,
    /// The earliest time of the first attempts, up to 365 days ahead. Without it, or in the past: now.
    #[oai(nullable)]
    pub(super) send_at: Option<Moment>,
    /// Words to find it by, which are never sent. Up to 20.
    #[serde(default)]
    #[oai(default, validator(max_items = 20))]
    pub(super) tags: Vec<String>,
}

impl Example for NewEmail {
    fn example() -> Self {
        Self {
            from: Some("Acme <orders@example.com>".to_owned()),
            to: vec!["Ann Lee <ann@example.net>".to_owned()],
            subject: "Your order 42".to_owned(),
            text: Some("It is on its way.".to_owned()),
            tags: vec!["order".to_owned()],
            ..Self::default()
        }
    }
}

impl NewEmail {
    /// About how many bytes it is.
    pub(super) fn size(&self) -> usize {
        let bodies = [&self.text, &self.html];
        let bodies = bodies.map(|body| body.as_ref().map_or(0, String::len));
        self.subject.len() + bodies.iter().sum::<usize>()
    }

    /// Checks everything but the addresses.
    pub(super) fn check(&self, checks: &mut Checks, now: Timestamp) {
        checks.line("subject", &self.subject, 1..=MAX_SUBJECT);
        checks.require(self.text.is_some() || self.html.is_some(), "text", || {
            "expected text, html or both".to_owned()
        });
        for (path, content) in [("text", &self.text), ("html", &self.html)] {
            checks.text(path, content.as_deref().unwrap_or_default());
        }
        checks.due("send_at", self.send_at, now);
        self.headers.check(checks, is_reserved);
        checks.require(self.tags.len() <= MAX_TAGS, "tags", || {
            format!("expected at most {MAX_TAGS} tags")
        });
        for (index, tag) in self.tags.iter().enumerate() {
            checks.line(&format!("tags[{index}]"), tag, 1..=100);
        }
    }
}

/// Headers that have fields of their own, or that the mail itself and its transport are made of.
fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 13] = [
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "return-path",
        "received",
        "dkim-signature",
    ];
    RESERVED.contains(&name) || name.starts_with("content-") || name.starts_with("resent-")
}

/// An email, with its deliveries.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Email {
    /// Its id.
    id: Ref<ids::Email>,
    /// The sender.
    from: String,
    /// Whom it is to.
    to: Vec<String>,
    /// Who gets a copy.
    cc: Vec<String>,
    /// Who gets a copy without being named in it.
    bcc: Vec<String>,
    /// Where answers go.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    /// Its subject.
    subject: String,
    /// Words to find it by.
    tags: Vec<String>,
    /// When it was accepted.
    created_at: Moment,
    /// The earliest time of the first attempts, if the sender named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_at: Option<Moment>,
    /// One for each distinct recipient address.
    deliveries: Vec<Delivery>,
}

impl Email {
    pub(super) fn new(row: &store::Email, deliveries: Vec<Delivery>) -> Self {
        Self {
            id: row.id.into(),
            from: row.sender.clone(),
            to: row.to_recipients.0.clone(),
            cc: row.cc_recipients.0.clone(),
            bcc: row.bcc_recipients.0.clone(),
            reply_to: row.reply_to.clone(),
            subject: row.subject.clone(),
            tags: row.tags.0.clone(),
            created_at: row.created_at.into(),
            send_at: row.send_at.map(Text),
            deliveries,
        }
    }
}

impl Example for Email {
    fn example() -> Self {
        let new = NewEmail::example();
        Self {
            id: example_id().into(),
            from: new.from.unwrap_or_default(),
            to: new.to,
            cc: new.cc,
            bcc: new.bcc,
            reply_to: new.reply_to,
            subject: new.subject,
            tags: new.tags,
            created_at: example_time().into(),
            send_at: None,
            deliveries: vec![Delivery::email_example()],
        }
    }
}

/// An email, with its content and its deliveries.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct EmailDetail {
    #[serde(flatten)]
    #[oai(flatten)]
    email: Email,
    /// Its plain text. That of a mail with a secret in it, such as a link to choose a password, is never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Its HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    /// Headers of the sender's own.
    headers: HeaderMap,
}

impl EmailDetail {
    pub(super) fn new(
        row: store::Email,
        body: Option<store::EmailBody>,
        deliveries: Vec<Delivery>,
    ) -> Self {
        let (text, html) = shown(body);
        Self {
            email: Email::new(&row, deliveries),
            text,
            html,
            headers: HeaderMap(row.headers),
        }
    }
}

impl Example for EmailDetail {
    fn example() -> Self {
        let new = NewEmail::example();
        Self {
            email: Email::example(),
            text: new.text,
            html: new.html,
            headers: new.headers,
        }
    }
}

/// What an email says and to whom, in the fields of the email itself.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct EmailContent {
    /// The sender.
    from: String,
    /// Whom it is to.
    to: Vec<String>,
    /// Who gets a copy.
    cc: Vec<String>,
    /// Who gets a copy without being named in it.
    bcc: Vec<String>,
    /// Where answers go.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    /// Its subject.
    subject: String,
    /// Its plain text. That of a mail with a secret in it, such as a link to choose a password, is never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Its HTML.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
    /// Headers of the sender's own.
    headers: HeaderMap,
    /// Words to find it by.
    tags: Vec<String>,
}

/// The text and the HTML of an email, unless they are sealed.
fn shown(body: Option<store::EmailBody>) -> (Option<String>, Option<String>) {
    body.filter(|body| !body.sealed)
        .map_or((None, None), |body| (body.text, body.html))
}

impl EmailContent {
    pub(crate) fn new(row: store::Email, body: Option<store::EmailBody>) -> Self {
        let (text, html) = shown(body);
        Self {
            from: row.sender,
            to: row.to_recipients.0,
            cc: row.cc_recipients.0,
            bcc: row.bcc_recipients.0,
            reply_to: row.reply_to,
            subject: row.subject,
            text,
            html,
            headers: HeaderMap(row.headers),
            tags: row.tags.0,
        }
    }
}

impl Example for EmailContent {
    fn example() -> Self {
        let new = NewEmail::example();
        Self {
            from: new.from.unwrap_or_default(),
            to: new.to,
            cc: new.cc,
            bcc: new.bcc,
            reply_to: new.reply_to,
            subject: new.subject,
            text: new.text,
            html: new.html,
            headers: new.headers,
            tags: new.tags,
        }
    }
}

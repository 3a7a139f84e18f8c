//! Puts a stored email into the form in which it travels: a MIME message (RFC 5322, RFC 2045).

use lettre::{
    Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use relaypost_shared::{
    secrets::{Keyring, OpenError, Place},
    store::{EmailBody, load::OutgoingEmail},
};

/// The stored email does not make a mail. The API checks before it accepts, so this means a damaged row.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error("not an address: {0}")]
    Address(#[from] lettre::address::AddressError),
    #[error("{0}")]
    Mail(#[from] lettre::error::Error),
    #[error("not a header name: {0}")]
    Header(String),
    #[error("its text: {0}")]
    Sealed(#[from] OpenError),
    #[error("its text is not UTF-8")]
    Utf8,
}

/// The mail as every recipient gets it. Bcc recipients are in no header. It is the same on every attempt, so that a
/// mail that arrives twice can be told by its `Message-ID`.
pub(super) fn build(
    OutgoingEmail { row: email, body }: &OutgoingEmail,
    keyring: &Keyring,
) -> Result<Vec<u8>, BuildError> {
    let from: Mailbox = email.sender.parse()?;
    let id = format!("<{}@{}>", email.id, from.email.domain());
    let mut mail = Message::builder()
        .date(email.created_at.into())
        .message_id(Some(id))
        .subject(email.subject.as_str())
        // The envelope is the transport's: each recipient's copy travels alone, and this one is not used.
        .envelope(lettre::address::Envelope::new(
            None,
            vec![from.email.clone()],
        )?)
        .from(from);
    for address in &email.to_recipients.0 {
        mail = mail.to(address.parse()?);
    }
    for address in &email.cc_recipients.0 {
        mail = mail.cc(address.parse()?);
    }
    if let Some(address) = &email.reply_to {
        mail = mail.reply_to(address.parse()?);
    }
    for (name, value) in &email.headers.0 {
        let name = HeaderName::new_from_ascii(name.clone())
            .map_err(|_| BuildError::Header(name.clone()))?;
        mail = mail.raw_header(HeaderValue::new(name, value.clone()));
    }
    let text = content(
        body,
        keyring,
        Place::email_text(email.id),
        body.text.as_deref(),
    )?;
    let html = content(
        body,
        keyring,
        Place::email_html(email.id),
        body.html.as_deref(),
    )?;
    let mail = match (text, html) {
        (Some(text), Some(html)) => mail.multipart(
            MultiPart::alternative()
                // The default is drawn anew each time, and every attempt has to send the same mail.
                .boundary(format!("part_{}", email.id))
                .singlepart(SinglePart::plain(text))
                .singlepart(SinglePart::html(html)),
        ),
        (None, Some(html)) => mail.singlepart(SinglePart::html(html)),
        (text, None) => mail.singlepart(SinglePart::plain(text.unwrap_or_default())),
    };
    Ok(mail?.formatted())
}

/// The text or the HTML of a mail, opened if it is sealed.
fn content(
    body: &EmailBody,
    keyring: &Keyring,
    place: Place<'_>,
    stored: Option<&str>,
) -> Result<Option<String>, BuildError> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    if !body.sealed {
        return Ok(Some(stored.to_owned()));
    }
    let opened = keyring.open(place, stored)?;
    String::from_utf8(opened)
        .map(Some)
        .map_err(|_| BuildError::Utf8)
}

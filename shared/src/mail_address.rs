//! Mail addresses, with or without a display name: of senders and recipients, of users, and of the setting that names a sender.

use lettre::message::Mailbox;

/// RFC 5321, section 4.5.3.1.3, less the angle brackets; the display name comes on top.
const MAX_ADDRESS: usize = 254;
const MAX_NAME: usize = 200;

/// Reads `a@example.com` or `Name <a@example.com>`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<Mailbox, String> {
    if text.chars().any(char::is_control) {
        return Err("expected no control characters and no line ends".to_owned());
    }
    // A mail server without SMTPUTF8, which most are, cannot take any other.
    let (_, address) = text.rsplit_once('<').unwrap_or(("", text));
    if !address.is_ascii() {
        return Err("expected an ASCII address; write an international domain as xn--…".to_owned());
    }
    let mailbox: Mailbox = text
        .parse()
        .map_err(|_| "expected an address like a@example.com or Name <a@example.com>".to_owned())?;
    let address: &str = mailbox.email.as_ref();
    if address.len() > MAX_ADDRESS {
        return Err(format!(
            "expected an address of up to {MAX_ADDRESS} characters"
        ));
    }
    let name = mailbox.name.as_deref().unwrap_or_default();
    if name.chars().count() > MAX_NAME {
        return Err(format!("expected a name of up to {MAX_NAME} characters"));
    }
    Ok(mailbox)
}

/// The address alone, with its domain in lower case: the same for two spellings of one recipient.
pub fn bare(mailbox: &Mailbox) -> String {
    let domain = mailbox.email.domain().to_ascii_lowercase();
    format!("{}@{domain}", mailbox.email.user())
}

/// The bare address of one that comes alone or with a name.
///
/// # Errors
/// What is wrong with it, in words.
pub fn bare_address(text: &str) -> Result<String, String> {
    parse(text).map(|mailbox| bare(&mailbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_with_or_without_a_name() {
        for (text, address) in [
            ("a@example.com", "a@example.com"),
            ("Ann Lee <Ann@Example.COM>", "Ann@example.com"),
            ("\"Lee, Ann\" <a@example.com>", "a@example.com"),
            (
                "Zoë <zoe@xn--bcher-kva.example>",
                "zoe@xn--bcher-kva.example",
            ),
            ("relaypost@localhost", "relaypost@localhost"),
        ] {
            assert_eq!(
                parse(text).map(|mailbox| bare(&mailbox)),
                Ok(address.to_owned())
            );
        }
    }

    #[test]
    fn what_is_no_single_ascii_address_is_refused() {
        for text in [
            "",
            "nobody at example",
            "a@",
            "@example.com",
            "a@example.com, b@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "a@example.com b",
            "A <a@example.com> b",
            "a@bücher.example",
            "zoë@example.com",
            "a@exam ple.com",
            &format!("{}@example.com", "a".repeat(250)),
        ] {
            assert!(parse(text).is_err(), "{text:?} {:?}", parse(text));
        }
    }
}

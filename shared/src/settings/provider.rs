//! Where mails are handed to.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};
use url::Url;
use uuid::Uuid;

/// One provider of `EMAIL_PROVIDERS`.
#[derive(Clone, PartialEq, Eq)]
pub enum MailProvider {
    /// A mail server.
    Smtp {
        /// Its name.
        host: String,
        /// Its port.
        port: u16,
        /// User and password.
        credentials: Option<(String, String)>,
        /// How the connection is protected.
        tls: SmtpTls,
    },
    /// A folder that keeps each mail as an `.eml` file.
    Folder(PathBuf),
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte, as on port 465.
    Required,
    /// `STARTTLS`, without which nothing is sent, as on port 587.
    StartTls,
    /// Not at all.
    None,
}

const EXPECTED: &str =
    "expected smtp://user:password@host:port?tls=required|starttls|none or file://folder";

impl MailProvider {
    /// What people see of it: where it is, without user and password.
    pub fn name(&self) -> String {
        match self {
            Self::Smtp { host, port, .. } => format!("smtp://{host}:{port}"),
            Self::Folder(folder) => format!("file://{}", folder.display()),
        }
    }

    /// The id of its circuit: the same in every process that has it in its settings.
    pub fn circuit(&self) -> Uuid {
        let digest = Sha256::digest(self.name());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

impl FromStr for MailProvider {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(folder) = text.strip_prefix("file://") {
            return if folder.is_empty() {
                Err(EXPECTED)
            } else {
                Ok(Self::Folder(folder.into()))
            };
        }
        let url = Url::parse(text).map_err(|_| EXPECTED)?;
        let host = url
            .host_str()
            .filter(|_| url.scheme() == "smtp")
            .ok_or(EXPECTED)?;
        let tls = match url
            .query_pairs()
            .find(|(name, _)| name == "tls")
            .map(|(_, value)| value)
        {
            None => SmtpTls::StartTls,
            Some(value) => match &*value {
                "required" => SmtpTls::Required,
                "starttls" => SmtpTls::StartTls,
                "none" => SmtpTls::None,
                _ => return Err(EXPECTED),
            },
        };
        let user = decode(url.username())?;
        Ok(Self::Smtp {
            host: host.to_owned(),
            port: url.port().unwrap_or(match tls {
                SmtpTls::Required => 465,
                SmtpTls::StartTls => 587,
                SmtpTls::None => 25,
            }),
            credentials: match url.password() {
                Some(password) => Some((user, decode(password)?)),
                None if user.is_empty() => None,
                None => return Err(EXPECTED),
            },
            tls,
        })
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1), which a password with an `@` or a `/` needs in an address. A `%` that no
/// two digits follow stands for itself.
fn decode(text: &str) -> Result<String, &'static str> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| EXPECTED)
}

impl MailProvider {
    /// Its name in logs: without user and password.
    pub fn label(&self) -> String {
        match self {
            Self::Smtp { host, port, .. } => format!("smtp://{host}:{port}"),
            Self::Folder(folder) => format!("file://{}", folder.display()),
        }
    }
}

impl fmt::Debug for MailProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_smtp_address_is_taken_apart() {
        let provider: MailProvider = "smtp://me:p%40ss@mail.example:2525?tls=none"
            .parse()
            .unwrap();
        assert_eq!(
            provider,
            MailProvider::Smtp {
                host: "mail.example".into(),
                port: 2525,
                credentials: Some(("me".into(), "p@ss".into())),
                tls: SmtpTls::None
            }
        );
        assert!(!format!("{provider:?}").contains("p@ss"));
    }

    #[test]
    fn a_password_is_decoded_and_a_percent_sign_alone_stays() {
        for (text, wanted) in [("p%40%2fss", "p@/ss"), ("100%", "100%"), ("%C3%A9", "é")] {
            let provider = format!("smtp://me:{text}@mail.example").parse();
            let Ok(MailProvider::Smtp { credentials, .. }) = provider else {
                panic!("{text}: {provider:?}");
            };
            assert_eq!(credentials, Some(("me".to_owned(), wanted.to_owned())));
        }
    }

    #[test]
    fn an_address_that_is_no_provider_is_refused() {
        for text in [
            "",
            "file://",
            "smtp://",
            "http://host",
            "smtp://host?tls=maybe",
            "smtp://user@host",
            "smtp://user:%ff@host",
        ] {
            assert!(text.parse::<MailProvider>().is_err(), "{text}");
        }
    }
}

//! Signing in through other providers.

use std::{fmt, str::FromStr};

use super::{AppEnv, WebUrl, reader::Reader};

/// Where people who have no password here may sign in.
#[derive(Clone, Debug)]
pub struct OAuth {
    /// GitHub, or a GitHub Enterprise server.
    pub github: Option<Github>,
    /// Google.
    pub google: Option<OidcProvider>,
    /// Any other issuer of OpenID Connect.
    pub oidc: Option<OidcProvider>,
    /// Whether somebody whom no user stands for becomes one, without roles.
    pub create_users: bool,
}

/// What we are to a provider.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// The client id.
    pub id: String,
    /// The client secret.
    pub secret: ClientSecret,
}

/// An OAuth app at GitHub.
#[derive(Clone, Debug)]
pub struct Github {
    /// What we are to it.
    pub client: OAuthClient,
    /// Where people sign in.
    pub url: WebUrl,
    /// Where its API is.
    pub api_url: WebUrl,
}

/// A client at an OpenID Connect issuer.
#[derive(Clone, Debug)]
pub struct OidcProvider {
    /// What we are to it.
    pub client: OAuthClient,
    /// The issuer, exactly as it writes itself in its tokens.
    pub issuer: WebUrl,
}

/// Google as an issuer.
const GOOGLE: &str = "https://accounts.google.com";

impl OAuth {
    pub(super) fn read(from: &mut Reader, env: AppEnv) -> Self {
        let github = client(
            from,
            [
                (
                    "OAUTH_GITHUB_CLIENT_ID",
                    "The client id of an OAuth app at GitHub, whose callback is `PUBLIC_URL/auth/oauth/github/callback`. Without it nobody signs in through GitHub.",
                ),
                (
                    "OAUTH_GITHUB_CLIENT_SECRET",
                    "The client secret of that app.",
                ),
            ],
        );
        let url = from.or(
            "OAUTH_GITHUB_URL",
            "https://github.com",
            "Where people sign in to GitHub; for GitHub Enterprise the address of the server.",
        );
        let api_url = from.or(
            "OAUTH_GITHUB_API_URL",
            "https://api.github.com",
            "Where GitHub's API is; for GitHub Enterprise `https://HOST/api/v3`.",
        );
        let google = client(
            from,
            [
                (
                    "OAUTH_GOOGLE_CLIENT_ID",
                    "The client id of a web application at Google, whose redirect URI is `PUBLIC_URL/auth/oauth/google/callback`. Without it nobody signs in through Google.",
                ),
                (
                    "OAUTH_GOOGLE_CLIENT_SECRET",
                    "The client secret of that application.",
                ),
            ],
        );
        let issuer: Option<WebUrl> = from.optional("OAUTH_OIDC_ISSUER", "An OpenID Connect issuer, exactly as its discovery document writes it: `https://login.example.com/realms/staff`.");
        from.example(
            "OAUTH_OIDC_ISSUER",
            "https://login.example.com/realms/staff",
        );
        let oidc = client(
            from,
            [
                (
                    "OAUTH_OIDC_CLIENT_ID",
                    "The client id at that issuer; the redirect URI is `PUBLIC_URL/auth/oauth/oidc/callback`.",
                ),
                (
                    "OAUTH_OIDC_CLIENT_SECRET",
                    "The client secret at that issuer.",
                ),
            ],
        );
        let create_users = from.or("OAUTH_CREATE_USERS", "false", "Whether somebody who signs in through a provider and is no user yet becomes one, without any role.");
        refuse_plain_http(
            from,
            env,
            [
                ("OAUTH_GITHUB_URL", Some(&url)),
                ("OAUTH_GITHUB_API_URL", Some(&api_url)),
                ("OAUTH_OIDC_ISSUER", issuer.as_ref()),
            ],
        );
        match (&oidc, &issuer) {
            (Some(_), None) => from.refuse(
                "OAUTH_OIDC_ISSUER",
                "expected an issuer beside OAUTH_OIDC_CLIENT_ID: https://login.example.com",
            ),
            (None, Some(_)) => from.refuse(
                "OAUTH_OIDC_CLIENT_ID",
                "expected a client id and OAUTH_OIDC_CLIENT_SECRET beside OAUTH_OIDC_ISSUER",
            ),
            _ => {}
        }
        Self {
            github: github.map(|client| Github {
                client,
                url,
                api_url,
            }),
            // The constant is an address; were it none, Google would not be offered.
            google: google
                .zip(GOOGLE.parse().ok())
                .map(|(client, issuer)| OidcProvider { client, issuer }),
            oidc: oidc
                .zip(issuer)
                .map(|(client, issuer)| OidcProvider { client, issuer }),
            create_users,
        }
    }
}

/// Client id and secret, which are nothing without each other.
fn client(
    from: &mut Reader,
    [id, secret]: [(&'static str, &'static str); 2],
) -> Option<OAuthClient> {
    let ((id_name, id_about), (secret_name, secret_about)) = (id, secret);
    let id: Option<Visible> = from.optional(id_name, id_about);
    from.example(id_name, "Iv1.8a61f9b3a7aba766");
    let secret: Option<ClientSecret> = from.optional(secret_name, secret_about);
    from.example(secret_name, "$(cat client-secret)");
    match (id, secret) {
        (Some(id), Some(secret)) => Some(OAuthClient { id: id.0, secret }),
        (Some(_), None) => {
            // A secret that was there and wrong has been told already; saying both does no harm.
            from.refuse(
                secret_name,
                "expected the secret that belongs to the client id",
            );
            None
        }
        (None, Some(_)) => {
            from.refuse(id_name, "expected the client id that belongs to the secret");
            None
        }
        (None, None) => None,
    }
}

/// Tokens and secrets go to these addresses.
fn refuse_plain_http(
    from: &mut Reader,
    env: AppEnv,
    addresses: [(&'static str, Option<&WebUrl>); 3],
) {
    for (name, address) in addresses {
        if env == AppEnv::Production && address.is_some_and(|address| !address.is_https()) {
            from.refuse(name, "expected https:// in production");
        }
    }
}

/// Text without spaces.
struct Visible(String);

impl FromStr for Visible {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected visible ASCII characters, as the provider shows it")
        }
    }
}

/// A client secret that a provider gave out. It may be short, because the provider chose it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(String);

impl ClientSecret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl FromStr for ClientSecret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Visible>().map(|text| Self(text.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{Invalid, Settings};

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Invalid> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_map(owned.collect::<HashMap<_, _>>())
    }

    #[test]
    fn without_settings_there_is_no_provider() {
        let oauth = read(&[]).unwrap().oauth;
        assert!(oauth.github.is_none() && oauth.google.is_none() && oauth.oidc.is_none());
        assert!(!oauth.create_users);
    }

    #[test]
    fn half_a_client_is_named_and_its_secret_is_not_repeated() {
        let cases = [
            (
                vec![("OAUTH_GITHUB_CLIENT_ID", "abc")],
                "OAUTH_GITHUB_CLIENT_SECRET",
            ),
            (
                vec![("OAUTH_GOOGLE_CLIENT_SECRET", "hidden")],
                "OAUTH_GOOGLE_CLIENT_ID",
            ),
            (
                vec![
                    ("OAUTH_OIDC_CLIENT_ID", "abc"),
                    ("OAUTH_OIDC_CLIENT_SECRET", "hidden"),
                ],
                "OAUTH_OIDC_ISSUER",
            ),
            (
                vec![("OAUTH_OIDC_ISSUER", "https://login.example.com")],
                "OAUTH_OIDC_CLIENT_ID",
            ),
            (
                vec![("OAUTH_OIDC_ISSUER", "login.example.com")],
                "OAUTH_OIDC_ISSUER",
            ),
        ];
        for (pairs, named) in cases {
            let Invalid(problems) = read(&pairs).unwrap_err();
            let text = problems.join("\n");
            assert!(text.starts_with(named), "{pairs:?}: {text}");
            assert!(!text.contains("hidden"), "{text}");
        }
    }

    #[test]
    fn production_asks_for_https() {
        let pairs = [
            ("OAUTH_OIDC_ISSUER", "http://127.0.0.1:4000"),
            ("OAUTH_OIDC_CLIENT_ID", "relaypost"),
            ("OAUTH_OIDC_CLIENT_SECRET", "hidden-secret"),
        ];
        let settings = read(&pairs).unwrap();
        assert!(!format!("{settings:?}").contains("hidden"));
        let mut production = relaypost_testkit::production();
        production.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let Invalid(problems) = Settings::from_map(production).unwrap_err();
        let text = problems.join("\n");
        assert!(
            text.contains("OAUTH_OIDC_ISSUER: expected https://"),
            "{text}"
        );
    }
}

//! A real OpenID Connect provider, and a browser that signs in there.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::{Client, Response, header, redirect};
use tempfile::TempDir;
use url::Url;

use super::{Asked, CLIENT_ID, CLIENT_SECRET};
use crate::api::tls_provider;
use crate::process::Proc;

/// More redirects than any sign-in takes.
const MAX_STEPS: usize = 10;

/// The npm package `oidc-provider`, run by `testkit/oidc/provider.mjs`, whose head says whom it knows.
pub struct OidcProvider {
    process: Proc,
    _folder: TempDir,
}

impl OidcProvider {
    /// Starts it for a client with this redirect address. `env` says what else it does.
    pub async fn start(redirect_uri: &str, env: &[(&str, &str)]) -> OidcProvider {
        let packages = std::env::var("OIDC_PROVIDER_NODE_DIR").unwrap_or_else(|_| {
            panic!(
                "OIDC_PROVIDER_NODE_DIR is not set: run `make test`, which installs the npm package `oidc-provider` \
                 and sets it, or eval \"$(scripts/oidc-provider)\""
            )
        });
        let folder = TempDir::new().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/oidc/provider.mjs");
        let own = [
            ("OIDC_PROVIDER_NODE_DIR", packages.as_str()),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", CLIENT_SECRET),
            ("REDIRECT_URI", redirect_uri),
        ];
        let env: Vec<_> = own
            .iter()
            .chain(env)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let process = Proc::start(folder.path(), Path::new("node"), &[script], &env).await;
        OidcProvider {
            process,
            _folder: folder,
        }
    }

    /// The settings that lead to it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OAUTH_OIDC_ISSUER", self.process.base_url()),
            ("OAUTH_OIDC_CLIENT_ID", CLIENT_ID.to_owned()),
            ("OAUTH_OIDC_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ]
    }

    /// Follows the address that a browser was sent to, signs in as `account` (nobody: says no), and returns path and query
    /// with which the browser is sent back.
    pub async fn sign_in(&self, address: &str, account: Option<&str>) -> String {
        let asked = Asked::read(address);
        let (mut browser, mut address) = (Browser::new(), address.to_owned());
        for _ in 0..MAX_STEPS {
            let to = browser.redirected(&address).await;
            if to.as_str().starts_with(asked.get("redirect_uri")) {
                return format!("{}?{}", to.path(), to.query().unwrap_or_default());
            }
            address = to.into();
            if address.contains("/interaction/") {
                let answer =
                    account.map_or_else(|| "deny=1".to_owned(), |name| format!("account={name}"));
                address = format!("{address}?{answer}");
            }
        }
        panic!("the provider does not send the browser back, but to {address}");
    }
}

/// A browser of one site: it keeps cookies, whatever their paths.
struct Browser {
    http: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Browser {
        tls_provider();
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .build()
            .unwrap();
        Browser {
            http,
            cookies: BTreeMap::new(),
        }
    }

    async fn redirected(&mut self, address: &str) -> Url {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = self
            .http
            .get(address)
            .header(header::COOKIE, cookies.join("; "));
        let response = request.send().await.unwrap();
        self.keep(&response);
        let (status, to) = (
            response.status(),
            response.headers().get(header::LOCATION).cloned(),
        );
        let Some(to) = to else {
            let body = response.text().await.unwrap_or_default();
            panic!("{address} answered {status} and redirects nowhere: {body}");
        };
        Url::parse(address)
            .unwrap()
            .join(to.to_str().unwrap())
            .unwrap()
    }

    fn keep(&mut self, response: &Response) {
        for set in response.headers().get_all(header::SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

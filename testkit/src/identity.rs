//! Providers to sign in through: one that speaks as GitHub does, an issuer of OpenID Connect that can be told to lie, and a
//! real provider. Each plays the browser's part at the provider too: it takes the address that the product sends a browser to, and
//! returns the path with which the browser comes back.

mod github;
mod issuer;
mod provider;

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use url::Url;

pub use github::{GithubServer, TOKEN_PREFIX};
pub use issuer::{Forgery, IssuerServer};
pub use provider::OidcProvider;

use crate::receiver::Hit;

/// The client that every provider of the tests knows.
pub const CLIENT_ID: &str = "relaypost-client";
/// Its secret.
pub const CLIENT_SECRET: &str = "client-secret-of-the-tests";

/// A sign-in that the product has asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where the browser was sent to, without the query.
    pub address: String,
    /// The query.
    pub query: HashMap<String, String>,
}

impl Asked {
    /// Reads the address of an authorization request and checks what every one must have: the code flow, our client, a
    /// state, and PKCE with S256.
    #[track_caller]
    pub fn read(address: &str) -> Asked {
        let mut url = Url::parse(address).expect("an address");
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        url.set_query(None);
        let asked = Asked {
            address: url.into(),
            query,
        };
        assert_eq!(asked.get("response_type"), "code");
        assert_eq!(asked.get("client_id"), CLIENT_ID);
        assert_eq!(asked.get("code_challenge_method"), "S256");
        assert_eq!(asked.get("code_challenge").len(), 43, "{asked:?}");
        assert_eq!(asked.get("state").len(), 43, "{asked:?}");
        asked
    }

    /// A parameter that has to be there.
    #[track_caller]
    pub fn get(&self, name: &str) -> &str {
        let value = self.query.get(name);
        value.unwrap_or_else(|| panic!("no parameter {name} in {self:?}"))
    }

    /// Path and query with which the browser comes back, with these parameters beside the state.
    pub fn back(&self, parameters: &[(&str, &str)]) -> String {
        let mut url = Url::parse(self.get("redirect_uri")).expect("a redirect address");
        url.query_pairs_mut()
            .append_pair("state", self.get("state"))
            .extend_pairs(parameters);
        format!("{}?{}", url.path(), url.query().unwrap_or_default())
    }
}

/// A code that was given out, and what it is good for.
#[derive(Clone, Debug)]
struct Grant {
    challenge: String,
    redirect_uri: String,
    says: Value,
}

/// The fields of a form.
fn form(hit: &Hit) -> HashMap<String, String> {
    url::form_urlencoded::parse(&hit.body)
        .into_owned()
        .collect()
}

/// Takes the grant of a code, if the request proves that it comes from who began: the redirect address and the PKCE
/// verifier fit. A code is good once.
fn redeem(grants: &mut HashMap<String, Grant>, form: &HashMap<String, String>) -> Option<Grant> {
    let grant = grants.remove(form.get("code")?)?;
    let verifier = form.get("code_verifier")?;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let fits =
        challenge == grant.challenge && form.get("redirect_uri") == Some(&grant.redirect_uri);
    fits.then_some(grant)
}

fn json(status: u16, body: &Value) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    (status, headers, body.to_string().into_bytes())
}

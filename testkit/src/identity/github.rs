//! GitHub, as far as signing in goes: its authorization page, its token endpoint, and two operations of its API.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Asked, CLIENT_ID, CLIENT_SECRET, Grant, form, json as answer, redeem};
use crate::receiver::{Hit, Receiver, Reply};

/// Every token that it gives out begins with this.
pub const TOKEN_PREFIX: &str = "gho_token_of_the_tests_";

/// A GitHub of its own.
pub struct GithubServer {
    /// What it was asked.
    pub receiver: Receiver,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    grants: HashMap<String, Grant>,
    /// By token: the account's number, and its addresses.
    accounts: HashMap<String, Value>,
}

impl GithubServer {
    /// Listens on a free port.
    pub async fn start() -> GithubServer {
        let (receiver, shared) = (Receiver::start().await, Arc::<Mutex<Shared>>::default());
        let state = shared.clone();
        receiver.respond(Reply::func(move |hit| state.lock().unwrap().answer(hit)));
        GithubServer { receiver, shared }
    }

    /// The settings that lead to it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OAUTH_GITHUB_URL", self.receiver.url("")),
            ("OAUTH_GITHUB_API_URL", self.receiver.url("")),
            ("OAUTH_GITHUB_CLIENT_ID", CLIENT_ID.to_owned()),
            ("OAUTH_GITHUB_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ]
    }

    /// Somebody with this account number and these addresses (`{email, primary, verified}`) signs in and is sent back.
    pub fn sign_in(&self, address: &str, number: u64, addresses: Value) -> String {
        let asked = Asked::read(address);
        assert_eq!(asked.address, self.receiver.url("/login/oauth/authorize"));
        let mut shared = self.shared.lock().unwrap();
        let code = format!(
            "github-code-{}",
            shared.grants.len() + shared.accounts.len()
        );
        let grant = Grant {
            challenge: asked.get("code_challenge").to_owned(),
            redirect_uri: asked.get("redirect_uri").to_owned(),
            says: json!({"id": number, "addresses": addresses}),
        };
        shared.grants.insert(code.clone(), grant);
        asked.back(&[("code", &code)])
    }
}

impl Shared {
    fn answer(&mut self, hit: &Hit) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let path = hit.path.split('?').next().unwrap_or_default();
        match (hit.method.as_str(), path) {
            ("POST", "/login/oauth/access_token") => self.token(hit),
            ("GET", "/user") => {
                self.with_token(hit, |says| json!({"id": says["id"], "login": "octocat"}))
            }
            ("GET", "/user/emails") => self.with_token(hit, |says| says["addresses"].clone()),
            _ => answer(404, &json!({"message": "Not Found"})),
        }
    }

    /// GitHub says 200 when it refuses, and answers a form unless it is asked for JSON.
    fn token(&mut self, hit: &Hit) -> (u16, Vec<(String, String)>, Vec<u8>) {
        if hit.header("accept") != Some("application/json") {
            return (200, Vec::new(), b"error=not_json".to_vec());
        }
        let form = form(hit);
        let given = |name: &str| form.get(name).map(String::as_str);
        if given("client_id") != Some(CLIENT_ID) || given("client_secret") != Some(CLIENT_SECRET) {
            return answer(200, &json!({"error": "incorrect_client_credentials"}));
        }
        let Some(grant) = redeem(&mut self.grants, &form) else {
            return answer(200, &json!({"error": "bad_verification_code"}));
        };
        let token = format!("{TOKEN_PREFIX}{}", self.accounts.len());
        self.accounts.insert(token.clone(), grant.says);
        answer(
            200,
            &json!({"access_token": token, "token_type": "bearer", "scope": "user:email"}),
        )
    }

    fn with_token(
        &self,
        hit: &Hit,
        read: impl Fn(&Value) -> Value,
    ) -> (u16, Vec<(String, String)>, Vec<u8>) {
        if hit.header("user-agent").is_none() {
            return answer(
                403,
                &json!({"message": "Request forbidden by administrative rules"}),
            );
        }
        let token = hit
            .header("authorization")
            .and_then(|text| text.strip_prefix("Bearer "));
        match token.and_then(|token| self.accounts.get(token)) {
            Some(says) => answer(200, &read(says)),
            None => answer(401, &json!({"message": "Bad credentials"})),
        }
    }
}

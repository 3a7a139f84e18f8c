//! An issuer of OpenID Connect that signs with ES256, and lies when it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::{Asked, CLIENT_ID, CLIENT_SECRET, Grant, form, json as answer, redeem};
use crate::receiver::{Hit, Receiver, Reply};

/// What is wrong with the ID tokens that an issuer gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Nothing.
    None,
    /// One claim was changed after it was signed.
    Changed,
    /// It has the algorithm `none` and no signature.
    Unsigned,
    /// It is signed with HS256 and the client secret.
    Symmetric,
    /// It is signed with a key that is not among the issuer's.
    OtherKey,
    /// There is none.
    Missing,
}

/// An issuer of its own.
pub struct IssuerServer {
    /// What it was asked.
    pub receiver: Receiver,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    issuer: String,
    /// What it takes for now, in seconds since 1970.
    now: i64,
    key: EcdsaKeyPair,
    kid: String,
    forgery: Forgery,
    grants: HashMap<String, Grant>,
    given: usize,
}

impl IssuerServer {
    /// Listens on a free port. `now`, in seconds since 1970, is when its tokens are issued.
    pub async fn start(now: i64) -> IssuerServer {
        let receiver = Receiver::start().await;
        let shared = Arc::new(Mutex::new(Shared {
            issuer: receiver.url(""),
            now,
            key: new_key(),
            kid: "key-1".to_owned(),
            forgery: Forgery::None,
            grants: HashMap::new(),
            given: 0,
        }));
        let issuer = IssuerServer { receiver, shared };
        issuer.up();
        issuer
    }

    /// Answers again, after the receiver was told something else.
    pub fn up(&self) {
        let state = self.shared.clone();
        let reply = Reply::func(move |hit| state.lock().unwrap().answer(hit));
        self.receiver.respond(reply);
    }

    /// The settings that lead to it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OAUTH_OIDC_ISSUER", self.receiver.url("")),
            ("OAUTH_OIDC_CLIENT_ID", CLIENT_ID.to_owned()),
            ("OAUTH_OIDC_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ]
    }

    /// Gives out such ID tokens from now on.
    pub fn forge(&self, forgery: Forgery) {
        self.shared.lock().unwrap().forgery = forgery;
    }

    /// Signs with another key from now on, and tells of no other.
    pub fn rotate(&self) {
        let mut shared = self.shared.lock().unwrap();
        (shared.key, shared.kid) = (new_key(), "key-2".to_owned());
    }

    /// Somebody signs in and is sent back. `claims` are put over the usual ones of the ID token; null takes one away.
    pub fn sign_in(&self, address: &str, claims: Value) -> String {
        let asked = Asked::read(address);
        assert_eq!(asked.address, self.receiver.url("/authorize"));
        assert_eq!(asked.get("nonce").len(), 43);
        let mut scopes: Vec<&str> = asked.get("scope").split(' ').collect();
        scopes.sort_unstable();
        assert_eq!(scopes, ["email", "openid"]);
        let mut shared = self.shared.lock().unwrap();
        let mut says = json!({
            "iss": shared.issuer, "aud": CLIENT_ID, "sub": "subject-1", "iat": shared.now,
            "exp": shared.now + 300, "nonce": asked.get("nonce"),
            "email": "alice@example.test", "email_verified": true,
        });
        for (name, value) in claims.as_object().into_iter().flatten() {
            says[name.as_str()] = value.clone();
        }
        says.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        shared.given += 1;
        let code = format!("issuer-code-{}", shared.given);
        let grant = Grant {
            challenge: asked.get("code_challenge").to_owned(),
            redirect_uri: asked.get("redirect_uri").to_owned(),
            says,
        };
        shared.grants.insert(code.clone(), grant);
        asked.back(&[
            ("code", &code),
            ("iss", &shared.issuer),
            ("session_state", "x"),
        ])
    }
}

impl Shared {
    fn answer(&mut self, hit: &Hit) -> (u16, Vec<(String, String)>, Vec<u8>) {
        match hit.path.as_str() {
            "/.well-known/openid-configuration" => answer(200, &self.discovery()),
            "/jwks" => answer(200, &json!({"keys": [self.public_key()]})),
            "/token" => self.token(hit),
            _ => answer(404, &json!({})),
        }
    }

    fn discovery(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            // As a lying issuer would: whoever believes it takes unsigned tokens.
            "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
        })
    }

    fn public_key(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": encode(&point[1..33]), "y": encode(&point[33..65]),
        })
    }

    fn token(&mut self, hit: &Hit) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let expected = BASE64_STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
        if hit.header("authorization") != Some(&format!("Basic {expected}")) {
            return answer(401, &json!({"error": "invalid_client"}));
        }
        let Some(grant) = redeem(&mut self.grants, &form(hit)) else {
            return answer(400, &json!({"error": "invalid_grant"}));
        };
        let mut tokens = json!({"access_token": "access-token-of-the-tests", "token_type": "Bearer", "expires_in": 300});
        if self.forgery != Forgery::Missing {
            tokens["id_token"] = self.id_token(grant.says).into();
        }
        answer(200, &tokens)
    }

    fn id_token(&self, mut claims: Value) -> String {
        let algorithm = match self.forgery {
            Forgery::Unsigned => "none",
            Forgery::Symmetric => "HS256",
            _ => "ES256",
        };
        let header = json!({"alg": algorithm, "kid": self.kid, "typ": "JWT"});
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = match self.forgery {
            Forgery::Unsigned => Vec::new(),
            Forgery::Symmetric => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, CLIENT_SECRET.as_bytes());
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            Forgery::OtherKey => sign(&new_key(), &signed),
            _ => sign(&self.key, &signed),
        };
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        if self.forgery == Forgery::Changed {
            claims["email"] = "admin@example.test".into();
            return format!("{}.{}.{signature}", encode(&header), encode(&claims));
        }
        format!("{signed}.{signature}")
    }
}

fn new_key() -> EcdsaKeyPair {
    let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap()
}

fn sign(key: &EcdsaKeyPair, text: &str) -> Vec<u8> {
    key.sign(&SystemRandom::new(), text.as_bytes())
        .unwrap()
        .as_ref()
        .to_vec()
}

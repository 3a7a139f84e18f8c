//! A client of the product's HTTP API that asserts nothing by itself.

use std::sync::Once;
use std::time::Duration;

use reqwest::{Client, Method, redirect};
use serde_json::Value;

use crate::secrets::Secrets;

/// One answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Every header in order.
    pub headers: Vec<(String, String)>,
    /// The body as JSON, or null when it is none.
    pub body: Value,
    /// The body's exact bytes.
    pub raw: Vec<u8>,
    request: String,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// The body, provided that the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.body
    }

    /// The body, provided that the status is any 2xx.
    #[track_caller]
    pub fn success(self) -> Value {
        assert!((200..300).contains(&self.status), "{self}");
        self.body
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} -> {} {}",
            self.request,
            self.status,
            String::from_utf8_lossy(&self.raw)
        )
    }
}

/// Chooses the provider that reqwest asks for when it builds a client, also for plain http.
pub fn tls_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only when the test has installed one before, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client with a key. Cheap to clone; the `with_…` methods return a changed copy.
#[derive(Clone)]
pub struct Api {
    base: String,
    key: Option<String>,
    headers: Vec<(String, String)>,
    http: Client,
    secrets: Secrets,
}

impl Api {
    /// The key it uses; empty when it uses none.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    /// A client of the API at `base` (no slash at the end).
    pub fn new(base: &str, key: &str) -> Api {
        tls_provider();
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Api {
            base: base.to_owned(),
            key: Some(key.to_owned()),
            headers: Vec::new(),
            http,
            secrets: Secrets::default(),
        }
    }

    /// The secrets of the bodies that it and its copies have sent and received, and their keys.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where the API listens.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same client for another process.
    pub fn with_base(&self, base: &str) -> Api {
        Api {
            base: base.to_owned(),
            ..self.clone()
        }
    }

    /// The same client with another key.
    pub fn with_key(&self, key: &str) -> Api {
        Api {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The same client without a key.
    pub fn without_key(&self) -> Api {
        Api {
            key: None,
            ..self.clone()
        }
    }

    /// The same client with one more header on every request.
    pub fn with_header(&self, name: &str, value: &str) -> Api {
        let mut changed = self.clone();
        changed.headers.push((name.to_owned(), value.to_owned()));
        changed
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, json: Value) -> Answer {
        self.post_raw(path, "application/json", json.to_string())
            .await
    }

    /// `PATCH` of JSON.
    pub async fn patch(&self, path: &str, json: Value) -> Answer {
        self.send(
            Method::PATCH,
            path,
            Some(("application/json", json.to_string().into())),
        )
        .await
    }

    /// `POST` of exactly these bytes.
    pub async fn post_raw(
        &self,
        path: &str,
        content_type: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Answer {
        self.send(Method::POST, path, Some((content_type, bytes.into())))
            .await
    }

    /// Any request; the body comes with its content type. Panics when no answer comes.
    pub async fn send(&self, method: Method, path: &str, body: Option<(&str, Vec<u8>)>) -> Answer {
        let what = format!("{method} {path}");
        let answer = self.try_send(method, path, body).await;
        answer.unwrap_or_else(|error| panic!("{what} on {}: {error:?}", self.base))
    }

    /// [`Api::send`] to a process that may be away: an error means that no whole answer came, and that nobody knows what
    /// became of the request.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> reqwest::Result<Answer> {
        let what = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            self.secrets.add(key);
            request = request.bearer_auth(key);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some((content_type, bytes)) = body {
            // A body that is no JSON holds nothing that the product would take.
            let sent = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            self.secrets.add_body(&sent);
            request = request.header("content-type", content_type).body(bytes);
        }
        let response = request.send().await?;
        let headers = response.headers().iter().map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        let (status, headers) = (response.status().as_u16(), headers.collect());
        let raw = response.bytes().await?.to_vec();
        let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
        self.secrets.add_body(&body);
        Ok(Answer {
            status,
            headers,
            body,
            raw,
            request: what,
        })
    }
}

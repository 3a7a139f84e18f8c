//! A client of the API that shows each call as the `curl` that would do the same.

use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde_json::Value;

/// Calls the API with one key.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
    /// What stands for the key in the shown commands.
    name: &'static str,
}

impl Client {
    pub(super) fn new(base: &str, name: &'static str, key: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("the HTTP client cannot be built")?;
        Ok(Self {
            http,
            base: base.to_owned(),
            key: key.to_owned(),
            name,
        })
    }

    /// Sends JSON text exactly as given, and shows the command.
    pub(super) async fn post(&self, path: &str, body: &str) -> Result<Value> {
        println!(
            "   $ curl {}{path} -H \"Authorization: Bearer ${}\" \\",
            self.base, self.name
        );
        println!("       -H 'Content-Type: application/json' -d '{body}'");
        self.call(Method::POST, path, Some(body)).await
    }

    /// Reads, and shows the command.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        println!(
            "   $ curl {}{path} -H \"Authorization: Bearer ${}\"",
            self.base, self.name
        );
        self.call(Method::GET, path, None).await
    }

    /// Reads without showing it.
    pub(super) async fn look(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&str>) -> Result<Value> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.key);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("{path} cannot be reached"))?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{path} answered {status}: {text}");
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{path} answered {status} with something that is not JSON"))
    }
}

/// A text of an answer.
pub(super) fn text(answer: &Value, pointer: &str) -> Result<String> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("the answer has no {pointer}: {answer}"))
}

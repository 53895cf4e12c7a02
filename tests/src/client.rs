//! The HTTP API, as a script uses it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON body; null when there was none.
    pub body: Value,
}

impl Answer {
    /// The body of a good answer.
    ///
    /// # Errors
    /// When the answer is a refusal; the error has its body.
    pub fn ok(self) -> Result<Value> {
        if !self.status.is_success() {
            bail!("{}: {}", self.status, self.body);
        }
        Ok(self.body)
    }

    /// The reason of a refusal, from its `ErrorInfo`.
    pub fn reason(&self) -> &str {
        let details = self.body["error"]["details"].as_array();
        details
            .and_then(|details| details.iter().find_map(|detail| detail["reason"].as_str()))
            .unwrap_or_default()
    }

    /// The fields that a refusal names.
    pub fn fields(&self) -> Vec<String> {
        let details = self.body["error"]["details"].as_array();
        details
            .into_iter()
            .flatten()
            .flat_map(|detail| detail["fieldViolations"].as_array().into_iter().flatten())
            .filter_map(|violation| violation["field"].as_str().map(str::to_owned))
            .collect()
    }
}

impl Client {
    /// A client of the gateway at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: &str) -> Result<Self> {
        Self::with_timeout(base, Duration::from_secs(120))
    }

    /// The same, with so much patience for each answer.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn with_timeout(base: &str, timeout: Duration) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(timeout).build()?;
        Ok(Self {
            http,
            base: base.to_owned(),
        })
    }

    /// The gateway's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request that is not yet sent.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// GET.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::GET, path)).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Creates a scan and returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create(&self, spec: &Value) -> Result<String> {
        let created = self.post("/v1/scans", &json!({"spec": spec})).await?.ok()?;
        let id = created["scan"]["scanId"].as_str();
        Ok(id.context("no scanId")?.to_owned())
    }

    /// The scan as it is now.
    ///
    /// # Errors
    /// When there is none.
    pub async fn scan(&self, id: &str) -> Result<Value> {
        Ok(self.get(&format!("/v1/scans/{id}")).await?.ok()?["scan"].take())
    }

    /// The scan, once `wanted` holds of it.
    ///
    /// # Errors
    /// When that takes longer than `limit`; the error has the scan.
    pub async fn until(
        &self,
        id: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let until = Instant::now() + limit;
        loop {
            let scan = self.scan(id).await?;
            if wanted(&scan) {
                return Ok(scan);
            }
            if Instant::now() > until {
                bail!("not within {limit:?}: {scan:#}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The scan once it has ended.
    ///
    /// # Errors
    /// When that takes longer than two minutes.
    pub async fn ended(&self, id: &str) -> Result<Value> {
        self.until(id, Duration::from_secs(120), is_ended).await
    }

    /// Creates a scan and returns it once it has ended.
    ///
    /// # Errors
    /// As the two do.
    pub async fn run(&self, spec: &Value) -> Result<Value> {
        let id = self.create(spec).await?;
        self.ended(&id).await
    }

    /// Every result of a scan.
    ///
    /// # Errors
    /// When there is no such scan.
    pub async fn results(&self, id: &str) -> Result<Vec<Value>> {
        let page = self
            .get(&format!("/v1/scans/{id}/results?pageSize=1000"))
            .await?
            .ok()?;
        Ok(page["results"].as_array().cloned().unwrap_or_default())
    }
}

/// Whether a scan stays as it is.
pub fn is_ended(scan: &Value) -> bool {
    matches!(
        scan["state"].as_str(),
        Some("STATE_COMPLETED" | "STATE_FAILED" | "STATE_CANCELLED")
    )
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    Ok(Answer { status, body })
}

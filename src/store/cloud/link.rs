//! How the requests of `object_store` travel: over the same connections as those to S3, with their limits and guards, repeated with growing
//! pauses and as long as the server says; never to another host.
//!
//! Bodies are whole here, in both directions: what is large is sent in parts and read in ranges.

use crate::durable::random_bytes;
use crate::store::StoreErrorKind;
use crate::store::s3::failure::{Again, Failure};
use crate::store::s3::transport::{Body, Transport};
use crate::store::s3::xml;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::BodyExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientOptions, RetryConfig};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Answers are no longer than this: a range, or a page of names.
pub(super) const MAX_ANSWER: usize = 16 << 20;
const MAX_RETRIES: u32 = 8;
/// For a server that never answered, or was waited for in vain before.
const MAX_CALLS: u32 = 4;
/// From the first failure.
const MAX_TIME: Duration = Duration::from_secs(5 * 60);
/// So many repetitions there are however long the line takes for one ...
const SURE_RETRIES: u32 = 2;
/// ... that begin within this time from the first try: Azure takes a signature for a quarter of an hour.
const MAX_AGE: Duration = Duration::from_secs(12 * 60);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Requests that failed are repeated here and not by the library, whose pauses take no notice of the server's word.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

#[derive(Debug, Clone)]
pub(super) struct Link(Arc<Transport>);

impl Link {
    pub(super) fn new(transport: Arc<Transport>) -> Self {
        Self(transport)
    }

    async fn once(&self, request: &HttpRequest, body: &Bytes) -> Result<HttpResponse, Failure> {
        let mut head = http::Request::builder().method(request.method()).uri(request.uri());
        if let Some(headers) = head.headers_mut() {
            headers.clone_from(request.headers());
            if matches!(*request.method(), http::Method::PUT | http::Method::POST) {
                headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            }
        }
        let head = head
            .body(())
            .map_err(|e| Failure::new(StoreErrorKind::Other, "the request could not be made").because(e))?;
        let mut answer = self.0.send(head, Body::Bytes(body.clone())).await?;
        if answer.status >= 300 {
            let text = answer.all(64 << 10).await.unwrap_or_default();
            let mut failure = Failure::of_answer(answer.status, &answer.headers, error_of(&text).as_ref());
            if matches!(failure.code.as_str(), "ContainerNotFound") {
                failure.kind = StoreErrorKind::Missing;
            }
            return Err(failure);
        }
        let whole = match *request.method() {
            http::Method::HEAD => Vec::new(),
            _ => answer.all(MAX_ANSWER).await?,
        };
        let mut response = Response::new(Bytes::from(whole).into());
        *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
        response.headers_mut().clone_from(&answer.headers);
        Ok(response)
    }

    /// How long to wait for another try; none when there should be none. `age` is how long ago the first try began, `since` how long ago it failed.
    fn wait_for(
        &self,
        failure: &Failure,
        tried: u32,
        (age, since): (Duration, Duration),
    ) -> Option<Duration> {
        let whole = FIRST_WAIT.saturating_mul(1 << tried.min(16)).min(MAX_WAIT);
        let random = random_bytes::<4>().map_or(u32::MAX, u32::from_be_bytes);
        let back_off = whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX));
        let wait = match failure.again {
            Again::Never => return None,
            Again::Soon => back_off,
            Again::After(said) => said.max(back_off),
        };
        let most = if self.0.reached() { MAX_RETRIES } else { MAX_CALLS };
        let in_time = since.saturating_add(wait) <= MAX_TIME || tried < SURE_RETRIES && wait <= MAX_TIME;
        (tried < most && in_time && age.saturating_add(wait) <= MAX_AGE).then_some(wait)
    }
}

/// The error that an answer holds: XML, or Google's JSON, as one tree.
fn error_of(body: &[u8]) -> Option<xml::Element> {
    if let Some(root) = xml::parse(body).filter(|root| root.name == "Error") {
        return Some(root);
    }
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = json.get("error")?;
    let text = |name: &str, text: Option<&str>| xml::Element {
        name: name.into(),
        text: text.unwrap_or_default().into(),
        children: Vec::new(),
    };
    let reason = error.pointer("/errors/0/reason").and_then(serde_json::Value::as_str);
    let message = error.get("message").and_then(serde_json::Value::as_str);
    let children = vec![text("Code", reason), text("Message", message)];
    Some(xml::Element { name: "Error".into(), text: String::new(), children })
}

impl HttpConnector for Link {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Link {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let body = request.body().clone().collect().await?.to_bytes();
        let (began, mut failed) = (self.0.timer().now(), None);
        let (mut tried, mut uncertain) = (0, false);
        loop {
            let mut failure = match self.once(&request, &body).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            uncertain |= failure.uncertain;
            failure.uncertain = uncertain;
            let now = self.0.timer().now();
            let since = now.saturating_sub(*failed.get_or_insert(now));
            let Some(wait) = self.wait_for(&failure, tried, (now.saturating_sub(began), since)) else {
                let failure = match tried {
                    0 => failure,
                    _ => {
                        self.0.lost();
                        failure.and(&format!("given up after {} tries", tried + 1))
                    }
                };
                return Err(HttpError::new(HttpErrorKind::Unknown, failure));
            };
            tried += 1;
            self.0.counts().retries.fetch_add(1, Ordering::Relaxed);
            self.0.timer().pause(wait).await;
        }
    }
}

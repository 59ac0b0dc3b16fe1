//! Signs requests, sends them, and repeats what may be repeated.

use crate::durable::random_bytes;
use crate::model::ObjectId;
use crate::store::StoreErrorKind;
use crate::store::s3::Credentials;
use crate::store::s3::credentials::CredentialsError;
use crate::store::s3::failure::{Again, Failure, MAX_SKEW};
use crate::store::s3::spec::S3Spec;
use crate::store::s3::transport::{Answer, Body, Line, Transport};
use crate::store::s3::xml::{self, Element};
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The header that carries the SHA-256 of a body.
pub(super) const CHECKSUM: &str = "x-amz-checksum-sha256";
/// Answers in XML are no longer than this: a page of a listing has 1000 keys.
const MAX_XML: usize = 16 << 20;
const MAX_ERROR: usize = 64 << 10;
const MAX_RETRIES: u32 = 10;
/// For a server that never answered, or was waited for in vain before: it is more likely away than busy, and other stores are waiting.
const MAX_CALLS: u32 = 4;
/// From the first failure: how long it took to fail says how slow the line is, not how patient we were.
const MAX_TIME: Duration = Duration::from_secs(15 * 60);
/// So many repetitions there are whatever they take: on a slow line one of them can be longer than that.
const SURE_RETRIES: u32 = 2;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A request before it is signed.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The key in the bucket; empty for the bucket itself.
    pub(super) key: String,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// SHA-256 that is signed; of `body`, except when a probe lies on purpose.
    pub(super) sha256: ObjectId,
    /// The element that the answer must be, for answers in XML.
    pub(super) expects: Option<&'static str>,
}

impl Call {
    pub(super) fn new(method: Method, key: &str) -> Self {
        let (body, sha256) = (Body::Bytes(Bytes::new()), ObjectId::of(b""));
        let (query, headers) = (Vec::new(), HeaderMap::new());
        Self { method, key: key.to_owned(), query, headers, body, sha256, expects: None }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Sets a header; a value that can be none (it comes from a configuration) is left out.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn body(self, body: Bytes, sha256: ObjectId) -> Self {
        self.sending(Body::Bytes(body), sha256)
    }

    pub(super) fn sending(mut self, body: Body, sha256: ObjectId) -> Self {
        (self.body, self.sha256) = (body, sha256);
        self
    }

    /// With its body's SHA-256 for the server to compare.
    pub(super) fn checksummed(self) -> Self {
        let sum = BASE64.encode(self.sha256.as_bytes());
        self.header(CHECKSUM, &sum)
    }

    pub(super) fn expects(mut self, root: &'static str) -> Self {
        self.expects = Some(root);
        self
    }
}

/// A successful answer, whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) headers: HeaderMap,
    pub(super) xml: Element,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

pub(super) struct Client {
    /// `scheme://host[:port]` and, in the path style, `/bucket`.
    base: String,
    region: String,
    credentials: Arc<dyn Credentials>,
    transport: Transport,
}

impl Client {
    pub(super) fn new(spec: &S3Spec) -> Result<Self, Failure> {
        let (region, credentials) = (spec.region.clone(), Arc::clone(&spec.credentials));
        let base = super::address::base(spec)?;
        let line = Line {
            ca_file: spec.ca_file.as_deref(),
            plain: base.starts_with("http://"),
            limit_upload: spec.limit_upload,
            limit_download: spec.limit_download,
            timer: &spec.timer,
        };
        Ok(Self { base, region, credentials, transport: Transport::new(&line)? })
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends once; gives an answer that says success, with its body to be read.
    pub(super) async fn attempt(&self, call: &Call) -> Result<Answer, Failure> {
        let keys = self.credentials.get_credential().await.map_err(Self::no_keys)?;
        let head = self.signed(call, &keys)?;
        let mut answer = self.transport.send(head, call.body.clone()).await?;
        if is_foreign(&answer.headers) {
            let text =
                "what answered is no S3 server but a web page: a proxy, or a network that asks for a login?";
            return Err(Failure::broken(text));
        }
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let body = match call.method {
            Method::HEAD => Vec::new(),
            // A broken body of an error is still that error.
            _ => answer.all(MAX_ERROR).await.unwrap_or_default(),
        };
        let error = xml::parse(&body).filter(|root| root.name == "Error");
        let failure = Failure::of_answer(answer.status, &answer.headers, error.as_ref());
        Err(self.explained(failure))
    }

    /// Sends until there is a whole answer, within bounds.
    pub(super) async fn run(&self, call: &Call) -> Result<Reply, Failure> {
        let mut patience = Patience::new(self);
        loop {
            match self.whole(call).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => patience.again(failure).await?,
            }
        }
    }

    /// Sends once; gives a whole answer.
    pub(super) async fn whole(&self, call: &Call) -> Result<Reply, Failure> {
        let mut answer = self.attempt(call).await?;
        let body = answer.all(MAX_XML).await?;
        let mut reply = Reply { headers: answer.headers, xml: Element::default() };
        let Some(root) = call.expects else { return Ok(reply) };
        match xml::parse(&body) {
            // Some servers leave the end off the names of their answers.
            Some(tree) if tree.name == root || tree.name == root.trim_end_matches("Result") => {
                reply.xml = tree;
            }
            // Some errors come after the head with its 200 was sent.
            Some(tree) if tree.name == "Error" => {
                let status = match tree.text_of("Code") {
                    Some("InternalError" | "SlowDown" | "ServiceUnavailable") => 503,
                    Some("PreconditionFailed") => 412,
                    Some("NoSuchUpload") => 404,
                    _ => 400,
                };
                let mut failure = Failure::of_answer(status, &reply.headers, Some(&tree));
                failure.uncertain = true;
                return Err(self.explained(failure));
            }
            _ => {
                return Err(Failure::broken(
                    "the server's answer is empty, cut short or not what was asked for",
                ));
            }
        }
        Ok(reply)
    }

    fn signed(&self, call: &Call, keys: &AwsCredential) -> Result<http::Request<()>, Failure> {
        let fail = |e: Box<dyn std::error::Error + Send + Sync>| {
            Failure::new(StoreErrorKind::Other, "the request could not be made").because(e)
        };
        let url = super::address::url(&self.base, &call.key, &call.query);
        let mut request: HttpRequest = http::Request::builder()
            .method(call.method.clone())
            .uri(url)
            .body(HttpRequestBody::empty())
            .map_err(|e| fail(e.into()))?;
        *request.headers_mut() = call.headers.clone();
        if matches!(call.method, Method::PUT | Method::POST) {
            request.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(call.body.len()));
        }
        let signer = AwsAuthorizer::new(keys, "s3", &self.region);
        signer.try_authorize(&mut request, Some(call.sha256.as_bytes())).map_err(|e| fail(e.into()))?;
        Ok(request.map(|_| ()))
    }

    /// The reason alone: what wraps it on the way here says the same in other words.
    fn no_keys(error: object_store::Error) -> Failure {
        let failure = Failure::new(StoreErrorKind::Denied, "there are no keys to sign requests with");
        match CredentialsError::within(&error).cloned() {
            Some(why) => failure.because(why),
            None => failure.because(error),
        }
    }

    /// Adds what a person needs to know about a refusal.
    fn explained(&self, failure: Failure) -> Failure {
        if failure.kind != StoreErrorKind::Denied {
            return failure;
        }
        let failure = failure.and(&format!("the keys come from {}", self.credentials.source()));
        match self.transport.skew() {
            Some(skew) if skew.abs() > MAX_SKEW => {
                let (by, how) = (skew.abs(), if skew > 0 { "behind" } else { "ahead of" });
                failure.and(&format!("this machine's clock is {by} seconds {how} the server's: set it right"))
            }
            _ => failure,
        }
    }
}

/// A page for people where S3 would answer: a login of a network, a proxy.
fn is_foreign(headers: &HeaderMap) -> bool {
    let html = headers.get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"text/html"));
    let own = |name: &HeaderName| name.as_str().starts_with("x-amz-") || name == http::header::ETAG;
    html && !headers.keys().any(own)
}

/// How often and how long one thing has been tried.
pub(super) struct Patience<'a> {
    client: &'a Client,
    began: Duration,
    failed: Option<Duration>,
    tries: u32,
    refreshed: bool,
    uncertain: bool,
}

impl<'a> Patience<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        let began = client.transport.timer().now();
        Self { client, began, failed: None, tries: 0, refreshed: false, uncertain: false }
    }

    /// Something came through: what fails next is counted from one.
    pub(super) fn renew(&mut self) {
        (self.tries, self.failed) = (0, None);
        self.began = self.client.transport.timer().now();
    }

    /// Waits for another try, or gives the failure back when there should be none.
    pub(super) async fn again(&mut self, mut failure: Failure) -> Result<(), Failure> {
        self.uncertain |= failure.uncertain;
        failure.uncertain = self.uncertain;
        if failure.is_about_keys() && !self.refreshed {
            self.refreshed = true;
            self.client.credentials.refresh();
            self.client.transport.counts().retries.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let wait = match failure.again {
            Again::Never => return Err(failure),
            Again::Soon => self.back_off(),
            Again::After(said) => said.max(self.back_off()),
        };
        let now = self.client.transport.timer().now();
        let since = now.saturating_sub(*self.failed.get_or_insert(now));
        let most = if self.client.transport.reached() { MAX_RETRIES } else { MAX_CALLS };
        let too_long = wait > MAX_TIME || self.tries >= SURE_RETRIES && since.saturating_add(wait) > MAX_TIME;
        if self.tries >= most || too_long {
            let (tries, spent) = (self.tries + 1, now.saturating_sub(self.began));
            self.client.transport.lost();
            return Err(failure.and(&format!("given up after {tries} tries in {} seconds", spent.as_secs())));
        }
        self.tries += 1;
        self.client.transport.counts().retries.fetch_add(1, Ordering::Relaxed);
        self.client.transport.timer().pause(wait).await;
        Ok(())
    }

    /// Between half and the whole of a time that doubles: clients that failed together do not come back together.
    fn back_off(&self) -> Duration {
        let whole = FIRST_WAIT.saturating_mul(1 << self.tries.min(16)).min(MAX_WAIT);
        let random = random_bytes::<4>().map_or(u32::MAX, u32::from_be_bytes);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

//! Moves one request and its answer: counted, within the speed limits, and dropped when nothing moves.
//!
//! Knows nothing of S3 but that redirects are not followed: a signed request must never reach another host.

use crate::bridge::Timer;
use crate::store::StoreErrorKind;
use crate::store::s3::failure::{Again, Failure, of_transport};
use crate::store::s3::limit::{Limit, Pulse};
use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, Either, FutureExt, select};
use futures::stream::{self, BoxStream, StreamExt};
use http::HeaderMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Bodies are sent in slices of this many bytes: what is watched and limited.
const SLICE: usize = 128 << 10;

/// What goes with a request.
#[derive(Debug, Clone)]
pub(in crate::store) enum Body {
    /// Bytes in memory.
    Bytes(Bytes),
    /// So many bytes of a file, read as they are sent: large objects take no memory.
    File {
        /// The file; where it is read from elsewhere does not matter.
        file: Arc<File>,
        /// Where they begin.
        from: u64,
        /// How many bytes.
        size: u64,
    },
}

impl Body {
    /// How many bytes.
    pub(in crate::store) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// The next bytes from `at`; none at the end.
    fn slice(&self, at: u64) -> io::Result<Bytes> {
        let length = usize::try_from(self.len().saturating_sub(at)).unwrap_or(SLICE).min(SLICE);
        match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(from..from + length))
            }
            Self::File { file, from, .. } => {
                let mut piece = BytesMut::zeroed(length);
                file.read_exact_at(&mut piece, from + at)?;
                Ok(piece.freeze())
            }
        }
    }
}
const CONNECT: Duration = Duration::from_secs(20);
/// No `Date` was seen yet.
const UNKNOWN: i64 = i64::MIN;

/// What a store's requests came to, for tests and measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent, with those that were repeated.
    pub requests: u64,
    /// Requests that repeated one that failed.
    pub retries: u64,
    /// Bytes of bodies sent.
    pub sent: u64,
    /// Bytes of bodies received.
    pub received: u64,
    /// Parts of multipart uploads that were sent and taken.
    pub parts: u64,
}

#[derive(Debug, Default)]
pub(in crate::store) struct Counts {
    pub(in crate::store) requests: AtomicU64,
    pub(in crate::store) retries: AtomicU64,
    pub(in crate::store) parts: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counts {
    pub(in crate::store) fn now(&self) -> Counters {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (requests, retries, parts) = (of(&self.requests), of(&self.retries), of(&self.parts));
        Counters { requests, retries, sent: of(&self.sent), received: of(&self.received), parts }
    }
}

/// What requests travel by.
pub(in crate::store) struct Line<'a> {
    /// A file with certificates (PEM) that are trusted beside the system's.
    pub(in crate::store) ca_file: Option<&'a Path>,
    /// The server is spoken to in plain HTTP.
    pub(in crate::store) plain: bool,
    /// Bytes a second sent at most.
    pub(in crate::store) limit_upload: Option<u64>,
    /// Bytes a second received at most.
    pub(in crate::store) limit_download: Option<u64>,
    /// Time.
    pub(in crate::store) timer: &'a Arc<dyn Timer>,
}

/// An answer whose body is still to be read.
pub(in crate::store) struct Answer {
    pub(in crate::store) status: u16,
    pub(in crate::store) headers: HeaderMap,
    body: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    still: BoxFuture<'static, String>,
    pulse: Arc<Pulse>,
    transport: Arc<Moving>,
}

/// What a request and its answer share.
#[derive(Debug)]
struct Moving {
    timer: Arc<dyn Timer>,
    up: Option<Limit>,
    down: Option<Limit>,
    counts: Counts,
}

#[derive(Debug)]
pub(in crate::store) struct Transport {
    http: reqwest::Client,
    /// This machine has no certificates that servers could be known by.
    trusts_none: bool,
    moving: Arc<Moving>,
    /// Seconds that the server's clock is ahead of ours.
    skew: AtomicI64,
    /// Something answers: it did once, and nothing was given up since because nobody answered.
    reached: AtomicBool,
}

impl Transport {
    pub(in crate::store) fn new(line: &Line<'_>) -> Result<Self, Failure> {
        let (http, trusts_none) = client(line.ca_file, line.plain && !proxied())?;
        let moving = Moving {
            timer: Arc::clone(line.timer),
            up: line.limit_upload.map(Limit::new),
            down: line.limit_download.map(Limit::new),
            counts: Counts::default(),
        };
        Ok(Self {
            http,
            trusts_none,
            moving: Arc::new(moving),
            skew: AtomicI64::new(UNKNOWN),
            reached: AtomicBool::new(false),
        })
    }

    pub(in crate::store) fn timer(&self) -> &dyn Timer {
        &*self.moving.timer
    }

    pub(in crate::store) fn counts(&self) -> &Counts {
        &self.moving.counts
    }

    /// Seconds that the server's clock was ahead of this machine's at the last answer.
    pub(in crate::store) fn skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|skew| *skew != UNKNOWN)
    }

    /// True once anything answered, until [`Self::lost`].
    pub(in crate::store) fn reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// A request was given up: a server that does not answer again is not waited for as long at each of the requests that follow.
    pub(in crate::store) fn lost(&self) {
        self.reached.store(false, Ordering::Relaxed);
    }

    /// Sends a signed request; the answer may have any status.
    pub(in crate::store) async fn send(
        &self,
        head: http::Request<()>,
        body: Body,
    ) -> Result<Answer, Failure> {
        let pulse = Arc::new(Pulse::default());
        let still = Arc::clone(&pulse).stands_still(Arc::clone(&self.moving.timer)).boxed();
        let request = self.request(head, body, &pulse)?;
        self.counts().requests.fetch_add(1, Ordering::Relaxed);
        let (answer, still) = match select(Box::pin(self.http.execute(request)), still).await {
            Either::Left((answer, still)) => (answer.map_err(|e| self.explained(of_transport(e)))?, still),
            Either::Right((why, _)) => return Err(Failure::broken(why)),
        };
        pulse.moved(0);
        self.reached.store(true, Ordering::Relaxed);
        self.note_clock(answer.headers());
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let transport = Arc::clone(&self.moving);
        Ok(Answer { status, headers, body: answer.bytes_stream().boxed(), still, pulse, transport })
    }

    fn explained(&self, failure: Failure) -> Failure {
        match self.trusts_none && failure.again == Again::Never {
            true => failure
                .and("this machine trusts no certificates at all: install them (Debian: ca-certificates)"),
            false => failure,
        }
    }

    fn request(
        &self,
        head: http::Request<()>,
        body: Body,
        pulse: &Arc<Pulse>,
    ) -> Result<reqwest::Request, Failure> {
        let (head, ()) = head.into_parts();
        let url = head.uri.to_string().parse::<reqwest::Url>();
        let url =
            url.map_err(|e| Failure::new(StoreErrorKind::Other, "the address makes no URL").because(e))?;
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        if body.len() > 0 {
            let (moving, pulse) = (Arc::clone(&self.moving), Arc::clone(pulse));
            let slices = stream::unfold(0, move |at| {
                let (moving, pulse, body) = (Arc::clone(&moving), Arc::clone(&pulse), body.clone());
                async move {
                    let slice = match body.slice(at) {
                        Ok(slice) if slice.is_empty() => return None,
                        Ok(slice) => slice,
                        Err(e) => return Some((Err(e), at)),
                    };
                    if let Some(limit) = &moving.up {
                        limit.take(slice.len(), &*moving.timer, &pulse).await;
                    }
                    pulse.moved(slice.len());
                    moving.counts.sent.fetch_add(slice.len() as u64, Ordering::Relaxed);
                    let next = at + slice.len() as u64;
                    Some((Ok::<_, io::Error>(slice), next))
                }
            });
            *request.body_mut() = Some(reqwest::Body::wrap_stream(slices));
        }
        Ok(request)
    }

    fn note_clock(&self, headers: &HeaderMap) {
        let date = headers.get("date").and_then(|v| v.to_str().ok());
        if let Some(date) = date.and_then(|text| jiff::fmt::rfc2822::parse(text).ok()) {
            let skew = date.timestamp().as_second() - self.moving.timer.unix();
            self.skew.store(skew, Ordering::Relaxed);
        }
    }
}

impl Answer {
    /// The next piece of the body, `None` at its announced end.
    pub(in crate::store) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let piece = match select(self.body.next(), &mut self.still).await {
            Either::Left((piece, _)) => piece.transpose().map_err(of_transport)?,
            Either::Right((why, _)) => return Err(Failure::broken(why)),
        };
        if let Some(piece) = &piece {
            self.pulse.moved(piece.len());
            self.transport.counts.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if let Some(limit) = &self.transport.down {
                limit.take(piece.len(), &*self.transport.timer, &self.pulse).await;
            }
        }
        Ok(piece)
    }

    /// The whole body, when it has no more than `max` bytes.
    pub(in crate::store) async fn all(&mut self, max: usize) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > max {
                let text = format!("the server's answer has more than {max} bytes");
                return Err(Failure::new(StoreErrorKind::Corrupt, text));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The length that the server announced for the body.
    pub(in crate::store) fn length(&self) -> Option<u64> {
        self.headers.get("content-length")?.to_str().ok()?.parse().ok()
    }
}

/// The client, and whether it trusts no certificate at all: a machine without any (a small container) still reaches plain servers, and those
/// of `ca_file`.
///
/// For `plain` requests the system's certificates are not read: there are some hundreds, and on a fast network reading them takes as long as all of a `list`.
fn client(ca_file: Option<&Path>, plain: bool) -> Result<(reqwest::Client, bool), Failure> {
    // The library asks for a process-wide choice; whoever made one before keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // Repeating is for the layer above, which signs anew.
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(30))
            .http1_only()
    };
    let own = ca_file.map(certificates).transpose()?.unwrap_or_default();
    let trusts_none = own.is_empty() && !plain;
    if !plain && let Ok(client) = builder().tls_certs_merge(own.clone()).build() {
        return Ok((client, false));
    }
    let client = builder().tls_certs_only(own).build();
    let client =
        client.map_err(|e| Failure::new(StoreErrorKind::Other, "no HTTP client could be made").because(e))?;
    Ok((client, trusts_none))
}

/// Whether plain requests may go through a proxy, which may itself be known by its certificate.
fn proxied() -> bool {
    let names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let fail = |why: &str| Failure::new(StoreErrorKind::Other, format!("{why}: ca_file {}", path.display()));
    let pem = std::fs::read(path).map_err(|e| fail("it cannot be read").because(e))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem);
    let certificates = certificates.map_err(|e| fail("it holds no certificates in PEM").because(e))?;
    match certificates.is_empty() {
        true => Err(fail("it holds no certificates in PEM")),
        false => Ok(certificates),
    }
}

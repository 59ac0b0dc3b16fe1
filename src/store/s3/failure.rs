//! Why a request did not do what it should, and whether trying again makes sense.

use crate::store::StoreErrorKind;
use crate::store::s3::xml::Element;
use http::HeaderMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Texts of servers are cut here: they are shown to people.
const MAX_TEXT: usize = 300;
/// Beyond this a wrong clock is the likely cause, in seconds.
pub(super) const MAX_SKEW: i64 = 300;

/// No longer than this is a server's word about when to come back taken: some send numbers that no sum can hold.
const MAX_SAID: u64 = 24 * 3600;

/// Whether trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Again {
    Never,
    Soon,
    /// The server said when.
    After(Duration),
}

/// A request that failed.
#[derive(Debug)]
pub(in crate::store) struct Failure {
    pub(in crate::store) kind: StoreErrorKind,
    /// The HTTP status; 0 when there was no answer.
    pub(super) status: u16,
    /// The server's own word for the error; may be empty.
    pub(in crate::store) code: String,
    /// The request may have been carried out all the same.
    pub(in crate::store) uncertain: bool,
    pub(in crate::store) again: Again,
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

impl Failure {
    /// The same once more, for a library that gives errors on by reference.
    #[cfg(any(feature = "gcs", feature = "azure"))]
    pub(in crate::store) fn copy(&self) -> Self {
        let source = self.source.as_ref().map(|source| source.to_string().into());
        let (code, text) = (self.code.clone(), self.text.clone());
        Self {
            kind: self.kind,
            status: self.status,
            code,
            uncertain: self.uncertain,
            again: self.again,
            text,
            source,
        }
    }

    /// A failure that trying again does not mend.
    pub(in crate::store) fn new(kind: StoreErrorKind, text: impl Into<String>) -> Self {
        let (text, code) = (text.into(), String::new());
        Self { kind, status: 0, code, uncertain: false, again: Again::Never, text, source: None }
    }

    /// No answer, or half of one: trying again may help, and whether the server did what it was asked is not known.
    pub(in crate::store) fn broken(text: impl Into<String>) -> Self {
        let mut failure = Self::new(StoreErrorKind::Unreachable, text);
        (failure.again, failure.uncertain) = (Again::Soon, true);
        failure
    }

    pub(in crate::store) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds to the text.
    pub(in crate::store) fn and(mut self, more: &str) -> Self {
        self.text.push_str("; ");
        self.text.push_str(more);
        self
    }

    /// What an answer that is no success means.
    pub(in crate::store) fn of_answer(status: u16, headers: &HeaderMap, error: Option<&Element>) -> Self {
        let field = |name: &str| error.and_then(|e| e.text_of(name)).unwrap_or_default();
        let code = clean(field("Code"));
        let kind = kind_of(status, &code);
        let again = again_of(status, &code, headers);
        let mut text = match (status, code.as_str()) {
            (301 | 302 | 303 | 307 | 308, _) => redirected(status, headers, error),
            (_, "") => format!("the server answered {status}{}", in_words(status)),
            _ => format!("the server answered {status} {code}"),
        };
        let message = clean(field("Message"));
        if !message.is_empty() && !matches!(status, 300..=399) {
            text.push_str(": ");
            text.push_str(&message);
        }
        Self { kind, status, code, uncertain: status >= 500, again, text, source: None }
    }

    /// True when fresh keys may help.
    pub(super) fn is_about_keys(&self) -> bool {
        let words = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired", "ExpiredTokenException"];
        let hopeless = self.code == "RequestTimeTooSkewed";
        (matches!(self.status, 401 | 403) && !hopeless) || words.contains(&self.code.as_str())
    }

    /// True for an answer that refuses the request itself, not the right to make it or the moment.
    pub(super) fn refuses(&self) -> bool {
        matches!(self.status, 400..=499 | 501)
            && !matches!(self.kind, StoreErrorKind::Denied | StoreErrorKind::Unreachable)
            && !self.is_absent()
    }

    /// True when it may have been a header that this server does not know: never when what arrived was not what was sent, or something is in the way.
    pub(super) fn may_be_a_header(&self) -> bool {
        // Some say "not implemented" to a header, and that they did nothing is sure enough: the second try is compared with what may be there.
        let did_nothing = !self.uncertain || self.status == 501;
        self.refuses() && did_nothing && !self.says_spoilt() && !self.is_in_the_way()
    }

    /// True when an object of that name is in the way, or just being put by someone else.
    pub(super) fn is_in_the_way(&self) -> bool {
        matches!(self.status, 409 | 412)
    }

    /// True when the server compared what arrived with what was said of it, and found another thing.
    pub(super) fn says_spoilt(&self) -> bool {
        is_spoilt(&self.code)
    }

    pub(super) fn is_absent(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
}

/// One line of a server's text, without what a terminal could act on.
pub(in crate::store) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect::<String>().trim().to_owned()
}

fn in_words(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

fn redirected(status: u16, headers: &HeaderMap, error: Option<&Element>) -> String {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(clean);
    let region = header("x-amz-bucket-region").or_else(|| error.and_then(|e| e.text_of("Region")).map(clean));
    let host = error.and_then(|e| e.text_of("Endpoint")).map(clean).or_else(|| {
        let host = |uri: String| uri.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        header("location").and_then(host)
    });
    let to = match (region, host) {
        (Some(region), _) => format!("the bucket is in region {region}: set region = \"{region}\""),
        (None, Some(host)) => {
            format!("to {host}, and requests are not sent on: set endpoint and region to the bucket's own")
        }
        (None, None) => "elsewhere: check endpoint and region".to_owned(),
    };
    format!("the server answered {status}, a redirect: {to}")
}

fn kind_of(status: u16, code: &str) -> StoreErrorKind {
    match (status, code) {
        (_, "NoSuchBucket") => StoreErrorKind::Missing,
        (_, "QuotaExceeded" | "ServiceQuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull")
        | (507, _) => StoreErrorKind::Full,
        (401 | 403, _) | (400, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            StoreErrorKind::Denied
        }
        (404, _) => StoreErrorKind::NotFound,
        (412 | 409, _) => StoreErrorKind::Exists,
        (408 | 429 | 500 | 502..=599, _) | (400, "RequestTimeout") => StoreErrorKind::Unreachable,
        _ => StoreErrorKind::Other,
    }
}

/// What arrived is not what was sent: the way did it, and the next time it may not.
fn is_spoilt(code: &str) -> bool {
    matches!(code, "BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidDigest")
}

fn again_of(status: u16, code: &str, headers: &HeaderMap) -> Again {
    let busy =
        matches!(code, "SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable" | "Throttling");
    let again = match status {
        501 | 505 | 507 => false,
        408 | 429 | 500..=599 => true,
        _ => busy || is_spoilt(code),
    };
    match (again, seconds_to_wait(headers)) {
        (false, _) => Again::Never,
        (true, Some(seconds)) => Again::After(Duration::from_secs(MAX_SAID.min(seconds))),
        (true, None) => Again::Soon,
    }
}

/// What the server says about when to come back: in seconds, or at a time, which its own clock tells from now.
fn seconds_to_wait(headers: &HeaderMap) -> Option<u64> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let said = header("retry-after")?;
    if let Ok(seconds) = said.parse() {
        return Some(seconds);
    }
    let time = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp());
    let (then, now) = (time(said)?, time(header("date")?)?);
    Some(u64::try_from(then.duration_since(now).as_secs()).unwrap_or(0))
}

/// Why a request got no answer, from what the HTTP library says; never with its URL.
pub(super) fn of_transport(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    if is_tls(&error) {
        let text = "the server's certificate or TLS is not accepted (ca_file adds a certificate)";
        return Failure::new(StoreErrorKind::Unreachable, text).because(error);
    }
    let connecting = error.is_connect();
    let text = if connecting { "the server cannot be reached" } else { "the connection broke" };
    let mut failure = Failure::broken(text).because(error);
    failure.uncertain = !connecting;
    failure
}

fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let is_it = inner.and_then(|e| e.downcast_ref::<rustls::Error>()).is_some();
        if is_it || error.is::<rustls::Error>() {
            return true;
        }
        // What is wrapped in an I/O error is not among the sources.
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::s3::xml;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Failure {
        let pairs = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        Failure::of_answer(status, &pairs.collect(), xml::parse(body.as_bytes()).as_ref())
    }

    fn error(code: &str) -> String {
        format!("<Error><Code>{code}</Code><Message>why\u{7} it failed</Message></Error>")
    }

    #[test]
    fn every_answer_has_its_kind_and_says_whether_to_try_again() {
        use StoreErrorKind as Kind;
        let never = Again::Never;
        for (status, code, kind, again) in [
            (404, "NoSuchKey", Kind::NotFound, never),
            (404, "NoSuchBucket", Kind::Missing, never),
            (403, "AccessDenied", Kind::Denied, never),
            (401, "", Kind::Denied, never),
            (400, "ExpiredToken", Kind::Denied, never),
            (400, "RequestTimeout", Kind::Unreachable, Again::Soon),
            (400, "BadDigest", Kind::Other, Again::Soon),
            (400, "XAmzContentSHA256Mismatch", Kind::Other, Again::Soon),
            (400, "InvalidArgument", Kind::Other, never),
            (409, "ConditionalRequestConflict", Kind::Exists, never),
            (412, "PreconditionFailed", Kind::Exists, never),
            (429, "", Kind::Unreachable, Again::Soon),
            (500, "InternalError", Kind::Unreachable, Again::Soon),
            (501, "NotImplemented", Kind::Other, never),
            (503, "SlowDown", Kind::Unreachable, Again::Soon),
            (507, "", Kind::Full, never),
            (403, "QuotaExceeded", Kind::Full, never),
        ] {
            let failure = answer(status, &[], &error(code));
            assert_eq!((failure.kind, failure.again), (kind, again), "{status} {code}");
            assert_eq!(failure.uncertain, status >= 500, "{status}");
        }
        let slow = answer(503, &[("retry-after", "7")], "");
        assert_eq!(slow.again, Again::After(Duration::from_secs(7)));
    }

    #[test]
    fn a_server_that_does_not_implement_a_header_is_asked_without_it() {
        for (status, code, may) in [
            (400, "InvalidArgument", true),
            (501, "NotImplemented", true),
            (400, "BadDigest", false),
            (412, "PreconditionFailed", false),
            (403, "AccessDenied", false),
            (500, "InternalError", false),
            (503, "SlowDown", false),
        ] {
            assert_eq!(answer(status, &[], &error(code)).may_be_a_header(), may, "{status} {code}");
        }
    }

    #[test]
    fn a_date_to_come_back_at_is_counted_from_the_servers_own_clock() {
        let date = ("date", "Wed, 25 Nov 2026 07:59:20 GMT");
        let wait = |headers: &[(&'static str, &'static str)]| answer(503, headers, "").again;
        let after = |seconds| Again::After(Duration::from_secs(seconds));
        assert_eq!(wait(&[date, ("retry-after", "Wed, 25 Nov 2026 08:00:00 GMT")]), after(40));
        assert_eq!(wait(&[date, ("retry-after", "Wed, 25 Nov 2026 07:00:00 GMT")]), after(0));
        assert_eq!(wait(&[date, ("retry-after", "Wed, 25 Nov 2099 07:00:00 GMT")]), after(24 * 3600));
        assert_eq!(wait(&[("retry-after", "Wed, 25 Nov 2026 08:00:00 GMT")]), Again::Soon);
        assert_eq!(wait(&[date, ("retry-after", "soon")]), Again::Soon);
    }

    #[test]
    fn a_time_to_wait_that_nobody_can_count_is_a_day() {
        for said in ["86401", "18446744073709551615"] {
            let answer = answer(503, &[("retry-after", said)], "");
            assert_eq!(answer.again, Again::After(Duration::from_secs(24 * 3600)), "{said}");
        }
    }

    #[test]
    fn an_error_says_what_the_server_said_in_one_line() {
        assert_eq!(
            answer(403, &[], &error("AccessDenied")).to_string(),
            "the server answered 403 AccessDenied: why it failed"
        );
        assert_eq!(answer(403, &[], "").to_string(), "the server answered 403 (Forbidden)");
    }

    #[test]
    fn a_redirect_names_the_region_or_the_host_and_never_a_signed_address() {
        let region = answer(301, &[("x-amz-bucket-region", "eu-west-1")], "").to_string();
        assert!(region.contains("region = \"eu-west-1\""), "{region}");
        let location = [("location", "https://elsewhere.example/x?X-Amz-Signature=secret")];
        let host = answer(307, &location, "").to_string();
        assert!(host.contains("elsewhere.example") && !host.contains("secret"), "{host}");
    }
}

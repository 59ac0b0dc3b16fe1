//! HTTP/1.1 as far as a page that is only read needs it: one question without a body, one answer, and the end of the connection.
//!
//! What is not understood is refused: no part of a question may mean one thing here and another to a proxy before it.

use crate::model::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// A question.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Without the body of the answer.
    pub(super) head: bool,
    /// What is asked for, beginning with `/`, as it came.
    pub(super) path: String,
    /// What followed `?`.
    pub(super) query: String,
    /// The server that is meant; none from an old client.
    pub(super) host: Option<String>,
    /// What it shows to be let in.
    pub(super) authorization: Option<Zeroizing<String>>,
}

/// Why a question is refused: the status of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) u16);

const MALFORMED: Refused = Refused(400);

/// Understands `head`: all up to the empty line, and that line.
pub(super) fn parse(head: &[u8]) -> Result<Asked, Refused> {
    let text = std::str::from_utf8(head).map_err(|_| MALFORMED)?;
    let text = text.strip_suffix("\r\n\r\n").ok_or(MALFORMED)?;
    if text.replace("\r\n", "").chars().any(|c| c.is_control() && c != '\t') {
        return Err(MALFORMED);
    }
    let mut lines = text.split("\r\n");
    let mut asked = first_line(lines.next().unwrap_or_default())?;
    let mut length = 0;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(MALFORMED);
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "host" if asked.host.is_some() => return Err(MALFORMED),
            "host" => asked.host = Some(value.to_owned()),
            "authorization" if asked.authorization.is_some() => return Err(MALFORMED),
            "authorization" => asked.authorization = Some(Zeroizing::new(value.to_owned())),
            "content-length" => length = value.parse::<u64>().map_err(|_| MALFORMED)?,
            "transfer-encoding" => return Err(MALFORMED),
            _ => {}
        }
    }
    // Nothing that may be asked has a body.
    if length > 0 {
        return Err(Refused(413));
    }
    Ok(asked)
}

fn first_line(line: &str) -> Result<Asked, Refused> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(MALFORMED);
    };
    if !version.starts_with("HTTP/") || method.is_empty() || !method.bytes().all(is_token) {
        return Err(MALFORMED);
    }
    if !["HTTP/1.1", "HTTP/1.0"].contains(&version) {
        return Err(Refused(505));
    }
    if !["GET", "HEAD"].contains(&method) {
        return Err(Refused(405));
    }
    if !target.starts_with('/') || target.contains('#') {
        return Err(MALFORMED);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Asked { head: method == "HEAD", path: path.to_owned(), query: query.to_owned(), ..Asked::default() })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// How it went.
    pub(super) status: u16,
    /// What the body is.
    pub(super) kind: &'static str,
    /// The body.
    pub(super) body: String,
    /// What a browser may do for this page beside showing text; nothing by itself.
    pub(super) allowed: Option<String>,
}

/// Plain text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    /// An answer that went well.
    pub(super) fn well(kind: &'static str, body: String) -> Self {
        Self { status: 200, kind, body, allowed: None }
    }

    /// A refusal, in words.
    pub(super) fn refusal(status: u16, why: &str) -> Self {
        Self { status, kind: TEXT, body: format!("{why}\n"), allowed: None }
    }

    /// For a question that is not understood or not allowed.
    pub(super) fn of(refused: Refused) -> Self {
        Self::refusal(
            refused.0,
            match refused.0 {
                405 => "this page is only read: GET and HEAD are answered",
                408 => "the question did not come in time",
                413 => "a question here has no body",
                431 => "the question is too long",
                505 => "HTTP/1.1 is spoken here",
                _ => "the question is not understood",
            },
        )
    }

    /// All of it as it is sent; `head`: without the body.
    pub(super) fn bytes(&self, head: bool, now: Timestamp) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let allowed = self.allowed.as_deref().unwrap_or_default();
        let date = now.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT");
        let policy = format!(
            "default-src 'none'; {allowed}base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        for (name, value) in [
            ("Date", date.to_string().as_str()),
            ("Content-Type", self.kind),
            ("Content-Length", &self.body.len().to_string()),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", &policy),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Connection", "close"),
        ] {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        match self.status {
            401 => text.push_str("WWW-Authenticate: Basic realm=\"backstay\", charset=\"UTF-8\"\r\n"),
            405 => text.push_str("Allow: GET, HEAD\r\n"),
            503 => text.push_str("Retry-After: 30\r\n"),
            _ => {}
        }
        text.push_str("\r\n");
        if !head {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> u16 {
        parse(head.as_bytes()).map_or_else(|refused| refused.0, |_| 200)
    }

    #[test]
    fn a_question_is_understood_or_refused() {
        let asked = parse(
            b"GET /a/b?c=d HTTP/1.1\r\nHost:  localhost:1 \r\nAUTHORIZATION: Bearer x\r\nX-Other: \xc3\xa9\r\n\r\n",
        )
        .unwrap();
        assert_eq!((&*asked.path, &*asked.query, asked.head), ("/a/b", "c=d", false));
        assert_eq!(asked.host.as_deref(), Some("localhost:1"));
        assert_eq!(asked.authorization.as_ref().map(|text| text.as_str()), Some("Bearer x"));
        assert!(parse(b"HEAD / HTTP/1.0\r\n\r\n").unwrap().head);
        for (expected, head) in [
            (200, "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            (405, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"),
            (405, "BREW / HTTP/1.1\r\n\r\n"),
            (405, "CONNECT x:1 HTTP/1.1\r\n\r\n"),
            (405, "get / HTTP/1.1\r\n\r\n"),
            (505, "GET / HTTP/2.0\r\n\r\n"),
            (505, "GET / HTTP/0.9\r\n\r\n"),
            (413, "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nno colon\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n: x\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nX: a\nHost: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nX: \0\r\n\r\n"),
            (400, "GET  / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1 \r\n\r\n"),
            (400, "GET /\r\n\r\n"),
            (400, "GET http://x/ HTTP/1.1\r\n\r\n"),
            (400, "GET /#x HTTP/1.1\r\n\r\n"),
            (400, "G(T / HTTP/1.1\r\n\r\n"),
            (400, "\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n"),
        ] {
            assert_eq!(status(head), expected, "{head:?}");
        }
        assert_eq!(parse(b"GET /\xff HTTP/1.1\r\n\r\n").unwrap_err(), MALFORMED);
    }

    #[test]
    fn every_answer_has_the_strict_headers() {
        for status in [200, 400, 401, 403, 404, 405, 408, 413, 431, 503, 505] {
            let answer = Answer::refusal(status, "why");
            let text = String::from_utf8(answer.bytes(false, Timestamp::UNIX_EPOCH)).unwrap();
            for line in [
                "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
                "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
                "X-Content-Type-Options: nosniff\r\n",
                "Referrer-Policy: no-referrer\r\n",
                "Cache-Control: no-store\r\n",
                "Content-Length: 4\r\n",
                "Connection: close\r\n",
            ] {
                assert!(text.contains(line), "{line} in {text}");
            }
            assert!(text.ends_with("\r\n\r\nwhy\n") && text.starts_with(&format!("HTTP/1.1 {status} ")));
            let head = answer.bytes(true, Timestamp::UNIX_EPOCH);
            assert_eq!(text.strip_suffix("why\n").unwrap().as_bytes(), head);
        }
        assert!(
            Answer::of(Refused(405))
                .bytes(true, Timestamp::UNIX_EPOCH)
                .windows(16)
                .any(|w| w == b"Allow: GET, HEAD")
        );
    }
}

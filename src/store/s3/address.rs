//! Where a bucket is reached, and how keys and queries are spelled in URLs.

use crate::store::StoreErrorKind;
use crate::store::s3::failure::Failure;
use crate::store::s3::spec::S3Spec;
use std::fmt::Write as _;

/// `scheme://host[:port]` and, in the path style, `/bucket`; plain HTTP only where it is allowed or does not leave the machine.
pub(super) fn base(spec: &S3Spec) -> Result<String, Failure> {
    let bucket = &spec.bucket;
    let Some(endpoint) = &spec.endpoint else {
        let region = &spec.region;
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        let host = format!("s3.{region}.amazonaws.com{china}");
        // A certificate for *.s3… does not cover a bucket with dots.
        let in_path = spec.path_style || bucket.contains('.');
        return Ok(if in_path {
            format!("https://{host}/{bucket}")
        } else {
            format!("https://{bucket}.{host}")
        });
    };
    let wrong = |why: &str| Failure::new(StoreErrorKind::Other, format!("endpoint {endpoint:?} {why}"));
    let uri: http::Uri = endpoint.parse().map_err(|_| wrong("is no URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("must begin with https:// and name a host"));
    };
    if authority.as_str().contains('@') {
        // Not shown: what stands there is a secret.
        return Err(Failure::new(
            StoreErrorKind::Other,
            "the endpoint holds a user or a password; remove it",
        ));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("must be a host alone, without a path"));
    }
    match scheme {
        "https" => {}
        "http" if spec.allow_http || is_loopback(authority.host()) => {}
        "http" => {
            return Err(wrong(
                "is plain HTTP, which others can read and change; allow_http = true allows it",
            ));
        }
        _ => return Err(wrong("must begin with https://")),
    }
    Ok(match spec.path_style {
        true => format!("{scheme}://{authority}/{bucket}"),
        false => format!("{scheme}://{bucket}.{authority}"),
    })
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The URL of `key` (empty: the bucket itself) with `query`.
pub(super) fn url(base: &str, key: &str, query: &[(&'static str, String)]) -> String {
    let mut url = base.to_owned();
    if !key.is_empty() {
        url.push('/');
        encode(key, true, &mut url);
    }
    for (n, (name, value)) in query.iter().enumerate() {
        url.push(if n == 0 { '?' } else { '&' });
        encode(name, false, &mut url);
        url.push('=');
        encode(value, false, &mut url);
    }
    url
}

/// As signatures want it: everything but letters, digits and `-._~` is escaped, and slashes unless they divide a path.
fn encode(text: &str, is_path: bool, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte));
            }
            b'/' if is_path => into.push('/'),
            _ => {
                let _ = write!(into, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::s3::testing::keys;

    fn spec(endpoint: Option<&str>, path_style: bool) -> S3Spec {
        let mut spec = S3Spec::new("s", "my-bucket", "state", keys());
        (spec.endpoint, spec.path_style) = (endpoint.map(str::to_owned), path_style);
        spec
    }

    #[test]
    fn a_bucket_is_in_the_host_or_in_the_path() {
        let at = |endpoint, path_style| base(&spec(endpoint, path_style)).unwrap();
        assert_eq!(at(None, false), "https://my-bucket.s3.us-east-1.amazonaws.com");
        assert_eq!(at(None, true), "https://s3.us-east-1.amazonaws.com/my-bucket");
        assert_eq!(at(Some("https://minio.example:9000/"), true), "https://minio.example:9000/my-bucket");
        assert_eq!(at(Some("https://s3.example"), false), "https://my-bucket.s3.example");
        assert_eq!(at(Some("http://[::1]:1"), true), "http://[::1]:1/my-bucket");
        let mut dotted = spec(None, false);
        (dotted.bucket, dotted.region) = ("a.b".to_owned(), "cn-north-1".to_owned());
        assert_eq!(base(&dotted).unwrap(), "https://s3.cn-north-1.amazonaws.com.cn/a.b");
    }

    #[test]
    fn an_endpoint_that_would_leak_is_refused_and_a_password_in_it_is_not_shown() {
        for wrong in ["minio:9000", "http://minio:9000", "ftp://x", "https://x/bucket", "https://x?y", ""] {
            assert!(base(&spec(Some(wrong), true)).is_err(), "{wrong}");
        }
        let error = base(&spec(Some("https://user:hunter2@x"), true)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let mut allowed = spec(Some("http://minio:9000"), true);
        allowed.allow_http = true;
        assert_eq!(base(&allowed).unwrap(), "http://minio:9000/my-bucket");
    }

    #[test]
    fn everything_odd_is_escaped() {
        let query = [("prefix", "a/b c+ä".to_owned()), ("uploads", String::new())];
        assert_eq!(url("h", "p q/ä+%", &query), "h/p%20q/%C3%A4%2B%25?prefix=a%2Fb%20c%2B%C3%A4&uploads=");
    }
}

//! Addresses of stores: `s3://bucket/prefix`, with the parts that are filled in, and the endpoint that they are reached at.
//!
//! No message made here repeats a text that may hold a secret: what stands before an `@`, behind a `?`, or in a variable.

use crate::config::name::slug;
use crate::config::settings::Cloud;
use std::ffi::OsString;
use std::net::IpAddr;

/// What is wrong, and what to do.
pub(super) type Wrong = (String, String);

/// What addresses are filled in with.
pub(super) struct Surroundings<'a> {
    /// The name of this machine.
    pub host: &'a str,
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// What an address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub cloud: Cloud,
    pub bucket: String,
    /// Without `/` at either end; may be empty.
    pub prefix: String,
    /// For people: with the name of the machine, and with the names of variables instead of their values.
    pub shown: String,
}

const CREDENTIALS: &str =
    "credentials come from the environment, from `profile` or from `credentials_file`, never from an address";
const SHAPE: &str = "for example: url = \"s3://bucket/{host}/project\"";
/// A key of S3 has at most 1,024 bytes; ours need some 100 of them.
const PREFIX_MAX: usize = 512;

/// Reads `text`, or says everything that is wrong with it.
pub(super) fn address(text: &str, around: &Surroundings<'_>) -> Result<Address, Vec<Wrong>> {
    let (cloud, rest) = scheme(text).map_err(|wrong| vec![wrong])?;
    let filled = fill(rest, around)?;
    let (bucket, prefix) = filled.value.split_once('/').unwrap_or((&filled.value, ""));
    let prefix = prefix.trim_end_matches('/');
    let wrong = bucket_is_wrong(bucket).or_else(|| prefix_is_wrong(prefix));
    if let Some((what, hint)) = wrong {
        let what = if filled.has_variables { format!("with its variables replaced, {what}") } else { what };
        return Err(vec![(what, hint)]);
    }
    let shown = format!("{}://{}", cloud.scheme(), filled.shown.trim_end_matches('/'));
    Ok(Address { cloud, bucket: bucket.to_owned(), prefix: prefix.to_owned(), shown })
}

/// Whose address it is, and what follows `://`.
fn scheme(text: &str) -> Result<(Cloud, &str), Wrong> {
    let wrong = |what: &str, hint: &str| Err((what.to_owned(), hint.to_owned()));
    if text.contains('@') {
        return wrong("an address may not hold a user or a password", CREDENTIALS);
    }
    if text.contains(['?', '#']) {
        return wrong("an address here has no part behind `?` or `#`", CREDENTIALS);
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return wrong("an address holds no blanks, backslashes or control characters", SHAPE);
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("file:") {
        return wrong("a directory is no URL here", "write it as a path: path = \"/mnt/backups\"");
    }
    let Some((scheme, _)) = lower.split_once("://") else {
        return wrong("this is not a URL", "s3://bucket/prefix; a directory is written as path = \"…\"");
    };
    match scheme {
        "s3" => Ok((Cloud::S3, &text["s3://".len()..])),
        "gs" if cfg!(feature = "gcs") => Ok((Cloud::Gcs, &text["gs://".len()..])),
        "az" if cfg!(feature = "azure") => Ok((Cloud::Azure, &text["az://".len()..])),
        "gs" => needs_feature("gs", "gcs"),
        "az" => needs_feature("az", "azure"),
        "gcs" => wrong("Google's addresses begin with `gs://`", "gs://bucket/prefix"),
        "azure" | "abfs" | "abfss" => wrong(
            "Azure's addresses begin with `az://`",
            "az://container/prefix, and endpoint = \"https://ACCOUNT.blob.core.windows.net\"",
        ),
        "http" | "https" => wrong(
            "a server's address belongs into `endpoint`",
            "url = \"s3://bucket/prefix\" names the bucket, endpoint = \"https://…\" the server",
        ),
        _ => wrong("an address must begin with `s3://`", SHAPE),
    }
}

fn needs_feature<T>(scheme: &str, feature: &str) -> Result<T, Wrong> {
    let what = format!("`{scheme}://` needs a build with feature `{feature}`, and this is none");
    Err((what, "this build knows `s3://` with `url`, and directories with `path`".to_owned()))
}

/// A text with `{host}` and `${NAME}` replaced.
struct Filled {
    value: String,
    shown: String,
    has_variables: bool,
}

fn fill(text: &str, around: &Surroundings<'_>) -> Result<Filled, Vec<Wrong>> {
    let mut filled = Filled { value: String::new(), shown: String::new(), has_variables: false };
    let mut wrong = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '{', '}']) {
        filled.both(&rest[..at]);
        rest = &rest[at..];
        let length = rest.find('}').map_or(rest.len(), |end| end + 1);
        let (part, after) = rest.split_at(length);
        rest = after;
        if part == "{host}" {
            match slug(around.host) {
                Some(host) => filled.both(&host),
                None => wrong.push((
                    "`{host}` cannot be replaced: the name of this machine has no letter or digit".to_owned(),
                    "write the name that it shall have".to_owned(),
                )),
            }
        } else if let Some(name) = part.strip_prefix("${").and_then(|p| p.strip_suffix('}')) {
            match variable(name, around) {
                Ok(value) => filled.variable(name, &value),
                Err(why) => wrong.push(why),
            }
        } else {
            let what = "only `{host}` and `${NAME}` are replaced in an address";
            wrong.push((what.to_owned(), SHAPE.to_owned()));
        }
    }
    filled.both(rest);
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}

impl Filled {
    fn both(&mut self, text: &str) {
        self.value.push_str(text);
        self.shown.push_str(text);
    }

    fn variable(&mut self, name: &str, value: &str) {
        self.has_variables = true;
        self.value.push_str(value);
        self.shown.push_str(&format!("${{{name}}}"));
    }
}

fn variable(name: &str, around: &Surroundings<'_>) -> Result<String, Wrong> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(inner) {
        return Err(("`${…}` holds no name of a variable".to_owned(), SHAPE.to_owned()));
    }
    if ["SECRET", "TOKEN", "PASSWORD"].iter().any(|word| name.to_ascii_uppercase().contains(word)) {
        return Err((format!("${{{name}}} is a secret, and an address is none"), CREDENTIALS.to_owned()));
    }
    let value = (around.variable)(name).ok_or_else(|| {
        (format!("the variable {name} is not set"), format!("set {name} in the environment of backstay"))
    })?;
    let value = value.into_string().ok().filter(|value| !value.is_empty() && value.chars().all(fits));
    value.ok_or_else(|| {
        let what = format!("the value of {name} has no place in an address");
        (what, "letters, digits, `-`, `_`, `.`, `=` and `/` may stand in it".to_owned())
    })
}

fn fits(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '/')
}

fn bucket_is_wrong(bucket: &str) -> Option<Wrong> {
    if bucket.is_empty() {
        return Some(("the address names no bucket".to_owned(), SHAPE.to_owned()));
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    let right = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| inner(*b))
        && ends(bytes.first())
        && ends(bytes.last())
        && !bucket.contains("..");
    let hint = "3 to 63 of a-z, 0-9, `-`, `_` and `.`, the first and the last a letter or digit; the prefix follows after `/`";
    (!right).then(|| ("the name of the bucket is none".to_owned(), hint.to_owned()))
}

fn prefix_is_wrong(prefix: &str) -> Option<Wrong> {
    let wrong = |what: &str, hint: &str| Some((what.to_owned(), hint.to_owned()));
    if prefix.len() > PREFIX_MAX {
        return wrong("the prefix is longer than 512 characters", "shorten it");
    }
    if !prefix.chars().all(fits) {
        return wrong(
            "the prefix holds a character that stores treat in different ways",
            "letters, digits, `-`, `_`, `.`, `=` and `/` may stand in it",
        );
    }
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if !prefix.is_empty() && prefix.split('/').any(odd) {
        return wrong("the prefix holds `//`, `.` or `..`", "write it without");
    }
    None
}

/// The server that a bucket is reached at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Without `/` at its end; scheme and host in lower case.
    pub url: String,
    /// It is not encrypted.
    pub plain: bool,
    /// It is this machine.
    pub loopback: bool,
}

/// True for an endpoint that is reached without TLS over a network.
pub fn leaves_in_the_open(endpoint_text: &str) -> bool {
    match endpoint(endpoint_text) {
        Ok(endpoint) => endpoint.plain && !endpoint.loopback,
        Err(_) => endpoint_text.starts_with("http://"),
    }
}

/// Reads an endpoint.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    let wrong = |what: &str, hint: &str| Err((what.to_owned(), hint.to_owned()));
    let shape = "for example: endpoint = \"https://minio.example:9000\"";
    if text.contains('@') {
        return wrong("an endpoint may not hold a user or a password", CREDENTIALS);
    }
    if text.contains(['?', '#']) {
        return wrong("an endpoint has no part behind `?` or `#`", CREDENTIALS);
    }
    if text.contains(['$', '{', '}']) {
        return wrong("nothing is replaced in `endpoint`, only in `url`", shape);
    }
    let Ok(uri) = text.parse::<http::Uri>() else {
        return wrong("this is not the address of a server", shape);
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return wrong("an endpoint begins with `https://`", shape);
    };
    let plain = match scheme {
        "https" => false,
        "http" => true,
        _ => return wrong("an endpoint begins with `https://`", shape),
    };
    let host = authority.host().to_ascii_lowercase();
    let port = authority.as_str().get(host.len()..).unwrap_or_default();
    if host.is_empty() || !(port.is_empty() || authority.port_u16().is_some_and(|port| port > 0)) {
        return wrong("this is not the address of a server", shape);
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !matches!(uri.path(), "" | "/") {
        return wrong("an endpoint is a server alone, without a path", shape);
    }
    Ok(Endpoint { url: format!("{scheme}://{host}{port}"), plain, loopback })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, Vec<Wrong>> {
        let variable = |name: &str| match name {
            "TEAM" => Some("blue/one".into()),
            "ODD" => Some("canary value".into()),
            "DOTS" => Some("..".into()),
            "AWS_SECRET_ACCESS_KEY" => Some("canary".into()),
            _ => None,
        };
        address(text, &Surroundings { host: "Web-1.Example", variable: &variable })
    }

    #[test]
    fn an_address_is_a_bucket_and_a_prefix_with_what_is_filled_in() {
        for (text, bucket, prefix, shown) in [
            ("s3://bucket", "bucket", "", "s3://bucket"),
            ("s3://bucket/", "bucket", "", "s3://bucket"),
            ("S3://bucket/a/b//", "bucket", "a/b", "s3://bucket/a/b"),
            (
                "s3://my.bucket-1/{host}/x=1",
                "my.bucket-1",
                "web-1-example/x=1",
                "s3://my.bucket-1/web-1-example/x=1",
            ),
            ("s3://b-{host}/${TEAM}/x", "b-web-1-example", "blue/one/x", "s3://b-web-1-example/${TEAM}/x"),
        ] {
            let expected = Address {
                cloud: Cloud::S3,
                bucket: bucket.into(),
                prefix: prefix.into(),
                shown: shown.into(),
            };
            assert_eq!(read(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_explained() {
        for (text, what) in [
            ("bucket/x", "this is not a URL"),
            ("s3:bucket", "this is not a URL"),
            ("/mnt/x", "this is not a URL"),
            ("file:///mnt/x", "a directory is no URL here"),
            ("FILE:backups", "a directory is no URL here"),
            ("gcs://bucket/x", "begin with `gs://`"),
            ("abfss://bucket/x", "begin with `az://`"),
            ("https://bucket.s3.amazonaws.com/x", "belongs into `endpoint`"),
            ("sftp://host/x", "must begin with `s3://`"),
            ("${TEAM}", "this is not a URL"),
            ("s3://", "names no bucket"),
            ("s3:///x", "names no bucket"),
            ("s3://ab", "the name of the bucket is none"),
            ("s3://Bucket/x", "the name of the bucket is none"),
            ("s3://buck..et", "the name of the bucket is none"),
            ("s3://bucket/a//b", "holds `//`"),
            ("s3://bucket/../b", "holds `//`, `.` or `..`"),
            ("s3://bucket/ä", "holds a character"),
            ("s3://bucket/a b", "no blanks"),
            ("s3://bucket/{name}", "only `{host}` and `${NAME}`"),
            ("s3://bucket/{host", "only `{host}` and `${NAME}`"),
            ("s3://bucket/$TEAM", "only `{host}` and `${NAME}`"),
            ("s3://bucket/${1X}", "no name of a variable"),
            ("s3://bucket/${NOT_THERE}", "the variable NOT_THERE is not set"),
            ("s3://bucket/${ODD}", "the value of ODD has no place"),
            ("s3://bucket/${DOTS}", "with its variables replaced, the prefix holds `//`"),
            ("s3://bucket/${AWS_SECRET_ACCESS_KEY}", "is a secret"),
            ("s3://me:canary@bucket/x", "may not hold a user"),
            ("s3://bucket/x?X-Amz-Signature=canary", "no part behind"),
        ] {
            let wrong = read(text).expect_err(text);
            assert!(wrong[0].0.contains(what), "{text}: {wrong:?}");
            assert!(!format!("{wrong:?}").contains("canary"), "{text}: {wrong:?}");
        }
        assert_eq!(read("s3://bucket/${A}/${B}").unwrap_err().len(), 2, "each missing variable is named");
    }

    #[test]
    fn other_clouds_are_known_by_builds_that_have_them_and_named_by_others() {
        for (text, cloud, built, feature) in [
            ("gs://bucket/x", Cloud::Gcs, cfg!(feature = "gcs"), "`gcs`"),
            ("az://bucket/x", Cloud::Azure, cfg!(feature = "azure"), "`azure`"),
        ] {
            match read(text) {
                Ok(address) => {
                    assert!(built && address.cloud == cloud && address.shown == text, "{address:?}");
                }
                Err(wrong) => assert!(!built && wrong[0].0.contains(feature), "{wrong:?}"),
            }
        }
    }

    #[test]
    fn an_endpoint_is_a_server_and_nothing_secret() {
        for (text, url, plain, loopback) in [
            ("https://MinIO.example:9000/", "https://minio.example:9000", false, false),
            ("http://localhost:9000", "http://localhost:9000", true, true),
            ("http://127.0.0.53", "http://127.0.0.53", true, true),
            ("http://[::1]:9000", "http://[::1]:9000", true, true),
            ("http://nas.local", "http://nas.local", true, false),
            ("http://localhost.example", "http://localhost.example", true, false),
        ] {
            assert_eq!(endpoint(text), Ok(Endpoint { url: url.into(), plain, loopback }), "{text}");
        }
        for text in [
            "minio.example:9000",
            "minio",
            "ftp://x",
            "https://",
            "https://x:99999",
            "https://x:y",
            "https://me:canary@x",
            "https://x/?canary",
            "https://${HOST}",
            "https://x/bucket",
            "https://a b",
        ] {
            let wrong = endpoint(text).expect_err(text);
            assert!(!wrong.0.contains("canary"), "{wrong:?}");
        }
    }
}

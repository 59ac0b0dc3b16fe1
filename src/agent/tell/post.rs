//! One request, with a limit. Errors show the host at most: the rest of an address may be secret.

use crate::bridge::block_on;
use std::error::Error;
use std::time::Duration;

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    /// Names and values of headers.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(super) body: String,
}

/// Sends `letter` to `url`; any status from 200 to 299 is well.
pub(super) fn post(
    url: &str,
    letter: &Letter,
    token: Option<&str>,
    within: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<(), String> {
    let address: reqwest::Url = url.parse().map_err(|_| "its address makes no URL".to_owned())?;
    let host = address.host_str().unwrap_or_default().to_owned();
    if !matches!(address.scheme(), "https" | "http") || host.is_empty() {
        return Err("its address must begin with https://".to_owned());
    }
    let client = client(within)?;
    let mut request = client.post(address).body(letter.body.clone());
    for (name, value) in &letter.headers {
        request = request.header(*name, value);
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let sent = async { request.send().await.map(|answer| answer.status().as_u16()) };
    match block_on(stopped, sent) {
        Ok(Ok(200..=299)) => Ok(()),
        Ok(Ok(status)) => Err(format!("{host} answers with status {status}")),
        Ok(Err(e)) => Err(format!("{host} does not answer: {}", why(e))),
        Err(e) => Err(format!("{host} was not asked: {e}")),
    }
}

/// A machine without any certificates (a small container) still reaches plain servers.
fn client(within: Duration) -> Result<reqwest::Client, String> {
    // Whoever was first has installed it.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry the message, and the token, to whom nobody named.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(within)
            .http1_only()
    };
    let client = builder().build().or_else(|_| builder().tls_certs_only(Vec::new()).build());
    client.map_err(|e| format!("no HTTP client could be made: {}", why(e)))
}

/// The innermost cause, without the address.
fn why(error: reqwest::Error) -> String {
    let error = error.without_url();
    let timed_out = error.is_timeout();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    if timed_out { "no answer in time".to_owned() } else { text }
}

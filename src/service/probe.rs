//! One question to a service, with a limit. What is not plainly well is a failure, with its reason in words.

use crate::bridge::block_on;
use crate::config::{Health, Probe};
use crate::service::run::{command_of, run};
use crate::service::watch::Watch;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// So much of a page is read.
const PAGE_MAX: usize = 1 << 20;

/// Asks once.
pub(super) fn ask(subject: &str, health: &Health, around: &Watch<'_>) -> Result<(), String> {
    match &health.probe {
        Probe::Url { url, status, contains } => {
            page(url, *status, contains.as_deref(), health.timeout, around.commands.stopped)
        }
        Probe::Tcp { address } => connect(address, health.timeout),
        Probe::Command { command } => {
            let command = command_of(subject, command).map_err(|e| e.to_string())?;
            let outcome =
                run(&around.commands, subject, command, health.timeout).map_err(|e| e.to_string())?;
            if outcome.code_zero {
                return Ok(());
            }
            Err(format!("`{}` ended with {}{}", outcome.program, outcome.status, outcome.words))
        }
        Probe::Sqlite { path } => (around.sqlite)(path, health.timeout),
    }
}

fn connect(address: &str, timeout: Duration) -> Result<(), String> {
    let found = address.to_socket_addrs().map_err(|e| format!("cannot find {address}: {e}"))?;
    let mut why = format!("{address} is no address");
    for one in found {
        match TcpStream::connect_timeout(&one, timeout) {
            Ok(_) => return Ok(()),
            Err(e) => why = format!("cannot connect to {one}: {e}"),
        }
    }
    Err(why)
}

/// Fetches a page: no proxy, no redirect followed, no answer out of a cache.
fn page(
    url: &str,
    status: Option<u16>,
    contains: Option<&str>,
    timeout: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<(), String> {
    // Whoever was first has installed it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .build()
        .map_err(|e| format!("cannot ask {url}: {}", causes(&e)))?;
    let fetch = async {
        let fresh = [("cache-control", "no-cache, no-store"), ("pragma", "no-cache")];
        let mut request = client.get(url);
        for (name, value) in fresh {
            request = request.header(name, value);
        }
        let mut answer =
            request.send().await.map_err(|e| format!("{url} does not answer: {}", causes(&e)))?;
        let code = answer.status().as_u16();
        let well = status.map_or_else(|| answer.status().is_success(), |wanted| wanted == code);
        if !well {
            return Err(format!("{url} answers with status {code}"));
        }
        let mut text: Vec<u8> = Vec::new();
        // Read to the end: a server that dies in the middle of its answer is not well.
        while let Some(chunk) =
            answer.chunk().await.map_err(|e| format!("{url} breaks off its answer: {}", causes(&e)))?
        {
            let room = PAGE_MAX.saturating_sub(text.len());
            text.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        match contains {
            Some(wanted) if !String::from_utf8_lossy(&text).contains(wanted) => {
                Err(format!("the answer of {url} does not contain {wanted:?}"))
            }
            _ => Ok(()),
        }
    };
    block_on(stopped, fetch).map_err(|e| e.to_string())?
}

/// An error with what it came from: reqwest's own texts say little.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

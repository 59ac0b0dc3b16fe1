//! `[agent]`: where metrics go, and where the status page is.

use crate::config::block::{At, Block};
use crate::config::notify::secret;
use crate::config::places::Role;
use crate::config::render::Found;
use crate::config::resolve::Work;
use crate::config::settings_agent::{AgentSettings, Page, PageAt};
use std::net::{Ipv4Addr, SocketAddr};

/// What fits into an address of a socket, with the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// What `[agent]` says.
pub(super) fn agent(work: &mut Work<'_>, mut block: Block) -> AgentSettings {
    let textfile = block.text("textfile");
    let textfile = work.site(Role::Other, "the metrics file", textfile);
    let named = block.named.get("token_file").cloned();
    let token = block.text("token_file").and_then(|at| secret(work, "the token of the status page", at));
    if let (Some(span), false) = (&named, block.has("page")) {
        let found = Found::at(span, "`token_file` means nothing without `page`");
        work.mistake(found.hint("say where the page is: page = \"127.0.0.1:9317\""));
    }
    let page = block.text("page").and_then(|At { value, span }| {
        let at = match value.strip_prefix("unix:") {
            Some(path) => socket(work, At { value: path.to_owned(), span: span.clone() })?,
            None => PageAt::Tcp(address(work, At { value, span: span.clone() })?),
        };
        if !at.is_here() && named.is_none() {
            let what = format!("others than this machine could read the page at {at}, and nothing asks who they are");
            work.mistake(Found::at(&span, what).hint(
                "give a token, in a file that only you can read: token_file = \"…\"; or listen on this machine alone: page = \"127.0.0.1:9317\"",
            ));
            return None;
        }
        Some(Page { at, token })
    });
    AgentSettings { textfile, page }
}

fn socket(work: &mut Work<'_>, at: At<String>) -> Option<PageAt> {
    let span = at.span.clone();
    let path = work.site(Role::Other, "the socket of the status page", Some(at))?;
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let what = format!("the path of a socket has at most {SOCKET_PATH_MAX} bytes, and this one {length}");
        work.mistake(Found::at(&span, what).hint("choose a shorter one: page = \"unix:/run/backstay.sock\""));
        return None;
    }
    Some(PageAt::Unix(path))
}

/// An address as numbers: a name may mean another machine tomorrow.
fn address(work: &mut Work<'_>, At { value, span }: At<String>) -> Option<SocketAddr> {
    let here = value.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    if let Some(port) = here {
        return Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let what = "`page` must be an address of this machine, in numbers, and a port";
        let hint = "for example \"127.0.0.1:9317\", \"[::1]:9317\" or \"unix:/run/backstay.sock\"";
        work.mistake(Found::at(&span, what).hint(hint));
    }
    parsed
}

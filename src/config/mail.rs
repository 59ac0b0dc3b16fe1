//! `email` of a target: to whom, from whom, and the server that takes it.

use crate::config::block::{At, Block};
use crate::config::notify::{Secret, is_here, secret};
use crate::config::places::Role;
use crate::config::render::Found;
use crate::config::resolve::Work;
use std::path::PathBuf;

/// Keys that stand beside `email`.
pub(super) const MAIL_KEYS: [&str; 4] = ["from", "smtp", "password_file", "ca_file"];
/// Longer ones cannot be delivered (RFC 5321).
const LONGEST: usize = 254;

/// An e-mail address, and the server that takes messages for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Who gets it.
    pub to: String,
    /// Who sends it.
    pub from: String,
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way there is encrypted.
    pub tls: MailTls,
    /// The user to be, and where the password is.
    pub login: Option<(String, Secret)>,
    /// Certificates that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
}

/// How the way to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// From the first byte.
    Implicit,
    /// After STARTTLS; without that nothing is said.
    StartTls,
    /// Not at all: the server is this machine.
    None,
}

/// What `smtp` says.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    tls: MailTls,
    user: Option<String>,
}

pub(super) fn mail(work: &mut Work<'_>, block: &mut Block) -> Option<Mail> {
    let ca_file = block.text("ca_file");
    let ca_file = work.site(Role::Other, "the file of certificates", ca_file);
    let to = block.text("email").and_then(|at| address(work, "email", at));
    let from = needed(work, block, "from", "it says who sends the message");
    let from = from.and_then(|at| address(work, "from", at));
    let smtp = needed(work, block, "smtp", "it says which server takes the message");
    let span = smtp.as_ref().map(|at| at.span.clone());
    let server = smtp.and_then(|at| {
        let server = server(&at.value, ca_file.is_some());
        // The text itself is not shown: it may hold a secret.
        server.map_err(|(what, hint)| work.mistake(Found::at(&at.span, what).hint(hint))).ok()
    });
    let named = block.named.get("password_file").cloned();
    let password =
        block.text("password_file").and_then(|at| secret(work, "the password of a mail server", at));
    let Server { host, port, tls, user } = server?;
    let login = match (user, password, named, span) {
        (Some(user), Some(password), ..) => Some((user, password)),
        (Some(_), None, None, Some(span)) => {
            let hint = "name it with `password_file`, or leave the user away";
            work.mistake(Found::at(&span, "a user of a mail server needs a password").hint(hint));
            None
        }
        (None, _, Some(span), _) => {
            let hint = "write smtp = \"smtps://USER@HOST\", or remove it";
            work.mistake(Found::at(&span, "`password_file` without a user in `smtp`").hint(hint));
            None
        }
        _ => None,
    };
    Some(Mail { to: to?, from: from?, host, port, tls, login, ca_file })
}

fn needed(work: &mut Work<'_>, block: &mut Block, key: &'static str, why: &str) -> Option<At<String>> {
    if !block.has(key) {
        let found = Found::at(&block.span, format!("`{key}` is missing beside `email`"));
        work.mistake(found.hint(why.to_owned()));
    }
    block.text(key)
}

/// One bare address. What could end a header or a command of the protocol is in none.
fn address(work: &mut Work<'_>, key: &str, At { value, span }: At<String>) -> Option<String> {
    let local = |text: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&b);
        !text.is_empty()
            && text.bytes().all(fits)
            && !text.starts_with('.')
            && !text.ends_with('.')
            && !text.contains("..")
    };
    let right = value.len() <= LONGEST
        && value.split_once('@').is_some_and(|(user, host)| local(user) && is_name(host));
    if right {
        return Some(value);
    }
    let found = Found::at(&span, format!("`{key}` must be one e-mail address"));
    work.mistake(found.hint("for example \"ops@example.org\", without a name around it; several people: a list address, or a target for each"));
    None
}

/// A name of a host, or an IPv4 address.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.split('.').all(label)
}

/// Reads `smtps://[USER@]HOST[:PORT]` and `smtp://…`.
fn server(text: &str, has_ca: bool) -> Result<Server, (&'static str, &'static str)> {
    const FORM: (&str, &str) = (
        "`smtp` must be an address: smtps://…",
        "for example \"smtps://user@mail.example.org\", or smtp://… for STARTTLS",
    );
    let (implicit, rest) = match (text.strip_prefix("smtps://"), text.strip_prefix("smtp://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(FORM),
    };
    let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    if user.is_some_and(|user| user.contains(':')) {
        return Err((
            "a password does not belong into `smtp`",
            "put it into a file that only you can read, and name that: password_file = \"…\"",
        ));
    }
    if user
        .is_some_and(|user| user.is_empty() || user.contains(|c: char| c.is_control() || "%/?#".contains(c)))
    {
        return Err((
            "the user in `smtp` has a character that does not belong there",
            "write the user as the server knows it, also with an @",
        ));
    }
    let (host, port, in_brackets) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty()), true),
        None => (place.split(':').next().unwrap_or_default(), place.find(':').map(|at| &place[at..]), false),
    };
    let right = if in_brackets { host.parse::<std::net::Ipv6Addr>().is_ok() } else { is_name(host) };
    let here = if in_brackets { host == "::1" } else { is_here(host) };
    let port = match port {
        Some(text) => {
            text.strip_prefix(':').and_then(|text| text.parse().ok()).filter(|port: &u16| *port > 0)
        }
        None if implicit => Some(465),
        None => Some(if here { 25 } else { 587 }),
    };
    let (Some(port), true) = (port, right) else { return Err(FORM) };
    let tls = match (implicit, here && !has_ca) {
        (true, _) => MailTls::Implicit,
        (false, true) => MailTls::None,
        (false, false) => MailTls::StartTls,
    };
    Ok(Server { host: host.to_owned(), port, tls, user: user.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(String, u16, MailTls, Option<String>)> {
        server(text, false).ok().map(|s| (s.host, s.port, s.tls, s.user))
    }

    #[test]
    fn a_mail_server_is_read_as_it_is_written_and_nothing_goes_in_the_clear_but_to_this_machine() {
        let own = |text: &str| Some(text.to_owned());
        let some = |host: &str, port, tls, user| Some((host.to_owned(), port, tls, user));
        assert_eq!(of("smtps://mail.example"), some("mail.example", 465, MailTls::Implicit, None));
        assert_eq!(
            of("smtp://me@x.example@mail.example"),
            some("mail.example", 587, MailTls::StartTls, own("me@x.example"))
        );
        assert_eq!(of("smtp://u@10.0.0.7:2525"), some("10.0.0.7", 2525, MailTls::StartTls, own("u")));
        assert_eq!(of("smtp://localhost"), some("localhost", 25, MailTls::None, None));
        assert_eq!(of("smtp://[::1]:2525"), some("::1", 2525, MailTls::None, None));
        assert_eq!(of("smtp://[fe80::1]"), some("fe80::1", 587, MailTls::StartTls, None));
        assert_eq!(of("smtps://127.0.0.1"), some("127.0.0.1", 465, MailTls::Implicit, None));
        assert_eq!(server("smtp://localhost", true).unwrap().tls, MailTls::StartTls);
        for wrong in [
            "mail.example",
            "http://mail.example",
            "smtp://",
            "smtp://mail.example:",
            "smtp://mail.example:0",
            "smtp://mail.example:70000",
            "smtp://mail.example/x",
            "smtp://a b",
            "smtp://[::1",
            "smtp://[::1]x",
            "smtp://[localhost]",
            "smtp://u:p@mail.example",
            "smtp://u%40x@mail.example",
            "smtp://@mail.example",
            "smtp://u\r\nX@mail.example",
            "smtp://mail.example\r\n",
            "smtp://localhost.evil:25:25",
        ] {
            assert!(of(wrong).is_none(), "{wrong}");
        }
    }
}

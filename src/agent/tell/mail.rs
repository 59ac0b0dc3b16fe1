//! One message by e-mail, with a limit. No error shows the password, whatever the server answers.

use crate::agent::tell::message::Message;
use crate::bridge::block_on;
use crate::config::{Mail, MailTls};
use lettre::address::{Address, Envelope};
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::extension::ClientId;
use std::error::Error as _;
use std::path::Path;
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// So much of what a server answers is shown.
const WORDS: usize = 300;
/// After the message was taken: a server that does not answer to the goodbye has it all the same.
const GOODBYE: Duration = Duration::from_secs(2);

/// A letter as it goes over the line.
pub(super) struct Letter {
    envelope: Envelope,
    bytes: Vec<u8>,
}

/// Tells other programs that nobody waits for an answer (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl Letter {
    /// `message` for whom `mail` names.
    pub(super) fn of(mail: &Mail, message: &Message) -> Result<Self, String> {
        let address =
            |text: &str| text.parse::<Address>().map_err(|e| format!("{text} is no e-mail address: {e}"));
        let (from, to) = (address(&mail.from)?, address(&mail.to)?);
        let letter = lettre::Message::builder()
            .from(Mailbox::new(Some("backstay".to_owned()), from))
            .to(Mailbox::new(None, to))
            .subject(one_line(&message.title))
            .date(SystemTime::from(message.time).max(SystemTime::UNIX_EPOCH))
            .message_id(Some(identity(mail, message)))
            .header(AutoSubmitted)
            .singlepart(SinglePart::plain(body(message)))
            .map_err(|e| format!("the message cannot be written: {e}"))?;
        Ok(Self { envelope: letter.envelope().clone(), bytes: letter.formatted() })
    }
}

/// The same for every try to tell the same, so that a mail server that took it before its answer was lost need not deliver it twice.
fn identity(mail: &Mail, message: &Message) -> String {
    let Message { event, project, host, about, since, title, .. } = message;
    let what = format!("{event}\0{project}\0{host}\0{about}\0{since}\0{title}\0{}", mail.to);
    let hash = blake3::hash(what.as_bytes()).to_hex();
    let domain = mail.from.split_once('@').map_or("localhost", |(_, domain)| domain);
    format!("<{}@{domain}>", &hash[..32])
}

/// Nothing in a subject may end it.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { ' ' } else { c }).collect()
}

fn body(message: &Message) -> String {
    let code = message.exit_code.map(|code| format!("exit code: {code}\n")).unwrap_or_default();
    format!(
        "{}\n\nproject: {}\nhost: {}\nabout: {}\nevent: {}\nsince: {}\n{code}",
        message.text, message.project, message.host, message.about, message.event, message.since
    )
}

/// Sends `message` within `within`.
pub(super) fn send(
    mail: &Mail,
    message: &Message,
    within: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<(), String> {
    let letter = Letter::of(mail, message)?;
    let login = match &mail.login {
        Some((user, place)) => Some((user.clone(), super::secret::read(place)?)),
        None => None,
    };
    let tls = match mail.tls {
        MailTls::None => None,
        MailTls::Implicit | MailTls::StartTls => Some(trust(&mail.host, mail.ca_file.as_deref())?),
    };
    let speaker = Speaker { mail, letter, login, tls, hello: hello(&message.host) };
    let whole = async { tokio::time::timeout(within, speaker.speak()).await };
    match block_on(stopped, whole) {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(format!("{}: no answer in time", mail.host)),
        Err(e) => Err(format!("{} was not asked: {e}", mail.host)),
    }
}

/// What the system trusts, and what `ca_file` adds.
fn trust(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, String> {
    // Whoever was first has installed it.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let mut own = Vec::new();
    if let Some(path) = ca_file {
        let why =
            |e: &dyn std::fmt::Display| format!("the certificates of {} cannot be used: {e}", path.display());
        let bytes = std::fs::read(path).map_err(|e| why(&e))?;
        own.push(Certificate::from_pem(&bytes).map_err(|e| why(&innermost(&e)))?);
    }
    let build = |store| {
        let builder = TlsParameters::builder(host.to_owned()).certificate_store(store);
        own.iter().cloned().fold(builder, TlsParametersBuilder::add_root_certificate).build()
    };
    // A machine without any certificates (a small container) still reaches servers of its own authority.
    let built = build(CertificateStore::Default)
        .or_else(|e| if own.is_empty() { Err(e) } else { build(CertificateStore::None) });
    built.map_err(|e| format!("no certificates to trust: {}", innermost(&e)))
}

/// This machine's name where it is one, as a mail server wants it.
fn hello(host: &str) -> ClientId {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b".-".contains(&b);
    match !host.is_empty() && host.bytes().all(fits) {
        true => ClientId::Domain(host.to_owned()),
        false => ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST),
    }
}

/// One conversation.
struct Speaker<'a> {
    mail: &'a Mail,
    letter: Letter,
    login: Option<(String, Zeroizing<String>)>,
    tls: Option<TlsParameters>,
    hello: ClientId,
}

impl Speaker<'_> {
    async fn speak(&self) -> Result<(), String> {
        let at_once = self.tls.clone().filter(|_| self.mail.tls == MailTls::Implicit);
        let place = (self.mail.host.as_str(), self.mail.port);
        let connected = AsyncSmtpConnection::connect_tokio1(place, None, &self.hello, at_once, None).await;
        let mut line = connected.map_err(|e| self.why("cannot be reached", &e))?;
        if let (MailTls::StartTls, Some(tls)) = (self.mail.tls, &self.tls) {
            if !line.can_starttls() {
                let host = &self.mail.host;
                return Err(format!(
                    "{host} does not offer STARTTLS, and nothing is said in the clear; smtps:// may be right"
                ));
            }
            line.starttls(tls.clone(), &self.hello).await.map_err(|e| self.why("refuses STARTTLS", &e))?;
        }
        if let Some((user, password)) = &self.login {
            let who = Credentials::new(user.clone(), password.to_string());
            let done = line.auth(&[Mechanism::Plain, Mechanism::Login], &who).await;
            done.map_err(|e| self.why("refuses the user or the password", &e))?;
        }
        let sent = line.send(&self.letter.envelope, &self.letter.bytes).await;
        sent.map_err(|e| self.why("does not take the message", &e))?;
        let _unanswered = tokio::time::timeout(GOODBYE, line.quit()).await;
        Ok(())
    }

    /// What a server answers may repeat what it was told.
    fn why(&self, what: &str, error: &Error) -> String {
        let host = &self.mail.host;
        let mut text = one_line(&match error.status() {
            Some(_) => error.to_string(),
            None => innermost(error),
        });
        if let Some((user, password)) = &self.login {
            let encode = |text: &str| Zeroizing::new(data_encoding::BASE64.encode(text.as_bytes()));
            let plain = Zeroizing::new(format!("\0{user}\0{}", **password));
            for secret in [encode(&plain), encode(password), Zeroizing::new(password.to_string())] {
                text = text.replace(&**secret, "…");
            }
        }
        let end = text.char_indices().nth(WORDS).map_or(text.len(), |(at, _)| at);
        format!("{host} {what}: {}", &text[..end])
    }
}

fn innermost(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    let hint = if text.contains("invalid peer certificate") { " (`ca_file` adds a certificate)" } else { "" };
    format!("{text}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn mail() -> Mail {
        let login = Some(("me".to_owned(), Secret::Variable("BACKSTAY_NONE".to_owned())));
        let (to, from) = ("ops@x.example".to_owned(), "b@h.example".to_owned());
        Mail { to, from, host: "127.0.0.1".to_owned(), port: 25, tls: MailTls::None, login, ca_file: None }
    }

    fn message(title: &str, text: &str) -> Message {
        let time = "2026-11-02T03:04:05Z".parse().unwrap();
        let (project, host) = ("x".to_owned(), "h".to_owned());
        let (title, text) = (title.to_owned(), text.to_owned());
        Message {
            event: "failure",
            project,
            host,
            about: "backup".to_owned(),
            title,
            text,
            exit_code: Some(1),
            since: time,
            time,
            test: false,
        }
    }

    fn lines(title: &str, text: &str) -> Vec<String> {
        let letter = Letter::of(&mail(), &message(title, text)).unwrap();
        String::from_utf8(letter.bytes).unwrap().split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn no_title_makes_a_header_of_its_own() {
        let evil = "a\r\nBcc: evil@x.example\r\n\r\nbody\u{0}\u{b}\u{85}\u{2028}X: y";
        for title in [evil.to_owned(), format!("\u{fc}{evil}"), evil.repeat(30)] {
            let lines = lines(&title, ".\r\n.\r\nQUIT");
            let end = lines.iter().position(String::is_empty).unwrap();
            let names: Vec<&str> = lines[..end]
                .iter()
                .filter(|l| !l.starts_with([' ', '\t']))
                .map(|l| l.split(':').next().unwrap())
                .collect();
            assert_eq!(
                names,
                [
                    "From",
                    "To",
                    "Subject",
                    "Date",
                    "Message-ID",
                    "Auto-Submitted",
                    "MIME-Version",
                    "Content-Type",
                    "Content-Transfer-Encoding"
                ],
                "{lines:?}"
            );
            assert!(
                lines[..end]
                    .iter()
                    .all(|line| line.is_ascii() && line.len() < 1000 && !line.contains(['\r', '\n', '\0'])),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn the_same_word_has_the_same_identity_and_another_has_another() {
        let id =
            |title: &str| lines(title, "text").into_iter().find(|l| l.starts_with("Message-ID")).unwrap();
        assert_eq!(id("one"), id("one"));
        assert_ne!(id("one"), id("two"));
        assert!(id("one").ends_with("@h.example>"));
        let lines = lines("one", "text");
        assert!(lines.contains(&"Date: Mon, 02 Nov 2026 03:04:05 +0000".to_owned()), "{lines:?}");
    }

    #[test]
    fn a_machine_whose_name_is_none_says_hello_by_its_address() {
        assert_eq!(hello("a-b.example").to_string(), "a-b.example");
        for odd in ["", "a b", "x\r\nMAIL", "\u{fc}"] {
            assert_eq!(hello(odd).to_string(), "[127.0.0.1]");
        }
    }
}

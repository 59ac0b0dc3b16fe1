//! E-mail, to a mail server of its own that reads messages with another program's parser.

use super::{configure, secret};
use crate::common::project::have;
use crate::common::tls::{Authority, Certificate};
use crate::lab::{Lab, Ran};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PASSWORD: &str = "canary-password";
const TOOLS: [&str; 2] = ["python3", "openssl"];

/// A mail server.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    pub(super) log: PathBuf,
}

impl Server {
    pub(super) fn start(dir: &Path, args: &[&str]) -> Self {
        let log = dir.join("mails");
        let _none = fs::remove_file(&log);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/smtp_server.py");
        let mut command = Command::new("python3");
        command.args([script, "--log", log.to_str().unwrap()]).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("PORT ").unwrap().parse().unwrap();
        Self { child, port, log }
    }

    /// With a certificate, a user and a password.
    fn secure(lab: &Lab, authority: &Authority, certificate: Certificate, args: &[&str]) -> Self {
        let [cert, key] = authority.files(certificate).map(|path| path.display().to_string());
        let password = secret(lab, "password", PASSWORD);
        let own = ["--cert", &cert, "--key", &key, "--user", "me", "--password-file", &password];
        Self::start(lab.top.path(), &[&own[..], args].concat())
    }

    /// What it took and noted, since it was asked last.
    pub(super) fn take(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let _none = fs::remove_file(&self.log);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends when its standard input does.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn header<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let all = mail["headers"].as_array().unwrap();
    all.iter().filter(|one| one[0] == name).map(|one| one[1].as_str().unwrap()).collect()
}

/// A project whose backup fails, which tells by e-mail.
fn failing(smtp: &str, more: &str) -> Lab {
    let lab = super::lab("");
    point(&lab, smtp, more);
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    lab
}

fn point(lab: &Lab, smtp: &str, more: &str) {
    let target = format!("email = \"ops@x.example\", from = \"backstay@h.example\", smtp = {smtp:?}{more}");
    configure(lab, &format!("notify = {{ failure = [{{ {target} }}] }}"));
}

/// The same with a password and an authority of its own.
fn login(lab: &Lab, authority: Option<&Authority>) -> String {
    let ca =
        authority.map(|a| format!(", ca_file = {:?}", a.file().display().to_string())).unwrap_or_default();
    format!(", password_file = {:?}{ca}", lab.path("password").display().to_string())
}

#[track_caller]
fn untold(ran: &Ran, words: &str) {
    ran.expect(1, &["warning: email ops@x.example could not be told: ", words]);
    assert!(!ran.text().contains(PASSWORD), "{}", ran.text());
}

#[test]
fn trouble_and_its_end_come_by_mail_in_plain_text_with_every_header_right() {
    if !have(&TOOLS) {
        return;
    }
    let lab = failing("smtp://127.0.0.1", "");
    let server = Server::start(lab.top.path(), &[]);
    point(&lab, &format!("smtp://localhost:{}", server.port), "");
    let at = |now| [("BACKSTAY_TEST_NOW", now)];
    lab.run_with(&["backup"], &at("2026-11-02T03:00:00Z")).expect(1, &[]);
    lab.run_with(&["backup"], &at("2026-11-02T04:00:00Z")).expect(1, &[]);
    let mails = server.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let mail = &mails[0];
    assert_eq!(header(mail, "From"), ["backstay <backstay@h.example>"]);
    assert_eq!(header(mail, "To"), ["ops@x.example"]);
    assert_eq!(header(mail, "Subject"), ["backstay: project: backup failed (exit code 1)"]);
    assert_eq!(header(mail, "Date"), ["Mon, 02 Nov 2026 03:00:00 +0000"]);
    assert_eq!(header(mail, "Auto-Submitted"), ["auto-generated"]);
    assert!(header(mail, "Content-Type")[0].starts_with("text/plain"), "{mail}");
    assert!(header(mail, "Message-ID")[0].ends_with("@h.example>"), "{mail}");
    assert_eq!(
        (&mail["rcpt"], &mail["mail"]),
        (&"RCPT TO:<ops@x.example>".into(), &"MAIL FROM:<backstay@h.example>".into())
    );
    assert_eq!(mail["defects"], serde_json::json!([]), "{mail}");
    let text = mail["text"].as_str().unwrap();
    assert!(text.contains("nothing at all could be captured") && text.contains("exit code: 1"), "{text}");
    fs::rename(lab.path("away"), lab.path("project/wanted")).unwrap();
    lab.run_with(&["backup"], &at("2026-11-02T05:00:00Z")).expect(0, &[]);
    let mails = server.take();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(header(&mails[0], "Subject"), ["backstay: project: backup: well again"]);
}

#[test]
fn a_subject_beyond_ascii_is_encoded_and_a_text_with_dots_arrives_whole() {
    if !have(&TOOLS) {
        return;
    }
    let lab = super::lab("");
    let server = Server::start(lab.top.path(), &[]);
    let mut config = lab.config();
    let more =
        "component = [{ name = \"dump\", command = \"printf '.\\\\n..\\\\n\\u00fcber\\\\n' >&2; exit 3\" }]";
    config.extend(more.parse::<toml::Table>().unwrap());
    lab.set_config(&config);
    point(&lab, &format!("smtp://127.0.0.1:{}", server.port), "");
    let ran = lab.run(&["doctor", "--notify"]);
    assert!(ran.text().contains("the test of \"kit\" was sent"), "{}", ran.text());
    let mails = server.take();
    assert_eq!(mails.len(), 6, "{mails:?}");
    let ids: std::collections::BTreeSet<_> = mails.iter().map(|mail| header(mail, "Message-ID")[0]).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");
    lab.run(&["backup"]).expect(1, &[]);
    let mails = server.take();
    let text = mails[0]["text"].as_str().unwrap();
    assert!(text.contains("; ..; \u{fc}ber") || text.contains("\n..\n"), "{text}");
    assert!(mails[0]["raw"].as_str().unwrap().is_ascii(), "{mails:?}");
}

#[test]
fn mail_goes_through_starttls_and_through_tls_from_the_start_with_the_users_password() {
    if !have(&TOOLS) {
        return;
    }
    for (tls, scheme) in [("starttls", "smtp"), ("implicit", "smtps")] {
        for (auth, name) in [("PLAIN", "127.0.0.1"), ("LOGIN", "localhost")] {
            let authority = Authority::new();
            let lab = failing("smtp://localhost", "");
            let server = Server::secure(&lab, &authority, Certificate::Good, &["--tls", tls, "--auth", auth]);
            point(&lab, &format!("{scheme}://me@{name}:{}", server.port), &login(&lab, Some(&authority)));
            let ran = lab.run(&["backup"]);
            ran.expect(1, &[]);
            assert!(!ran.text().contains("could not be told"), "{}", ran.text());
            let mails = server.take();
            assert_eq!(mails.len(), 1, "{mails:?}");
            assert_eq!((&mails[0]["user"], &mails[0]["tls"]), (&"me".into(), &true.into()), "{mails:?}");
            assert!(!mails[0]["raw"].as_str().unwrap().contains(PASSWORD));
        }
    }
}

#[test]
fn a_server_that_is_not_trusted_gets_neither_password_nor_message() {
    if !have(&TOOLS) {
        return;
    }
    let authority = Authority::new();
    let lab = failing("smtp://localhost", "");
    for (tls, scheme) in [("starttls", "smtp"), ("implicit", "smtps")] {
        for (certificate, known) in
            [(Certificate::Good, false), (Certificate::Ended, true), (Certificate::ForAnotherName, true)]
        {
            let server = Server::secure(&lab, &authority, certificate, &["--tls", tls]);
            let other = Authority::new();
            let trusted = if known { &authority } else { &other };
            point(&lab, &format!("{scheme}://me@127.0.0.1:{}", server.port), &login(&lab, Some(trusted)));
            untold(&lab.run(&["backup"]), "invalid peer certificate");
            assert!(server.take().is_empty());
        }
    }
    // Nor one that does not offer what is required.
    let server = Server::secure(&lab, &authority, Certificate::Good, &[]);
    point(&lab, &format!("smtp://me@127.0.0.1:{}", server.port), &login(&lab, Some(&authority)));
    untold(&lab.run(&["backup"]), "127.0.0.1 does not offer STARTTLS, and nothing is said in the clear");
    assert!(server.take().is_empty());
}

#[test]
fn a_mail_server_that_refuses_or_hangs_is_said_with_its_words_and_without_the_password() {
    if !have(&TOOLS) {
        return;
    }
    let authority = Authority::new();
    let lab = failing("smtp://localhost", "");
    let to = |server: &Server, more: &str| {
        point(
            &lab,
            &format!("smtp://me@127.0.0.1:{}", server.port),
            &format!("{}{more}", login(&lab, Some(&authority))),
        );
    };
    let server = Server::secure(&lab, &authority, Certificate::Good, &["--tls", "starttls", "--repeat"]);
    to(&server, "");
    secret(&lab, "password", "another-canary-password");
    let ran = lab.run(&["backup"]);
    untold(&ran, "127.0.0.1 refuses the user or the password: permanent error (535): 5.7.8 no: … …");
    let encoded = data_encoding::BASE64.encode(b"\0me\0another-canary-password");
    assert!(!ran.text().contains("another-canary") && !ran.text().contains(&encoded), "{}", ran.text());
    assert!(server.take().is_empty());
    drop(server);
    for (args, words) in [
        (
            &["--refuse"][..],
            "127.0.0.1 does not take the message: permanent error (550): 5.1.1 nobody of that name",
        ),
        (&["--hang", "banner"], "127.0.0.1: no answer in time"),
        (&["--hang", "data"], "127.0.0.1: no answer in time"),
        (&["--hang", "answer"], "127.0.0.1: no answer in time"),
    ] {
        let server =
            Server::secure(&lab, &authority, Certificate::Good, &[&["--tls", "starttls"], args].concat());
        to(&server, ", within = \"3s\"");
        let begun = Instant::now();
        untold(&lab.run(&["backup"]), words);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    // A server that took the message and then says nothing more has it.
    let server =
        Server::secure(&lab, &authority, Certificate::Good, &["--tls", "starttls", "--hang", "quit"]);
    to(&server, "");
    let ran = lab.run(&["backup"]);
    assert!(ran.code == 1 && !ran.text().contains("could not be told"), "{}", ran.text());
    let port = server.port;
    drop(server);
    point(&lab, &format!("smtp://127.0.0.1:{port}"), "");
    fs::remove_file(lab.state().join("notify.json")).unwrap();
    untold(&lab.run(&["backup"]), "127.0.0.1 cannot be reached: ");
}

#[test]
fn doctor_sends_mails_too_and_says_which_could_not_be_sent() {
    if !have(&TOOLS) {
        return;
    }
    let lab = super::lab("");
    let server = Server::start(lab.top.path(), &["--refuse"]);
    point(&lab, &format!("smtp://127.0.0.1:{}", server.port), "");
    lab.run(&["doctor", "--notify"]).expect(18, &["email ops@x.example: the test of \"failure\" could not be sent: 127.0.0.1 does not take the message"]);
}

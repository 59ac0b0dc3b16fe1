//! Who is told of a command's end: by the real program, over HTTP, with secrets that must be found nowhere.

mod canaries;
mod events;
mod mail;
mod slow;
mod untold;

use crate::lab::{Lab, put, set_mode};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// What a server was sent.
#[derive(Debug, Clone)]
struct Sent {
    path: String,
    headers: String,
    body: String,
}

/// A server that keeps what it is sent, and answers with a status; not at all while that is 0.
struct Server {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<Sent>>>,
    status: Arc<AtomicU16>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            sent: Arc::default(),
            status: Arc::new(AtomicU16::new(200)),
        };
        let (sent, status) = (Arc::clone(&server.sent), Arc::clone(&server.status));
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let one = read(&stream);
                // Before the answer: whoever has it may ask at once what came.
                sent.lock().unwrap().push(one);
                match status.load(Ordering::SeqCst) {
                    0 => silent.push(stream),
                    status => answer(&stream, status),
                }
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// What came since it was asked last.
    fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

fn answer(mut stream: &TcpStream, status: u16) {
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
}

fn read(stream: &TcpStream) -> Sent {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") && headers != "\r\n" {
        assert_ne!(reader.read_line(&mut headers).unwrap(), 0, "it broke off: {first}{headers}");
    }
    let length = headers.to_lowercase();
    let length = length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |text| text.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    Sent { path, headers, body: String::from_utf8(body).unwrap() }
}

fn secret(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.path(name);
    put(&path, text.as_bytes());
    set_mode(&path, 0o600);
    path.display().to_string()
}

fn lab(notify: &str) -> Lab {
    let text = format!("component = [{{ name = \"dump\", command = \"cat wanted\" }}]\n{notify}");
    Lab::new(|dir| put(&dir.join("wanted"), b"content"), &text)
}

fn configure(lab: &Lab, more: &str) {
    let mut config = lab.config();
    config.extend(more.parse::<toml::Table>().unwrap());
    lab.set_config(&config);
}

#[test]
fn commands_by_hand_tell_of_failure_and_recovery_and_beat_the_dead_mans_heart() {
    let server = Server::start();
    let lab = lab("");
    let ping = secret(&lab, "ping", &server.url("beat/me"));
    let notify = format!(
        "notify = {{ failure = [{{ webhook = {:?} }}], ping = {{ url_file = {ping:?} }} }}",
        server.url("hook")
    );
    configure(&lab, &notify);
    let paths = |sent: &[Sent]| sent.iter().map(|one| one.path.clone()).collect::<Vec<_>>();
    // At the end all are told at the same time.
    let take = || {
        let mut sent = server.take();
        sent[1..].sort_by_key(|one| one.path != "/hook");
        sent
    };
    lab.run(&["backup"]).expect(0, &[]);
    assert_eq!(paths(&server.take()), ["/beat/me/start", "/beat/me"]);
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    lab.run(&["backup"]).expect(1, &[]);
    let sent = take();
    assert_eq!(paths(&sent), ["/beat/me/start", "/hook", "/beat/me/fail"]);
    let told: Value = serde_json::from_str(&sent[1].body).unwrap();
    assert_eq!((&told["event"], &told["exit_code"]), (&"failure".into(), &1.into()), "{told}");
    assert!(told["text"].as_str().unwrap().contains("dump"), "{told}");
    lab.run(&["backup"]).expect(1, &[]);
    assert_eq!(paths(&server.take()), ["/beat/me/start", "/beat/me/fail"], "told once");
    fs::rename(lab.path("away"), lab.path("project/wanted")).unwrap();
    lab.run(&["backup"]).expect(0, &[]);
    let sent = take();
    assert_eq!(paths(&sent), ["/beat/me/start", "/hook", "/beat/me"]);
    assert!(sent[1].body.contains("\"recovery\""), "{sent:?}");
    lab.run(&["backup", "--dry-run"]).expect(0, &[]);
    lab.run(&["list"]).expect(0, &[]);
    assert!(server.take().is_empty());
}

#[test]
fn a_target_that_fails_changes_no_outcome_and_is_said() {
    let server = Server::start();
    server.status.store(500, Ordering::SeqCst);
    let lab = lab("");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = lab.path("open");
    put(&open, b"https://hooks.example/x");
    set_mode(&open, 0o644);
    let notify = format!(
        "notify = {{ failure = [{{ webhook = {:?} }}, {{ ntfy = \"http://{nobody}/x\" }}, {{ slack_file = {:?} }}, {{ discord_file = \"credential:none\" }}, \
         {{ ntfy_file = \"env:BACKSTAY_NONE\" }}, {{ command = \"sleep 60\", within = \"1s\" }}] }}",
        server.url("hook"),
        open.display().to_string()
    );
    configure(&lab, &notify);
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    lab.run(&["backup"]).expect(
        1,
        &[
            "nothing at all could be captured",
            "127.0.0.1 answers with status 500",
            "127.0.0.1 does not answer",
            "is open to others (mode 0644)",
            "systemd passed no credentials",
            "the variable BACKSTAY_NONE is not set",
            "was ended after 1 s",
        ],
    );
}

#[test]
fn doctor_sends_one_of_each_and_says_what_could_not_be_sent() {
    let server = Server::start();
    let lab = lab("");
    let token = secret(&lab, "token", "canary-token");
    let notify = format!(
        "notify = {{ failure = [{{ ntfy = {:?}, token_file = {token:?} }}, {{ webhook = {:?}, events = [\"damage\"] }}] }}",
        server.url("topic"),
        server.url("hook")
    );
    configure(&lab, &notify);
    let ran = lab.run(&["doctor", "--notify"]);
    assert!(ran.text().contains("the test of \"damage\" was sent"), "{}", ran.text());
    let sent = server.take();
    assert_eq!(sent.iter().filter(|one| one.path == "/topic").count(), 6);
    assert_eq!(sent.iter().filter(|one| one.path == "/hook").count(), 1);
    assert!(sent[0].headers.to_lowercase().contains("authorization: bearer canary-token\r\n"), "{sent:?}");
    assert!(sent.iter().all(|one| format!("{one:?}").contains("TEST")), "{sent:?}");
    server.status.store(403, Ordering::SeqCst);
    lab.run(&["doctor", "--notify"]).expect(18, &["could not be sent: 127.0.0.1 answers with status 403"]);
}

/// Every file below `dir`, and what it holds.
fn contents(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            contents(&path, found);
        } else if path.is_file() {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn no_secret_of_a_target_is_found_anywhere() {
    let server = Server::start();
    let lab = lab("");
    let words =
        ["canary-slack", "canary-discord", "canary-ntfy", "canary-hook", "canary-ping", "canary-token"];
    let [slack, discord, ntfy, hook, ping, token] = words;
    let slack = secret(&lab, "secrets/slack", &server.url(slack));
    let discord = secret(&lab, "secrets/discord", &format!("{}?key={discord}", server.url("d")));
    secret(&lab, "secrets/hook", &server.url(hook));
    // Nobody answers there: errors of connections show addresses where they can.
    let ping = secret(&lab, "secrets/ping", &format!("http://127.0.0.1:1/{ping}"));
    let token = secret(&lab, "secrets/token", token);
    let notify = format!(
        "notify = {{ failure = [{{ slack_file = {slack:?}, token_file = {token:?} }}, {{ discord_file = {discord:?} }}, {{ ntfy_file = \"env:BACKSTAY_NTFY\" }}, \
         {{ webhook_file = \"credential:hook\" }}, {{ command = \"env > told; cat /proc/$PPID/cmdline > arguments\" }}], ping = {{ url_file = {ping:?} }} }}\n\
         hook = [{{ on = \"backup\", before = \"env > seen\" }}]\nschedule = {{ backup = \"0 3 * * *\", timezone = \"UTC\" }}"
    );
    configure(&lab, &notify);
    let ntfy = server.url(ntfy);
    let credentials = lab.path("secrets").display().to_string();
    let env = |now| {
        [
            ("BACKSTAY_NTFY", &*ntfy),
            ("CREDENTIALS_DIRECTORY", &*credentials),
            ("BACKSTAY_TEST_NOW", now),
            ("RUST_LOG", "trace"),
        ]
    };
    let mut said = String::new();
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    for status in [500, 302, 200] {
        server.status.store(status, Ordering::SeqCst);
        for args in [
            &["-v", "backup"][..],
            &["doctor", "--notify"],
            &["--json", "doctor", "--notify"],
            &["status"],
            &["agent", "--once"],
        ] {
            said.push_str(&lab.run_with(args, &env("2026-11-01T12:00:00Z")).text());
        }
    }
    said.push_str(&lab.run_with(&["agent", "--once"], &env("2026-11-02T12:00:00Z")).text());
    let reached: String = server.take().iter().map(|one| format!("{one:?}")).collect();
    for word in words.into_iter().filter(|word| *word != "canary-ping") {
        assert!(reached.contains(word), "{word} was used at all");
    }
    assert!(said.contains("the dead-man service of `ping` could not be told"), "{said}");
    let mut found = vec![("output".to_owned(), said.into_bytes())];
    for dir in ["project", "store", "home"] {
        contents(&lab.path(dir), &mut found);
    }
    assert!(
        found.iter().any(|(name, _)| name.ends_with("/seen"))
            && found.iter().any(|(name, _)| name.ends_with("/told"))
    );
    for (name, bytes) in found {
        let text = String::from_utf8_lossy(&bytes);
        for word in words {
            assert!(!text.contains(word), "{word} is in {name}: {text}");
        }
    }
}

#[test]
fn metrics_are_written_after_every_command() {
    let lab = lab("schedule = { backup = \"0 3 * * *\", timezone = \"UTC\" }");
    let file = lab.path("metrics/x.prom");
    fs::create_dir(lab.path("metrics")).unwrap();
    configure(&lab, &format!("agent = {{ textfile = {:?} }}", file.display().to_string()));
    let at = |now| [("BACKSTAY_TEST_NOW", now)];
    lab.run_with(&["agent", "--once"], &at("2026-11-01T12:00:00Z")).expect(0, &[]);
    lab.run_with(&["agent", "--once"], &at("2026-11-02T03:00:00Z")).expect(0, &[]);
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    lab.run_with(&["backup"], &at("2026-11-02T04:00:00Z")).expect(1, &[]);
    let text = fs::read_to_string(&file).unwrap();
    for line in [
        "backstay_last_run_exit_code{project=\"project\",task=\"backup\"} 1\n",
        "backstay_last_run_timestamp_seconds{project=\"project\",task=\"backup\"} 1793592000\n",
        "backstay_last_success_timestamp_seconds{project=\"project\",task=\"backup\"} 1793588400\n",
        "backstay_schedule_next_timestamp_seconds{project=\"project\",job=\"backup at 0 3 * * *\"} 1793674800\n",
        "backstay_schedule_overdue_seconds{project=\"project\",job=\"backup at 0 3 * * *\"} 0\n",
        "# TYPE backstay_behind_seconds gauge\nbackstay_behind_seconds{project=\"project\"} 0\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let rules = include_str!("../../deploy/prometheus-alerts.yml");
    let named: Vec<&str> = rules
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|w| w.starts_with("backstay_"))
        .collect();
    assert!(
        named.len() > 5 && named.iter().all(|name| text.contains(&format!("# TYPE {name} gauge"))),
        "{named:?}"
    );
    fs::remove_dir_all(lab.path("metrics")).unwrap();
    lab.run(&["verify"]).expect(0, &["warning: metrics cannot be written to"]);
}

#[test]
fn a_milestone_that_is_made_by_its_command_is_told_as_a_backup() {
    let lab = Lab::new(
        |dir| put(&dir.join("x"), b"x"),
        "component = [{ name = \"x\", path = \"x\" }]\nschedule = { backup = \"0 3 * * *\", timezone = \"UTC\" }",
    );
    lab.run(&["milestone", "--standalone"]).expect(0, &[]);
    let runs = || fs::read_to_string(lab.state().join("runs.json")).unwrap();
    let told: Value = serde_json::from_str(&runs()).unwrap();
    assert_eq!(told["backup"]["last"]["code"], 0, "{told:#}");
    // A mark is no run.
    let before = runs();
    lab.run(&["milestone", "latest", "--standalone"]).expect(0, &[]);
    assert_eq!(runs(), before);
}

#[test]
fn a_run_that_was_interrupted_or_met_another_is_in_no_metric() {
    let lab = Lab::new(
        |dir| put(&dir.join("x"), b"x"),
        "component = [{ name = \"x\", path = \"x\" }, { name = \"ends\", command = \". ../end\" }]\n\
         schedule = { backup = \"0 3 * * *\", timezone = \"UTC\" }",
    );
    let runs = || {
        let text = fs::read_to_string(lab.state().join("runs.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["backup"].clone()
    };
    let end = |script: &str| fs::write(lab.path("end"), script).unwrap();
    end("echo well");
    lab.run(&["backup"]).expect(0, &[]);
    let well = runs();
    assert_eq!((&well["last"]["code"], &well["trouble"]), (&0.into(), &Value::Null));
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        end(&format!("kill -{signal} $PPID; exec sleep 30"));
        lab.run(&["backup"]).expect(code, &[]);
        assert_eq!(runs(), well, "{signal}");
    }
    let lock = backstay::durable::FileLock::new(lab.state().join("lock"));
    let held = lock.try_lock("a test", backstay::model::Timestamp::now()).unwrap();
    assert!(held.is_some());
    lab.run(&["backup"]).expect(11, &[]);
    drop(held);
    lab.run(&["backup", "--as-of", "-1h"]).expect(2, &[]);
    assert_eq!(runs(), well);
    // A failure is one.
    end("exit 1");
    lab.run(&["backup"]).expect(3, &[]);
    assert_eq!(runs()["last"]["code"], 3);
}

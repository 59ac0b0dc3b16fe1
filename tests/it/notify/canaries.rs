//! Eight secrets, each really used, and every place where one of them could come to light.

use super::mail;
use crate::buckets::shop::{PREFIX, give_keys, private};
use crate::common::person::{Bytes, Person, everything_below};
use crate::common::project::{have, until_there};
use crate::common::s3::{BUCKET, Oddities};
use backstay::config::Config;
use backstay::ops::timetable::agent_lock;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

/// A secret, and what it is.
type Canary = (&'static str, String);

fn found_in<'a>(canaries: &'a [Canary], text: &[u8]) -> Option<&'a str> {
    let holds = |secret: &str| text.windows(secret.len()).any(|window| window == secret.as_bytes());
    canaries.iter().find(|(_, secret)| holds(secret)).map(|(what, _)| *what)
}

#[track_caller]
fn assert_absent(canaries: &[Canary], text: &[u8], place: &str) {
    let found = found_in(canaries, text);
    assert!(found.is_none(), "{} is in {place}", found.unwrap_or_default());
}

/// Secrets of `person`, each a piece long enough to mean nothing else.
fn keys_of(person: &Person) -> Vec<Canary> {
    let read = |name: &str| fs::read_to_string(person.keys().join(name)).unwrap();
    let identity = read("identity.txt");
    let at = identity.find("AGE-SECRET-KEY-1").unwrap() + 16;
    // The second half of an OpenSSH key: the first is the same for all, and the public part.
    let body: String = read("signing_key").lines().filter(|line| !line.starts_with("-----")).collect();
    vec![
        ("the identity", identity[at..at + 24].to_owned()),
        ("the signing key", body[body.len() - 90..body.len() - 50].to_owned()),
        ("the naming key", read("naming_key").trim()[..24].to_owned()),
    ]
}

/// Runs the program as talkative as it can be, with every `execve` of it and of its children written down: arguments and environments, whole.
struct Watched<'a> {
    person: &'a Person,
    endpoint: &'a str,
    said: Vec<(String, Vec<u8>)>,
    traces: usize,
}

impl Watched<'_> {
    /// The command, and the file that gets its trace.
    fn traced(&mut self, now: &str, args: &[&str]) -> (Command, PathBuf) {
        self.traces += 1;
        let trace = self.person.top.join(format!("trace-{}", self.traces));
        let plain = self.person.command(args);
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-v",
            "-s",
            "100000",
            "-e",
            "trace=execve,execveat",
            "-e",
            "signal=none",
            "-o",
        ]);
        command.arg(&trace).arg(plain.get_program()).args(plain.get_args()).env_clear();
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap());
        }
        command.envs([
            ("BACKSTAY_TEST_NOW", now),
            ("RUST_LOG", "trace"),
            ("RUST_BACKTRACE", "full"),
            ("AWS_ENDPOINT_URL", self.endpoint),
        ]);
        command.current_dir(&self.person.app);
        (command, trace)
    }

    /// `code` is what it ends with, where that matters.
    #[track_caller]
    fn run(&mut self, now: &str, code: impl Into<Option<i32>>, args: &[&str]) {
        let (mut command, trace) = self.traced(now, args);
        let output = command.output().unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        let right = code.into().is_none_or(|code| output.status.code() == Some(code));
        assert!(right, "{args:?} {:?}: {}", output.status, String::from_utf8_lossy(&said));
        self.said.push((format!("what {args:?} says"), said));
        self.said.push((
            format!("arguments and environments of {args:?} and its children"),
            fs::read(trace).unwrap(),
        ));
    }

    /// An agent that stays until it has looked at the stores and each of its pages was read.
    fn stay(&mut self, now: &str) {
        let (mut command, trace) = self.traced(now, &["-v", "agent"]);
        // What it says goes where everything is looked at: nobody reads it meanwhile.
        let said = File::create(self.person.top.join("said-by-agent")).unwrap();
        let mut child =
            command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap();
        let state = Config::load(&self.person.config_path()).unwrap().state_dir;
        let address = || {
            let note: Value = serde_json::from_slice(&fs::read(state.join("page.json")).ok()?).ok()?;
            Some(note["url"].as_str()?.strip_prefix("http://")?.trim_end_matches('/').to_owned())
        };
        let address = until_there("an answer", address);
        let looked = |answer: &Vec<u8>| {
            let text = String::from_utf8_lossy(answer);
            let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
            body.is_some_and(|view: Value| view["projects"][0]["looked_at"].is_string())
        };
        until_there("an answer", || get(&address, "/status.json").filter(looked));
        for path in ["/", "/status.json", "/metrics"] {
            let body = get(&address, path).unwrap();
            assert!(body.starts_with(b"HTTP/1.1 200 ") && body.len() > 1000, "{path}");
            self.said.push((format!("the page {path}"), body));
        }
        let agent = agent_lock(&state).holder().unwrap().pid;
        let agent = rustix::process::Pid::from_raw(i32::try_from(agent).unwrap()).unwrap();
        rustix::process::kill_process(agent, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        self.said
            .push(("arguments and environments of an agent that stays".into(), fs::read(trace).unwrap()));
    }
}

/// A page, head and body.
fn get(address: &str, path: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

const WORDS: [&str; 3] = ["canary-of-the-url", "canary-of-the-token", "canary-of-the-mail"];

/// A file that only its owner can read.
fn secret(person: &Person, name: &str, text: &str) -> String {
    let path = person.home.join("secrets").join(name);
    private(&path, &format!("{text}\n"));
    path.display().to_string()
}

/// Commands that show their environment, a schedule, metrics, and three who are told.
fn configure(person: &Person, hooks: &super::Server, mails: &mail::Server) {
    person.configure(&format!(
        "[[component]]\nname = \"seen\"\ncommand = \"env; cat /proc/[0-9]*/cmdline 2>/dev/null || true\"\n\
         [[component]]\nname = \"wanted\"\ncommand = \"cat wanted\"\n\
         [[hook]]\non = \"backup\"\nbefore = \"env > ../seen-by-hook\"\n\
         [schedule]\nbackup = \"0 3 * * *\"\nverify = \"10 3 * * *\"\nprune = \"20 3 * * *\"\ntimezone = \"UTC\"\n\
         [agent]\ntextfile = {:?}\npage = \"127.0.0.1:0\"\n\
         [notify]\nfailure = [{{ webhook_file = {:?}, token_file = {:?} }}, {{ command = \"env > ../seen-by-target\" }}, \
         {{ email = \"ops@x.example\", from = \"b@h.example\", smtp = \"smtp://me@127.0.0.1:{}\", password_file = {:?} }}]\n",
        person.top.join("metrics.prom").display().to_string(),
        secret(person, "url", &hooks.url(WORDS[0])),
        secret(person, "token", WORDS[1]),
        mails.port,
        secret(person, "mail", WORDS[2]),
    ));
}

/// Two rounds of everything: one in which nobody can be told, one in which all are.
fn everything(watched: &mut Watched<'_>, hooks: &super::Server) {
    let day = |day: u32, time: &str| format!("2026-11-{day:02}T{time}Z");
    let wanted = watched.person.app.join("wanted");
    for (first, status) in [(2, 500), (4, 200)] {
        hooks.status.store(status, Ordering::SeqCst);
        watched.run(&day(first, "01:00:00"), 0, &["-v", "agent", "--once"]);
        // Something is missing: all are told, or cannot be.
        let _none = fs::remove_file(&wanted);
        watched.run(&day(first, "02:00:00"), 3, &["-v", "--progress", "json", "backup"]);
        watched.run(&day(first, "02:10:00"), None, &["-v", "--json", "doctor", "--notify"]);
        fs::write(&wanted, "there").unwrap();
        watched.run(&day(first + 1, "12:00:00"), 0, &["-v", "agent", "--once"]);
        watched.run(&day(first + 1, "13:00:00"), 0, &["-v", "verify", "--read-data"]);
        watched.run(&day(first + 1, "13:10:00"), 0, &["-v", "prune"]);
        watched.run(&day(first + 1, "13:20:00"), 0, &["-v", "--json", "status"]);
        watched.run(&day(first + 1, "13:30:00"), 0, &["-v", "cat", "latest", "seen"]);
    }
}

/// Every file below `person` and in the bucket, but those that hold the secrets and that nobody else can read.
fn files(person: &Person, bucket: &Path) -> Vec<(String, Vec<u8>)> {
    let own = [person.keys(), person.home.join("secrets"), person.home.join(".aws")];
    let mut places = Vec::new();
    for (path, mode, Bytes(content)) in
        everything_below(&person.top).into_iter().chain(everything_below(bucket))
    {
        if own.iter().any(|dir| path.starts_with(dir)) && !content.is_empty() {
            let right = mode & 0o077 == 0 || path.extension().is_some_and(|e| e == "pub");
            assert!(right, "{} has mode {mode:o}", path.display());
        } else {
            places.push((path.display().to_string(), content));
        }
    }
    places
}

#[test]
fn eight_secrets_are_used_and_found_in_no_output_argument_environment_message_metric_state_or_store() {
    if !have(&["strace", "python3"]) {
        return;
    }
    let store = crate::common::s3::Server::start(Oddities::default());
    let (hooks, person) = (super::Server::start(), Person::new());
    give_keys(&person.home);
    let password = secret(&person, "mail", WORDS[2]);
    let mails = mail::Server::start(&person.top, &["--user", "me", "--password-file", &password]);
    let mut watched = Watched { person: &person, endpoint: &store.endpoint, said: Vec::new(), traces: 0 };
    let url = format!("s3://{BUCKET}/{PREFIX}");
    watched.run("2026-11-01T00:00:00Z", 0, &["-v", "init", "--yes", "--store", &url]);
    configure(&person, &hooks, &mails);
    everything(&mut watched, &hooks);
    watched.stay("2026-11-05T13:40:00Z");
    let mut canaries = keys_of(&person);
    let names = ["the address of a target", "a token", "the password of a mail server"];
    canaries.extend(names.into_iter().zip(WORDS.map(str::to_owned)));
    canaries.push(("the key of the bucket", "test-key-id".to_owned()));
    canaries.push(("its secret", "test-secret-key".to_owned()));
    // Each was used: where it had to go, it went.
    let (sent, taken) = (hooks.take(), mails.take());
    assert!(sent.iter().any(|one| one.path.contains(WORDS[0]) && one.headers.contains(WORDS[1])), "{sent:?}");
    assert!(taken.len() > 6 && taken.iter().all(|mail| mail["user"] == "me"), "{taken:?}");
    // The way of looking finds what is there.
    let keys = person.home.join(".aws/credentials");
    for (file, what) in [(person.identity(), "the identity"), (keys, "the key of the bucket")] {
        assert_eq!(found_in(&canaries, &fs::read(file).unwrap()), Some(what));
    }
    let mut places = watched.said;
    places.extend(sent.iter().map(|one| ("a message".to_owned(), one.body.clone().into_bytes())));
    places.extend(taken.iter().map(|mail| ("a mail".to_owned(), mail.to_string().into_bytes())));
    places.extend(files(&person, &store.bucket()));
    let names: String = places.iter().map(|(name, _)| format!("{name}\n")).collect();
    let looked = [
        "/seen-by-hook",
        "/seen-by-target",
        "/metrics.prom",
        "/notify.json",
        "/snapshots/",
        "/agent.json",
        "/said-by-agent",
        "the page /metrics",
    ];
    for name in looked {
        assert!(names.contains(name), "{name} was looked at: {names}");
    }
    places.iter().for_each(|(name, content)| assert_absent(&canaries, content, name));
}

//! The agent's page as a browser, a scraper and somebody who means harm ask for it: the real program, over real connections.

mod metrics;

use crate::common::project::until_there;
use crate::lab::{Lab, put, set_mode};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// An agent that runs.
struct Agent {
    child: Child,
    err: BufReader<ChildStderr>,
    said: String,
    state: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self
            .head
            .lines()
            .find(|line| line.to_lowercase().starts_with(&format!("{}: ", name.to_lowercase())))?;
        Some(line.split_once(": ").unwrap().1)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

fn got(mut stream: impl Read) -> Option<Got> {
    let mut text = String::new();
    // What was cut off is no answer.
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Got { status, head: head.to_owned(), body: body.to_owned() })
}

impl Agent {
    fn start(lab: &Lab, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.arg("agent").current_dir(lab.path("project")).env_clear();
        command
            .env("HOME", lab.path("home"))
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .envs(env.iter().copied());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, err, said: String::new(), state: lab.state() }
    }

    /// Reads what it says until a line holds `word`; gives that line.
    #[track_caller]
    fn until(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let length = self.err.read_line(&mut line).unwrap();
            self.said.push_str(&line);
            if line.contains(word) {
                return line;
            }
            assert!(length > 0, "it ended before it said {word:?}: {}", self.said);
        }
    }

    /// Where its page is, as it says and as it notes.
    fn url(&mut self) -> String {
        let line = self.until("the status page is at ");
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        let note = || -> Option<String> {
            let note: Value = serde_json::from_slice(&fs::read(self.state.join("page.json")).ok()?).ok()?;
            Some(note["url"].as_str()?.to_owned())
        };
        until_there("an answer", || note().filter(|noted| *noted == url));
        url
    }

    fn address(&mut self) -> SocketAddr {
        self.url().strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

fn ask(address: SocketAddr, question: &str) -> Option<Got> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(question.as_bytes()).ok()?;
    got(stream)
}

fn question(method: &str, path: &str, host: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")
}

/// A page of this machine, asked for as a browser would.
#[track_caller]
fn get(address: SocketAddr, path: &str) -> Got {
    ask(address, &question("GET", path, &address.to_string(), "")).unwrap()
}

const APP: &str = "component = [{ name = \"app\", path = \"app\" }, { name = \"notes\", path = \"notes\" }]";
const NEVER: &str = "schedule = { backup = \"0 3 29 2 *\", verify = \"0 5 29 2 *\", timezone = \"UTC\" }";

fn lab(agent: &str) -> Lab {
    let files = |dir: &Path| {
        put(&dir.join("app/a"), b"content");
        put(&dir.join("notes/b"), b"more content");
    };
    Lab::new(files, &format!("{APP}\n{NEVER}\nagent = {{ {agent} }}"))
}

/// What the page says once the agent has looked at the stores.
fn looked(address: SocketAddr) -> Value {
    until_there("an answer", || {
        Some(get(address, "/status.json").json()).filter(|view| !view["projects"][0]["looked_at"].is_null())
    })
}

#[test]
fn the_page_tells_what_is_protected_and_since_when_proved() {
    let lab = lab("page = \"127.0.0.1:0\"");
    let mut agent = Agent::start(&lab, &[]);
    let address = agent.address();
    let view = looked(address);
    assert_eq!(view["projects"][0]["verdict"], "danger", "nothing was ever backed up: {view}");
    let page = get(address, "/").body;
    assert!(page.contains("Somebody must act") && page.contains("component app is in no snapshot"), "{page}");
    let id = lab.backup();
    lab.run(&["verify", "--read-data"]).expect(0, &[]);
    lab.run(&["drill"]).expect(0, &[]);
    let whole = |view: &Value| view["projects"][0]["status"]["last_drill"]["good"] == true;
    let view = until_there("an answer", || Some(get(address, "/status.json").json()).filter(whole));
    assert_eq!(view["projects"][0]["snapshots"][0]["id"], id);
    assert_eq!(view["projects"][0]["snapshots"][0]["parts"][1]["name"], "notes");
    let page = until_there("an answer", || {
        Some(get(address, "/").body).filter(|page| page.contains("brought back in a drill in "))
    });
    for word in [
        "<h1",
        "Protected",
        "notes",
        "read back in ",
        &id,
        "Nothing runs now.",
        "backup at 0 3 29 2 *",
        "<svg",
    ] {
        assert!(page.contains(word), "{word} is not in {page}");
    }
    // What stands there is what `status` says.
    let said: Value = serde_json::from_slice(&lab.run(&["--json", "status"]).out).unwrap();
    assert_eq!(
        said["components"][0]["newest_good"]["id"],
        view["projects"][0]["status"]["components"][0]["newest_good"]["id"]
    );
    assert_eq!(said["schedule"]["page"], format!("http://{address}/"));
    lab.run(&["status"]).expect(0, &[&format!("status page  http://{address}/")]);
    assert_eq!(agent.end(), Some(0));
    assert!(!lab.state().join("page.json").exists());
}

#[test]
fn a_job_that_runs_says_on_the_page_how_far_it_is() {
    let files = |dir: &Path| put(&dir.join("app/a"), &crate::lab::noise(1, 300_000));
    // The second one is captured when the first is, and waits until it was seen.
    let slow = "while [ ! -e ../go ]; do sleep 0.05; done; echo done";
    let components = format!(
        "component = [{{ name = \"app\", path = \"app\" }}, {{ name = \"slow\", command = {slow:?} }}]"
    );
    let schedule = "schedule = { backup = \"0 3 * * *\", timezone = \"UTC\" }";
    let lab = Lab::new(files, &format!("{components}\n{schedule}\nagent = {{ page = \"127.0.0.1:0\" }}"));
    lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-01T12:00:00Z")]).expect(0, &[]);
    let mut agent = Agent::start(&lab, &[]);
    let address = agent.address();
    let phase = || {
        let file = fs::read(lab.state().join("agent-progress.json")).ok()?;
        let said: Value = serde_json::from_slice(&file).ok()?;
        Some(said["phase"].as_str()?.to_owned())
    };
    let (page, phase) = until_there("an answer", || {
        let phase = phase()?;
        let page = get(address, "/").body;
        page.contains(&format!(": {phase}")).then_some((page, phase))
    });
    assert!(!phase.is_empty(), "{page}");
    assert!(page.contains("<strong>backup at 0 3 * * *</strong> runs for "), "{page}");
    assert!(!page.contains("how far it is was not said"), "{page}");
    put(&lab.path("go"), b"");
    agent.until("backup at 0 3 * * * is done");
    until_there("an answer", || {
        Some(get(address, "/").body).filter(|page| page.contains("Nothing runs now."))
    });
    assert_eq!(agent.end(), Some(0));
}

#[test]
fn every_answer_is_strict_and_only_reading_is_answered() {
    let lab = lab("page = \"127.0.0.1:0\"");
    let mut agent = Agent::start(&lab, &[]);
    let address = agent.address();
    for path in ["/", "/metrics", "/status.json", "/healthz", "/nothing", "/../etc/passwd", "/?every=60"] {
        let answer = get(address, path);
        let expected = if ["/nothing", "/../etc/passwd"].contains(&path) { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{path}: {}", answer.head);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; ") && policy.ends_with("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(policy.contains("style-src 'sha256-"), path.starts_with("/?") || path == "/", "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("connection", "close"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(answer.header("set-cookie").is_none() && answer.header("server").is_none());
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(length, answer.body.len());
        let head = ask(address, &question("HEAD", path, &address.to_string(), "")).unwrap();
        assert_eq!((head.status, head.body.as_str()), (expected, ""));
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        let answer =
            ask(address, &question(method, "/", &address.to_string(), "Content-Length: 0\r\n")).unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let port = address.port();
    for well in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(ask(address, &question("GET", "/", &well, "")).unwrap().status, 200, "{well}");
    }
    // A browser that was made to take this machine for somebody else's asks by that name.
    for wrong in [
        "evil.example",
        &format!("evil.example:{port}"),
        "localhost",
        "127.0.0.1:1",
        "localhost@evil.example",
    ] {
        for path in ["/", "/metrics", "/status.json", "/nothing"] {
            let answer = ask(address, &question("GET", path, wrong, "")).unwrap();
            assert_eq!(answer.status, 403, "{wrong}");
            assert!(!answer.body.contains("project"), "{}", answer.body);
        }
    }
    let page = get(address, "/").body;
    for word in [
        "http://",
        "https://",
        "//",
        "<script",
        "<img",
        "<link",
        "@import",
        "url(",
        " style=",
        " onclick",
        "javascript:",
    ] {
        let found = page.find(word).map(|at| &page[at.saturating_sub(60)..(at + 60).min(page.len())]);
        assert!(found.is_none(), "nothing is fetched or run: {found:?}");
    }
    assert!(page.contains("<html lang=\"en\">") && !page.contains("http-equiv"));
    assert!(get(address, "/?every=60").body.contains("<meta http-equiv=\"refresh\" content=\"60\">"));
}

#[test]
fn outside_of_loopback_nobody_is_let_in_without_the_token() {
    let lab = lab("page = \"0.0.0.0:0\"");
    lab.run(&["agent"])
        .expect(14, &["others than this machine could read the page at 0.0.0.0:0", "token_file"]);
    let token = "canary-token-that-is-long-enough";
    let file = lab.path("token");
    put(&file, format!("{token}\n").as_bytes());
    set_mode(&file, 0o600);
    let mut config = lab.config();
    config["agent"].as_table_mut().unwrap().insert("token_file".into(), file.to_str().unwrap().into());
    lab.set_config(&config);
    let mut agent = Agent::start(&lab, &[]);
    let port = agent.address().port();
    // The machine's own address, if it has one beside loopback.
    let own: Option<IpAddr> = UdpSocket::bind("0.0.0.0:0").ok().and_then(|socket| {
        socket.connect("192.0.2.1:9").ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
    });
    for ip in [Some("127.0.0.1".parse().unwrap()), own].into_iter().flatten() {
        let address = SocketAddr::new(ip, port);
        let with = |path: &str, authorization: &str| {
            ask(address, &question("GET", path, "backups.example", authorization)).unwrap()
        };
        for path in ["/", "/metrics", "/status.json", "/nothing", &format!("/?token={token}")] {
            let answer = with(path, "");
            assert_eq!(answer.status, 401, "{address}{path}");
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Basic realm=\"backstay\", charset=\"UTF-8\"")
            );
            assert!(!answer.body.contains("project"), "{}", answer.body);
        }
        assert_eq!(with("/", "Authorization: Bearer wrong-token-that-is-long-enough\r\n").status, 401);
        assert_eq!(with("/metrics", &format!("Authorization: Bearer {token}\r\n")).status, 200);
        let basic = data_encoding::BASE64.encode(format!("me:{token}").as_bytes());
        let page = with("/", &format!("Authorization: Basic {basic}\r\n"));
        assert!(page.status == 200 && !page.body.contains(token));
        // Says nothing of any project, and so asks for nothing.
        assert_eq!(with("/healthz", "").body, "ok\n");
    }
    agent.signal(rustix::process::Signal::TERM);
    agent.until("the agent ends");
    assert!(!agent.said.contains(token), "{}", agent.said);
}

#[test]
fn slow_and_many_clients_keep_nobody_from_the_page_and_the_agent_from_nothing() {
    let lab = lab("page = \"127.0.0.1:0\"");
    let mut agent = Agent::start(&lab, &[]);
    let address = agent.address();
    looked(address);
    let slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: ");
            stream
        })
        .collect();
    assert_eq!(get(address, "/healthz").status, 200);
    assert!(get(address, "/").body.contains("</html>"));
    let threads = fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap().count();
    // Twice the 32 places, and the agent's own.
    assert!(threads <= 72, "{threads} threads");
    // Whoever asks and does not read is given up, too.
    let deaf: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(question("GET", "/", &address.to_string(), "").as_bytes());
            stream
        })
        .collect();
    assert_eq!(until_there("an answer", || ask(address, &question("GET", "/healthz", "x", ""))).status, 200);
    let begun = Instant::now();
    assert_eq!(agent.end(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop((slow, deaf));
}

#[test]
fn a_page_whose_place_is_taken_keeps_no_backup_from_being_made() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let lab = lab(&format!("page = \"{address}\""));
    let mut config = lab.config();
    config["schedule"].as_table_mut().unwrap().insert("backup".into(), "* * * * *".into());
    lab.set_config(&config);
    lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-01T12:00:00Z")]).expect(0, &[]);
    let mut agent = Agent::start(&lab, &[]);
    let said = agent.until("the status page cannot be shown at");
    assert!(said.starts_with("WARNING: ") && said.contains("backups go on"), "{said}");
    agent.until("is done");
    let why = format!("the status page cannot be shown at {address}");
    lab.run(&["status"]).expect(0, &["WARNING: the status page cannot be shown at"]);
    assert!(lab.run(&["doctor"]).text().contains(&why));
    drop(taken);
    // The agent tries every 30 seconds; whoever does not want to wait asks it to read its configuration again.
    agent.signal(rustix::process::Signal::HUP);
    assert_eq!(agent.address(), address);
    agent.until("the configuration was read again");
    assert_eq!(get(address, "/healthz").body, "ok\n");
}

#[test]
fn a_reload_moves_the_page_and_a_place_that_is_taken_is_refused() {
    let lab = lab("page = \"127.0.0.1:0\"");
    let mut agent = Agent::start(&lab, &[]);
    let first = agent.address();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let page = |at: &str| {
        let mut config = lab.config();
        config["agent"].as_table_mut().unwrap().insert("page".into(), at.into());
        lab.set_config(&config);
    };
    page(&taken.local_addr().unwrap().to_string());
    agent.signal(rustix::process::Signal::HUP);
    let said = agent.until("the configuration is refused, and the one from before kept");
    assert!(said.contains("the status page cannot be shown at"), "{said}");
    assert_eq!(get(first, "/healthz").body, "ok\n");
    page("0.0.0.0:9");
    agent.signal(rustix::process::Signal::HUP);
    assert!(
        agent.until("the configuration is refused").contains("others than this machine could read the page")
    );
    assert_eq!(get(first, "/healthz").body, "ok\n");
    let socket = lab.path("page.sock");
    page(&format!("unix:{}", socket.display()));
    agent.signal(rustix::process::Signal::HUP);
    assert_eq!(agent.url(), format!("unix:{}", socket.display()));
    agent.until("the configuration was read again");
    assert!(ask(first, &question("GET", "/healthz", "x", "")).is_none(), "nobody listens where it was");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(question("GET", "/", "anything", "").as_bytes()).unwrap();
    assert!(got(stream).unwrap().body.contains("</html>"));
    assert_eq!(agent.end(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn hostile_words_are_text_and_no_secret_is_on_the_page() {
    let hostile = "<script>alert(1)</script>\"'&";
    let lab = lab("page = \"127.0.0.1:0\"");
    let mut config = lab.config();
    let component: toml::Table = format!(
        "component = [{{ name = \"app\", path = \"app\" }}, {{ name = \"dump\", command = \"cat hostile >&2; exit 7\", env_file = {:?} }}]",
        lab.path("canary.env").display().to_string()
    )
    .parse()
    .unwrap();
    config.extend(component);
    lab.set_config(&config);
    put(&lab.path("project/hostile"), hostile.as_bytes());
    put(&lab.path("canary.env"), b"SECRET=canary-of-the-env-file\n");
    set_mode(&lab.path("canary.env"), 0o600);
    lab.run(&["backup"]).expect(3, &[]);
    let env = [("BACKSTAY_CANARY", "canary-of-a-variable"), ("AWS_SECRET_ACCESS_KEY", "canary-of-aws")];
    let mut agent = Agent::start(&lab, &env);
    let address = agent.address();
    looked(address);
    let page = get(address, "/").body;
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"), "{page}");
    let keys = lab.config()["signing"]["key_file"].as_str().unwrap().to_owned();
    let mut secrets = vec!["canary-of".to_owned(), "AGE-SECRET-KEY".to_owned(), "OPENSSH PRIVATE".to_owned()];
    let identity = fs::read_to_string(Path::new(&keys).parent().unwrap().join("identity.txt")).unwrap();
    secrets.extend(identity.lines().filter(|line| line.starts_with("AGE-")).map(str::to_owned));
    assert_eq!(secrets.len(), 4);
    for path in ["/", "/metrics", "/status.json", "/nothing", "/healthz"] {
        let body = get(address, path).body;
        assert!(!body.contains("<script") || path == "/status.json", "{path}: {body}");
        for secret in &secrets {
            assert!(!body.contains(secret.as_str()), "{secret} is on {path}");
        }
    }
}

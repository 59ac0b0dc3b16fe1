//! The first user: an application of a backend, a frontend and a live database, and somebody who types commands in it.

use super::project::{Gone, exe, program};
use serde_json::Value;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Somebody with a home and an application, in a folder that goes away.
pub(crate) struct Person {
    pub(crate) top: PathBuf,
    pub(crate) app: PathBuf,
    pub(crate) home: PathBuf,
    _gone: Gone,
}

/// What a command said and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\nstdout: {}\nstderr: {}", self.code, self.out, self.err)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Said {
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Standard error has all of `parts`.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not said\n{self}");
        }
        self
    }

    /// A failure that a person can act on: what failed and, in the last line, what to do now; nothing on standard output.
    #[track_caller]
    pub(crate) fn error(self) -> Self {
        assert!(
            self.err.contains("error: ") && self.err.contains("\nhint: "),
            "no error with a hint\n{self}"
        );
        assert!(self.out.is_empty(), "something is on standard output\n{self}");
        assert!(!self.err.contains("internal") && !self.err.contains("panicked"), "{self}");
        assert!(!self.err.contains("/../"), "{self}");
        self
    }
}

/// Makes a SQLite database in WAL mode with a table of `rows` rows.
pub(crate) fn make_database(path: &Path, rows: usize) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE message(id INTEGER PRIMARY KEY, text TEXT)")
        .unwrap();
    for row in 0..rows {
        db.execute("INSERT INTO message(text) VALUES (?1)", [format!("message {row}")]).unwrap();
    }
}

/// Damages a database of [`make_database`] so that it is read and found wrong: whole pages are exchanged, which only its check notices.
pub(crate) fn damage_database(path: &Path) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode=DELETE; CREATE INDEX by_text ON message(text)").unwrap();
    for row in 0..3000 {
        db.execute("INSERT INTO message(text) VALUES (?1)", [format!("more {row}")]).unwrap();
    }
    drop(db);
    let mut bytes = fs::read(path).unwrap();
    let pages = bytes.len() / 4096;
    let (one, other) = (pages - 3, pages - 9);
    let page = bytes[one * 4096..(one + 1) * 4096].to_vec();
    bytes[other * 4096..(other + 1) * 4096].copy_from_slice(&page);
    fs::write(path, bytes).unwrap();
}

impl Person {
    /// An application that nobody protects yet.
    pub(crate) fn new() -> Self {
        let gone = Gone::new();
        let top = gone.path();
        let person = Self { app: top.join("tsushin"), home: top.join("home"), top, _gone: gone };
        fs::create_dir(&person.home).unwrap();
        person.make_app(&person.app);
        person
    }

    /// The same, after `init --yes`.
    pub(crate) fn set_up() -> Self {
        let person = Self::new();
        person.ok(["init", "--yes"]);
        person
    }

    pub(crate) fn make_app(&self, app: &Path) {
        for dir in ["backend/app", "backend/data", "frontend/app", "frontend/node_modules/react"] {
            fs::create_dir_all(app.join(dir)).unwrap();
        }
        for (file, text) in [
            ("backend/app/main.py", "from fastapi import FastAPI\n"),
            ("backend/requirements.txt", "fastapi\n"),
            ("frontend/package.json", "{\"dependencies\":{\"next\":\"15\"}}\n"),
            ("frontend/app/page.tsx", "export default function Page() {}\n"),
            ("frontend/node_modules/react/index.js", "// made anew by pnpm\n"),
            (".env", "SECRET_KEY=canary-of-the-env-file\n"),
        ] {
            fs::write(app.join(file), text).unwrap();
        }
        make_database(&app.join("backend/data/agent.db"), 200);
    }

    /// `backstay` with `args`, about to be run in the application's folder.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = program(exe(), &self.home);
        command.current_dir(&self.app).args(args);
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        self.command(args).output().unwrap().into()
    }

    #[track_caller]
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        self.run(args).code(0)
    }

    /// It fails with `code`, and says what, why and what to do.
    #[track_caller]
    pub(crate) fn fails<S: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = S>) -> Said {
        self.run(args).code(code).error()
    }

    /// The one document of a command that ends with `code`.
    #[track_caller]
    pub(crate) fn json<S: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = S>) -> Value {
        let args = args.into_iter().map(|a| a.as_ref().to_owned());
        let said = self.run(args.chain(["--json".into()])).code(code);
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("no JSON document: {e}\n{said}"))
    }

    /// Makes a snapshot without problems and returns its id.
    #[track_caller]
    pub(crate) fn backup(&self) -> String {
        let report = self.json(0, ["backup"]);
        assert_eq!(report["problems"], Value::Array(Vec::new()), "{report:#}");
        report["snapshot"].as_str().unwrap().to_owned()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.app.join("backstay.toml")
    }

    pub(crate) fn config(&self) -> toml::Table {
        fs::read_to_string(self.config_path()).unwrap().parse().unwrap()
    }

    /// Adds `text` to the end of the configuration.
    pub(crate) fn configure(&self, text: &str) {
        let config = fs::read_to_string(self.config_path()).unwrap();
        fs::write(self.config_path(), format!("{config}\n{text}\n")).unwrap();
    }

    /// Replaces `from` by `to` in the configuration.
    #[track_caller]
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let config = fs::read_to_string(self.config_path()).unwrap();
        assert!(config.contains(from), "{from}");
        fs::write(self.config_path(), config.replace(from, to)).unwrap();
    }

    /// The folder of this project's keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.home.join(".config/backstay/tsushin")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.keys().join("identity.txt")
    }

    pub(crate) fn kit(&self) -> PathBuf {
        self.keys().join("recovery-kit.txt")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.app.join("backups")
    }

    /// How many snapshots lie in the store.
    pub(crate) fn snapshots(&self) -> usize {
        fs::read_dir(self.store().join("snapshots")).unwrap().count()
    }
}

/// What a file holds, or where a link leads. Shown by its length and a hash: a test that fails must be readable.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}", self.0.len(), &blake3::hash(&self.0).to_hex()[..8])
    }
}

/// Every file and folder below `top` with its mode, link target or content: what must not change.
pub(crate) fn everything_below(top: &Path) -> Vec<(PathBuf, u32, Bytes)> {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut found, mut waiting) = (Vec::new(), vec![top.to_owned()]);
    while let Some(path) = waiting.pop() {
        let facts = path.symlink_metadata().unwrap();
        let content = if facts.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if facts.is_file() {
            fs::read(&path).unwrap()
        } else {
            fs::read_link(&path).map(|to| to.into_os_string().into_encoded_bytes()).unwrap_or_default()
        };
        found.push((path, facts.permissions().mode() & 0o7777, Bytes(content)));
    }
    found.sort();
    found
}

/// Makes a FIFO: who reads it waits until somebody writes.
pub(crate) fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

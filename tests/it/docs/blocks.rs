//! Blocks of commands in documents, and a place to run them in.

use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A fenced block of shell commands.
pub(super) struct Block {
    /// What the HTML comment before it says; empty when there is none.
    pub(super) comment: String,
    /// Its lines.
    pub(super) script: String,
    /// The output that the document shows for it.
    pub(super) output: Option<String>,
}

impl Block {
    /// Its name, as in `test: NAME`.
    pub(super) fn name(&self) -> &str {
        self.comment.strip_prefix("test: ").unwrap_or_default()
    }
}

/// The blocks of shell commands of a document, in order.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut comment = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(said) = line.strip_prefix("<!-- ").and_then(|l| l.strip_suffix(" -->")) {
            said.clone_into(&mut comment);
        } else if line.starts_with("```") {
            let fenced: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            let fenced = fenced.join("\n") + "\n";
            let comment = std::mem::take(&mut comment);
            match (line, comment.as_str(), blocks.last_mut()) {
                ("```sh", ..) => blocks.push(Block { comment, script: fenced, output: None }),
                (_, "output", Some(last)) => last.output = Some(fenced),
                _ => {}
            }
        } else if !line.is_empty() {
            comment.clear();
        }
    }
    blocks
}

/// True when two outputs say the same: word for word, but words that both hold a digit, or both begin as absolute paths, may differ.
pub(super) fn is_like(shown: &str, came: &str) -> bool {
    let is_path = |word: &str| word.trim_start_matches('(').starts_with('/');
    let has_digit = |word: &str| word.bytes().any(|b| b.is_ascii_digit());
    let word = |a: &str, b: &str| a == b || (has_digit(a) && has_digit(b)) || (is_path(a) && is_path(b));
    let same = |a: &str, b: &str| {
        let (a, b): (Vec<_>, Vec<_>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| word(a, b))
    };
    let (shown, came): (Vec<_>, Vec<_>) =
        (shown.trim_end().lines().collect(), came.trim_end().lines().collect());
    shown.len() == came.len() && shown.iter().zip(came).all(|(a, b)| same(a, b))
}

/// A home of its own, in which blocks are run.
pub(super) struct Stage {
    _scratch: tempfile::TempDir,
    /// Everything lies in here.
    pub(super) root: PathBuf,
    /// `$HOME`.
    pub(super) home: PathBuf,
}

/// What a block did.
pub(super) struct Run {
    /// Exit code of the script.
    pub(super) code: Option<i32>,
    /// Standard output and standard error, in the order in which they came.
    pub(super) output: String,
}

impl Stage {
    pub(super) fn make() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let home = root.join("home");
        fs::create_dir(&home).unwrap();
        Self { _scratch: scratch, root, home }
    }

    /// Runs `script` in `dir` with these variables; the built program comes first in `PATH`.
    pub(super) fn run(&self, script: &str, dir: &Path, variables: &[(&str, String)]) -> Run {
        let program = Path::new(env!("CARGO_BIN_EXE_backstay"));
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin:{path}", program.parent().unwrap().display());
        let mut bash = Command::new("bash");
        bash.args(["-c", &format!("set -euo pipefail; exec 2>&1\n{script}")]).current_dir(dir);
        bash.env_clear().env("PATH", path).env("HOME", &self.home).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        bash.envs(variables.iter().map(|(name, value)| (name, value)));
        let done = bash.stdin(Stdio::null()).output().unwrap();
        Run { code: done.status.code(), output: String::from_utf8(done.stdout).unwrap() }
    }
}

/// A small application in `dir`; its database is open, in WAL mode, as long as what is given back lives.
pub(super) fn application(dir: &Path) -> Connection {
    let write = |path: &str, text: &str| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("backend/main.py", &"def step(x):\n    return x * 2\n\n".repeat(60));
    write("backend/requirements.txt", "fastapi==0.115\nuvicorn==0.34\n");
    write("backend/__pycache__/main.pyc", "compiled");
    write("frontend/package.json", "{\"name\": \"tsushin\", \"scripts\": {\"dev\": \"next dev\"}}\n");
    write("frontend/node_modules/next/index.js", "module.exports = {}\n");
    write(".env", "SECRET_KEY=not-a-real-one\n");
    write("backend/data/.keep", "");
    let database = Connection::open(dir.join("backend/data/agent.db")).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE events(n INTEGER); INSERT INTO events VALUES (1);",
        )
        .unwrap();
    database
}

#[test]
fn outputs_are_compared_by_their_words() {
    assert!(is_like("stored 9.1 kB in /home/a (done)\n", "stored  10 kB in /tmp/b  (done)"));
    for other in [
        "stored 9.1 MB in /home/a (done)",
        "stored 9.1 kB in home (done)",
        "stored 9.1 kB in /home/a (done)\nx",
    ] {
        assert!(!is_like("stored 9.1 kB in /home/a (done)\n", other), "{other}");
    }
}

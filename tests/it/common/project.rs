//! A project of its own for one test, and the real program run in it with nothing of the surroundings.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A project that `init` set up, in a folder that goes away.
pub(crate) struct Project {
    pub(crate) top: PathBuf,
    /// The project's folder.
    pub(crate) dir: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) store: PathBuf,
    _gone: Gone,
}

/// Removes a folder, whatever modes lie in it.
pub(crate) struct Gone(tempfile::TempDir);

impl Gone {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("backstay-it-").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        if !is_root() {
            let mut chmod = Command::new("chmod");
            chmod.args(["-R", "u+rwX"]).arg(self.0.path());
            let _best_effort = chmod.stderr(Stdio::null()).status();
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program under test, with no more of the surroundings than it needs.
pub(crate) fn program(exe: &Path, home: &Path) -> Command {
    let mut command = Command::new(exe);
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

pub(crate) fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_backstay"))
}

/// Panics with everything that was said unless the exit code is `code`.
#[track_caller]
pub(crate) fn expect_code(output: Output, code: i32) -> Output {
    assert_eq!(
        output.status.code(),
        Some(code),
        "exit code\nstdout: {}\nstderr: {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Waits until `done` says so, for a minute at most; looks again and again, and leaves the processor to what it waits for.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    until_there(what, || done().then_some(()));
}

/// Waits in the same way until there is an answer, and gives it.
#[track_caller]
pub(crate) fn until_there<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed().as_secs() < 60, "never: {what}");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

/// `service` with a process that takes its time to end, as servers do that answer what is under way: until `go` is there. Gives the command that starts it, too.
pub(crate) fn slow_to_end(service: &str) -> (&'static str, String) {
    let start = r#"rm -f asked; sh -c "until [ -e asked ] && [ -e go ]; do sleep 0.1; done" >/dev/null 2>&1 & echo $! > web.pid"#;
    let service = service
        .replace("sleep 1000 & echo $! > web.pid", start)
        .replace(r#"kill "$(cat web.pid)""#, "touch asked")
        .replace("(sleep) S", "(sh) S");
    (start, service)
}

/// `status` is critical and `doctor` finds a problem, both in these words.
#[track_caller]
pub(crate) fn told_by_status_and_doctor(project: &Project, words: &str) {
    for command in ["status", "doctor"] {
        let report = json_of(&project.run([command, "--json"]));
        let (list, grave) =
            if command == "status" { ("concerns", "critical") } else { ("findings", "problem") };
        let told = report[list].as_array().unwrap().iter().find(|one| one["what"].as_str() == Some(words));
        let told = told.unwrap_or_else(|| panic!("{command} does not say {words:?}: {report}"));
        assert!(told["state"] == grave || told["severity"] == grave, "{command}: {told}");
        assert!(
            told["way_out"].as_str().is_some_and(|way| way.contains("backstay rollback --resume")),
            "{told}"
        );
    }
}

fn json_of(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {words}"))
}

impl Project {
    /// A project with these `[[component]]` tables. `more` may hold further tables, such as `[packing]`.
    pub(crate) fn new(components: &str, more: &str) -> Self {
        let gone = Gone::new();
        let top = gone.path();
        let (dir, home) = (top.join("project"), top.join("home"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(&home).unwrap();
        let store = dir.join("backups");
        let project = Self { top, dir, home, store, _gone: gone };
        project.ok(["init", "--yes"]);
        project.configure(components, more);
        project
    }

    /// Replaces the components of the configuration, and tables that `more` names.
    pub(crate) fn configure(&self, components: &str, more: &str) {
        let mut config = self.config();
        config.remove("component");
        for text in [components, more] {
            config.extend(text.parse::<toml::Table>().unwrap());
        }
        std::fs::write(self.config_path(), toml::to_string(&config).unwrap()).unwrap();
    }

    pub(crate) fn config(&self) -> toml::Table {
        let text = std::fs::read_to_string(self.config_path()).unwrap();
        text.parse().unwrap()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.join("backstay.toml")
    }

    /// The public key that signs.
    pub(crate) fn trusted_key(&self) -> String {
        let key = &self.config()["signing"]["trusted"][0]["key"];
        key.as_str().unwrap().to_owned()
    }

    pub(crate) fn identity(&self) -> PathBuf {
        let file = &self.config()["encryption"]["identity_file"];
        PathBuf::from(file.as_str().unwrap())
    }

    /// Runs the program in the project's folder.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let mut command = program(exe(), &self.home);
        command.current_dir(&self.dir).args(args).output().unwrap()
    }

    /// Runs the program, which must succeed.
    #[track_caller]
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        expect_code(self.run(args), 0)
    }

    /// The one document of a command with `--json`, which must succeed.
    #[track_caller]
    pub(crate) fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let args = args.into_iter().map(|a| a.as_ref().to_owned());
        let output = self.ok(args.chain(["--json".into()]));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Makes a snapshot, with nothing to complain about, and returns its id.
    #[track_caller]
    pub(crate) fn backup(&self) -> String {
        let report = self.json(["backup"]);
        assert_eq!(report["problems"], Value::Array(Vec::new()), "{report:#}");
        report["snapshot"].as_str().unwrap().to_owned()
    }

    /// Restores into a new folder, with nothing to complain about, and returns the folder.
    #[track_caller]
    pub(crate) fn restore(&self, id: &str, paths: &[&str]) -> PathBuf {
        let to = (1..).map(|n| self.top.join(format!("restored-{n}")));
        let to = { to }.find(|to| !to.exists()).unwrap();
        let mut args = vec!["restore", id, "--to", to.to_str().unwrap()];
        args.extend(paths);
        let report = self.json(args);
        assert_eq!(report["problems"], Value::Array(Vec::new()), "{report:#}");
        to
    }
}

/// Bytes that do not compress, always the same for one `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Says that something cannot be tested here, whatever is installed.
pub(crate) fn cannot_run(what: &str) {
    println!("NOT RUN: {what}");
    if let Some(file) = std::env::var_os("BACKSTAY_NOT_RUN_FILE") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        writeln!(file.unwrap(), "NOT RUN: {what}").unwrap();
    }
}

/// Says that something could not be tested for want of a tool; an error where all tools must be there.
#[track_caller]
pub(crate) fn not_run(what: &str) {
    cannot_run(what);
    assert!(std::env::var_os("BACKSTAY_REQUIRE_TOOLS").is_none(), "NOT RUN: {what}");
}

/// True when all of `tools` can be started; else says so.
#[track_caller]
pub(crate) fn have(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = { tools.iter() }
        .filter(|t| !std::env::split_paths(&path).any(|dir| dir.join(t).is_file()))
        .copied()
        .collect();
    if !missing.is_empty() {
        not_run(&format!("{} not found", missing.join(", ")));
    }
    missing.is_empty()
}

/// Ends the process whose number stands in `pid_file`, if it stands in `dir`: numbers are given anew, and a stale one may be a stranger's.
pub(crate) fn end_service(pid_file: &Path, dir: &Path) {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    let at = std::fs::read_link(format!("/proc/{}/cwd", text.trim()));
    if let Some(pid) = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw)
        && at.is_ok_and(|at| at.starts_with(dir))
    {
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

//! A PostgreSQL server of a test's own, where one is installed: on a socket in a temporary folder, without a port, ended with its value.

use super::project::{cannot_run, is_root};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The user `nobody`: a server refuses to run as root.
const NOBODY: u32 = 65534;
/// The password of role `app`.
pub(crate) const PASSWORD: &str = "canary-of-postgres";

/// A server. Role `postgres` is let in as it is, role `app` with its password; it may make databases and is no superuser.
pub(crate) struct Postgres {
    child: Child,
    dir: TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, and without a word to its clients; there is nothing to keep.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ended = pid.map(|pid| kill_process(pid, Signal::QUIT));
        let _ = self.child.wait();
    }
}

/// Where the server's own programs are; those in the path of a user are only for clients.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    places.extend(versions.map(|version| version.path().join("bin")));
    places.into_iter().find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
}

/// The server of this process; all tests that use one at the same time share it.
pub(crate) fn postgres() -> Option<Arc<Postgres>> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return Some(running);
    }
    let Some(programs) = programs().filter(|_| super::project::have(&["psql", "pg_dump", "pg_restore"]))
    else {
        cannot_run("no PostgreSQL server here (Debian: postgresql): its databases were not tried");
        return None;
    };
    let running = Arc::new(Postgres::start(&programs));
    *shared = Arc::downgrade(&running);
    Some(running)
}

/// A server of one test's own, which may be away.
pub(crate) fn postgres_of_its_own() -> Option<Arc<Postgres>> {
    // Whether there can be one is said there.
    postgres()?;
    programs().map(|programs| Arc::new(Postgres::start(&programs)))
}

impl Postgres {
    fn start(programs: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("backstay-pg-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let command = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command.current_dir(dir.path()).env("TZ", "UTC").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        let options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"];
        let made = command("initdb").args(options).arg(&data).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(data.join("pg_hba.conf"), "local all app scram-sha-256\nlocal all all trust\n")
            .unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut server = command("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(dir.path()).args(["-h", "", "-c", "fsync=off"]);
        server.args(["-c", "max_connections=60", "-c", "shared_buffers=16MB", "-c", "autovacuum=off"]);
        let child = server.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let running = Self { child, dir };
        let begun = Instant::now();
        while !running.psql("postgres", "SELECT 1").1 {
            let log = || std::fs::read_to_string(running.dir.path().join("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not come up: {}", log());
            // Until something listens there is nothing else to wait for.
            std::thread::park_timeout(Duration::from_millis(50));
        }
        running.sql("postgres", &format!("CREATE ROLE app LOGIN CREATEDB PASSWORD '{PASSWORD}'"));
        running
    }

    /// Where its socket is: `host` of a connection.
    pub(crate) fn host(&self) -> &Path {
        self.dir.path()
    }

    /// Lets nobody reach it, as if it were not up yet, or lets them again.
    pub(crate) fn is_reached(&self, reached: bool) {
        let (there, away) = (self.host().join(".s.PGSQL.5432"), self.host().join("away"));
        let (from, to) = if reached { (away, there) } else { (there, away) };
        std::fs::rename(from, to).unwrap();
    }

    /// A client in `database`, as the superuser.
    pub(crate) fn client(&self, database: &str) -> Command {
        let mut command = Command::new("psql");
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
        ]);
        command.arg("-h").arg(self.host()).env("LC_ALL", "C.UTF-8");
        command
    }

    fn psql(&self, database: &str, text: &str) -> (String, bool) {
        let output = self.client(database).args(["-c", text]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).trim().to_owned(), output.status.success())
    }

    /// Runs a statement as the superuser; gives its rows.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, text: &str) -> String {
        let (said, well) = self.psql(database, text);
        assert!(well, "{text}: {said}");
        said
    }

    /// The names of all databases that begin with one of ours, or end with `name`.
    pub(crate) fn databases(&self, name: &str) -> Vec<String> {
        let text = format!("SELECT datname FROM pg_database WHERE datname LIKE '%{name}' ORDER BY datname");
        self.sql("postgres", &text).lines().map(str::to_owned).collect()
    }
}

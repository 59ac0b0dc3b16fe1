//! The whole story on a throw-away application, with the real commands, each shown as a person would type it.
//!
//! Nothing outside the throw-away folder is touched: HOME lies in it, too. The demo fails when anything that comes back differs.

mod app;
mod compare;
mod writer;

pub(super) use writer::writer;

use crate::cli::args::DemoArgs;
use crate::cli::{Terminal, out, render, say};
use crate::ops::error::{Class, Doing, OpError, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the demo.
pub(super) fn run(terminal: &Terminal, args: &DemoArgs) -> Result<u8> {
    let scratch = Scratch::make(args.keep)?;
    let stage = Stage {
        exe: std::env::current_exe().doing(Class::Failed, || "this program cannot find itself".into())?,
        app: scratch.path.join("tsushin"),
        home: scratch.path.join("home"),
        interrupt: terminal.interrupt.clone(),
        quiet: terminal.global.quiet,
        json: terminal.global.json,
    };
    let told = stage.play();
    if args.keep {
        say(&format!("the throw-away folder is {}", scratch.path.display()));
    }
    told?;
    let folder = args.keep.then(|| scratch.path.display().to_string());
    if terminal.global.json {
        render::json(&serde_json::json!({ "passed": true, "folder": folder }))?;
    }
    Ok(0)
}

/// The throw-away folder; removed at the end unless it is to be kept.
struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    fn make(keep: bool) -> Result<Self> {
        let random: [u8; 6] = crate::durable::random_bytes()
            .doing(Class::Failed, || "no random numbers are to be had".into())?;
        let name = format!("backstay-demo-{}", data_encoding::HEXLOWER.encode(&random));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).doing(Class::Failed, || format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // A folder of ours in the system's place for throw-away things; if it stays, it does no harm.
            let _left = std::fs::remove_dir_all(&self.path);
        }
    }
}

struct Stage {
    exe: PathBuf,
    app: PathBuf,
    home: PathBuf,
    interrupt: crate::ops::interrupt::Interrupt,
    quiet: bool,
    json: bool,
}

/// The service that writes to the database all the time; ended when dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Stage {
    /// A line of the story.
    fn tell(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    fn play(&self) -> Result<()> {
        self.tell(
            "An application: a backend, a frontend with node_modules, and a SQLite database that is written to all the time.\n",
        );
        app::make(&self.app)?;
        std::fs::create_dir_all(&self.home).doing(Class::Failed, || "cannot make a home".into())?;
        let service = self.service()?;
        self.type_in(&["init", "--yes"])?;
        self.type_in(&["backup", "--note", "before the change"])?;
        let before = self.copy_of_app("before")?;

        self.tell("A change: the new version is deployed.\n");
        app::change(&self.app)?;
        self.type_in(&["backup", "--note", "after the change", "--tag", "deployed"])?;

        self.tell("Damage: somebody deletes the wrong folder, and a file is overwritten.\n");
        app::damage(&self.app)?;
        self.type_in(&["list"])?;
        self.type_in(&["restore", "latest", "--to", "../rescued"])?;
        let rescued = self.app.with_file_name("rescued");
        self.compare_change(&rescued)?;

        self.tell("The state before the change is there, too:\n");
        self.type_in(&["restore", "latest~1", "--to", "../older"])?;
        let older = self.app.with_file_name("older");
        self.compare(&before, &older)?;

        self.tell("One file, straight back into its place; the damaged one is kept beside it:\n");
        self.type_in(&["restore", "latest", "backend/main.py", "--in-place", "--yes"])?;
        app::main_is_back(&self.app)?;
        drop(service);
        say(
            "Everything came back as it was: contents, modes, owners, times, links, sparse files; the databases pass their checks.",
        );
        Ok(())
    }

    /// Starts the writer and waits until its first rows are in.
    fn service(&self) -> Result<Service> {
        let ready = self.home.join("ready");
        let child = Command::new(&self.exe)
            .arg("__demo-writer")
            .arg(app::database(&self.app))
            .arg(&ready)
            .stdin(Stdio::null())
            .spawn();
        let mut service = Service(child.doing(Class::Failed, || "cannot start the writer".into())?);
        let begun = Instant::now();
        while !ready.exists() {
            self.interrupt.check()?;
            let ended = service.0.try_wait().doing(Class::Failed, || "cannot watch the writer".into())?;
            if ended.is_some() || begun.elapsed() > Duration::from_secs(30) {
                return Err(OpError::new(Class::Failed, "the demo's writer does not write"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(service)
    }

    /// Shows a command as it would be typed, and runs it for real.
    fn type_in(&self, words: &[&str]) -> Result<()> {
        self.interrupt.check()?;
        let quoted: Vec<String> =
            words.iter().map(|w| if w.contains(' ') { format!("'{w}'") } else { (*w).to_owned() }).collect();
        self.tell(&format!("$ backstay {}", quoted.join(" ")));
        let output = Command::new(&self.exe)
            .args(words)
            .current_dir(&self.app)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("BACKSTAY_CONFIG")
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .output();
        let output = output.doing(Class::Failed, || format!("cannot run backstay {}", quoted.join(" ")))?;
        let [answer, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        if output.status.success() {
            return self.show(&answer, &said);
        }
        say(&format!("{answer}{said}"));
        Err(OpError::new(
            Class::Failed,
            format!("backstay {} ended with {}", quoted.join(" "), output.status),
        ))
    }

    /// Shows what a command wrote, each where the command would have.
    fn show(&self, answer: &str, said: &str) -> Result<()> {
        match (self.quiet, self.json) {
            (true, _) => Ok(()),
            (false, true) => {
                say(&format!("{answer}{said}"));
                Ok(())
            }
            (false, false) => {
                out(answer)?;
                say(said);
                Ok(())
            }
        }
    }

    fn copy_of_app(&self, name: &str) -> Result<PathBuf> {
        let copy = self.app.with_file_name(name);
        app::copy_files(&self.app, &copy)?;
        Ok(copy)
    }

    /// The restored trees against the files as they are now, with what was damaged put aside.
    fn compare_change(&self, rescued: &Path) -> Result<()> {
        app::expect_changed(rescued)?;
        self.check_database(rescued)
    }

    fn compare(&self, expected: &Path, restored: &Path) -> Result<()> {
        for component in ["backend", "frontend"] {
            compare::trees(&expected.join(component), &restored.join(component))?;
        }
        self.check_database(restored)
    }

    fn check_database(&self, restored: &Path) -> Result<()> {
        let rows = writer::check(&restored.join("db").join("agent.db"))?;
        self.tell(&format!(
            "compared: the trees are equal; the database is whole and holds the first {rows} rows that were written\n"
        ));
        Ok(())
    }
}

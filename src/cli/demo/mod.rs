//! The whole story on a throw-away application, with the real commands, each shown as a person would type it.
//!
//! Nothing outside the throw-away folder is touched: HOME lies in it, too. The demo fails when anything that comes back differs.

mod app;
mod compare;
mod service;
mod writer;

pub(super) use service::serve;

use crate::cli::args::DemoArgs;
use crate::cli::{Terminal, out, render, say};
use crate::ops::error::{Class, Doing, OpError, Result};
use service::Service;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

impl Stage {
    /// A line of the story.
    fn tell(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    fn play(&self) -> Result<()> {
        self.tell("An application: a service with a page and a SQLite database that it writes to all the time, a frontend with node_modules.\n");
        app::make(&self.app)?;
        std::fs::create_dir_all(&self.home).doing(Class::Failed, || "cannot make a home".into())?;
        let service = Service::new(&self.exe, &self.app)?;
        service.start()?;
        self.well(&service, "1")?;
        self.type_in(&["init", "--yes"])?;
        self.tell_of_service(&service)?;
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
        self.go_back(&service)?;
        drop(service);
        say(
            "Everything came back as it was: contents, modes, owners, times, links, sparse files; the databases pass their checks; the service runs.",
        );
        Ok(())
    }

    /// The whole application, with its service: back, back to something that does not run, and a change that fails under guard.
    fn go_back(&self, service: &Service) -> Result<()> {
        self.tell("\nThe change was a bad one: the whole application goes back, with its service, as one transaction:\n");
        self.type_in(&["rollback", "latest~1"])?;
        app::expect_first(&self.app)?;
        self.well(service, "1")?;

        self.tell("Back to a version that does not start, by mistake: that undoes itself.\n");
        app::break_it(&self.app)?;
        self.type_in(&["backup", "--note", "a version that does not start"])?;
        app::mend_it(&self.app)?;
        self.type_in_expecting(&["rollback", "latest"], 17)?;
        app::expect_first(&self.app)?;
        self.well(service, "1")?;

        self.tell("A change with a way back: the command fails, and everything is as it was before it.\n");
        let change = "echo oops > backend/main.py; rm -r backend/steps; exit 1";
        self.type_in_expecting(&["guard", "--auto", "--", "sh", "-c", change], 17)?;
        app::expect_first(&self.app)?;
        self.well(service, "1")
    }

    /// Adds the service to the configuration, and shows that.
    fn tell_of_service(&self, service: &Service) -> Result<()> {
        let file = self.app.join("backstay.toml");
        let doing = || format!("cannot add to {}", file.display());
        let table = service.table()?;
        let text = std::fs::read_to_string(&file).doing(Class::Failed, doing)?;
        std::fs::write(&file, format!("{text}\n{table}")).doing(Class::Failed, doing)?;
        self.tell(&format!("Added to backstay.toml, by hand:\n\n{table}"));
        Ok(())
    }

    /// The service answers as `version`, and writes.
    fn well(&self, service: &Service, version: &str) -> Result<()> {
        let begun = Instant::now();
        let mut first = None;
        while begun.elapsed() < Duration::from_secs(30) {
            self.interrupt.check()?;
            match (service.ask(), first) {
                (Some((found, _)), _) if found != version => {
                    let what = format!("the service runs as version {found}, and should as {version}");
                    return Err(OpError::new(Class::Failed, what));
                }
                (Some((_, rows)), Some(before)) if rows > before => {
                    self.tell(&format!(
                        "asked: the service runs as version {version} and writes: {rows} rows\n"
                    ));
                    return Ok(());
                }
                (Some((_, rows @ 1..)), None) => first = Some(rows),
                _ => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(OpError::new(Class::Failed, "the demo's service is not well"))
    }

    /// Shows a command as it would be typed, and runs it for real.
    fn type_in(&self, words: &[&str]) -> Result<()> {
        self.type_in_expecting(words, 0)
    }

    /// The same of a command that is to end with `code`.
    fn type_in_expecting(&self, words: &[&str], code: i32) -> Result<()> {
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
        if output.status.code() == Some(code) {
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

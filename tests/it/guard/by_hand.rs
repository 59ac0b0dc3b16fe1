//! Whoever goes back by hand beside a guarded command: never under it, and never over what is known of it.

use super::{app, deploy, guard, open_journals, run, said};
use crate::common::project::{exe, expect_code, have, program, until};
use crate::rollback::App;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A run of a rollback on a terminal of its own.
struct Asked {
    child: Child,
    shown: PathBuf,
}

impl Asked {
    /// Runs it until it waits for an answer.
    fn until_its_question(app: &App, args: &str) -> Self {
        let shown = app.project.top.join("shown");
        let line = format!("'{}' rollback {args}", exe().display());
        let mut script = program(Path::new("script"), &app.project.home);
        script.args(["-qefc", &line]).arg(&shown).current_dir(&app.project.dir).env("TERM", "xterm");
        script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let asked = Self { child: script.spawn().unwrap(), shown };
        until("it asks", || asked.shown().contains("Go ahead? [y/N]"));
        asked
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.shown).unwrap_or_default()).into_owned()
    }

    /// Says yes; gives the exit code and all that was shown.
    fn yes(mut self) -> (Option<i32>, String) {
        self.child.stdin.as_mut().unwrap().write_all(b"y\n").unwrap();
        (self.child.wait().unwrap().code(), self.shown())
    }
}

fn journal(app: &App) -> PathBuf {
    Path::new(app.project.config()["state"]["dir"].as_str().unwrap()).join("guard.json")
}

/// Runs a guard until its command has deployed and waits for `go`, which is noted.
fn guarded(app: &App) -> Child {
    let script = deploy("touch ready; while [ ! -e go ]; do sleep 0.1; done");
    let mut command = guard(app, &["--auto", "--", "sh", "-c", &script]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the command runs", || app.path("ready").exists());
    until("it is noted", || fs::read_to_string(journal(app)).is_ok_and(|text| text.contains("running")));
    child
}

/// Kills the guard, but not its command.
fn cut_off(mut guard: Child) {
    guard.kill().unwrap();
    guard.wait().unwrap();
}

/// Lets the command come to its end.
fn let_end(app: &App) {
    let noted: serde_json::Value = serde_json::from_slice(&fs::read(journal(app)).unwrap()).unwrap();
    let process = PathBuf::from(format!("/proc/{}", noted["pid"]));
    assert!(process.exists());
    app.write("go", "");
    until("the command ends", || !process.exists());
}

#[test]
fn a_rollback_that_waited_for_its_answer_does_not_go_ahead_under_a_guarded_command() {
    if !have(&["script"]) {
        return;
    }
    for args in ["latest", "--undo"] {
        let app = app();
        let id = app.project.backup();
        if args == "--undo" {
            app.project.ok(["rollback", &id]);
        }
        let asked = Asked::until_its_question(&app, args);
        // Who waits for an answer keeps nobody waiting.
        let mut first = guarded(&app);
        let (pid, noted) = (app.service(), fs::read(journal(&app)).unwrap());
        let (code, shown) = asked.yes();
        assert_eq!(code, Some(11), "{args}: {shown}");
        assert!(shown.contains("a guarded command is under way"), "{args}: {shown}");
        assert_eq!((app.service(), fs::read(journal(&app)).unwrap()), (pid, noted), "{args}");
        assert_eq!(app.read("app/version").trim(), "2", "{args}");
        app.write("go", "");
        assert!(first.wait().unwrap().success(), "{args}");
        assert_eq!((app.read("app/version").trim(), app.runs()), ("2", true), "{args}");
    }
}

#[test]
fn a_guarded_command_that_was_cut_off_while_a_rollback_waited_for_its_answer_is_not_forgotten() {
    if !have(&["script"]) {
        return;
    }
    let app = app();
    app.project.backup();
    let asked = Asked::until_its_question(&app, "latest");
    cut_off(guarded(&app));
    let_end(&app);
    let (code, shown) = asked.yes();
    assert_eq!(code, Some(18), "{shown}");
    assert!(shown.contains("was cut off") && shown.contains("backstay rollback --resume"), "{shown}");
    assert_eq!((app.read("app/version").trim(), open_journals(&app)), ("2", vec!["guard.json".to_owned()]));
    // Who is asked now knows of it, and decides.
    app.project.ok(["rollback", "latest", "--yes"]);
    assert_eq!((app.read("app/version").as_str(), open_journals(&app)), ("1", Vec::new()));
}

#[test]
fn nobody_goes_back_by_hand_under_a_command_whose_guard_was_killed() {
    let app = app();
    cut_off(guarded(&app));
    let output = expect_code(app.project.run(["rollback", "latest", "--yes"]), 11);
    assert!(said(&output).contains("still runs (process"), "{}", said(&output));
    assert_eq!((app.read("app/version").trim(), open_journals(&app)), ("2", vec!["guard.json".to_owned()]));
    let_end(&app);
    app.project.ok(["rollback", "latest", "--yes"]);
    assert_eq!((app.read("app/version").as_str(), open_journals(&app)), ("1", Vec::new()));
}

#[test]
fn a_note_of_a_guarded_command_that_cannot_be_read_keeps_nobody_from_going_back_by_hand() {
    let app = app();
    app.project.backup();
    app.write("app/version", "2");
    fs::write(journal(&app), "nonsense").unwrap();
    expect_code(run(&app, &["--", "true"]), 18);
    app.project.ok(["rollback", "latest", "--yes"]);
    assert_eq!((app.read("app/version").as_str(), open_journals(&app)), ("1", Vec::new()));
}

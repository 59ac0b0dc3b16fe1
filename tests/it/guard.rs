//! A command with a way back: what it may not do without a snapshot, and what becomes of it when it fails, is killed, or loses its guard.

#[path = "guard/by_hand.rs"]
mod by_hand;
#[path = "guard/full_disk.rs"]
mod full_disk;

use crate::common::project::{cannot_run, exe, expect_code, have, program, told_by_status_and_doctor, until};
use crate::rollback::{App, SERVICE};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn guard(app: &App, args: &[&str]) -> Command {
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).arg("guard").args(args);
    command
}

fn run(app: &App, args: &[&str]) -> Output {
    guard(app, args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An application whose service runs.
fn app() -> App {
    let app = App::new(SERVICE);
    app.start_service();
    app
}

fn snapshots(app: &App) -> Vec<(String, String)> {
    let list = app.project.json(["list"]);
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    list["snapshots"].as_array().unwrap().iter().map(|s| (text(s, "kind"), text(s, "note"))).collect()
}

fn open_journals(app: &App) -> Vec<String> {
    let dir = PathBuf::from(app.project.config()["state"]["dir"].as_str().unwrap());
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| ["guard.json", "rollback.json"].contains(&name.as_str())).collect()
}

/// A deployment that changes everything and then does `last`.
fn deploy(last: &str) -> String {
    format!("echo 2 > app/version; echo two > app/src/main.py; rm app/src/old.py; {last}")
}

/// Commands that fail once they were asked to end by `signal`, and before they ended when nobody asks them for a minute.
fn waits_for(signal: &str) -> String {
    format!(
        "trap 'echo asked >> asked' {signal}; touch ready; n=0; while [ ! -e asked ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n + 1)); done; \
         [ -e asked ] && touch ended; exit 5"
    )
}

#[track_caller]
fn assert_as_before(app: &App, what: &str) {
    assert_eq!(app.read("app/src/main.py"), "one", "{what}");
    assert_eq!(app.read("app/version"), "1", "{what}");
    assert!(app.path("app/src/old.py").exists(), "{what}");
    assert!(app.runs(), "{what}: the service is down");
    assert_eq!(open_journals(app), Vec::<String>::new(), "{what}");
}

#[test]
fn a_command_that_goes_well_stays_and_has_a_snapshot_before_it() {
    let app = app();
    let output = expect_code(run(&app, &["--", "sh", "-c", &deploy("echo done")]), 0);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("done\n"), "{output:?}");
    assert_eq!(app.read("app/version").trim(), "2");
    assert_eq!(snapshots(&app), [("normal".into(), "before `sh`".into())]);
    assert_eq!(open_journals(&app), Vec::<String>::new());
    let restored = app.project.restore("latest", &["app"]);
    assert_eq!(fs::read_to_string(restored.join("app/version")).unwrap(), "1");
}

#[test]
fn a_command_that_fails_is_taken_back_without_a_question_only_with_auto() {
    let app = app();
    let command = deploy("echo why >&2; exit 3");
    let output = expect_code(run(&app, &["--note", "new version", "--", "sh", "-c", &command]), 1);
    for words in ["`sh` ended with exit code 3", "left as it is", "backstay rollback 2", "why"] {
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    assert_eq!(app.read("app/version").trim(), "2");
    assert_eq!(snapshots(&app), [("normal".into(), "new version".into())]);
    app.project.ok(["rollback", "latest"]);
    let output = expect_code(run(&app, &["--auto", "--", "sh", "-c", &command]), 17);
    for words in ["`sh` ended with exit code 3", "everything was rolled back to", "is in safety snapshot"] {
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    assert_as_before(&app, "after exit code 3");
    let restored = app.project.restore("latest-safety", &["app"]);
    assert_eq!(fs::read_to_string(restored.join("app/version")).unwrap().trim(), "2");
}

#[test]
fn a_command_after_which_a_service_is_not_well_is_taken_back() {
    let app = app();
    let first = app.service();
    let output = expect_code(run(&app, &["--auto", "--", "sh", "-c", "echo broken > app/version"]), 17);
    assert!(said(&output).contains("ended well, but after it a service is not well"), "{}", said(&output));
    assert_as_before(&app, "after a broken version");
    assert_ne!(app.service(), first);
    let output = expect_code(run(&app, &["--", "sh", "-c", "echo broken > app/version"]), 15);
    assert!(said(&output).contains("left as it is"), "{}", said(&output));
}

#[test]
fn a_service_that_the_command_left_down_is_started_again() {
    let app = app();
    let command = deploy("kill $(cat web.pid); rm web.pid; exit 1");
    let output = expect_code(run(&app, &["--auto", "--", "sh", "-c", &command]), 17);
    assert!(said(&output).contains("starting web"), "{}", said(&output));
    assert_as_before(&app, "after a service was left down");
    // One that is missing is noticed although the command ended well.
    let output = expect_code(run(&app, &["--auto", "--", "sh", "-c", "kill $(cat web.pid); rm web.pid"]), 17);
    assert!(said(&output).contains("it is down"), "{}", said(&output));
    assert_as_before(&app, "after a service was stopped");
}

#[test]
fn without_a_good_snapshot_or_a_way_back_the_command_is_not_run() {
    let app = app();
    let touch = ["--auto", "--", "touch", "ran"];
    // Something that cannot be read: a snapshot, and not a good one.
    std::os::unix::fs::symlink(app.path("nowhere"), app.path("conf/link")).unwrap();
    let mut config = fs::read_to_string(app.project.config_path()).unwrap();
    config = config.replace("\"conf\"", "\"conf\", \"missing.conf\"");
    fs::write(app.project.config_path(), &config).unwrap();
    let output = expect_code(run(&app, &touch), 1);
    assert!(said(&output).contains("is not good, so `touch` was not run"), "{}", said(&output));
    config = config.replace(", \"missing.conf\"", "");
    fs::write(app.project.config_path(), &config).unwrap();
    // No store.
    let moved = app.project.top.join("moved");
    fs::rename(&app.project.store, &moved).unwrap();
    expect_code(run(&app, &touch), 10);
    fs::rename(&moved, &app.project.store).unwrap();
    // Nothing here opens the snapshot: nobody could go back.
    let identity = app.project.identity();
    fs::rename(&identity, identity.with_extension("away")).unwrap();
    let output = expect_code(run(&app, &touch), 12);
    assert!(said(&output).contains("`touch` was not run: there would be no way back"), "{}", said(&output));
    fs::rename(identity.with_extension("away"), &identity).unwrap();
    // No such program: not even a snapshot.
    let before = snapshots(&app).len();
    let output = expect_code(run(&app, &["--", "no-such-program-here"]), 2);
    assert!(said(&output).contains("nothing was done"), "{}", said(&output));
    assert_eq!(snapshots(&app).len(), before);
    assert!(!app.path("ran").exists());
    expect_code(run(&app, &touch), 0);
    assert!(app.path("ran").exists());
}

#[test]
fn a_rollback_after_a_command_that_undoes_itself_says_so() {
    // Well before and after the command, but never once it was stopped and started again.
    let service = SERVICE
        .replace("start = 'sleep 1000", "start = 'touch started; sleep 1000")
        .replace("&& ! grep -q broken app/version", "&& ! test -e started");
    let app = App::new(&service);
    app.start_service();
    let output = expect_code(run(&app, &["--auto", "--", "sh", "-c", &deploy("exit 1")]), 18);
    for words in ["undid itself, so what `sh` left is live", "hint:", "backstay rollback 2"] {
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    assert_eq!(app.read("app/version").trim(), "2");
    assert_eq!(open_journals(&app), Vec::<String>::new());
}

#[test]
fn a_service_that_is_not_well_already_is_said_before() {
    let app = app();
    app.write("app/version", "broken");
    let output = expect_code(run(&app, &["--", "sh", "-c", "echo 3 > app/version"]), 0);
    assert!(said(&output).contains("service web is not well already"), "{}", said(&output));
}

#[test]
fn a_dry_run_of_a_guard_runs_nothing() {
    let app = app();
    let plan =
        app.project.json(["guard", "--dry-run", "--auto", "--only", "app", "--json", "--", "touch", "ran"]);
    assert_eq!(plan["program"], "touch");
    assert_eq!(plan["components"], serde_json::json!(["app"]));
    assert_eq!(plan["services"], serde_json::json!(["web"]));
    assert_eq!(plan["auto"], true);
    assert!(!app.path("ran").exists());
    assert_eq!(snapshots(&app).len(), 0);
}

#[test]
fn a_command_does_not_get_the_keys_to_the_stores_and_is_told_its_snapshot() {
    let app = app();
    let mut command = guard(&app, &["--json", "--", "sh", "-c", "env > env.txt; echo on stdout"]);
    command.env("AWS_SECRET_ACCESS_KEY", "canary-1").env("BACKSTAY_PASSPHRASE", "canary-2");
    let output = expect_code(command.output().unwrap(), 0);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let env = app.read("env.txt");
    assert!(!env.contains("canary"), "{env}");
    assert!(env.contains(&format!("BACKSTAY_SNAPSHOT={}", document["snapshot"].as_str().unwrap())), "{env}");
    assert!(said(&output).contains("on stdout"), "{}", said(&output));
}

#[test]
fn a_guarded_command_has_the_terminal_and_a_person_is_asked() {
    if !have(&["script"]) {
        return;
    }
    let app = app();
    let ask = |typed: &str| {
        let line = format!(
            "'{}' guard -- sh -c 'test -t 0 && test -t 1 && test -t 2 && echo 2 > app/version; exit 4'",
            exe().display()
        );
        let mut script = program(std::path::Path::new("script"), &app.project.home);
        script.args(["-qec", &line, "/dev/null"]).current_dir(&app.project.dir).env("TERM", "xterm");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = script.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), typed.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = expect_code(ask("n\n"), 1);
    assert!(String::from_utf8_lossy(&output.stdout).contains("[y/N]"), "{output:?}");
    assert_eq!(app.read("app/version").trim(), "2");
    app.write("app/version", "1");
    expect_code(ask("y\n"), 17);
    assert_eq!(app.read("app/version"), "1");
}

/// The guard gets a signal three times while its command runs, waits for the command, and goes back.
fn asked_three_times(app: &App, child: &mut std::process::Child, signal: rustix::process::Signal) {
    until("the command runs", || app.path("ready").exists());
    let pid = rustix::process::Pid::from_child(child);
    for _ in 0..3 {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    let code = child.wait().unwrap().code();
    assert!(app.path("ended").exists(), "the command was not waited for");
    assert_eq!(code, Some(17));
}

#[test]
fn a_signal_is_passed_on_and_never_ends_the_guard_before_its_command() {
    let app = app();
    let script = deploy(&waits_for("TERM"));
    let mut child = guard(&app, &["--auto", "--", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asked_three_times(&app, &mut child, rustix::process::Signal::TERM);
    assert_as_before(&app, "after SIGTERM");
}

/// True where what is started here ignores SIGHUP from its beginning, as below `nohup`: then there is nothing to see of that signal, which is said.
fn hangup_is_ignored() -> bool {
    let ignored = backstay::platform::signals::is_ignored(1) == Some(true);
    if ignored {
        cannot_run("what SIGHUP does: it is ignored here (nohup)");
    }
    ignored
}

#[test]
fn a_guard_whose_terminal_is_lost_waits_for_its_command_and_goes_back() {
    if hangup_is_ignored() {
        return;
    }
    let app = app();
    let script = deploy(&waits_for("HUP"));
    // The system says it several times: once more when the way back has begun.
    let mut child = guard(&app, &["--auto", "--", "sh", "-c", &script])
        .env("BACKSTAY_TEST_SIGNAL", "rollback: site fetched#1:1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    asked_three_times(&app, &mut child, rustix::process::Signal::HUP);
    assert_as_before(&app, "after SIGHUP");
}

#[test]
fn what_is_to_outlive_its_terminal_takes_no_note_of_its_loss() {
    if hangup_is_ignored() {
        return;
    }
    let app = app();
    let line = "trap '' HUP; exec \"$0\" backup";
    for (line, code) in [(line, 0), ("exec \"$0\" backup", 129)] {
        let mut command = program(std::path::Path::new("sh"), &app.project.home);
        command.current_dir(&app.project.dir).args(["-c", line]).arg(exe());
        command.env("BACKSTAY_TEST_SIGNAL", "backup: captured#1:1");
        let output = expect_code(command.output().unwrap(), code);
        assert_eq!(said(&output).contains("nothing was committed"), code != 0, "{}", said(&output));
    }
    assert_eq!(snapshots(&app).len(), 1);
}

#[test]
fn a_guard_that_was_asked_to_end_tells_how_to_go_back() {
    let app = app();
    let mut child = guard(&app, &["--", "sh", "-c", &deploy("touch ready; exec sleep 1000")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the command runs", || app.path("ready").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(app.read("app/version").trim(), "2");
    assert_eq!(open_journals(&app), Vec::<String>::new());
    app.project.ok(["rollback", "latest"]);
    assert_as_before(&app, "after a rollback by hand");
}

#[test]
fn one_command_is_guarded_at_a_time_and_nobody_goes_back_under_it() {
    let app = app();
    let mut first = guard(&app, &["--", "sh", "-c", "touch ready; while [ ! -e go ]; do sleep 0.1; done"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the command runs", || app.path("ready").exists());
    for args in [&["guard", "--", "true"][..], &["rollback", "latest"], &["rollback", "--resume"]] {
        let output = expect_code(app.project.run(args), 11);
        assert!(said(&output).contains("a guarded command is under way"), "{args:?}: {}", said(&output));
    }
    // The command itself may well make snapshots.
    app.project.ok(["backup"]);
    fs::write(app.path("go"), "").unwrap();
    assert!(first.wait().unwrap().success());
}

#[test]
fn a_guard_that_was_killed_is_brought_to_an_end_by_resume() {
    let app = app();
    let script = "echo 2 > app/version; echo $$ > cmd.pid; while [ ! -e go ]; do sleep 0.1; done";
    let mut child =
        guard(&app, &["--", "sh", "-c", script]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the command runs", || app.path("cmd.pid").exists() && !app.read("cmd.pid").trim().is_empty());
    // Only once its number is noted can anybody tell whether it runs.
    let state = PathBuf::from(app.project.config()["state"]["dir"].as_str().unwrap());
    until("the command is noted", || {
        fs::read_to_string(state.join("guard.json")).is_ok_and(|text| text.contains("running"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let output = expect_code(app.project.run(["rollback", "--resume"]), 11);
    assert!(said(&output).contains("still runs (process"), "{}", said(&output));
    fs::write(app.path("go"), "").unwrap();
    let pid = app.read("cmd.pid").trim().to_owned();
    until("the command ends", || !PathBuf::from(format!("/proc/{pid}")).exists());
    // Nobody said what is to become of it.
    let output = expect_code(app.project.run(["rollback", "--resume"]), 18);
    assert!(said(&output).contains("nobody knows how `sh` ended"), "{}", said(&output));
    let output = expect_code(run(&app, &["--", "true"]), 18);
    assert!(said(&output).contains("was cut off"), "{}", said(&output));
    told_by_status_and_doctor(&app.project, "a guarded command was cut off");
    app.project.ok(["ready"]);
    app.project.ok(["backup"]);
    app.project.ok(["rollback", "--resume", "--yes"]);
    assert!(!said(&app.project.run(["status"])).contains("cut off"));
    assert_eq!(app.read("app/version"), "1");
    assert_eq!(open_journals(&app), Vec::<String>::new());
    app.project.ok(["rollback", "--resume"]);
}

/// The points that a guard passes, each by its name and how often that came before.
fn points(app: &App, args: &[&str]) -> Vec<String> {
    let log = app.project.top.join("points");
    let output = guard(app, args).env("BACKSTAY_TEST_CRASH_COUNT_FILE", &log).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 17)), "{}", said(&output));
    let mut seen = std::collections::BTreeMap::new();
    let lines = fs::read_to_string(&log).unwrap();
    let names = lines.lines().map(|line| line.split_once(' ').unwrap().1.to_owned());
    names
        .map(|name| {
            let number: &mut u32 = seen.entry(name.clone()).or_default();
            *number += 1;
            format!("{name}#{number}")
        })
        .collect()
}

#[test]
fn a_guard_killed_at_any_stage_ends_with_what_the_command_did_or_with_the_state_before() {
    for (last, goes_well) in [("true", true), ("exit 1", false)] {
        let command = deploy(last);
        let args = ["--auto", "--", "sh", "-c", command.as_str()];
        let all = points(&app(), &args);
        let own: Vec<String> = all.iter().filter(|name| name.contains("guard:")).cloned().collect();
        assert!(own.len() >= 5, "{own:?}");
        let steps = all.iter().filter(|name| name.contains("rollback: a s")).step_by(9).cloned();
        for name in own.into_iter().chain(steps) {
            let what = format!("killed at {name} (`{last}`)");
            let app = app();
            let killed = guard(&app, &args).env("BACKSTAY_TEST_CRASH", &name).output().unwrap();
            assert!(killed.status.code().is_none(), "{what}: it was not killed: {}", said(&killed));
            // An orphan may run on for a moment.
            let mut resumed = app.project.run(["rollback", "--resume"]);
            until("the command ends", || {
                if resumed.status.code() == Some(11) {
                    resumed = app.project.run(["rollback", "--resume"]);
                }
                resumed.status.code() != Some(11)
            });
            if resumed.status.code() == Some(18) {
                // Whether it was started cannot be told: a person looks, and decides.
                assert!(said(&resumed).contains("nobody can tell whether"), "{what}: {}", said(&resumed));
                resumed = app.project.run(["rollback", "--resume", "--yes"]);
            }
            assert_eq!(resumed.status.code(), Some(0), "{what}: {}", said(&resumed));
            let new = app.read("app/version").trim() == "2";
            assert!(!new || goes_well, "{what}: what a failed command did stayed");
            if new {
                assert!(app.runs() && !app.path("app/src/old.py").exists(), "{what}");
                assert_eq!(open_journals(&app), Vec::<String>::new(), "{what}");
            } else {
                assert_as_before(&app, &what);
            }
        }
    }
}

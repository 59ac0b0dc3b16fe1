//! What others do meanwhile: files replaced, folders removed, services that start by themselves or take their time. None of it keeps the way back from
//! being gone to its end, and none of it is lost.

use super::crash::told;
use super::{App, SERVICE};
use crate::common::project::{end_service, exe, expect_code, program, slow_to_end, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const SIGSTOP: i32 = 19;

/// An application in a new version whose service runs, and the snapshot of the version before.
fn upgraded(service: &str) -> (App, String) {
    let app = App::new(service);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    (app, id)
}

fn rollback(app: &App, args: &[&str]) -> Command {
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).arg("rollback").args(args);
    command
}

#[track_caller]
fn killed_at(app: &App, args: &[&str], point: &str) {
    let output = rollback(app, args).env("BACKSTAY_TEST_CRASH", point).output().unwrap();
    assert_eq!(output.status.code(), None, "it was not killed: {}", told(&output));
}

/// Runs it until it stands still at `point`.
fn halted_at(app: &App, args: &[&str], point: &str) -> Child {
    let mut command = rollback(app, args);
    command.env("BACKSTAY_TEST_SIGNAL", format!("{point}:{SIGSTOP}")).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    until("it stands still", || stat(child.id()).contains(") T"));
    child
}

fn goes_on(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
}

fn stat(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

fn lives(pid: u32) -> bool {
    let stat = stat(pid);
    !stat.is_empty() && !stat.contains(") Z")
}

fn put_away(app: &App) -> Vec<PathBuf> {
    let dirs = ["app", "conf", ".", "app/data"].map(|dir| app.path(dir));
    let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(|e| e.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".backstay-rollback-")).collect()
}

#[test]
fn what_is_replaced_or_removed_between_the_plan_and_its_step_does_not_keep_it_from_going_back() {
    let (app, id) = upgraded(SERVICE);
    let mut run = halted_at(&app, &[&id], "rollback: journal written#4");
    app.write("status.new", "2");
    fs::rename(app.path("status.new"), app.path("app/version")).unwrap();
    fs::remove_file(app.path("app/src/new.py")).unwrap();
    let before = app.live();
    goes_on(&run);
    assert_eq!(run.wait().unwrap().code(), Some(17));
    assert_eq!(app.live(), before);
    assert_eq!(app.rows(), 3);
    assert!(app.runs());
    app.project.ok(["ready"]);
    app.project.backup();
}

#[test]
fn what_was_put_away_and_is_gone_on_the_way_back_is_named_and_keeps_nothing_else_from_coming_back() {
    let gone = "find app/.backstay-rollback-*/old -maxdepth 1 -type f -exec grep -qx new {} \\; -delete";
    let start = format!("start = 'if grep -q broken app/version; then {gone}; fi; sleep 1000");
    let app = App::new(&SERVICE.replace("start = 'sleep 1000", &start));
    app.write("app/version", "broken");
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let mut before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("app/src/new.py was found neither there nor"), "{}", told(&output));
    assert!(told(&output).contains("but for this") && told(&output).contains("its safety snapshot is"));
    assert!(before.remove(std::path::Path::new("app/src/new.py")).is_some());
    // Its folder's time is another, for something went from it.
    let live = app.live();
    assert_eq!(live.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(
        (app.rows(), app.read("app/version"), app.read("app/added/deep/x")),
        (3, "2".into(), "new".into())
    );
    assert!(app.runs());
}

#[test]
fn a_rollback_whose_other_state_was_removed_is_not_taken_back_and_nothing_is_stopped() {
    let (app, id) = upgraded(SERVICE);
    app.project.ok(["rollback", &id]);
    let (pid, live) = (app.service(), app.live());
    let dirs = put_away(&app);
    assert!(!dirs.is_empty());
    for dir in dirs {
        fs::remove_dir_all(dir).unwrap();
    }
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 16);
    assert!(told(&output).contains("latest-safety"), "{}", told(&output));
    assert_eq!((app.service(), app.live()), (pid, live));
    assert!(lives(pid));
    app.project.ok(["ready"]);
    app.project.backup();
}

#[test]
fn a_rollback_whose_other_state_is_being_removed_is_not_taken_back() {
    let (app, id) = upgraded(SERVICE);
    app.project.ok(["rollback", &id]);
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 8);
    let mut sweep = program(exe(), &app.project.home);
    sweep.current_dir(&app.project.dir).arg("backup").env("BACKSTAY_TEST_NOW", later.to_string());
    let killed = sweep.env("BACKSTAY_TEST_CRASH", "rollback: about to remove#1").output().unwrap();
    assert_eq!(killed.status.code(), None, "it was not killed: {}", told(&killed));
    let (pid, live) = (app.service(), app.live());
    expect_code(app.project.run(["rollback", "--undo", "--yes"]), 16);
    assert_eq!((app.service(), app.live()), (pid, live));
}

/// Makes a good snapshot `days` from now, with nothing but warnings, and gives its report. `fail` is what it cannot do.
#[track_caller]
fn backup_later(app: &App, days: i64, fail: Option<&str>) -> serde_json::Value {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let mut command = program(exe(), &app.project.home);
    command
        .current_dir(&app.project.dir)
        .args(["backup", "--json"])
        .env("BACKSTAY_TEST_NOW", now.to_string());
    let output =
        expect_code(command.envs(fail.map(|fail| ("BACKSTAY_TEST_FAIL", fail))).output().unwrap(), 0);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["good"], true, "{report}");
    for problem in report["problems"].as_array().unwrap() {
        assert_eq!(problem["kind"], "warning", "{report}");
        assert!(told(&output).contains(problem["subject"].as_str().unwrap()), "{}", told(&output));
    }
    report
}

#[test]
fn what_was_put_away_and_cannot_be_removed_is_a_warning_of_each_good_backup_until_it_is_gone() {
    const EACCES: &str = "rollback: a folder removed#1:13";
    let (app, id) = upgraded(SERVICE);
    app.project.ok(["rollback", &id]);
    assert!(put_away(&app).len() > 1, "one that cannot go, and others");
    for days in [8, 9] {
        let report = backup_later(&app, days, Some(EACCES));
        let [stays] = &put_away(&app)[..] else { panic!("the others go: {:?}", put_away(&app)) };
        let [problem] = &report["problems"].as_array().unwrap()[..] else { panic!("{report}") };
        assert_eq!(problem["subject"], stays.to_str().unwrap(), "{report}");
        assert!(problem["what"].as_str().unwrap().contains("Permission denied"), "{report}");
        assert!(problem["hint"].as_str().unwrap().contains("remove it by hand, as root"), "{report}");
        expect_code(app.project.run(["rollback", "--undo", "--yes"]), 16);
    }
    assert_eq!(backup_later(&app, 10, None)["problems"], serde_json::json!([]));
    assert!(put_away(&app).is_empty());
    assert_eq!(fs::read_dir(rollbacks(&app)).unwrap().count(), 0, "nothing is left to be told");
}

fn rollbacks(app: &App) -> PathBuf {
    PathBuf::from(app.project.config()["state"]["dir"].as_str().unwrap()).join("rollbacks")
}

#[test]
fn a_kept_journal_that_cannot_be_read_is_a_warning_of_each_good_backup_and_keeps_no_other_from_going() {
    let (app, id) = upgraded(SERVICE);
    app.project.ok(["rollback", &id]);
    let bad = rollbacks(&app).join("0.json");
    fs::write(&bad, "nonsense").unwrap();
    for days in [8, 9] {
        let report = backup_later(&app, days, None);
        assert!(put_away(&app).is_empty());
        let [problem] = &report["problems"].as_array().unwrap()[..] else { panic!("{report}") };
        assert_eq!(problem["subject"], bad.to_str().unwrap(), "{report}");
        assert!(bad.is_file(), "what cannot be read is not removed");
    }
    fs::remove_file(bad).unwrap();
    assert_eq!(backup_later(&app, 10, None)["problems"], serde_json::json!([]));
}

#[test]
fn a_restore_in_place_is_refused_beside_another_run_and_an_unfinished_rollback() {
    let (app, id) = upgraded(SERVICE);
    let restore = || app.project.run(["restore", &id, "app/version", "--in-place", "--yes"]);
    let mut run = halted_at(&app, &[&id], "rollback: lock held#1");
    expect_code(restore(), 11);
    run.kill().unwrap();
    run.wait().unwrap();
    killed_at(&app, &[&id], "rollback: a step#2");
    let before = app.live();
    expect_code(restore(), 18);
    assert_eq!(app.live(), before);
    expect_code(app.project.run(["rollback", "--resume"]), 17);
    expect_code(restore(), 0);
    assert_eq!(app.read("app/version"), "1");
}

#[test]
fn a_service_that_started_by_itself_on_half_of_an_exchange_is_stopped_before_it_is_taken_back() {
    let open = "start = 'sleep 1000 < app/data/app.db & echo $! > web.pid'";
    let (app, id) = upgraded(&SERVICE.replace("start = 'sleep 1000 & echo $! > web.pid'", open));
    killed_at(&app, &[&id], "rollback: a step#4");
    let start = "sleep 1000 < app/data/app.db >/dev/null 2>&1 & echo $! > web.pid";
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.project.dir).output().unwrap(), 0);
    let by_itself = app.service();
    expect_code(app.project.run(["rollback", "--resume"]), 17);
    assert!(!lives(by_itself) && app.service() != by_itself && app.runs());
    let opened = fs::read_link(format!("/proc/{}/fd/0", app.service())).unwrap();
    assert_eq!(opened, app.path("app/data/app.db"));
    assert_eq!((app.rows(), app.read("app/version")), (3, "2".into()));
}

/// How many steps that were taken or taken back a run passed, by its points.
fn steps_in(log: &std::path::Path) -> usize {
    let text = fs::read_to_string(log).unwrap();
    fs::remove_file(log).unwrap();
    text.lines().filter(|line| line.ends_with("rollback: a step")).count()
}

#[test]
fn killed_on_the_way_back_the_old_database_keeps_its_own_log_and_gets_no_other() {
    const LOG: &str = "app/data/app.db-wal";
    let with_a_log = || {
        let (app, id) = upgraded(SERVICE);
        let writer = rusqlite::Connection::open(app.path("app/data/app.db")).unwrap();
        writer.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (4)").unwrap();
        (app, id, writer)
    };
    let counted = |app: &App, args: &[&str]| {
        let log = app.project.top.join("points");
        rollback(app, args).env("BACKSTAY_TEST_CRASH_COUNT_FILE", &log).output().unwrap();
        steps_in(&log)
    };
    let (app, id, writer) = with_a_log();
    let there = counted(&app, &[&id]);
    drop((app, writer));
    let exchanged = || {
        let (app, id, writer) = with_a_log();
        killed_at(&app, &[&id], &format!("rollback: a step#{there}"));
        assert!(!app.path(LOG).exists());
        app.write(LOG, "a log of what was started on half of an exchange");
        (app, writer)
    };
    let (app, writer) = exchanged();
    let back = counted(&app, &["--resume"]);
    drop((app, writer));
    assert!(there > 4 && back > there);
    for step in [2, back / 2, back - 1] {
        let (app, writer) = exchanged();
        killed_at(&app, &["--resume"], &format!("rollback: a step#{step}"));
        let by_itself = app.start_service();
        expect_code(app.project.run(["rollback", "--resume"]), 17);
        assert!(!lives(by_itself) && app.runs(), "step {step}");
        drop(writer);
        assert_eq!((app.rows(), app.read("app/version")), (4, "2".into()), "step {step}");
        expect_code(app.project.run(["rollback", "--resume"]), 0);
    }
}

#[test]
fn on_the_way_back_every_service_is_started_also_when_another_is_not_well() {
    let ill = SERVICE
        .replace("name = \"web\"", "name = \"first\"")
        .replace("web.pid", "first.pid")
        .replace("(sleep) S", "never so");
    let (app, id) = upgraded(&format!("{ill}{SERVICE}"));
    let start = "sleep 1000 >/dev/null 2>&1 & echo $! > first.pid";
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.project.dir).output().unwrap(), 0);
    let output = app.project.run(["rollback", &id]);
    let first = app.read("first.pid").trim().parse().unwrap();
    let (runs, other) = (app.runs(), lives(first));
    end_service(&app.path("first.pid"), &app.project.dir);
    assert_eq!(output.status.code(), Some(18), "{}", told(&output));
    assert!(told(&output).contains("\"first\""), "{}", told(&output));
    assert!(runs && other && app.read("app/version") == "2", "{}", told(&output));
}

#[test]
fn a_service_that_ends_after_its_time_to_stop_was_over_runs_afterwards() {
    // It ends when it was asked a second time. That is told in one step: also of a command that was cut off it is known that it asked.
    let stop = "stop = 'mkdir order 2>/dev/null || touch go; ";
    let service = SERVICE.replace("stop = '", stop).replace("stop_within = \"20s\"", "stop_within = \"3s\"");
    let (start, service) = slow_to_end(&service);
    let app = App::new(&service);
    let id = app.project.backup();
    app.upgrade("2");
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.project.dir).output().unwrap(), 0);
    let before = app.service();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("still runs"), "{}", told(&output));
    assert!(!lives(before) && app.service() != before);
    assert!(app.read(&format!("/proc/{}/stat", app.service())).contains("(sh) S"));
    assert_eq!(app.read("app/version"), "2");
}

#[test]
fn an_undo_that_is_killed_at_its_beginning_starts_nothing_beside_the_service() {
    let (app, id) = upgraded(SERVICE);
    app.project.ok(["rollback", &id]);
    let pid = app.service();
    killed_at(&app, &["--undo", "--yes"], "rollback: journal written#1");
    let output = expect_code(app.project.run(["rollback", "--resume"]), 17);
    let words = format!("the rollback to {id} was taken back");
    assert!(told(&output).contains(&words) && !told(&output).contains("failed"), "{}", told(&output));
    assert!(!lives(pid) && app.runs());
    assert_eq!((app.rows(), app.read("app/version")), (3, "2".into()));
    app.project.ok(["ready"]);
}

//! Killed at any step, and killed again while that is mended: all of the old or all of the new, the service up, nothing left open.

use super::{App, SERVICE, Sides, expected, left};
use crate::common::long::{in_time, long};
use crate::common::project::{exe, expect_code, program, told_by_status_and_doctor};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The name of a step's point.
const A_STEP: &str = "rollback: a step";

fn rollback(app: &App, args: &[&str]) -> Command {
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).arg("rollback").args(args);
    command
}

/// How many points a run passes.
fn points(mut command: Command, log: &Path) -> Vec<String> {
    let _absent = fs::remove_file(log);
    let output = command.env("BACKSTAY_TEST_CRASH_COUNT_FILE", log).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// An application in a new version whose service runs, and the snapshot of the version before.
fn upgraded() -> (App, String, Sides) {
    let app = App::new(SERVICE);
    let (then, id) = (app.live(), app.project.backup());
    app.upgrade("2");
    app.start_service();
    let sides = Sides::of(&app, then);
    (app, id, sides)
}

pub(super) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// After a kill: refused while torn, resumed to one of the two, the service up on it.
#[track_caller]
fn whole_again(app: &App, sides: &Sides, point: &str) {
    let state = walk_state(app);
    let open = state.iter().any(|name| name == "rollback.json");
    if open {
        let refused = app.project.run(["backup"]);
        assert_eq!(refused.status.code(), Some(18), "{point}: {}", told(&refused));
        told_by_status_and_doctor(&app.project, "a rollback is not at its end");
    }
    let resumed = app.project.run(["rollback", "--resume"]);
    assert!(matches!(resumed.status.code(), Some(0 | 17)), "{point}: {}", told(&resumed));
    assert_one_of_both(app, sides, point);
    expect_code(app.project.run(["ready"]), 0);
    expect_code(app.project.run(["rollback", "--resume"]), 0);
    assert!(!walk_state(app).iter().any(|name| name == "rollback.json"), "{point}: the journal is open");
}

fn walk_state(app: &App) -> Vec<String> {
    let dir = app.project.config()["state"]["dir"].as_str().unwrap().to_owned();
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[track_caller]
pub(super) fn assert_one_of_both(app: &App, sides: &Sides, point: &str) {
    let new = app.read("app/version") == "1";
    let whole = if new { expected(app, &sides.then) } else { sides.before.clone() };
    assert_eq!(app.live(), whole, "{point}: a mixture");
    assert_eq!(left(app), sides.left, "{point}: what is left was moved");
    assert_eq!(app.rows(), if new { 1 } else { 3 }, "{point}: the database is of the other state");
    assert_eq!(app.read("app/.env"), "SECRET=2", "{point}: what is left was touched");
    assert_eq!(app.read("app/node_modules/dep/index.js"), "dep 2", "{point}: what is left was touched");
    assert_eq!(app.read("app/src/node_modules/inner/x.js"), "dep 2", "{point}: what is left was touched");
    assert!(app.runs(), "{point}: the service is down");
}

#[test]
fn killed_at_any_step_it_is_all_old_or_all_new_and_the_service_comes_back() {
    let (app, id, _) = upgraded();
    let names = points(rollback(&app, &[&id]), &app.project.top.join("points"));
    drop(app);
    let own = |name: &&String| name.contains("rollback:");
    let numbers: Vec<usize> =
        names.iter().enumerate().filter(|(_, name)| long() || own(name)).map(|(n, _)| n + 1).collect();
    assert!(numbers.len() > 15, "{names:?}");
    let step = if long() { 1 } else { numbers.len().div_ceil(12) };
    let chosen = numbers.into_iter().step_by(step).collect();
    for number in in_time(chosen) {
        let (app, id, sides) = upgraded();
        let point = format!("point {number}, {}", names[number - 1]);
        let killed = rollback(&app, &[&id]).env("BACKSTAY_TEST_CRASH", number.to_string()).output().unwrap();
        assert!(!killed.status.success(), "{point}: it was not killed");
        whole_again(&app, &sides, &point);
    }
}

#[test]
fn a_rollback_whose_terminal_is_lost_comes_to_its_end() {
    for (signal, point) in [(1, "a service stopped"), (1, "a step"), (3, "a service stopped")] {
        let (app, id, sides) = upgraded();
        let what = format!("signal {signal} at {point}");
        let order = format!("rollback: {point}#1:{signal}");
        let ended = rollback(&app, &[&id]).env("BACKSTAY_TEST_SIGNAL", order).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{what}: {}", told(&ended));
        assert_eq!(app.read("app/version"), "1", "{what}");
        assert_one_of_both(&app, &sides, &what);
    }
}

#[test]
fn killed_again_while_it_is_resumed_it_still_comes_to_one_end() {
    let (app, id, _) = upgraded();
    let names = points(rollback(&app, &[&id]), &app.project.top.join("points"));
    drop(app);
    let torn: Vec<usize> = { names.iter().enumerate() }
        .filter(|(_, name)| name.contains("a step") || name.contains("a service"))
        .map(|(n, _)| n + 1)
        .collect();
    assert!(torn.len() > 4, "{names:?}");
    let firsts = torn.iter().step_by(if long() { 1 } else { torn.len().div_ceil(3) }).collect();
    for first in in_time(firsts) {
        for second in (1..40).step_by(if long() { 1 } else { 5 }) {
            let (app, id, sides) = upgraded();
            let killed =
                rollback(&app, &[&id]).env("BACKSTAY_TEST_CRASH", first.to_string()).output().unwrap();
            assert!(!killed.status.success());
            let resumed = rollback(&app, &["--resume"])
                .env("BACKSTAY_TEST_CRASH", second.to_string())
                .output()
                .unwrap();
            let whole = matches!(resumed.status.code(), Some(0 | 17));
            whole_again(&app, &sides, &format!("points {first} and {second}"));
            if whole {
                break;
            }
        }
    }
}

#[test]
fn a_step_that_the_system_refuses_is_undone() {
    let (app, id, _) = upgraded();
    let names = points(rollback(&app, &[&id]), &app.project.top.join("points"));
    drop(app);
    // A step that is taken passes two points of its name.
    let steps = names.iter().filter(|name| name.ends_with(A_STEP)).count() / 2;
    assert!(steps > 2, "{names:?}");
    let tried: Vec<usize> = if long() { (1..=steps).collect() } else { vec![1, steps.div_ceil(2), steps] };
    for step in tried {
        let (app, id, sides) = upgraded();
        let refused =
            rollback(&app, &[&id]).env("BACKSTAY_TEST_FAIL", format!("{A_STEP}#{step}:28")).output().unwrap();
        let point = format!("step {step} of {steps}: {}", told(&refused));
        assert_eq!(refused.status.code(), Some(17), "{point}");
        assert_one_of_both(&app, &sides, &point);
        assert_eq!(app.read("app/version"), "2", "{point}: it was not undone");
    }
}

#[test]
fn a_journal_that_cannot_be_read_is_not_taken_for_none() {
    let (app, id, _) = upgraded();
    let names = points(rollback(&app, &[&id]), &app.project.top.join("points"));
    drop(app);
    let step = names.iter().position(|name| name.contains("a step")).unwrap() + 1;
    let (app, id, _) = upgraded();
    let killed = rollback(&app, &[&id]).env("BACKSTAY_TEST_CRASH", (step + 1).to_string()).output().unwrap();
    assert!(!killed.status.success());
    expect_code(app.project.run(["ready"]), 18);
    let journal = Path::new(app.project.config()["state"]["dir"].as_str().unwrap()).join("rollback.json");
    let whole = fs::read(&journal).unwrap();
    for damaged in [whole[..whole.len() - 9].to_vec(), Vec::new(), whole.iter().map(|b| b ^ 1).collect()] {
        fs::write(&journal, damaged).unwrap();
        for args in [&["ready"][..], &["backup"], &["rollback", "--resume"], &["rollback", &id]] {
            let output = expect_code(app.project.run(args), 18);
            assert!(told(&output).contains("By hand"), "{args:?}: {}", told(&output));
        }
    }
    fs::write(&journal, whole).unwrap();
    expect_code(app.project.run(["rollback", "--resume"]), 17);
}

/// The unit for boots, as systemd reads it: the value of a key that stands there once.
fn unit(key: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/backstay-resume@.service");
    let text = fs::read_to_string(path).unwrap();
    let values: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0].replace("%i", "tsushin")
}

#[test]
fn the_unit_for_boots_ends_a_rollback_also_while_no_store_is_here() {
    let (app, id, sides) = upgraded();
    let killed = rollback(&app, &[&id]).env("BACKSTAY_TEST_CRASH", format!("{A_STEP}#2")).output().unwrap();
    assert!(!killed.status.success());
    let away = app.project.top.join("away");
    fs::rename(&app.project.store, &away).unwrap();
    let line = unit("ExecStart");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[..3], ["/usr/local/bin/backstay", "-c", "/etc/backstay/tsushin.toml"], "{line}");
    expect_code(app.project.run(["ready"]), 18);
    let config = app.project.config_path();
    let mut command = program(exe(), &app.project.home);
    let output = command.arg("-c").arg(&config).args(&words[3..]).output().unwrap();
    let code = output.status.code().unwrap().to_string();
    assert!(code == "0" || code == unit("SuccessExitStatus"), "{code}: {}", told(&output));
    expect_code(app.project.run(["ready"]), 0);
    fs::rename(&away, &app.project.store).unwrap();
    assert_one_of_both(&app, &sides, "after the unit");
}

#[test]
fn the_unit_for_boots_comes_after_what_a_way_back_needs_and_tries_again_what_passes_by_itself() {
    let after = unit("After");
    let after: Vec<&str> = after.split(' ').collect();
    for needed in ["local-fs.target", "network-online.target", "postgresql.service", "docker.service"] {
        assert!(after.contains(&needed), "{needed}: {after:?}");
    }
    // Without being wanted by somebody that target is never reached; what a way back may need must not be started by it.
    assert_eq!(unit("Wants"), "network-online.target");
    assert_eq!((unit("Restart"), unit("RestartSec")), ("on-failure".into(), "30s".into()));
    assert!(unit("StartLimitBurst").parse::<u32>().unwrap() > 1 && unit("StartLimitIntervalSec") == "1d");
    // What came to its end would be called well by the next try, which finds nothing to do: a service that stays down, or a person who is needed.
    let ended = unit("RestartPreventExitStatus");
    let ended: Vec<&str> = ended.split(' ').collect();
    for code in ["1", "2", "3", "4", "12", "13", "14", "15", "16", "17", "18"] {
        assert!(ended.contains(&code) || unit("SuccessExitStatus") == code, "{code}");
    }
    assert!(!ended.contains(&"10") && !ended.contains(&"11"), "a store that is away, another run");
}

#[test]
fn systemd_finds_nothing_wrong_in_the_unit_for_boots() {
    if !crate::common::project::have(&["systemd-analyze"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/backstay-resume@.service");
    let text = fs::read_to_string(path).unwrap();
    // Its program is not installed here.
    let text = text.replace("/usr/local/bin/backstay", exe().to_str().unwrap());
    let copy = dir.path().join("backstay-resume@tsushin.service");
    fs::write(&copy, text).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
    assert!(output.status.success() && told(&output).is_empty(), "{}", told(&output));
}

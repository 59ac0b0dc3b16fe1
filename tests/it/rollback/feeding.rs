//! Dumps that only a command can read in: fed last, taken back by the dump of before, and never while a command of a killed run still reads.

use super::{App, SERVICE};
use crate::common::project::{exe, expect_code, program};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A "database" that a command dumps, and another reads in slowly, line by line: `live.txt`.
const FED: &str = r#"
[[component]]
name = "orders"
command = "cat live.txt"
restore_command = "bin/read-in"
timeout = "60s"
"#;

const READ_IN: &str = "#!/bin/sh\necho fed >> fed.log\n: > live.txt\nwhile read -r line; do echo \"$line\" >> live.txt; done\n[ ! -e refuse ] || { echo no room >&2; exit 9; }\n";

fn app() -> (App, String) {
    app_with(FED, SERVICE, "1")
}

/// The same with the component, the service and the version of the snapshot.
fn app_with(fed: &str, service: &str, version: &str) -> (App, String) {
    let app = App::with(fed, service);
    app.write("app/version", version);
    app.write("live.txt", "one\ntwo\n");
    app.write("bin/read-in", READ_IN);
    fs::set_permissions(app.path("bin/read-in"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let id = app.project.backup();
    app.upgrade("2");
    app.write("live.txt", "three\n");
    app.start_service();
    (app, id)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn command(app: &App, args: &[&str]) -> Command {
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).arg("rollback").args(args);
    command
}

/// `live.txt` and the files are of one state.
#[track_caller]
fn state(app: &App, point: &str) -> String {
    let version = app.read("app/version");
    let expected = if version == "1" { "one\ntwo\n" } else { "three\n" };
    assert_eq!(app.read("live.txt"), expected, "{point}: a mixture");
    assert_eq!(app.rows(), if version == "1" { 1 } else { 3 }, "{point}: a mixture");
    assert!(app.runs(), "{point}: the service is down");
    version
}

#[test]
fn a_dump_is_fed_to_its_restore_command_after_all_others_and_the_plan_says_what_that_means() {
    let (app, id) = app();
    let plan = app.project.ok(["rollback", &id, "--dry-run"]);
    let said = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(said.contains("fed to its restore_command, after all others: that is not one step"), "{said}");
    assert!(!app.path("fed.log").exists());
    app.project.ok(["rollback", &id]);
    assert_eq!((state(&app, "after"), app.read("fed.log")), ("1".into(), "fed\n".into()));
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(state(&app, "undone"), "2");
}

#[test]
fn a_restore_command_that_fails_is_answered_with_the_dump_of_before() {
    let (app, id) = app();
    // Fails once: for the new dump, and not for the old one.
    let once =
        READ_IN.replace("[ ! -e refuse ]", "[ -s fed2 ] || { echo x > fed2; exit 9; }; [ ! -e refuse ]");
    fs::write(app.path("bin/read-in"), once).unwrap();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("component orders could not be read in"), "{}", told(&output));
    assert_eq!(state(&app, "answered"), "2");
    assert_eq!(app.read("fed.log"), "fed\nfed\n");
}

#[test]
fn what_was_written_until_the_services_were_down_is_in_the_answer() {
    let service = SERVICE.replace("stop = 'kill", "stop = 'echo late >> live.txt; kill");
    let (app, id) = app_with(FED, &service, "broken");
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("is not healthy"), "{}", told(&output));
    assert_eq!((app.read("live.txt"), app.read("fed.log")), ("three\nlate\n".into(), "fed\nfed\n".into()));
    assert!(app.runs());
}

#[test]
fn a_dump_that_cannot_be_made_without_its_services_leaves_everything_as_it_is() {
    let service = SERVICE
        .replace("stop = 'kill", "stop = 'touch down; kill")
        .replace("start = 'sleep", "start = 'rm -f down; sleep");
    let fed = FED.replace("\"cat live.txt\"", "\"[ ! -e down ] && cat live.txt\"");
    let (app, id) = app_with(&fed, &service, "1");
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("while its services are down"), "{}", told(&output));
    assert_eq!(state(&app, "not begun"), "2");
    assert!(!app.path("fed.log").exists());
    app.project.ok(["ready"]);
}

#[test]
fn a_dump_to_which_something_still_writes_is_no_way_back() {
    let service = SERVICE
        .replace("stop = 'kill", "stop = 'touch down; kill")
        .replace("start = 'sleep", "start = 'rm -f down; sleep");
    // Down, it leaves something running that writes the rest later: when the check has seen what is there.
    let late = "until [ -e seen ]; do sleep 0.1; done; tail -n +2 live.txt; touch late";
    let command = format!(
        "[ ! -e down ] || {{ head -n 1 live.txt; {{ {late}; }} 2>/dev/null & exit 0; }}; cat live.txt"
    );
    let check = "[ ! -e down ] || { touch seen; until [ -e late ]; do sleep 0.1; done; }";
    let fed = FED.replace("\"cat live.txt\"", &format!("'{command}'\ncheck = '{check}'"));
    let (app, id) = app_with(&fed, &service, "1");
    app.write("live.txt", "three\nfour\n");
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("something that it left running wrote"), "{}", told(&output));
    assert_eq!((app.read("live.txt"), app.read("app/version")), ("three\nfour\n".into(), "2".into()));
    assert!(!app.path("fed.log").exists() && app.runs());
    app.project.ok(["ready"]);
}

#[test]
fn when_not_even_the_dump_of_before_can_be_read_in_a_person_is_told_where_it_lies() {
    let (app, id) = app();
    app.write("refuse", "");
    let output = expect_code(app.project.run(["rollback", &id]), 18);
    let said = told(&output);
    let place = said.split_whitespace().map(|word| word.trim_end_matches(':'));
    let place = { place }.find(|word| word.ends_with("orders/old/output")).expect(&said);
    assert_eq!(fs::read_to_string(PathBuf::from(place)).unwrap(), "three\n");
    expect_code(app.project.run(["ready"]), 18);
    fs::remove_file(app.path("refuse")).unwrap();
    expect_code(app.project.run(["rollback", "--resume"]), 17);
    assert_eq!(state(&app, "resumed"), "2");
}

#[test]
fn killed_while_a_dump_is_fed_it_waits_for_the_command_and_feeds_the_old_one() {
    let (app, id) = app();
    // It goes on after the kill until it is let go.
    let slow = READ_IN.replace(
        ": > live.txt",
        "[ -e go ] || { kill -9 $PPID; until [ -e go ]; do sleep 0.1; done; }\n: > live.txt",
    );
    fs::write(app.path("bin/read-in"), slow.replace("#!/bin/sh", "#!/bin/bash")).unwrap();
    let killed = command(&app, &[&id]).output().unwrap();
    assert!(!killed.status.success(), "{}", told(&killed));
    expect_code(app.project.run(["ready"]), 18);
    let resumed = command(&app, &["--resume"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    app.write("go", "");
    let resumed = resumed.wait_with_output().unwrap();
    assert_eq!(resumed.status.code(), Some(17), "{}", told(&resumed));
    assert_eq!(state(&app, "resumed"), "2");
    assert_eq!(app.read("fed.log"), "fed\nfed\n");
}

#[test]
fn without_a_dump_of_what_is_live_nothing_is_fed() {
    let (app, id) = app();
    fs::remove_file(app.path("live.txt")).unwrap();
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 1);
    assert!(told(&output).contains("could not be saved as it is now"), "{}", told(&output));
    assert_eq!(app.live(), before);
    assert!(!app.path("fed.log").exists() && app.runs());
    app.project.ok(["ready"]);
}

#[test]
fn a_restore_in_place_feeds_a_dump_and_keeps_what_was_there() {
    let (app, id) = app();
    app.project.ok(["restore", &id, "orders", "--in-place", "--yes"]);
    assert_eq!((app.read("live.txt"), app.read("fed.log")), ("one\ntwo\n".into(), "fed\n".into()));
    let kept = PathBuf::from(app.project.config()["state"]["dir"].as_str().unwrap()).join("replaced");
    let kept: Vec<PathBuf> = fs::read_dir(kept).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), "three\n");
    // What cannot be dumped is not put at risk, and what fails says where the way back lies.
    fs::rename(app.path("live.txt"), app.path("away")).unwrap();
    let output = expect_code(app.project.run(["restore", &id, "orders", "--in-place", "--yes"]), 1);
    assert!(
        told(&output).contains("could not be dumped as it is now, so nothing was changed"),
        "{}",
        told(&output)
    );
    fs::rename(app.path("away"), app.path("live.txt")).unwrap();
    app.write("refuse", "");
    let output = expect_code(app.project.run(["restore", &id, "orders", "--in-place", "--yes"]), 1);
    assert!(told(&output).contains("orders.before-restore-"), "{}", told(&output));
}

/// `command` fails while there is `broken`, and while there are `strict` and `down`.
const CAREFUL: &str = "\"[ ! -e broken ] && { [ ! -e strict ] || [ ! -e down ]; } && cat live.txt\"";

/// An application that was rolled back; its service writes `late` while it stops, and there is `down` until it runs again.
fn rolled_back() -> App {
    let service = SERVICE
        .replace("stop = 'kill", "stop = 'touch down; echo late >> live.txt; kill")
        .replace("start = 'sleep", "start = 'rm -f down; sleep");
    let (app, id) = app_with(&FED.replace("\"cat live.txt\"", CAREFUL), &service, "1");
    app.project.ok(["rollback", &id]);
    assert_eq!((app.read("live.txt"), app.read("app/version")), ("one\ntwo\n".into(), "1".into()));
    app.write("live.txt", "a week of orders\n");
    app
}

/// What an undo kept of that week, by what it says of where it is.
fn kept_of(app: &App, undone: &Output) -> String {
    let report: serde_json::Value = serde_json::from_slice(&undone.stdout).unwrap();
    let state = app.project.config()["state"]["dir"].as_str().unwrap().to_owned();
    let kept = report["kept"].as_array().unwrap().iter().filter_map(|place| place.as_str());
    let folder = { kept }.find(|place| place.starts_with(&state)).unwrap().to_owned();
    app.read(&format!("{folder}/orders/undone/output"))
}

#[test]
fn a_rollback_is_not_taken_back_over_what_its_command_cannot_dump() {
    let app = rolled_back();
    app.write("broken", "");
    let (pid, before) = (app.service(), app.live());
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 1);
    for words in
        ["component orders could not be saved as it is now", "nothing was stopped or changed", "hint:"]
    {
        assert!(told(&output).contains(words), "{words}: {}", told(&output));
    }
    assert_eq!((app.service(), app.live(), app.read("fed.log")), (pid, before, "fed\n".into()));
    assert!(app.runs());
    app.project.ok(["ready"]);
    fs::remove_file(app.path("broken")).unwrap();
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!((app.read("live.txt"), app.read("app/version")), ("three\nlate\n".into(), "2".into()));
}

#[test]
fn what_is_written_until_an_undo_has_the_services_down_is_kept_as_a_dump_for_a_week() {
    let app = rolled_back();
    let undone = app.project.ok(["rollback", "--undo", "--yes", "--json"]);
    assert_eq!((app.read("live.txt"), app.read("app/version")), ("three\nlate\n".into(), "2".into()));
    assert_eq!(kept_of(&app, &undone), "a week of orders\nlate\n");
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rollback.md")).unwrap();
    assert!(docs.contains("`NAME/undone/output`"), "the documentation does not say where it is");
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 8);
    let mut sweep = program(exe(), &app.project.home);
    sweep.current_dir(&app.project.dir).arg("backup").env("BACKSTAY_TEST_NOW", later.to_string());
    expect_code(sweep.output().unwrap(), 0);
    let state = app.project.config()["state"]["dir"].as_str().unwrap().to_owned();
    let names = fs::read_dir(state).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("rollback-")).count(), 0);
}

#[test]
fn an_undo_whose_dump_cannot_be_made_without_its_services_leaves_the_rollback_as_it_is() {
    let app = rolled_back();
    app.write("strict", "");
    let output = expect_code(app.project.run(["rollback", "--undo", "--yes"]), 1);
    for words in ["was not taken back, and holds", "while its services are down", "orders/old/output"] {
        assert!(told(&output).contains(words), "{words}: {}", told(&output));
    }
    assert_eq!(
        (app.read("live.txt"), app.read("app/version")),
        ("a week of orders\nlate\n".into(), "1".into())
    );
    assert!(app.runs() && app.rows() == 1 && app.read("fed.log") == "fed\n");
    app.project.ok(["ready"]);
    // It can still be taken back.
    fs::remove_file(app.path("strict")).unwrap();
    let undone = app.project.ok(["rollback", "--undo", "--yes", "--json"]);
    assert_eq!((app.read("live.txt"), app.read("app/version")), ("three\nlate\n".into(), "2".into()));
    assert_eq!(kept_of(&app, &undone), "a week of orders\nlate\nlate\n");
}

#[test]
fn an_undo_that_is_killed_while_it_dumps_makes_that_dump_when_it_is_resumed() {
    for point in ["rollback: a dump to be made again#1", "rollback: a dump made again#1"] {
        let app = rolled_back();
        let undo = || command(&app, &["--undo", "--yes"]).env("BACKSTAY_TEST_CRASH", point).output().unwrap();
        assert_eq!(undo().status.code(), None, "{point}: it was not killed");
        // As it cannot be made it holds, and can be taken back again.
        app.write("strict", "");
        let output = expect_code(app.project.run(["rollback", "--resume"]), 1);
        assert!(told(&output).contains("was not taken back, and holds"), "{}", told(&output));
        assert!(app.runs() && app.read("app/version") == "1", "{point}");
        fs::remove_file(app.path("strict")).unwrap();
        assert_eq!(undo().status.code(), None, "{point}: it was not killed");
        expect_code(app.project.run(["rollback", "--resume"]), 17);
        assert_eq!((app.read("live.txt"), app.read("app/version")), ("three\nlate\n".into(), "2".into()));
        let state = PathBuf::from(app.project.config()["state"]["dir"].as_str().unwrap());
        let folders = fs::read_dir(state).unwrap().map(|e| e.unwrap().path());
        let kept = folders.map(|folder| folder.join("orders/undone/output")).find(|file| file.exists());
        assert_eq!(fs::read_to_string(kept.unwrap()).unwrap(), "a week of orders\nlate\nlate\n", "{point}");
    }
}

//! Somebody presses Ctrl-C again and again once services are being stopped: it goes on to its end, and says so.

use super::{App, SERVICE, hear};
use crate::common::project::{exe, expect_code, program, slow_to_end, until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Command, Stdio};

/// An application in a new version whose service takes its time to end: until `go` is there.
fn slow() -> (App, String) {
    let (start, service) = slow_to_end(SERVICE);
    let app = App::new(&service);
    let id = app.project.backup();
    app.upgrade("2");
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.project.dir).output().unwrap(), 0);
    (app, id)
}

fn begun(app: &App, args: &[&str]) -> Child {
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).args(args).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    until("the service is asked to stop", || app.path("asked").exists());
    child
}

/// Three signals come while the service is on its way to its end: the first is answered, and none ends it. Gives the exit code.
#[track_caller]
fn asked_three_times(app: &App, mut run: Child) -> Option<i32> {
    let pid = Pid::from_child(&run);
    kill_process(pid, Signal::INT).unwrap();
    let words = "this goes on to its end, and no signal ends it before";
    let heard = hear(&mut run, words);
    assert!(heard.contains(words), "{heard}");
    for signal in [Signal::INT, Signal::TERM, Signal::INT] {
        kill_process(pid, signal).unwrap();
    }
    assert!(run.try_wait().unwrap().is_none(), "it was ended");
    app.write("go", "");
    run.wait().unwrap().code()
}

#[track_caller]
fn runs(app: &App, version: &str) {
    assert_eq!(app.read("app/version").trim(), version);
    let stat = fs::read_to_string(format!("/proc/{}/stat", app.service())).unwrap_or_default();
    assert!(stat.contains("(sh)") && !stat.contains(") Z"), "the service is down: {stat:?}");
    app.project.ok(["ready"]);
    assert!(!app.path(app.project.config()["state"]["dir"].as_str().unwrap()).join("rollback.json").exists());
    fs::remove_file(app.path("go")).unwrap();
}

#[test]
fn no_number_of_signals_ends_a_rollback_or_its_undoing_once_services_are_being_stopped() {
    let (app, id) = slow();
    let rollback = begun(&app, &["rollback", &id]);
    assert_eq!(asked_three_times(&app, rollback), Some(0));
    runs(&app, "1");
    let undo = begun(&app, &["rollback", "--undo", "--yes"]);
    assert_eq!(asked_three_times(&app, undo), Some(0));
    runs(&app, "2");
}

#[test]
fn no_number_of_signals_ends_what_brings_a_killed_rollback_to_its_end() {
    let (app, id) = slow();
    let mut killed = program(exe(), &app.project.home);
    killed.current_dir(&app.project.dir).args(["rollback", &id]);
    killed.env("BACKSTAY_TEST_CRASH", "service: asked to stop#1");
    assert!(!killed.output().unwrap().status.success());
    fs::remove_file(app.path("asked")).unwrap();
    let resume = begun(&app, &["rollback", "--resume"]);
    assert_eq!(asked_three_times(&app, resume), Some(17));
    runs(&app, "2");
}

#[test]
fn no_number_of_signals_ends_the_way_back_of_a_guard() {
    let (app, _) = slow();
    let command = "echo 3 > app/version; exit 1";
    let guard = begun(&app, &["guard", "--auto", "--", "sh", "-c", command]);
    assert_eq!(asked_three_times(&app, guard), Some(17));
    runs(&app, "2");
}

#[test]
fn a_signal_before_any_service_is_stopped_ends_a_rollback_and_nothing_was_touched() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    let (live, pid) = (app.live(), app.start_service());
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).args(["rollback", &id]);
    // The safety snapshot is made: what follows would stop the service.
    let output = command.env("BACKSTAY_TEST_SIGNAL", "rollback: journal written#2:2").output().unwrap();
    let output = expect_code(output, 130);
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was changed"), "{output:?}");
    assert_eq!((app.live(), app.service()), (live, pid));
    assert!(app.runs());
    app.project.ok(["ready"]);
}

//! Health checks that lie, and services that do not do what they are told: nothing counts as well that is not plainly so.

use super::{App, SERVICE};
use crate::common::project::expect_code;

/// The service with another health check.
fn with_health(health: &str) -> String {
    let end = SERVICE.find("[service.health]").unwrap();
    format!("{}[service.health]\nwithin = \"3s\"\ninterval = \"1s\"\n{health}\n", &SERVICE[..end])
}

/// Rolls back with this service: it must fail, say `words`, and leave what was live.
#[track_caller]
fn refused(service: &str, words: &str) -> App {
    let app = App::new(service);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    let output = app.project.run(["rollback", &id]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(17 | 18)), "{said}");
    assert!(said.contains(words), "{words}: {said}");
    assert_eq!(app.live(), before, "{said}");
    app
}

#[test]
fn an_answer_of_another_process_is_noticed_when_the_service_is_stopped() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = with_health(&format!("tcp = \"{}\"", listener.local_addr().unwrap()));
    refused(&service, "its health check still passes");
}

#[test]
fn a_check_that_always_passes_is_no_check() {
    refused(&with_health("command = \"true\""), "its health check still passes");
}

#[test]
fn a_checker_that_is_missing_killed_or_hangs_is_a_failure() {
    refused(&with_health("command = [\"no-such-checker-here\"]"), "cannot run no-such-checker-here");
    refused(&with_health("command = \"kill -9 $$\""), "signal 9");
    refused(&with_health("command = \"sleep 1000\"\ntimeout = \"1s\""), "was ended after 1 s");
}

#[test]
fn a_host_that_cannot_be_found_or_reached_is_a_failure() {
    refused(&with_health("url = \"http://no-such-host.invalid/health\""), "does not answer");
    refused(&with_health("tcp = \"127.0.0.1:9\""), "cannot connect");
}

#[test]
fn a_service_that_dies_after_it_answered_is_a_failure() {
    let service = SERVICE
        .replace("start = 'sleep 1000 & echo $! > web.pid'", "start = 'sleep 2 & echo $! > web.pid'")
        .replace("passes = 1", "passes = 3")
        .replace("within = \"3s\"", "within = \"6s\"");
    refused(&service, "it is down");
}

#[test]
fn a_service_that_flaps_is_a_failure() {
    let flaps = r#"command = 'grep -q "(sleep) S" "/proc/$(cat web.pid)/stat" && if [ -e flap ]; then rm flap; false; else touch flap; fi'
passes = 2"#;
    let app = refused(&with_health(flaps), "not healthy");
    drop(app);
}

#[test]
fn a_database_that_is_empty_is_not_healthy() {
    let app = App::new(&with_health("sqlite = \"empty.db\""));
    drop(rusqlite::Connection::open(app.path("empty.db")).unwrap());
    std::fs::write(app.path("empty.db"), b"").unwrap();
    let id = app.project.backup();
    app.start_service();
    let output = app.project.run(["rollback", &id]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("it is empty"), "{said}");
    assert_eq!(output.status.code(), Some(18), "{said}");
}

#[test]
fn a_pid_file_that_still_names_the_process_from_before_does_not_count() {
    // The start does nothing, and the old process never went: the stop only says so.
    let service = SERVICE
        .replace("stop = 'kill \"$(cat web.pid)\"'", "stop = 'mv web.pid old.pid'")
        .replace("start = 'sleep 1000 & echo $! > web.pid'", "start = 'mv old.pid web.pid'");
    refused(&service, "the process from before");
}

#[test]
fn a_service_that_was_down_stays_down() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    let output = expect_code(app.project.run(["rollback", &id]), 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is down, and stays so"));
    assert!(!app.path("web.pid").exists());
}

//! Services of which nothing can tell whether they run: none of them is ever started beside itself.

use super::App;
use super::crash::told;
use crate::common::project::{exe, expect_code, program};
use std::fs;
use std::process::Output;

/// Two services with neither a manager nor a file of their number: `web` is started after `worker`, and stopped before it. They write down what they do.
/// A stop of `web` first does `first`.
pub(crate) fn two_services(first: &str) -> String {
    let of = |name: &str, after: &str, first: &str| {
        format!(
            r#"
[[service]]
name = "{name}"
after = [{after}]
stop = '{first}echo "{name} stop" >> order; rm -f {name}.up'
start = 'echo "{name} start" >> order; touch {name}.up'
[service.health]
command = 'test -e {name}.up'
within = "3s"
interval = "1s"
passes = 1
"#
        )
    };
    of("worker", "", "") + &of("web", "\"worker\"", first)
}

/// The same, told in the other order, which means nothing.
pub(crate) fn two_services_turned() -> String {
    let told = two_services("");
    let (first, second) = told.split_at(told.rfind("[[service]]").unwrap());
    format!("{second}{first}")
}

/// How many of `name` run at the end of `order`, which tells what was done to it since one of it ran; never more than one of it ran.
#[track_caller]
pub(crate) fn running(order: &str, name: &str) -> usize {
    order.lines().fold(1, |running, line| match line.strip_prefix(name) {
        Some(" stop") => 0,
        Some(" start") => {
            assert_eq!(running, 0, "two of {name}: {order}");
            1
        }
        _ => running,
    })
}

/// An application in a new version, whose two services run.
fn app(first: &str) -> (App, String) {
    let app = App::new(&two_services(first));
    let id = app.project.backup();
    app.upgrade("2");
    app.write("worker.up", "");
    app.write("web.up", "");
    (app, id)
}

fn rollback(app: &App, args: &[&str], crash: &str) -> Output {
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).arg("rollback").args(args);
    command.env("BACKSTAY_TEST_CRASH", crash).output().unwrap()
}

#[track_caller]
fn each_runs_once(app: &App, version: &str) {
    let order = app.read("order");
    assert_eq!((running(&order, "worker"), running(&order, "web")), (1, 1), "{order}");
    assert_eq!(app.read("app/version"), version);
    app.project.ok(["ready"]);
}

#[test]
fn a_service_that_was_never_asked_to_stop_is_not_started_beside_itself() {
    let (app, id) = app("exit 4; ");
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("exit code 4"), "{}", told(&output));
    assert_eq!((app.read("order"), app.read("app/version")), ("web start\n".into(), "2".into()));
}

#[test]
fn a_service_that_a_killed_rollback_may_have_started_is_stopped_before_it_is_started() {
    for (service, version) in [(1, "1"), (2, "1")] {
        let (app, id) = app("");
        let killed = rollback(&app, &[&id], &format!("rollback: a service started#{service}"));
        assert_eq!(killed.status.code(), None, "it was not killed: {}", told(&killed));
        expect_code(app.project.run(["rollback", "--resume"]), 0);
        each_runs_once(&app, version);
    }
    // On the way back, from a stop that fails once.
    let (app, id) = app("[ -e once ] || { touch once; exit 4; }; ");
    let killed = rollback(&app, &[&id], "rollback: a service started#2");
    assert_eq!(killed.status.code(), None, "it was not killed: {}", told(&killed));
    expect_code(app.project.run(["rollback", "--resume"]), 17);
    each_runs_once(&app, "2");
    assert!(fs::read_to_string(app.path("order")).unwrap().starts_with("web stop\nweb start\nweb stop\n"));
}

#[test]
fn taking_a_rollback_back_stops_and_starts_a_service_of_which_nothing_can_tell() {
    let (app, id) = app("");
    app.project.ok(["rollback", &id]);
    app.project.ok(["rollback", "--undo", "--yes"]);
    each_runs_once(&app, "2");
}

#[test]
fn who_depends_on_another_is_stopped_before_it_and_started_after_it() {
    for services in [two_services(""), two_services_turned()] {
        let app = App::new(&services);
        let id = app.project.backup();
        app.upgrade("2");
        app.write("worker.up", "");
        app.write("web.up", "");
        let plan = app.project.json(["rollback", &id, "--dry-run"]);
        assert_eq!(plan["services"], serde_json::json!(["worker", "web"]));
        app.project.ok(["rollback", &id]);
        let order = "web stop\nworker stop\nworker start\nweb start\n";
        assert_eq!(app.read("order"), order);
        // And the same way back.
        app.project.ok(["rollback", "--undo", "--yes"]);
        assert_eq!(app.read("order"), order.repeat(2));
    }
}

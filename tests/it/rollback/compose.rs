//! Services of Docker Compose around a rollback: stopped, started, and believed only when that can be told.

use super::App;
use crate::common::docker::{Docker, OBEYS, orders, path_with};
use crate::common::project::{exe, expect_code, program};
use std::process::Output;

const SERVICE: &str = r#"
[[service]]
name = "web"
stop_within = "1s"
start_within = "2s"
compose = { file = "compose.yml", project = "shop", services = ["web", "worker"] }
"#;

/// An application in its second version, whose container runs; its first is `version`.
fn app(docker: &Docker, version: &str) -> (App, String, std::path::PathBuf) {
    let app = App::new(SERVICE);
    app.write("app/version", version);
    let id = app.project.backup();
    app.upgrade("2");
    let bin = docker.install(&app.project.top, &app.project.dir);
    (app, id, bin)
}

fn rollback(app: &App, id: &str, path: &str) -> Output {
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).env("PATH", path).args(["rollback", id]).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// It goes back to this; everything stays in its second version, its container runs, and `words` are said.
#[track_caller]
fn refused(docker: &Docker, version: &str, words: &str) -> App {
    let (app, id, bin) = app(docker, version);
    let output = expect_code(rollback(&app, &id, &path_with(&bin)), 17);
    assert!(said(&output).contains(words), "{words}: {}", said(&output));
    assert!(!said(&output).contains('\u{1b}'), "{output:?}");
    assert_eq!((app.read("app/version"), app.path("up").exists()), ("2".into(), true), "{}", said(&output));
    app.project.ok(["ready"]);
    app
}

#[test]
fn a_compose_service_is_stopped_and_started_around_a_rollback() {
    for plugin in [0, 1] {
        let (app, id, bin) = app(&Docker { plugin, ..OBEYS }, "1");
        let output = expect_code(rollback(&app, &id, &path_with(&bin)), 0);
        assert_eq!((app.read("app/version"), app.read("starts").lines().count()), ("1".into(), 2));
        assert_eq!(orders(&app.project.dir), ["stop web worker", "up -d --no-build web worker"]);
        let file = app.path("compose.yml");
        let program = if plugin == 0 { "compose" } else { "older" };
        let order = format!("{program} -f {} -p shop stop web worker", file.display());
        assert!(app.read("asked").lines().any(|line| line == order), "{order}: {}", app.read("asked"));
        assert!(said(&output).contains("stopping web"), "{}", said(&output));
    }
}

#[test]
fn a_container_that_does_not_stop_keeps_everything_as_it_is() {
    let app = refused(&Docker { stop: ":", ..OBEYS }, "1", "still runs (0c1 start-1)");
    assert_eq!(app.read("starts").lines().count(), 1, "it was never down, and is not started beside itself");
}

#[test]
fn a_container_that_ends_or_is_restarted_again_and_again_is_not_well() {
    // Docker says that it runs, also while it waits before it tries again.
    let restarts = "if grep -q broken app/version; then echo \"true true 0c1 t\"; else echo \"true false 0c1 start-$(wc -l < starts)\"; fi";
    refused(&Docker { inspect: restarts, ..OBEYS }, "broken", "is being started again");
    let ends = "if grep -q broken app/version; then echo \"false false 0c1 t\"; else echo \"true false 0c1 start-$(wc -l < starts)\"; fi";
    refused(&Docker { inspect: ends, ..OBEYS }, "broken", "does not run (it is down)");
    let anew = "if grep -q broken app/version; then echo x >> starts; fi; echo \"true false 0c1 start-$(wc -l < starts)\"";
    refused(&Docker { inspect: anew, ..OBEYS }, "broken", "started anew");
}

#[test]
fn a_container_from_before_the_stop_does_not_count() {
    // `stop` only hides it, and `up` shows it again: it was never started anew.
    refused(&Docker { up: "touch up", ..OBEYS }, "1", "the process from before");
}

#[test]
fn what_docker_says_that_is_no_answer_stops_nothing() {
    let inspects =
        ["", ":", "echo", "echo 'Error: no such object'", "printf '\\033[2Jtrue false 0c1 t\\n'", "exit 1"];
    let inspects = inspects.map(|inspect| Docker { inspect, ..OBEYS });
    let two = Docker { ps: "echo 0c1 0c2", ..OBEYS };
    let option = Docker { ps: "printf -- '-H\\033[2J\\n'", ..OBEYS };
    let fails = Docker { ps: "echo 'no daemon' >&2; exit 1", ..OBEYS };
    for docker in inspects.into_iter().chain([two, option, fails]) {
        let app = refused(&docker, "1", "service \"web\": ");
        assert_eq!(orders(&app.project.dir), Vec::<String>::new(), "{}", docker.inspect);
    }
}

#[test]
fn without_docker_nothing_is_stopped_and_the_program_is_named() {
    let (app, id, _) = app(&OBEYS, "1");
    let nothing = app.project.top.join("empty");
    std::fs::create_dir(&nothing).unwrap();
    let output = expect_code(rollback(&app, &id, nothing.to_str().unwrap()), 17);
    assert!(said(&output).contains("cannot run docker-compose"), "{}", said(&output));
    assert_eq!(app.read("app/version"), "2");
    assert!(!app.path("asked").exists());
}

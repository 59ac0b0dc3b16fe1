//! Ends that the run itself could tell nobody of.

use super::{Server, configure};
use crate::lab::{Lab, put};
use serde_json::Value;

/// What is told when what two components are made of is `first` and `second`, each backed up at its time.
fn told(first: &str, second: &str, code: i32) -> Vec<Value> {
    let server = Server::start();
    let component = |name: &str, command: &str| format!("{{ name = {name:?}, command = {command:?} }}");
    let components = format!("component = [{}, {}]", component("first", first), component("second", second));
    let lab = Lab::new(|dir| put(&dir.join("x"), b"x"), &components);
    let line = |hour: u8, name: &str| format!("{{ at = \"0 {hour} * * *\", only = [{name:?}] }}");
    let lines = [line(3, "first"), line(4, "second")].join(", ");
    let hook = server.url("hook");
    configure(
        &lab,
        &format!(
            "schedule = {{ backup = [{lines}], timezone = \"UTC\" }}\nnotify = {{ failure = [{{ webhook = {hook:?} }}] }}"
        ),
    );
    let runs = lab.state().join("runs.json");
    let once = |now| lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", now)]);
    once("2026-11-01T12:00:00Z").expect(0, &[]);
    once("2026-11-02T12:00:00Z").expect(code, &[]);
    let known: Value = serde_json::from_slice(&std::fs::read(runs).unwrap()).unwrap();
    assert_eq!(known["backup of second"]["last"]["code"], code, "{known:#}");
    let sent = server.take();
    sent.iter().map(|one| serde_json::from_str(&one.body).unwrap()).collect()
}

#[test]
fn a_job_that_is_killed_is_told_by_its_agent() {
    let told = told("echo well", "kill -KILL $PPID", 137);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["title"], "backstay: project: backup of second failed (exit code 1)");
    assert!(told[0]["text"].as_str().unwrap().contains("it was ended by signal 9"), "{told:?}");
}

#[test]
fn a_job_that_cannot_read_the_configuration_is_told_by_the_agent_that_holds_it() {
    let told = told("echo nonsense >> backstay.toml; echo well", "echo well", 14);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["event"], &told[0]["exit_code"]), (&"failure".into(), &14.into()), "{told:?}");
    assert_eq!(told[0]["about"], "backup of second", "{told:?}");
}

//! `diff` and `find`: what differs between states, and which states a path had.

mod diff;
mod find;

use crate::lab::Lab;
use serde_json::Value;

/// The JSON document of a command that ended with `code`.
#[track_caller]
fn json(lab: &Lab, args: &[&str], code: i32) -> Value {
    let ran = lab.run(&[&["--json"], args].concat());
    ran.expect(code, &[]);
    serde_json::from_slice(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.text()))
}

/// `letter path` of each change; of a rename `R from > path`.
fn changes(report: &Value) -> Vec<String> {
    let line = |change: &Value| {
        let path = change["path"].as_str().unwrap();
        match change["status"].as_str().unwrap() {
            "renamed" => format!("renamed {} > {path}", change["from"].as_str().unwrap()),
            status => format!("{status} {path}"),
        }
    };
    report["changes"].as_array().unwrap().iter().map(line).collect()
}

//! `doctor` and `status`: what is wrong is found, with its way out, and what is well is said to be well.

mod doctor;
mod room;
mod status;

use crate::common::person::Person;
use serde_json::Value;

/// The findings or concerns of `report` below `list`, as `severity what` lines.
fn lines(report: &Value, list: &str, severity: &str) -> Vec<String> {
    let all = report[list].as_array().unwrap();
    let text = |v: &Value, field: &str| v[field].as_str().unwrap_or_default().to_owned();
    all.iter().map(|v| format!("{} {} {}", text(v, severity), text(v, "subject"), text(v, "what"))).collect()
}

/// A project with a snapshot that stands alone on a disk of its own, as far as a test can have that.
fn sound() -> Person {
    let person = Person::set_up();
    std::fs::remove_file(person.kit()).unwrap();
    person.backup();
    person
}

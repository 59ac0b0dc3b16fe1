//! Disks on which what will come does not fit.

use super::{lines, sound};
use crate::common::mounts::{given_folder, in_own_mounts, mount};
use crate::common::person::Person;
use std::process::Command;

/// Warnings of `doctor`.
fn warnings(person: &Person) -> Vec<String> {
    let all = lines(&person.json(0, ["doctor"]), "findings", "severity");
    all.into_iter().filter(|line| line.starts_with("warning")).collect()
}

/// Fails unless `doctor` warns of `what` in `subject`, with what is needed and what is there.
#[track_caller]
fn told(person: &Person, subject: &str, what: &str) {
    let all = warnings(person);
    let fits = |line: &&String| line.starts_with(&format!("warning {subject} {what}"));
    let Some(line) = all.iter().find(fits) else { panic!("{subject}: {what} is not among {all:#?}") };
    assert!(line.contains(" are needed, ") && line.ends_with(" are free"), "{line}");
}

#[test]
#[ignore = "runs only as a child of the test below"]
fn small_disks() {
    if given_folder().is_none() {
        return;
    }
    let mut person = sound();
    let small = person.top.join("small");
    mount(&["-t", "tmpfs", "-o", "size=20m,mode=700", "tmpfs"], &small);
    let before = warnings(&person);
    assert!(!before.iter().any(|line| line.contains(" are needed, ")), "{before:#?}");
    person.configure("[[store]]\nname = \"small\"\npath = \"../small/store\"");
    person.ok(["init"]);
    person.ok(["backup"]);
    told(&person, "small", "another full snapshot does not fit in");
    // The whole application on a disk that does not hold it twice.
    let app = person.top.join("tight");
    mount(&["-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs"], &app);
    std::fs::write(person.app.join("backend/large"), vec![1; 9_000_000]).unwrap();
    let copied = Command::new("cp").arg("-a").arg(person.app.join(".")).arg(&app).status().unwrap();
    assert!(copied.success());
    person.app = app;
    person.ok(["backup"]);
    told(&person, "restore", "everything does not fit beside what is there, when it is restored to");
}

#[test]
fn disks_that_are_too_small_for_what_will_come_are_told_before_they_are_full() {
    in_own_mounts("health::room::small_disks");
}

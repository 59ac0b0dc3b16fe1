//! A state folder that cannot be written is named as what it is, and reading goes on.

use crate::common::mounts::{given_folder, in_own_mounts, mount, run};
use crate::common::person::Person;
use crate::common::trees::copy;
use std::fs;
use std::path::PathBuf;

fn state(person: &Person) -> PathBuf {
    person.home.join(".local/state/backstay/tsushin")
}

/// Nobody, root included, can open a folder as a file.
fn make_unwritable(state: &std::path::Path) {
    for lock in [".state.lock", "lock"] {
        let _absent = fs::remove_file(state.join(lock));
        fs::create_dir(state.join(lock)).unwrap();
    }
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named_and_reading_goes_on() {
    let person = Person::set_up();
    person.backup();
    let (state, before) = (state(&person), person.top.join("state-before"));
    copy(&state, &before);
    let id = person.backup();
    make_unwritable(&state);
    // What is known already needs no writing.
    let said = person.ok(["list"]);
    assert!(!said.err.contains("cannot be written"), "{said}");
    person.ok(["verify"]);
    person.ok(["restore", &id, "--to", "../back"]);
    person.ok(["kit", "-o", "../kit.txt"]);
    person.fails(1, ["backup"]).says(&["cannot take the lock", "let the user who runs backstay own it"]);
    // What is new is not remembered, and that is said; a store is a store all the same.
    fs::remove_dir_all(&state).unwrap();
    copy(&before, &state);
    make_unwritable(&state);
    let heads = fs::read(state.join("heads.json")).unwrap();
    for args in [&["list"][..], &["show", &id], &["cat", &id, "backend/app/main.py"], &["find", "main.py"]] {
        let said = person.ok(args).says(&["warning: ", "state folder", "cannot be written"]);
        assert_eq!(said.err.matches("cannot be written").count(), 1, "{said}");
        assert!(!said.err.contains("not the one seen before"), "{said}");
    }
    assert_eq!(fs::read(state.join("heads.json")).unwrap(), heads);
}

#[test]
fn what_was_seen_and_cannot_be_read_ends_reading_also_where_nothing_can_be_written() {
    let person = Person::set_up();
    person.backup();
    let state = state(&person);
    make_unwritable(&state);
    for file in ["heads.json", "instances.json", "vault.json"] {
        let kept = fs::read(state.join(file)).unwrap();
        fs::write(state.join(file), "{").unwrap();
        let said = person.run(["list"]).code(13).says(&[file, "cannot be understood"]);
        assert!(!said.err.contains("not the one seen before"), "{said}");
        fs::write(state.join(file), kept).unwrap();
    }
    // A store that was exchanged is noticed as ever.
    let own = person.store().join("backstay.json");
    let text = fs::read_to_string(&own).unwrap();
    let instance = serde_json::from_str::<serde_json::Value>(&text).unwrap()["instance"].clone();
    let instance = instance.as_str().unwrap();
    let other =
        format!("{}{}", &instance[..instance.len() - 1], if instance.ends_with('a') { 'b' } else { 'a' });
    fs::write(&own, text.replace(instance, &other)).unwrap();
    person.run(["list"]).code(13).says(&["not the one seen before"]);
}

#[test]
fn on_a_disk_that_turned_read_only_everything_is_read_and_the_state_folder_named() {
    in_own_mounts("ways_out::state::on_a_read_only_disk");
}

#[test]
#[ignore = "its parent runs it in mounts of its own"]
fn on_a_read_only_disk() {
    if given_folder().is_none() {
        return;
    }
    let person = Person::set_up();
    let id = person.backup();
    let local = person.home.join(".local");
    let at = local.to_str().unwrap();
    mount(&["--bind", at], &local);
    mount(&["-o", "remount,bind,ro"], &local);
    for args in [&["list"][..], &["show"], &["verify"], &["find", "main.py"], &["kit", "-o", "../kit.txt"]] {
        person.ok(args);
    }
    person.ok(["restore", &id, "--to", "../back"]);
    person.fails(1, ["backup"]).says(&["the state folder", "cannot be written", "Read-only file system"]);
    let status = person.run(["status"]);
    assert!(status.out.contains("the state folder") && status.out.contains("cannot be written"), "{status}");
    assert!(!status.out.contains("no store can be reached"), "{status}");
    let doctor = person.run(["doctor"]).code(18);
    assert!(doctor.out.contains("the state folder cannot be written"), "{doctor}");
    assert!(!doctor.out.contains("bring a store within reach"), "{doctor}");
    assert!(run("umount", &[at]));
}

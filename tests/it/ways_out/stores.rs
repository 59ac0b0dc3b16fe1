//! Stores that are away, that have no keys, or that are others than before.

use crate::common::person::{Person, Said};
use crate::recover::Fresh;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A store that cannot be reached, and for which no keys are given.
const BUCKET: &str =
    "[[store]]\nname = \"store-2\"\nurl = \"s3://bucket/app\"\nendpoint = \"http://127.0.0.1:1\"";

/// Without the wait for a metadata service that is not there.
fn run(person: &Person, args: &[&str]) -> Said {
    person.command(args).env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap().into()
}

#[test]
fn every_store_of_a_kit_is_named_with_its_reason_when_none_is_here() {
    let person = Person::set_up();
    person.backup();
    person.configure(BUCKET);
    run(&person, &["kit", "-o", "../kit.txt"]).code(0);
    fs::rename(person.store(), person.top.join("away")).unwrap();
    for args in [
        &["--kit", "../kit.txt", "list"][..],
        &["--kit", "../kit.txt", "restore", "latest", "--to", "../there"],
        &["recover", "../kit.txt", "--to", "../back", "--yes"],
        &["list"],
    ] {
        run(&person, args).code(10).error().says(&[
            "error: none of 2 stores can be used",
            "caused by: store \"local\" (",
            "No such file",
            "caused by: store \"store-2\" (",
            "no credentials were found",
            // Keys that were forgotten are sooner found than a machine.
            "hint: store-2: name a file with keys",
            "; local: ",
        ]);
    }
}

#[test]
fn a_bucket_without_keys_says_once_where_it_looked_and_how_to_give_some() {
    let person = Person::set_up();
    person.configure(BUCKET);
    let said = run(&person, &["list", "--store", "store-2"]).code(10).error();
    assert_eq!(said.err.matches("no credentials were found").count(), 1, "{said}");
    assert_eq!(said.err.matches("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").count(), 1, "{said}");
    for foreign in ["not looked for yet", "Generic S3", "allowed to do"] {
        assert!(!said.err.contains(foreign), "{said}");
    }
    said.says(&["`credentials_file`", "`profile`", "AWS_ACCESS_KEY_ID", "cron and systemd"]);
}

/// The hint of what is wrong with a store.
fn hint(report: &Value, store: &str) -> String {
    let subject = format!("store {store}");
    let problems = report["problems"].as_array().unwrap();
    let problem = problems.iter().find(|p| p["subject"] == subject.as_str());
    problem.unwrap_or_else(|| panic!("{report:#}"))["hint"].as_str().unwrap().to_owned()
}

fn two_stores() -> (Person, PathBuf) {
    let person = Person::set_up();
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    person.ok(["init"]);
    person.backup();
    let second = person.top.join("second");
    (person, second)
}

#[test]
fn another_store_of_the_same_vault_takes_the_place_of_one_only_by_name() {
    let (person, second) = two_stores();
    let (old, newer) = (person.top.join("old"), person.top.join("newer"));
    fs::rename(&second, &old).unwrap();
    person.ok(["init", "--replace-store", "second"]);
    person.backup();
    fs::rename(&second, &newer).unwrap();
    fs::rename(&old, &second).unwrap();
    // Nothing is written to it, and what is said to do is what helps.
    for command in ["backup", "sync"] {
        let report = person.json(4, [command]);
        assert!(hint(&report, "second").contains("backstay init --replace-store second"), "{report:#}");
    }
    person.fails(13, ["init"]).says(&["not the one seen before", "init --replace-store second"]);
    person
        .ok(["init", "--replace-store", "second"])
        .says(&["made what is in ", " store \"second\" from now on"]);
    person.backup();
    let ids = |store: &str| -> Vec<Value> {
        let list = person.json(0, ["list", "--store", store]);
        list["snapshots"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect()
    };
    assert_eq!(ids("second"), ids("local"));
    // One that is the same as before is in nobody's way.
    person.fails(2, ["init", "--replace-store", "second"]).says(&["is there", "move it away first"]);
}

/// The largest archive in a store.
fn archive(store: &Path) -> PathBuf {
    let mut waiting = vec![store.join("archives")];
    let mut found = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.path().is_dir() {
                true => waiting.push(entry.path()),
                false => found.push((entry.metadata().unwrap().len(), entry.path())),
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn what_only_one_store_was_asked_about_is_not_said_to_be_in_no_other() {
    let (person, second) = two_stores();
    let damaged = archive(&person.store());
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let way_out = |report: &Value| report["damage"][0]["way_out"].as_str().unwrap().to_owned();
    let one = person.json(13, ["verify", "--read-data", "--store", "local"]);
    assert!(way_out(&one).contains("the other stores were not looked at"), "{one:#}");
    assert!(way_out(&one).contains("`backstay sync --to local"), "{one:#}");
    fs::rename(&second, person.top.join("away")).unwrap();
    let all = person.json(13, ["verify", "--read-data"]);
    assert!(way_out(&all).contains("no other store that is here has it"), "{all:#}");
    fs::rename(person.top.join("away"), &second).unwrap();
    person.ok(["sync", "--to", "local"]);
    person.ok(["verify", "--read-data"]);
}

#[test]
fn a_recovery_whose_new_key_nobody_introduced_is_whole_and_says_what_comes_before_the_first_backup() {
    let person = Person::set_up();
    person.backup();
    person.ok(["kit", "-o", "../old-kit.txt"]);
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    person.backup();
    let fresh = Fresh::new();
    let kit = fresh.take_kit(&person.top.join("old-kit.txt"));
    let said = fresh.run(&fresh.top, &["recover", kit.to_str().unwrap(), "--to", "back", "--yes"]).code(3);
    assert!(said.out.contains(" is back\n") && !said.out.contains("NOT ALL OF IT"), "{said}");
    assert!(said.out.contains("(NEW, AND NOT INTRODUCED)"), "{said}");
    let first = said.out.split("What to do now:\n").nth(1).unwrap().lines().next().unwrap();
    assert!(first.contains("1. BEFORE THE FIRST BACKUP") && first.contains("keys signer add"), "{said}");
}

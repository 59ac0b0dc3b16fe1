//! Stores that are away, that have no keys, or that are others than before.

use crate::common::person::{Person, Said};
use std::fs;

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

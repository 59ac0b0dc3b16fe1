//! Keys that are not here, and passphrases that nobody gives.

use crate::common::person::{Person, Said};
use crate::common::project::{exe, have};
use crate::keys::{on_a_terminal, private};
use std::fs;

/// Somebody whose identity file has the passphrase that lies in the file named beside.
fn protected() -> (Person, String) {
    let person = Person::set_up();
    person.backup();
    let file = person.top.join("passphrase");
    private(&file, "correct horse\n");
    let file = file.to_str().unwrap().to_owned();
    person.ok(["keys", "passphrase", "--new-passphrase-file", &file]);
    (person, file)
}

#[test]
fn a_passphrase_that_nobody_gives_ends_no_list_and_no_verify() {
    let (person, _) = protected();
    let without = "is protected by a passphrase, and none was given";
    let said = person.ok(["list"]).says(&[without, "names and notes are not shown"]);
    assert!(said.out.contains("20"), "the snapshots are listed: {said}");
    person.ok(["verify"]).says(&[without]);
    person.ok(["verify", "--read-data"]);
    // What cannot be done without it, and what was named, still ends it.
    let identity = person.identity();
    for args in [&["verify", "--decrypt"][..], &["show"], &["list", "-i", identity.to_str().unwrap()]] {
        person.fails(12, args).says(&["BACKSTAY_PASSPHRASE_FILE"]);
    }
}

#[test]
fn doctor_does_not_send_for_the_kit_because_of_a_passphrase() {
    let (person, file) = protected();
    let of_identity = |person: &Person| -> Vec<String> {
        let said = person.run(["doctor", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let findings = report["findings"].as_array().unwrap().iter();
        findings.map(ToString::to_string).filter(|finding| finding.contains("passphrase")).collect()
    };
    let found = of_identity(&person);
    assert!(found.len() == 1 && found[0].contains("\"note\""), "{found:?}");
    assert!(!found[0].contains("recovery kit"), "{found:?}");
    // Where the configuration says where it is, it is looked at.
    person.reconfigure("identity_file =", &format!("passphrase_file = {file:?}\nidentity_file ="));
    assert_eq!(of_identity(&person), [""; 0]);
    private(person.top.join("passphrase").as_path(), "another\n");
    let found = of_identity(&person);
    assert!(
        found.len() == 1 && found[0].contains("\"problem\"") && found[0].contains("capital"),
        "{found:?}"
    );
}

#[test]
fn every_command_that_wants_a_passphrase_says_how_to_give_it() {
    let (person, file) = protected();
    for args in [
        &["kit", "-o", "../kit.txt"][..],
        &["keys", "rotate", "--yes"],
        &["keys", "passphrase", "--new-passphrase-file", &file],
        &["keys", "passphrase", "--remove", "--yes"],
        &["rollback", "latest", "--yes"],
    ] {
        let said = person.fails(12, args).says(&["type it on a terminal", "BACKSTAY_PASSPHRASE_FILE"]);
        assert!(!said.err.contains("BACKSTAY_PASSPHRASE_FILE: backstay"), "{said}");
    }
    person
        .fails(12, ["rollback", "latest", "--yes"])
        .says(&["; with the recovery kit: backstay rollback latest --kit FILE"]);
    private(person.top.join("wrong").as_path(), "battery staple\n");
    let mut command = person.command(["show"]);
    let said: Said =
        command.env("BACKSTAY_PASSPHRASE_FILE", person.top.join("wrong")).output().unwrap().into();
    let said = said.code(12).error().says(&["the passphrase is wrong", "capital and small letters"]);
    assert!(!said.err.contains("AGE-SECRET-KEY-1…"), "{said}");
}

#[test]
fn ctrl_c_at_a_passphrase_is_an_interruption_and_no_trouble_with_a_key() {
    if !have(&["script"]) {
        return;
    }
    let (person, _) = protected();
    for command in ["show", "list", "verify"] {
        let line = format!("{} {command}", exe().display());
        let said = on_a_terminal(&person, "identity.txt: ", &["\u{3}"], &line);
        assert_eq!(said.code, 130, "{said}");
        assert!(said.out.contains("interrupted"), "{said}");
    }
    let line = format!("{} kit --passphrase -o ../kit.txt", exe().display());
    person.reconfigure("identity_file =", "# identity_file =");
    let said = on_a_terminal(&person, "New passphrase: ", &["\u{3}"], &line);
    assert_eq!(said.code, 130, "{said}");
}

#[test]
fn a_key_of_this_host_that_is_gone_is_said_to_be_in_the_kit() {
    let person = Person::set_up();
    for key in ["naming_key", "signing_key"] {
        fs::remove_file(person.keys().join(key)).unwrap();
        let said = person.fails(14, ["backup"]);
        said.says(&[&key.replace('_', " "), "recovery kit", "backstay recover KIT", "--kit FILE"]);
    }
}

//! A history that is not whole, and will not be: it is settled by a person, and everything goes on.

mod recovered;

use crate::common::person::Person;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn record(store: &Path, id: &str) -> std::path::PathBuf {
    store.join("snapshots").join(format!("{id}.json"))
}

fn backup(person: &Person, text: &str) -> String {
    fs::write(person.app.join("backend/app/main.py"), text).unwrap();
    person.backup()
}

/// Everything that was refused goes again: the newest is known, prune and verify end well, the next backup follows.
#[track_caller]
fn goes_on(person: &Person, newest: &str) {
    let list = person.json(0, ["list"]);
    assert_eq!(list["history"], Value::Array(Vec::new()), "{list:#}");
    assert_eq!(person.json(0, ["show", "latest"])["id"], newest);
    person.json(0, ["prune", "--dry-run"]);
    person.ok(["verify"]);
    backup(person, "after\n");
    person.ok(["restore", "latest", "--to", "../back"]);
    assert_eq!(fs::read_to_string(person.top.join("back/backend/app/main.py")).unwrap(), "after\n");
}

#[test]
fn a_record_that_is_lost_for_good_is_accepted_as_lost_by_another_key() {
    let person = Person::set_up();
    let ids: Vec<String> = ["one\n", "two\n", "three\n"].iter().map(|text| backup(&person, text)).collect();
    fs::remove_file(record(&person.store(), &ids[1])).unwrap();
    let refused = person.fails(13, ["restore", "latest", "--to", "../early"]);
    refused.says(&["not whole", "backstay settle"]);
    // No key excuses its own.
    person
        .fails(14, ["settle", "--yes"])
        .says(&["no key may settle the history that it signed itself", "keys signer rotate"]);
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    person.fails(2, ["settle"]).says(&[
        "has a gap",
        "accepted as lost: entry",
        "nobody is here to confirm it",
    ]);
    person.fails(13, ["show", "latest"]);
    let report = person.json(0, ["settle", "--yes"]);
    let history = &report["histories"][0];
    assert_eq!(history["lost"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(
        (&history["dropped"], &report["left"]),
        (&Value::Array(Vec::new()), &Value::Array(Vec::new()))
    );
    goes_on(&person, &ids[2]);
    let told = person.ok(["settle", "--yes"]);
    assert!(told.out.contains("nothing to settle"), "{}", told.out);
}

#[test]
fn what_every_store_lost_is_settled_in_all_of_them_and_a_new_store_comes_whole() {
    let person = Person::set_up();
    let second = person.top.join("second");
    person.configure(&format!("[[store]]\nname = \"second\"\npath = {:?}", second.display().to_string()));
    person.ok(["init"]);
    let ids: Vec<String> = ["one\n", "two\n", "three\n"].iter().map(|text| backup(&person, text)).collect();
    for store in [&person.store(), &second] {
        fs::remove_file(record(store, &ids[1])).unwrap();
    }
    // Both lost the same: there is nothing to wait for, and backups go on as with one store.
    person.run(["backup"]).code(13).says(&["has a gap"]);
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    // What is missing might lie in a store that is away.
    let away = second.with_extension("away");
    fs::rename(&second, &away).unwrap();
    person.fails(10, ["settle", "--yes"]).says(&["second", "what is missing may lie there"]);
    fs::rename(&away, &second).unwrap();
    let report = person.json(0, ["settle", "--yes"]);
    assert_eq!(report["left"], Value::Array(Vec::new()), "{report:#}");
    for store in ["local", "second"] {
        let list = person.json(0, ["list", "--store", store]);
        assert_eq!(list["history"], Value::Array(Vec::new()), "{list:#}");
    }
    let third = person.top.join("third");
    person.configure(&format!("[[store]]\nname = \"third\"\npath = {:?}", third.display().to_string()));
    person.ok(["init"]);
    person.json(0, ["sync"]);
    let list = person.json(0, ["list", "--store", "third"]);
    assert_eq!(
        (&list["history"], list["snapshots"].as_array().unwrap().len()),
        (&Value::Array(Vec::new()), 3),
        "{list:#}"
    );
    let newest = list["snapshots"][2]["id"].as_str().unwrap().to_owned();
    assert!(!ids.contains(&newest), "the backup that said what is wrong");
    goes_on(&person, &newest);
}

#[test]
fn of_two_histories_that_one_key_signed_a_person_names_the_one_that_stands() {
    let person = Person::set_up();
    backup(&person, "shared\n");
    let (store, home) = (person.store(), person.home.clone());
    let (store_before, home_before) = (person.top.join("store-before"), person.top.join("home-before"));
    copy(&store, &store_before);
    copy(&home, &home_before);
    let theirs = backup(&person, "theirs\n");
    let store_of_theirs = person.top.join("store-of-theirs");
    fs::rename(&store, &store_of_theirs).unwrap();
    fs::remove_dir_all(&home).unwrap();
    fs::rename(&store_before, &store).unwrap();
    fs::rename(&home_before, &home).unwrap();
    let ours = backup(&person, "ours\n");
    let merged = Command::new("cp").arg("-an").arg(store_of_theirs.join(".")).arg(&store).status().unwrap();
    assert!(merged.success());
    person.fails(13, ["show", "latest"]).says(&["forked"]);
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    person.fails(2, ["settle", "--yes"]).says(&["more than one history", &theirs, &ours, "--keep"]);
    // The new key was introduced above one of the two.
    person.fails(13, ["settle", "--yes", "--keep", &theirs]).says(&["introduces key"]);
    let report = person.json(0, ["settle", "--yes", "--keep", &ours]);
    assert_eq!(report["histories"][0]["dropped"][0], theirs.as_str(), "{report:#}");
    goes_on(&person, &ours);
    // Untrusted, not gone.
    person
        .fails(13, ["restore", &theirs, "--to", "../theirs"])
        .says(&["dropped when a fork of the history was settled"]);
    person.ok(["restore", &theirs, "--to", "../theirs", "--accept-untrusted"]);
    assert_eq!(fs::read_to_string(person.top.join("theirs/backend/app/main.py")).unwrap(), "theirs\n");
}

#[test]
fn a_store_that_went_back_is_taken_as_it_is_when_a_person_says_so() {
    let person = Person::set_up();
    let first = backup(&person, "one\n");
    let before = person.top.join("before");
    copy(&person.store(), &before);
    backup(&person, "two\n");
    fs::remove_dir_all(person.store()).unwrap();
    fs::rename(&before, person.store()).unwrap();
    person.fails(13, ["show", "latest"]).says(&["rolled back"]);
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    let report = person.json(0, ["settle", "--yes"]);
    assert_eq!(report["left"], Value::Array(Vec::new()), "{report:#}");
    goes_on(&person, &first);
}

#[test]
fn with_several_stores_a_forked_history_is_settled_in_one_and_goes_on_in_all() {
    let person = Person::set_up();
    let second = person.top.join("second");
    let block = format!("[[store]]\nname = \"second\"\npath = {:?}\n", second.display().to_string());
    person.configure(&block);
    person.ok(["init"]);
    backup(&person, "shared\n");
    let (first, home) = (person.store(), person.home.clone());
    let before = [&first, &second, &home].map(|place| {
        let before = place.with_extension("before");
        copy(place, &before);
        before
    });
    let theirs = backup(&person, "theirs\n");
    for (place, before) in [&first, &second].iter().zip(&before) {
        fs::rename(place, place.with_extension("theirs")).unwrap();
        fs::rename(before, place).unwrap();
    }
    fs::remove_dir_all(&home).unwrap();
    fs::rename(&before[2], &home).unwrap();
    let ours = backup(&person, "ours\n");
    for place in [&first, &second] {
        let theirs = place.with_extension("theirs").join(".");
        assert!(Command::new("cp").arg("-an").arg(theirs).arg(place).status().unwrap().success());
    }
    // A key that signs before it is introduced never could be: so the old one stays.
    person.fails(10, ["keys", "signer", "rotate", "--yes"]).says(&[
        "could be put into no store",
        "forked",
        "leave one [[store]]",
    ]);
    person.reconfigure(&block, "");
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    person.json(0, ["settle", "--yes", "--keep", &ours]);
    person.configure(&block);
    person.json(0, ["sync"]);
    goes_on(&person, &ours);
    for store in ["local", "second"] {
        let list = person.json(0, ["list", "--store", store]);
        assert_eq!(list["history"], Value::Array(Vec::new()), "{list:#}");
        let trusted = |row: &&Value| row["trusted"] == true;
        assert_eq!(list["snapshots"].as_array().unwrap().iter().filter(trusted).count(), 3, "{list:#}");
        let falls = list["snapshots"].as_array().unwrap().iter().find(|row| row["id"] == theirs.as_str());
        assert!(falls.is_none_or(|row| row["trusted"] == false), "{list:#}");
    }
}

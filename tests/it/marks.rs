//! Marks put by themselves: into every store, above nothing that is missing, and never lost.

use crate::common::person::Person;
use backstay::config::Config;
use backstay::model::mark::{Role, Statement, Target};
use backstay::model::{SilentProgress, SystemClock};
use backstay::ops::error::Class;
use backstay::ops::interrupt::Interrupt;
use backstay::ops::marks::{Marked, Marks};
use backstay::ops::session::{HostChoice, Session, Surroundings};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn session(person: &Person, store: Option<&str>) -> Session {
    let around = Surroundings {
        clock: Arc::new(SystemClock),
        progress: Arc::new(SilentProgress),
        interrupt: Interrupt::default(),
        exe: env!("CARGO_BIN_EXE_backstay").into(),
        identity_files: Vec::new(),
        store: store.map(str::to_owned),
        as_of: None,
        ask: backstay::keys::passphrase::nobody(),
        hosts: HostChoice::Own,
        wait: None,
    };
    Session::open(Arc::new(Config::load(&person.config_path()).unwrap()), around).unwrap()
}

/// Somebody with a second store beside the first.
fn two_stores() -> (Person, PathBuf) {
    let person = Person::set_up();
    let second = person.top.join("second");
    person.configure(&format!("[[store]]\nname = \"second\"\npath = {:?}", second.display().to_string()));
    person.ok(["init"]);
    (person, second)
}

/// Tags the newest snapshot.
fn tag(marks: &mut Marks, tag: &str) -> Marked {
    let newest = marks.vault().snapshots().last().unwrap();
    let target = Target { snapshot: newest.record.snapshot.clone(), record: newest.hash };
    let statement = Statement::Tag { target, add: vec![tag.to_owned()], remove: Vec::new() };
    marks.put(vec![statement]).unwrap()
}

fn marks_in(store: &Path) -> usize {
    let signers = fs::read_dir(store.join("marks")).unwrap().map(|dir| dir.unwrap().path());
    signers.map(|dir| fs::read_dir(dir).unwrap().count()).sum()
}

fn kept(person: &Person) -> usize {
    fs::read_dir(person.home.join(".local/state/backstay/tsushin/outbox")).map_or(0, Iterator::count)
}

/// Tags of the newest snapshot, and that nothing is wrong with the history.
fn tags(person: &Person, store: &str) -> Vec<String> {
    let list = person.json(0, ["list", "--store", store]);
    assert_eq!(list["history"], Value::Array(Vec::new()), "{list:#}");
    let newest = list["snapshots"].as_array().unwrap().last().unwrap()["tags"].clone();
    serde_json::from_value(newest).unwrap()
}

#[test]
fn a_mark_goes_into_the_only_store_and_several_follow_each_other() {
    let person = Person::set_up();
    person.backup();
    let session = session(&person, None);
    let mut marks = Marks::open(&session, "tag").unwrap();
    for word in ["one", "two"] {
        let marked = tag(&mut marks, word);
        assert!(marked.everywhere() && marked.in_store(&marks.vault().info.instance));
    }
    assert_eq!(Marks::open(&session, "tag").err().unwrap().class, Class::Busy, "the lock is held");
    drop(marks);
    assert_eq!(tags(&person, "local"), ["one", "two"]);
    person.backup();
}

#[test]
fn a_mark_goes_into_every_store_whatever_store_was_named_and_is_then_kept_no_more() {
    let (person, second) = two_stores();
    person.backup();
    let session = session(&person, Some("second"));
    let mut marks = Marks::open(&session, "tag").unwrap();
    let marked = tag(&mut marks, "everywhere");
    assert!(marked.everywhere(), "{marked:?}");
    drop(marks);
    assert_eq!(session.troubles(), []);
    assert_eq!(
        (tags(&person, "local"), tags(&person, "second")),
        (vec!["everywhere".into()], vec!["everywhere".into()])
    );
    assert_eq!(marks_in(&person.store()), marks_in(&second));
    assert_eq!(kept(&person), 0);
}

#[test]
fn a_store_that_is_away_gets_its_marks_with_the_next_backup() {
    let (person, second) = two_stores();
    person.backup();
    let away = second.with_extension("away");
    fs::rename(&second, &away).unwrap();
    let session = session(&person, None);
    let mut marks = Marks::open(&session, "tag").unwrap();
    let marked = tag(&mut marks, "late");
    assert!(marked.stores[0].has && !marked.stores[1].has, "{marked:?}");
    drop(marks);
    assert!(session.troubles()[0].what.contains("not there yet"), "{:?}", session.troubles());
    assert_eq!(kept(&person), 1);
    fs::rename(&away, &second).unwrap();
    person.backup();
    let list = person.json(0, ["list", "--store", "second"]);
    assert_eq!(list["snapshots"][0]["tags"][0], "late", "{list:#}");
    assert_eq!(kept(&person), 0);
}

#[test]
fn no_mark_goes_above_a_snapshot_that_a_store_lacks_and_none_brings_its_objects() {
    let (person, second) = two_stores();
    person.backup();
    let away = second.with_extension("away");
    fs::rename(&second, &away).unwrap();
    person.json(4, ["backup"]);
    fs::rename(&away, &second).unwrap();
    let (before, waiting) = (marks_in(&second), kept(&person));
    let session = session(&person, None);
    let mut marks = Marks::open(&session, "tag").unwrap();
    let marked = tag(&mut marks, "above");
    assert!(marked.stores[0].has && !marked.stores[1].has, "{marked:?}");
    assert!(marked.stores[1].problem.as_ref().unwrap().contains("lacks a snapshot"), "{marked:?}");
    drop(marks);
    assert_eq!(marks_in(&second), before);
    assert_eq!(kept(&person), waiting + 1, "it waits with the snapshot");
    // Also when nobody is left to ask: what is signed is kept, and its number is taken.
    let first = person.store().with_extension("away");
    fs::rename(person.store(), &first).unwrap();
    let mut marks = Marks::open(&session, "tag").unwrap();
    let marked = tag(&mut marks, "nowhere");
    assert!(!marked.stores[0].has && !marked.stores[1].has, "{marked:?}");
    drop(marks);
    fs::rename(&first, person.store()).unwrap();
    person.ok(["sync"]);
    assert_eq!(kept(&person), 0);
    assert_eq!(tags(&person, "second"), ["above"]);
    assert_eq!(tags(&person, "local"), tags(&person, "second"));
    let list = person.json(0, ["list"]);
    assert_eq!(list["snapshots"][0]["tags"][0], "nowhere", "{list:#}");
}

#[test]
fn a_store_named_by_a_path_and_a_key_that_nobody_trusts_sign_nothing() {
    let person = Person::set_up();
    person.backup();
    let copy = person.top.join("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(person.store()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let by_path = session(&person, copy.to_str());
    assert_eq!(Marks::open(&by_path, "tag").err().unwrap().class, Class::Usage);
    let session = session(&person, None);
    let marks = Marks::open(&session, "tag").unwrap();
    let host = marks.host();
    assert!(marks.counts_for(&host, Role::Host));
    drop(marks);
    let mut config = person.config();
    config["signing"].as_table_mut().unwrap().remove("trusted");
    fs::write(person.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let error = Marks::open(&self::session(&person, None), "tag").err().unwrap();
    assert_eq!(error.class, Class::Config);
    assert!(error.hint.unwrap().contains("trusted"));
}

#[test]
fn a_tag_that_is_gone_already_is_not_found_and_sync_is_named_for_the_store_that_is_behind() {
    let (person, second) = two_stores();
    person.backup();
    person.ok(["tag", "latest", "stable"]);
    let away = person.top.join("away");
    fs::rename(&second, &away).unwrap();
    person.run(["tag", "latest", "stable", "--remove"]).code(4);
    fs::rename(&away, &second).unwrap();
    person.fails(16, ["tag", "latest", "stable", "--remove"]).says(&["it has none", "`backstay sync`"]);
    person.ok(["sync"]);
    assert_eq!(tags(&person, "second"), [] as [&str; 0]);
}

use super::{lines, sound};
use crate::common::person::Person;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn component<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["components"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()
}

#[test]
fn all_is_well_after_a_backup_and_the_proof_says_whose_it_is() {
    let person = sound();
    let report = person.json(0, ["status", "--check"]);
    assert_eq!(
        (&report["state"], report["concerns"].as_array().unwrap().len()),
        (&"ok".into(), 0),
        "{report:#}"
    );
    for name in ["backend", "frontend", "settings"] {
        let c = component(&report, name);
        assert_eq!(c["newest"]["id"], c["newest_good"]["id"], "{c}");
        assert_eq!(
            (&c["last_proof"]["level"], &c["last_proof"]["self_verified"]),
            (&"read".into(), &true.into()),
            "{c}"
        );
        assert_eq!((&c["last_proof"]["store"], &c["last_proof"]["good"]), (&"local".into(), &true.into()));
    }
    let text = person.ok(["status"]);
    assert!(text.out.starts_with("all is well\n") && text.out.contains("self-verified"), "{text}");
    assert!(text.out.contains("last pruned  never") && text.out.contains("last drill     never"), "{text}");
    let line = person.ok(["status", "--check"]);
    assert!(line.out.starts_with("BACKSTAY OK - tsushin: every component has a good snapshot"), "{line}");
    assert!(line.out.contains(" | age_") && line.out.contains("stores=1 outbox=0\n"), "{line}");
    assert_eq!(line.out.lines().count(), 1, "{line}");
}

#[test]
fn a_component_that_was_never_backed_up_needs_a_person() {
    let person = Person::set_up();
    let line = person.run(["status", "--check"]).code(18);
    assert!(line.out.starts_with("BACKSTAY CRITICAL - tsushin: component "), "{line}");
    assert!(line.out.contains("is in no snapshot"), "{line}");
    person.ok(["status"]);
    person.backup();
    fs::create_dir(person.top.join("later")).unwrap();
    person.configure("[[component]]\nname = \"later\"\npath = \"../later\"");
    let line = person.run(["status", "--check"]).code(18);
    assert!(line.out.contains("component later is in no snapshot"), "{line}");
    person.reconfigure("[[component]]", "[[nonsense]]");
    person.fails(14, ["status"]).says(&["nonsense"]);
}

#[test]
fn a_good_snapshot_that_is_too_old_needs_a_person() {
    let person = sound();
    person.run(["status", "--check", "--max-age", "1h"]).code(0);
    let too_old = || person.run(["status", "--check", "--max-age", "0s"]);
    // Ages count in whole seconds: the first one passes soon.
    let mut said = too_old();
    for _ in 0..500 {
        if said.code == 18 {
            break;
        }
        said = too_old();
    }
    let said = said.code(18);
    assert!(
        said.out.contains("the newest good snapshot of ") && said.out.contains("and may be 0 seconds"),
        "{said}"
    );
}

#[test]
fn a_store_that_is_away_is_a_warning_and_all_away_is_told_from_what_is_known_here() {
    let person = sound();
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    person.ok(["init"]);
    person.backup();
    let second = person.top.join("second");
    fs::rename(&second, person.top.join("away")).unwrap();
    person.json(4, ["backup"]);
    let report = person.json(0, ["status", "--check"]);
    assert_eq!(report["state"], "warning", "{report:#}");
    assert!(report["outbox"].as_u64().unwrap() > 0, "{report:#}");
    assert!(
        lines(&report, "concerns", "state").iter().any(|l| l.contains("store second cannot be read")),
        "{report:#}"
    );
    assert!(!report["unseen"].as_array().unwrap().is_empty());
    fs::rename(person.store(), person.top.join("gone")).unwrap();
    let report = person.json(18, ["status", "--check"]);
    assert!(report["line"].as_str().unwrap().contains("no store can be reached"), "{report:#}");
    assert!(report["outbox"].as_u64().unwrap() > 0, "{report:#}");
    let text = person.ok(["status"]);
    assert!(text.out.contains("not seen: no store could be read"), "{text}");
    fs::rename(person.top.join("gone"), person.store()).unwrap();
    fs::rename(person.top.join("away"), &second).unwrap();
    let report = person.json(0, ["status"]);
    let behind = report["stores"][1]["entries_behind"].as_u64().unwrap();
    assert!(behind > 0, "{report:#}");
    person.json(0, ["backup"]);
    assert_eq!(person.json(0, ["status", "--check"])["state"], "ok");
}

#[test]
fn a_history_that_was_cut_needs_a_person() {
    let person = sound();
    person.backup();
    let newest =
        fs::read_dir(person.store().join("snapshots")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    fs::remove_file(newest).unwrap();
    let report = person.json(18, ["status", "--check"]);
    assert_eq!(report["state"], "critical", "{report:#}");
}

/// Changes a byte of an archive that no snapshot but the newest needs: of the first in `store` that is not among `known`.
fn harm_a_new_archive(store: &Path, known: &[PathBuf]) {
    let new = archives(store).into_iter().find(|name| !known.contains(name)).unwrap();
    let path = store.join("archives").join(new);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What lies in the folder of archives.
fn archives(store: &Path) -> Vec<PathBuf> {
    let top = store.join("archives");
    let folders = fs::read_dir(&top).unwrap().map(|folder| folder.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    files.map(|file| file.strip_prefix(&top).unwrap().to_owned()).collect()
}

/// What doctor says of known damage: severity and subject.
fn doctor_says(person: &Person) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(&person.run(["doctor", "--json"]).out).unwrap();
    let all = report["findings"].as_array().unwrap().clone();
    let bad =
        all.into_iter().filter(|f| f["what"].as_str().unwrap().contains("known to be damaged or missing"));
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    bad.inspect(|f| assert!(f["way_out"].as_str().unwrap().contains("`backstay sync`"), "{f}"))
        .map(|f| (text(&f["severity"]), text(&f["subject"])))
        .collect()
}

#[test]
fn known_damage_in_the_second_store_alone_is_a_warning_until_it_is_mended() {
    let person = sound();
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    person.ok(["init"]);
    person.backup();
    let (second, known) = (person.top.join("second"), archives(&person.store()));
    fs::write(person.app.join("frontend/app/new.tsx"), "export default 1\n").unwrap();
    let id = person.backup();
    assert_eq!(person.json(0, ["status", "--check"])["stores"][1]["damaged_objects"], 0);
    harm_a_new_archive(&second, &known);
    person.json(13, ["verify", "--read-data"]);
    let report = person.json(0, ["status", "--check"]);
    assert_eq!(report["state"], "warning", "{report:#}");
    let line = report["line"].as_str().unwrap();
    assert!(line.contains("1 object in store second is known to be damaged or missing"), "{line}");
    assert!(line.contains(&id), "{line}");
    let damaged = |at: usize| report["stores"][at]["damaged_objects"].as_u64().unwrap();
    assert_eq!((damaged(0), damaged(1)), (0, 1), "{report:#}");
    assert_eq!(report["stores"][1]["damaged_snapshots"], serde_json::json!([id]));
    assert!(person.ok(["status"]).out.contains("DAMAGED      1 object"));
    assert_eq!(doctor_says(&person), [("warning".to_owned(), "second".to_owned())]);
    person.json(0, ["sync"]);
    let report = person.json(0, ["status", "--check"]);
    assert_eq!((&report["state"], &report["stores"][1]["damaged_objects"]), (&"ok".into(), &0.into()));
    assert!(doctor_says(&person).is_empty());
}

#[test]
fn known_damage_of_the_newest_snapshot_in_the_only_store_needs_a_person() {
    let person = sound();
    let known = archives(&person.store());
    fs::write(person.app.join("frontend/app/new.tsx"), "export default 1\n").unwrap();
    let id = person.backup();
    harm_a_new_archive(&person.store(), &known);
    person.json(13, ["verify", "--read-data"]);
    let line = person.run(["status", "--check"]).code(18);
    let what = format!("1 object in store local is known to be damaged or missing (needed by snapshot {id})");
    assert!(line.out.starts_with("BACKSTAY CRITICAL") && line.out.contains(&what), "{line}");
    assert_eq!(doctor_says(&person), [("problem".to_owned(), "local".to_owned())]);
    // The next one packs it anew and is whole; the one that lacks it still does.
    let said = person.run(["backup"]);
    assert!([0, 13].contains(&said.code), "{said}");
    let report = person.json(0, ["status", "--check"]);
    assert_eq!(report["state"], "warning", "{report:#}");
    assert_eq!(report["stores"][0]["damaged_snapshots"], serde_json::json!([id]), "{report:#}");
    assert_eq!(doctor_says(&person), [("warning".to_owned(), "local".to_owned())]);
}

#[test]
fn a_component_that_shrank_is_told_with_what_ends_the_freeze() {
    let person = sound();
    for n in 0..20 {
        fs::write(person.app.join(format!("frontend/app/page{n}.tsx")), "x".repeat(5000)).unwrap();
    }
    for _ in 0..2 {
        person.backup();
    }
    for n in 0..20 {
        fs::remove_file(person.app.join(format!("frontend/app/page{n}.tsx"))).unwrap();
    }
    person.backup();
    let report = person.json(0, ["status", "--check"]);
    let frozen = component(&report, "frontend")["frozen"].as_array().unwrap().clone();
    assert_eq!(frozen.len(), 1, "{report:#}");
    assert!(frozen[0].as_str().unwrap().contains("it shrank by more than half in snapshot"), "{report:#}");
    assert_eq!(report["state"], "warning", "{report:#}");
    assert!(component(&report, "backend")["frozen"].as_array().unwrap().is_empty());
    person.ok(["status"]);
}

#[test]
fn a_kit_that_was_never_proved_or_is_stale_is_told_by_status_and_doctor() {
    let person = sound();
    let finding = || {
        let report: Value = serde_json::from_str(&person.run(["doctor", "--json"]).out).unwrap();
        let all = report["findings"].as_array().unwrap().clone();
        all.into_iter().find(|f| f["area"] == "kit" && f["subject"] == "recovery kit").unwrap()
    };
    let report = person.json(0, ["status", "--check"]);
    assert_eq!((&report["state"], &report["kit"]["proved"]), (&"ok".into(), &Value::Null), "{report:#}");
    assert!(person.ok(["status"]).out.contains("recovery kit   never proved on this machine"));
    assert_eq!(finding()["severity"], "warning");
    assert!(finding()["what"].as_str().unwrap().contains("no recovery kit"), "{}", finding());
    let kit = person.top.join("printed.txt");
    person.ok(["kit", "-o", kit.to_str().unwrap()]);
    person.ok(["kit", "verify", kit.to_str().unwrap()]);
    let text = person.ok(["status"]).out;
    assert!(text.contains("all is well") && text.contains("recovery kit   proved "), "{text}");
    assert_eq!(finding()["severity"], "well");
    // Another store: the kit does not know it.
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    person.ok(["init"]);
    person.backup();
    let report = person.json(0, ["status", "--check"]);
    assert_eq!((&report["state"], &report["kit"]["stale"]), (&"warning".into(), &true.into()), "{report:#}");
    let text = person.ok(["status"]).out;
    assert!(text.contains("is stale: keys or stores changed since"), "{text}");
    assert!(text.contains("backstay kit -o FILE"), "{text}");
    assert_eq!(finding()["severity"], "warning");
}

use super::{lines, sound};
use crate::common::person::Person;
use serde_json::Value;
use std::fs;

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

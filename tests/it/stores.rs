//! Several stores of one vault: one leads, the others catch up; one that is away, behind or damaged never stops the rest.

use crate::common::person::{Person, Said};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Somebody with two stores: `local` in the application's folder, and `second` beside it.
struct Two {
    person: Person,
}

impl Two {
    fn new() -> Self {
        let two = Self { person: Person::set_up() };
        let second = two.second();
        two.person
            .configure(&format!("[[store]]\nname = \"second\"\npath = {:?}", second.display().to_string()));
        two.person.ok(["init"]).says(&["made store", "the next backup fills it"]);
        two
    }

    fn second(&self) -> PathBuf {
        self.person.top.join("second")
    }

    fn first(&self) -> PathBuf {
        self.person.store()
    }

    fn backup(&self, code: i32) -> Value {
        self.person.json(code, ["backup"])
    }

    /// Takes a store away, as an unplugged disk is.
    fn unplug(store: &Path) {
        fs::rename(store, store.with_extension("away")).unwrap();
    }

    fn plug(store: &Path) {
        fs::rename(store.with_extension("away"), store).unwrap();
    }

    fn change(&self, text: &str) {
        fs::write(self.person.app.join("backend/app/main.py"), text).unwrap();
    }

    /// The main file as `snapshot` in `store` has it.
    fn main_py(&self, snapshot: &str, store: &str) -> Said {
        self.person.run(["cat", snapshot, "backend/app/main.py", "--store", store])
    }

    /// Ids of snapshots that `store` alone shows, with nothing wrong, each good.
    fn list(&self, store: &str) -> Vec<String> {
        let report = self.person.json(0, ["list", "--store", store]);
        assert_eq!(report["history"], Value::Array(Vec::new()), "{report:#}");
        assert_eq!(report["damaged"], Value::Array(Vec::new()), "{report:#}");
        let rows = report["snapshots"].as_array().unwrap();
        rows.iter().for_each(|row| assert_eq!(row["good"], true, "{row:#}"));
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Everything below the folders of a store in which objects lie, by name.
fn objects(store: &Path, folders: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|f| store.join(f)).collect();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path.strip_prefix(store).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

const SIGNED: [&str; 2] = ["snapshots", "marks"];
const DATA: [&str; 2] = ["archives", "manifests"];

fn id(report: &Value) -> String {
    report["snapshot"].as_str().unwrap().to_owned()
}

#[test]
fn a_snapshot_goes_into_every_store_and_each_holds_the_whole_history() {
    let two = Two::new();
    let report = two.backup(0);
    assert_eq!(report["problems"], Value::Array(Vec::new()), "{report:#}");
    for store in report["stores"].as_array().unwrap() {
        assert_eq!((&store["here"], &store["has_snapshot"]), (&true.into(), &true.into()), "{report:#}");
        assert_eq!(store["entries_behind"], 0, "{report:#}");
    }
    for folders in [SIGNED, DATA] {
        assert_eq!(objects(&two.first(), &folders), objects(&two.second(), &folders));
    }
    assert_eq!(two.list("local"), [id(&report)]);
    assert_eq!(two.list("second"), [id(&report)]);
    assert!(
        fs::read_dir(two.person.home.join(".local/state/backstay/tsushin/outbox")).unwrap().next().is_none()
    );
}

#[test]
fn a_store_that_was_away_for_ten_backups_catches_up_in_order_and_is_proved() {
    let two = Two::new();
    two.backup(0);
    Two::unplug(&two.second());
    let mut ids = two.list("local");
    for turn in 0..10 {
        two.change(&format!("turn {turn}\n"));
        let report = two.backup(4);
        let away = &report["stores"][1];
        assert_eq!((&away["here"], &away["has_snapshot"]), (&false.into(), &false.into()), "{report:#}");
        assert_eq!(away["entries_behind"], 2 * (turn + 1), "{report:#}");
        ids.push(id(&report));
    }
    Two::plug(&two.second());
    two.change("last\n");
    let report = two.backup(0);
    assert!(report["stores"][1]["copied_objects"].as_u64().unwrap() > 10, "{report:#}");
    ids.push(id(&report));
    assert_eq!(two.list("local"), ids);
    assert_eq!(two.list("second"), ids, "all of them, and each is good there");
    for folders in [SIGNED, DATA] {
        assert_eq!(objects(&two.first(), &folders), objects(&two.second(), &folders));
    }
    assert_eq!(two.main_py(&ids[5], "second").code(0).out, "turn 4\n");
}

#[test]
fn when_the_primary_is_away_the_next_store_leads_and_the_primary_catches_up() {
    let two = Two::new();
    two.backup(0);
    Two::unplug(&two.first());
    two.change("while it was away\n");
    let report = two.backup(4);
    assert_eq!(report["store"], "second", "{report:#}");
    Two::plug(&two.first());
    two.change("it is back\n");
    let report = two.backup(0);
    assert_eq!(report["store"], "second", "who lacks nothing leads: {report:#}");
    assert_eq!(two.list("local"), two.list("second"));
    let report = two.backup(0);
    assert_eq!(report["store"], "local", "{report:#}");
    assert_eq!(two.list("local").len(), 4);
}

#[test]
fn a_snapshot_that_only_a_lost_store_had_is_said_to_be_absent_and_the_others_stay_whole() {
    let two = Two::new();
    two.backup(0);
    Two::unplug(&two.second());
    two.change("only in the first\n");
    let lost = id(&two.backup(4));
    Two::unplug(&two.first());
    Two::plug(&two.second());
    two.change("only in the second\n");
    let kept = id(&two.backup(4));
    let there = two.list("second");
    assert!(there.contains(&kept) && !there.contains(&lost), "{there:?}");
    Two::plug(&two.first());
    // It comes back: what it has alone is valid and used, and the rest is brought.
    two.backup(0);
    let all = two.person.json(0, ["list"]);
    assert_eq!(all["history"], Value::Array(Vec::new()), "{all:#}");
    assert_eq!(two.list("local").len(), 4);
}

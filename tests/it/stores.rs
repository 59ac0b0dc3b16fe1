//! Several stores of one vault: one leads, the others catch up; one that is away, behind or damaged never stops the rest.

mod absent;
mod damaged;

use crate::common::person::{Person, Said};
use crate::common::trees::copy;
use crate::common::watched::around;
use crate::lab::noise;
use backstay::config::Config;
use backstay::ops::session::Session;
use backstay::store::testing::{FaultStore, Verb};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};

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
        // A record, its verdict, and what carries older proofs on.
        let behind = away["entries_behind"].as_u64().unwrap();
        assert!((2 * (turn + 1)..=5 * (turn + 1)).contains(&behind), "{report:#}");
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
fn what_stays_after_a_prune_is_as_proved_in_every_store_as_before() {
    let two = Two::new();
    let config = two.person.app.join("backstay.toml");
    let text = fs::read_to_string(&config).unwrap();
    let kept = |line: &&str| !line.trim_start().starts_with("keep_");
    let text: Vec<&str> = text.lines().filter(kept).collect();
    let text = text.join("\n");
    assert!(text.contains("\n[retention]\n"), "{text}");
    fs::write(&config, text.replace("\n[retention]\n", "\n[retention]\nkeep_last = 3\n")).unwrap();
    let mut ids = Vec::new();
    for turn in 0..5 {
        two.change(&format!("turn {turn}\n"));
        ids.push(id(&two.backup(0)));
    }
    // The first snapshots go, and with them their verdicts, which alone told that what all later ones refer to was proved.
    two.person.ok(["prune", "--now"]);
    let left = two.list("local");
    assert!(left.len() < ids.len() && ids.ends_with(&left), "{left:?}");
    assert_eq!(two.list("second"), left);
}

#[test]
fn each_store_keeps_what_its_own_retention_says() {
    let two = Two::new();
    let mut config = two.person.config();
    let rules = |keep: u32| -> toml::Value {
        toml::Value::Table(format!("keep_last = {keep}\nmin_keep = 1").parse().unwrap())
    };
    config.insert("retention".into(), rules(2));
    config["store"][1].as_table_mut().unwrap().insert("retention".into(), rules(5));
    fs::write(two.person.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let ids: Vec<String> = (0..6)
        .map(|turn| {
            two.change(&format!("turn {turn}\n"));
            id(&two.backup(0))
        })
        .collect();
    // Half of what may go goes in a run.
    for _ in 0..4 {
        two.person.ok(["prune", "--now"]);
    }
    assert_eq!((two.list("local"), two.list("second")), (ids[4..].to_vec(), ids[1..].to_vec()));
    // Nothing comes back from the one that keeps more, and what only that has comes from there.
    two.person.ok(["sync"]);
    assert_eq!(two.list("local"), ids[4..]);
    assert_eq!(two.main_py(&ids[1], "second").code(0).out, "turn 1\n");
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

/// Turns one byte in the middle of `file`.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

impl Two {
    /// Restores the newest snapshot and compares one file; gives what was said.
    #[track_caller]
    fn restore(&self, code: i32, main_py: &str) -> Said {
        let to = self.person.top.join("restored");
        let _ = fs::remove_dir_all(&to);
        let said = self.person.run(["restore", "latest", "--to", to.to_str().unwrap()]).code(code);
        assert_eq!(fs::read_to_string(to.join("backend/app/main.py")).unwrap(), main_py);
        assert!(to.join("db/agent.db").exists() && to.join("settings/.env").exists());
        said
    }
}

#[test]
fn a_new_store_is_filled_by_sync_with_the_whole_history() {
    let person = Person::set_up();
    let ids: Vec<String> = (0..3).map(|_| person.backup()).collect();
    let two = Two { person };
    let second = two.second();
    two.person.configure(&format!("[[store]]\nname = \"second\"\npath = {:?}", second.display().to_string()));
    two.person.run(["backup"]).code(10).error().says(&["never seen", "backstay init"]);
    two.person.ok(["init"]);
    let report = two.person.json(0, ["sync"]);
    assert_eq!(report["stores"][1]["entries_behind"], 0, "{report:#}");
    assert_eq!(two.list("second"), ids);
    assert_eq!(two.list("local"), ids);
    assert_eq!(id(&two.backup(0)), two.list("second")[3]);
    // What a fresh machine needs is in the kit: all stores.
    let kit = two.person.top.join("kit.txt");
    two.person.ok(["kit", "-o", kit.to_str().unwrap()]);
    Two::unplug(&two.first());
    let said = two.person.run(["--kit", kit.to_str().unwrap(), "cat", "latest", "settings/.env"]).code(0);
    assert_eq!(said.out, "SECRET_KEY=canary-of-the-env-file\n");
    said.says(&["store local is away"]);
}

#[test]
fn a_store_that_was_rolled_back_is_noticed_and_healed_only_by_name() {
    let two = Two::new();
    two.backup(0);
    let image = two.person.top.join("image");
    copy(&two.second(), &image);
    two.change("later\n");
    two.backup(0);
    copy(&image, &two.second());
    let before = objects(&two.second(), &SIGNED);
    two.change("last\n");
    let report = two.backup(4);
    let problem = report["stores"][1]["problem"].as_str().unwrap();
    assert!(problem.contains("shows less than it held before"), "{report:#}");
    two.person.run(["sync"]).code(4).says(&["shows less than it held before", "sync --to second"]);
    assert_eq!(objects(&two.second(), &SIGNED), before, "nothing is written to it");
    // The primary, rolled back, is noticed by whoever only reads, too, and the newest snapshot is known all the same.
    let first = two.person.top.join("first");
    copy(&two.first(), &first);
    two.person.run(["sync", "--to", "second"]).code(4).says(&["shows less than it held before"]);
    assert_eq!(two.list("second"), two.list("local"));
    assert_eq!(id(&two.backup(0)), *two.list("second").last().unwrap());
    copy(&first, &two.first());
    two.restore(4, "last\n").says(&["store local", "shows less than it held before"]);
}

#[test]
fn the_newest_entry_hidden_in_the_primary_is_noticed_because_another_store_has_it() {
    let two = Two::new();
    two.backup(0);
    two.change("newest\n");
    let newest = id(&two.backup(0));
    fs::remove_file(two.first().join(format!("snapshots/{newest}.json"))).unwrap();
    let report = two.person.json(4, ["list"]);
    assert_eq!(report["snapshots"][1]["id"], newest.as_str(), "{report:#}");
    assert_eq!(report["history"], Value::Array(Vec::new()), "another store explains it: {report:#}");
    two.restore(4, "newest\n").says(&["store local", "shows less than it held before"]);
    let report = two.backup(4);
    assert_eq!(report["store"], "second", "{report:#}");
}

#[test]
fn two_stores_with_one_instance_are_refused() {
    let person = Person::set_up();
    person.backup();
    let two = Two { person };
    copy(&two.first(), &two.second());
    let second = two.second().display().to_string();
    two.person.configure(&format!("[[store]]\nname = \"second\"\npath = {second:?}"));
    two.person.run(["init"]).code(13).says(&["same instance"]);
    let before = objects(&two.second(), &SIGNED);
    two.person.run(["backup"]).code(10).says(&["same instance"]);
    assert_eq!(objects(&two.second(), &SIGNED), before);
}

#[test]
fn a_store_that_is_lost_for_good_is_replaced_only_by_name() {
    let two = Two::new();
    two.backup(0);
    fs::remove_dir_all(two.second()).unwrap();
    two.person.fails(10, ["init"]).says(&["--replace-store second"]);
    two.backup(4);
    two.person.fails(2, ["init", "--replace-store", "local"]);
    two.person.ok(["init", "--replace-store", "second"]).says(&["made store"]);
    two.backup(0);
    assert_eq!(two.list("second"), two.list("local"));
    assert_eq!(two.list("second").len(), 3);
}

#[test]
fn a_configuration_with_several_stores_is_made_at_once() {
    let person = Person::new();
    let (a, b) = (person.top.join("a"), person.top.join("b"));
    person.ok(["init", "--yes", "--store", a.to_str().unwrap(), "--store", b.to_str().unwrap()]);
    let report = person.json(0, ["backup"]);
    assert_eq!(report["stores"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(objects(&a, &DATA), objects(&b, &DATA));
    person.fails(2, ["backup", "--store", "local"]);
    person.fails(2, ["sync", "--from", "nowhere"]);
}

#[test]
fn a_store_whose_own_file_is_damaged_is_known_by_what_it_held_and_sync_writes_it_anew() {
    let two = Two::new();
    two.backup(0);
    two.change("second\n");
    two.backup(0);
    let own = |store: &Path| store.join("backstay.json");
    let info = |store: &Path| -> Value { serde_json::from_slice(&fs::read(own(store)).unwrap()).unwrap() };
    for store in [two.first(), two.second()] {
        let before = info(&store);
        for damage in [&b"{\"format\":1,\"nee"[..], b"", &[0xff; 300]] {
            fs::write(own(&store), damage).unwrap();
            let report = two.backup(4);
            let text = report["problems"].to_string();
            assert!(text.contains("backstay.json") && text.contains("cannot be read"), "{report:#}");
            let synced = two.person.json(0, ["sync"]);
            let mended: Vec<&Value> =
                synced["stores"].as_array().unwrap().iter().map(|s| &s["mended"]).collect();
            assert!(mended.iter().any(|m| m.to_string().contains("backstay.json")), "{synced:#}");
            let after = info(&store);
            assert_eq!((&after["vault"], &after["instance"]), (&before["vault"], &before["instance"]));
            two.backup(0);
            assert_eq!(two.list("second"), two.list("local"));
        }
    }
    // What was mounted in its place instead is left alone: nothing lies there that this store was seen to hold.
    let second = two.second();
    Two::unplug(&second);
    for dir in ["snapshots", "marks", "archives", "manifests", "tombstones"] {
        fs::create_dir_all(second.join(dir)).unwrap();
    }
    fs::write(own(&second), "rubbish").unwrap();
    let synced = two.person.json(4, ["sync"]);
    assert!(synced["problems"].to_string().contains("cannot be read"), "{synced:#}");
    assert_eq!(fs::read(own(&second)).unwrap(), b"rubbish");
    // A missing one is no store, and is not made.
    fs::remove_file(own(&second)).unwrap();
    two.person.run(["sync"]).code(4);
    assert!(!own(&second).exists());
}

#[test]
fn a_store_s_own_file_may_be_written_by_hand() {
    let person = Person::set_up();
    person.backup();
    let own = person.store().join("backstay.json");
    fs::write(&own, "rubbish").unwrap();
    person.fails(13, ["list"]).says(&["backstay.json", "cannot be read", "own file"]);
    let state = person.home.join(".local/state/backstay/tsushin/vault.json");
    let seen: Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    let (vault, instance) = (&seen["vault"], &seen["stores"]["local"]);
    let line = format!(
        "{{\"format\":1,\"needs\":[],\"type\":\"store\",\"vault\":{vault},\"instance\":{instance},\"created\":\"2026-01-01T00:00:00Z\",\"agent\":\"by hand\"}}\n"
    );
    fs::write(&own, line).unwrap();
    person.backup();
    assert_eq!(person.json(0, ["list"])["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn a_plan_to_prune_is_shown_although_a_store_that_is_pruned_elsewhere_is_away() {
    let two = Two::new();
    let config = two.person.app.join("backstay.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("name = \"second\"", "name = \"second\"\nprune = \"elsewhere\""))
        .unwrap();
    two.backup(0);
    Two::unplug(&two.second());
    let plan = two.person.json(4, ["prune", "--dry-run"]);
    assert_eq!(plan["stores"].as_array().unwrap().len(), 2, "{plan:#}");
    assert_eq!(plan["stores"][0]["snapshots"].as_array().unwrap().len(), 1, "{plan:#}");
    Two::unplug(&two.first());
    two.person.run(["prune", "--dry-run"]).code(10);
}

#[test]
fn a_freeze_is_accepted_although_another_store_is_away() {
    let two = Two::new();
    let big = two.person.app.join("backend/big.bin");
    fs::write(&big, vec![7; 8 << 20]).unwrap();
    two.backup(0);
    fs::remove_file(&big).unwrap();
    let shrunk = id(&two.backup(0));
    Two::unplug(&two.second());
    let frozen = two.person.json(4, ["prune"]);
    assert_eq!(frozen["stores"][0]["frozen"][0]["accept"], shrunk.as_str(), "{frozen:#}");
    let ended = two.person.json(4, ["prune", "--accept", &shrunk]);
    assert_eq!(ended["accepted"].as_array().unwrap().len(), 1, "{ended:#}");
    assert_eq!(ended["stores"][0]["frozen"], Value::Array(Vec::new()), "{ended:#}");
}

/// What another run puts and remembers while stores are read is no reason to say that they show less than they did.
#[test]
fn stores_that_another_run_writes_to_while_they_are_read_were_not_rolled_back() {
    let person = Person::set_up();
    let config = fs::read_to_string(person.config_path()).unwrap();
    let second = "\n[[store]]\nname = \"second\"\npath = \"../second\"\n";
    fs::write(person.config_path(), format!("{config}{second}")).unwrap();
    person.ok(["init", "--yes"]);
    person.backup();
    let mut session = session_of(&person);
    let faults = FaultStore::new(Arc::clone(&session.store));
    let (backup, ran) = (Mutex::new(person.command(["backup"])), Once::new());
    faults.on_call(Arc::new(move |verb: Verb, subject: &str| {
        // Records and marks were listed by then.
        if verb == Verb::Get && subject.starts_with("marks/") {
            ran.call_once(|| assert!(backup.lock().unwrap().output().unwrap().status.success()));
        }
    }));
    session.store = Arc::new(faults);
    let vault = session.read_vault().unwrap();
    assert_eq!(vault.snapshots().count(), 1, "the other snapshot came later");
    assert_eq!((vault.history.breaks.len(), session.troubles().len()), (0, 0), "{:?}", session.troubles());
    assert_eq!(session.read_vault().unwrap().snapshots().count(), 2);
}

fn session_of(person: &Person) -> Session {
    Session::open(Arc::new(Config::load(&person.config_path()).unwrap()), around()).unwrap()
}

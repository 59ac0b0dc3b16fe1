//! `verify`: whatever happens to any object is found by the level that promises it, named with what it costs, and mended from another store.

use crate::common::long::{in_time, long};
use crate::common::person::{Person, Said};
use crate::common::project::noise;
use crate::common::watched::around;
use backstay::config::Config;
use backstay::model::ProblemKind;
use backstay::model::clock::FixedClock;
use backstay::ops::backup::BackupOptions;
use backstay::ops::session::Session;
use backstay::ops::{drill, verify};
use backstay::store::testing::{Damage, Fault, FaultStore, Verb};
use backstay::store::{Key, Prefix, StoreErrorKind};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Somebody with two stores, `local` and `second`, and two snapshots. The big file has more than 256 stretches, so it has a map.
struct Two {
    person: Person,
    ids: Vec<String>,
}

const BIG: u64 = 600 * 16_384;

impl Two {
    fn new() -> Self {
        let person = Person::set_up();
        fs::write(person.app.join("backend/app/big.bin"), noise(1, BIG as usize)).unwrap();
        let second = person.top.join("second").display().to_string();
        person.configure(&format!("[[store]]\nname = \"second\"\npath = {second:?}"));
        person.ok(["init"]);
        let mut two = Self { person, ids: Vec::new() };
        two.backup();
        let file = fs::File::options().write(true).open(two.person.app.join("backend/app/big.bin")).unwrap();
        for block in (0..600).step_by(2) {
            file.write_all_at(&noise(block + 7, 100), block * 16_384).unwrap();
        }
        fs::write(two.person.app.join("frontend/app/page.tsx"), "changed\n").unwrap();
        two.backup();
        two
    }

    fn backup(&mut self) {
        let mut command = self.person.command(["backup", "--json"]);
        let said: Said = command.env("BACKSTAY_TEST_SETTLE_MS", "0").output().unwrap().into();
        let report: Value = serde_json::from_str(&said.code(0).out).unwrap();
        self.ids.push(report["snapshot"].as_str().unwrap().to_owned());
    }

    fn local(&self) -> PathBuf {
        self.person.store()
    }

    fn verify(&self, code: i32, args: &[&str]) -> Value {
        self.person.json(code, [&["verify", "--store", "local"], args].concat())
    }
}

/// Every object of a store, by key.
fn keys(store: &Path) -> Vec<Key> {
    let (mut found, mut waiting) = (Vec::new(), vec![store.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if let Some(key) = Key::parse(path.strip_prefix(store).unwrap().to_str().unwrap()) {
                found.push(key);
            }
        }
    }
    found.sort();
    found
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Missing,
    Emptied,
    Cut,
    Longer,
    Swapped,
    Flipped,
}

const HARMS: [Harm; 6] =
    [Harm::Missing, Harm::Emptied, Harm::Cut, Harm::Longer, Harm::Swapped, Harm::Flipped];

fn harm(path: &Path, harm: Harm, other: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Missing => return fs::remove_file(path).unwrap(),
        Harm::Emptied => bytes.clear(),
        Harm::Cut => bytes.truncate(bytes.len() - 1),
        Harm::Longer => bytes.push(0),
        Harm::Swapped => {
            // As long as it was: the size must not give it away.
            let length = bytes.len();
            bytes = other.iter().copied().cycle().take(length).collect();
        }
        Harm::Flipped => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }
    fs::write(path, bytes).unwrap();
}

fn damaged<'r>(report: &'r Value, key: &Key) -> &'r Value {
    let all = report["damage"].as_array().unwrap();
    let found = all.iter().find(|d| d["object"] == key.to_string().as_str());
    found.unwrap_or_else(|| panic!("{key} is not named: {report:#}"))
}

#[test]
fn every_harm_to_every_data_object_is_found_named_and_mended_by_sync() {
    let two = Two::new();
    let report = two.verify(0, &["--decrypt"]);
    assert_eq!(report["stores"][0]["whole"], 2, "{report:#}");
    assert!(report["stores"][0]["files"].as_u64().unwrap() > 5, "{report:#}");
    assert!(report["stores"][0]["databases"].as_u64().unwrap() > 0, "{report:#}");
    let data: Vec<Key> =
        keys(&two.local()).into_iter().filter(|k| matches!(k, Key::Archive(_) | Key::Manifest(_))).collect();
    assert!(data.len() > 10, "{data:?}");
    let mut named = 0;
    for (at, key) in in_time(data.iter().enumerate().collect()) {
        let other = fs::read(two.local().join(data[(at + 1) % data.len()].to_string())).unwrap();
        let path = two.local().join(key.to_string());
        // Every harm to each fifth, one in turn to the others; with the long tests every harm to each.
        let chosen: Vec<Harm> =
            if long() || at % 5 < 1 { HARMS.to_vec() } else { vec![HARMS[at % HARMS.len()]] };
        for kind in chosen {
            harm(&path, kind, &other);
            let by_size = !matches!(kind, Harm::Swapped | Harm::Flipped);
            if by_size {
                let report = two.verify(13, &[]);
                damaged(&report, key);
            }
            let report = two.verify(13, &["--read-data"]);
            let found = damaged(&report, key);
            let snapshots = found["snapshots"].as_array().unwrap();
            assert!(!snapshots.is_empty(), "{key} {kind:?}: {found:#}");
            assert_eq!(found["opened"], true, "{key} {kind:?}: {found:#}");
            named += usize::from(!found["paths"].as_array().unwrap().is_empty());
            if matches!(key, Key::Manifest(_)) || matches!(kind, Harm::Missing | Harm::Emptied) {
                assert!(!found["paths"].as_array().unwrap().is_empty(), "{key} {kind:?}: {found:#}");
            }
            let report = two.person.json(13, ["verify", "--read-data"]);
            let found = damaged(&report, key);
            assert_eq!(found["elsewhere"], serde_json::json!(["second"]), "{key} {kind:?}: {found:#}");
            assert_eq!(report["damage"].as_array().unwrap().len(), 1, "{report:#}");
            let synced = two.person.json(0, ["sync", "--to", "local"]);
            assert_eq!(synced["stores"][0]["mended"], serde_json::json!([key.to_string()]), "{synced:#}");
            two.verify(0, &["--read-data"]);
        }
    }
    assert!(named > data.len() / 2, "{named} of {}", data.len());
    two.verify(0, &["--decrypt"]);
}

#[test]
fn damaged_documents_and_instructions_are_found_named_and_mended_by_sync() {
    let two = Two::new();
    let documents: Vec<Key> = keys(&two.local())
        .into_iter()
        .filter(|k| !matches!(k, Key::Archive(_) | Key::Manifest(_) | Key::Store))
        .collect();
    assert!(documents.len() > 6, "{documents:?}");
    for (at, key) in documents.iter().enumerate() {
        let path = two.local().join(key.to_string());
        let other = fs::read(two.local().join(documents[(at + 1) % documents.len()].to_string())).unwrap();
        for kind in [Harm::Emptied, Harm::Cut, Harm::Swapped, Harm::Flipped] {
            harm(&path, kind, &other);
            let report = two.person.json(13, ["verify"]);
            let is_signature = matches!(key, Key::RecoverMdSig | Key::RecoverPySig);
            let named = if is_signature {
                report["damage"].as_array().unwrap().first()
            } else {
                Some(damaged(&report, key))
            };
            let found = named.unwrap_or_else(|| panic!("{key} {kind:?}: {report:#}"));
            assert_eq!((&found["kind"], &found["store"]), (&"document".into(), &"local".into()), "{found:#}");
            if let Key::Record(id) = key {
                assert_eq!(found["snapshots"][0], id.as_str(), "{found:#}");
            }
            let said = two.person.run(["sync", "--to", "local"]);
            // That it showed less when it was read is said (4).
            assert!([0, 4].contains(&said.code), "{key} {kind:?}\n{said}");
            two.person.json(0, ["verify"]);
        }
        // One that is gone: of a document the history says it, the instructions are named.
        fs::remove_file(&path).unwrap();
        let report = two.person.json(13, ["verify"]);
        let said = [&report["damage"], &report["history"]].iter().any(|l| !l.as_array().unwrap().is_empty());
        assert!(said, "{key}: {report:#}");
        let said = two.person.run(["sync", "--to", "local"]);
        assert!([0, 4].contains(&said.code), "{key}\n{said}");
        two.person.json(0, ["verify"]);
    }
}

#[test]
fn a_damaged_backstay_json_is_damage_and_the_other_store_is_verified() {
    let two = Two::new();
    let path = two.local().join("backstay.json");
    let whole = fs::read(&path).unwrap();
    for bytes in [&b""[..], &whole[..20], b"{}\n"] {
        fs::write(&path, bytes).unwrap();
        let report = two.person.json(13, ["verify", "--read-data"]);
        assert_eq!(report["damage"][0]["object"], "backstay.json", "{report:#}");
        assert_eq!(report["stores"][1]["whole"], 2, "{report:#}");
    }
}

#[test]
fn without_an_identity_damage_is_named_down_to_the_snapshot() {
    let two = Two::new();
    fs::remove_file(two.person.identity()).unwrap();
    let key = keys(&two.local()).into_iter().find(|k| matches!(k, Key::Archive(_))).unwrap();
    harm(&two.local().join(key.to_string()), Harm::Flipped, b"");
    let report = two.verify(13, &["--read-data"]);
    let found = damaged(&report, &key);
    assert_eq!((&found["opened"], &found["paths"]), (&false.into(), &serde_json::json!([])), "{found:#}");
    assert!(!found["snapshots"].as_array().unwrap().is_empty(), "{found:#}");
    two.person.fails(12, ["verify", "--decrypt"]).says(&["-i FILE", "--kit FILE"]);
    // The kit opens it, and signs nothing.
    let kit = two.person.kit().display().to_string();
    let report = two.person.json(13, ["--kit", &kit, "verify", "--store", "local", "--read-data"]);
    assert_eq!(damaged(&report, &key)["opened"], true, "{report:#}");
    assert!(report["not_signed"].as_str().unwrap().contains("kit"), "{report:#}");
}

fn row(list: &Value, at: usize) -> &Value {
    &list["snapshots"][at]
}

#[test]
fn what_is_found_is_signed_and_lists_show_it_until_it_is_proved_again() {
    let person = Person::set_up();
    let id = person.backup();
    let key = keys(&person.store()).into_iter().find(|k| matches!(k, Key::Archive(_))).unwrap();
    let path = person.store().join(key.to_string());
    let whole = fs::read(&path).unwrap();
    harm(&path, Harm::Flipped, b"");
    let said = person.run(["verify", "--read-data"]).code(13);
    assert!(said.out.contains(&format!("DAMAGED {key}")) && said.out.contains("way out: "), "{said}");
    assert!(said.out.contains(&format!("needed by {id}")) && said.out.contains("lost here: "), "{said}");
    let list = person.json(0, ["list"]);
    assert_eq!(row(&list, 0)["good"], false, "{list:#}");
    assert_eq!(row(&list, 0)["proofs"][0]["bad"][0], key.to_string().as_str(), "{list:#}");
    assert!(person.ok(["list"]).out.contains("DAMAGED"));
    let show = person.ok(["show", &id]).out;
    assert!(show.contains("1 object DAMAGED") && show.contains("read: not good"), "{show}");
    // To be there proves nothing: a look alone reads what was bad.
    fs::write(&path, &whole).unwrap();
    person.ok(["verify"]);
    let list = person.json(0, ["list"]);
    assert_eq!(
        (&row(&list, 0)["good"], &row(&list, 0)["proofs"][0]["bad"]),
        (&true.into(), &serde_json::json!([]))
    );
}

#[test]
fn damage_in_the_only_store_is_packed_anew_by_the_next_backup() {
    let person = Person::set_up();
    person.backup();
    for key in keys(&person.store()).into_iter().filter(|k| matches!(k, Key::Archive(_) | Key::Manifest(_))) {
        harm(&person.store().join(key.to_string()), Harm::Flipped, b"");
    }
    person.json(13, ["verify", "--read-data"]);
    let said = person.run(["backup", "--json"]);
    assert!([0, 13].contains(&said.code), "what is lost may be said again: {said}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let id = report["snapshot"].as_str().unwrap().to_owned();
    let report = person.json(0, ["verify", &id, "--decrypt"]);
    assert_eq!(report["stores"][0]["whole"], 1, "{report:#}");
    person.ok(["restore", &id, "--to", "../back"]);
    // What was only there is still lost, and still said.
    person.json(13, ["verify"]);
}

#[test]
fn a_part_a_day_comes_round_to_everything_oldest_proofs_first() {
    let person = Person::set_up();
    for n in 0..6 {
        fs::write(person.app.join("backend/app/data.bin"), noise(n, 300_000)).unwrap();
        person.backup();
    }
    let total = person.json(0, ["verify"])["stores"][0]["objects"].as_u64().unwrap();
    let mut read = 0;
    for _ in 0..4 {
        let report = person.json(0, ["verify", "--read-data=25"]);
        let store = &report["stores"][0];
        assert!(
            store["read_bytes"].as_u64().unwrap() * 100 >= store["bytes"].as_u64().unwrap() * 25,
            "{report:#}"
        );
        assert!(store["read_objects"].as_u64().unwrap() < total, "{report:#}");
        read += store["read_objects"].as_u64().unwrap();
    }
    assert!(read >= total, "{read} of {total}");
    person.fails_usage(["verify", "--read-data=0"]);
    person.fails_usage(["verify", "--read-data=101"]);
}

impl Person {
    fn fails_usage<const N: usize>(&self, args: [&str; N]) {
        assert!(self.run(args).code(2).err.contains("part of 100"));
    }
}

#[test]
fn a_hidden_snapshot_and_a_store_that_was_rolled_back_are_found() {
    let two = Two::new();
    let newest = &two.local().join(format!("snapshots/{}.json", two.ids[1]));
    let bytes = fs::read(newest).unwrap();
    fs::remove_file(newest).unwrap();
    let report = two.person.json(13, ["verify"]);
    assert!(report["history"][0].as_str().unwrap().starts_with("store local: "), "{report:#}");
    assert_eq!(report["stores"][0]["lacking"][0], two.ids[1].as_str(), "{report:#}");
    // By itself, too, and with the kit as the only witness.
    two.verify(13, &[]);
    fs::write(newest, bytes).unwrap();
    two.person.json(0, ["verify"]);
    let kit = two.person.top.join("late-kit.txt").display().to_string();
    two.person.ok(["kit", "-o", &kit]);
    for name in ["snapshots", "marks"] {
        let copy = two.local().join(name);
        fs::remove_dir_all(&copy).unwrap();
        fs::create_dir(&copy).unwrap();
    }
    let report = two.person.json(13, ["--kit", &kit, "verify", "--store", "local"]);
    assert!(report["history"][0].as_str().unwrap().contains("rolled back"), "{report:#}");
}

#[test]
fn a_store_that_is_away_keeps_nobody_from_verifying_the_other() {
    let two = Two::new();
    let away = two.local().with_extension("away");
    fs::rename(two.local(), &away).unwrap();
    let report = two.person.json(4, ["verify", "--read-data"]);
    assert!(report["stores"][0]["problem"].is_string(), "{report:#}");
    assert_eq!(report["stores"][1]["whole"], 2, "{report:#}");
    fs::rename(two.person.top.join("second"), two.person.top.join("second.away")).unwrap();
    two.person.fails(10, ["verify"]);
}

#[test]
fn a_verifier_without_components_proves_other_hosts_snapshots_and_its_word_counts() {
    let two = Two::new();
    // A machine of its own: another key, no identity, no components.
    let other = Person::new();
    other.ok(["init", "--yes"]);
    let mut config = other.config();
    let own = config["signing"]["trusted"][0]["key"].as_str().unwrap().to_owned();
    let host = two.person.config()["signing"]["trusted"][0]["key"].as_str().unwrap().to_owned();
    let trusted = |key: &str, name: &str, roles: &[&str]| {
        let mut entry = toml::Table::new();
        entry.insert("key".into(), key.into());
        entry.insert("name".into(), name.into());
        entry.insert("roles".into(), roles.to_vec().into());
        toml::Value::Table(entry)
    };
    let keys = [trusted(&host, "web-1", &["host"]), trusted(&own, "verifier", &["verify"])];
    config.remove("component");
    config.remove("encryption");
    config["project"].as_table_mut().unwrap().remove("vault");
    config["signing"].as_table_mut().unwrap().insert("trusted".into(), keys.to_vec().into());
    let store = &mut config["store"].as_array_mut().unwrap()[0];
    store.as_table_mut().unwrap().insert("path".into(), two.local().display().to_string().into());
    let state = other.home.join("verifier-state").display().to_string();
    config["state"].as_table_mut().unwrap().insert("dir".into(), state.into());
    fs::write(other.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let report = other.json(0, ["verify", "--read-data"]);
    assert_eq!(report["stores"][0]["whole"], 2, "{report:#}");
    assert!(report["verdicts"].as_u64().unwrap() > 0 && report["not_signed"].is_null(), "{report:#}");
    // The host that trusts it sees that it is not its own word alone any more.
    let before = two.person.json(0, ["show", "latest", "--store", "local"]);
    assert_eq!(before["proofs"][0]["self_verified"], true, "{before:#}");
    let mut config = two.person.config();
    config["signing"]["trusted"].as_array_mut().unwrap().push(trusted(&own, "verifier", &["verify"]));
    fs::write(two.person.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let after = two.person.json(0, ["show", "latest", "--store", "local"]);
    assert_eq!(after["proofs"][0]["self_verified"], false, "{after:#}");
    // Without the role nothing that counts could be said, and that is no success.
    let mut config = other.config();
    config["signing"]["trusted"].as_array_mut().unwrap()[1] = trusted(&own, "verifier", &["prune"]);
    fs::write(other.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let report = other.json(14, ["verify", "--read-data"]);
    assert!(report["not_signed"].as_str().unwrap().contains("role verify"), "{report:#}");
}

/// A session whose store does what it is told.
fn faulty(person: &Person) -> (Session, Arc<FaultStore>) {
    let config = Config::load(&person.config_path()).unwrap();
    let mut session = Session::open(Arc::new(config), around()).unwrap();
    let store = Arc::new(FaultStore::new(Arc::clone(&session.store)));
    session.store = Arc::clone(&store) as Arc<dyn backstay::store::Store>;
    (session, store)
}

fn options(read_data: Option<f64>, decrypt: bool) -> verify::VerifyOptions {
    verify::VerifyOptions { read_data, decrypt, ..Default::default() }
}

#[test]
fn what_is_right_at_the_second_fetch_is_a_warning_and_no_damage() {
    let person = Person::set_up();
    person.backup();
    for verb in [Verb::ReadBack, Verb::Head] {
        let (session, store) = faulty(&person);
        let read_data = (verb == Verb::ReadBack).then_some(100.0);
        store.fail_nth(verb, 2, StoreErrorKind::Corrupt);
        let report = verify::run(&session, &options(read_data, false)).unwrap();
        assert_eq!(report.damage.len(), 0, "{report:?}");
        let warning = report.problems.iter().find(|p| p.what.contains("fetched again")).unwrap();
        assert_eq!(warning.kind, ProblemKind::Warning);
        assert_eq!(report.stores[0].whole, 1, "{report:?}");
    }
}

#[test]
fn a_store_that_stops_answering_is_no_damage() {
    let person = Person::set_up();
    person.backup();
    let away = |verb, nth| Fault {
        verb: Some(verb),
        nth,
        kind: StoreErrorKind::Unreachable,
        after: false,
        lasting: true,
    };
    let runs = [
        (Verb::Head, 3, options(None, false)),
        (Verb::ReadBack, 3, options(Some(100.0), false)),
        (Verb::GetRange, 2, options(None, true)),
    ];
    for (verb, nth, options) in runs {
        let (session, store) = faulty(&person);
        store.fail(away(verb, nth));
        let report = verify::run(&session, &options).unwrap();
        assert_eq!(report.damage.len(), 0, "{verb:?}: {report:?}");
        assert!(report.stores[0].problem.is_some(), "{verb:?}: {report:?}");
    }
    let (session, store) = faulty(&person);
    store.fail(away(Verb::GetRange, 2));
    let report = drill::run(&session, &drill::DrillOptions::default()).unwrap();
    assert_eq!((report.outcome, report.verdicts), (drill::Outcome::Inconclusive, 0), "{report:?}");
    // Nothing bad was signed: the snapshot is as good as before.
    let list = person.json(0, ["list"]);
    assert_eq!(row(&list, 0)["good"], true, "{list:#}");
}

#[test]
fn an_old_object_that_cannot_be_read_is_packed_anew_and_stops_no_backup() {
    let person = Person::set_up();
    person.backup();
    let (first, _) = faulty(&person);
    let archives = first.store.list(Prefix::Archives).unwrap();
    let told: Vec<bool> = (0..2)
        .map(|_| {
            let (mut session, store) = faulty(&person);
            archives.iter().for_each(|archive| store.damage(&archive.key, Damage::Unreadable));
            // What was proved within a day is not read again.
            let ahead = jiff::SignedDuration::from_hours(48);
            session.around.clock = Arc::new(FixedClock(jiff::Timestamp::now() + ahead));
            let report = backstay::ops::backup::run(&session, &BackupOptions::default()).unwrap();
            report.problems.iter().any(|p| p.kind == ProblemKind::Damaged)
        })
        .collect();
    assert_eq!(told, [true, false], "told once, and then it is needed no more");
}

#[test]
fn a_store_that_says_an_object_is_there_and_does_not_give_it_is_found_by_reading() {
    let person = Person::set_up();
    person.backup();
    let key = keys(&person.store()).into_iter().find(|k| matches!(k, Key::Archive(_))).unwrap();
    let (session, store) = faulty(&person);
    store.damage(&key, Damage::Truncate(10));
    let report = verify::run(&session, &options(None, false)).unwrap();
    assert_eq!(report.damage.len(), 0, "a look finds nothing: {report:?}");
    let report = verify::run(&session, &options(Some(100.0), false)).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(report.damage[0].object, key.to_string());
    // And one that hides what it has is found by a look.
    let key = keys(&person.store()).into_iter().find(|k| matches!(k, Key::Manifest(_))).unwrap();
    let (session, store) = faulty(&person);
    store.hide(&key);
    let report = verify::run(&session, &options(None, false)).unwrap();
    assert_eq!(report.damage[0].object, key.to_string(), "{report:?}");
}

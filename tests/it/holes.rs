//! What was deleted everywhere is a hole in a store that is made afterwards. Its signer may be gone by then; the vault must come whole again all
//! the same, and what a store had and lost must stay a hole.

use crate::common::person::{Person, Said};
use crate::recover::Fresh;
use backstay::keys::{Signer, seal_document};
use backstay::model::document::{self, namespace};
use backstay::model::mark::{Mark, Removed, Statement};
use backstay::model::{HostId, ObjectId};
use backstay::store::Key;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const NOTHING: Value = Value::Array(Vec::new());

/// Somebody with two stores, who keeps the three newest snapshots.
struct Two {
    person: Person,
}

impl Two {
    fn new() -> Self {
        let two = Self { person: Person::set_up() };
        two.person.reconfigure("keep_within", "keep_last = 3 #");
        two.add("second");
        two
    }

    fn place(&self, name: &str) -> PathBuf {
        if name == "local" { self.person.store() } else { self.person.top.join(name) }
    }

    fn add(&self, name: &str) {
        let path = self.place(name).display().to_string();
        self.person.configure(&format!("[[store]]\nname = {name:?}\npath = {path:?}"));
        self.person.ok(["init"]);
    }

    fn change(&self, text: &str) {
        fs::write(self.person.app.join("backend/app/main.py"), text).unwrap();
    }

    /// Five snapshots, of which some are deleted in both stores.
    fn pruned(&self) {
        for turn in 0..5 {
            self.change(&format!("turn {turn}\n"));
            self.person.backup();
        }
        self.person.json(0, ["prune", "--now"]);
    }

    fn replace(&self, name: &str) {
        fs::remove_dir_all(self.place(name)).unwrap();
        self.person.ok(["init", "--replace-store", name]);
    }

    /// Every store shows the same snapshots, and a history with nothing wrong, alone and with the others.
    #[track_caller]
    fn is_whole(&self, names: &[&str]) {
        let all = self.person.json(0, ["list"]);
        assert_eq!(all["history"], NOTHING, "{all:#}");
        let lists: Vec<Vec<String>> = names.iter().map(|name| ids(&self.person, name)).collect();
        assert!(lists.windows(2).all(|pair| pair[0] == pair[1]), "{lists:?}");
        self.person.json(0, ["prune", "--now"]);
        let synced = self.person.json(0, ["sync"]);
        let stores = synced["stores"].as_array().unwrap();
        assert!(stores.iter().all(|store| store["entries_behind"] == 0), "{synced:#}");
    }
}

#[track_caller]
fn ids(person: &Person, store: &str) -> Vec<String> {
    let list = person.json(0, ["list", "--store", store]);
    assert_eq!((&list["history"], &list["damaged"]), (&NOTHING, &NOTHING), "{list:#}");
    list["snapshots"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// The store's own script finds nothing wrong with it either.
#[track_caller]
fn script_agrees(store: &Path, kit: &Path) {
    let mut python = Command::new("python3");
    python.arg("-B").arg(store.join("recover.py")).arg(store).arg("--kit").arg(kit).arg("list");
    let said = Said::from(python.output().unwrap()).code(0);
    assert!(!said.out.contains("missing") && !said.err.contains("missing"), "{said}");
}

#[test]
fn a_store_that_is_replaced_after_the_signing_key_was_exchanged_comes_whole_again() {
    let two = Two::new();
    two.pruned();
    two.person.json(0, ["keys", "signer", "rotate", "--yes"]);
    two.replace("second");
    for turn in 5..7 {
        two.change(&format!("turn {turn}\n"));
        let report = two.person.json(0, ["backup"]);
        assert_eq!((&report["history"], &report["problems"]), (&NOTHING, &NOTHING), "{report:#}");
    }
    two.is_whole(&["local", "second"]);
    let kit = two.person.top.join("new-kit.txt");
    two.person.ok(["kit", "-o", kit.to_str().unwrap()]);
    script_agrees(&two.place("second"), &kit);
}

#[test]
fn sync_fills_a_new_store_with_what_an_earlier_key_signed() {
    let two = Two::new();
    two.pruned();
    two.person.json(0, ["keys", "signer", "rotate", "--yes"]);
    two.add("third");
    let report = two.person.json(0, ["sync"]);
    assert_eq!(report["history"], NOTHING, "{report:#}");
    two.is_whole(&["local", "second", "third"]);
}

#[test]
fn a_snapshot_of_an_earlier_key_that_nobody_wants_is_no_hole_in_a_new_store() {
    let two = Two::new();
    two.pruned();
    let unwanted = ids(&two.person, "local")[1].clone();
    two.person.ok(["delete", &unwanted, "--yes"]);
    two.person.json(0, ["keys", "signer", "rotate", "--yes"]);
    two.replace("second");
    two.change("later\n");
    let report = two.person.json(0, ["backup"]);
    assert_eq!((&report["history"], &report["problems"]), (&NOTHING, &NOTHING), "{report:#}");
    assert!(!ids(&two.person, "second").contains(&unwanted));
}

#[test]
fn a_store_that_died_with_the_machine_comes_whole_again_after_recover() {
    let two = Two::new();
    two.pruned();
    let kit = two.person.top.join("kit.txt");
    two.person.ok(["kit", "-o", kit.to_str().unwrap()]);
    fs::remove_dir_all(&two.person.app).unwrap();
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let args = ["recover", kit.to_str().unwrap(), "--to", app.to_str().unwrap(), "--yes"];
    // The new store gets all that was, and what is signed now, with the first backup.
    fresh.json(4, &fresh.top, &args);
    for turn in 5..7 {
        fs::write(app.join("backend/app/main.py"), format!("turn {turn}\n")).unwrap();
        let report = fresh.json(0, &app, &["backup"]);
        assert_eq!((&report["history"], &report["problems"]), (&NOTHING, &NOTHING), "{report:#}");
    }
    let list = |name: &str| {
        let list = fresh.json(0, &app, &["list", "--store", name]);
        assert_eq!(list["history"], NOTHING, "{list:#}");
        list["snapshots"].clone()
    };
    let count = |rows: Value| rows.as_array().unwrap().len();
    assert_eq!(count(list("local")), count(list("second")));
    // The kit that was printed before knows one key, and believes what that said.
    let old = fresh.json(
        0,
        &fresh.top,
        &["--kit", kit.to_str().unwrap(), "list", "--store", app.join("backups").to_str().unwrap()],
    );
    assert_eq!(old["history"], NOTHING, "{old:#}");
    fresh.json(0, &app, &["prune", "--now"]);
    fresh.json(0, &app, &["sync"]);
    let new = fresh.top.join("new-kit.txt");
    fresh.run(&app, &["kit", "-o", new.to_str().unwrap()]).code(0);
    script_agrees(&app.join("backups"), &new);
}

/// A record that a store had, and lost by accident, is not excused because another store let it go.
#[test]
fn what_a_store_lost_is_not_called_deleted() {
    let two = Two::new();
    // `local` keeps everything.
    let text = fs::read_to_string(two.person.config_path()).unwrap();
    fs::write(
        two.person.config_path(),
        text.replacen("path = \"backups\"", "path = \"backups\"\nprune = \"elsewhere\"", 1),
    )
    .unwrap();
    two.pruned();
    let (kept, left) = (ids(&two.person, "local"), ids(&two.person, "second"));
    let lost = kept.iter().find(|id| !left.contains(id)).unwrap();
    two.person.json(0, ["keys", "signer", "rotate", "--yes"]);
    fs::remove_file(two.person.store().join(format!("snapshots/{lost}.json"))).unwrap();
    // It was made long before.
    let own = two.person.store().join("backstay.json");
    let mut info: Value = serde_json::from_slice(&fs::read(&own).unwrap()).unwrap();
    info["created"] = "2020-01-01T00:00:00Z".into();
    fs::write(&own, format!("{info}\n")).unwrap();
    // Also for a machine that remembers nothing of these stores.
    for state in [".local/state/backstay/tsushin/instances.json", ".local/state/backstay/tsushin/heads.json"]
    {
        fs::remove_file(two.person.home.join(state)).unwrap();
    }
    two.change("later\n");
    two.person.json(13, ["backup"]);
    two.person.json(13, ["list"]);
    two.person.run(["prune", "--now"]).code(13).says(&["the history is not whole"]);
}

/// Anybody who may put can sign, in his own name, that any number of anybody is gone.
#[test]
fn what_a_stranger_calls_gone_is_no_hole_that_a_host_fills() {
    let two = Two::new();
    two.person.backup();
    let signers = two.person.store().join("marks");
    let own = fs::read_dir(&signers).unwrap().next().unwrap().unwrap().path();
    let mark = fs::read_dir(own).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(mark).unwrap();
    let model: Mark = document::parse(document::split(&bytes).unwrap().0, "mark").unwrap();
    let stranger = Signer::generate().unwrap();
    let info: Value =
        serde_json::from_slice(&fs::read(two.person.store().join("backstay.json")).unwrap()).unwrap();
    let removed =
        vec![Removed { signer: model.signer, number: 500, hash: ObjectId::of(b"x"), snapshot: None }];
    let statement =
        Statement::Prune { instance: info["instance"].as_str().unwrap().parse().unwrap(), removed };
    let mark = Mark {
        host: HostId::from(stranger.id()),
        signer: stranger.id(),
        number: 1,
        previous: None,
        statement,
        ..model
    };
    let (document, _) = seal_document(&mark, &stranger, namespace::MARK).unwrap();
    for store in [two.place("local"), two.place("second")] {
        let file = store.join(Key::Mark(stranger.id(), 1).to_string());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &document).unwrap();
    }
    two.add("third");
    two.person.json(0, ["sync"]);
    two.change("later\n");
    two.person.backup();
    two.is_whole(&["local", "second", "third"]);
}

/// A machine that uses the same stores, with a key of its own and nothing to protect.
struct Helper {
    dir: PathBuf,
    key: Signer,
}

/// A host, a machine that verifies, and one that prunes.
struct Fleet {
    two: Two,
    verifier: Helper,
    pruner: Helper,
}

impl Fleet {
    fn new() -> Self {
        let two = Two::new();
        let make = |name: &str| {
            let dir = two.person.top.join(name);
            fs::create_dir(&dir).unwrap();
            let key = Signer::generate().unwrap();
            key.write(&dir.join("key")).unwrap();
            Helper { dir, key }
        };
        let (verifier, pruner) = (make("verifier"), make("pruner"));
        let fleet = Self { two, verifier, pruner };
        let mut config = fleet.two.person.config();
        let trusted = config["signing"]["trusted"].as_array_mut().unwrap();
        for (helper, role) in [(&fleet.verifier, "verify"), (&fleet.pruner, "prune")] {
            let entry = format!("key = {:?}\nname = {role:?}\nroles = [{role:?}]", helper.key.public_text());
            trusted.push(toml::Value::Table(entry.parse().unwrap()));
        }
        fs::write(fleet.two.person.config_path(), toml::to_string(&config).unwrap()).unwrap();
        fleet.uses(&["local", "second"]);
        fleet
    }

    /// Lets the two machines use these stores.
    fn uses(&self, names: &[&str]) {
        let own = self.two.person.config();
        let host = own["signing"]["trusted"][0]["key"].as_str().unwrap().to_owned();
        let store = |name: &&str| format!("[[store]]\nname = {name:?}\npath = {:?}\n", self.two.place(name));
        let stores: String = names.iter().map(store).collect();
        let key = |key: &str, role: &str| format!("{{ key = {key:?}, name = {role:?}, roles = [{role:?}] }}");
        let (verify, prune) = (self.verifier.key.public_text(), self.pruner.key.public_text());
        let trusted = [key(&host, "host"), key(verify, "verify"), key(prune, "prune")].join(", ");
        for helper in [&self.verifier, &self.pruner] {
            let text = format!(
                "[project]\nname = \"helper\"\n{stores}[signing]\nkey_file = {:?}\ntrusted = [{trusted}]\n\
                 [retention]\nkeep_last = 2\nmin_keep = 1\n[state]\ndir = {:?}\n",
                helper.dir.join("key"),
                helper.dir.join("state"),
            );
            fs::write(helper.dir.join("backstay.toml"), text).unwrap();
        }
    }

    #[track_caller]
    fn run(&self, helper: &Helper, code: i32, args: &[&str]) -> Said {
        let mut command = self.two.person.command(args);
        Said::from(command.current_dir(&helper.dir).output().unwrap()).code(code)
    }

    /// Snapshots, each verified, of which old ones go with the verdicts about them.
    fn pruned(&self) {
        for turn in 0..5 {
            self.two.change(&format!("turn {turn}\n"));
            self.two.person.backup();
            self.run(&self.verifier, 0, &["verify", "--read-data"]);
            self.two.person.json(0, ["sync"]);
        }
        let before = self.verdicts("local");
        self.run(&self.pruner, 0, &["prune", "--now"]);
        assert!(self.verdicts("local") < before, "no verdict went");
        self.two.person.json(0, ["sync"]);
    }

    fn verdicts(&self, store: &str) -> usize {
        let marks = self.two.place(store).join("marks").join(self.verifier.key.id().to_string());
        fs::read_dir(marks).unwrap().count()
    }

    /// Nobody finds anything wrong, and everybody can do what is his.
    #[track_caller]
    fn is_whole(&self) {
        self.run(&self.pruner, 0, &["prune", "--now"]);
        self.run(&self.pruner, 0, &["list"]);
        self.run(&self.verifier, 0, &["verify"]);
        let list = self.two.person.json(0, ["list"]);
        assert_eq!(list["history"], NOTHING, "{list:#}");
    }
}

#[test]
fn who_prunes_says_what_a_new_store_lacks_of_a_verifier_that_fills_no_store() {
    let fleet = Fleet::new();
    fleet.pruned();
    fleet.two.add("third");
    fleet.uses(&["local", "second", "third"]);
    fleet.two.person.run(["sync"]);
    fleet.run(&fleet.pruner, 13, &["prune", "--dry-run"]).says(&["`backstay prune` without --dry-run"]);
    fleet.is_whole();
    fleet.two.change("later\n");
    fleet.two.person.backup();
    fleet.run(&fleet.verifier, 0, &["verify", "--read-data"]);
    fleet.is_whole();
}

#[test]
fn a_verifier_says_itself_what_a_new_store_lacks_of_its_entries() {
    let fleet = Fleet::new();
    fleet.pruned();
    fleet.two.add("third");
    fleet.uses(&["local", "second", "third"]);
    fleet.two.person.run(["sync"]);
    fleet.two.change("later\n");
    fleet.two.person.run(["backup"]);
    fleet.run(&fleet.pruner, 13, &["prune", "--dry-run"]);
    fleet.run(&fleet.verifier, 13, &["verify", "--read-data"]);
    fleet.run(&fleet.verifier, 0, &["verify"]);
    fleet.run(&fleet.pruner, 0, &["prune", "--dry-run"]);
    fleet.is_whole();
}

/// A host that a pruner does not trust yet, in the same stores.
fn stranger(two: &Two) -> Person {
    let other = Person::new();
    other.ok(["init", "--yes"]);
    let mut config = other.config();
    config["project"].as_table_mut().unwrap().remove("vault");
    let stores = two.person.config()["store"].as_array().unwrap().clone();
    config.insert("store".into(), toml::Value::Array(stores));
    config["store"][0]
        .as_table_mut()
        .unwrap()
        .insert("path".into(), two.place("local").display().to_string().into());
    let state = other.home.join("other-state").display().to_string();
    config.insert("state".into(), toml::Value::Table(format!("dir = {state:?}").parse().unwrap()));
    fs::write(other.config_path(), toml::to_string(&config).unwrap()).unwrap();
    other
}

/// Everything below these folders of the store was put a month ago.
fn make_old(store: &Path) {
    let month_ago = SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
    let mut waiting = vec![store.join("archives"), store.join("manifests")];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            fs::File::options().write(true).open(&path).unwrap().set_modified(month_ago).unwrap();
        }
    }
}

#[test]
fn a_stranger_s_record_that_cannot_be_read_in_one_store_stops_prune_there_although_another_has_it() {
    let two = Two::new();
    two.person.backup();
    let other = stranger(&two);
    let id = other.backup();
    let record = two.person.store().join(format!("snapshots/{id}.json"));
    make_old(&two.person.store());
    // The instructions there are signed by the other host, which this one does not know.
    let whole = other.json(13, ["verify", "--store", "local"]);
    fs::write(&record, "").unwrap();
    let said = two.person.run(["prune", "--now"]).code(13);
    said.says(&[&format!("snapshots/{id}.json cannot be read"), &format!("--ignore {id}")]);
    // Passed over, it holds what it needs: the other store says what that is.
    two.person.run(["prune", "--now", "--ignore", &id]);
    fs::copy(two.place("second").join(format!("snapshots/{id}.json")), &record).unwrap();
    let after = other.json(13, ["verify", "--store", "local"]);
    assert_eq!(after["stores"][0]["whole"], whole["stores"][0]["whole"], "{after:#}");
}

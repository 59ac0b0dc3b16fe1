//! Recoveries with something in the way: a store that is still here, a home that outlived its project, stale logs, damage, other hosts, older copies, places
//! that are not this user's.

mod doubt;

use crate::common::person::{Person, Said, damage_database, everything_below};
use crate::common::project::{Gone, cannot_run, exe, is_root, program};
use crate::recover::{Fresh, goes_on, rows};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn main_py(app: &Path) -> PathBuf {
    app.join("backend/app/main.py")
}

fn kit_of(person: &Person) -> PathBuf {
    let kit = person.top.join("kit.txt");
    person.ok(["kit", "-o", text(&kit)]);
    kit
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// A second store beside the project.
fn with_offsite(person: &Person) -> PathBuf {
    let offsite = person.top.join("offsite");
    person.configure(&format!("[[store]]\nname = \"offsite\"\npath = {offsite:?}"));
    person.ok(["init"]);
    offsite
}

/// Where the stores of a configuration are.
fn paths_of_stores(app: &Path) -> Vec<String> {
    let config: toml::Table = fs::read_to_string(app.join("backstay.toml")).unwrap().parse().unwrap();
    let stores = config["store"].as_array().unwrap().iter();
    stores.map(|store| store["path"].as_str().unwrap().to_owned()).collect()
}

fn document(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("no JSON document: {e}\n{said}"))
}

#[test]
fn a_store_that_is_still_here_stays_the_store_and_none_is_made_beside_it() {
    let person = Person::set_up();
    let ids = [person.backup(), person.backup()];
    let kit = kit_of(&person);
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let report = fresh.json(0, &fresh.top, &["recover", text(&kit), "--to", text(&app), "--yes"]);
    let store = person.store();
    assert_eq!(paths_of_stores(&app), [text(&store)]);
    assert!(!app.join("backups").exists(), "an empty store would be another history");
    let next = report["recovered"]["next"].to_string();
    assert!(next.contains(&format!("store local is at {} now", store.display())), "{next}");
    assert!(!next.contains("made anew"), "{next}");
    goes_on(&fresh, &app, &[&ids[0], &ids[1]]);
    assert_eq!(person.snapshots(), 3, "what is made now lies where the history lies");
}

/// As on the machine whose project was deleted, and nothing else.
fn recovered_at_home(person: &Person, kit: &Path) -> (i32, Value) {
    fs::remove_dir_all(&person.app).unwrap();
    let mut command = program(exe(), &person.home);
    command.current_dir(&person.top).args(["recover", text(kit), "--in-place", "--yes", "--json"]);
    let said = Said::from(command.output().unwrap());
    assert!([0, 4].contains(&said.code), "{said}");
    (said.code, document(&said))
}

#[test]
fn a_project_whose_keys_and_memory_are_still_here_is_recovered_to_its_place_again_and_again() {
    let person = Person::set_up();
    let offsite = with_offsite(&person);
    let mut ids = vec![person.backup()];
    let kit = kit_of(&person);
    let key = fs::read(person.keys().join("signing_key")).unwrap();
    for turn in 0..2 {
        fs::write(main_py(&person.app), format!("turn {turn}\n")).unwrap();
        ids.push(person.backup());
        let (_, report) = recovered_at_home(&person, &kit);
        let done = &report["recovered"];
        assert_eq!((&done["snapshot"], &done["introduced"]), (&json!(ids.last()), &json!(true)), "{done:#}");
        assert_eq!(fs::read_to_string(main_py(&person.app)).unwrap(), format!("turn {turn}\n"));
        let next = done["next"].to_string();
        assert!(next.contains("is used on") && next.contains("made anew"), "{next}");
        assert!(!next.contains("signer retire"), "that key is the one in use: {next}");
        ids.push(person.backup());
    }
    assert_eq!(fs::read(person.keys().join("signing_key")).unwrap(), key);
    for store in ["local", "offsite"] {
        let list = person.json(0, ["list", "--store", store]);
        assert_eq!(list["history"], json!([]), "{list:#}");
        let rows = list["snapshots"].as_array().unwrap();
        let found: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{store}: {list:#}");
        assert!(rows.iter().all(|row| row["trusted"] == true && row["host"] == rows[0]["host"]), "{list:#}");
    }
    // What only the lost store had is not forgotten with that store: this machine saw it.
    let away = person.top.join("unplugged");
    fs::rename(&offsite, &away).unwrap();
    person.json(4, ["backup"]);
    fs::rename(&away, &offsite).unwrap();
    recovered_at_home(&person, &kit);
    let list = person.json(13, ["list"]);
    assert_ne!(list["history"], json!([]), "{list:#}");
}

#[test]
fn an_identity_with_a_passphrase_that_is_still_here_is_asked_for_it_and_keeps_it() {
    let person = Person::set_up();
    with_offsite(&person);
    let kit = kit_of(&person);
    let passphrase = person.top.join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    person.ok(["keys", "passphrase", "--new-passphrase-file", text(&passphrase)]);
    person.reconfigure("identity_file =", &format!("passphrase_file = {passphrase:?}\nidentity_file ="));
    let id = person.backup();
    let locked = fs::read(person.identity()).unwrap();
    fs::remove_dir_all(&person.app).unwrap();
    let recover = |env: Option<&Path>| -> Said {
        let mut command = program(exe(), &person.home);
        command.current_dir(&person.top).args(["recover", text(&kit), "--in-place", "--yes"]);
        command.envs(env.map(|file| ("BACKSTAY_PASSPHRASE_FILE", file)));
        command.output().unwrap().into()
    };
    recover(None).code(14).error().says(&["cannot use the identity", "move it away"]);
    assert!(!person.config_path().exists());
    let said = recover(Some(&passphrase));
    assert!([0, 4].contains(&said.code), "{said}");
    assert_eq!(fs::read(person.identity()).unwrap(), locked);
    assert_eq!(person.config()["encryption"]["passphrase_file"].as_str().unwrap(), text(&passphrase));
    person.ok(["show", &id]);
}

#[test]
fn a_log_that_lies_where_a_database_comes_back_is_moved_aside_and_never_replayed() {
    let person = Person::set_up();
    person.backup();
    let (kit, stick) = (kit_of(&person), person.top.join("stick"));
    fs::rename(person.store(), &stick).unwrap();
    let data = person.app.join("backend/data");
    let (wal, saved) = (data.join("agent.db-wal"), person.top.join("saved"));
    let db = rusqlite::Connection::open(data.join("agent.db")).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE message SET text = 'of the old one'").unwrap();
    fs::copy(&wal, &saved).unwrap();
    drop(db);
    fs::remove_dir_all(&person.app).unwrap();
    fs::create_dir_all(&data).unwrap();
    fs::copy(&saved, &wal).unwrap();
    fs::write(data.join("agent.db-shm"), "shared memory").unwrap();
    let fresh = Fresh::new();
    let args = ["recover", text(&kit), "--store", text(&stick), "--in-place", "--yes"];
    let report = fresh.json(0, &fresh.top, &args);
    assert_eq!(rows(&person.app), 200);
    let db = rusqlite::Connection::open(data.join("agent.db")).unwrap();
    let old = "SELECT count(*) FROM message WHERE text = 'of the old one'";
    assert_eq!(db.query_row(old, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "the old log was replayed");
    drop(db);
    let names = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<PathBuf> =
        names.filter(|path| text(path).contains("agent.db-wal.before-restore-")).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read(&kept[0]).unwrap(), fs::read(&saved).unwrap(), "nothing of it is lost");
    let problems = report["recovered"]["problems"].to_string();
    assert!(problems.contains(text(&wal)) && problems.contains(text(&kept[0])), "{problems}");
    // What is kept is in no later snapshot.
    let made = fresh.json(0, &person.app, &["backup"]);
    assert_eq!(made["problems"], json!([]), "{made:#}");
}

/// Two snapshots between which main.py changed; and a fresh machine with a kit and a copy of the store.
struct Lost {
    ids: [String; 2],
    fresh: Fresh,
    kit: PathBuf,
    store: PathBuf,
    person: Person,
}

impl Lost {
    fn new() -> Self {
        let person = Person::set_up();
        let ids = ["one\n", "two\n"].map(|text| {
            fs::write(main_py(&person.app), text).unwrap();
            person.backup()
        });
        let (kit, fresh) = (kit_of(&person), Fresh::new());
        let store = fresh.top.join("stick");
        copy(&person.store(), &store);
        Self { ids, kit: fresh.take_kit(&kit), store, fresh, person }
    }

    fn record(&self, id: &str) -> Value {
        let record = fs::read_to_string(self.store.join(format!("snapshots/{id}.json"))).unwrap();
        serde_json::from_str(record.lines().next().unwrap()).unwrap()
    }

    fn manifest(&self, hash: &str) -> PathBuf {
        self.store.join(format!("manifests/{}/{hash}.jsonl.zst.age", &hash[..2]))
    }

    fn index(&self, id: &str) -> PathBuf {
        self.manifest(self.record(id)["index"].as_str().unwrap())
    }

    /// Listings that the first snapshot does not share.
    fn damage_listings_of_the_second(&self) {
        let [old, new] = [&self.ids[0], &self.ids[1]].map(|id| self.record(id));
        let objects = new["objects"].as_array().unwrap().iter();
        let own = objects.filter(|object| !old["objects"].as_array().unwrap().contains(object));
        let listings: Vec<PathBuf> = own
            .filter(|object| object[0] == "manifest" && object[2] != new["index"])
            .map(|object| self.manifest(object[2].as_str().unwrap()))
            .collect();
        assert!(!listings.is_empty(), "{new:#}");
        listings.iter().for_each(|path| fs::write(path, "damaged").unwrap());
    }

    fn args<'a>(&'a self, app: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let own = ["recover", text(&self.kit), "--store", text(&self.store), "--to", text(app), "--yes"];
        own.into_iter().chain(more.iter().copied()).collect()
    }
}

#[test]
fn a_component_whose_listing_is_damaged_is_named_with_the_next_snapshot_that_has_it_and_the_rest_comes() {
    let lost = Lost::new();
    lost.damage_listings_of_the_second();
    let (fresh, first) = (&lost.fresh, &lost.ids[0]);
    let app = fresh.top.join("app");
    let report = fresh.json(13, &fresh.top, &lost.args(&app, &[]));
    let done = &report["recovered"];
    let names: Vec<&str> =
        done["components"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"frontend") && !names.contains(&"backend"), "{done:#}");
    assert!(app.join("frontend/package.json").exists() && app.join("backstay.toml").exists());
    assert_eq!((&done["introduced"], app.join(".backstay-recovery").exists()), (&json!(true), false));
    let problems = done["problems"].as_array().unwrap();
    let of_backend = problems.iter().find(|p| p["component"] == "backend").unwrap();
    assert_eq!(of_backend["kind"], "damaged", "{of_backend:#}");
    let way_out = format!("`backstay restore {first} backend --to DIR`");
    assert!(of_backend["hint"].as_str().unwrap().contains(&way_out), "{of_backend:#}");
    assert!(done["next"].to_string().contains(&way_out), "{done:#}");
    // The way out is one.
    let back = fresh.top.join("back");
    fresh.json(0, &app, &["restore", first, "backend", "--to", text(&back), "--no-owners"]);
    assert_eq!(fs::read_to_string(back.join("backend/app/main.py")).unwrap(), "one\n");
}

#[test]
fn where_nothing_can_be_brought_the_next_run_is_not_bound_to_the_same_snapshot() {
    let lost = Lost::new();
    lost.damage_listings_of_the_second();
    let (fresh, first) = (&lost.fresh, lost.ids[0].as_str());
    let app = fresh.top.join("app");
    let said = fresh.run(&fresh.top, &lost.args(&app, &["--only", "backend"])).code(13).error();
    said.says(&["nothing was brought", &format!("--snapshot {first}")]);
    assert!(fs::read_dir(&fresh.home).unwrap().next().is_none(), "no key was made");
    fresh.json(0, &fresh.top, &lost.args(&app, &["--only", "backend", "--snapshot", first]));
    assert_eq!(fs::read_to_string(main_py(&app)).unwrap(), "one\n");
}

#[test]
fn the_next_best_snapshot_is_taken_where_the_index_of_the_best_is_damaged() {
    let lost = Lost::new();
    let [first, second] = [&lost.ids[0], &lost.ids[1]];
    fs::write(lost.index(second), "damaged").unwrap();
    let fresh = &lost.fresh;
    let app = fresh.top.join("app");
    // One that somebody named is that or nothing.
    fresh.run(&fresh.top, &lost.args(&app, &["--snapshot", second])).code(13).error();
    let report = fresh.json(13, &fresh.top, &lost.args(&app, &[]));
    let done = &report["recovered"];
    assert_eq!((&report["found"]["taken"], &done["snapshot"]), (&json!(second), &json!(first)), "{done:#}");
    assert_eq!(fs::read_to_string(main_py(&app)).unwrap(), "one\n");
    let problem = &done["problems"][0];
    assert_eq!(
        (&problem["kind"], &problem["subject"]),
        (&json!("damaged"), &json!(format!("snapshot {second}"))),
        "{done:#}"
    );
}

/// A recovery when no proof counts any more: 31 days later.
fn recovered_late(person: &Person) -> (Fresh, Value) {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(31 * 24);
    let fresh = Fresh::new().at(later);
    let kit = fresh.take_kit(&kit_of(person));
    let app = fresh.top.join("app");
    let report = fresh.json(0, &fresh.top, &["recover", text(&kit), "--to", text(&app), "--yes"]);
    (fresh, report)
}

#[test]
fn a_snapshot_that_failed_its_check_comes_after_those_that_only_lack_a_young_proof() {
    let person = Person::set_up();
    let sound = person.backup();
    damage_database(&person.app.join("backend/data/agent.db"));
    let broken = person.json(3, ["backup"])["snapshot"].as_str().unwrap().to_owned();
    let (fresh, report) = recovered_late(&person);
    let found = &report["found"];
    assert_eq!(found["taken"], sound.as_str(), "{found:#}");
    assert_eq!(found["snapshots"][1]["id"], broken.as_str(), "{found:#}");
    let why = found["why"].as_str().unwrap();
    assert!(why.contains("none is good") && why.contains("a database failed its check"), "{why}");
    let components = report["recovered"]["components"].as_array().unwrap();
    assert!(components.iter().all(|c| c["snapshot"] == sound.as_str()), "{components:#?}");
    assert_eq!(rows(&fresh.top.join("app")), 200);
}

#[test]
fn a_snapshot_of_which_objects_were_found_bad_comes_after_those_that_only_lack_a_young_proof() {
    let person = Person::set_up();
    let sound = person.backup();
    fs::write(main_py(&person.app), "newer\n").unwrap();
    let newer = person.backup();
    let objects = |id: &str| -> Vec<Value> {
        let record = fs::read_to_string(person.store().join(format!("snapshots/{id}.json"))).unwrap();
        let record: Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
        record["objects"].as_array().unwrap().clone()
    };
    let old = objects(&sound);
    let own = objects(&newer).into_iter().find(|o| o[0] == "archive" && !old.contains(o)).unwrap();
    let name = own[2].as_str().unwrap().to_owned();
    let all = everything_below(&person.store().join("archives")).into_iter();
    let file = all.map(|(path, ..)| path).find(|path| text(path).contains(&name)).unwrap();
    fs::write(file, "damaged").unwrap();
    person.run(["verify", "--read-data"]).code(13);
    let (fresh, report) = recovered_late(&person);
    let found = &report["found"];
    assert_eq!((&found["taken"], &found["snapshots"][1]["id"]), (&json!(sound), &json!(newer)), "{found:#}");
    let because = found["snapshots"][1]["not_good_because"].as_str().unwrap();
    assert!(because.contains("damaged or missing"), "{found:#}");
    assert_ne!(fs::read_to_string(main_py(&fresh.top.join("app"))).unwrap(), "newer\n");
}

fn reconfigured(person: &Person, change: impl FnOnce(&mut toml::Table)) {
    let mut config = person.config();
    change(&mut config);
    fs::write(person.config_path(), toml::to_string(&config).unwrap()).unwrap();
}

#[test]
fn a_kit_recovers_no_other_hosts_snapshot_also_when_that_is_named() {
    let (first, second) = (Person::set_up(), Person::set_up());
    first.backup();
    let of_first = first.config();
    reconfigured(&second, |config| {
        config["project"]["vault"] = of_first["project"]["vault"].clone();
        config["encryption"]["recipients"] = of_first["encryption"]["recipients"].clone();
        config["store"][0]["path"] = text(&first.store()).into();
    });
    // It knows nothing of the store it had.
    fs::remove_dir_all(second.home.join(".local")).unwrap();
    fs::write(main_py(&second.app), "of the second\n").unwrap();
    let foreign = second.backup();
    let mut trusted = second.config()["signing"]["trusted"][0].as_table().unwrap().clone();
    trusted.insert("name".into(), "second".into());
    trusted.insert("roles".into(), vec!["host"].into());
    reconfigured(&first, |config| {
        config["signing"]["trusted"].as_array_mut().unwrap().push(trusted.into());
    });
    let kit = kit_of(&first);
    let fresh = Fresh::new();
    let (app, back) = (fresh.top.join("app"), fresh.top.join("back"));
    for id in [foreign.as_str(), &foreign[..20]] {
        let args = ["recover", text(&kit), "--to", text(&app), "--yes", "--snapshot", id];
        let said = fresh.run(&fresh.top, &args).code(2).error();
        said.says(&["is of another host", &format!("restore {foreign} --to DIR")]);
    }
    assert!(!app.exists() && fs::read_dir(&fresh.home).unwrap().next().is_none(), "nothing was written");
    let args = ["--kit", text(&kit), "restore", &foreign, "--to", text(&back), "--no-owners"];
    fresh.json(0, &fresh.top, &args);
    assert_eq!(fs::read_to_string(back.join("backend/app/main.py")).unwrap(), "of the second\n");
}

#[test]
fn a_store_that_is_named_does_not_hide_what_the_kits_other_stores_hold() {
    let person = Person::set_up();
    let offsite = with_offsite(&person);
    person.backup();
    let kit = kit_of(&person);
    // The store died first, and a copy of it is on a stick.
    let stick = person.top.join("stick");
    fs::rename(person.store(), &stick).unwrap();
    fs::write(main_py(&person.app), "newer\n").unwrap();
    let newer = person.json(4, ["backup"])["snapshot"].as_str().unwrap().to_owned();
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let args = ["recover", text(&kit), "--store", text(&stick), "--to", text(&app), "--yes", "--json"];
    let said = fresh.run(&fresh.top, &args);
    assert!([0, 4].contains(&said.code), "{said}");
    let report = document(&said);
    let stores = report["found"]["stores"].as_array().unwrap().iter();
    let stores: Vec<_> =
        stores.map(|s| (s["name"].as_str().unwrap(), s["location"].as_str().unwrap())).collect();
    assert_eq!(stores, [("local", text(&stick)), ("offsite", text(&offsite))]);
    assert_eq!(report["recovered"]["snapshot"], newer.as_str(), "{report:#}");
    assert_eq!(fs::read_to_string(main_py(&app)).unwrap(), "newer\n");
    assert_eq!(paths_of_stores(&app), [text(&stick), text(&offsite)]);
    let made = fresh.json(0, &app, &["backup"]);
    assert_eq!((&made["history"], &made["problems"]), (&json!([]), &json!([])), "{made:#}");
}

#[test]
fn an_older_copy_of_a_store_that_is_still_here_is_not_recovered_from() {
    let person = Person::set_up();
    person.backup();
    let stick = person.top.join("stick");
    copy(&person.store(), &stick);
    let newer = person.backup();
    let kit = kit_of(&person);
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let args = ["recover", text(&kit), "--to", text(&app), "--yes", "--store", text(&stick)];
    let said = fresh.run(&fresh.top, &args).code(2).error();
    said.says(&["is an older copy of store local", "leave --store away"]);
    assert!(!app.exists());
    let report = fresh.json(0, &fresh.top, &args[..5]);
    assert_eq!(report["recovered"]["snapshot"], newer.as_str());
}

#[test]
fn a_copy_that_ends_below_what_the_kit_knows_is_not_taken_by_itself_while_the_others_are_away() {
    let person = Person::set_up();
    let offsite = with_offsite(&person);
    let older = person.backup();
    let stick = person.top.join("stick");
    copy(&person.store(), &stick);
    person.backup();
    let kit = kit_of(&person);
    fs::remove_dir_all(person.store()).unwrap();
    fs::rename(&offsite, person.top.join("unplugged")).unwrap();
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let args = ["recover", text(&kit), "--to", text(&app), "--yes", "--store", text(&stick)];
    let said = fresh.run(&fresh.top, &args).code(13).error();
    said.says(&["HISTORY NOT WHOLE: the kit knows of entry", "--snapshot ID"]);
    assert!(!app.exists());
    let report = fresh.json(0, &fresh.top, &[&args[..], &["--snapshot", &older]].concat());
    assert_eq!(report["recovered"]["snapshot"], older.as_str());
}

#[test]
fn what_the_kit_knows_beyond_the_stores_that_are_here_is_said_with_the_snapshot_that_is_taken() {
    let person = Person::set_up();
    let offsite = with_offsite(&person);
    let older = person.backup();
    let unplugged = person.top.join("unplugged");
    fs::rename(&offsite, &unplugged).unwrap();
    person.json(4, ["backup"]);
    let kit = kit_of(&person);
    fs::rename(&unplugged, &offsite).unwrap();
    // The newest died with the machine.
    fs::remove_dir_all(person.store()).unwrap();
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let said = fresh.run(&fresh.top, &["recover", text(&kit), "--to", text(&app), "--yes", "--json"]);
    assert!([0, 4].contains(&said.code), "{said}");
    let said = said.says(&["the kit knows of entry", "newer snapshots may lie in a store that is away"]);
    assert_eq!(document(&said)["recovered"]["snapshot"], older.as_str(), "{said}");
}

#[test]
fn a_component_whose_place_is_not_this_users_waits_in_the_work_folder_and_the_rest_comes() {
    if !is_root() {
        return cannot_run("a place that is another user's needs root to begin with");
    }
    const USER: u32 = 54_321;
    let person = Person::set_up();
    let outside = Gone::new();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let uploads = outside.path().join("uploads");
    fs::create_dir(&uploads).unwrap();
    fs::write(uploads.join("photo"), "a photo").unwrap();
    person.configure(&format!("[[component]]\nname = \"uploads\"\npath = {uploads:?}"));
    person.backup();
    let fresh = Fresh::new().of_user(USER);
    let (kit, stick) = (fresh.take_kit(&kit_of(&person)), fresh.top.join("stick"));
    copy(&person.store(), &stick);
    for (path, ..) in everything_below(&stick) {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    fs::remove_dir_all(&person.app).unwrap();
    fs::remove_dir_all(&uploads).unwrap();
    let app = fresh.top.join("app");
    let args = ["recover", text(&kit), "--store", text(&stick), "--to", text(&app), "--in-place", "--yes"];
    let report = fresh.json(3, &fresh.top, &args);
    let done = &report["recovered"];
    let left = PathBuf::from(done["left"][0].as_str().unwrap());
    assert!(left.starts_with(app.join(".backstay-recovery")), "{done:#}");
    assert_eq!(fs::read_to_string(left.join("photo")).unwrap(), "a photo");
    assert!(!uploads.exists() && app.join("backstay.toml").exists() && main_py(&app).exists());
    let components = done["components"].as_array().unwrap();
    let of_uploads = components.iter().find(|c| c["name"] == "uploads").unwrap();
    assert_eq!((&of_uploads["at_its_place"], &of_uploads["to"]), (&json!(false), &json!(text(&left))));
    let next = done["next"].to_string();
    assert!(next.contains("this user may not write there") && next.contains(text(&left)), "{next}");
}

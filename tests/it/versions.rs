//! A bucket that keeps versions: what is overwritten or deleted in it is no loss.

use crate::common::fault_server::{FaultServer, Manner};
use crate::common::person::Person;
use crate::recover::{CLOUD, Fresh, InCloud};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn versioned() -> InCloud {
    let cloud = InCloud::new();
    // Several pages: a listing of versions is cut anywhere.
    cloud.server.manner(|manner| (manner.versioned, manner.page) = (true, 7));
    cloud
}

/// A moment after everything that was done, and before everything that will be.
fn now() -> String {
    let pause = std::time::Duration::from_millis(2);
    // The server tells times apart by what the clock says.
    let before = jiff::Timestamp::now();
    while jiff::Timestamp::now().duration_since(before).unsigned_abs() < pause {
        std::hint::spin_loop();
    }
    let now = jiff::Timestamp::now();
    while jiff::Timestamp::now().duration_since(now).unsigned_abs() < pause {
        std::hint::spin_loop();
    }
    now.to_string()
}

fn keys(server: &FaultServer) -> Vec<String> {
    server.keys().into_iter().filter(|key| !key.contains(".backstay-probe")).collect()
}

fn restored(cloud: &InCloud, args: &[&str], code: i32, name: &str) -> (Value, String) {
    let to = cloud.person.top.join(name);
    let mut all = vec!["restore"];
    all.extend(args);
    all.extend(["--to", to.to_str().unwrap(), "--json"]);
    let said = cloud.run(&all).code(code);
    let report = serde_json::from_str(&said.out).unwrap_or(Value::Null);
    (report, fs::read_to_string(to.join("backend/app/main.py")).unwrap_or_default())
}

fn main_py(cloud: &InCloud, text: &str) {
    fs::write(cloud.person.app.join("backend/app/main.py"), text).unwrap();
}

#[test]
fn every_object_overwritten_on_a_versioned_store_is_read_back_with_as_of() {
    let cloud = versioned();
    main_py(&cloud, "one\n");
    let first = cloud.backup();
    main_py(&cloud, "two\n");
    let second = cloud.backup();
    let whole = now();
    for key in keys(&cloud.server) {
        cloud.server.insert(&key, b"overwritten\n");
    }
    // The present is worth nothing by itself.
    assert_ne!(cloud.run(&["list"]).code, 0);
    let list = cloud.ok(&["list", "--json", "--as-of", &whole]);
    let list: Value = serde_json::from_str(&list.out).unwrap();
    let ids: Vec<&str> =
        list["snapshots"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()]);
    assert_eq!(
        (&list["history"], &list["damaged"]),
        (&Value::Array(vec![]), &Value::Array(vec![])),
        "{list:#}"
    );
    let (report, main) = restored(&cloud, &["latest", "--as-of", &whole], 0, "two");
    assert_eq!((main.as_str(), &report["problems"]), ("two\n", &Value::Array(vec![])), "{report:#}");
    assert_eq!(restored(&cloud, &[&first, "--as-of", &whole], 0, "one").1, "one\n");
    // From a laptop with a kit, too.
    let fresh = Fresh::new();
    let to = fresh.top.join("back");
    let kit = cloud.person.kit();
    let args =
        ["--kit", kit.to_str().unwrap(), "restore", "latest", "--as-of", &whole, "--no-owners", "--to"];
    let mut command = crate::common::project::program(crate::common::project::exe(), &fresh.home);
    let done = command.envs(CLOUD).args(args).arg(&to).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_to_string(to.join("backend/app/main.py")).unwrap(), "two\n");
}

/// What this machine remembers describes the present, and is of no use beside what stood before: everything is read.
#[test]
fn what_stood_before_is_compared_with_the_live_tree_and_signed_by_nobody() {
    let cloud = versioned();
    main_py(&cloud, "one\n");
    let first = cloud.backup();
    let whole = now();
    main_py(&cloud, "two\n");
    let database = rusqlite::Connection::open(cloud.person.app.join("backend/data/agent.db")).unwrap();
    database.execute("INSERT INTO message(text) VALUES ('one more')", ()).unwrap();
    cloud.backup();
    let document = |args: &[&str]| -> Value {
        let said = cloud.ok(&[args, &["--as-of", &whole, "--json"]].concat());
        serde_json::from_str(&said.out).unwrap()
    };
    let diff = document(&["diff", "latest"]);
    let changed: Vec<&str> =
        diff["changes"].as_array().unwrap().iter().map(|change| change["path"].as_str().unwrap()).collect();
    assert_eq!((&diff["from"], changed.len()), (&first.as_str().into(), 2), "{diff:#}");
    for path in ["backend/app/main.py", "db/agent.db"] {
        assert!(changed.contains(&path), "{path}: {diff:#}");
    }
    for report in [document(&["verify", "--read-data"]), document(&["drill"])] {
        let why = report["not_signed"].as_str().unwrap();
        assert!(why.contains("--as-of") && !why.contains("kit"), "{report:#}");
        assert_eq!(report["verdicts"], 0, "{report:#}");
    }
}

#[test]
fn every_object_deleted_on_a_versioned_store_is_read_back_with_as_of() {
    let cloud = versioned();
    main_py(&cloud, "one\n");
    let first = cloud.backup();
    let whole = now();
    keys(&cloud.server).iter().for_each(|key| cloud.server.remove(key));
    cloud.run(&["list"]).code(10);
    assert_eq!(restored(&cloud, &["latest", "--as-of", &whole], 0, "back").1, "one\n");
    // Before the first snapshot there was a store, and nothing in it.
    let listed = cloud.ok(&["list", "--json", "--as-of", &whole]);
    assert!(listed.out.contains(&first));
    let said = cloud.run(&["list", "--as-of", "2020-01-01"]).code(10).error();
    said.says(&["no backstay.json in it at that time"]);
}

#[test]
fn a_machine_is_recovered_from_a_store_in_which_everything_was_overwritten() {
    let cloud = versioned();
    main_py(&cloud, "one\n");
    cloud.backup();
    let whole = now();
    for key in keys(&cloud.server)
        .into_iter()
        .filter(|key| key.contains("/archives/") || key.contains("/manifests/"))
    {
        cloud.server.insert(&key, b"overwritten");
    }
    let fresh = Fresh::new();
    let app = fresh.top.join("app");
    let kit = cloud.person.kit();
    let args = ["recover", kit.to_str().unwrap(), "--as-of", &whole, "--to", app.to_str().unwrap(), "--yes"];
    let mut command = crate::common::project::program(crate::common::project::exe(), &fresh.home);
    let done = command.envs(CLOUD).args(args).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_to_string(app.join("backend/app/main.py")).unwrap(), "one\n");
}

#[test]
fn wrong_bytes_under_a_name_are_read_from_an_older_version_and_it_is_said() {
    let cloud = versioned();
    main_py(&cloud, "one\n");
    cloud.backup();
    let is = |part: &'static str| move |key: &String| key.contains(part);
    let all = keys(&cloud.server);
    for key in all.iter().filter(|key| is("/archives/")(key) || is("/manifests/")(key)) {
        cloud.server.insert(key, b"overwritten");
    }
    let (report, main) = restored(&cloud, &["latest"], 4, "overwritten");
    assert_eq!(main, "one\n");
    let problems = report["problems"].to_string();
    assert!(problems.contains("an older version of it"), "{problems}");
    all.iter().filter(|key| is("/archives/")(key)).for_each(|key| cloud.server.remove(key));
    let (report, main) = restored(&cloud, &["latest"], 4, "deleted");
    assert_eq!(main, "one\n");
    assert!(report["problems"].to_string().contains("an older version of it"), "{report:#}");
    // Records and marks: their signature is the proof.
    for key in all.iter().filter(|key| is("/snapshots/")(key) || is("/marks/")(key)) {
        cloud.server.insert(key, b"{}\n");
    }
    assert_eq!(restored(&cloud, &["latest"], 4, "signed").1, "one\n");
}

#[test]
fn older_versions_are_proved_as_strictly_as_the_present_one() {
    let cloud = versioned();
    main_py(&cloud, "one\n");
    cloud.backup();
    let archives: Vec<String> =
        keys(&cloud.server).into_iter().filter(|key| key.contains("/archives/")).collect();
    for key in &archives {
        // Never the right bytes again: the same length, one bit off, twice.
        let mut bytes = cloud.server.object(key).unwrap();
        bytes[40] ^= 1;
        cloud.server.insert(key, &bytes);
    }
    cloud.server.manner(|manner| manner.versioned = false);
    let (_, main) = restored(&cloud, &["latest"], 13, "damaged");
    assert_eq!(main, "", "without versions what is damaged is not given out");
}

#[test]
fn as_of_is_for_reading_a_bucket_and_nothing_else() {
    let cloud = versioned();
    cloud.backup();
    cloud.run(&["backup", "--as-of", "-1h"]).code(2).error().says(&["--as-of is for reading"]);
    cloud.run(&["list", "--as-of", "soon"]).code(2).error().says(&["is no time"]);
    cloud.server.manner(|manner| *manner = Manner::default());
    cloud.run(&["list", "--as-of", "2099-01-01"]).error().says(&["does this server keep versions"]);
    let person = Person::set_up();
    person.backup();
    person.fails(2, ["list", "--as-of", "2099-01-01"]).says(&["a folder keeps no older versions"]);
    assert!(Path::new(&person.store()).exists());
}

/// Somebody whose snapshots lie in the same bucket, and are trusted there.
fn second_host(cloud: &InCloud) -> (Person, String) {
    let other = Person::new();
    other.ok(["init", "--yes"]);
    let (mut config, mut own) = (other.config(), cloud.person.config());
    config["project"].as_table_mut().unwrap().remove("vault");
    config.insert("store".into(), own["store"].clone());
    let state = other.home.join("other-state").display().to_string();
    config.insert("state".into(), toml::Value::Table(format!("dir = {state:?}").parse().unwrap()));
    fs::write(other.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let mut key = config["signing"]["trusted"][0].as_table().unwrap().clone();
    (key["name"], key["roles"]) = ("web-2".into(), vec!["host"].into());
    own["signing"]["trusted"].as_array_mut().unwrap().push(toml::Value::Table(key));
    fs::write(cloud.person.config_path(), toml::to_string(&own).unwrap()).unwrap();
    let made = other.command(["backup", "--json"]).envs(CLOUD).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    (other, made["snapshot"].as_str().unwrap().to_owned())
}

fn json(cloud: &InCloud, args: &[&str]) -> Value {
    let all: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&cloud.run(&all).out).unwrap()
}

#[test]
fn what_was_overwritten_in_one_store_is_copied_into_another_as_it_was() {
    let cloud = versioned();
    let own = cloud.backup();
    let (_other, id) = second_host(&cloud);
    let key = |id: &str| {
        let wanted = format!("snapshots/{id}.json");
        keys(&cloud.server).into_iter().find(|key| key.ends_with(&wanted)).unwrap()
    };
    let (own_key, key) = (key(&own), key(&id));
    let originals = [&own_key, &key].map(|key| cloud.server.object(key).unwrap());
    cloud.server.insert(&own_key, b"rubbish");
    cloud.server.insert(&key, b"rubbish");
    let disk = cloud.person.top.join("disk");
    cloud.person.configure(&format!("[[store]]\nname = \"disk\"\npath = {:?}", disk.display().to_string()));
    cloud.ok(&["init"]);
    let first = json(&cloud, &["sync", "--to", "disk"]);
    for (id, original) in [&own, &id].iter().zip(&originals) {
        let copied = fs::read(disk.join(format!("snapshots/{id}.json"))).unwrap();
        assert!(copied == *original, "snapshot {id} is not what it was: {first:#}");
    }
    assert!(!first.to_string().contains("still lacks"), "{first:#}");
    let again = json(&cloud, &["sync", "--to", "disk"]);
    assert_eq!(again["stores"][0]["entries"], 0, "{again:#}");
    // And in its own place.
    let mended = json(&cloud, &["sync"]);
    assert_eq!(mended["stores"][0]["mended"].as_array().unwrap().len(), 2, "{mended:#}");
    assert_eq!([&own_key, &key].map(|key| cloud.server.object(key).unwrap()), originals);
    cloud.ok(&["list"]);
    cloud.ok(&["sync"]);
}

#[test]
fn a_document_that_was_overwritten_in_the_only_store_is_put_back_from_its_own_older_version() {
    let cloud = versioned();
    cloud.backup();
    let all = keys(&cloud.server);
    let signed: Vec<&String> =
        all.iter().filter(|key| key.contains("/marks/") || key.contains("/snapshots/")).collect();
    let originals: Vec<_> = signed.iter().map(|key| cloud.server.object(key).unwrap()).collect();
    cloud.run(&["sync"]).code(2).error();
    signed.iter().for_each(|key| cloud.server.insert(key, b"{}\n"));
    cloud.run(&["list"]).code(4).says(&["an older version of it", "`backstay sync` puts"]);
    let report = json(&cloud, &["sync"]);
    assert_eq!(report["stores"][0]["mended"].as_array().unwrap().len(), signed.len(), "{report:#}");
    let now: Vec<_> = signed.iter().map(|key| cloud.server.object(key).unwrap()).collect();
    assert!(now == originals, "they are not what they were");
    cloud.ok(&["list"]);
    cloud.ok(&["backup"]);
    cloud.run(&["sync"]).code(2).error();
}

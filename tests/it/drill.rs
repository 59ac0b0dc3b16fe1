//! `drill`: a snapshot really brought back, checked, timed, and taken away; what was not found out is no success.

use crate::common::person::{Person, Said};
use backstay::store::Key;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn scratch(person: &Person) -> PathBuf {
    person.home.join(".local/state/backstay/tsushin/scratch")
}

fn left(person: &Person) -> usize {
    fs::read_dir(scratch(person)).map_or(0, Iterator::count)
}

fn drill(person: &Person, code: i32, args: &[&str]) -> Value {
    let report = person.json(code, [&["drill"], args].concat());
    assert_eq!(left(person), 0, "something stays behind");
    report
}

fn archives(store: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(store.join("archives")).unwrap().map(|e| e.unwrap().path());
    folders.flat_map(|dir| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path())).collect()
}

#[test]
fn a_drill_brings_everything_back_checks_it_and_leaves_nothing() {
    let person = Person::set_up();
    let id = person.backup();
    let before = crate::common::person::everything_below(&person.app.join("backend"));
    let report = drill(&person, 0, &[]);
    assert_eq!(
        (&report["outcome"], &report["snapshot"]),
        (&"full".into(), &id.as_str().into()),
        "{report:#}"
    );
    assert_eq!(report["components"].as_array().unwrap().len(), 4, "{report:#}");
    let databases = report["components"].as_array().unwrap().iter().map(|c| c["databases"].as_u64().unwrap());
    assert_eq!(databases.sum::<u64>(), 1, "{report:#}");
    assert!(report["restore_seconds"].as_f64().unwrap() > 0.0, "{report:#}");
    assert_eq!(
        crate::common::person::everything_below(&person.app.join("backend")),
        before,
        "nothing live changes"
    );
    let show = person.json(0, ["show"]);
    assert_eq!(show["proofs"][0]["last_drill"]["good"], true, "{show:#}");
    assert!(person.ok(["show"]).out.contains("drilled 2"));
    // The bytes of every object are as unproved as before: a drill is about what comes back.
    let report = drill(&person, 0, &[&id, "--only", "db"]);
    assert_eq!((&report["whole"], &report["verdicts"]), (&false.into(), &0.into()), "{report:#}");
    person.fails(16, ["drill", "--only", "nothing"]);
}

/// Lets the component `backend` have this check.
fn set_check(person: &Person, check: &str) {
    let text = fs::read_to_string(person.config_path()).unwrap();
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with("check = ")).map(str::to_owned).collect();
    let at = lines.iter().position(|line| line.trim() == "name = \"backend\"").unwrap();
    lines.insert(at + 1, format!("check = {check}"));
    fs::write(person.config_path(), lines.join("\n") + "\n").unwrap();
}

#[test]
fn the_components_own_check_decides_on_what_came_back() {
    let person = Person::set_up();
    set_check(
        &person,
        "'test -f app/main.py && test -n \"$BACKSTAY_SNAPSHOT\" && test -d \"$BACKSTAY_RESTORED\"'",
    );
    person.backup();
    let report = drill(&person, 0, &[]);
    let backend = report["components"].as_array().unwrap().iter().find(|c| c["name"] == "backend").unwrap();
    assert_eq!(backend["check_run"], true, "{report:#}");
    set_check(&person, "'echo it is not here >&2; test -f app/other.py'");
    let report = drill(&person, 13, &[]);
    assert_eq!(report["outcome"], "partial", "{report:#}");
    assert!(report["problems"][0]["what"].as_str().unwrap().contains("it is not here"), "{report:#}");
    let list = person.json(0, ["list"]);
    assert_eq!(list["snapshots"][0]["good"], false, "what failed its drill is not good: {list:#}");
    // One that cannot be run finds nothing out.
    set_check(&person, "[\"/nowhere/at-all\"]");
    let report = drill(&person, 1, &["latest"]);
    assert_eq!((&report["outcome"], &report["verdicts"]), (&"inconclusive".into(), &0.into()), "{report:#}");
    // And a good drill takes back what a bad one said.
    set_check(&person, "'true'");
    drill(&person, 0, &["latest"]);
    let list = person.json(0, ["list"]);
    assert_eq!(list["snapshots"][0]["good"], true, "{list:#}");
}

#[test]
fn a_dump_is_given_to_its_check_as_it_came_back() {
    let person = Person::set_up();
    person.configure(
        "[[component]]\nname = \"dump\"\ncommand = \"echo a dump\"\ncheck = \"grep -q '^a dump$'\"",
    );
    person.backup();
    let report = drill(&person, 0, &["--only", "dump"]);
    assert_eq!(report["components"][0]["check_run"], true, "{report:#}");
    person.reconfigure("grep -q '^a dump$'", "grep -q other");
    let report = drill(&person, 13, &["--only", "dump"]);
    assert_eq!(report["outcome"], "partial", "{report:#}");
}

#[test]
fn what_is_lost_makes_it_partial_and_names_the_object_and_nothing_at_all_unrecoverable() {
    let person = Person::set_up();
    person.backup();
    let all = archives(&person.store());
    let (path, whole) = (all[0].clone(), fs::read(&all[0]).unwrap());
    let mut bytes = whole.clone();
    for byte in bytes.iter_mut().skip(300) {
        *byte ^= 1;
    }
    fs::write(&path, &bytes).unwrap();
    let report = drill(&person, 13, &[]);
    assert_eq!(report["outcome"], "partial", "{report:#}");
    let name = path.strip_prefix(person.store()).unwrap().to_str().unwrap();
    assert_eq!(report["damaged"], serde_json::json!([name]), "{report:#}");
    assert!(Key::parse(name).is_some());
    let list = person.json(0, ["list"]);
    assert_eq!(list["snapshots"][0]["proofs"][0]["bad"][0], name, "{list:#}");
    fs::write(&path, &whole).unwrap();
    for path in archives(&person.store()) {
        fs::write(path, b"").unwrap();
    }
    let report = drill(&person, 13, &["latest"]);
    assert_eq!((&report["outcome"], &report["bytes"]), (&"unrecoverable".into(), &0.into()), "{report:#}");
    let backend = report["components"].as_array().unwrap().iter().find(|c| c["name"] == "backend").unwrap();
    assert_eq!((&backend["files"], &backend["lost"]), (&0.into(), &2.into()), "{report:#}");
}

#[test]
fn where_there_is_no_room_content_is_compared_and_what_needs_room_is_inconclusive() {
    let person = Person::set_up();
    person.backup();
    let run = |args: &[&str]| -> Said {
        let mut command = person.command([&["drill", "--json"], args].concat());
        command.env("BACKSTAY_TEST_ROOM", "1000").output().unwrap().into()
    };
    let said = run(&["--only", "frontend"]).code(0);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&report["outcome"], &report["components"][0]["how"]),
        (&"full".into(), &"compared".into()),
        "{report:#}"
    );
    let said = run(&["--only", "db"]).code(1);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["outcome"], "inconclusive", "{report:#}");
    assert!(said.err.contains("scratch"), "{}", said.err);
    assert_eq!(left(&person), 0);
}

/// What this machine remembers of the last drill: its snapshot and its result.
fn remembered(person: &Person) -> (Value, Value) {
    let file = person.home.join(".local/state/backstay/tsushin/drills.json");
    let all: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let note = all["drills"].as_object().unwrap().values().next().unwrap();
    (note["snapshot"].clone(), note["result"].clone())
}

/// Exchanges the identity, and loses the one before.
fn lose_old_identity(person: &Person) {
    let old = fs::read_to_string(person.identity()).unwrap();
    person.json(0, ["keys", "rotate", "--yes"]);
    let new = PathBuf::from(person.config()["encryption"]["identity_file"].as_str().unwrap());
    let both = fs::read_to_string(&new).unwrap();
    let left: Vec<&str> = both.lines().filter(|line| !old.lines().any(|known| known == *line)).collect();
    fs::write(&new, left.join("\n") + "\n").unwrap();
    fs::remove_file(person.identity()).unwrap();
}

#[test]
fn a_snapshot_that_cannot_be_opened_leaves_what_a_drill_found_out_of_the_others() {
    let person = Person::set_up();
    let whole = person.backup();
    drill(&person, 0, &[]);
    lose_old_identity(&person);
    let db = person.json(0, ["backup", "--only", "db"])["snapshot"].as_str().unwrap().to_owned();
    let report = drill(&person, 1, &[]);
    assert_eq!((&report["outcome"], &report["verdicts"]), (&"inconclusive".into(), &1.into()), "{report:#}");
    let found = report["snapshots"].as_array().unwrap().iter();
    let found: Vec<(&str, &str)> =
        found.map(|s| (s["snapshot"].as_str().unwrap(), s["outcome"].as_str().unwrap())).collect();
    assert_eq!(found, [(db.as_str(), "full"), (whole.as_str(), "inconclusive")], "{report:#}");
    assert_eq!(report["not_drilled"], serde_json::json!(["backend", "frontend", "settings"]), "{report:#}");
    let problem = &report["problems"][0];
    assert_eq!(problem["subject"], format!("snapshot {whole}"), "{report:#}");
    assert!(problem["what"].as_str().unwrap().contains("could not be drilled to its end"), "{report:#}");
    let show = person.json(0, ["show", &db]);
    assert_eq!(show["proofs"][0]["last_drill"]["good"], true, "{show:#}");
    assert_eq!(remembered(&person), (db.as_str().into(), "inconclusive".into()));
    // Where nothing at all is found out, that is an error, and no drill.
    person.fails(12, ["drill", &whole]);
    assert_eq!(remembered(&person), (db.as_str().into(), "inconclusive".into()));
}

#[test]
fn a_drill_that_cannot_be_noted_down_tells_what_it_found_out() {
    let person = Person::set_up();
    person.backup();
    // No file can be written in its place.
    let note = person.home.join(".local/state/backstay/tsushin/drills.json");
    fs::create_dir_all(note.join("in the way")).unwrap();
    let report = drill(&person, 0, &[]);
    assert_eq!((&report["outcome"], &report["verdicts"]), (&"full".into(), &1.into()), "{report:#}");
    let problem = &report["problems"][0];
    assert_eq!(problem["kind"], "warning", "{report:#}");
    assert!(
        problem["what"].as_str().unwrap().contains("cannot remember what came of the drill"),
        "{report:#}"
    );
}

#[test]
fn a_component_that_is_named_twice_is_meant_once() {
    let person = Person::set_up();
    let env = fs::read(person.app.join(".env")).unwrap();
    person.json(0, ["backup", "--only", "settings", "--only", "frontend", "--only", "settings"]);
    let twice = ["--only", "settings", "--only", "settings"];
    let report = drill(&person, 0, &[&["latest"], &twice[..]].concat());
    assert_eq!(report["components"].as_array().unwrap().len(), 1, "{report:#}");
    // Half of a snapshot is not the snapshot.
    assert_eq!((&report["whole"], &report["verdicts"]), (&false.into(), &0.into()), "{report:#}");
    let show = person.json(0, ["show"]);
    assert_eq!(show["proofs"][0]["last_drill"], Value::Null, "{show:#}");
    fs::write(person.app.join(".env"), "ruined\n").unwrap();
    let plan = person.json(0, [&["rollback", "latest", "--dry-run"], &twice[..]].concat());
    assert_eq!(plan["places"].as_array().unwrap().len(), 1, "{plan:#}");
    person.json(0, [&["rollback", "latest", "--yes"], &twice[..]].concat());
    assert_eq!(fs::read(person.app.join(".env")).unwrap(), env);
}

#[test]
fn a_drill_with_a_kit_alone_uses_no_folder_that_somebody_made_before() {
    let person = Person::set_up();
    person.backup();
    let (kit, shared) = (person.top.join("kit.txt"), person.top.join("tmp"));
    person.ok(["kit", "-o", kit.to_str().unwrap()]);
    let set_mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let planted = shared.join(format!("backstay-{}", rustix::process::geteuid().as_raw()));
    fs::create_dir_all(&planted).unwrap();
    set_mode(&shared, 0o1777);
    set_mode(&planted, 0o777);
    let drill = |crash: &str| -> Said {
        let mut command = person.command(["--kit", kit.to_str().unwrap(), "drill"]);
        command.env("TMPDIR", &shared).env("BACKSTAY_TEST_CRASH", crash).output().unwrap().into()
    };
    let others = || {
        let all = fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| *path != planted).collect::<Vec<_>>()
    };
    drill("drill: component restored#1").code(-1);
    assert_eq!(fs::read_dir(&planted).unwrap().count(), 0);
    let left = others();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::metadata(&left[0]).unwrap().permissions().mode() & 0o777, 0o700);
    drill("none#1").code(0);
    assert_eq!(others(), [] as [PathBuf; 0], "nothing stays");
    // Without the sticky bit anybody could exchange the folder.
    set_mode(&shared, 0o777);
    drill("none#1").code(1).error().says(&["can be exchanged by everybody", "TMPDIR"]);
}

/// Runs `args` once for each point that it passes, killed there, and then looks around.
fn killed_everywhere(person: &Person, args: &[&str], then: impl Fn(usize)) {
    let counted = person.top.join("points");
    let mut command = person.command(args);
    let said: Said = command.env("BACKSTAY_TEST_CRASH_COUNT_FILE", &counted).output().unwrap().into();
    assert_eq!(said.code, 0, "{said}");
    let points: Vec<String> = fs::read_to_string(&counted).unwrap().lines().map(str::to_owned).collect();
    assert!(points.len() > 3, "{points:?}");
    let mut seen: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let (mut killed, mut tried) = (0, 0);
    for (at, line) in points.iter().enumerate() {
        let name = line.split_once(' ').unwrap().1;
        let times = seen.entry(name).or_default();
        *times += 1;
        if *times > 2 {
            continue;
        }
        let mut command = person.command(args);
        let said: Said = command.env("BACKSTAY_TEST_CRASH", (at + 1).to_string()).output().unwrap().into();
        killed += usize::from(said.code != 0);
        tried += 1;
        then(at);
    }
    // A run after a killed one may pass a point less; most must have been killed.
    assert!(killed * 4 >= tried * 3, "{killed} of {tried}");
}

#[test]
fn a_kill_at_any_point_of_verify_or_drill_leaves_a_whole_history_and_the_next_drill_clears_the_litter() {
    let person = Person::set_up();
    person.backup();
    killed_everywhere(&person, &["verify", "--decrypt"], |at| {
        let list = person.json(0, ["list"]);
        assert_eq!(list["history"], Value::Array(Vec::new()), "{at}: {list:#}");
    });
    killed_everywhere(&person, &["drill", "latest"], |at| {
        let list = person.json(0, ["list"]);
        assert_eq!(list["history"], Value::Array(Vec::new()), "{at}: {list:#}");
    });
    drill(&person, 0, &[]);
    assert_eq!(person.json(0, ["verify", "--read-data"])["damage"], serde_json::json!([]));
    person.backup();
}

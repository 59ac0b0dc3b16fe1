//! A schedule that captures the database more often than the rest: most snapshots hold it alone, and what is asked for may be in an older one.

use crate::common::person::{Person, Said};
use crate::common::project::{exe, program};
use crate::recover::{Fresh, of_app, rows};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Somebody whose newest two snapshots hold the database alone.
struct OftenDb {
    person: Person,
    /// Snapshots of everything, the oldest first; between them main.py changed.
    whole: [String; 2],
    /// Snapshots of the database alone, the oldest first.
    db: [String; 2],
}

fn add_row(app: &Path) {
    let db = rusqlite::Connection::open(app.join("backend/data/agent.db")).unwrap();
    db.execute("INSERT INTO message(text) VALUES ('one more')", ()).unwrap();
}

fn main_py(app: &Path) -> PathBuf {
    app.join("backend/app/main.py")
}

#[track_caller]
fn backup_of(person: &Person, only: &[&str]) -> String {
    let report = person.json(0, [&["backup"], only].concat());
    assert_eq!((&report["good"], &report["problems"]), (&true.into(), &json!([])), "{report:#}");
    report["snapshot"].as_str().unwrap().to_owned()
}

impl OftenDb {
    fn new() -> Self {
        Self::of(Person::set_up())
    }

    fn of(person: Person) -> Self {
        fs::write(main_py(&person.app), "one\n").unwrap();
        let first = backup_of(&person, &[]);
        fs::write(main_py(&person.app), "two\n").unwrap();
        let second = backup_of(&person, &[]);
        let db = [(); 2].map(|()| {
            add_row(&person.app);
            backup_of(&person, &["--only", "db"])
        });
        Self { person, whole: [first, second], db }
    }

    fn kit(&self) -> PathBuf {
        let kit = self.person.top.join("kit.txt");
        if !kit.exists() {
            self.person.ok(["kit", "-o", kit.to_str().unwrap()]);
        }
        kit
    }

    /// A new machine with the kit and a copy of the store, and the words that recover there.
    fn gone(&self) -> Lost {
        let fresh = Fresh::new();
        let kit = fresh.take_kit(&self.kit());
        let store = fresh.top.join("stick");
        copy(&self.person.store(), &store);
        Lost { app: fresh.top.join("app"), kit, store, fresh }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// A machine that is to take the place of another.
struct Lost {
    fresh: Fresh,
    kit: PathBuf,
    store: PathBuf,
    app: PathBuf,
}

impl Lost {
    fn args(&self, more: &[&str]) -> Vec<String> {
        let [kit, store, app] = [&self.kit, &self.store, &self.app].map(|p| p.to_str().unwrap().to_owned());
        let own = ["recover".to_owned(), kit, "--store".into(), store, "--to".into(), app, "--yes".into()];
        own.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }

    fn run(&self, more: &[&str], env: &[(&str, &str)]) -> Said {
        let mut command = program(exe(), &self.fresh.home);
        command.current_dir(&self.fresh.top).args(self.args(more)).envs(env.iter().copied());
        command.output().unwrap().into()
    }

    #[track_caller]
    fn json(&self, more: &[&str]) -> Value {
        let said = self.run(&[more, &["--json"]].concat(), &[]).code(0);
        serde_json::from_str(&said.out).unwrap()
    }

    /// From which snapshot each component came.
    fn origins(report: &Value) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = report["recovered"]["components"].as_array().unwrap().iter();
        all.map(|c| (text(&c["name"]), text(&c["snapshot"]))).collect()
    }
}

fn origins<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, String> {
    of.map(|(name, id)| (name.to_owned(), id.to_owned())).into()
}

#[test]
fn a_lost_machine_gets_each_component_from_the_newest_good_snapshot_that_holds_it() {
    let often = OftenDb::new();
    let ([_, whole], [_, db]) = (&often.whole, &often.db);
    let lost = often.gone();
    let report = lost.json(&[]);
    let done = &report["recovered"];
    assert_eq!((&report["found"]["taken"], &done["snapshot"]), (&db.as_str().into(), &db.as_str().into()));
    let expected = origins([("backend", whole), ("frontend", whole), ("settings", whole), ("db", db)]);
    assert_eq!(Lost::origins(&report), expected, "{done:#}");
    assert!(done["components"].as_array().unwrap().iter().all(|c| c["at_its_place"] == true), "{done:#}");
    assert_eq!(of_app(&lost.app), of_app(&often.person.app));
    assert_eq!(rows(&lost.app), 202);
    let moments = done["moments"].as_str().unwrap();
    assert!(moments.contains("different moments: db of "), "{moments}");
    assert_eq!(done["next"][0], moments, "{done:#}");
    assert!(!done["next"].to_string().contains("not brought back"), "{done:#}");
    let instants: Vec<&str> =
        done["components"].as_array().unwrap().iter().map(|c| c["instant"].as_str().unwrap()).collect();
    assert!(instants.iter().any(|instant| *instant != instants[0]), "{instants:?}");
    // The history goes on, with all components.
    let made = lost.fresh.json(0, &lost.app, &["backup"]);
    assert_eq!(made["components"].as_array().unwrap().len(), 4, "{made:#}");
    // The same in words: before, and after.
    let lost = often.gone();
    let said = lost.run(&[], &[]).code(0).says(&[&format!("(from {whole})"), "different moments: db of "]);
    assert!(said.out.contains(&format!("from {whole}")) && said.out.contains("different moments"), "{said}");
}

#[test]
fn what_a_recovery_did_not_bring_is_named_with_the_newest_snapshot_that_holds_it() {
    let person = Person::set_up();
    let often = OftenDb::of(person);
    fs::create_dir(often.person.app.join("uploads")).unwrap();
    often.person.configure("[[component]]\nname = \"uploads\"\npath = \"uploads\"");
    add_row(&often.person.app);
    let newest = backup_of(&often.person, &["--only", "db"]);
    let ([old, whole], [_, db]) = (&often.whole, &often.db);
    let next = |report: &Value| report["recovered"]["next"].to_string();
    let restore = |id: &str, name: &str| format!("`backstay restore {id} {name} --to DIR`");

    let report = often.gone().json(&["--snapshot", db]);
    assert_eq!(Lost::origins(&report), origins([("db", db)]), "a snapshot that is named is taken alone");
    assert!(next(&report).contains(&restore(whole, "backend")), "{report:#}");
    assert_eq!(report["recovered"]["moments"], Value::Null);

    let report = often.gone().json(&["--only", "backend"]);
    assert_eq!(Lost::origins(&report), origins([("backend", whole)]));
    assert!(next(&report).contains(&restore(&newest, "db")), "{report:#}");
    assert!(next(&report).contains(&restore(whole, "frontend")), "{report:#}");
    let nowhere = "component uploads is in the configuration, and in no snapshot";
    assert!(next(&report).contains(nowhere), "{report:#}");

    let report = often.gone().json(&["--only", "db", "--snapshot", old]);
    assert_eq!(Lost::origins(&report), origins([("db", old)]));
    assert!(next(&report).contains(&restore(whole, "backend")), "{report:#}");

    let lost = often.gone();
    let said = lost.run(&["--only", "nope"], &[]).code(16).error();
    said.says(&["no component \"nope\"", "backend", "db"]);
    lost.run(&["--only", "uploads"], &[]).code(16).error().says(&["no component \"uploads\""]);
    let said = lost.run(&["--only", "backend", "--snapshot", db], &[]).code(16).error();
    said.says(&[whole, "leave --snapshot away"]);
    assert!(!lost.app.exists());
}

#[test]
fn a_bundle_of_the_repository_comes_back_with_the_code_that_it_belongs_to() {
    if !crate::common::project::have(&["git"]) {
        return;
    }
    let person = Person::set_up();
    for args in [["init", "-q"].as_slice(), &["add", "app"], &["commit", "-q", "-m", "one"]] {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=x", "-c", "user.email=x@example"]).args(args);
        assert!(git.current_dir(person.app.join("backend")).status().unwrap().success(), "{args:?}");
    }
    let often = OftenDb::of(person);
    let whole = backup_of(&often.person, &["--git=bundle"]);
    let db = backup_of(&often.person, &["--only", "db"]);
    let report = often.gone().json(&[]);
    let mut from = Lost::origins(&report);
    assert_eq!(from.remove("db"), Some(db), "{report:#}");
    assert_eq!(from.len(), 4, "three components and the bundle: {report:#}");
    assert!(from.values().all(|id| *id == whole), "{report:#}");
}

/// Where the index of a snapshot lies in a store.
fn index_in(store: &Path, id: &str) -> PathBuf {
    let record = fs::read_to_string(store.join(format!("snapshots/{id}.json"))).unwrap();
    let record: Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    let hash = record["index"].as_str().unwrap();
    store.join(format!("manifests/{}/{hash}.jsonl.zst.age", &hash[..2]))
}

#[test]
fn a_snapshot_that_cannot_be_opened_is_passed_over_for_the_next_that_holds_the_component() {
    let often = OftenDb::new();
    let ([old, whole], [_, db]) = (&often.whole, &often.db);
    let lost = often.gone();
    fs::write(index_in(&lost.store, whole), "damaged").unwrap();
    let report = lost.json(&[]);
    let expected = origins([("backend", old), ("frontend", old), ("settings", old), ("db", db)]);
    assert_eq!(Lost::origins(&report), expected, "{report:#}");
    assert_eq!(fs::read_to_string(main_py(&lost.app)).unwrap(), "one\n");
    let problem = &report["recovered"]["problems"][0];
    assert_eq!(
        (&problem["kind"], &problem["subject"]),
        (&"warning".into(), &format!("snapshot {whole}").into())
    );
    // Where none is left the rest comes back, and that this is not all is said.
    let lost = often.gone();
    for id in [old, whole] {
        fs::write(index_in(&lost.store, id), "damaged").unwrap();
    }
    let said = lost.run(&["--json"], &[]).code(3);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(Lost::origins(&report), origins([("db", db)]), "{report:#}");
    assert!(
        report["recovered"]["next"].to_string().contains("component backend was not brought back"),
        "{report:#}"
    );
}

#[test]
fn a_component_of_which_no_snapshot_is_good_comes_back_and_that_is_said() {
    let person = Person::set_up();
    person.configure("[[component]]\nname = \"uploads\"\npath = \"uploads\"");
    let report = person.json(3, ["backup"]);
    let whole = report["snapshot"].as_str().unwrap().to_owned();
    let db = backup_of(&person, &["--only", "db"]);
    let kit = person.top.join("kit.txt");
    person.ok(["kit", "-o", kit.to_str().unwrap()]);
    let fresh = Fresh::new();
    let (store, app) = (fresh.top.join("stick"), fresh.top.join("app"));
    copy(&person.store(), &store);
    let lost = Lost { kit: fresh.take_kit(&kit), store, app, fresh };
    let said = lost.run(&["--json"], &[]);
    let report: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said}"));
    let from = Lost::origins(&report);
    assert_eq!((from["db"].as_str(), from["backend"].as_str()), (db.as_str(), whole.as_str()), "{report:#}");
    let problems = report["recovered"]["problems"].as_array().unwrap();
    let of_backend = problems.iter().find(|p| p["component"] == "backend").unwrap();
    assert!(of_backend["what"].as_str().unwrap().contains("not good"), "{report:#}");
    assert!(said.err.contains("NOT GOOD: something could not be captured"), "{said}");
}

#[test]
fn what_a_rollback_put_away_is_taken_by_no_recovery_unless_it_is_named() {
    let person = Person::set_up();
    fs::write(main_py(&person.app), "well\n").unwrap();
    let good = backup_of(&person, &[]);
    fs::write(main_py(&person.app), "broken\n").unwrap();
    let report = person.json(0, ["rollback", &good]);
    let safety = report["safety"].as_str().unwrap().to_owned();
    let kit = person.top.join("kit.txt");
    person.ok(["kit", "-o", kit.to_str().unwrap()]);
    let recover = |more: &[&str]| {
        let fresh = Fresh::new();
        let (store, app) = (fresh.top.join("stick"), fresh.top.join("app"));
        copy(&person.store(), &store);
        let lost = Lost { kit: fresh.take_kit(&kit), store, app, fresh };
        let report = lost.json(more);
        (report, fs::read_to_string(main_py(&lost.app)).unwrap())
    };
    let (report, main) = recover(&[]);
    let found = &report["found"];
    assert_eq!((main.as_str(), &found["taken"]), ("well\n", &good.as_str().into()), "{report:#}");
    let why = found["why"].as_str().unwrap();
    assert!(why.contains(&safety) && why.contains("was made by a rollback"), "{why}");
    let rows = found["snapshots"].as_array().unwrap();
    let kind = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap()["kind"].clone();
    assert_eq!((kind(&good), kind(&safety)), ("normal".into(), "safety".into()), "{found:#}");
    assert_eq!(recover(&["--snapshot", &safety]).1, "broken\n");
}

/// The crash points that a run of `lost` passes, in order.
fn points(lost: &Lost) -> Vec<String> {
    let file = lost.fresh.top.join("points");
    lost.run(&[], &[("BACKSTAY_TEST_CRASH_COUNT_FILE", file.to_str().unwrap())]).code(0);
    let lines = fs::read_to_string(&file).unwrap();
    lines.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn a_recovery_from_several_snapshots_goes_on_with_those_it_was_begun_with() {
    let often = OftenDb::new();
    let ([_, whole], [_, db]) = (&often.whole, &often.db);
    let points = points(&often.gone());
    let kills: Vec<(usize, Lost)> =
        ["recover: begun", "recover: component restored", "recover: component at its place"]
            .into_iter()
            .flat_map(|name| {
                let places = points.iter().enumerate().filter(move |(_, point)| *point == name);
                places.map(|(place, _)| place + 1).step_by(2).collect::<Vec<_>>()
            })
            .map(|point| (point, often.gone()))
            .collect();
    assert!(kills.len() >= 5, "{points:?}");
    for (point, lost) in &kills {
        let said = lost.run(&[], &[("BACKSTAY_TEST_CRASH", &point.to_string())]);
        assert_ne!(said.code, 0, "{point}: it was not killed\n{said}");
    }
    // Meanwhile there is something newer of everything.
    let expected = of_app(&often.person.app);
    fs::write(main_py(&often.person.app), "three\n").unwrap();
    add_row(&often.person.app);
    backup_of(&often.person, &[]);
    for (point, lost) in &kills {
        fs::remove_dir_all(&lost.store).unwrap();
        copy(&often.person.store(), &lost.store);
        let report = lost.json(&[]);
        assert_eq!(report["recovered"]["resumed"], true, "{point}");
        let same = origins([("backend", whole), ("frontend", whole), ("settings", whole), ("db", db)]);
        assert_eq!(Lost::origins(&report), same, "{point}");
        assert_eq!((&of_app(&lost.app), rows(&lost.app)), (&expected, 202), "{point}");
        assert!(!lost.app.join(".backstay-recovery").exists(), "{point}");
    }
}

#[test]
fn a_recovery_begun_by_an_older_program_goes_on_with_its_one_snapshot_and_says_what_that_lacks() {
    let often = OftenDb::new();
    let lost = often.gone();
    let begun = 1 + points(&often.gone()).iter().position(|point| point == "recover: begun").unwrap();
    lost.run(&[], &[("BACKSTAY_TEST_CRASH", &begun.to_string())]);
    let file = lost.app.join(".backstay-recovery/recovery.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(text.as_object_mut().unwrap().remove("components").is_some(), "{text:#}");
    fs::write(&file, text.to_string()).unwrap();
    let report = lost.json(&[]);
    assert_eq!(Lost::origins(&report), origins([("db", &often.db[1])]), "{report:#}");
    let next = report["recovered"]["next"].to_string();
    assert!(next.contains(&format!("backstay restore {} backend", often.whole[1])), "{next}");
}

/// What this machine remembers of the last drill.
fn remembered(person: &Person) -> Value {
    let file = person.home.join(".local/state/backstay/tsushin/drills.json");
    let all: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    all["drills"].as_object().unwrap().values().next().unwrap().clone()
}

#[test]
fn a_drill_brings_back_each_component_from_the_newest_good_snapshot_that_holds_it() {
    let often = OftenDb::new();
    let ([_, whole], [_, db]) = (&often.whole, &often.db);
    let person = &often.person;
    let report = person.json(0, ["drill"]);
    assert_eq!((&report["outcome"], &report["whole"]), (&"full".into(), &true.into()), "{report:#}");
    assert_eq!((&report["not_drilled"], &report["verdicts"]), (&json!([]), &2.into()), "{report:#}");
    let drilled: Vec<&str> =
        report["snapshots"].as_array().unwrap().iter().map(|s| s["snapshot"].as_str().unwrap()).collect();
    assert_eq!(drilled, [db.as_str(), whole.as_str()], "{report:#}");
    let of =
        |id: &str| report["components"].as_array().unwrap().iter().filter(|c| c["snapshot"] == id).count();
    assert_eq!((of(db), of(whole)), (1, 4), "a snapshot is drilled whole: {report:#}");
    assert_eq!((&remembered(person)["result"], &remembered(person)["whole"]), (&"full".into(), &true.into()));
    for id in [db, whole] {
        let show = person.json(0, ["show", id]);
        assert_eq!(show["proofs"][0]["last_drill"]["good"], true, "{show:#}");
    }
    let said = person.ok(["drill"]);
    assert!(
        said.out.contains(db) && said.out.contains(whole) && said.out.contains("FULL: everything came"),
        "{said}"
    );
    // What is named comes from the newest that holds it.
    let report = person.json(0, ["drill", "--only", "backend"]);
    assert_eq!(
        (&report["snapshot"], &report["whole"]),
        (&whole.as_str().into(), &false.into()),
        "{report:#}"
    );
    assert_eq!(report["not_drilled"], json!(["frontend", "settings", "db"]), "{report:#}");
    assert_eq!(remembered(person)["whole"], false);
    // One snapshot that lacks the most is not everything, however well it is.
    let report = person.json(0, ["drill", db]);
    assert_eq!((&report["outcome"], &report["whole"]), (&"full".into(), &false.into()), "{report:#}");
    let said = person.ok(["drill", db]);
    assert!(said.out.contains("not drilled") && said.out.contains("backend"), "{said}");
    // With a kit alone nobody knows what should be there.
    let kit = often.kit();
    let report = person.json(0, ["--kit", kit.to_str().unwrap(), "drill"]);
    assert_eq!((&report["snapshot"], &report["whole"]), (&db.as_str().into(), &true.into()), "{report:#}");
}

#[test]
fn a_drill_without_a_component_that_no_good_snapshot_holds_is_not_full() {
    let often = OftenDb::new();
    let person = &often.person;
    fs::create_dir(person.app.join("uploads")).unwrap();
    person.configure("[[component]]\nname = \"uploads\"\npath = \"uploads\"");
    let report = person.json(1, ["drill"]);
    assert_eq!((&report["outcome"], &report["whole"]), (&"inconclusive".into(), &false.into()), "{report:#}");
    assert_eq!((&report["not_drilled"], &report["verdicts"]), (&json!(["uploads"]), &2.into()), "{report:#}");
    assert!(
        report["problems"][0]["what"].as_str().unwrap().contains("no good snapshot holds it"),
        "{report:#}"
    );
    let note = remembered(person);
    assert_eq!((&note["result"], &note["whole"]), (&"inconclusive".into(), &false.into()), "{note:#}");
    let said = person.run(["drill"]).code(1);
    assert!(said.out.contains("uploads, not drilled") && said.out.contains("no success"), "{said}");
    backup_of(person, &[]);
    assert_eq!(person.json(0, ["drill"])["whole"], true);
}

#[test]
fn a_word_that_chooses_a_snapshot_means_one_that_holds_what_is_named() {
    let often = OftenDb::new();
    let person = &often.person;
    let ([old, whole], [_, db]) = (&often.whole, &often.db);
    let is = |id: &str, report: &Value| assert_eq!(report["snapshot"], id, "{report:#}");
    is(db, &person.json(0, ["ls", "latest"]));
    is(whole, &person.json(0, ["ls", "latest", "backend"]));
    is(whole, &person.json(0, ["ls", "latest", "./backend/app"]));
    is(whole, &person.json(0, ["ls", "latest-good", "./.env"]));
    is(db, &person.json(0, ["ls", "latest", "./backend/data/agent.db"]));
    is(old, &person.json(0, ["ls", "latest~1", "backend"]));
    person.fails(16, ["ls", "latest~2", "backend"]).says(&["there are 2", "hold backend"]);
    person.fails(16, ["ls", "latest", "nope"]).says(&["no component \"nope\""]);
    // Whoever names one means that one.
    person.fails(16, ["ls", db, "backend"]).says(&["no component \"backend\""]);
    assert_eq!(person.ok(["cat", "latest", "backend/app/main.py"]).out, "two\n");
    let to = person.top.join("back");
    is(old, &person.json(0, ["restore", "latest~1", "backend/app/main.py", "--to", to.to_str().unwrap()]));
    assert_eq!(fs::read_to_string(to.join("backend/app/main.py")).unwrap(), "one\n");
    fs::write(main_py(&person.app), "ruined\n").unwrap();
    let diff = person.json(0, ["diff", "latest", "backend"]);
    assert_eq!(diff["from"], whole.as_str(), "{diff:#}");
    let in_place = ["restore", "latest", "./backend/app/main.py", "--in-place", "--yes"];
    is(whole, &person.json(0, in_place));
    assert_eq!(fs::read_to_string(main_py(&person.app)).unwrap(), "two\n");
    is(whole, &person.json(0, ["rollback", "latest", "--only", "backend", "--dry-run"]));
    is(whole, &person.json(0, ["rollback", "latest", "--only", "backend", "--only", "db", "--dry-run"]));
    // At a moment it is the newest until then that holds it.
    let list = person.json(0, ["list"]);
    let started = |id: &str| {
        let rows = list["snapshots"].as_array().unwrap();
        format!("@{}", rows.iter().find(|row| row["id"] == id).unwrap()["started"].as_str().unwrap())
    };
    is(whole, &person.json(0, ["ls", &started(db), "backend"]));
    is(old, &person.json(0, ["ls", &started(old), "backend"]));
    person.ok(["tag", db, "only-db"]);
    person.fails(16, ["ls", "tag:only-db", "backend"]).says(&["no component \"backend\"", "there are: db"]);
    // With a kit alone, too.
    let kit = often.kit();
    is(whole, &person.json(0, ["--kit", kit.to_str().unwrap(), "ls", "latest", "backend"]));
}

#[test]
fn a_snapshot_that_is_taken_whole_says_what_of_the_project_it_lacks() {
    let often = OftenDb::new();
    let person = &often.person;
    let ([_, whole], [_, db]) = (&often.whole, &often.db);
    let to = |name: &str| person.top.join(name).to_str().unwrap().to_owned();
    let report = person.json(0, ["restore", "latest", "--to", &to("a")]);
    let problem = &report["problems"][0];
    assert_eq!(
        (&report["snapshot"], &problem["kind"]),
        (&db.as_str().into(), &"warning".into()),
        "{report:#}"
    );
    let what = problem["what"].as_str().unwrap();
    assert!(what.contains("only db") && what.contains("backend, frontend, settings"), "{what}");
    let hint = problem["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("{whole} is the newest that holds all")), "{hint}");
    let plan = person.json(0, ["rollback", "latest", "--dry-run"]);
    let lacks = |p: &Value| p["what"].as_str().unwrap().contains("it holds only db");
    assert_eq!(plan["warnings"].as_array().unwrap().iter().filter(|p| lacks(p)).count(), 1, "{plan:#}");
    let said = person.ok(["restore", "latest", "--to", &to("b")]);
    assert_eq!(said.err.matches("it holds only db").count(), 1, "once: {said}");
    // Where nothing is lacking, or a part was asked for, there is nothing to say.
    let report = person.json(0, ["restore", whole, "--to", &to("c")]);
    assert_eq!(report["problems"], json!([]), "{report:#}");
    let report = person.json(0, ["restore", "latest", "db", "--to", &to("d")]);
    assert_eq!((&report["snapshot"], &report["problems"]), (&db.as_str().into(), &json!([])), "{report:#}");
    let kit = often.kit();
    let report = person.json(0, ["--kit", kit.to_str().unwrap(), "restore", "latest", "--to", &to("e")]);
    assert!(lacks(&report["problems"][0]), "{report:#}");
}

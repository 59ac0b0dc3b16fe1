//! What a plan says before anything is stopped: what is lost, what stays and does not fit, what cannot be given back.

use super::{App, SERVICE};
use crate::common::mounts::{given_folder, in_own_mounts, mount};
use crate::common::person::everything_below;
use crate::common::project::{Gone, Project, cannot_run, exe, expect_code, have, is_root, noise, program};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn text_of(app: &App, id: &str) -> String {
    let output = app.project.ok(["rollback", id, "--dry-run"]);
    String::from_utf8(output.stdout).unwrap()
}

/// What a plan says that is lost of a component: made, changed, and the names.
fn lost(plan: &Value, component: &str) -> (u64, u64, BTreeSet<String>) {
    let all = plan["lost_since"].as_array().unwrap();
    let lost = all.iter().find(|lost| lost["component"] == component).unwrap_or_else(|| panic!("{plan:#}"));
    let names = lost["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
    (lost["made"].as_u64().unwrap(), lost["changed"].as_u64().unwrap(), names.collect())
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn what_was_made_or_changed_since_the_snapshot_is_named_in_the_plan() {
    let app = App::new(SERVICE);
    std::os::unix::fs::symlink("one", app.path("app/link")).unwrap();
    std::os::unix::fs::symlink("same", app.path("app/same")).unwrap();
    let id = app.project.backup();
    let plan = app.project.json(["rollback", &id, "--dry-run"]);
    for component in ["app", "settings", "db"] {
        assert_eq!(lost(&plan, component), (0, 0, names(&[])), "{component}");
    }
    assert!(text_of(&app, &id).contains("lost since     nothing: no file was made or changed"));
    app.upgrade("2");
    fs::remove_file(app.path("app/link")).unwrap();
    std::os::unix::fs::symlink("two", app.path("app/link")).unwrap();
    let plan = app.project.json(["rollback", &id, "--dry-run"]);
    // Not what is gone since, which comes back, nor what stays.
    let changed = ["version", "src/main.py", "link", "src/new.py", "added/deep/x"];
    assert_eq!(lost(&plan, "app"), (2, 3, names(&changed)));
    assert_eq!(lost(&plan, "settings"), (1, 2, names(&["compose.yml", "conf/a.conf", "conf/b.conf"])));
    assert_eq!(lost(&plan, "db"), (0, 1, names(&["app.db"])));
    let said = text_of(&app, &id);
    for words in
        ["app            lost since: 2 made, 3 changed", "db             lost since: 0 made, 1 changed"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Of many the newest are named.
    for n in 0..20 {
        app.write(&format!("app/uploads/{n}"), "somebody's");
    }
    app.write("app/uploads/last", "somebody's");
    let said = text_of(&app, &id);
    assert!(said.contains("lost since: 23 made") && said.contains("uploads/last"), "{said}");
    assert!(said.contains(", and 21 more"), "{said}");
    // Only what goes back is compared.
    let plan = app.project.json(["rollback", &id, "--only", "db", "--dry-run"]);
    assert_eq!(plan["lost_since"].as_array().unwrap().len(), 1);
    // It is told where somebody is asked, too; and afterwards nothing is lost.
    let output = app.project.ok(["rollback", &id]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("lost since: 23 made"), "{output:?}");
    assert!(text_of(&app, &id).contains("nothing: no file was made or changed"));
}

#[test]
fn a_change_that_only_the_log_of_a_database_tells_of_is_lost_too() {
    let app = App::new(SERVICE);
    app.write("app/inner/readme", "x");
    let inner = app.path("app/inner/own.db");
    Connection::open(&inner).unwrap().execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x)").unwrap();
    let id = app.project.backup();
    let held = [app.path("app/data/app.db"), inner].map(|path| {
        let db = Connection::open(path).unwrap();
        db.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (9)").unwrap();
        db
    });
    let plan = app.project.json(["rollback", &id, "--dry-run"]);
    assert_eq!(lost(&plan, "db"), (0, 1, names(&["app.db"])));
    assert_eq!(lost(&plan, "app"), (0, 1, names(&["inner/own.db"])));
    drop(held);
}

#[test]
fn keys_that_differ_in_an_env_that_stays_are_named_and_no_value_is() {
    let app = App::new(SERVICE);
    let secret = "canary-in-the-env";
    app.write("app/.env", &format!("SAME={secret}\nOTHER={secret}-1\nONLY_THEN={secret}\n"));
    app.write("app/src/.env.local", "A=1\n");
    let mut config = app.project.config();
    config["component"][0]["leave"] = toml::Value::from(vec![".env", ".env.local"]);
    fs::write(app.project.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let id = app.project.backup();
    let dotenvs = |plan: &Value| {
        let all = plan["warnings"].as_array().unwrap().clone();
        all.into_iter().filter(|w| w["subject"].as_str().unwrap().contains(".env")).collect::<Vec<_>>()
    };
    let plan = || app.project.json(["rollback", &id, "--dry-run"]);
    assert_eq!(dotenvs(&plan()), Vec::<Value>::new());
    app.write("app/.env", &format!("# new\nONLY_NOW='{secret}'\nSAME={secret}\nOTHER=\"{secret}-2\"\n"));
    // The last line of a key is no key.
    app.write("app/src/.env.local", &format!("KEY=-----BEGIN\n{secret}\nY2FuYXJ5Y2FuYXJ5==\n"));
    let told = dotenvs(&plan());
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!((&told[0]["component"], &told[0]["subject"]), (&json!("app"), &json!(".env")));
    let keys =
        "only the snapshot's has ONLY_THEN; only the one that stays has ONLY_NOW; other values have OTHER";
    assert!(told[0]["what"].as_str().unwrap().ends_with(keys), "{told:#?}");
    assert!(told[1]["what"].as_str().unwrap().contains("not told"), "{told:#?}");
    let mut all = serde_json::to_string(&plan()).unwrap() + &text_of(&app, &id);
    let output = app.project.ok(["rollback", &id]);
    all += &String::from_utf8_lossy(&output.stdout);
    all += &String::from_utf8_lossy(&output.stderr);
    assert!(all.contains(keys));
    for canary in [secret, "Y2FuYXJ5"] {
        assert!(!all.contains(canary), "{all}");
    }
    // Nor is one kept anywhere beside the application.
    let state = app.project.config()["state"]["dir"].as_str().unwrap().to_owned();
    for dir in [Path::new(&state), &app.project.home] {
        for (path, _, bytes) in everything_below(dir) {
            let found = bytes.0.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds a value", path.display());
        }
    }
    // It stayed.
    assert!(app.read("app/.env").contains("ONLY_NOW"));
}

#[test]
fn owners_that_cannot_be_set_are_said_before_anything_is_stopped() {
    if !is_root() {
        return cannot_run("a file of somebody else's, which root makes");
    }
    if !have(&["setpriv"]) {
        return;
    }
    let app = App::new(SERVICE);
    app.write("app/.env", "stays, whoever owns it");
    for path in ["app/src/main.py", "app/src", "app/.env", "conf/a.conf"] {
        std::os::unix::fs::lchown(app.path(path), Some(65534), Some(65534)).unwrap();
    }
    let id = app.project.backup();
    app.write("app/src/new.py", "new");
    app.start_service();
    let plan = app.project.json(["rollback", &id, "--dry-run"]);
    assert_eq!(plan["warnings"], json!([]), "root can");
    // Root of a container from which that was taken.
    let without = |args: &[&str]| {
        let mut without = program(Path::new("setpriv"), &app.project.home);
        without.args(["--inh-caps=-chown", "--bounding-set=-chown"]).arg(exe()).current_dir(&app.project.dir);
        without.arg("rollback").arg(&id).args(args).output().unwrap()
    };
    let plan = expect_code(without(&["--dry-run", "--json"]), 0);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let told: Vec<(&str, &str)> = { plan["warnings"].as_array().unwrap().iter() }
        .map(|w| (w["component"].as_str().unwrap(), w["what"].as_str().unwrap()))
        .collect();
    let whose = |count: u64| format!("{count} of what comes back cannot be given to its owner (");
    assert!(told.len() == 2 && told[0].0 == "app" && told[0].1.starts_with(&whose(2)), "{plan:#}");
    assert!(told[1].0 == "settings" && told[1].1.starts_with(&whose(1)), "{plan:#}");
    let output = expect_code(without(&[]), 3);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
    assert!(at(&whose(2)) < at("stopping web"), "{said}");
    assert!(app.runs() && !app.path("app/src/new.py").exists());
}

#[test]
fn where_a_safety_snapshot_may_find_no_room_the_plan_says_so() {
    in_own_mounts("rollback::plan::little_room");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn little_room() {
    if given_folder().is_none() {
        return;
    }
    let top = Gone::new();
    let small = top.path().join("small");
    mount(&["-t", "tmpfs", "-o", "size=20m", "tmpfs"], &small);
    fs::create_dir(small.join("data")).unwrap();
    let component =
        format!("[[component]]\nname = \"data\"\npath = {:?}\n", small.join("data").display().to_string());
    let project = Project::new(&component, "");
    let text = fs::read_to_string(project.config_path()).unwrap();
    let second = small.join("second").display().to_string();
    fs::write(project.config_path(), format!("{text}\n[[store]]\nname = \"second\"\npath = {second:?}\n"))
        .unwrap();
    project.ok(["init"]);
    let big = small.join("data/big");
    fs::write(&big, noise(1, 6_000_000)).unwrap();
    let id = project.backup();
    let warned = || {
        let plan = project.json(["rollback", &id, "--dry-run"]);
        let all = plan["warnings"].as_array().unwrap().clone();
        all.iter().filter(|w| w["what"].as_str().unwrap().contains("too little room")).count()
    };
    // Six of twenty are the file's and six its copy's: eight are left for the six that are fetched.
    assert_eq!(warned(), 0);
    fs::write(&big, noise(2, 6_000_000)).unwrap();
    assert_eq!(warned(), 1, "two are too few for what changed");
}

/// An application with a rollback that can be taken back, whose service runs; and where its state lies.
fn rolled_back() -> (App, String, std::path::PathBuf) {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    app.project.ok(["rollback", &id]);
    let state = app.project.config()["state"]["dir"].as_str().unwrap().into();
    (app, id, state)
}

#[test]
fn a_plan_makes_no_file_and_no_folder() {
    let (app, id, state) = rolled_back();
    fs::remove_dir_all(state.join("services")).unwrap();
    let before = everything_below(&app.project.top);
    for args in [["rollback", &id, "--dry-run"], ["rollback", "--undo", "--dry-run"]] {
        let plan = app.project.json(args);
        assert_eq!(plan["services"], json!(["web"]));
        assert_eq!(everything_below(&app.project.top), before, "{args:?}");
    }
}

#[test]
fn a_plan_is_shown_where_the_state_folder_cannot_be_written() {
    in_own_mounts("rollback::plan::on_a_read_only_state_folder");
}

#[test]
#[ignore = "its parent runs it in mounts of its own"]
fn on_a_read_only_state_folder() {
    if given_folder().is_none() {
        return;
    }
    let (app, id, state) = rolled_back();
    fs::remove_dir_all(state.join("services")).unwrap();
    mount(&["--bind", state.to_str().unwrap()], &state);
    mount(&["-o", "remount,bind,ro"], &state);
    for args in [["rollback", &id, "--dry-run"], ["rollback", "--undo", "--dry-run"]] {
        assert_eq!(app.project.json(args)["services"], json!(["web"]));
    }
    mount(&["-o", "remount,bind,rw"], &state);
}

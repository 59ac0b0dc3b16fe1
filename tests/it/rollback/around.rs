//! What a user runs around a rollback, what makes left things fit for what came, and what is left to try when there is no snapshot.

use super::{App, SERVICE};
use crate::common::project::{Project, exe, expect_code, have, program};
use std::fs;
use std::process::{Command, Output};

const HOOKS: &str = r#"
[[hook]]
on = "rollback"
before = 'echo "before $BACKSTAY_ON $BACKSTAY_COMPONENTS $(cat app/version)" >> ran'
after = 'echo "after $BACKSTAY_SNAPSHOT $(cat app/version)" >> ran'
failed = 'echo "failed $BACKSTAY_ERROR" >> ran'
finally = 'echo finally >> ran'
[[hook]]
on = "rollback"
components = ["db"]
before = 'echo "of db" >> ran'
"#;

/// `app/lock` names what `app/venv`, which no snapshot takes, must hold; the service needs it so.
pub(super) fn with_rebuild(run: &str) -> App {
    let service =
        SERVICE.replace("&& ! grep -q broken app/version", "&& cmp -s app/lock app/node_modules/lock");
    let app = App::new(&service);
    app.write("app/lock", "1");
    app.write("app/node_modules/lock", "1");
    let text = fs::read_to_string(app.project.config_path()).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    let rebuild = format!(
        "[[rebuild]]\nwhen = [\"lock\"]\nrun = '''{run}'''\n[[rebuild]]\nwhen = [\"src/never.py\"]\nrun = 'touch never'\n"
    );
    let rebuild: toml::Table = rebuild.parse().unwrap();
    let components = config["component"].as_array_mut().unwrap();
    components[0].as_table_mut().unwrap().extend(rebuild);
    fs::write(app.project.config_path(), toml::to_string(&config).unwrap()).unwrap();
    app
}

pub(super) fn next_version(app: &App, version: &str) {
    app.upgrade(version);
    app.write("app/lock", version);
    app.write("app/node_modules/lock", version);
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ran(app: &App) -> Vec<String> {
    let text = fs::read_to_string(app.path("ran")).unwrap_or_default();
    let _none = fs::remove_file(app.path("ran"));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn hooks_run_around_a_rollback_and_are_told_what_it_is() {
    let app = App::new(&format!("{SERVICE}{HOOKS}"));
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    app.project.ok(["rollback", &id, "--dry-run"]);
    assert_eq!(ran(&app), Vec::<String>::new());
    app.project.ok(["rollback", &id]);
    let expected = ["before rollback app,settings,db 2", "of db", &format!("after {id} 1"), "finally"];
    assert_eq!(ran(&app), expected);
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(ran(&app).len(), 4);
    app.project.ok(["rollback", &id, "--only", "settings"]);
    assert!(!ran(&app).contains(&"of db".to_owned()));
}

#[test]
fn a_before_that_fails_keeps_a_rollback_from_being_begun() {
    let app = App::new(&format!("{SERVICE}{}", HOOKS.replace("echo \"of db\" >> ran", "exit 3")));
    let id = app.project.backup();
    app.upgrade("2");
    let pid = app.start_service();
    let output = expect_code(app.project.run(["rollback", &id]), 15);
    assert!(said(&output).contains("there was no rollback"), "{}", said(&output));
    assert_eq!((app.read("app/version"), app.service()), ("2".into(), pid));
    let ran = ran(&app);
    assert!(ran[1].starts_with("failed the hook before the rollback failed"), "{ran:?}");
    assert_eq!(ran[2], "finally");
    app.project.ok(["rollback", "--resume"]);
}

#[test]
fn a_rollback_that_undid_itself_or_was_killed_runs_failed_and_finally() {
    let app = App::new(&format!("{SERVICE}{HOOKS}"));
    app.write("app/version", "broken");
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    expect_code(app.project.run(["rollback", &id]), 17);
    let lines = ran(&app);
    assert!(lines[2].starts_with("failed ") && lines[3] == "finally", "{lines:?}");
    let mut command = program(exe(), &app.project.home);
    command
        .current_dir(&app.project.dir)
        .args(["rollback", &id])
        .env("BACKSTAY_TEST_CRASH", "rollback: a step#1");
    assert_eq!(command.output().unwrap().status.code(), None);
    assert_eq!(ran(&app).len(), 2, "only what comes before ran");
    expect_code(app.project.run(["rollback", "--resume"]), 17);
    let lines = ran(&app);
    assert!(lines[0].starts_with("failed ") && lines[1] == "finally", "{lines:?}");
}

#[test]
fn what_is_left_is_rebuilt_when_its_lock_file_went_back() {
    let app = with_rebuild("cp lock node_modules/lock; echo x >> ../rebuilds");
    let id = app.project.backup();
    next_version(&app, "2");
    app.start_service();
    let output = app.project.ok(["rollback", &id]);
    assert!(said(&output).contains("rebuilding app"), "{}", said(&output));
    assert_eq!((app.read("app/lock"), app.read("app/node_modules/lock")), ("1".into(), "1".into()));
    assert!(app.runs() && !app.path("app/never").exists());
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!((app.read("app/lock"), app.read("app/node_modules/lock")), ("2".into(), "2".into()));
    assert_eq!(app.read("rebuilds").lines().count(), 2);
    // Nothing is rebuilt where the lock file is the same.
    let same = app.project.backup();
    app.write("app/src/main.py", "three");
    app.project.ok(["rollback", &same]);
    assert_eq!(app.read("rebuilds").lines().count(), 2);
}

#[test]
fn a_rebuild_that_fails_is_undone_and_what_was_left_is_made_fit_again() {
    // It damages what was left before it fails on the old lock file.
    let app = with_rebuild(
        "echo damaged > node_modules/lock; if [ $(cat lock) = 1 ]; then echo no network >&2; exit 9; fi; cp lock node_modules/lock",
    );
    let id = app.project.backup();
    next_version(&app, "2");
    app.start_service();
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    for words in ["could not be made fit again", "exit code 9: no network"] {
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    assert_eq!(app.live(), before);
    assert_eq!(app.read("app/node_modules/lock"), "2");
    assert!(app.runs());
}

#[test]
fn a_rollback_killed_while_it_rebuilds_is_all_old_again() {
    let app = with_rebuild(
        "if [ $(cat lock) = 1 ] && [ -e ../hang ]; then echo damaged > node_modules/lock; touch ../hangs; while [ -e ../hang ]; do sleep 0.1; done; echo damaged > node_modules/lock; fi; cp lock node_modules/lock",
    );
    let id = app.project.backup();
    next_version(&app, "2");
    app.start_service();
    let before = app.live();
    app.write("hang", "");
    let mut command = program(exe(), &app.project.home);
    let mut child = command
        .current_dir(&app.project.dir)
        .args(["rollback", &id])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !app.path("hangs").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(app.path("hang")).unwrap();
    fs::remove_file(app.path("hangs")).unwrap();
    expect_code(app.project.run(["ready"]), 18);
    expect_code(app.project.run(["rollback", "--resume"]), 17);
    assert_eq!(app.live(), before);
    assert_eq!(app.read("app/node_modules/lock"), "2");
    assert!(app.runs());
}

#[test]
fn when_no_snapshot_can_be_used_it_says_what_is_left_to_try() {
    let app = App::new("[emergency]\ncommand = \"bin/maintenance on\"\n");
    let older = app.project.json(["backup", "--note", "older"])["snapshot"].as_str().unwrap().to_owned();
    app.upgrade("2");
    let newer = app.project.backup();
    // Every object that came with the newer one is damaged.
    let mut damaged = 0;
    let mut waiting = vec![app.project.store.join("archives"), app.project.store.join("manifests")];
    let begun =
        fs::metadata(app.project.store.join(format!("snapshots/{older}.json"))).unwrap().modified().unwrap();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.metadata().unwrap().modified().unwrap() > begun {
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
    let output = expect_code(app.project.run(["rollback", &newer]), 13);
    let ladder = [
        "what is left to try, in this order:",
        &format!("backstay rollback {older}  (older)"),
        "a copy of",
        "[emergency] of the configuration: bin/maintenance on",
        "RECOVER.md",
    ];
    let told = said(&output);
    let places: Vec<Option<usize>> = ladder.iter().map(|words| told.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {told}");
    assert!(!told.contains(&format!("older good snapshot: backstay rollback {newer}")), "{told}");
    app.project.ok(["rollback", &older]);
    assert_eq!(app.read("app/version"), "1");
    // Without the store there is still the end of the ladder.
    fs::rename(&app.project.store, app.project.top.join("away")).unwrap();
    let output = expect_code(app.project.run(["rollback", &older]), 10);
    assert!(said(&output).contains("bin/maintenance on"), "{}", said(&output));
}

/// Each of `rungs` is said, in this order.
#[track_caller]
fn says_in_order(output: &Output, rungs: &[&str]) {
    let told = said(output);
    let places: Vec<Option<usize>> = rungs.iter().map(|words| told.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {told}");
}

const FIRST_RUNG: &str = "what is left to try, in this order:";

#[test]
fn where_no_snapshot_is_found_another_store_and_tags_of_git_are_among_what_is_left_to_try() {
    if !have(&["git"]) {
        return;
    }
    let app = App::new("[emergency]\ncommand = \"bin/maintenance on\"\n");
    let last = ["[emergency] of the configuration: bin/maintenance on", "RECOVER.md"];
    // There is none at all.
    for args in [&["rollback", "latest"][..], &["rollback"], &["rollback", "20200101"]] {
        let output = expect_code(app.project.run(args), 16);
        says_in_order(&output, &[FIRST_RUNG, "a copy of", last[0], last[1]]);
    }
    let second = app.project.top.join("second").display().to_string();
    let text = fs::read_to_string(app.project.config_path()).unwrap();
    let store = format!("[[store]]\nname = \"second\"\npath = {second:?}\n");
    fs::write(app.project.config_path(), format!("{text}\n{store}")).unwrap();
    app.project.ok(["init", "--yes"]);
    app.write(".gitignore", "backups/\n");
    let script =
        "git init -q -b main && git add . && git -c user.name=S -c user.email=s@example commit -q -m first";
    let made = Command::new("sh").args(["-c", script]).current_dir(&app.project.dir).output().unwrap();
    expect_code(made, 0);
    app.write("app/src/main.py", "not committed");
    let id = app.project.json(["backup", "--git", "--tag", "release"])["snapshot"].clone();
    let id = id.as_str().unwrap();
    let top = app.project.dir.display().to_string();
    let ladder = [
        FIRST_RUNG,
        &format!("an older good snapshot: backstay rollback {id}"),
        "another store: ",
        "(NAME is one of local, second)",
        &format!("git: git -C {top} switch --detach pre-release"),
        &format!("git, with what was not committed then: git -C {top} switch --detach refs/backstay/{id}"),
        last[0],
        last[1],
    ];
    for wanted in ["20200101", "tag:nothing", "@2020-01-01"] {
        says_in_order(&expect_code(app.project.run(["rollback", wanted]), 16), &ladder);
    }
    // A component that it does not have is no reason to look elsewhere.
    let output = expect_code(app.project.run(["rollback", "latest", "--only", "nothing"]), 16);
    assert!(!said(&output).contains(FIRST_RUNG), "{}", said(&output));
}

#[test]
fn what_a_rollback_put_away_is_the_last_snapshot_that_is_left_to_try_and_called_what_it_is() {
    let app = App::new("");
    let id = app.project.backup();
    app.upgrade("2");
    let safety = app.project.json(["rollback", &id])["safety"].as_str().unwrap().to_owned();
    let output = expect_code(app.project.run(["rollback", "20200101"]), 16);
    let put_away = format!("a safety snapshot, of what a rollback put away: backstay rollback {safety}");
    let older = format!("an older good snapshot: backstay rollback {id}");
    says_in_order(&output, &[FIRST_RUNG, &older, "a copy of", &put_away, "RECOVER.md"]);
    assert_eq!(said(&output).matches(&safety).count(), 1, "{}", said(&output));
}

#[test]
fn dependencies_that_stay_beside_another_lock_file_are_said_in_the_plan() {
    let app = App::new(SERVICE);
    app.write("app/package-lock.json", "1");
    let id = app.project.backup();
    let warnings = |app: &App| {
        let plan = app.project.json(["rollback", &id, "--dry-run"]);
        let subjects =
            plan["warnings"].as_array().unwrap().iter().map(|w| w["subject"].as_str().unwrap().to_owned());
        subjects.collect::<Vec<_>>()
    };
    assert_eq!(warnings(&app), Vec::<String>::new());
    app.write("app/package-lock.json", "2");
    assert_eq!(warnings(&app), ["package-lock.json"]);
}

#[test]
fn dependencies_below_the_top_that_stay_beside_another_lock_file_are_said_in_the_plan_too() {
    let project = |rebuild: &str| {
        let component = format!(
            "[[component]]\nname = \"all\"\npath = \".\"\nexclude = [\"node_modules/\", \"venv/\"]\n{rebuild}"
        );
        let project = Project::new(&component, "");
        for path in
            ["frontend/node_modules/x.js", "tools/venv/x.py", "frontend/package-lock.json", "plain/yarn.lock"]
        {
            crate::lab::put(&project.dir.join(path), b"1");
        }
        let id = project.backup();
        // One that the older version does not have goes; one beside which nothing stays is nobody's.
        for path in ["frontend/package-lock.json", "tools/requirements.txt", "plain/yarn.lock"] {
            crate::lab::put(&project.dir.join(path), b"2");
        }
        (project, id)
    };
    let warned = |(project, id): &(Project, String)| {
        let plan = project.json(["rollback", id, "--dry-run"]);
        let all = plan["warnings"].as_array().unwrap().clone();
        let of_it = all.into_iter().filter(|w| w["component"] == "all");
        of_it.map(|w| w["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let plain = project("");
    assert_eq!(warned(&plain), ["frontend/package-lock.json", "tools/requirements.txt"]);
    let said = plain.0.ok(["rollback", &plain.1, "--dry-run"]);
    let words =
        "warning: all/frontend/package-lock.json: it becomes another, and node_modules stays as it is";
    assert!(String::from_utf8_lossy(&said.stdout).contains(words), "{said:?}");
    let rebuilt = project("rebuild = [{ when = [\"frontend/package-lock.json\"], run = \"true\" }]");
    assert_eq!(warned(&rebuilt), ["tools/requirements.txt"]);
}

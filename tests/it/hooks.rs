//! A user's commands around a backup and a restore: when they run, what they are told, and what their failure does.

use crate::common::project::{Project, expect_code};
use serde_json::Value;
use std::fs;

const COMPONENTS: &str =
    "[[component]]\nname = \"app\"\npath = \"app\"\n[[component]]\nname = \"web\"\npath = \"web\"\n";

/// A project whose hooks write a line each time into a file: what was run, and what it was told.
fn project(hooks: &str) -> Project {
    let project = Project::new(COMPONENTS, hooks);
    for dir in ["app", "web"] {
        fs::create_dir(project.dir.join(dir)).unwrap();
        fs::write(project.dir.join(dir).join("file"), dir).unwrap();
    }
    project
}

fn written(project: &Project) -> Vec<String> {
    let text = fs::read_to_string(project.dir.join("ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn snapshots(project: &Project) -> usize {
    project.json(["list"])["snapshots"].as_array().unwrap().len()
}

const TELLS: &str = r#"
[[hook]]
on = "backup"
before = 'echo "1 $BACKSTAY_STEP $BACKSTAY_ON $BACKSTAY_PROJECT $BACKSTAY_COMPONENTS $BACKSTAY_SNAPSHOT" >> ran'
after = ["sh", "-c", 'echo "1 $BACKSTAY_STEP $BACKSTAY_SNAPSHOT" >> ran']
failed = 'echo "1 $BACKSTAY_STEP $BACKSTAY_ERROR" >> ran'
finally = 'echo "1 $BACKSTAY_STEP" >> ran'
[[hook]]
on = "backup"
components = ["web"]
before = 'echo "2 $BACKSTAY_STEP" >> ran'
finally = 'echo "2 $BACKSTAY_STEP" >> ran'
[[hook]]
on = "restore"
before = 'echo "restore $BACKSTAY_STEP $BACKSTAY_COMPONENTS" >> ran'
after = 'echo "restore $BACKSTAY_STEP $BACKSTAY_SNAPSHOT" >> ran'
"#;

#[test]
fn hooks_run_around_a_backup_and_are_told_what_it_is() {
    let project = project(TELLS);
    let id = project.backup();
    let name = project.config()["project"]["name"].as_str().unwrap().to_owned();
    let expected = [
        format!("1 before backup {name} app,web "),
        "2 before".into(),
        format!("1 after {id}"),
        "2 finally".into(),
        "1 finally".into(),
    ];
    assert_eq!(written(&project), expected);
}

#[test]
fn a_hook_of_another_component_or_another_step_does_not_run() {
    let project = project(TELLS);
    project.ok(["backup", "--only", "app"]);
    let ran = written(&project);
    assert!(ran.iter().all(|line| line.starts_with("1 ")) && ran.len() == 3, "{ran:?}");
    fs::remove_file(project.dir.join("ran")).unwrap();
    let id = project.json(["list"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
    project.restore(&id, &["app"]);
    assert_eq!(written(&project), ["restore before app".to_owned(), format!("restore after {id}")]);
    fs::remove_file(project.dir.join("ran")).unwrap();
    project.ok(["restore", &id, "app/file", "--in-place", "--yes"]);
    assert_eq!(written(&project), ["restore before app".to_owned(), format!("restore after {id}")]);
}

#[test]
fn a_before_that_fails_keeps_the_step_from_being_taken() {
    let project = project(&TELLS.replacen("echo \"2 $BACKSTAY_STEP\" >> ran", "echo no room >&2; exit 7", 1));
    let output = expect_code(project.run(["backup"]), 15);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for words in
        ["the hook before the backup failed, so there was no backup", "exit code 7: no room", "hint:"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(snapshots(&project), 0);
    let ran = written(&project);
    assert_eq!(ran.len(), 4, "{ran:?}");
    assert!(ran[1].starts_with("1 failed the hook before the backup failed"), "{ran:?}");
    assert_eq!(ran[2..], ["2 finally", "1 finally"]);
}

#[test]
fn a_step_that_fails_runs_failed_and_finally_and_keeps_its_own_exit_code() {
    let project = project(TELLS);
    for dir in ["app", "web"] {
        fs::remove_dir_all(project.dir.join(dir)).unwrap();
    }
    expect_code(project.run(["backup"]), 1);
    let ran = written(&project);
    assert!(ran.iter().any(|line| line.starts_with("1 failed ")), "{ran:?}");
    assert!(!ran.iter().any(|line| line.contains("after")), "{ran:?}");
    assert_eq!(ran.last().unwrap(), "1 finally");
}

#[test]
fn a_hook_that_fails_afterwards_is_told_and_the_snapshot_stays() {
    let project = project("[[hook]]\non = \"backup\"\nafter = \"echo cannot tell >&2; exit 3\"\n");
    let output = expect_code(project.run(["backup", "--json"]), 15);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["good"], true, "{report:#}");
    assert_eq!(report["problems"][0]["kind"], "hook");
    assert!(report["problems"][0]["what"].as_str().unwrap().contains("exit code 3: cannot tell"));
    assert_eq!(snapshots(&project), 1);
}

#[test]
fn a_hook_that_takes_too_long_is_ended_with_all_it_started() {
    let project =
        project("[[hook]]\non = \"backup\"\nwithin = \"1s\"\nbefore = \"sleep 1000 & sleep 1000\"\n");
    let output = expect_code(project.run(["backup"]), 15);
    assert!(String::from_utf8_lossy(&output.stderr).contains("was ended after 1 s"));
}

#[test]
fn a_hook_does_not_get_the_keys_to_the_stores() {
    let project = project("[[hook]]\non = \"backup\"\nbefore = \"env > ran\"\n");
    let mut command = crate::common::project::program(crate::common::project::exe(), &project.home);
    command.current_dir(&project.dir).arg("backup");
    command.env("AWS_SECRET_ACCESS_KEY", "canary-1").env("BACKSTAY_PASSPHRASE", "canary-2");
    expect_code(command.output().unwrap(), 0);
    let env = written(&project).join("\n");
    assert!(env.contains("BACKSTAY_STEP=before") && !env.contains("canary"), "{env}");
}

#[test]
fn a_dry_run_runs_no_hook() {
    let project = project(TELLS);
    project.ok(["backup", "--dry-run"]);
    assert_eq!(written(&project), Vec::<String>::new());
}

#[test]
fn a_hook_without_anything_to_run_or_for_an_unknown_component_is_refused_with_its_line() {
    let project = project(TELLS);
    let config = |more: &str| {
        let text = fs::read_to_string(project.config_path()).unwrap();
        fs::write(project.dir.join("other.toml"), format!("{text}\n{more}")).unwrap();
        let output = expect_code(project.run(["-c", "other.toml", "list"]), 14);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = config("[[hook]]\non = \"backup\"\n");
    assert!(said.contains("a hook has nothing to run"), "{said}");
    let said = config("[[hook]]\non = \"backup\"\nbefore = \"true\"\ncomponents = [\"nope\"]\n");
    assert!(
        said.contains("there is no component \"nope\"") && said.contains("there are: app, web"),
        "{said}"
    );
    let said = config("[[hook]]\non = \"bakcup\"\nbefore = \"true\"\n");
    assert!(said.contains("did you mean `backup`?"), "{said}");
}

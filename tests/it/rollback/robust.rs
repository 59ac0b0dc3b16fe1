//! What a rollback meets on real machines: mounts, disks without room, files held open, databases that are locked, rules that changed, services that do
//! not do what they are told. Each ends as it was meant to, with its words.

use super::{App, SERVICE, expected};
use crate::common::mounts::{given_folder, in_own_mounts, mount};
use crate::common::project::{Project, exe, expect_code, program, slow_to_end, until};
use std::fs;
use std::process::{Command, Output, Stdio};

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn says(output: &Output, words: &str) {
    assert!(told(output).contains(words), "{words}: {}", told(output));
}

/// Nothing live was touched, the service runs as before, and the next command works.
#[track_caller]
fn untouched(app: &App, before: &std::collections::BTreeMap<std::path::PathBuf, crate::lab::Node>) {
    assert_eq!(&app.live(), before);
    assert_eq!(app.rows(), 3);
    assert!(app.runs());
    app.project.ok(["ready"]);
}

#[test]
fn what_is_mounted_in_a_component_goes_back_entry_by_entry() {
    in_own_mounts("rollback::robust::mounted");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn mounted() {
    if given_folder().is_none() {
        return;
    }
    let app = App::new(SERVICE);
    // A bind mount with content of its own on another file system, and a folder of this one mounted onto itself.
    let volume = app.project.top.join("volume");
    mount(&["-t", "tmpfs", "tmpfs"], &volume);
    fs::create_dir_all(app.path("app/uploads/inner")).unwrap();
    mount(&["--bind", volume.to_str().unwrap()], &app.path("app/uploads"));
    app.write("app/uploads/a.txt", "one");
    app.write("app/uploads/deep/b.txt", "one");
    app.write("app/src/sub/c.txt", "one");
    mount(&["--bind", app.path("app/src/sub").to_str().unwrap()], &app.path("app/src/sub"));
    let (then, id) = (app.live(), app.project.backup());
    app.upgrade("2");
    app.write("app/uploads/a.txt", "two");
    fs::remove_dir_all(app.path("app/uploads/deep")).unwrap();
    app.write("app/uploads/new.txt", "two");
    app.write("app/src/sub/c.txt", "two");
    app.start_service();
    let before = app.live();
    app.project.ok(["rollback", &id]);
    assert_eq!(app.live(), expected(&app, &then));
    assert!(volume.join("deep/b.txt").exists());
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!(app.live(), before);
    // A file on which something is mounted cannot be exchanged: said before anything is stopped.
    app.write("app/one.conf", "two");
    mount_file(&app.path("compose.yml"), &app.path("app/src/new.py"));
    let pid = app.service();
    let id = app.project.backup();
    let output = expect_code(app.project.run(["rollback", &id]), 1);
    says(&output, "something is mounted here, which cannot be exchanged");
    assert!(app.runs() && app.service() == pid);
}

fn mount_file(what: &std::path::Path, on: &std::path::Path) {
    expect_code(Command::new("mount").arg("--bind").args([what, on]).output().unwrap(), 0);
}

#[test]
fn a_component_on_a_file_system_of_its_own_or_that_is_a_bind_mount_goes_back() {
    in_own_mounts("rollback::robust::elsewhere");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn elsewhere() {
    if given_folder().is_none() {
        return;
    }
    let top = crate::common::project::Gone::new();
    let other = top.path().join("other");
    mount(&["-t", "tmpfs", "tmpfs"], &other);
    mount(&["--bind", other.to_str().unwrap()], &top.path().join("bound"));
    for dir in ["other", "bound"] {
        let dir = top.path().join(dir);
        let component = format!("[[component]]\nname = \"data\"\npath = {:?}\n", dir.display().to_string());
        let project = Project::new(&component, "");
        fs::write(dir.join("a"), "one").unwrap();
        let id = project.backup();
        fs::write(dir.join("a"), "two").unwrap();
        fs::write(dir.join("b"), "two").unwrap();
        project.ok(["rollback", &id]);
        assert_eq!(
            (fs::read_to_string(dir.join("a")).unwrap(), dir.join("b").exists()),
            ("one".into(), false)
        );
        project.ok(["rollback", "--undo", "--yes"]);
        assert_eq!(
            (fs::read_to_string(dir.join("a")).unwrap(), dir.join("b").exists()),
            ("two".into(), true)
        );
        fs::remove_file(dir.join("b")).unwrap();
    }
}

#[test]
fn a_disk_without_room_is_said_before_anything_is_stopped() {
    in_own_mounts("rollback::robust::no_room");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn no_room() {
    if given_folder().is_none() {
        return;
    }
    let top = crate::common::project::Gone::new();
    let small = top.path().join("small");
    mount(&["-t", "tmpfs", "-o", "size=4m", "tmpfs"], &small);
    let component = format!("[[component]]\nname = \"data\"\npath = {:?}\n", small.display().to_string());
    let project = Project::new(&component, "");
    fs::write(small.join("big"), crate::common::project::noise(1, 2_500_000)).unwrap();
    fs::write(small.join("version"), "1").unwrap();
    let id = project.backup();
    fs::write(small.join("version"), "2").unwrap();
    let output = expect_code(project.run(["rollback", &id]), 1);
    says(&output, "not enough room in");
    // The room goes only while it is fetched: files cost more than their bytes.
    mount(&["-t", "tmpfs", "-o", "size=4m,nr_inodes=40", "tmpfs"], &small);
    for n in 0..30 {
        fs::write(small.join(format!("file{n}")), "1").unwrap();
    }
    let id = project.backup();
    fs::write(small.join("file1"), "2").unwrap();
    let output = expect_code(project.run(["rollback", &id]), 1);
    says(&output, "No space left on device");
    assert_eq!(fs::read_to_string(small.join("file1")).unwrap(), "2");
    let litter = fs::read_dir(&small)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("backstay"));
    assert_eq!(litter.count(), 0);
    project.ok(["ready"]);
    project.backup();
}

#[test]
fn without_exchange_of_names_it_goes_away_and_in_and_back() {
    let app = App::new(SERVICE);
    let (then, id) = (app.live(), app.project.backup());
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    let plain = |args: &[&str], code| {
        let mut command = program(exe(), &app.project.home);
        command.current_dir(&app.project.dir).arg("rollback").args(args);
        expect_code(command.env("BACKSTAY_TEST_NO_EXCHANGE", "1").output().unwrap(), code)
    };
    plain(&[&id], 0);
    assert_eq!(app.live(), expected(&app, &then));
    plain(&["--undo", "--yes"], 0);
    assert_eq!(app.live(), before);
    app.write("app/version", "broken");
    let broken = app.project.backup();
    app.write("app/version", "2");
    plain(&[&broken], 17);
    assert_eq!(app.live(), before);
    assert!(app.runs());
}

#[test]
fn where_names_cannot_be_moved_without_replacing_nothing_is_stopped() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    let (before, pid) = (app.live(), app.start_service());
    let mut command = program(exe(), &app.project.home);
    command.current_dir(&app.project.dir).args(["rollback", &id]);
    let output = expect_code(command.env("BACKSTAY_TEST_NO_EXCHANGE", "nor moves").output().unwrap(), 1);
    says(&output, "cannot rename without replacing");
    assert_eq!((app.live(), app.service()), (before, pid));
    assert!(app.runs());
    app.project.ok(["ready"]);
}

#[test]
fn the_folder_of_the_configuration_itself_goes_back_and_what_is_backstays_stays() {
    let project = Project::new("[[component]]\nname = \"all\"\npath = \".\"\nexclude = [\"venv/\"]\n", "");
    let put = |path: &str, text: &str| crate::lab::put(&project.dir.join(path), text.as_bytes());
    for (path, text) in [("src/a", "one"), ("venv/x", "one"), ("top", "one")] {
        put(path, text);
    }
    let id = project.backup();
    for (path, text) in [("src/a", "two"), ("venv/x", "two"), ("top", "two"), ("added", "two")] {
        put(path, text);
    }
    project.ok(["rollback", &id]);
    let read = |path: &str| fs::read_to_string(project.dir.join(path)).unwrap();
    assert_eq!([read("src/a"), read("venv/x"), read("top")], ["one", "two", "one"]);
    assert!(!project.dir.join("added").exists());
    assert_eq!(project.json(["list"])["snapshots"].as_array().unwrap().len(), 2);
    project.ok(["rollback", "--undo", "--yes"]);
    assert_eq!([read("src/a"), read("venv/x"), read("top"), read("added")], ["two", "two", "two", "two"]);
}

#[test]
fn who_holds_files_open_is_named_before_anything_is_stopped_and_the_service_itself_is_not() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    let holding = "sleep 1000 < app/version >/dev/null 2>&1 & echo $! > web.pid";
    expect_code(Command::new("sh").args(["-c", holding]).current_dir(&app.project.dir).output().unwrap(), 0);
    let plan = expect_code(app.project.run(["rollback", &id, "--dry-run"]), 0);
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned() + &told(output);
    assert!(!said(&plan).contains("has it open"), "{}", said(&plan));
    let file = fs::File::open(app.path("app/src/main.py")).unwrap();
    let mut other = Command::new("sleep").arg("1000").stdin(Stdio::from(file)).spawn().unwrap();
    let plan = expect_code(app.project.run(["rollback", &id, "--dry-run"]), 0);
    let words = format!("sleep ({})", other.id());
    assert!(said(&plan).contains(&words) && said(&plan).contains("app/src/main.py"), "{}", said(&plan));
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_locked_database_goes_back_and_the_one_who_locks_it_is_named() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    // Another process, for locks of one process do not stop itself.
    let script = "import sqlite3,sys\nd=sqlite3.connect('app/data/app.db',isolation_level=None)\nd.execute('PRAGMA locking_mode=EXCLUSIVE')\nd.execute('BEGIN EXCLUSIVE')\nprint('locked',flush=True)\nsys.stdin.read()";
    let mut locks = Command::new("python3");
    let locks =
        locks.args(["-c", script]).current_dir(&app.project.dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut locks = locks.spawn().unwrap();
    let mut line = [0; 7];
    std::io::Read::read_exact(locks.stdout.as_mut().unwrap(), &mut line).unwrap();
    let before = app.live();
    let output = app.project.run(["rollback", &id]);
    says(&output, &format!("python3 ({})", locks.id()));
    // What is there now could not be saved, so nothing was touched.
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    says(&output, "nothing was stopped or changed");
    assert_eq!(app.live(), before);
    assert!(app.runs());
    drop(locks.stdin.take());
    locks.wait().unwrap();
    app.project.ok(["rollback", &id]);
    assert_eq!(app.rows(), 1);
}

#[test]
fn what_the_snapshot_or_todays_rules_leave_out_stays_whichever_changed() {
    let app = App::new(SERVICE);
    app.write("app/cache/x", "then");
    app.write("app/logs/x", "then");
    let text = fs::read_to_string(app.project.config_path()).unwrap();
    let with = |rules: &str| {
        let from = "exclude = [\"node_modules/\"]";
        assert!(text.contains(from), "{text}");
        fs::write(
            app.project.config_path(),
            text.replace(from, &format!("exclude = [\"node_modules/\", {rules}]")),
        )
        .unwrap();
    };
    // Then `cache/` was left out; now `logs/` is.
    with("\"cache/\"");
    let id = app.project.backup();
    with("\"logs/\"");
    app.upgrade("2");
    for dir in ["cache", "logs"] {
        app.write(&format!("app/{dir}/x"), "now");
        app.write(&format!("app/{dir}/y"), "now");
    }
    app.start_service();
    app.project.ok(["rollback", &id]);
    for dir in ["cache", "logs"] {
        assert_eq!(
            [app.read(&format!("app/{dir}/x")), app.read(&format!("app/{dir}/y"))],
            ["now", "now"],
            "{dir}"
        );
    }
    assert_eq!(app.read("app/src/main.py"), "one");
}

/// A rollback with this service ends with `code` and `words`, and nothing was changed by it.
#[track_caller]
fn ends(service: &str, code: i32, words: &str) {
    let app = App::new(service);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), code);
    says(&output, words);
    untouched(&app, &before);
}

#[test]
fn a_stop_that_hangs_is_ended_and_nothing_was_touched() {
    let service = SERVICE
        .replace("stop = 'kill \"$(cat web.pid)\"'", "stop = 'sleep 1000'")
        .replace("stop_within = \"20s\"", "stop_within = \"1s\"");
    ends(&service, 17, "was ended after 1 s");
}

#[test]
fn a_start_that_fails_on_the_new_state_is_undone() {
    let start = "start = 'grep -q 2 app/version || { echo cannot start >&2; exit 3; }; sleep 1000 & echo $! > web.pid'";
    let service = SERVICE.replace("start = 'sleep 1000 & echo $! > web.pid'", start);
    ends(&service, 17, "exit code 3: cannot start");
}

#[test]
fn a_start_that_hangs_on_the_new_state_is_ended_and_undone() {
    let start = "start = 'grep -q 2 app/version || sleep 1000; sleep 1000 & echo $! > web.pid'";
    let service = SERVICE
        .replace("start = 'sleep 1000 & echo $! > web.pid'", start)
        .replace("start_within = \"20s\"", "start_within = \"1s\"");
    ends(&service, 17, "was ended after 1 s");
}

#[test]
fn health_that_never_comes_is_undone() {
    let service = SERVICE.replace("! grep -q broken app/version", "grep -q 2 app/version");
    ends(&service, 17, "is not healthy");
}

/// Waits for `words` on a run's stderr; gives what was said until then, or all of it when they never come.
pub(crate) fn hear(run: &mut std::process::Child, words: &str) -> String {
    let mut lines = std::io::BufReader::new(run.stderr.take().unwrap());
    let mut heard = String::new();
    while !heard.contains(words) && std::io::BufRead::read_line(&mut lines, &mut heard).unwrap() > 0 {}
    // The rest must have somewhere to go.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    heard
}

#[test]
fn a_stop_command_that_outlives_a_killed_run_is_let_end_before_anything_is_started() {
    let stop = r#"stop = 'if mkdir first 2>/dev/null; then kill -9 $PPID; until [ -e go ]; do sleep 0.1; done; fi; kill "$(cat web.pid)"'"#;
    let app = App::new(&SERVICE.replace(r#"stop = 'kill "$(cat web.pid)"'"#, stop));
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    assert!(!app.project.run(["rollback", &id]).status.success());
    assert!(app.runs());
    let mut resume = program(exe(), &app.project.home);
    resume.current_dir(&app.project.dir).args(["rollback", "--resume"]).stderr(Stdio::piped());
    let mut resume = resume.spawn().unwrap();
    let words = "a stop command of web that a killed run began is let end";
    let heard = hear(&mut resume, words);
    app.write("go", "");
    assert_eq!(resume.wait().unwrap().code(), Some(17));
    assert!(heard.contains(words), "{heard}");
    assert!(app.runs());
}

#[test]
fn a_service_that_a_killed_run_asked_to_stop_is_not_taken_for_well_while_it_ends() {
    let (start, service) = slow_to_end(&SERVICE.replace("stop = '", "stop = 'echo asked >> order; "));
    let app = App::new(&service);
    let id = app.project.backup();
    app.upgrade("2");
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.project.dir).output().unwrap(), 0);
    let before = app.service();
    let mut run = program(exe(), &app.project.home);
    run.current_dir(&app.project.dir)
        .args(["rollback", &id])
        .env("BACKSTAY_TEST_CRASH", "service: asked to stop#1");
    assert!(!run.output().unwrap().status.success());
    let mut resume = program(exe(), &app.project.home);
    resume.current_dir(&app.project.dir).args(["rollback", "--resume"]).stderr(Stdio::null());
    let mut resume = resume.spawn().unwrap();
    until("it is asked again", || app.read("order") == "asked\nasked\n");
    app.write("go", "");
    assert_eq!(resume.wait().unwrap().code(), Some(17));
    assert_ne!(app.service(), before, "it is the one that was asked to stop");
    assert!(app.read(&format!("/proc/{}/stat", app.service())).contains("(sh) S"));
    app.project.ok(["ready"]);
}

#[test]
fn a_start_command_that_outlives_a_killed_run_is_let_come_to_its_end_and_none_is_started_beside_it() {
    let start = "start = 'echo started >> starts; [ -e go ] || { kill -9 $PPID; until [ -e go ]; do sleep 0.1; done; }; sleep 1000 & echo $! > web.pid'";
    let app = App::new(&SERVICE.replace("start = 'sleep 1000 & echo $! > web.pid'", start));
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    assert!(!app.project.run(["rollback", &id]).status.success());
    let mut resume = program(exe(), &app.project.home);
    resume.current_dir(&app.project.dir).args(["rollback", "--resume"]).stderr(Stdio::piped());
    let resume = resume.spawn().unwrap();
    app.write("go", "");
    let output = resume.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!((app.read("starts"), app.read("app/version")), ("started\n".into(), "1".into()));
    assert!(app.runs());
}

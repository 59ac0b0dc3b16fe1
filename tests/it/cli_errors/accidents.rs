//! What happens to files and databases while they are backed up.

use crate::common::person::{Person, Said, damage_database, everything_below, make_database};
use crate::common::project::{cannot_run, exe, have, is_root, noise, program};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// The problem with this component and path.
#[track_caller]
fn problem<'d>(document: &'d Value, component: &str, subject: &str) -> &'d Value {
    let problems = document["problems"].as_array().unwrap();
    let found = problems.iter().find(|p| p["component"] == component && p["subject"] == subject);
    found.unwrap_or_else(|| panic!("no problem with {component}/{subject}: {document:#}"))
}

/// Runs the program as somebody who is not root, in a project that is theirs.
fn as_somebody(person: &Person, args: &[&str]) -> Option<Said> {
    if !is_root() {
        return Some(person.run(args));
    }
    if !have(&["setpriv"]) {
        return None;
    }
    let whose = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut program_of_theirs = exe().to_owned();
    let can = Command::new("setpriv").args(whose).arg(&program_of_theirs).arg("--version").output().unwrap();
    if !can.status.success() {
        program_of_theirs = person.top.join("backstay");
        if !program_of_theirs.exists() {
            fs::copy(exe(), &program_of_theirs).unwrap();
        }
    }
    for (path, ..) in everything_below(&person.top) {
        lchown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut command = program(Path::new("setpriv"), &person.home);
    command.args(whose).arg(&program_of_theirs).args(args).current_dir(&person.app);
    Some(command.output().unwrap().into())
}

#[test]
fn what_cannot_be_read_is_named_and_everything_else_kept() {
    let person = Person::set_up();
    let (file, folder) = (person.app.join("backend/closed"), person.app.join("backend/shut"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("inside"), "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
    let Some(said) = as_somebody(&person, &["backup"]) else {
        return;
    };
    let said =
        said.code(3).says(&["backend/closed: ", "backend/shut: ", "ermission denied", "2 problems in all:"]);
    assert!(said.out.contains("INCOMPLETE"), "{said}");
    let document = as_somebody(&person, &["backup", "--json"]).unwrap().code(3);
    let document: Value = serde_json::from_str(&document.out).unwrap();
    assert_eq!(problem(&document, "backend", "closed")["kind"], "unreadable");
    assert_eq!((&document["complete"], &document["good"]), (&false.into(), &false.into()));
    let listed = as_somebody(&person, &["ls", "latest", "backend"]).unwrap().code(0);
    assert!(listed.out.contains("could not be read"), "{listed}");
    let restored = as_somebody(&person, &["cat", "latest", "backend/app/main.py"]).unwrap().code(0);
    assert!(restored.out.contains("FastAPI"), "{restored}");
    // Whoever brings it back hears it again, and a path of which there is nothing is not found.
    let to = person.app.join("back");
    let restore = |args: &[&str]| {
        let all = [&["restore", "latest"], args, &["--no-owners", "--to", to.to_str().unwrap()]].concat();
        as_somebody(&person, &all).unwrap()
    };
    restore(&[]).code(3).says(&[
        "backend/closed: it could not be read when",
        "backend/shut: ",
        "2 things could not",
    ]);
    assert!(to.join("backend/app/main.py").exists() && !to.join("backend/closed").exists());
    fs::remove_dir_all(&to).unwrap();
    restore(&["backend/closed"])
        .code(16)
        .says(&["it could not be read when the snapshot was made", "backstay find"]);
    assert!(!to.exists());
    restore(&["backend/app"]).code(0);
    fs::remove_dir_all(&to).unwrap();
    // What may be unreadable is no problem.
    person.reconfigure(
        "path = \"backend\"",
        "path = \"backend\"\nallow_unreadable = [\"/closed\", \"/shut/\"]",
    );
    as_somebody(&person, &["backup"]).unwrap().code(0);
    restore(&[]).code(0);
}

#[test]
fn a_folder_that_is_missing_is_named_and_the_others_kept() {
    let person = Person::set_up();
    let gone = person.app.join("frontend.gone");
    fs::rename(person.app.join("frontend"), &gone).unwrap();
    let said = person.run(["backup"]).code(3).says(&[
        "problem: frontend: ",
        "does not exist",
        "is its disk mounted",
    ]);
    assert!(said.out.contains("INCOMPLETE") && said.out.contains("0 B  0 entries  incomplete"), "{said}");
    person.run(["backup", "--dry-run"]).code(3).says(&["frontend: ", "does not exist"]);
    person.ok(["cat", "latest", "backend/app/main.py"]);
    assert!(!person.app.join("frontend").exists());
    assert_eq!(person.snapshots(), 1);
}

#[test]
fn when_nothing_can_be_captured_there_is_no_snapshot() {
    let person = Person::set_up();
    person.backup();
    for name in ["backend", "frontend", ".env"] {
        fs::rename(person.app.join(name), person.top.join(name)).unwrap();
    }
    let said =
        person.fails(1, ["backup"]).says(&["nothing at all could be captured", "no snapshot was made"]);
    assert!(
        said.err.contains("db/agent.db: ") && said.err.contains("older snapshots are untouched"),
        "{said}"
    );
    assert_eq!(person.snapshots(), 1);
}

#[test]
fn a_database_that_is_missing_is_not_made() {
    let person = Person::set_up();
    let data = person.app.join("backend/data");
    for entry in fs::read_dir(&data).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    person.run(["backup"]).code(3).says(&["db/agent.db: ", "does not exist", "correct the path"]);
    person.run(["backup", "--dry-run"]).code(3).says(&["db: ", "agent.db does not exist"]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing is made in its place");
}

#[test]
fn a_database_without_anything_in_it_is_a_problem() {
    let person = Person::set_up();
    let database = person.app.join("backend/data/agent.db");
    for entry in fs::read_dir(database.parent().unwrap()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::write(&database, "").unwrap();
    person.run(["backup"]).code(3).says(&["db/agent.db: ", "is empty", "correct the path"]);
    assert_eq!(fs::metadata(&database).unwrap().len(), 0);
    fs::write(&database, "this is no database at all, whatever its name may be").unwrap();
    person.run(["backup"]).code(3).says(&["db/agent.db: ", "is not a SQLite database", "command component"]);
}

#[test]
fn a_damaged_database_is_kept_but_not_good() {
    let person = Person::set_up();
    let database = person.app.join("backend/data/agent.db");
    damage_database(&database);
    let said = person
        .run(["backup"])
        .code(3)
        .says(&["db/agent.db: the database check failed", "repair the database"]);
    assert!(said.out.contains("CHECK FAILED"), "{said}");
    let list = person.json(0, ["list"]);
    assert_eq!(
        (&list["snapshots"][0]["good"], &list["snapshots"][0]["complete"]),
        (&false.into(), &true.into())
    );
    person.fails(16, ["show", "latest-good"]);
    let said = person.run(["restore", "latest", "db", "--to", "../back"]).code(3);
    said.says(&["restored as it was stored", "try an older one"]);
}

#[test]
fn a_database_that_stays_locked_is_a_problem_and_the_rest_is_kept() {
    let person = Person::set_up();
    let database = person.app.join("backend/data/agent.db");
    let db = rusqlite::Connection::open(&database).unwrap();
    db.execute_batch("PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE; INSERT INTO message(text) VALUES ('x')")
        .unwrap();
    person.run(["backup"]).code(3).says(&["db/agent.db: ", "stayed locked", "end its transaction"]);
    person.ok(["cat", "latest", "backend/app/main.py"]);
    db.execute_batch("COMMIT").unwrap();
    person.backup();
}

#[test]
fn a_hot_journal_is_a_problem_and_is_left_as_it_is() {
    let person = Person::set_up();
    let data = person.app.join("backend/data");
    for entry in fs::read_dir(&data).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    // What a killed writer leaves: the files of a transaction under way.
    let elsewhere = person.top.join("writer.db");
    make_database(&elsewhere, 2000);
    let db = rusqlite::Connection::open(&elsewhere).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode=DELETE; PRAGMA cache_size=1; BEGIN; UPDATE message SET text = text || 'changed'",
    )
    .unwrap();
    fs::copy(&elsewhere, data.join("agent.db")).unwrap();
    fs::copy(person.top.join("writer.db-journal"), data.join("agent.db-journal")).unwrap();
    drop(db);
    let before = everything_below(&data);
    assert!(fs::metadata(data.join("agent.db-journal")).unwrap().len() > 0);
    person.run(["backup"]).code(3).says(&[
        "db/agent.db: ",
        "journal that must be rolled back",
        "open it once",
    ]);
    assert_eq!(everything_below(&data), before);
}

/// Does `step` over and over in another thread while `run` runs.
fn meanwhile<T>(mut step: impl FnMut(u64) + Send, run: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..).take_while(|_| !done.load(Ordering::Relaxed)).for_each(&mut step));
        let result = run();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn a_file_that_never_stands_still_is_kept_with_a_warning() {
    let person = Person::set_up();
    let path = person.app.join("backend/moving");
    fs::write(&path, noise(1, 12 << 20)).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let change = |n: u64| {
        file.seek(SeekFrom::Start((n * 4099) % (12 << 20))).unwrap();
        file.write_all(&n.to_le_bytes()).unwrap();
    };
    let document = meanwhile(change, || person.json(0, ["backup"]));
    let warning = problem(&document, "backend", "moving");
    assert_eq!(warning["kind"], "warning", "{warning}");
    assert!(warning["what"].as_str().unwrap().contains("may be a mixture"), "{warning}");
    assert_eq!(document["complete"], true);
    assert!(person.ok(["ls", "latest", "backend/moving"]).out.contains("[unsteady]"));
    person.ok(["restore", "latest", "backend/moving", "--to", "../back"]);
}

#[test]
fn a_file_that_grows_is_whole_at_the_length_it_had() {
    let person = Person::set_up();
    let path = person.app.join("backend/log");
    let begin = noise(2, 8 << 20);
    fs::write(&path, &begin).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let grow = |n: u64| file.write_all(format!("line {n}\n").as_bytes()).unwrap();
    let document = meanwhile(grow, || person.json(0, ["backup"]));
    assert_eq!(document["problems"], Value::Array(Vec::new()), "{document:#}");
    person.ok(["restore", "latest", "backend/log", "--to", "../back"]);
    let (now, back) = (fs::read(&path).unwrap(), fs::read(person.top.join("back/backend/log")).unwrap());
    assert!(back.len() >= begin.len() && back.len() <= now.len());
    assert!(now[..back.len()] == back[..], "it is a beginning of the file");
}

#[test]
fn a_file_that_vanishes_is_told_and_is_no_failure() {
    let person = Person::set_up();
    fs::write(person.app.join("backend/a-large"), noise(3, 24 << 20)).unwrap();
    let last = person.app.join("backend/zz-last");
    fs::write(&last, "soon gone").unwrap();
    let mut command = person.command(["backup", "--json", "--progress", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // When packing is announced the folder has been listed, and the large file comes first.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"packing\"")), "packing was not announced");
    fs::remove_file(&last).unwrap();
    lines.for_each(drop);
    let output = child.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warning = problem(&document, "backend", "zz-last");
    assert!(warning["what"].as_str().unwrap().contains("vanished"), "{warning}");
    assert_eq!((output.status.code(), &document["complete"]), (Some(0), &true.into()), "{document:#}");
}

#[test]
fn a_folder_of_a_running_server_is_not_taken_for_a_backup() {
    let person = Person::set_up();
    let data = person.app.join("backend/pg");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "16\n").unwrap();
    let said = person.run(["backup"]);
    if said.code == 0 {
        // Said at least: bytes of a running server are no backup of it.
        cannot_run("a folder of PostgreSQL inside a component (not recognised by this version)");
        return;
    }
    said.code(3).says(&["backend/pg"]);
}

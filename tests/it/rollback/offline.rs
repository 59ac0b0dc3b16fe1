//! A machine that keeps no identity: whoever goes back brings the recovery kit or an identity file.

use crate::common::person::{Person, Said};
use crate::common::project::{exe, have};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

const MAIN: &str = "backend/app/main.py";

/// An application whose machine cannot open its own snapshots, and a snapshot; its kit is `../kit.txt`.
fn offline() -> (Person, String) {
    let person = Person::new();
    person.ok(["init", "--yes", "--offline-identity", "--kit", "../kit.txt"]);
    let id = person.backup();
    spoil(&person);
    (person, id)
}

fn spoil(person: &Person) {
    fs::write(person.app.join(MAIN), "spoilt").unwrap();
}

#[track_caller]
fn back(person: &Person, said: &Said) {
    let text = fs::read_to_string(person.app.join(MAIN)).unwrap();
    assert!(text.contains("FastAPI"), "{text}: {said}");
}

#[test]
fn a_machine_without_an_identity_goes_back_with_its_kit() {
    let (person, id) = offline();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/2am.md")).unwrap();
    let words = "the same command with --kit FILE (the recovery kit), or -i FILE (an identity file)";
    assert!(page.replace('`', "").contains(words), "2am.md says it otherwise");
    for args in [["rollback", "latest", "--yes"], ["rollback", "latest", "--dry-run"]] {
        person.fails(12, args).says(&["no identity is here", words, ": backstay rollback latest --kit FILE"]);
    }
    person.fails(12, ["guard", "--auto", "--", "touch", "ran"]).says(&["`touch` was not run", words]);
    person.fails(12, ["restore", "latest", MAIN, "--in-place", "--yes"]).says(&[words]);
    assert!(!person.app.join("ran").exists());
    let kit = ["--kit", "../kit.txt"];
    let with = |args: &[&str]| person.run(kit.iter().chain(args));
    // `latest` is what the guard saved.
    back(&person, &with(&["rollback", &id, "--yes"]).code(0));
    spoil(&person);
    back(&person, &with(&["restore", &id, MAIN, "--in-place", "--yes"]).code(0));
    let spoiling = format!("echo spoilt > {MAIN}; exit 3");
    back(&person, &with(&["guard", "--auto", "--", "sh", "-c", &spoiling]).code(17));
    // What was put away comes back without it.
    person.ok(["rollback", "--undo", "--yes"]);
    // As at home: what is unfinished here is in the way of it.
    let mut killed = person.command(kit.iter().chain(&["rollback", "latest", "--yes"]));
    let killed = killed.env("BACKSTAY_TEST_CRASH", "rollback: a step#1").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", Said::from(killed));
    with(&["restore", &id, MAIN, "--in-place", "--yes"]).code(18).error();
    person.run(["rollback", "--resume"]).code(17);
    // Where no project is, the kit alone says where files were.
    spoil(&person);
    let mut alone = person.command(["--kit", "kit.txt", "restore", &id, MAIN, "--in-place", "--yes"]);
    back(&person, &Said::from(alone.current_dir(&person.top).output().unwrap()).code(0));
}

#[test]
fn a_guard_without_an_identity_that_was_killed_is_taken_back_with_the_kit() {
    let (person, _) = offline();
    fs::write(person.app.join(MAIN), "from fastapi import FastAPI\n").unwrap();
    let spoiling = format!("echo spoilt > {MAIN}; exit 3");
    let mut guard = person.command(["--kit", "../kit.txt", "guard", "--auto", "--", "sh", "-c", &spoiling]);
    let killed = guard.env("BACKSTAY_TEST_CRASH", "guard: ended#1").output().unwrap();
    assert_eq!(killed.status.code(), None, "{}", Said::from(killed));
    person.fails(18, ["rollback", "--resume"]).says(&["--kit FILE (the recovery kit)"]);
    back(&person, &person.ok(["--kit", "../kit.txt", "rollback", "--resume"]));
}

#[test]
fn the_kit_of_another_vault_opens_nothing_here() {
    let (person, other) = (Person::set_up(), Person::set_up());
    person.backup();
    other.ok(["kit", "-o", "../kit.txt"]);
    spoil(&person);
    let kit = other.top.join("kit.txt");
    for args in [&["rollback", "latest", "--yes"][..], &["restore", "latest", MAIN, "--in-place", "--yes"]] {
        let said = person.fails(2, ["--kit", kit.to_str().unwrap()].iter().chain(args));
        said.says(&["the recovery kit is of another vault"]);
    }
    assert_eq!(fs::read_to_string(person.app.join(MAIN)).unwrap(), "spoilt");
}

#[test]
fn a_kit_that_a_passphrase_protects_asks_for_it_before_a_rollback() {
    let person = Person::set_up();
    person.backup();
    let passphrase = person.top.join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    person.ok(["kit", "-o", "../locked.txt", "--new-passphrase-file", passphrase.to_str().unwrap()]);
    fs::remove_file(person.identity()).unwrap();
    spoil(&person);
    let args = ["--kit", "../locked.txt", "rollback", "latest", "--yes"];
    person.fails(12, args).says(&["BACKSTAY_PASSPHRASE_FILE"]);
    let mut command = person.command(args);
    let said = Said::from(command.env("BACKSTAY_PASSPHRASE_FILE", &passphrase).output().unwrap()).code(0);
    back(&person, &said);
}

/// Runs `backstay args` on a terminal where somebody gives the next of `answers` once its question is shown.
fn on_a_terminal(person: &Person, answers: &[(&str, &str)], args: &str) -> Said {
    let mut script = Command::new("script");
    let line = format!("'{}' {args}", exe().display());
    script.args(["-qec", &line, "/dev/null"]).current_dir(&person.app).env_clear();
    for (name, value) in person.command::<&str>([]).get_envs() {
        script.env(name, value.unwrap());
    }
    let mut child = script.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut answers) = (Vec::new(), answers.iter());
    let mut next = answers.next();
    let mut byte = [0];
    while screen.read(&mut byte).unwrap_or(0) == 1 {
        shown.push(byte[0]);
        if let Some((question, answer)) = next
            && shown.ends_with(question.as_bytes())
        {
            writeln!(keyboard, "{answer}").unwrap();
            next = answers.next();
        }
    }
    assert!(next.is_none(), "{:?} was not asked: {}", next, String::from_utf8_lossy(&shown));
    let code = child.wait().unwrap().code().unwrap();
    Said { code, out: String::from_utf8_lossy(&shown).into_owned(), err: String::new() }
}

#[test]
fn where_no_identity_is_the_kit_is_asked_for_first() {
    if !have(&["script"]) {
        return;
    }
    let (person, id) = offline();
    let which = "Path of the recovery kit, or of an identity file: ";
    let sure = "Go ahead? [y/N] ";
    let said = on_a_terminal(&person, &[(which, "../kit.txt"), (sure, "y")], "rollback latest").code(0);
    back(&person, &said);
    assert!(said.out.find(which) < said.out.find("rollback to "), "it is asked for first: {said}");
    spoil(&person);
    let which_snapshot = "Back to which? [number, or Enter for none] ";
    // The first is the safety snapshot.
    let answers = [(which, "../kit.txt"), (which_snapshot, "2"), (sure, "y")];
    back(&person, &on_a_terminal(&person, &answers, "rollback").code(0));
    spoil(&person);
    let in_place = format!("restore {id} {MAIN} --in-place");
    back(&person, &on_a_terminal(&person, &[(which, "../kit.txt"), (sure, "y")], &in_place).code(0));
    let spoiling = format!("guard --auto -- sh -c 'echo spoilt > {MAIN}; exit 3'");
    back(&person, &on_a_terminal(&person, &[(which, "../kit.txt")], &spoiling).code(17));
    // An identity file will do, also one that is named from the home.
    let text = fs::read_to_string(person.top.join("kit.txt")).unwrap();
    let secret = text.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let file = person.home.join("identity.txt");
    fs::write(&file, format!("{secret}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    spoil(&person);
    let answers = [(which, "~/identity.txt"), (sure, "y")];
    back(&person, &on_a_terminal(&person, &answers, "rollback latest").code(0));
    // Who has none at hand is told what to look for.
    let said = on_a_terminal(&person, &[(which, "")], "rollback latest").code(12);
    assert!(said.out.contains("--kit FILE (the recovery kit)"), "{said}");
}

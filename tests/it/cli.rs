//! What people type and see when all goes well: what goes where, options, terminals, documents.

mod documents;
mod places;
mod terminal;

use crate::common::person::{Person, make_fifo};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

#[test]
fn results_go_to_standard_output_and_all_else_to_standard_error() {
    let person = Person::new();
    let quiet_out = |args: &[&str]| {
        let said = person.ok(args);
        assert!(said.out.is_empty() && !said.err.is_empty(), "{args:?}\n{said}");
        said.err
    };
    let quiet_err = |args: &[&str]| {
        let said = person.ok(args);
        assert!(said.err.is_empty() && !said.out.is_empty(), "{args:?}\n{said}");
        said.out
    };
    let told = quiet_out(&["init", "--yes"]);
    assert!(told.contains("OFF THIS MACHINE") && told.contains("Next:  backstay backup"), "{told}");
    assert!(quiet_err(&["list"]).starts_with("no snapshot yet in local ("));
    let said = person.ok(["backup", "--note", "before phase 2", "--tag", "stable"]);
    assert!(said.err.lines().all(|line| line.starts_with("reminder: ")), "{said}");
    let made = said.out;
    assert!(made.starts_with("snapshot 2") && made.contains("read back and proved"), "{made}");
    assert!(quiet_err(&["backup", "--dry-run"]).contains("nothing was written"));
    let listed = quiet_err(&["list"]);
    assert!(listed.contains("good") && listed.ends_with("[stable]  before phase 2\n"), "{listed}");
    assert!(quiet_err(&["show"]).contains("note         before phase 2"));
    assert_eq!(quiet_err(&["ls", "latest"]).lines().count(), 4);
    assert_eq!(quiet_err(&["cat", "latest", "./.env"]), "SECRET_KEY=canary-of-the-env-file\n");
    assert!(quiet_err(&["restore", "latest", "--to", "../back"]).starts_with("restored "));
    fs::write(person.app.join("backend/app/main.py"), "broken").unwrap();
    let said = person.ok(["restore", "latest", "backend/app/main.py", "--in-place", "--yes"]);
    assert!(said.out.starts_with("restored 1 file (") && said.out.contains("is kept as"), "{said}");
    assert!(said.err.starts_with("replace "), "{said}");
    assert!(quiet_out(&["kit", "-o", "../kit.txt"]).contains("keep it off this machine"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let completions = quiet_err(&["completions", shell]);
        assert!(
            completions.contains("restore")
                && !completions.contains("__capture-sqlite")
                && !completions.contains("__demo-service"),
            "{shell}: {completions}"
        );
    }
    quiet_out(&["man", "../man"]);
    let pages: Vec<_> =
        fs::read_dir(person.top.join("man")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(pages.iter().any(|p| p == "backstay-restore.1"), "{pages:?}");
    assert!(!pages.iter().any(|p| p.to_string_lossy().contains("__")), "{pages:?}");
    assert!(quiet_err(&["--help"]).contains("What went wrong?"));
    assert!(quiet_err(&["--version"]).starts_with("backstay "));
}

#[test]
fn a_program_that_reads_no_further_is_no_error() {
    let person = Person::set_up();
    fs::write(person.app.join("backend/large"), vec![b'x'; 4 << 20]).unwrap();
    person.backup();
    let commands: [&[&str]; 3] =
        [&["cat", "latest", "backend/large"], &["list", "--json"], &["completions", "bash"]];
    for args in commands {
        let mut child = person.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = child.stdout.take().unwrap();
        let mut first = [0];
        reader.read_exact(&mut first).unwrap();
        drop(reader);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
    // Nobody reads at all.
    let mut child = person.command(["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let person = Person::set_up();
    person.backup();
    let commands: [&[&str]; 4] =
        [&["list"], &["list", "--json"], &["cat", "latest", "./.env"], &["completions", "fish"]];
    for args in commands {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = person.command(args).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("No space left on device"), "{args:?}: {said}");
    }
}

#[test]
fn quiet_leaves_results_and_problems() {
    let person = Person::set_up();
    let said = person.ok(["-q", "init"]);
    assert!(!said.err.contains("worth protecting"), "{said}");
    person.configure("[[component]]\nname = \"gone\"\npath = \"gone\"");
    let said = person.run(["backup", "--quiet"]).code(3).says(&["problem: gone: ", "1 problem in all:"]);
    assert!(said.out.starts_with("snapshot "), "{said}");
    person.run(["list", "-q", "-v"]).code(2);
    let said = person.ok(["list", "-v"]).says(&["configuration ", "store local ("]);
    assert!(said.out.starts_with("ID "), "{said}");
}

#[test]
fn the_demo_brings_everything_back() {
    let person = Person::new();
    let told = person.json(0, ["demo"]);
    assert_eq!(told, serde_json::json!({ "passed": true, "folder": null }));
}

/// A project with a component whose command waits for a person to write into a FIFO.
fn with_a_slow_command() -> Person {
    let person = Person::set_up();
    make_fifo(&person.top.join("fifo"));
    person.configure("[[component]]\nname = \"slow\"\ncommand = [\"cat\", \"../fifo\"]");
    person
}

/// Starts a backup that waits in its command. It ends when what is returned second is dropped.
fn backup_under_way(person: &Person) -> (Child, fs::File) {
    let mut command = person.command(["backup", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opening it to write waits until the command reads.
    let fifo = fs::OpenOptions::new().write(true).open(person.top.join("fifo")).unwrap();
    (child, fifo)
}

#[test]
fn one_run_at_a_time_and_wait_waits() {
    let person = with_a_slow_command();
    let (first, fifo) = backup_under_way(&person);
    let pid = first.id().to_string();
    person.fails(11, ["backup"]).says(&["another run of this project is under way", &pid, "--wait"]);
    person.fails(11, ["backup", "--wait=0s"]);
    assert!(person.ok(["list"]).out.starts_with("no snapshot yet"), "reading needs no lock");
    let mut second = person
        .command(["backup", "--wait=1h", "--only", "backend", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut &fifo, b"output").unwrap();
    drop(fifo);
    assert_eq!(first.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(person.snapshots(), 2);
}

#[test]
fn a_signal_ends_a_run_and_what_it_started_and_leaves_no_snapshot() {
    use rustix::process::{Pid, Signal, kill_process};
    let person = with_a_slow_command();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (mut child, fifo) = backup_under_way(&person);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let mut said = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
        assert!(said.contains("error: interrupted") && said.contains("hint: nothing was"), "{said}");
        // Nobody reads any more: the command is gone, too.
        let written = std::io::Write::write(&mut &fifo, b"x");
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        let document =
            BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect::<String>();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["exit_code"], code);
    }
    assert_eq!(person.snapshots(), 0);
}

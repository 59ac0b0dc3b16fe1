//! On a terminal: questions, the kit, colours. `script` of util-linux is the terminal.

use crate::common::person::{Person, Said};
use crate::common::project::{exe, have};
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

/// Runs `backstay args` on a terminal where somebody types `typed`.
fn on_a_terminal(person: &Person, typed: &str, variables: &[(&str, &str)], args: &[&str]) -> Said {
    let mut command = person.command::<&str>([]);
    let words: Vec<String> = [exe().to_str().unwrap()].iter().chain(args).map(|w| format!("'{w}'")).collect();
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(&person.app).env_clear();
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap());
    }
    command.env_clear();
    script.env("TERM", "xterm").envs(variables.iter().copied());
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn init_asks_for_each_component() {
    if !have(&["script"]) {
        return;
    }
    let person = Person::new();
    let said = on_a_terminal(&person, "y\n\nn\nyes\n", &[], &["init"]).code(0);
    assert!(said.out.contains("Protect backend? [Y/n]"), "{said}");
    let config = person.config();
    let names: Vec<_> =
        config["component"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["backend", "frontend", "db"]);
}

#[test]
fn a_restore_in_place_asks_and_no_means_no() {
    if !have(&["script"]) {
        return;
    }
    let person = Person::set_up();
    person.backup();
    let file = person.app.join("backend/app/main.py");
    fs::write(&file, "broken").unwrap();
    let args = ["restore", "latest", "./backend/app/main.py", "--in-place"];
    let said = on_a_terminal(&person, "n\n", &[], &args).code(1);
    assert!(said.out.contains("nothing was changed"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "broken");
    on_a_terminal(&person, "y\n", &[], &args).code(0);
    assert!(fs::read_to_string(&file).unwrap().contains("FastAPI"));
}

#[test]
fn the_kit_is_printed_on_a_terminal_and_nowhere_else() {
    if !have(&["script"]) {
        return;
    }
    let person = Person::set_up();
    let said = on_a_terminal(&person, "", &[], &["kit"]).code(0);
    assert!(said.out.contains("BEGIN BACKSTAY KIT") && said.out.contains("AGE-SECRET-KEY-1"), "{said}");
    let refused = person.fails(2, ["kit"]).says(&["not written into a pipe", "backstay kit -o FILE"]);
    assert!(!refused.err.contains("AGE-SECRET-KEY"), "{refused}");
    let to_a_file = fs::File::create(person.top.join("kit")).unwrap();
    let status = person.command(["kit"]).stdout(to_a_file).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(fs::metadata(person.top.join("kit")).unwrap().len(), 0);
}

#[test]
fn there_are_no_colours_where_none_are_wanted() {
    if !have(&["script"]) {
        return;
    }
    let person = Person::set_up();
    person.backup();
    for args in [&["frobnicate"][..], &["--help"], &["list"], &["show", "nope"]] {
        let said = on_a_terminal(&person, "", &[("NO_COLOR", "1")], args);
        assert!(!said.out.contains("\u{1b}["), "{args:?}\n{said}");
        let said = person.run(args);
        assert!(!said.out.contains('\u{1b}') && !said.err.contains('\u{1b}'), "{args:?}\n{said}");
    }
    let coloured = on_a_terminal(&person, "", &[], &["frobnicate"]).code(2);
    assert!(coloured.out.contains("\u{1b}["), "the terminal would have shown colours\n{coloured}");
}

#[test]
fn a_rollback_without_an_id_shows_the_last_five_and_takes_the_number_that_is_typed() {
    if !have(&["script"]) {
        return;
    }
    let person = Person::set_up();
    let file = person.app.join("backend/app/main.py");
    let ids: Vec<String> = (0..6)
        .map(|n| {
            fs::write(&file, format!("version {n}")).unwrap();
            person.json(0, ["backup", "--note", &format!("note {n}")])["snapshot"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    fs::write(&file, "broken").unwrap();
    let version = || fs::read_to_string(&file).unwrap();
    // What is no number of the list is none, and so is a plan that is not confirmed.
    for (typed, code, words) in [
        ("\n", 1, "nothing was chosen"),
        ("0\n", 1, "nothing was chosen"),
        ("6\n", 1, "nothing was chosen"),
        ("latest\n", 1, "nothing was chosen"),
        ("2\nn\n", 1, "not confirmed"),
        ("2\n\n", 1, "not confirmed"),
    ] {
        let said = on_a_terminal(&person, typed, &[], &["rollback"]).code(code);
        assert!(said.out.contains(words) && said.out.contains("nothing was changed"), "{typed:?}\n{said}");
        assert_eq!((version(), person.snapshots()), ("broken".into(), 6), "{typed:?}\n{said}");
    }
    let said = on_a_terminal(&person, "2\ny\n", &[], &["rollback"]).code(0);
    let shown: Vec<&str> = said.out.split("Back to which? [number, or Enter for none]").collect();
    assert_eq!(shown.len(), 2, "{said}");
    let lines: Vec<&str> = shown[0].lines().filter(|line| line.contains("note ")).collect();
    let expected = ids.iter().enumerate().rev().take(5).enumerate();
    let expected: Vec<(String, String)> =
        expected.map(|(place, (n, id))| (format!("{}  {id}  ", place + 1), format!("note {n}"))).collect();
    assert_eq!(lines.len(), expected.len(), "{said}");
    for (line, (begins, ends)) in lines.iter().zip(&expected) {
        assert!(line.contains(begins.as_str()) && line.trim_end().ends_with(ends.as_str()), "{line}\n{said}");
    }
    assert!(shown[1].contains(&format!("rollback to {}", ids[4])), "{said}");
    assert_eq!(version(), "version 4");
    // A snapshot that was made for safety is one to choose, too, and is said to be one.
    let said = on_a_terminal(&person, "1\ny\n", &[], &["rollback"]).code(0);
    assert!(said.out.lines().any(|line| line.contains("1  ") && line.contains("safety")), "{said}");
    assert_eq!(version(), "broken");
}

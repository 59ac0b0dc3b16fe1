//! Command components: a dump that failed is never taken for one.

use crate::common::person::Person;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Components that go wrong in every way, each with what is said of it.
const BAD: &[(&str, &str, &str)] = &[
    (
        "fails",
        "command = \"echo data; echo no such table >&2; exit 3\"",
        "ended with exit code 3: no such table",
    ),
    ("killed", "command = \"echo data; kill -9 $$\"", "ended with signal 9"),
    ("empty", "command = [\"true\"]", "succeeded, but wrote nothing"),
    ("small", "command = [\"echo\", \"x\"]\nmin_size = \"1kB\"", "2 bytes, fewer than min_size = 1000"),
    ("pipe", "command = \"(echo data; exit 4) | cat\"", "ended with exit code 4"),
    ("slow", "command = \"echo data; sleep 1000\"\ntimeout = \"1s\"", "was stopped after 1 s"),
    (
        "check",
        "command = \"echo data\"\ncheck = \"echo not a dump >&2; exit 1\"",
        "its check ended with exit code 1: not a dump",
    ),
    ("absent", "command = [\"no-such-program-of-anybody\"]", "cannot start no-such-program-of-anybody"),
    ("secret", "command = [\"env\"]\nenv_file = \"open.env\"", "may be read by others (mode 0644)"),
];

#[test]
fn a_command_that_goes_wrong_is_told_and_everything_else_kept() {
    let person = Person::set_up();
    fs::write(person.app.join("open.env"), "PASSWORD=canary-in-an-open-file\n").unwrap();
    fs::set_permissions(person.app.join("open.env"), fs::Permissions::from_mode(0o644)).unwrap();
    for (name, settings, _) in BAD {
        person.configure(&format!("[[component]]\nname = \"{name}\"\n{settings}"));
    }
    person.configure("[[component]]\nname = \"sound\"\ncommand = \"echo sound\"\ncheck = \"grep -q sound\"");
    let document = person.json(3, ["backup"]);
    for (name, _, what) in BAD {
        let problems = document["problems"].as_array().unwrap();
        let problem = problems.iter().find(|p| p["component"] == *name).unwrap_or_else(|| panic!("{name}"));
        let said = problem["what"].as_str().unwrap();
        assert!(said.contains(what) && !said.starts_with("component"), "{name}: {said}");
        let row = document["components"].as_array().unwrap().iter().find(|c| c["name"] == *name).unwrap();
        assert_eq!(
            (&row["complete"], &row["size"]),
            (&false.into(), &0.into()),
            "nothing of it is kept: {row}"
        );
    }
    assert_eq!(document["problems"].as_array().unwrap().len(), BAD.len(), "{document:#}");
    assert_eq!(person.ok(["cat", "latest", "sound"]).out, "sound\n");
    person.ok(["cat", "latest", "backend/app/main.py"]);
    person.fails(16, ["cat", "latest", "fails/output"]);
    for (name, ..) in BAD {
        person.fails(1, ["backup", "--only", name]).says(&["nothing at all could be captured"]);
    }
}

#[test]
fn a_command_gets_what_its_file_says_and_no_secret_of_backstay() {
    let person = Person::set_up();
    let file = person.app.join("orders.env");
    fs::write(&file, "PGPASSWORD=swordfish\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    person.configure("[[component]]\nname = \"orders\"\ncommand = [\"env\"]\nenv_file = \"orders.env\"");
    let mut command = person.command(["backup", "--only", "orders"]);
    command.env("AWS_SECRET_ACCESS_KEY", "canary-aws").env("BACKSTAY_CONFIG", person.config_path());
    assert!(command.status().unwrap().success());
    let environment = person.ok(["cat", "latest", "orders"]).out;
    assert!(environment.contains("PGPASSWORD=swordfish"), "{environment}");
    for secret in ["canary-aws", "BACKSTAY_", "AWS_"] {
        assert!(!environment.contains(secret), "{environment}");
    }
}

#[test]
fn the_output_of_a_command_is_restored_to_a_folder_only() {
    let person = Person::set_up();
    person.configure("[[component]]\nname = \"orders\"\ncommand = \"echo dump\"");
    person.backup();
    person
        .fails(2, ["restore", "latest", "orders", "--in-place", "--yes"])
        .says(&["output of a command", "--to DIR"]);
    person.ok(["restore", "latest", "orders", "--to", "../back"]);
    assert_eq!(fs::read_to_string(person.top.join("back/orders/output")).unwrap(), "dump\n");
    let listed: Value = person.json(0, ["ls", "latest", "orders"]);
    assert_eq!(listed["entries"][0]["mode"], "0600");
}

//! What another program wrote from docs/format.md alone (tests/tools/mini_vault.py), this one reads: changed blocks, maps, files in parts,
//! reused and renamed files, two recipients, a second key, what was left out, a void snapshot.

use crate::common::project::{Gone, exe, expect_code, have, program};
use crate::common::trees::{Tree, assert_same, below, look};
use crate::common::writer::{Facts, kit_for};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

const TOOLS: [&str; 5] = ["python3", "age", "age-keygen", "zstd", "ssh-keygen"];

/// The vault, and a kit that opens it.
struct Made {
    top: PathBuf,
    facts: Facts,
    kit: PathBuf,
    _gone: Gone,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let gone = Gone::new();
        let top = gone.path();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/mini_vault.py");
        let vault = top.join("vault");
        let python = Command::new("python3").args(["-B", script]).arg(&vault).output();
        expect_code(python.unwrap(), 0);
        let facts = Facts::read(&vault);
        let kit = top.join("kit.txt");
        kit_for(&facts, &facts.identities[..1]).write(&kit).unwrap();
        Made { top, facts, kit, _gone: gone }
    })
}

impl Made {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = program(exe(), &self.top);
        command.arg("--kit").arg(&self.kit).args(args).current_dir(&self.top).output().unwrap()
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let output = expect_code(self.run(&[args, &["--json"]].concat()), 0);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn id(&self, name: &str) -> &str {
        self.facts.snapshots[name].as_str().unwrap()
    }

    /// What a restore of a snapshot must give, by component.
    fn expected(&self, id: &str) -> Tree {
        look(&self.facts.expected.join(id))
    }

    fn restore(&self, id: &str, to: &str) -> Tree {
        let to = self.top.join(to);
        // What it calls a database is none, and that is all there is to say.
        let output = self.run(&["restore", id, "--to", to.to_str().unwrap(), "--json"]);
        let report: Value = serde_json::from_slice(&expect_code(output, 3).stdout).unwrap();
        let problems: Vec<(&str, &str, &str)> = { report["problems"].as_array().unwrap().iter() }
            .map(|p| ["kind", "component", "subject"].map(|key| p[key].as_str().unwrap()).into())
            .collect();
        // The newest lacks what that writer could not read.
        let lacking = [("unreadable", "backend", "locked"), ("unreadable", "backend", ".")];
        let lacking = if report["snapshot"] == self.id("latest") { &lacking[..] } else { &[] };
        assert_eq!(problems, [lacking, &[("check-failed", "db", "agent.db")]].concat(), "{report:#}");
        let tree = look(&to);
        fs::remove_dir_all(to).unwrap();
        tree
    }
}

/// Components by themselves: the folder around them is nobody's, and so is that of the one file of a database.
fn assert_same_components(expected: &Tree, found: &Tree) {
    for name in ["backend", "nothing", "settings"] {
        assert_same(&below(expected, name.as_bytes()), &below(found, name.as_bytes()));
    }
    let file = b"db/agent.db";
    assert_same(&below(expected, file), &below(found, file));
    let top = |tree: &Tree| -> Vec<Vec<u8>> { tree.keys().filter(|p| !p.contains(&b'/')).cloned().collect() };
    assert_eq!(top(expected), top(found));
}

#[test]
fn another_writers_snapshots_come_back_exactly() {
    if !have(&TOOLS) {
        return;
    }
    let made = made();
    for name in ["alone", "delta", "latest", "safety"] {
        let id = made.id(name);
        let restored = made.restore(id, &format!("restored {name}"));
        assert_same_components(&made.expected(id), &restored);
    }
    assert_same_components(&made.expected(made.id("latest")), &made.restore("latest", "the latest"));
}

#[test]
fn another_writers_history_is_told_as_it_is() {
    if !have(&TOOLS) {
        return;
    }
    let made = made();
    // That writer puts no RECOVER files into its stores, and a list says so by name; nothing else is wrong with them.
    let output = expect_code(made.run(&["list", "--json"]), 13);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["history"], Value::Array(Vec::new()));
    let damaged = list["damaged"].as_array().unwrap().iter().map(|d| d["key"].as_str().unwrap());
    let recover = ["RECOVER.md", "RECOVER.md.sig", "recover.py", "recover.py.sig"];
    assert_eq!(damaged.collect::<Vec<_>>(), recover);
    let rows = list["snapshots"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|r| r["id"] == made.id(name)).unwrap();
    assert_eq!(rows.iter().filter(|r| r["trusted"] == true).count(), rows.len());
    assert_eq!(row("void")["void"], "an object was not there");
    assert_eq!(row("delta")["void"], Value::Null);
    assert_eq!(row("alone")["note"], "before the change");
    assert_eq!(row("alone")["tags"], serde_json::json!(["kept", "stable"]));
    assert_eq!(row("latest")["complete"], false);
    assert_eq!(row("safety")["kind"], "safety");
    let names = serde_json::json!(["backend", "db", "nothing", "settings"]);
    assert_eq!(row("latest")["components"], names);
    assert_eq!(rows.iter().filter(|r| r["kind"] == "partial").count(), 1);
    expect_code(made.run(&["restore", made.id("void"), "--to", "void"]), 13);
    assert!(!made.top.join("void").exists());
}

#[test]
fn another_writers_listings_say_what_was_left_out_and_what_is_in_each_file() {
    if !have(&TOOLS) {
        return;
    }
    let made = made();
    for (name, path, why) in [
        ("delta", "backend/venv", "component"),
        ("delta", "backend/run/mnt", "mount"),
        ("latest", "backend/locked", "unreadable"),
    ] {
        let listing = made.json(&["ls", made.id(name), path]);
        assert_eq!(listing["entries"][0]["type"], "left", "{listing:#}");
        assert_eq!(listing["entries"][0]["why"], why);
    }
    let expected = made.facts.expected.join(made.id("delta"));
    for path in ["backend/data.bin", "backend/renamed.py", "backend/zz/three", "db/agent.db"] {
        let output = expect_code(made.run(&["cat", made.id("delta"), path]), 0);
        assert!(output.stdout == fs::read(expected.join(path)).unwrap(), "{path}");
    }
}

#[test]
fn each_of_two_recipients_opens_another_writers_vault_and_nobody_else() {
    if !have(&TOOLS) {
        return;
    }
    let made = made();
    let id = made.id("delta");
    let kit = made.top.join("kit of the second.txt");
    kit_for(&made.facts, &made.facts.identities[1..]).write(&kit).unwrap();
    let with = |kit: &PathBuf, more: &[&str]| {
        let mut command = program(exe(), &made.top);
        command.arg("--kit").arg(kit).args(more).args(["cat", id, "backend/renamed.py"]).output().unwrap()
    };
    expect_code(with(&kit, &[]), 0);
    let none = made.top.join("kit of nobody.txt");
    kit_for(&made.facts, &[]).write(&none).unwrap();
    expect_code(with(&none, &[]), 12);
    let stranger = made.top.join("stranger.txt");
    let keygen = Command::new("age-keygen").arg("-o").arg(&stranger).output().unwrap();
    expect_code(keygen, 0);
    expect_code(with(&none, &["-i", stranger.to_str().unwrap()]), 12);
    let first = made.facts.identities[0].to_str().unwrap();
    expect_code(with(&none, &["-i", first]), 0);
}

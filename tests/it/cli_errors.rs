//! When something is wrong: each mistake and accident is told, does no harm to the rest, and has its exit code.

mod accidents;
mod commands;
mod secrets;

use crate::common::person::{Person, Said, everything_below};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn every_mistake_of_a_configuration_is_told_at_once_with_its_line() {
    let person = Person::set_up();
    person.backup();
    let text = fs::read_to_string(person.config_path()).unwrap();
    let lines = text.lines().count();
    person.configure(
        "[[component]]\nname = \"uploads\"\npth = \"x\"\npath = \"~/x\"\n[packing]\nlevel = \"fast\"\narchive_size = \"64\"\n[service]\n",
    );
    let before = everything_below(&person.store());
    let said = person.fails(14, ["backup"]);
    for (line, what) in [(4, "`pth`"), (5, "`~`"), (7, "`level`"), (8, "\"64\""), (9, "service")] {
        let place = format!("backstay.toml:{}:", lines + line);
        let told = said.err.lines().any(|l| l.contains(&place) && l.contains(what));
        assert!(told, "{place} {what}\n{said}");
    }
    let document = person.json(14, ["backup"]);
    assert_eq!(document["caused_by"].as_array().unwrap().len(), 5, "{document:#}");
    assert_eq!(everything_below(&person.store()), before);
    for (text, what) in [("", "is empty"), ("no toml [", "backstay.toml:1:"), ("\u{0}", "backstay.toml:1:")] {
        fs::write(person.config_path(), text).unwrap();
        person.fails(14, ["list"]).says(&[what]);
    }
    fs::write(person.config_path(), [0xff, 0xfe, 0]).unwrap();
    person.fails(14, ["list"]).says(&["UTF-8"]);
    fs::write(person.config_path(), vec![b'#'; 11 << 20]).unwrap();
    person.fails(14, ["list"]).says(&["larger than 1 MiB"]);
    fs::remove_file(person.config_path()).unwrap();
    person.fails(14, ["list"]).says(&["there is no backstay.toml", "`backstay init` makes one", "-c FILE"]);
    person.fails(14, ["list", "-c", "."]).says(&["is a directory"]);
}

#[test]
fn names_that_are_not_there_are_exit_16_and_say_what_is() {
    let person = Person::set_up();
    person.fails(16, ["show"]).says(&["latest"]);
    person.ok(["backup", "--tag", "stable"]);
    person.fails(16, ["backup", "--only", "nope"]).says(&["\"nope\"", "backend, frontend, settings, db"]);
    person.fails(16, ["ls", "latest", "nope"]).says(&["\"nope\"", "backend, frontend, settings, db"]);
    person.fails(16, ["cat", "latest", ".env"]).says(&["begins with ./"]);
    person.fails(16, ["cat", "latest", "backend/nope"]).says(&["backend/nope", "backstay ls"]);
    person.fails(16, ["restore", "latest", "backend/nope", "--to", "../x"]).says(&["backend/nope"]);
    person.fails(16, ["restore", "latest", "/etc/passwd", "--in-place", "--yes"]).says(&["in no component"]);
    person
        .fails(16, ["show", "20200101T000000Z-aaaaaaaa"])
        .says(&["20200101T000000Z-aaaaaaaa", "backstay list"]);
    person.fails(16, ["show", "latest~1"]).says(&["there is 1"]);
    person.fails(16, ["show", "tag:nope"]).says(&["stable"]);
    person.fails(16, ["show", "@2020-01-01"]).says(&["the oldest is"]);
    person.fails(16, ["list", "--host", "nope"]).says(&["no host \"nope\""]);
    assert!(!person.top.join("x").exists());
}

#[test]
fn what_makes_no_sense_is_exit_2_and_changes_nothing() {
    let person = Person::set_up();
    person.ok(["backup", "--tag", "stable"]);
    person.backup();
    // Before it is looked: a list keeps in the state what it read.
    let year = &person.json(0, ["list"])["snapshots"][0]["id"].as_str().unwrap()[..4].to_owned();
    let before = everything_below(&person.top);
    person.fails(2, ["show", "stable"]).says(&["it is a tag", "tag:stable"]);
    person.fails(2, ["show", "nonsense"]).says(&["names no snapshot", "backstay list"]);
    person.fails(2, ["show", "20"]).says(&["at least 4 characters"]);
    person.fails(2, ["show", "@yesterday"]).says(&["a time is @2026-11-17"]);
    person.fails(2, ["show", year]).says(&["the beginning of 2 snapshots", "more characters"]);
    person.fails(2, ["cat", "latest", "backend"]).says(&["not one file", "backstay ls ID backend"]);
    person.fails(2, ["cat", "latest", "backend/app"]).says(&["not a file"]);
    person.fails(2, ["restore", "latest", "--to", "."]).says(&["not an empty folder", "does not exist yet"]);
    person.fails(2, ["restore", "latest", "--to", ".env"]).says(&["not an empty folder"]);
    person.fails(1, ["restore", "latest", "--to", "no/such/place"]).says(&["make the folder"]);
    person.fails(2, ["restore", "latest", "--in-place"]).says(&["needs paths"]);
    person
        .fails(2, ["restore", "latest", "backend", "--in-place"])
        .says(&["nobody is here to ask", "add --yes"]);
    person.fails(2, ["backup", "--tag", ""]).says(&["cannot be a tag"]);
    person.fails(2, ["kit"]).says(&["private keys", "backstay kit -o FILE"]);
    person.fails(2, ["kit", "-o", "backstay.toml"]).says(&["exists already", "new file"]);
    person.fails(2, ["kit", "-o", "no/such/kit"]).says(&["no such folder"]);
    person.fails(2, ["list", "--store", "a", "--store", "b"].into_iter().chain(["-q"])).says(&["--store"]);
    for args in [
        &["frobnicate"][..],
        &["restore", "latest"],
        &["restore", "latest", "--to", "x", "--in-place"],
        &["restore", "--to", "x"],
        &["list", "--wait=soon"],
        &["list", "--host", "a", "--all-hosts"],
        &["backup", "backend"],
        &["milestone"],
        &["milestone", "--remove"],
        &["milestone", "--standalone", "--remove"],
        &["milestone", "latest", "--standalone", "--remove"],
        &["completions", "dosh"],
        &[],
    ] {
        let said = person.run(args).code(2);
        assert!(said.out.is_empty() && said.err.contains("Usage: ") || said.err.contains("--help"), "{said}");
    }
    assert_eq!(everything_below(&person.top), before);
}

#[test]
fn identities_that_do_not_open_are_exit_12() {
    let person = Person::set_up();
    person.backup();
    let other = Person::set_up();
    let config = fs::read_to_string(person.config_path()).unwrap();
    person.reconfigure("identity_file", "# identity_file");
    let secret = fs::read_to_string(person.identity()).unwrap();
    let put = |name: &str, text: &str, mode| {
        let path = person.top.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = secret.find("AGE-SECRET-KEY").unwrap();
    let cases = [
        (other.identity().to_str().unwrap().to_owned(), "none of the identities"),
        (put("cut", &secret[..key + 30], 0o600), "cut off or mistyped"),
        (put("comment", &secret[..key], 0o600), "holds no key"),
        (put("empty", "", 0o600), "holds no key"),
        (put("open", &secret, 0o644), "chmod 600"),
        (put("group", &secret, 0o640), "chmod 600"),
        (put("nonsense", "hello", 0o600), "AGE-SECRET-KEY-1…"),
        (person.kit().to_str().unwrap().to_owned(), "--kit FILE"),
        (person.top.join("none").to_str().unwrap().to_owned(), "does not exist"),
        (person.top.to_str().unwrap().to_owned(), "directory"),
    ];
    let secret_part = &secret[key + 16..key + 28];
    for (file, what) in &cases {
        for args in [&["show"][..], &["cat", "latest", "./.env"], &["restore", "latest", "--to", "../x"]] {
            let said = person.fails(12, args.iter().copied().chain(["-i", file])).says(&[what]);
            assert!(!said.err.contains(secret_part), "{said}");
        }
    }
    assert!(!person.top.join("x").exists());
    person.ok(["list", "-i", cases[0].0.as_str()]).says(&["names and notes of 1 snapshot could not be read"]);
    person.fails(12, ["list", "--kit", cases[1].0.as_str()]).says(&["holds no recovery kit", "hint: "]);
    person.fails(12, ["list", "--kit", "none"]).says(&["cannot read recovery kit"]);
    let kit = fs::read_to_string(person.kit()).unwrap();
    person
        .fails(12, ["list", "--kit", &put("cut-kit", &kit[..kit.len() - 60], 0o600)])
        .says(&["line 29", "compare it"]);
    person
        .fails(12, ["list", "--kit", &put("typo", &kit.replacen("1 kit 1", "1 kit 7", 1), 0o600)])
        .says(&["line 1"]);
    // With several, one that opens is enough; CRLF does no harm.
    let windows = put("windows", &secret.replace('\n', "\r\n"), 0o600);
    person.ok(["show", "-i", &cases[0].0, "-i", &windows]);
    fs::write(person.config_path(), config).unwrap();
    // On a stick without permissions no `chmod` helps, and the way that is said must work.
    let stick = put("stick-identity", &secret, 0o755);
    let said = person.fails(12, ["show", "-i", stick.as_str()]).says(&["open to others", "chmod 600"]);
    let way = said.err.split('`').find(|part| part.starts_with("(umask")).unwrap_or_else(|| panic!("{said}"));
    let copied = std::process::Command::new("sh").args(["-c", way]).env("HOME", &person.home).status();
    assert!(copied.unwrap().success(), "{way}");
    let copy = person.home.join("identity.txt");
    person.ok(["show", "-i", copy.to_str().unwrap()]);
    fs::set_permissions(person.identity(), fs::Permissions::from_mode(0o644)).unwrap();
    let said = person.fails(12, ["show"]).says(&["open to others", "chmod 600"]);
    assert!(!said.err.contains("umask"), "{said}");
    fs::remove_file(person.identity()).unwrap();
    person.fails(12, ["show"]).says(&["no identity is here", "there is no such file", "-i FILE"]);
}

#[test]
fn keys_that_are_gone_or_open_to_others_stop_a_backup() {
    let person = Person::set_up();
    let key = person.keys().join("signing_key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    person.fails(14, ["backup"]).says(&["open to others", "chmod 600"]);
    fs::remove_file(&key).unwrap();
    person.fails(14, ["backup"]).says(&["signing key", "does not exist", "--kit FILE"]);
    person.fails(14, ["init"]).says(&["signing key"]);
    assert_eq!(person.snapshots(), 0);
}

#[test]
fn the_snapshots_of_another_host_count_only_when_its_key_is_trusted() {
    let (first, second) = (Person::set_up(), Person::set_up());
    let id = first.backup();
    // The second host joins the first one's vault, with keys of its own.
    let vault = |person: &Person| person.config()["project"]["vault"].as_str().unwrap().to_owned();
    second.reconfigure(&vault(&second), &vault(&first));
    second.reconfigure("path = \"backups\"", &format!("path = {:?}", first.store().to_str().unwrap()));
    fs::remove_dir_all(second.home.join(".local")).unwrap();
    let foreign = second.backup();
    let rows = |list: &Value| -> Vec<(String, bool)> {
        let row = |r: &Value| (r["id"].as_str().unwrap().to_owned(), r["trusted"].as_bool().unwrap());
        let mut rows: Vec<_> = list["snapshots"].as_array().unwrap().iter().map(row).collect();
        rows.sort_by_key(|(_, trusted)| !trusted);
        rows
    };
    assert_eq!(rows(&first.json(0, ["list"])), [(id.clone(), true), (foreign.clone(), false)]);
    assert!(first.ok(["list"]).out.contains("UNTRUSTED"));
    assert_eq!(
        first.json(0, ["show", "latest"])["id"],
        id.as_str(),
        "what is not trusted is never the latest"
    );
    first.fails(13, ["show", &foreign]).says(&["is not trusted", "--accept-untrusted"]);
    first.fails(13, ["restore", &foreign, "--to", "../x"]).says(&["is not trusted"]);
    let identity = second.identity();
    let identity = identity.to_str().unwrap();
    let restore = ["restore", foreign.as_str(), "--to", "../x", "--accept-untrusted"];
    first.fails(12, restore);
    first.ok(restore.iter().copied().chain(["-i", identity]));
    first.fails(16, ["list", "--host", "second"]);
    // Now its key is trusted.
    let key = second.config()["signing"]["trusted"][0]["key"].as_str().unwrap().to_owned();
    first.reconfigure(
        "trusted = [",
        &format!("trusted = [\n    {{ key = {key:?}, name = \"second\", roles = [\"host\"] }},"),
    );
    assert_eq!(rows(&first.json(0, ["list"])), [(id.clone(), true)]);
    assert_eq!(rows(&first.json(0, ["list", "--all-hosts"])).len(), 2);
    assert_eq!(rows(&first.json(0, ["list", "--host", "second"])), [(foreign.clone(), true)]);
    first.ok(["show", &foreign, "-i", identity]);
    let latest = first.json(0, ["show", "latest", "--host", "second", "-i", identity]);
    assert_eq!(latest["id"], foreign.as_str());
}

#[test]
fn a_store_that_is_gone_or_refuses_is_exit_10() {
    let person = Person::set_up();
    person.backup();
    let aside = person.top.join("aside");
    fs::rename(person.store(), &aside).unwrap();
    // An empty mount point is no store, and nothing is written to it.
    fs::create_dir(person.store()).unwrap();
    for args in [&["list"][..], &["backup"], &["restore", "latest", "--to", "../x"], &["kit", "-o", "../k"]] {
        person.fails(10, args).says(&["store \"local\"", "is the disk mounted?"]);
    }
    assert_eq!(fs::read_dir(person.store()).unwrap().count(), 0);
    fs::remove_dir(person.store()).unwrap();
    fs::write(person.store(), "a file").unwrap();
    person.fails(10, ["list"]);
    fs::remove_file(person.store()).unwrap();
    fs::rename(&aside, person.store()).unwrap();
    person.ok(["list"]);
    let damaged = person.store().join("backstay.json");
    fs::write(&damaged, "{}").unwrap();
    let said: Said = person.run(["list"]).code(13);
    said.says(&["backstay.json"]);
}

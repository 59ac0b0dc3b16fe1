//! `docs/json.md` and `docs/cli.md` say what the program does.

use crate::common::person::Person;
use backstay::cli::args::Cli;
use clap::CommandFactory as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A section of `docs/json.md`: the type of each field, and the example.
struct Section {
    types: BTreeMap<String, String>,
    example: Value,
}

fn sections() -> BTreeMap<String, Section> {
    let text = document("json.md");
    let mut sections = BTreeMap::new();
    for part in text.split("\n## ").skip(1) {
        let title = part.lines().next().unwrap().trim_matches('`').to_owned();
        let rows = part.lines().filter(|line| line.starts_with("| `"));
        let types = rows.map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let may_be_missing = if cells[2].contains("may be missing") { ", may be missing" } else { "" };
            (
                cells[0].trim_start_matches("| ").trim_matches('`').to_owned(),
                format!("{}{may_be_missing}", cells[1]),
            )
        });
        let types = types.collect();
        let example = part.split("```json\n").nth(1).unwrap().split("\n```").next().unwrap();
        let example = serde_json::from_str(example).unwrap_or_else(|e| panic!("the example of {title}: {e}"));
        sections.insert(title, Section { types, example });
    }
    sections
}

/// Every field of `value` with the types it has; problems have a section of their own.
fn fields(value: &Value, at: &str, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                found.entry(path.clone()).or_default().insert(type_of(value));
                if !["problems", "problem"].contains(&name.as_str()) {
                    fields(value, &path, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, &format!("{at}[]"), found)),
        _ => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// What commands wrote, by section.
#[derive(Default)]
struct Written(BTreeMap<&'static str, Vec<Value>>);

impl Written {
    fn add(&mut self, section: &'static str, document: Value) {
        for name in ["problems", "problem"] {
            let problems = document.get(name).cloned().unwrap_or_default();
            let problems = problems.as_array().cloned().unwrap_or_else(|| vec![problems]);
            let entries = self.0.entry("Problems").or_default();
            entries.extend(problems.into_iter().filter(Value::is_object));
        }
        self.0.entry(section).or_default().push(document);
    }
}

/// Runs everything that writes JSON, with and without trouble.
fn everything() -> Written {
    let person = Person::new();
    let mut written = Written::default();
    written.add("Errors", person.json(14, ["list"]));
    written.add("Errors", person.json(2, ["list", "--bogus"]));
    written.add("Errors", person.json(2, ["kit"]));
    written.add("`backstay init`", person.json(0, ["init", "--yes"]));
    written.add("`backstay init`", person.json(0, ["init"]));
    written.add("`backstay backup`", person.json(0, ["backup", "--tag", "stable", "--note", "x"]));
    person.configure("[[component]]\nname = \"uploads\"\npath = \"uploads\"");
    let secret = person.app.join("backend/secret");
    std::os::unix::fs::symlink("app", person.app.join("backend/link")).unwrap();
    fs::write(&secret, "x").unwrap();
    written.add("`backstay backup`", person.json(3, ["backup"]));
    written.add("`backstay backup --dry-run`", person.json(3, ["backup", "--dry-run"]));
    written.add("`backstay show`", person.json(0, ["show", "latest~1"]));
    written.add("`backstay ls`", person.json(0, ["ls", "latest", "-r"]));
    written.add("`backstay ls`", person.json(0, ["ls", "latest"]));
    written.add("`backstay restore`", person.json(0, ["restore", "latest", "backend", "--to", "../back"]));
    fs::write(&secret, "y").unwrap();
    let in_place = ["restore", "latest", "backend/secret", "--in-place", "--yes"];
    written.add("`backstay restore`", person.json(0, in_place));
    written.add("`backstay kit -o FILE`", person.json(0, ["kit", "-o", "../kit.txt"]));
    kits_and_keys(&person, &mut written);
    written.add("`backstay demo`", person.json(0, ["demo", "--quiet"]));
    written.add("`backstay man DIR`", person.json(0, ["man", "../man"]));
    let said = person.run(["backup", "--progress", "json", "--json"]).code(3);
    for line in said.err.lines() {
        written.add("Progress", serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")));
    }
    fs::write(person.store().join("snapshots/20261116T030000Z-aaaaaaaa.json"), "nonsense").unwrap();
    written.add("`backstay list`", person.json(13, ["list"]));
    person.reconfigure("identity_file", "# identity_file");
    written.add("`backstay list`", person.json(13, ["list"]));
    several_stores(&mut written);
    compared(&mut written);
    rolled_back(&mut written);
    health(&mut written);
    kept(&mut written);
    settled(&mut written);
    proofs(&mut written);
    growing(&mut written);
    written
}

fn kits_and_keys(person: &Person, written: &mut Written) {
    let verify = "`backstay kit verify FILE`";
    written.add(verify, person.json(0, ["kit", "verify", "../kit.txt"]));
    written.add("`backstay keys list`", person.json(0, ["keys", "list"]));
    let recipient = backstay::keys::identity::generate().1;
    let add = "`backstay keys add RECIPIENT`";
    written.add(add, person.json(0, ["keys", "add", &recipient, "--yes"]));
    written.add("`backstay keys list`", person.json(0, ["keys", "list"]));
    // The kit is stale now, and says so.
    written.add(verify, person.json(3, ["kit", "verify", "../kit.txt"]));
    written.add(verify, person.json(13, ["kit", "verify", "../kit.txt", "--store", "../nowhere"]));
    written.add(add, person.json(0, ["keys", "remove", &recipient, "--yes"]));
    let passphrase = person.top.join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    std::os::unix::fs::chown(&passphrase, None, None).unwrap();
    fs::set_permissions(&passphrase, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let args = ["keys", "passphrase", "--new-passphrase-file", "../passphrase"];
    written.add("`backstay keys passphrase`", person.json(0, args));
    person.reconfigure("identity_file =", &format!("passphrase_file = {passphrase:?}\nidentity_file ="));
    written.add("`backstay keys passphrase`", person.json(0, ["keys", "passphrase", "--remove", "--yes"]));
    person.reconfigure(&format!("passphrase_file = {passphrase:?}\n"), "");
    let store = person.store();
    let recover =
        ["recover", "../kit.txt", "--store", store.to_str().unwrap(), "--to", "../recovered", "--yes"];
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    // Into a copy of the store: the old machine goes on here.
    copy(&store, &person.top.join("copy"));
    let recover = recover.map(|arg| if Some(arg) == store.to_str() { "../copy" } else { arg });
    written.add("`backstay recover`", person.json(0, recover));
}

/// Marks, and what prune says: planned, announced, frozen, accepted, deleted.
fn kept(written: &mut Written) {
    let person = Person::set_up();
    person.reconfigure("keep_within", "keep_last = 1 #");
    person.reconfigure("keep_weekly_within", "# keep_weekly_within");
    person.reconfigure("min_keep = 3", "min_keep = 1");
    let main = person.app.join("backend/app/main.py");
    for content in ["one", "two", "three", "four"] {
        fs::write(&main, content.repeat(100_000)).unwrap();
        person.backup();
    }
    written.add("`backstay tag`", person.json(0, ["tag", "latest", "stable", "tested"]));
    written.add("`backstay tag`", person.json(0, ["note", "latest", "before the move"]));
    written.add("`backstay tag`", person.json(0, ["milestone", "latest"]));
    written.add("`backstay tag`", person.json(0, ["milestone", "latest", "--remove"]));
    written.add("`backstay tag`", person.json(0, ["delete", "latest~3", "--yes"]));
    written.add("`backstay prune`", person.json(0, ["prune", "--dry-run"]));
    written.add("`backstay prune`", person.json(0, ["prune"]));
    fs::write(&main, "small").unwrap();
    person.backup();
    written.add("`backstay prune`", person.json(18, ["prune"]));
    written.add("`backstay prune`", person.json(0, ["prune", "--accept", "latest"]));
    written.add("`backstay prune`", person.json(0, ["prune", "--now"]));
    written.add("`backstay backup`", person.json(0, ["milestone", "--standalone"]));
    written.add("`backstay tag`", person.json(0, ["milestone", "latest", "--standalone"]));
    person.reconfigure("path = \"backups\"", "path = \"backups\"\nprune = \"elsewhere\"");
    person.run(["prune"]).code(2);
}

/// A history that is whole, and one that is settled.
fn settled(written: &mut Written) {
    let person = Person::set_up();
    let main = person.app.join("backend/app/main.py");
    let ids = ["one", "two", "three"].map(|content| {
        fs::write(&main, content).unwrap();
        person.backup()
    });
    written.add("`backstay settle`", person.json(0, ["settle"]));
    fs::remove_file(person.store().join(format!("snapshots/{}.json", ids[1]))).unwrap();
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    written.add("`backstay settle`", person.json(0, ["settle", "--yes"]));
}

/// How things stand, well and not.
fn health(written: &mut Written) {
    let person = Person::set_up();
    written.add("`backstay status`", person.json(0, ["status"]));
    person.backup();
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    person.json(0, ["init"]);
    person.backup();
    written.add("`backstay status`", person.json(0, ["status"]));
    written.add("`backstay doctor`", person.json(0, ["doctor"]));
    person.configure("[schedule]\nbackup = \"0 3 * * *\"");
    let at = |now: &str| {
        let made = person.command(["agent", "--once"]).env("BACKSTAY_TEST_NOW", now).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    at("2024-11-01T12:00:00Z");
    at(&jiff::Timestamp::now().to_string());
    written.add("`backstay status`", person.json(0, ["status"]));
    written.add("`backstay agent --print cron`", person.json(0, ["agent", "--print", "cron"]));
    fs::rename(person.top.join("second"), person.top.join("away")).unwrap();
    person.json(4, ["backup"]);
    written.add("`backstay status`", person.json(0, ["status", "--check"]));
    written.add("`backstay doctor`", person.json(18, ["doctor"]));
}

/// What differs between states, and what versions there are.
fn compared(written: &mut Written) {
    let person = Person::set_up();
    person.configure("[[component]]\nname = \"dump\"\ncommand = [\"echo\", \"x\"]");
    person.backup();
    fs::write(person.app.join("backend/app/main.py"), "changed").unwrap();
    fs::rename(person.app.join("backend/requirements.txt"), person.app.join("backend/needs.txt")).unwrap();
    fs::write(person.app.join("backend/app/new.py"), "new").unwrap();
    std::os::unix::fs::symlink("app", person.app.join("backend/link")).unwrap();
    let database = rusqlite::Connection::open(person.app.join("backend/data/agent.db")).unwrap();
    database.execute("INSERT INTO message(text) VALUES ('one more')", ()).unwrap();
    person.backup();
    written.add("`backstay diff`", person.json(0, ["diff", "latest~1", "latest"]));
    fs::remove_file(person.app.join("backend/link")).unwrap();
    fs::create_dir(person.app.join("backend/link")).unwrap();
    written.add("`backstay diff`", person.json(0, ["diff", "latest~1"]));
    written.add("`backstay diff`", person.json(0, ["diff", "latest"]));
    written.add("`backstay find`", person.json(0, ["find", "*.py"]));
    written.add("`backstay find`", person.json(0, ["find", "link"]));
}

/// An application that goes back, with a service.
fn rolled_back(written: &mut Written) {
    let person = Person::set_up();
    person.configure(
        "[[service]]\nname = \"web\"\ncomponents = [\"backend\"]\nstop = \"true\"\nstart = \"true\"\n\
         [[service]]\nname = \"api\"\ncomponents = [\"frontend\"]\nstop = \"true\"\nstart = \"true\"\npid_file = \"api.pid\"",
    );
    let lock = person.app.join("frontend/package-lock.json");
    fs::write(&lock, "1").unwrap();
    person.backup();
    fs::write(&lock, "2").unwrap();
    written.add("`backstay rollback --dry-run`", person.json(0, ["rollback", "latest", "--dry-run"]));
    let unattended = ["rollback", "latest", "--dry-run", "--only", "settings"];
    written.add("`backstay rollback --dry-run`", person.json(0, unattended));
    written.add("`backstay rollback`", person.json(0, ["rollback", "latest"]));
    let undo = ["rollback", "--undo", "--dry-run"];
    written.add("`backstay rollback --undo --dry-run`", person.json(0, undo));
    written.add("`backstay rollback`", person.json(0, ["rollback", "--undo", "--yes"]));
    written.add("`backstay rollback --resume`", person.json(0, ["rollback", "--resume"]));
    written.add("`backstay ready`", person.json(0, ["ready"]));
    let guard = ["guard", "--json", "--dry-run", "--", "true"];
    written.add("`backstay guard --dry-run -- CMD`", person.json(0, guard));
    written.add("`backstay guard -- CMD`", person.json(0, ["guard", "--json", "--", "true"]));
    with_git(&person, written);
}

/// What is told of git, where it is installed.
fn with_git(person: &Person, written: &mut Written) {
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@example"]).args(args);
        assert!(command.current_dir(person.app.join("backend")).status().unwrap().success(), "{args:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "app"]);
    git(&["commit", "-q", "-m", "one"]);
    fs::write(person.app.join("backend/app/main.py"), "not committed").unwrap();
    written.add("`backstay backup`", person.json(0, ["backup", "--git=bundle", "--tag", "x"]));
    written.add("`backstay show`", person.json(0, ["show"]));
    git(&["commit", "-q", "-a", "-m", "two"]);
    let dry = ["rollback", "latest", "--git", "--dry-run"];
    written.add("`backstay rollback --dry-run`", person.json(0, dry));
    written.add("`backstay rollback`", person.json(0, ["rollback", "latest", "--git"]));
    git(&["checkout", "-q", "-f", "--detach", "main~1"]);
    git(&["branch", "-q", "-f", "main"]);
    written.add("`backstay rollback`", person.json(0, ["rollback", "latest", "--git"]));
}

/// What is proved, and what is damaged.
fn proofs(written: &mut Written) {
    let person = Person::set_up();
    person.backup();
    written.add("`backstay verify`", person.json(0, ["verify", "--decrypt"]));
    written.add("`backstay drill`", person.json(0, ["drill"]));
    written.add("`backstay show`", person.json(0, ["show"]));
    let folder = fs::read_dir(person.store().join("archives")).unwrap().next().unwrap().unwrap().path();
    let archive = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    fs::write(archive, "nonsense").unwrap();
    written.add("`backstay verify`", person.json(13, ["verify"]));
    written.add("`backstay drill`", person.json(13, ["drill", "latest"]));
    written.add("`backstay list`", person.json(0, ["list"]));
}

/// What a snapshot needs of an older one, and what a month adds: with a snapshot three days after the first.
fn growing(written: &mut Written) {
    let person = Person::set_up();
    person.backup();
    fs::write(person.app.join("backend/app/new.py"), "new").unwrap();
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(72);
    let made = person.command(["backup"]).env("BACKSTAY_TEST_NOW", later.to_string()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    written.add("`backstay backup --dry-run`", person.json(0, ["backup", "--dry-run"]));
    written.add("`backstay show`", person.json(0, ["show", "latest"]));
}

/// A second store that is away, comes back and catches up.
fn several_stores(written: &mut Written) {
    let person = Person::set_up();
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    written.add("`backstay init`", person.json(0, ["init"]));
    written.add("`backstay backup`", person.json(0, ["backup"]));
    let (second, away) = (person.top.join("second"), person.top.join("away"));
    fs::rename(&second, &away).unwrap();
    written.add("`backstay backup`", person.json(4, ["backup"]));
    written.add("`backstay sync`", person.json(4, ["sync"]));
    fs::rename(&away, &second).unwrap();
    written.add("`backstay sync`", person.json(0, ["sync"]));
}

#[test]
fn every_json_document_is_as_it_is_documented() {
    let (sections, written) = (sections(), everything());
    let titles: BTreeSet<&str> = sections.keys().map(String::as_str).collect();
    let shown: BTreeSet<&str> = written.0.keys().map(|t| t.trim_matches('`')).collect();
    assert_eq!(titles, shown, "sections of docs/json.md, and what commands wrote");
    for (title, documents) in &written.0 {
        let section = &sections[title.trim_matches('`')];
        let mut real = BTreeMap::new();
        documents.iter().for_each(|document| fields(document, "", &mut real));
        let mut example = BTreeMap::new();
        fields(&section.example, "", &mut example);
        for (path, types) in real.iter().chain(&example) {
            let said = section.types.get(path).unwrap_or_else(|| panic!("{title}: {path} is not documented"));
            for kind in types {
                assert!(said.contains(kind), "{title}: {path} is {kind}, and documented as {said}");
            }
        }
        for (path, said) in &section.types {
            assert!(real.contains_key(path), "{title}: {path} is documented, and never written");
            let top = !path.contains(['.', '[']);
            let always = documents.iter().all(|d| d.get(path).is_some());
            assert!(!top || always || said.contains("may be missing"), "{title}: {path} is not always there");
            let shown = example.contains_key(path) || said.contains("may be missing");
            assert!(shown, "{title}: the example lacks {path}");
        }
    }
}

/// `docs/cli.md`, made from what the program itself says.
fn command_line() -> String {
    let mut out = String::from(
        "# Command line\n\n\
         Made from the program's own help: `BACKSTAY_BLESS=1 cargo test --test it cli::documents` writes it anew. What a command returns is in \
         [exit-codes.md](exit-codes.md), its JSON in [json.md](json.md).\n\n\
         Options of all commands may stand before or after the command. Data and JSON go to standard output, everything else to standard error.\n",
    );
    let mut all = Cli::command().term_width(100);
    let mut section = |title: &str, help: String| {
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        out.push_str(&format!("\n## `{title}`\n\n```text\n{}\n```\n", lines.join("\n").trim()));
    };
    section("backstay", all.render_long_help().to_string());
    for command in all.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = format!("backstay {}", command.get_name());
        let mut command = command.clone().bin_name(&name).term_width(100);
        section(&name, command.render_long_help().to_string());
    }
    out
}

#[test]
fn the_command_line_is_as_it_is_documented() {
    let now = command_line();
    if std::env::var_os("BACKSTAY_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
        fs::write(path, &now).unwrap();
    }
    let documented = document("cli.md");
    for (line, (documented, now)) in documented.lines().zip(now.lines()).enumerate() {
        assert_eq!(documented, now, "docs/cli.md, line {}; BACKSTAY_BLESS=1 writes it anew", line + 1);
    }
    assert_eq!(documented.lines().count(), now.lines().count(), "BACKSTAY_BLESS=1 writes docs/cli.md anew");
}

//! Keys that come and go, kits that are proved, passphrases.

use crate::common::person::{Person, Said};
use crate::common::project::{exe, have};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn identity(person: &Person, name: &str) -> (PathBuf, String) {
    let path = person.top.join(name);
    let (identity, recipient) = backstay::keys::identity::generate();
    identity.write(&path, backstay::model::Timestamp::now()).unwrap();
    (path, recipient)
}

pub(crate) fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether the snapshot opens with this identity and nothing else of this machine.
fn opens(person: &Person, id: &str, identity: &Path) -> bool {
    let config = fs::read_to_string(person.config_path()).unwrap();
    let bare: Vec<&str> = config.lines().filter(|line| !line.starts_with("identity_file")).collect();
    let other = person.app.join("other.toml");
    fs::write(&other, bare.join("\n")).unwrap();
    let (other, identity) = (other.to_str().unwrap(), identity.to_str().unwrap());
    let said = person.run(["-c", other, "-i", identity, "cat", id, "backend/app/main.py"]);
    assert!([0, 12].contains(&said.code), "{said}");
    fs::remove_file(other).unwrap();
    said.code == 0
}

#[test]
fn a_second_recipient_opens_what_the_lost_identity_no_longer_does() {
    let person = Person::set_up();
    let before = person.backup();
    let (second, recipient) = identity(&person, "second.txt");
    let text = fs::read_to_string(person.config_path()).unwrap();
    person.fails(2, ["keys", "add", &recipient]).says(&[
        "nobody is here to ask",
        "older snapshots do not",
        "+ ",
    ]);
    assert_eq!(fs::read_to_string(person.config_path()).unwrap(), text, "nothing was changed");
    let report = person.json(0, ["keys", "add", &recipient, "--yes"]);
    assert_eq!(
        fs::read_to_string(report["old_config"].as_str().unwrap()).unwrap(),
        text,
        "the old one is kept"
    );
    let now = fs::read_to_string(person.config_path()).unwrap();
    assert_eq!(now.lines().count(), text.lines().count(), "comments and all else stay");
    let report = person.json(0, ["backup"]);
    let after = report["snapshot"].as_str().unwrap().to_owned();
    assert_eq!(report["reused_bytes"], 0, "packed anew for the new set of recipients: {report:#}");
    fs::remove_file(person.identity()).unwrap();
    assert!(opens(&person, &after, &second));
    assert!(!opens(&person, &before, &second), "what was sealed before is not touched");
    let keys = person.json(0, ["keys", "list"]);
    let row = keys["recipients"].as_array().unwrap().iter().find(|r| r["recipient"] == recipient).unwrap();
    assert_eq!((&row["identity_here"], &row["opens_newest"]), (&false.into(), &true.into()), "{keys:#}");
    // And away again, but never the last one.
    person.json(0, ["keys", "remove", &recipient, "--yes"]);
    let last = person.config()["encryption"]["recipients"][0].as_str().unwrap().to_owned();
    person.fails(2, ["keys", "remove", &last, "--yes"]).says(&["only recipient"]);
    let later = person.backup();
    assert!(!opens(&person, &later, &second) && opens(&person, &after, &second));
}

#[test]
fn a_new_identity_opens_what_comes_and_the_old_one_what_was() {
    let person = Person::set_up();
    let before = person.backup();
    let old = person.identity();
    person.json(0, ["keys", "rotate", "--yes"]);
    let new = PathBuf::from(person.config()["encryption"]["identity_file"].as_str().unwrap());
    assert_eq!(new.file_name().unwrap(), "identity-2.txt");
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    let after = person.backup();
    assert!(opens(&person, &before, &old) && !opens(&person, &after, &old));
    assert!(opens(&person, &before, &new) && opens(&person, &after, &new), "the new file holds both");
    person.ok(["show", &before]);
    person.ok(["kit", "-o", "../kit.txt"]);
    person.ok(["kit", "verify", "../kit.txt"]);
    // Both are in the kit.
    for id in [&before, &after] {
        person.ok(["--kit", "../kit.txt", "cat", id, "backend/app/main.py"]);
    }
}

#[test]
fn an_offline_identity_is_exchanged_for_one_in_a_new_kit_alone() {
    let person = Person::new();
    person.ok(["init", "--yes", "--offline-identity", "--kit", "../old-kit.txt"]);
    let before = person.backup();
    person.fails(2, ["keys", "rotate", "--yes"]).says(&["--kit FILE"]);
    person.json(0, ["keys", "rotate", "--yes", "--kit", "../new-kit.txt"]);
    let after = person.backup();
    let with = |kit: &str, id: &str| person.run(["--kit", kit, "cat", id, "backend/app/main.py"]).code;
    assert_eq!((with("../old-kit.txt", &before), with("../new-kit.txt", &after)), (0, 0));
    assert_eq!((with("../old-kit.txt", &after), with("../new-kit.txt", &before)), (12, 12));
    let text = fs::read_to_string(person.config_path()).unwrap();
    assert!(!text.contains("\nidentity_file"), "{text}");
}

#[test]
fn a_new_signing_key_is_introduced_and_the_old_one_retired() {
    let person = Person::set_up();
    person.ok(["kit", "-o", "../old-kit.txt"]);
    let before = person.backup();
    let report = person.json(0, ["keys", "signer", "rotate", "--yes"]);
    assert_eq!(report["marks"], 2, "{report:#}");
    let after = person.backup();
    let list = person.json(0, ["list"]);
    let rows = list["snapshots"].as_array().unwrap();
    assert_eq!(rows.iter().map(|r| r["id"].as_str().unwrap()).collect::<Vec<_>>(), [&*before, &*after]);
    assert!(rows.iter().all(|row| row["trusted"] == true && row["host"] == rows[0]["host"]), "{list:#}");
    let keys = person.json(0, ["keys", "list"]);
    let own = |own: bool| keys["signers"].as_array().unwrap().iter().find(|k| k["own"] == own).unwrap();
    assert!(own(true)["retired_after"].is_null() && own(false)["retired_after"].is_number(), "{keys:#}");
    assert_eq!(own(true)["roles"], own(false)["roles"]);
    // Who trusts only the old key learns it from the mark.
    let listed = person.json(0, ["--kit", "../old-kit.txt", "list"]);
    assert!(listed["snapshots"].as_array().unwrap().iter().all(|row| row["trusted"] == true), "{listed:#}");
    // That kit introduces nobody any more, and says so.
    let proof = person.json(3, ["kit", "verify", "../old-kit.txt"]);
    assert!(proof["findings"].to_string().contains("introduces nobody any more"), "{proof:#}");
    person.ok(["kit", "-o", "../new-kit.txt"]);
    person.ok(["kit", "verify", "../new-kit.txt"]);
}

#[test]
fn what_a_retired_key_signs_afterwards_is_untrusted_and_what_it_signed_before_is_not() {
    let person = Person::set_up();
    let first = person.backup();
    // A thief has the old machine: its keys, its state, its configuration.
    let stolen = person.top.join("stolen");
    let copy = |from: &Path, to: &Path| {
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    copy(&person.home, &stolen);
    let config = fs::read_to_string(person.config_path()).unwrap();
    let old = person.json(0, ["keys", "list"])["signers"][0]["id"].as_str().unwrap().to_owned();
    person.fails(2, ["keys", "signer", "retire", &old, "--yes"]).says(&["this host signs with that key"]);
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    person.fails(2, ["keys", "signer", "retire", &old, "--yes"]).says(&["retired already"]);
    person.fails(16, ["keys", "signer", "retire", "nobody", "--yes"]).says(&["no trusted key"]);
    let theirs = person.app.join("thief.toml");
    let moved = config.replace(person.home.to_str().unwrap(), stolen.to_str().unwrap());
    fs::write(&theirs, moved).unwrap();
    let forged = person.run(["-c", theirs.to_str().unwrap(), "backup", "--json"]);
    let forged: Value = serde_json::from_str(&forged.out).unwrap();
    let list = person.json(0, ["list"]);
    let trusted = |id: &str| {
        let row = list["snapshots"].as_array().unwrap().iter().find(|row| row["id"] == id).cloned();
        row.map(|row| row["trusted"] == true)
    };
    assert_eq!(trusted(&first), Some(true), "{list:#}");
    if let Some(id) = forged["snapshot"].as_str() {
        assert_eq!(trusted(id), Some(false), "{list:#}");
    }
    assert_eq!(list["history"], Value::Array(Vec::new()), "{list:#}");
}

#[test]
fn keys_of_others_are_trusted_for_what_is_said_and_introduced_for_one_host() {
    let person = Person::set_up();
    let id = person.backup();
    let (other, third) =
        (backstay::keys::Signer::generate().unwrap(), backstay::keys::Signer::generate().unwrap());
    let text = fs::read_to_string(person.config_path()).unwrap();
    let trust =
        ["keys", "signer", "trust", other.public_text(), "--name", "the office", "--role", "verify", "--yes"];
    person.json(0, trust);
    let trusted = person.config()["signing"]["trusted"].as_array().unwrap().clone();
    assert_eq!(trusted[1]["name"].as_str(), Some("the office"));
    assert_eq!(trusted[1]["roles"].as_array().unwrap().len(), 1);
    person.fails(2, trust).says(&["trusted already", "the office"]);
    person.fails(2, ["keys", "signer", "trust", "ssh-rsa AAAA", "--name", "x", "--role", "host", "--yes"]);
    person
        .run(["keys", "signer", "trust", third.public_text(), "--name", "x", "--role", "king", "--yes"])
        .code(2);
    let report = person.json(0, ["keys", "signer", "add", third.public_text(), "--yes"]);
    assert_eq!(report["marks"], 1);
    let keys = person.json(0, ["keys", "list"]);
    let row = keys["signers"].as_array().unwrap().iter().find(|k| k["id"] == third.id().to_string()).unwrap();
    assert_eq!((&row["introduced"], &row["of_this_host"]), (&true.into(), &true.into()), "{keys:#}");
    assert!(
        fs::read_to_string(person.config_path())
            .unwrap()
            .starts_with(text.split("[signing]").next().unwrap())
    );
    let list = person.json(0, ["list"]);
    assert_eq!((&list["history"], &list["snapshots"][0]["id"]), (&Value::Array(vec![]), &id.into()));
}

#[test]
fn somebody_is_reminded_once_a_week_until_a_kit_is_proved() {
    let person = Person::set_up();
    let kit_of = |report: &Value| report["kit"].clone();
    let said = person.ok(["backup"]);
    assert!(said.err.contains("reminder: ") && said.err.contains("kit verify"), "{said}");
    let again = person.ok(["backup"]);
    assert!(!again.err.contains("reminder"), "{again}");
    let memory = person.home.join(".local/state/backstay/tsushin/kit.json");
    let text = fs::read_to_string(&memory).unwrap();
    let mut long_ago: Value = serde_json::from_str(&text).unwrap();
    long_ago["reminded"] = "2026-01-01T00:00:00Z".into();
    fs::write(&memory, long_ago.to_string()).unwrap();
    let report = person.json(0, ["backup"]);
    assert!(kit_of(&report)["proved"].is_null() && kit_of(&report)["reminder"].is_string(), "{report:#}");
    person.ok(["kit", "-o", "../kit.txt"]);
    let proof = person.json(0, ["kit", "verify", "../kit.txt"]);
    assert_eq!((&proof["good"], &proof["remembered"]), (&true.into(), &true.into()), "{proof:#}");
    assert!(proof["stores"][0]["piece_of"].is_string(), "{proof:#}");
    let report = person.json(0, ["backup"]);
    assert!(kit_of(&report)["proved"].is_string() && kit_of(&report)["reminder"].is_null(), "{report:#}");
    // Keys change: the print is stale.
    let (_, recipient) = identity(&person, "second.txt");
    person.json(0, ["keys", "add", &recipient, "--yes"]);
    let report = person.json(0, ["backup"]);
    assert_eq!(kit_of(&report)["stale"], true, "{report:#}");
    assert!(kit_of(&report)["reminder"].as_str().unwrap().contains("changed since"), "{report:#}");
    let stale = person.json(3, ["kit", "verify", "../kit.txt"]);
    assert!(stale["findings"].to_string().contains("recipients"), "{stale:#}");
    person.ok(["kit", "-o", "../kit-2.txt"]);
    person.ok(["kit", "verify", "../kit-2.txt"]);
    // A state that nobody can read costs a reminder, not a backup.
    fs::write(&memory, "nonsense").unwrap();
    assert!(person.ok(["backup"]).err.contains("reminder: "));
}

#[test]
fn a_kit_that_does_not_open_what_is_there_is_not_proved() {
    let person = Person::set_up();
    person.backup();
    person.ok(["kit", "-o", "../kit.txt"]);
    let text = fs::read_to_string(person.top.join("kit.txt")).unwrap();
    let begin = "AGE-SECRET-KEY-1";
    let first = text.split(begin).nth(1).unwrap().chars().next().unwrap();
    let other = if first == 'Q' { 'P' } else { 'Q' };
    let typo = text.replace(&format!("{begin}{first}"), &format!("{begin}{other}"));
    fs::write(person.top.join("typo.txt"), typo).unwrap();
    person.fails(12, ["kit", "verify", "../typo.txt"]).says(&["mistyped"]);
    // Archives gone: the index opens, no data does.
    let archives = person.store().join("archives");
    fs::rename(&archives, person.top.join("archives")).unwrap();
    fs::create_dir(&archives).unwrap();
    let proof = person.json(13, ["kit", "verify", "../kit.txt"]);
    assert_eq!((&proof["good"], &proof["stores"][0]["opens"]), (&false.into(), &false.into()), "{proof:#}");
    assert_eq!(proof["remembered"], false);
    fs::remove_dir(&archives).unwrap();
    fs::rename(person.top.join("archives"), &archives).unwrap();
    // Other instructions than those whose hash is printed.
    fs::write(person.store().join("recover.py"), "print('mine')\n").unwrap();
    let proof = person.json(3, ["kit", "verify", "../kit.txt"]);
    assert!(proof["findings"].to_string().contains("recover.py"), "{proof:#}");
}

#[test]
fn with_a_kit_alone_a_file_comes_back_in_its_place() {
    let person = Person::set_up();
    let id = person.backup();
    person.ok(["kit", "-o", "../kit.txt"]);
    let file = person.app.join("backend/app/main.py");
    fs::write(&file, "spoilt").unwrap();
    person.ok(["--kit", "../kit.txt", "restore", &id, "backend/app/main.py", "--in-place", "--yes"]);
    assert!(fs::read_to_string(&file).unwrap().contains("FastAPI"));
}

#[test]
fn a_store_that_is_away_does_not_hide_one_that_the_kit_does_not_open() {
    let person = Person::set_up();
    let config = fs::read_to_string(person.config_path()).unwrap();
    let config = format!("{config}\n[[store]]\nname = \"second\"\npath = \"../second\"\n");
    fs::write(person.config_path(), config).unwrap();
    person.ok(["init", "--yes"]);
    person.backup();
    person.ok(["kit", "-o", "../kit.txt"]);
    person.ok(["kit", "verify", "../kit.txt"]);
    let (second, away) = (person.top.join("second"), person.top.join("away"));
    fs::rename(&second, &away).unwrap();
    let proof = person.json(4, ["kit", "verify", "../kit.txt"]);
    assert_eq!((&proof["good"], &proof["remembered"]), (&false.into(), &false.into()), "{proof:#}");
    fs::rename(&away, &second).unwrap();
    // What came since is sealed to another key, and is in one of the two stores.
    person.json(0, ["keys", "rotate", "--yes"]);
    fs::rename(&second, &away).unwrap();
    person.json(4, ["backup"]);
    fs::rename(&away, &second).unwrap();
    let proof = person.json(13, ["kit", "verify", "../kit.txt"]);
    let opens: Vec<bool> =
        proof["stores"].as_array().unwrap().iter().map(|s| s["opens"].as_bool().unwrap()).collect();
    assert_eq!(opens, [false, true], "{proof:#}");
}

/// Deployments keep releases side by side, with a link to the newest and what they share beside them.
#[test]
fn a_signing_key_is_exchanged_through_a_link_to_the_project() {
    let person = Person::set_up();
    person.backup();
    let (releases, shared) = (person.top.join("releases"), person.top.join("shared"));
    fs::create_dir(&releases).unwrap();
    fs::create_dir(&shared).unwrap();
    fs::rename(person.store(), shared.join("backups")).unwrap();
    person.reconfigure("path = \"backups\"", "path = \"../../shared/backups\"");
    fs::rename(&person.app, releases.join("7")).unwrap();
    std::os::unix::fs::symlink(releases.join("7"), &person.app).unwrap();
    let config = person.config_path();
    let report = person.json(0, ["-c", config.to_str().unwrap(), "keys", "signer", "rotate", "--yes"]);
    assert_eq!(report["marks"], 2, "introduced and retired: {report:#}");
    person.json(0, ["-c", config.to_str().unwrap(), "backup"]);
}

#[test]
fn a_project_is_completed_after_its_identity_or_its_kit_got_a_passphrase() {
    let person = Person::set_up();
    let passphrase = person.top.join("passphrase");
    private(&passphrase, "correct horse\n");
    let file = passphrase.to_str().unwrap();
    let kit = person.identity().with_file_name("recovery-kit.txt");
    person.ok(["keys", "passphrase", "--new-passphrase-file", file]);
    fs::rename(&kit, person.top.join("moved-away.txt")).unwrap();
    person.ok(["init", "--yes"]).says(&["a passphrase protects the identity", "backstay kit -o FILE"]);
    assert!(!kit.exists());
    let mut command = person.command(["kit", "-o", kit.to_str().unwrap(), "--new-passphrase-file", file]);
    Said::from(command.env("BACKSTAY_PASSPHRASE_FILE", file).output().unwrap()).code(0);
    person.ok(["init", "--yes"]).says(&["a recovery kit that a passphrase protects"]);
}

/// Runs a command on a terminal where somebody types the next of `typed` whenever `prompt` is shown.
pub(crate) fn on_a_terminal(person: &Person, prompt: &str, typed: &[&str], line: &str) -> Said {
    let mut script = Command::new("script");
    script.args(["-qec", line, "/dev/null"]).current_dir(&person.app).env_clear();
    for (name, value) in person.command::<&str>([]).get_envs() {
        script.env(name, value.unwrap());
    }
    let mut child = script.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut answered) = (Vec::new(), 0);
    let mut byte = [0];
    while std::io::Read::read(&mut screen, &mut byte).unwrap() == 1 {
        shown.push(byte[0]);
        if shown.ends_with(prompt.as_bytes()) && answered < typed.len() {
            writeln!(keyboard, "{}", typed[answered]).unwrap();
            answered += 1;
        }
    }
    let code = child.wait().unwrap().code().unwrap_or(-1);
    assert_eq!(answered, typed.len(), "asked so often: {}", String::from_utf8_lossy(&shown));
    Said { code, out: String::from_utf8_lossy(&shown).into_owned(), err: String::new() }
}

#[test]
fn a_locked_kit_opens_with_its_passphrase_alone() {
    let person = Person::set_up();
    let id = person.backup();
    let passphrase = person.top.join("passphrase");
    private(&passphrase, "correct horse\n");
    let file = passphrase.to_str().unwrap();
    person.ok(["kit", "-o", "../locked.txt", "--new-passphrase-file", file]);
    let text = fs::read_to_string(person.top.join("locked.txt")).unwrap();
    let secret = fs::read_to_string(person.identity()).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap();
    assert!(!text.contains("AGE-SECRET-KEY") && !text.contains("correct horse") && text.contains("age -d"));
    person.fails(12, ["--kit", "../locked.txt", "list"]).says(&["passphrase", "BACKSTAY_PASSPHRASE_FILE"]);
    let with = |value: &str| {
        let mut command = person.command(["--kit", "../locked.txt", "cat", &id, "backend/app/main.py"]);
        Said::from(command.env("BACKSTAY_PASSPHRASE_FILE", value).output().unwrap())
    };
    with(file).code(0);
    let wrong = person.top.join("wrong");
    private(&wrong, "battery staple\n");
    let said = with(wrong.to_str().unwrap()).code(12).error();
    assert!(!said.err.contains("staple") && !said.err.contains(secret));
    said.says(&["the passphrase is wrong"]);
    // A file that others read is no place for it.
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o644)).unwrap();
    with(file).code(12).says(&["open to others"]);
    if have(&["script"]) {
        let line = format!("{} --kit ../locked.txt cat {id} backend/app/main.py", exe().display());
        let said =
            on_a_terminal(&person, "Passphrase of the recovery kit: ", &["wrong", "correct horse"], &line);
        assert!(said.out.contains("FastAPI") && !said.out.contains("correct"), "typed unseen: {said}");
        assert_eq!(said.code, 0);
    }
}

#[test]
fn an_identity_with_a_passphrase_is_asked_for_when_it_is_needed_and_not_for_a_backup() {
    let person = Person::set_up();
    person.backup();
    let passphrase = person.top.join("passphrase");
    private(&passphrase, "correct horse\n");
    let file = passphrase.to_str().unwrap();
    let plain = fs::read_to_string(person.identity()).unwrap();
    person.ok(["keys", "passphrase", "--new-passphrase-file", file]);
    let locked = fs::read_to_string(person.identity()).unwrap();
    assert!(locked.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") && !locked.contains("AGE-SECRET"));
    assert_eq!(fs::metadata(person.identity()).unwrap().permissions().mode() & 0o777, 0o600);
    let id = person.backup();
    person.fails(12, ["show", &id]).says(&["passphrase_file"]);
    let mut command = person.command(["show", &id]);
    assert!(command.env("BACKSTAY_PASSPHRASE_FILE", file).output().unwrap().status.success());
    person.reconfigure("identity_file =", &format!("passphrase_file = {file:?}\nidentity_file ="));
    person.ok(["show", &id]);
    person.ok(["kit", "-o", "../kit.txt"]);
    person.ok(["kit", "verify", "../kit.txt"]);
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o644)).unwrap();
    person.fails(12, ["show", &id]).says(&["`passphrase_file`", "open to others"]);
    // What cannot be read there may be had elsewhere.
    let own = person.top.join("own-passphrase");
    private(&own, "correct horse\n");
    let mut command = person.command(["show", &id]);
    assert!(command.env("BACKSTAY_PASSPHRASE_FILE", &own).output().unwrap().status.success());
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    // A descriptor, as a service manager gives one.
    person.reconfigure(&format!("{file:?}"), "\"/dev/fd/0\"");
    let mut command = person.command(["show", &id]);
    assert!(command.stdin(fs::File::open(&passphrase).unwrap()).output().unwrap().status.success());
    person.reconfigure("\"/dev/fd/0\"", &format!("{file:?}"));
    person.ok(["keys", "passphrase", "--remove", "--yes"]);
    let secret = |text: &str| text.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap().to_owned();
    assert_eq!(secret(&fs::read_to_string(person.identity()).unwrap()), secret(&plain));
}

#[test]
fn stock_age_opens_a_protected_identity_and_a_protected_kit() {
    if !have(&["age", "script", "awk", "base64"]) {
        return;
    }
    let person = Person::set_up();
    let passphrase = person.top.join("passphrase");
    private(&passphrase, "correct horse\n");
    let file = passphrase.to_str().unwrap();
    let plain = fs::read_to_string(person.identity()).unwrap();
    let secret = plain.lines().find(|line| line.starts_with("AGE-SECRET")).unwrap();
    person.ok(["kit", "-o", "../kit.txt", "--new-passphrase-file", file]);
    person.ok(["keys", "passphrase", "--new-passphrase-file", file]);
    let line = format!("age -d -o ../opened {}", person.identity().display());
    on_a_terminal(&person, ": ", &["correct horse"], &line).code(0);
    assert!(fs::read_to_string(person.top.join("opened")).unwrap().contains(secret));
    // As the kit itself says.
    let text = fs::read_to_string(person.top.join("kit.txt")).unwrap();
    let from = text.find("awk ").unwrap();
    let recipe = &text[from..from + text[from..].find("kit-open.txt").unwrap() + "kit-open.txt".len()];
    let recipe = recipe.replace('\n', " ").replace("age -d >", "age -d -o");
    fs::write(person.app.join("open.sh"), recipe.replace("kit.txt |", "../kit.txt |")).unwrap();
    on_a_terminal(&person, ": ", &["correct horse"], "sh open.sh").code(0);
    let opened = fs::read_to_string(person.app.join("kit-open.txt")).unwrap();
    assert!(opened.contains(secret) && opened.contains("-----BEGIN BACKSTAY KIT-----"));
}

/// Reads the one code in a picture of `width` modules a side; `dark` says which are dark.
fn read_code(dir: &Path, width: usize, dark: &dyn Fn(usize, usize) -> bool) -> String {
    const SCALE: usize = 4;
    let side = width * SCALE;
    let mut picture = format!("P5\n{side} {side}\n255\n").into_bytes();
    for y in 0..side {
        picture.extend((0..side).map(|x| if dark(x / SCALE, y / SCALE) { 0 } else { 255 }));
    }
    let file = dir.join("code.pgm");
    fs::write(&file, picture).unwrap();
    let output =
        Command::new("zbarimg").args(["--raw", "-q", "-Sdisable", "-Sqrcode.enable"]).arg(&file).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What the codes of a drawing say, one below the other.
fn read_drawing(dir: &Path, drawn: &str) -> String {
    let mut all = String::new();
    for path in drawn.split("<path d=\"").skip(1) {
        let path = path.split('"').next().unwrap();
        let place = |square: &str| -> (usize, usize) {
            let (x, y) = square.split('h').next().unwrap().split_once(' ').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        };
        let squares: std::collections::BTreeSet<_> = path.split('M').skip(1).map(place).collect();
        let left = squares.iter().map(|s| s.0).min().unwrap() - 4;
        let top = squares.iter().map(|s| s.1).min().unwrap() - 4;
        all.push_str(&read_code(dir, 110, &|x, y| squares.contains(&(x + left, y + top))));
    }
    all
}

#[test]
fn drawn_codes_read_back_are_the_kit_also_out_of_a_page() {
    let person = Person::set_up();
    person.backup();
    for name in ["kit.html", "kit.svg"] {
        let path = format!("../{name}");
        person.ok(["kit", "-o", &path]);
        let mode = fs::metadata(person.top.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    person.ok(["kit", "verify", "../kit.html"]);
    person.fails(12, ["kit", "verify", "../kit.svg"]);
    let page = fs::read_to_string(person.top.join("kit.html")).unwrap();
    assert!(!page.contains("<script") && page.matches("http://").count() == 1, "nothing is fetched");
    if !have(&["zbarimg"]) {
        return;
    }
    for name in ["kit.html", "kit.svg"] {
        let drawn = fs::read_to_string(person.top.join(name)).unwrap();
        fs::write(person.top.join("scanned.txt"), read_drawing(&person.top, &drawn)).unwrap();
        let proof = person.json(0, ["kit", "verify", "../scanned.txt"]);
        assert_eq!(proof["good"], true, "{name}: {proof:#}");
    }
}

#[test]
fn codes_on_a_terminal_fit_80_columns_and_read_back_they_are_the_kit() {
    if !have(&["script", "zbarimg"]) {
        return;
    }
    let person = Person::set_up();
    person.backup();
    let said = on_a_terminal(&person, "?", &[], &format!("{} kit --qr", exe().display()));
    assert_eq!(said.code, 0, "{said}");
    let mut all = String::new();
    for code in said.out.split("\ncode ").skip(1) {
        let rows: Vec<Vec<char>> = code
            .lines()
            .filter_map(|line| {
                Some(line.strip_prefix("\x1b[30;107m")?.split("\x1b[0m").next()?.chars().collect())
            })
            .collect();
        let width = rows[0].len();
        assert!(width <= 80, "{width} columns");
        let dark = |x: usize, y: usize| match rows.get(y / 2).and_then(|row| row.get(x)) {
            Some('█') => true,
            Some('▀') => y.is_multiple_of(2),
            Some('▄') => !y.is_multiple_of(2),
            _ => false,
        };
        all.push_str(&read_code(&person.top, width, &dark));
    }
    fs::write(person.top.join("scanned.txt"), all).unwrap();
    person.ok(["kit", "verify", "../scanned.txt"]);
}

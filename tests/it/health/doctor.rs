use super::{lines, sound};
use crate::common::fault_server::{Fault, FaultServer, Manner, Nth, Op, raw};
use crate::common::person::{Bytes, Person, everything_below};
use crate::common::s3::{BUCKET, Oddities, Server};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn findings(person: &Person, code: i32) -> Vec<String> {
    lines(&person.json(code, ["doctor"]), "findings", "severity")
}

/// Fails unless a finding begins with `severity` and has all of `parts`, and every warning and problem has a way out.
#[track_caller]
fn found(person: &Person, code: i32, severity: &str, parts: &[&str]) {
    let report = person.json(code, ["doctor"]);
    let said = lines(&report, "findings", "severity");
    let fits = |line: &&String| line.starts_with(severity) && parts.iter().all(|part| line.contains(part));
    assert!(said.iter().any(|line| fits(&line)), "{parts:?} is not among\n{}", said.join("\n"));
    for finding in report["findings"].as_array().unwrap() {
        let serious = ["warning", "problem"].contains(&finding["severity"].as_str().unwrap());
        assert_eq!(serious, finding["way_out"].is_string(), "{finding}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_sound_project_has_no_problem_and_nothing_in_it_is_changed() {
    let person = sound();
    let before = everything_below(&person.top);
    let said = findings(&person, 0);
    assert!(!said.iter().any(|line| line.starts_with("problem")), "{}", said.join("\n"));
    for part in
        ["the history of the one snapshot is whole", "the identity opens what is stored", "the clocks agree"]
    {
        assert!(said.iter().any(|line| line.starts_with("well") && line.contains(part)), "{part}: {said:#?}");
    }
    let after = everything_below(&person.top);
    let names = |all: &[(PathBuf, u32, Bytes)]| all.iter().map(|e| (e.0.clone(), e.1)).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "a probe was left behind");
    assert!(before == after, "something was changed");
    let text = person.ok(["doctor"]);
    assert!(text.out.contains("way out: ") && text.out.contains("no problem, "), "{text}");
    let quiet = person.ok(["doctor", "-q"]);
    assert!(!quiet.out.contains("\nok "), "{quiet}");
}

#[test]
fn stores_on_the_disk_of_what_they_protect_and_a_kit_beside_the_keys_are_warnings() {
    let person = Person::set_up();
    person.backup();
    found(&person, 0, "warning", &["all of them lie on a file system of what they protect"]);
    found(&person, 0, "warning", &["a recovery kit lies on the very machine"]);
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    person.ok(["init"]);
    found(&person, 0, "warning", &["the kit is older than the configuration", "second"]);
    person.json(0, ["sync"]);
}

#[test]
fn keys_that_others_can_read_are_a_problem() {
    let person = sound();
    mode(&person.identity(), 0o644);
    found(&person, 18, "problem", &["identity.txt", "others can read the identity (mode 0644)"]);
    let report = person.json(18, ["doctor"]);
    let ways: Vec<&str> =
        report["findings"].as_array().unwrap().iter().filter_map(|f| f["way_out"].as_str()).collect();
    assert!(ways.iter().any(|way| way.starts_with("chmod 600 ")), "{ways:?}");
    mode(&person.identity(), 0o600);
    mode(&person.store(), 0o777);
    found(&person, 18, "problem", &["others than its owner may write in", "they can remove every backup"]);
    mode(&person.store(), 0o755);
    found(&person, 0, "warning", &["others can see sizes and times"]);
}

#[test]
fn an_identity_that_opens_nothing_is_a_problem() {
    let person = sound();
    let (_, other) = backstay::keys::identity::generate();
    let own = person.config()["encryption"]["recipients"][0].as_str().unwrap().to_owned();
    person.reconfigure(&own, &other);
    found(&person, 18, "problem", &["it opens nothing that is stored from now on"]);
}

#[test]
fn what_is_missing_is_named_and_the_rest_is_looked_at_all_the_same() {
    let person = sound();
    person.configure("[[component]]\nname = \"uploads\"\npath = \"uploads\"");
    found(&person, 18, "problem", &["uploads", "does not exist, so every snapshot is incomplete"]);
    fs::rename(person.store(), person.top.join("elsewhere")).unwrap();
    found(&person, 18, "problem", &["local", "cannot be opened"]);
    found(&person, 18, "problem", &["nothing stored could be looked at"]);
    found(&person, 18, "well", &["the identity opens what is stored"]);
}

#[test]
fn a_history_that_was_cut_and_files_that_were_exchanged_are_problems() {
    let person = sound();
    person.backup();
    let newest =
        fs::read_dir(person.store().join("snapshots")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    fs::remove_file(newest).unwrap();
    fs::write(person.store().join("recover.py"), "print('trust me')").unwrap();
    let said = findings(&person, 18);
    let problems: Vec<&String> = said.iter().filter(|line| line.starts_with("problem")).collect();
    assert!(problems.iter().any(|p| p.contains("recover.py")), "{problems:#?}");
    assert!(problems.iter().any(|p| p.contains("all stores")), "{problems:#?}");
}

#[test]
fn what_killed_runs_and_strangers_left_is_told() {
    let person = sound();
    let left = person.store().join(".incoming/left-there");
    fs::write(&left, vec![0; 5000]).unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 86_400);
    fs::File::options().write(true).open(&left).unwrap().set_modified(old).unwrap();
    fs::write(person.store().join("holiday.jpg"), "x").unwrap();
    fs::write(person.store().join("archives/notes.txt"), "x").unwrap();
    found(&person, 0, "warning", &["1 unfinished files of 5.0 kB", "the oldest for 3 days"]);
    found(
        &person,
        0,
        "note",
        &["something lies in it that is not of it", "holiday.jpg", "archives/notes.txt"],
    );
    let orphan = format!("archives/ab/{}.tar.zst.age", "ab".repeat(32));
    fs::create_dir_all(person.store().join("archives/ab")).unwrap();
    fs::write(person.store().join(orphan), vec![0; 1200]).unwrap();
    found(&person, 0, "note", &["1 objects of 1.2 kB are named by no snapshot"]);
}

#[test]
fn checks_that_are_off_and_dumps_that_nobody_checks_are_warnings() {
    let person = sound();
    person.configure("[[component]]\nname = \"dump\"\ncommand = [\"echo\", \"x\"]");
    found(&person, 0, "warning", &["dump", "nothing checks what its command writes"]);
    let of_databases = || {
        let report = person.json(0, ["doctor"]);
        let all = report["findings"].as_array().unwrap().iter().filter(|f| f["area"] == "databases");
        all.map(|f| format!("{} {} {}", f["severity"], f["subject"], f["what"])).collect::<Vec<_>>()
    };
    person.reconfigure("command = [\"echo\", \"x\"]", "command = [\"echo\", \"x\"]\nmin_size = \"2B\"");
    let said = of_databases();
    assert!(said.len() == 1 && said[0].starts_with("\"note\" \"dump\""), "{said:#?}");
    assert!(said[0].contains("it has no `restore_command`"), "{said:#?}");
    person.reconfigure("sqlite = ", "check = \"never\"\nsqlite = ");
    found(&person, 0, "warning", &["its check is switched off: a corrupt database is backed up"]);
}

#[test]
fn an_invalid_configuration_is_told_like_everywhere() {
    let person = sound();
    person.configure("[[component]]\nname = \"x\"\nnonsense = 1");
    person.fails(14, ["doctor"]).says(&["nonsense"]);
}

/// A file with the keys to the server.
fn credentials(person: &Person) -> PathBuf {
    let credentials = person.home.join("credentials");
    let text = "[default]\naws_access_key_id = test-key-id\naws_secret_access_key = test-secret-key\n";
    fs::write(&credentials, text).unwrap();
    mode(&credentials, 0o600);
    credentials
}

/// A project whose second store is a bucket of the server at `endpoint`.
fn with_bucket(endpoint: &str) -> Person {
    let person = sound();
    let credentials = credentials(&person);
    person.configure(&format!(
        "[[store]]\nname = \"offsite\"\nurl = \"s3://{BUCKET}/app\"\nendpoint = \"{endpoint}\"\npath_style = true\ncredentials_file = \"{}\"",
        credentials.display()
    ));
    person.ok(["init"]);
    person.backup();
    person
}

#[test]
fn a_bucket_is_tried_and_not_believed_and_nothing_of_the_trial_stays() {
    let server = Server::start(Oddities::default());
    let person = with_bucket(&server.endpoint);
    let probes = || server.bucket().join("app/.backstay-probe");
    let left = |dir: &Path| fs::read_dir(dir).map_or(0, Iterator::count);
    found(
        &person,
        0,
        "warning",
        &["offsite", "these keys can overwrite or delete", "no older version stays"],
    );
    assert_eq!(left(&probes()), 0, "a probe object was left");
    let report = person.json(0, ["doctor"]);
    let of_store: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().filter(|f| f["subject"] == "offsite").collect();
    assert!(!of_store.is_empty());
    fs::create_dir_all(server.bucket().join("app/other")).unwrap();
    fs::write(server.bucket().join("app/other/thing.bin"), vec![1; 300]).unwrap();
    found(
        &person,
        0,
        "note",
        &["1 objects of 300 bytes below its prefix are not of it", "app/other/thing.bin"],
    );
}

#[test]
fn a_bucket_that_does_not_answer_is_a_problem_with_a_way_out() {
    let server = Server::start(Oddities::default());
    let person = with_bucket(&server.endpoint);
    drop(server);
    found(&person, 18, "problem", &["offsite"]);
}

#[test]
fn a_clock_that_a_buckets_server_does_not_share_is_told_with_what_comes_of_it() {
    let server = FaultServer::start();
    let person = with_bucket(&server.endpoint());
    found(&person, 0, "well", &["store offsite", "the clocks agree"]);
    server.manner(|manner| manner.skew = 150);
    found(&person, 0, "warning", &["this machine's clock is", "behind that of store offsite"]);
    server.manner(|manner| manner.skew = -4000);
    let off =
        ["66 minutes ahead of that of store offsite", "servers refuse requests that are 15 minutes off"];
    found(&person, 18, "problem", &off);
}

#[test]
fn whether_older_versions_stay_is_tried_and_said_as_it_was_found() {
    let server = FaultServer::start();
    let person = with_bucket(&server.endpoint());
    let now = |change: fn(&mut Manner)| {
        server.manner(|manner| {
            *manner = Manner::default();
            change(manner);
        });
    };
    now(|manner| manner.versioned = true);
    found(&person, 0, "warning", &["offsite", "older versions stay, but these keys may remove them"]);
    assert!(!server.keys().iter().any(|key| key.contains(".backstay-probe")), "{:?}", server.keys());
    now(|manner| (manner.versioned, manner.holds_versions) = (true, true));
    let kept = "stays as an older version, and these keys cannot remove that";
    found(&person, 0, "well", &["offsite", kept]);
    // The lock is nowhere, whatever is said of it.
    now(|manner| (manner.versioned, manner.says_locked) = (true, true));
    found(&person, 0, "warning", &["offsite", "object lock is switched on", "nothing is locked"]);
    now(|manner| (manner.versioned, manner.says_locked, manner.holds_versions) = (true, true, true));
    let said = findings(&person, 0);
    assert!(said.iter().any(|line| line.starts_with("well") && line.contains(kept)), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("nothing is locked")), "{said:#?}");
    now(|manner| manner.says_versioned = true);
    found(&person, 18, "problem", &["offsite", "says that it keeps versions, and it kept none"]);
}

#[test]
fn uploads_that_nobody_goes_on_with_are_named_and_ended_when_that_is_asked_for() {
    let server = FaultServer::start();
    let person = with_bucket(&server.endpoint());
    let orphan = format!("archives/ab/{}.tar.zst.age", "ab".repeat(32));
    // As old as this server says of each, which is more than a week. The other one is not below the project's prefix.
    for key in [format!("app/{orphan}"), format!("apple/{orphan}")] {
        raw(&server, &format!("POST /{BUCKET}/{key}?uploads HTTP/1.1"), b"").unwrap();
    }
    found(&person, 0, "warning", &["offsite", "1 unfinished upload", &orphan]);
    assert_eq!(server.uploads(), 2, "who only looks ends nothing");
    server.fault_on(Op::Abort, &orphan, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    let said = person.ok(["doctor", "--abort-uploads"]);
    assert!(said.out.contains("could not all be ended") && said.out.contains("AccessDenied"), "{said}");
    server.calm();
    let said = person.ok(["doctor", "--abort-uploads"]);
    assert!(said.out.contains(&format!("1 unfinished upload of 0 bytes ended: {orphan}")), "{said}");
    assert_eq!(server.uploads(), 1, "another's is left alone");
}

#[test]
fn an_unchanged_backup_puts_four_objects_into_a_bucket() {
    let server = Server::start(Oddities::default());
    let person = Person::set_up();
    let credentials = credentials(&person);
    let place = format!(
        "url = \"s3://{BUCKET}/app\"\nendpoint = \"{}\"\npath_style = true\ncredentials_file = \"{}\"",
        server.endpoint,
        credentials.display()
    );
    person.reconfigure("path = \"backups\"", &place);
    fs::remove_dir_all(person.config()["state"]["dir"].as_str().unwrap()).unwrap();
    person.ok(["init"]);
    let backup = || {
        let output =
            person.command(["backup", "--json"]).env("BACKSTAY_TEST_SETTLE_MS", "0").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    backup();
    backup();
    let before = server.events.puts.load(std::sync::atomic::Ordering::SeqCst);
    backup();
    let after = server.events.puts.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(after - before, 4, "docs/cost.md says so");
}

//! Backups to a bucket of a server that misbehaves: what is reported as done is done, and what is not is said.

use super::shop::{PREFIX, Shop, give_keys, private};
use crate::common::fault_server::{Fault, FaultServer, Manner, Nth, Op};
use crate::common::person::{Person, everything_below};
use std::fs;

/// Keys in this folder of the store, sorted.
fn keys(server: &FaultServer, folder: &str) -> Vec<String> {
    let below = format!("{PREFIX}/{folder}/");
    server.keys().into_iter().filter(|key| key.starts_with(&below)).collect()
}

#[test]
fn a_body_that_was_corrupted_on_its_way_is_refused_and_sent_again() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    for folder in ["archives/", "manifests/", "snapshots/", "marks/"] {
        server.fault_on(Op::Put, folder, Nth::First(1), Fault::SpoilUp);
    }
    let id = shop.person.backup();
    server.calm();
    assert_eq!(shop.list(&[]), [id]);
    shop.person.ok(["restore", "latest", "--to", "../back"]);
}

#[test]
fn a_body_that_is_always_corrupted_makes_no_snapshot() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    server.fault_on(Op::Put, "archives/", Nth::All, Fault::SpoilUp);
    server.forget_calls();
    // As a person would end it: the repetitions last minutes.
    let mut child = shop.command(["backup"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while server.count(Op::Put) < 4 {
        assert!(child.try_wait().unwrap().is_none(), "it gave up");
        std::thread::yield_now();
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!((keys(&server, "archives"), keys(&server, "snapshots")), (Vec::new(), Vec::new()));
}

#[test]
fn where_no_server_compares_reading_back_finds_the_corrupted_body_and_there_is_no_snapshot() {
    let careless = Manner { ignores_checksums: true, ignores_signed: true, ..Manner::default() };
    for folder in ["archives/", "manifests/"] {
        let server = FaultServer::with(careless.clone());
        let shop = Shop::open(&server.endpoint(), "bucket", &[]);
        let first = shop.person.backup();
        shop.change();
        server.fault_on(Op::Put, folder, Nth::First(1), Fault::SpoilUp);
        let said = shop.person.fails(13, ["backup"]);
        assert!(said.err.contains(folder), "it names the object: {said}");
        server.calm();
        assert_eq!(shop.list(&[]), [first.as_str()], "nothing new is listed");
        assert_eq!(keys(&server, "snapshots").len(), 1);
        // The next one packs it again, under another name.
        let second = shop.person.backup();
        assert_eq!(shop.list(&[]), [first, second]);
    }
}

#[test]
fn a_record_that_was_put_though_nobody_said_so_is_one_snapshot() {
    for overwrites in [false, true] {
        for fault in
            [Fault::DoneThenGone, Fault::DoneThen(503, "SlowDown"), Fault::DoneThen(500, "InternalError")]
        {
            let server = FaultServer::with(Manner { overwrites, ..Manner::default() });
            let shop = Shop::open(&server.endpoint(), "bucket", &[]);
            for folder in ["archives/", "manifests/", "snapshots/", "marks/"] {
                server.fault_on(Op::Put, folder, Nth::First(1), fault.clone());
            }
            let id = shop.person.backup();
            server.calm();
            assert_eq!(shop.list(&[]), [id], "{fault:?}");
            assert_eq!(keys(&server, "snapshots").len(), 1, "{fault:?}");
            let next = shop.person.backup();
            assert_eq!(shop.list(&[]).last(), Some(&next), "the history goes on without a gap");
        }
    }
}

#[test]
fn a_bucket_that_was_away_for_ten_backups_catches_up_in_order_and_is_proved() {
    let server = FaultServer::start();
    let person = Person::set_up();
    give_keys(&person.home);
    person.configure(&Shop::lines(&server.endpoint(), "bucket"));
    person.ok(["init"]);
    person.backup();
    let (mut ids, mut behind) = (Vec::new(), 0);
    for turn in 0..10 {
        // Once it is busy for longer than anyone waits; then it lets nobody in.
        let refusal = if turn == 0 { Fault::CutUp(0) } else { Fault::Refuse(403, "AccessDenied", None) };
        server.fault(Op::Get, Nth::All, refusal);
        fs::write(person.app.join("backend/app/main.py"), format!("turn {turn}\n")).unwrap();
        let report = person.json(4, ["backup"]);
        assert_eq!(report["stores"][1]["here"], false, "{report:#}");
        let lag = report["stores"][1]["entries_behind"].as_u64().unwrap();
        assert!(lag >= behind + 2, "a record and a verdict more each time: {report:#}");
        behind = lag;
        ids.push(report["snapshot"].as_str().unwrap().to_owned());
        server.calm();
    }
    server.forget_calls();
    let last = person.json(0, ["backup"]);
    ids.push(last["snapshot"].as_str().unwrap().to_owned());
    let records = server.calls().into_iter().filter(|c| c.op == Op::Put && c.key.contains("snapshots/"));
    let records: Vec<String> = { records }.map(|c| c.key).collect();
    let expected: Vec<String> = ids.iter().map(|id| format!("{PREFIX}/snapshots/{id}.json")).collect();
    assert_eq!(records, expected, "in the order in which they were made");
    let listed = person.json(0, ["list", "--store", "offsite"]);
    let rows = listed["snapshots"].as_array().unwrap();
    assert_eq!(rows.len(), 12, "{listed:#}");
    assert!(rows.iter().all(|row| row["good"] == true), "each was read back there: {listed:#}");
    let cat = person.ok(["cat", &ids[4], "backend/app/main.py", "--store", "offsite"]).out;
    assert_eq!(cat, "turn 4\n");
}

#[test]
fn a_full_bucket_is_said_and_nothing_is_deleted_to_make_room() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    let first = shop.person.backup();
    shop.change();
    server.fault_on(Op::Put, "archives/", Nth::All, Fault::Refuse(507, "InsufficientStorage", None));
    server.forget_calls();
    shop.person.fails(10, ["backup"]).says(&["507", "InsufficientStorage"]);
    server.calm();
    assert_eq!(server.count(Op::Delete), 0);
    assert_eq!(shop.list(&[]), [first]);
}

#[test]
fn keys_of_a_bucket_that_is_used_appear_nowhere() {
    let server = FaultServer::start();
    let person = Person::set_up();
    let keys = "aws_access_key_id = canary-id\naws_secret_access_key = canary-secret\naws_session_token = canary-token\n";
    let file = person.home.join("s3.ini");
    private(&file, &format!("[default]\n{keys}"));
    private(&person.home.join(".aws/credentials"), &format!("[default]\n{keys}"));
    let store = Shop::lines(&server.endpoint(), "bucket");
    // A command of the application's sees what its processes are called with, and its own environment.
    person.configure(&format!(
        "{store}\ncredentials_file = {:?}\n[[component]]\nname = \"seen\"\ncommand = \"env; cat /proc/[0-9]*/cmdline 2>/dev/null || true\"",
        file.display().to_string()
    ));
    let run = |args: &[&str]| {
        let mut command = person.command(args);
        command.env("AWS_ACCESS_KEY_ID", "canary-env-id").env("AWS_SECRET_ACCESS_KEY", "canary-env");
        command.env("AWS_SESSION_TOKEN", "canary-env").env("AZURE_STORAGE_ACCOUNT_KEY", "canary-env");
        let output = command.env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace").output().unwrap();
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        assert!(!said.contains("canary"), "{args:?}: {said}");
        said
    };
    run(&["init", "--json"]);
    run(&["backup", "-v", "--progress", "json"]);
    run(&["backup", "--json", "--progress", "plain"]);
    run(&["list", "-v", "--store", "offsite"]);
    run(&["show", "latest", "--json"]);
    run(&["sync", "-v", "--read-data"]);
    run(&["kit", "-o", "../kit.txt"]);
    let seen = run(&["cat", "latest", "seen", "--store", "offsite"]);
    assert!(seen.contains("PATH=") && seen.contains("backup"), "{seen}");
    assert!(server.calls().iter().any(|call| call.signer == "canary-id"), "these keys were used");
    let kit = fs::read_to_string(person.top.join("kit.txt")).unwrap();
    assert!(
        !kit.contains("canary-id") && !kit.contains("canary-secret"),
        "the kit names the file, not the keys"
    );
    for (path, _, content) in everything_below(&person.home.join(".local")) {
        assert!(!content.0.windows(7).any(|w| w == b"canary-"), "{}", path.display());
    }
    for key in server.keys() {
        let bytes = server.object(&key).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"canary-"), "{key}");
    }
}

#[test]
fn a_range_of_wrong_bytes_is_read_once_more_and_then_is_damage() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    shop.person.backup();
    for fault in [Fault::WrongBytes, Fault::OtherObject] {
        // Of each archive a header is read, and then what is wanted.
        server.fault_on(Op::Range, "archives/", Nth::Only(2), fault.clone());
        let out = shop.person.ok(["cat", "latest", "backend/app/main.py"]).out;
        assert_eq!(out, "from fastapi import FastAPI\n", "{fault:?}");
        server.calm();
        server.fault_on(Op::Range, "archives/", Nth::All, fault.clone());
        let said = shop.person.run(["cat", "latest", "backend/app/main.py"]).code(13);
        assert!(said.out.is_empty() && said.err.contains("archives/"), "{said}");
        server.calm();
        server.fault_on(Op::Get, "manifests/", Nth::First(1), fault);
        shop.person.ok(["cat", "latest", "backend/app/main.py"]);
        server.calm();
    }
}

/// Archives cannot be had for longer than anyone waits.
fn go_away(server: &FaultServer) {
    server.fault_on(Op::Range, "archives/", Nth::All, Fault::Refuse(503, "SlowDown", Some(3600)));
}

#[test]
fn a_store_that_does_not_answer_for_a_while_is_no_damage() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    let person = &shop.person;
    let id = person.backup();
    let live = everything_below(&person.app.join("backend"));
    go_away(&server);
    person.fails(10, ["restore", &id, "--to", "../back"]).says(&["does not answer"]);
    assert!(!person.top.join("back").exists(), "nothing is there that has holes");
    let in_place = ["restore", &id, "backend/app/main.py", "--in-place", "--yes"];
    person.fails(10, in_place).says(&["does not answer"]);
    assert!(everything_below(&person.app.join("backend")) == live, "nothing was exchanged");
    server.calm();
    person.ok(["restore", &id, "--to", "../back"]);
}

/// As of one that a rule moved to where it has to be asked for first.
#[test]
fn objects_that_are_refused_where_others_are_given_are_told_and_the_rest_comes_back() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    let id = shop.person.backup();
    server.fault_on(Op::Range, "archives/", Nth::All, Fault::Refuse(403, "InvalidObjectState", None));
    let said = shop.person.run(["restore", &id, "--to", "../back"]).code(13);
    assert!(!said.err.contains("does not answer"), "{said}");
    assert!(shop.person.top.join("back").is_dir(), "what needs none of them is there: {said}");
}

#[test]
fn a_recovery_from_a_store_that_stops_answering_is_repeated_and_then_whole() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    let person = &shop.person;
    person.backup();
    person.ok(["kit", "-o", "../kit.txt"]);
    let other = person.top.join("other-home");
    give_keys(&other);
    let recover = || {
        let mut command = shop.command(["recover", "../kit.txt", "--to", "../new", "--yes"]);
        crate::common::person::Said::from(command.env("HOME", &other).output().unwrap())
    };
    go_away(&server);
    recover().code(10).says(&["does not answer"]);
    server.calm();
    recover().code(0);
    let main = fs::read_to_string(person.top.join("new/backend/app/main.py")).unwrap();
    assert_eq!(main, "from fastapi import FastAPI\n");
}

#[test]
fn a_kit_is_not_blamed_for_a_store_that_does_not_answer() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    shop.person.backup();
    shop.person.ok(["kit", "-o", "../kit.txt"]);
    go_away(&server);
    let said = shop.person.run(["kit", "verify", "../kit.txt"]).to_string();
    assert!(said.contains("does not answer") && !said.contains("cannot be decrypted"), "{said}");
}

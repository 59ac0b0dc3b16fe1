//! Backups to a bucket that are killed while they send.

use super::shop::Shop;
use crate::common::fault_server::{Call, Fault, FaultServer, Nth, Op};
use crate::common::project::noise;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Kills a backup with SIGKILL once `when` says so.
fn killed(shop: &Shop, when: impl Fn() -> bool) {
    killed_in(shop, "backup", when);
}

fn killed_in(shop: &Shop, command: &str, when: impl Fn() -> bool) {
    let mut child = shop.command([command]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !when() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came so far");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

fn state(shop: &Shop, folder: &str) -> PathBuf {
    shop.person.home.join(".local/state/backstay/tsushin").join(folder)
}

/// Parts that are remembered as sent.
fn remembered(shop: &Shop) -> usize {
    let files = fs::read_dir(state(shop, "uploads/offsite")).into_iter().flatten().flatten();
    let parts = |path: PathBuf| -> Option<usize> {
        let upload: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        Some(upload["parts"].as_object()?.len())
    };
    let paths = files.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "json")).filter_map(parts).sum()
}

fn sent(calls: &[Call], op: Op, folder: &str) -> (usize, usize) {
    let those = calls.iter().filter(|c| c.op == op && c.key.contains(folder));
    those.fold((0, 0), |(count, bytes), call| (count + 1, bytes + call.bytes))
}

fn left(shop: &Shop, folder: &str) -> usize {
    fs::read_dir(state(shop, folder)).map_or(0, Iterator::count)
}

/// A file of `size` bytes that do not compress is the one thing to protect.
fn with_large_file(server: &FaultServer, size: usize, archive_size: &str) -> Shop {
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    put_large_file(&shop, size, archive_size);
    shop
}

fn put_large_file(shop: &Shop, size: usize, archive_size: &str) {
    let config = fs::read_to_string(shop.person.config_path()).unwrap();
    let begin = config.find("[[component]]").unwrap();
    let end = config.find("\n# The first store is the primary").unwrap();
    let component = "[[component]]\nname = \"large\"\npath = \"large\"\n";
    let config = format!(
        "{}{component}{}\n[packing]\narchive_size = \"{archive_size}\"\n",
        &config[..begin],
        &config[end..]
    );
    fs::write(shop.person.config_path(), config).unwrap();
    let folder = shop.person.app.join("large");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), noise(1, size)).unwrap();
}

fn restored(shop: &Shop, name: &str) -> Vec<u8> {
    let to = shop.person.top.join(name);
    shop.person.ok(["restore", "latest", "--to", to.to_str().unwrap()]);
    fs::read(Path::new(&to).join("large/file")).unwrap()
}

#[test]
fn a_backup_that_is_killed_in_an_upload_sends_no_part_again() {
    let server = FaultServer::start();
    let size = 100 << 20;
    let shop = with_large_file(&server, size, "1GiB");
    server.fault(Op::Part, Nth::Only(4), Fault::StallUp);
    // Parts 5 to 7 may be under way with the fourth; what is remembered is certain.
    killed(&shop, || remembered(&shop) >= 4);
    let before = remembered(&shop);
    let whole = server.calls().iter().filter(|c| c.op == Op::Part).count();
    assert_eq!((left(&shop, "unfinished"), server.uploads()), (2, 1));
    server.calm();
    server.forget_calls();
    shop.person.backup();
    let (parts, bytes) = sent(&server.calls(), Op::Part, "archives/");
    assert_eq!(parts, 7 - before, "of seven parts {before} of {whole} were there");
    assert!(bytes < (7 - before) * (16 << 20) + 1, "{bytes}");
    assert_eq!(sent(&server.calls(), Op::Begin, "").0, 0, "the same upload was gone on with");
    assert_eq!((left(&shop, "unfinished"), left(&shop, "uploads/offsite"), server.uploads()), (0, 0, 0));
    assert!(restored(&shop, "back") == noise(1, size));
    assert_eq!(shop.list(&[]).len(), 1);
}

#[test]
fn archives_that_a_killed_backup_had_put_are_not_sent_again() {
    let server = FaultServer::start();
    // Three archives, of which two are put when the third stalls.
    let size = 40 << 20;
    let shop = with_large_file(&server, size, "15MiB");
    server.fault_on(Op::Put, "archives/", Nth::Only(3), Fault::StallUp);
    killed(&shop, || sent(&server.calls(), Op::Put, "archives/").0 >= 3);
    let names = |server: &FaultServer| -> Vec<String> {
        server.keys().into_iter().filter(|key| key.contains("archives/")).collect()
    };
    let before = names(&server);
    assert_eq!(before.len(), 2);
    server.calm();
    server.forget_calls();
    shop.person.backup();
    let (puts, _) = sent(&server.calls(), Op::Put, "archives/");
    let after = names(&server);
    assert_eq!((puts, after.len()), (1, 3), "{after:?}");
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    assert!(restored(&shop, "back") == noise(1, size));
}

#[test]
fn what_changed_since_a_killed_backup_is_packed_and_sent_anew() {
    let server = FaultServer::start();
    let size = 100 << 20;
    let shop = with_large_file(&server, size, "1GiB");
    server.fault(Op::Part, Nth::Only(2), Fault::StallUp);
    killed(&shop, || remembered(&shop) >= 1);
    server.calm();
    let mut changed = noise(1, size);
    changed[7] ^= 1;
    fs::write(shop.person.app.join("large/file"), &changed).unwrap();
    server.forget_calls();
    shop.person.backup();
    assert_eq!(sent(&server.calls(), Op::Part, "archives/").0, 7, "all parts of another archive");
    assert!(restored(&shop, "back") == changed);
    assert_eq!(left(&shop, "unfinished"), 0);
}

#[test]
fn a_sealed_archive_that_was_damaged_while_it_waited_is_not_sent() {
    let server = FaultServer::start();
    let size = 100 << 20;
    let shop = with_large_file(&server, size, "1GiB");
    server.fault(Op::Part, Nth::Only(2), Fault::StallUp);
    killed(&shop, || remembered(&shop) >= 1);
    server.calm();
    let waiting = fs::read_dir(state(&shop, "unfinished")).unwrap().flatten().map(|entry| entry.path());
    let archive = { waiting }.find(|path| path.extension().is_some_and(|e| e == "archive")).unwrap();
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    shop.person.backup();
    assert!(restored(&shop, "back") == noise(1, size));
    // The upload of what was damaged is remembered, to be ended in some days.
    assert_eq!((left(&shop, "unfinished"), left(&shop, "uploads/offsite"), server.uploads()), (0, 1, 1));
}

/// Where frames lie goes into the listing: a digit that is another one in what was remembered must not get there.
#[test]
fn what_is_remembered_of_an_archive_and_is_not_what_was_packed_is_not_used() {
    let server = FaultServer::start();
    let size = 40 << 20;
    let shop = with_large_file(&server, size, "15MiB");
    server.fault_on(Op::Put, "archives/", Nth::Only(3), Fault::StallUp);
    killed(&shop, || sent(&server.calls(), Op::Put, "archives/").0 >= 3);
    server.calm();
    let mut spoiled = 0;
    for path in fs::read_dir(state(&shop, "unfinished")).unwrap().flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|e| e == "json") {
            let mut kept: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let offset = &mut kept["info"]["frames"][1][1];
            *offset = (offset.as_u64().unwrap() + 1).into();
            fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
            spoiled += 1;
        }
    }
    assert!(spoiled >= 2, "only {spoiled} archives were remembered");
    server.forget_calls();
    shop.person.backup();
    assert_eq!(sent(&server.calls(), Op::Put, "archives/").0, 3, "all of them are sent anew");
    assert!(restored(&shop, "back") == noise(1, size));
    shop.person.ok(["cat", "latest", "large/file"]);
}

#[test]
fn a_sync_to_a_new_bucket_that_is_killed_sends_nothing_twice() {
    let server = FaultServer::start();
    let person = crate::common::person::Person::set_up();
    super::shop::give_keys(&person.home);
    let shop = Shop { person, endpoint: server.endpoint(), bucket: "bucket".into() };
    let size = 100 << 20;
    put_large_file(&shop, size, "1GiB");
    let id = shop.person.backup();
    shop.person.configure(&Shop::lines(&server.endpoint(), "bucket"));
    shop.person.ok(["init"]);
    server.forget_calls();
    server.fault(Op::Part, Nth::Only(4), Fault::StallUp);
    killed_in(&shop, "sync", || remembered(&shop) >= 4);
    let before = remembered(&shop);
    let puts = |calls: &[Call]| -> Vec<String> {
        let puts = calls.iter().filter(|c| c.op == Op::Put && !c.key.contains(".backstay-probe"));
        puts.map(|c| c.key.clone()).collect()
    };
    let first = puts(&server.calls());
    server.calm();
    server.forget_calls();
    shop.person.ok(["sync"]);
    let calls = server.calls();
    let (parts, _) = sent(&calls, Op::Part, "archives/");
    assert!((1..=7 - before).contains(&parts), "{parts} of seven; {before} were remembered");
    assert_eq!(sent(&calls, Op::Begin, "").0, 0, "the same upload was gone on with");
    let second = puts(&calls);
    assert!(!second.iter().any(|key| first.contains(key)), "{first:?} {second:?}");
    assert_eq!((left(&shop, "uploads/offsite"), server.uploads()), (0, 0));
    // The bucket alone gives it back.
    fs::remove_dir_all(shop.person.store()).unwrap();
    let to = shop.person.top.join("back");
    let said = shop.person.run(["restore", &id, "--store", "offsite", "--to", to.to_str().unwrap()]).code(0);
    assert!(fs::read(to.join("large/file")).unwrap() == noise(1, size), "{said}");
}

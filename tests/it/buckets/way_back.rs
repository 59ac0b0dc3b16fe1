//! Everything that somebody does with a bucket, from the first command to a machine that is gone.

use super::shop::{Shop, assert_same, give_keys, rows};
use crate::common::fault_server::{Call, FaultServer, Op};
use crate::common::person::{Said, make_database};
use crate::common::project::noise;
use crate::common::s3::{BUCKET, Oddities, Server};
use crate::common::servers::{self, weed};
use backstay::store::{Key, Prefix, Store};
use std::fs;
use std::path::{Path, PathBuf};

/// The whole way: two snapshots, looking, restoring to a folder and in place, the kit on another machine, a state that is lost, damage, a second
/// store that mends it.
fn the_whole_way(endpoint: &str, bucket: &str) {
    let shop = Shop::open(endpoint, bucket, &["--create-bucket"]);
    let person = &shop.person;
    let one = shop.put_aside("one");
    let first = person.backup();
    shop.change();
    let two = shop.put_aside("two");
    let second = person.backup();
    assert_eq!(shop.list(&[]), [first.clone(), second.clone()]);

    let listed = person.ok(["ls", &first, "backend", "-r"]).out;
    assert!(listed.contains("main.py") && !listed.contains("new.py"), "{listed}");
    let main_py = |id: &str| person.ok(["cat", id, "backend/app/main.py"]).out;
    assert_eq!(main_py(&first), "from fastapi import FastAPI\n");
    assert_eq!(main_py("latest"), "from fastapi import FastAPI  # two\n");

    for (id, expected, count) in [(&first, &one, 200), (&second, &two, 201)] {
        let to = person.top.join(format!("back-{count}"));
        let report = person.json(0, ["restore", id, "--to", to.to_str().unwrap()]);
        assert_eq!(report["problems"], serde_json::json!([]), "{report:#}");
        assert_same(&to, expected);
        assert_eq!(rows(&to.join("db/agent.db")), count);
    }
    fs::write(person.app.join("backend/app/main.py"), "a mistake\n").unwrap();
    person.ok(["restore", &first, "backend/app/main.py", "--in-place", "--yes"]);
    let live = fs::read_to_string(person.app.join("backend/app/main.py")).unwrap();
    assert_eq!(live, "from fastapi import FastAPI\n");
    kit_elsewhere(&shop, &two);

    // This machine forgets everything but its keys and its configuration.
    fs::remove_dir_all(person.home.join(".local/state")).unwrap();
    let third = person.backup();
    assert_eq!(shop.list(&[]), [first, second.clone(), third]);
    damaged_and_mended(&shop, &second, &two);
}

/// On a machine that has the kit and the bucket's keys, and nothing else.
fn kit_elsewhere(shop: &Shop, newest: &Path) {
    let person = &shop.person;
    let other = person.top.join("other-home");
    give_keys(&other);
    let kit = person.top.join("kit.txt");
    person.ok(["kit", "-o", kit.to_str().unwrap()]);
    let to = person.top.join("elsewhere");
    let mut command = shop.command(["--kit", kit.to_str().unwrap(), "restore", "latest", "--to"]);
    let said: Said = command.arg(&to).env("HOME", &other).current_dir(&other).output().unwrap().into();
    said.code(0);
    assert_same(&to, newest);
}

/// Every data object is spoilt: it is said, nothing wrong is written; and once a second store has it all, `sync` mends the bucket.
fn damaged_and_mended(shop: &Shop, id: &str, expected: &Path) {
    let person = &shop.person;
    let second = person.top.join("second");
    person.configure(&format!("[[store]]\nname = \"second\"\npath = {:?}", second.display().to_string()));
    person.ok(["init"]);
    person.ok(["sync"]);
    let store = shop.store();
    let mut spoilt = 0;
    for listed in store.list(Prefix::Archives).unwrap() {
        let mut bytes = store.get(&listed.key, listed.size).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        store.delete(&listed.key).unwrap();
        store.put_bytes(&listed.key, &bytes).unwrap();
        spoilt += 1;
    }
    assert!(spoilt > 2, "{spoilt}");
    let to = |name: &str| person.top.join(name);
    let restore = |to: &Path, more: &[&str]| -> Said {
        let args: Vec<&str> =
            ["restore", id, "--to", to.to_str().unwrap()].iter().chain(more).copied().collect();
        person.run(args)
    };
    let said = restore(&to("spoilt"), &["--store", "offsite"]).code(13);
    assert!(said.err.contains("DAMAGED") || said.err.contains("damaged"), "{said}");
    restore(&to("from-second"), &[]).code(4).says(&["read from store second", "backstay sync"]);
    assert_same(&to("from-second"), expected);
    let report = person.json(0, ["sync", "--read-data"]);
    assert_eq!(report["stores"][0]["mended"].as_array().unwrap().len(), spoilt, "{report:#}");
    restore(&to("mended"), &["--store", "offsite"]).code(0);
    assert_same(&to("mended"), expected);
}

#[test]
fn the_way_back_through_a_bucket() {
    let server = Server::start(Oddities::default());
    the_whole_way(&server.endpoint, BUCKET);
}

#[test]
fn the_way_back_through_a_bucket_of_a_server_that_can_do_little() {
    let odd = Oddities { overwrites: true, no_checksums: true, ranges_are_200: true, ..Oddities::default() };
    let server = Server::start(odd);
    the_whole_way(&server.endpoint, BUCKET);
}

#[test]
fn the_way_back_through_seaweedfs() {
    let Some(server) = weed() else { return };
    the_whole_way(&server.endpoint, servers::BUCKET);
}

#[test]
fn the_way_back_through_rclone() {
    let Some(server) = servers::rclone() else { return };
    the_whole_way(&server.endpoint, servers::BUCKET);
}

/// What one command asked a server for.
fn calls_of(server: &FaultServer, what: impl FnOnce()) -> Vec<Call> {
    server.forget_calls();
    what();
    server.calls()
}

/// How many of `calls` are of this kind, for keys in this folder.
fn count(calls: &[Call], op: Op, folder: &str) -> usize {
    let below = format!("vaults/tsushin/{folder}/");
    calls.iter().filter(|call| call.op == op && call.key.starts_with(&below)).count()
}

#[test]
fn one_file_out_of_a_large_archive_takes_two_small_reads_of_it() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    let person = &shop.person;
    for number in 0..24 {
        fs::write(person.app.join(format!("backend/app/{number:02}.bin")), noise(number, 1 << 20)).unwrap();
    }
    person.backup();
    let wanted = noise(13, 1 << 20);
    let to = person.top.join("one");
    let calls = calls_of(&server, || {
        let args = ["restore", "latest", "backend/app/13.bin", "--to", to.to_str().unwrap()];
        person.ok(args);
    });
    let file: PathBuf = to.join("backend/app/13.bin");
    assert!(fs::read(file).unwrap() == wanted);
    let archives = (count(&calls, Op::Get, "archives"), count(&calls, Op::Range, "archives"));
    assert_eq!(archives, (0, 2), "its header, and the frames of the file: {calls:#?}");
    let listings = count(&calls, Op::Get, "manifests") + count(&calls, Op::Range, "manifests");
    assert_eq!(listings, 2, "the index, and the one segment that names the file");
    assert!(calls.len() <= 12, "{}: {calls:#?}", calls.len());
    assert!(
        calls.iter().all(|call| matches!(call.op, Op::Get | Op::Range | Op::Head | Op::List)),
        "{calls:#?}"
    );
}

#[test]
fn a_large_database_comes_back_out_of_several_uploads_in_parts() {
    let server = FaultServer::start();
    let shop = Shop::open(&server.endpoint(), "bucket", &[]);
    let person = &shop.person;
    person.configure("[packing]\narchive_size = \"1GiB\"");
    fs::write(person.app.join("backend/app/large.bin"), noise(5, 100 << 20)).unwrap();
    let database = person.app.join("backend/data/other.db");
    make_database(&database, 5_000);
    let calls = calls_of(&server, || {
        person.backup();
    });
    assert!(calls.iter().filter(|call| call.op == Op::Part).count() >= 7, "{calls:#?}");
    assert_eq!(server.uploads(), 0, "what was begun was completed");
    let to = person.top.join("back");
    person.ok(["restore", "latest", "--to", to.to_str().unwrap()]);
    assert!(fs::read(to.join("backend/app/large.bin")).unwrap() == noise(5, 100 << 20));
    assert_eq!(rows(&to.join("backend/data/other.db")), 5_000);
}

#[test]
fn init_says_what_a_server_lacks_and_writes_the_server_that_the_environment_names() {
    let odd = Oddities { overwrites: true, no_checksums: true, ..Oddities::default() };
    let server = Server::start(odd);
    let shop = Shop::open(&server.endpoint, BUCKET, &[]);
    let config = shop.person.config();
    assert_eq!(config["store"][0]["endpoint"].as_str(), Some(&*server.endpoint), "{config:#?}");
    assert_eq!(config["store"][0]["name"].as_str(), Some("offsite"));
    let person = &shop.person;
    // A store that is added says it, too; what was found is remembered with the store's name.
    person.configure(&format!(
        "[[store]]\nname = \"again\"\nurl = \"s3://{BUCKET}/again\"\nendpoint = \"{}\"",
        server.endpoint
    ));
    let said = person.ok(["init"]);
    let said = said.says(&["store again: its server overwrites", "can be deleted or overwritten for good"]);
    assert!(!said.err.contains("Nothing is off this machine"), "{said}");
    for name in ["offsite", "again"] {
        let kept = person.home.join(format!(".local/state/backstay/tsushin/stores/{name}.json"));
        assert!(fs::read_to_string(kept).unwrap().contains("\"create_only\": false"), "{name}");
    }
    person.ok(["init"]).says(&["nothing was changed"]);
}

#[test]
fn a_bucket_that_was_moved_is_read_by_its_new_address() {
    let server = Server::start(Oddities::default());
    let shop = Shop::open(&server.endpoint, BUCKET, &[]);
    let person = &shop.person;
    let id = person.backup();
    let moved = server.bucket().join("elsewhere");
    fs::create_dir_all(&moved).unwrap();
    fs::rename(server.bucket().join("vaults/tsushin"), moved.join("tsushin")).unwrap();
    person.fails(10, ["list"]).says(&["offsite", "backstay.json"]);
    let url = format!("s3://{BUCKET}/elsewhere/tsushin");
    assert_eq!(shop.list(&["--store", &url]), [id]);
    let said = person.run(["backup", "--store", &url]);
    assert_eq!(said.code, 2, "a store that only the command line names is read, never written: {said}");
    let wrong = person.fails(10, ["list", "--store", &format!("s3://{BUCKET}/nowhere")]);
    wrong.says(&["backstay.json"]);
    let hidden = person.run(["list", "--store", "s3://me:canary@bucket/x"]);
    assert!(hidden.code == 2 && !hidden.err.contains("canary"), "{hidden}");
    assert!(Key::parse("backstay.json").is_some());
}

//! Prune in buckets: what retention lets go is announced, and goes a day later; what only hides, or is refused, is said as it is; what stays is whole.

use super::shop::Shop;
use crate::common::fault_server::{Fault, FaultServer, Manner, Nth, Op};
use crate::common::person::Said;
use crate::common::s3::{BUCKET, Oddities, Server};
use crate::common::servers::{self, tool, weed};
use backstay::model::Record;
use backstay::store::{Key, Prefix, Store};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// The newest good one stays, and nothing else has to.
pub(super) const ONE: &str = "keep_last = 1\nmin_keep = 1";

/// Somebody whose store is a bucket, with four snapshots of which the last is to stay. Gives their ids.
fn four(endpoint: &str, bucket: &str, more: &[&str]) -> (Shop, Vec<String>) {
    let shop = Shop::open(endpoint, bucket, more);
    shop.keep(ONE);
    let ids = (0..4).map(|number| shop.next(number)).collect();
    (shop, ids)
}

impl Shop {
    /// Exchanges the rules of retention.
    pub(super) fn keep(&self, rules: &str) {
        let mut config = self.person.config();
        config.insert("retention".into(), rules.parse::<toml::Table>().unwrap().into());
        fs::write(self.person.config_path(), toml::to_string(&config).unwrap()).unwrap();
    }

    /// A snapshot whose `main.py` has this number.
    pub(super) fn next(&self, number: usize) -> String {
        fs::write(self.person.app.join("backend/app/main.py"), format!("number {number}\n")).unwrap();
        self.person.backup()
    }

    /// Runs `args` so many hours from now. The server's clock stays: only this machine has waited.
    pub(super) fn later(&self, hours: i64, args: &[&str]) -> Said {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        self.command(args).env("BACKSTAY_TEST_NOW", now.to_string()).output().unwrap().into()
    }

    #[track_caller]
    fn pruned(&self, hours: i64) -> Value {
        let said = self.later(hours, &["prune", "--json"]).code(0);
        let report: Value = serde_json::from_str(&said.out).unwrap();
        report["stores"][0].clone()
    }

    /// Announces all three that may go: half of them, and then the rest.
    #[track_caller]
    fn announced(&self) {
        let first = self.pruned(0);
        assert_eq!(first["deleted"]["snapshots"], 0, "{first:#}");
        assert_eq!(first["waiting"][0]["snapshots"], 2, "half of three: {first:#}");
        assert_eq!(self.pruned(0)["waiting"].as_array().unwrap().len(), 2);
    }

    /// Fails unless the store shows `ids` and nothing wrong, each with its file and all of its objects.
    #[track_caller]
    fn whole(&self, ids: &[String], numbers: &[usize]) {
        assert_eq!(self.list(&[]), ids);
        for (id, number) in ids.iter().zip(numbers) {
            let cat = self.person.ok(["cat", id, "backend/app/main.py"]).out;
            assert_eq!(cat, format!("number {number}\n"), "{id}");
        }
        let (there, needed) = self.objects();
        assert!(there.is_superset(&needed), "{:?}", needed.difference(&there));
        let to = self.person.top.join(format!("whole-{}", there.len()));
        self.person.ok(["restore", "latest", "--to", to.to_str().unwrap()]);
        fs::remove_dir_all(to).unwrap();
    }

    /// The data objects of the store, and those that its records need.
    fn objects(&self) -> (BTreeSet<Key>, BTreeSet<Key>) {
        let store = self.store();
        let keys = |prefix| store.list(prefix).unwrap().into_iter().map(|listed| listed.key);
        let there = keys(Prefix::Archives).chain(keys(Prefix::Manifests)).collect();
        let mut needed = BTreeSet::new();
        for key in keys(Prefix::Records) {
            let document = store.get(&key, 1 << 20).unwrap();
            let line = document.split(|byte| *byte == b'\n').next().unwrap();
            let record: Record = serde_json::from_slice(line).unwrap();
            needed.extend(record.objects.iter().map(|object| Key::data(object.kind, object.id)));
        }
        (there, needed)
    }
}

/// From four snapshots to one, in two announcements.
fn down_to_one(shop: &Shop, ids: &[String]) {
    let before = shop.objects().0;
    let planned = shop.later(0, &["prune", "--dry-run"]).code(0);
    assert!(planned.out.contains("would announce 2 snapshots"), "{planned}");
    shop.later(0, &["prune", "--now"]).code(2).error().says(&["--now deletes without waiting"]);
    shop.announced();
    assert_eq!(shop.pruned(23)["deleted"]["snapshots"], 0, "the grace is a day");
    assert_eq!(shop.objects().0, before);
    shop.whole(ids, &[0, 1, 2, 3]);
    let deleted = shop.pruned(25);
    assert_eq!(deleted["deleted"]["snapshots"], 3, "{deleted:#}");
    assert_ne!(deleted["keeps_versions"], true, "{deleted:#}");
    assert!(deleted["waiting"].as_array().unwrap().is_empty(), "{deleted:#}");
    shop.whole(&ids[3..], &[3]);
    let (there, needed) = shop.objects();
    assert_eq!(there, needed, "what nothing needs is gone");
    assert_eq!((before.len() - there.len()) as u64, deleted["deleted"]["objects"].as_u64().unwrap());
    assert_eq!(shop.store().list(Prefix::Tombstones).unwrap(), []);
    // The next backup goes on.
    shop.next(4);
    assert_eq!(shop.list(&[]).len(), 2);
}

#[test]
fn what_retention_lets_go_of_a_bucket_is_announced_and_gone_a_day_later() {
    let server = Server::start(Oddities::default());
    let (shop, ids) = four(&server.endpoint, BUCKET, &[]);
    down_to_one(&shop, &ids);
}

#[test]
fn what_retention_lets_go_of_a_bucket_of_a_server_that_can_do_little_is_gone_as_well() {
    let odd = Oddities { overwrites: true, no_checksums: true, ranges_are_200: true, ..Oddities::default() };
    let server = Server::start(odd);
    let (shop, ids) = four(&server.endpoint, BUCKET, &[]);
    down_to_one(&shop, &ids);
}

#[test]
fn what_retention_lets_go_of_seaweedfs_is_announced_and_gone_a_day_later() {
    let Some(server) = weed() else { return };
    let (shop, ids) = four(&server.endpoint, servers::BUCKET, &["--create-bucket"]);
    down_to_one(&shop, &ids);
}

/// In a bucket that keeps versions nothing is gone, and nobody is told that room came free.
fn hidden_and_not_gone(shop: &Shop, ids: &[String]) {
    let whole = moment();
    shop.announced();
    let said = shop.later(25, &["prune"]).code(0);
    assert!(said.out.contains("deleted 3 snapshots"), "{said}");
    assert!(said.out.contains("the bucket keeps versions") && said.out.contains("are only hidden"), "{said}");
    shop.whole(&ids[3..], &[3]);
    // What was deleted is read as it stood.
    assert_eq!(shop.list(&["--as-of", &whole]), ids);
    for (id, number) in ids.iter().zip(0..) {
        let cat = shop.person.ok(["cat", id, "backend/app/main.py", "--as-of", &whole]).out;
        assert_eq!(cat, format!("number {number}\n"));
    }
}

/// A moment after everything that was done and before everything that will be, for a server that tells times in whole seconds.
fn moment() -> String {
    let second = || jiff::Timestamp::now().as_second();
    let begun = second();
    while second() < begun + 2 {
        std::thread::yield_now();
    }
    let now = jiff::Timestamp::now().to_string();
    while second() < begun + 4 {
        std::thread::yield_now();
    }
    now
}

#[test]
fn what_is_deleted_in_a_bucket_with_versions_is_said_to_be_hidden_and_can_be_read_as_it_stood() {
    let server = FaultServer::with(Manner { versioned: true, page: 7, ..Manner::default() });
    let (shop, ids) = four(&server.endpoint(), "bucket", &[]);
    hidden_and_not_gone(&shop, &ids);
}

#[test]
fn versions_that_were_turned_on_after_the_store_was_made_are_noticed_by_a_prune() {
    let server = FaultServer::start();
    let (shop, ids) = four(&server.endpoint(), "bucket", &[]);
    server.manner(|manner| manner.versioned = true);
    hidden_and_not_gone(&shop, &ids);
}

#[test]
fn what_is_deleted_in_seaweedfs_with_versions_is_said_to_be_hidden_and_can_be_read_as_it_stood() {
    let Some(server) = weed() else { return };
    tool(&server, "enable");
    let (shop, ids) = four(&server.endpoint, servers::BUCKET, &[]);
    hidden_and_not_gone(&shop, &ids);
}

#[test]
fn what_is_deleted_under_object_lock_stays_until_the_lock_ends_and_that_is_said() {
    let Some(server) = weed() else { return };
    tool(&server, "lock");
    let (shop, ids) = four(&server.endpoint, servers::BUCKET, &[]);
    hidden_and_not_gone(&shop, &ids);
}

#[test]
fn a_bucket_that_refuses_to_delete_is_said_and_nothing_is_lost() {
    let server = FaultServer::start();
    let (shop, ids) = four(&server.endpoint(), "bucket", &[]);
    shop.announced();
    // Nothing may go; then records may, and archives are locked.
    let before = server.keys();
    server.fault_on(Op::Delete, "/snapshots/", Nth::All, Fault::Refuse(403, "AccessDenied", None));
    let said = shop.later(25, &["prune"]).code(10).error();
    said.says(&["refuses to delete snapshots/", "AccessDenied", "locked", "prune = \"elsewhere\""]);
    server.calm();
    assert!(before.iter().all(|key| server.object(key).is_some()), "something went");
    shop.whole(&ids, &[0, 1, 2, 3]);
    server.fault_on(Op::Delete, "/archives/", Nth::All, Fault::Refuse(403, "ObjectLocked", None));
    let said = shop.later(26, &["prune"]).code(10).error();
    said.says(&["refuses to delete archives/", "ObjectLocked"]);
    server.calm();
    shop.whole(&ids[3..], &[3]);
    let archives = |keys: &[String]| keys.iter().filter(|key| key.contains("/archives/")).count();
    assert_eq!(archives(&server.keys()), archives(&before));
    // Backups go on meanwhile, and the prune once it may.
    let next = shop.next(4);
    assert_eq!(shop.list(&[]).last(), Some(&next));
    let deleted = shop.pruned(27);
    assert_eq!(deleted["deleted"]["snapshots"], 0, "they went before: {deleted:#}");
    shop.whole(&[ids[3].clone(), next], &[3, 4]);
    let (there, needed) = shop.objects();
    assert_eq!(there, needed);
}

#[test]
fn of_several_stores_one_that_is_away_is_pruned_when_it_is_back_and_the_others_meanwhile() {
    let server = FaultServer::start();
    let person = crate::common::person::Person::set_up();
    super::shop::give_keys(&person.home);
    let shop = Shop { person, endpoint: server.endpoint(), bucket: "bucket".into() };
    shop.person.configure(&Shop::lines(&server.endpoint(), "bucket"));
    shop.person.ok(["init"]);
    shop.keep(ONE);
    let ids: Vec<String> = (0..4).map(|number| shop.next(number)).collect();
    let prune = |hours: i64, code: i32| -> Value {
        let said = shop.later(hours, &["prune", "--json"]).code(code);
        serde_json::from_str(&said.out).unwrap()
    };
    prune(0, 0);
    let report = prune(0, 0);
    let waiting = |report: &Value, at: usize| report["stores"][at]["waiting"].as_array().unwrap().len();
    assert_eq!((waiting(&report, 0), waiting(&report, 1)), (2, 2), "{report:#}");
    server.fault(Op::Get, Nth::All, Fault::Refuse(403, "AccessDenied", None));
    let report = prune(25, 4);
    assert_eq!(report["stores"][0]["deleted"]["snapshots"], 3, "{report:#}");
    assert!(report["stores"][1]["problem"].is_string(), "{report:#}");
    assert!(report["problems"].to_string().contains("offsite"), "{report:#}");
    server.calm();
    let listed = |store: &str| -> Vec<String> {
        let report = shop.person.json(0, ["list", "--store", store]);
        let rows = report["snapshots"].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((listed("local"), listed("offsite")), (ids[3..].to_vec(), ids.clone()));
    // It lacks the mark that was signed meanwhile, which the next backup brings, or a sync; before that nothing goes.
    let report = prune(26, 4);
    assert!(
        report["problems"].to_string().contains("`backstay sync --to offsite` brings them"),
        "{report:#}"
    );
    assert_eq!(listed("offsite"), ids);
    shop.later(26, &["sync", "--to", "offsite"]).code(0);
    let report = prune(26, 0);
    assert_eq!(report["stores"][1]["deleted"]["snapshots"], 3, "{report:#}");
    for store in ["local", "offsite"] {
        assert_eq!(listed(store), ids[3..], "{store}");
        let cat = shop.person.ok(["cat", &ids[3], "backend/app/main.py", "--store", store]).out;
        assert_eq!(cat, "number 3\n");
    }
}

//! A backup that is killed at any of its requests to a bucket, before the server did it or after: what is listed is whole, and the next run needs no help.

use super::shop::{PREFIX, Shop, assert_same, rows};
use crate::common::fault_server::{Bucket, FaultServer};
use crate::common::long::{in_time, long};
use crate::common::project::{noise, until};
use crate::common::trees::copy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// An application with three snapshots in a bucket, changed since.
struct Scene {
    server: FaultServer,
    shop: Shop,
    saved: Bucket,
    /// What the snapshots must give, and the application as it is now.
    versions: BTreeMap<String, PathBuf>,
    now: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let server = FaultServer::start();
        let shop = Shop::open(&server.endpoint(), "bucket", &[]);
        shop.person.configure("[packing]\narchive_size = \"1MiB\"");
        let mut versions = BTreeMap::new();
        for round in 0..4 {
            let file = shop.person.app.join("backend/app/model.bin");
            let mut bytes = std::fs::read(&file).unwrap_or_else(|_| noise(1, 3_000_000));
            bytes[round * 400_000..][..5000].copy_from_slice(&noise(round as u64 + 2, 5000));
            std::fs::write(&file, bytes).unwrap();
            std::fs::write(shop.person.app.join(format!("backend/app/{round}.py")), noise(9, 70_000 + round))
                .unwrap();
            let db = rusqlite::Connection::open(shop.person.app.join("backend/data/agent.db")).unwrap();
            db.execute("INSERT INTO message(text) VALUES (?1)", [format!("round {round}")]).unwrap();
            drop(db);
            if round < 3 {
                let aside = shop.put_aside(&format!("version {round}"));
                versions.insert(Self::backup(&shop), aside);
            }
        }
        let now = shop.put_aside("now");
        copy(&shop.person.home, &shop.person.top.join("saved home"));
        let saved = server.save();
        Self { server, shop, saved, versions, now }
    }

    /// With files that count as settled at once, as they do for somebody who backs up once a day.
    fn backup(shop: &Shop) -> String {
        let output = shop.command(["backup", "--json"]).env("BACKSTAY_TEST_SETTLE_MS", "0").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["snapshot"].as_str().unwrap().to_owned()
    }

    fn reset(&self) {
        self.server.restore(&self.saved);
        copy(&self.shop.person.top.join("saved home"), &self.shop.person.home);
        self.server.forget_calls();
    }

    /// The requests of a command, in their order.
    fn calls(&self, args: &[&str]) -> Vec<String> {
        self.reset();
        let output = self.shop.command(args).env("BACKSTAY_TEST_SETTLE_MS", "0").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        self.server.calls().iter().map(|call| format!("{:?} {}", call.op, call.key)).collect()
    }

    /// Kills a command when its `nth` request has come; false when it made fewer and ended well.
    fn killed_at(&self, args: &[&str], nth: usize, done: bool) -> bool {
        self.reset();
        self.server.halt_at(nth, done);
        let mut command = self.shop.command(args);
        command.env("BACKSTAY_TEST_SETTLE_MS", "0").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut ended = None;
        until("the request came", || {
            ended = child.try_wait().unwrap();
            ended.is_some() || self.server.is_halted()
        });
        child.kill().unwrap();
        let status = ended.unwrap_or_else(|| child.wait().unwrap());
        self.server.go_on();
        assert!(status.code().is_none_or(|code| code == 0), "request {nth}: {status:?}");
        status.code().is_none()
    }

    fn restores(&self, id: &str, expected: &Path, what: &str) {
        let to = self.shop.person.top.join("restored");
        let _absent = std::fs::remove_dir_all(&to);
        let output = self.shop.command(["restore", id, "--to", to.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{what}: {id}: {output:?}");
        assert_same(&to, expected);
        let database = to.join("db/agent.db");
        assert_eq!(rows(&database), rows(&expected.join("backend/data/agent.db")), "{what}: {id}");
    }

    /// Snapshots that are listed: id and whether it is good.
    fn list(&self, what: &str) -> BTreeMap<String, bool> {
        let output = self.shop.command(["list", "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&report["history"], &report["damaged"]),
            (&serde_json::json!([]), &serde_json::json!([])),
            "{what}"
        );
        let rows = report["snapshots"].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["void"].is_null());
        rows.map(|row| (row["id"].as_str().unwrap().to_owned(), row["good"].as_bool().unwrap())).collect()
    }

    /// The numbers of requests at which to kill: all in the long form.
    fn chosen(calls: usize, about: usize) -> impl Iterator<Item = (usize, bool)> {
        let step = if long() { 1 } else { calls.div_ceil(about) };
        let both = |nth| [(nth, false), (nth, true)];
        in_time((1..=calls).step_by(step).flat_map(both).collect())
    }
}

#[test]
fn a_backup_that_is_killed_at_any_request_leaves_whole_snapshots_only_and_the_next_run_needs_no_help() {
    let scene = Scene::new();
    let calls = scene.calls(&["backup"]);
    for part in [
        "Head archives/",
        "Put archives/",
        "Put manifests/",
        "Put snapshots/",
        "Put marks/",
        "List ",
        "Get snapshots/",
    ] {
        let (op, folder) = part.split_once(' ').unwrap();
        let like = |call: &&String| call.starts_with(op) && call.contains(folder);
        assert!(calls.iter().any(|call| like(&call)), "{part} is not among {calls:#?}");
    }
    let (mut killed, mut tried, mut seen) = (0, 0, [false; 2]);
    for (nth, done) in Scene::chosen(calls.len(), 12) {
        let what = format!(
            "killed at request {nth} ({}), {}",
            calls[nth - 1],
            if done { "done" } else { "not done" }
        );
        (tried, killed) = (tried + 1, killed + usize::from(scene.killed_at(&["backup"], nth, done)));
        let left: Vec<String> = scene.server.keys();
        let list = scene.list(&what);
        assert!(scene.versions.keys().all(|id| list.contains_key(id)), "{what}: {list:?}");
        for (key, bytes) in scene.saved.all() {
            assert!(
                !key.contains(PREFIX) || scene.server.object(key).as_deref() == Some(bytes),
                "{what}: {key} of {left:?}"
            );
        }
        let new = list.keys().find(|id| !scene.versions.contains_key(*id));
        seen[usize::from(new.is_some())] = true;
        if let Some(id) = new {
            scene.restores(id, &scene.now, &what);
        }
        let id = Scene::backup(&scene.shop);
        assert!(scene.list(&what)[&id], "{what}: the next snapshot is not good");
        scene.restores(&id, &scene.now, &what);
        if long() || tried % 8 == 0 {
            scene.versions.iter().for_each(|(id, expected)| scene.restores(id, expected, &what));
        }
        let state = scene.shop.person.home.join(".local/state/backstay/tsushin");
        for folder in ["unfinished", "spool"] {
            let left = std::fs::read_dir(state.join(folder)).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{what}: something is left in {folder}");
        }
    }
    assert!(killed * 10 >= tried * 9, "only {killed} of {tried} were killed");
    assert_eq!(seen, [true; 2], "killed before and after the commit");
}

//! Prune beside a backup, a restore and another prune: real processes, one of them stopped at a named point while days pass and the others
//! run, then let go on or killed. No snapshot that is listed as whole is ever without its bytes.
#![cfg(debug_assertions)]

use crate::common::long::long;
use crate::common::trees::copy;
use crate::lab::{Lab, Node, put};
use crate::prune_process::{age_orphans, go_on, pruner, wait_until_stopped};
use backstay::model::mark::Tombstone;
use backstay::model::{SignerId, SnapshotId, document};
use backstay::store::Key;
use jiff::{SignedDuration, Timestamp};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::SystemTime;

const CONFIG: &str = "[[component]]\nname = \"app\"\npath = \"app\"";

/// A host, a machine that only prunes, and a clock that both go by.
struct Ground {
    lab: Lab,
    pruner: PathBuf,
    /// What each snapshot held.
    contents: BTreeMap<String, String>,
    saved: Option<Saved>,
    seen: RefCell<BTreeSet<Key>>,
}

/// Folders as they were, and the time.
struct Saved {
    time: Timestamp,
    contents: BTreeMap<String, String>,
}

impl Ground {
    /// A host with a store called `local`; with `second`, another store that leads. Keeps the newest snapshot of four.
    fn new(second: bool) -> Self {
        let lab = Lab::new(|project| put(&project.join("app/a"), b"first"), CONFIG);
        let mut config = lab.config();
        let retention: toml::Table = "keep_last = 1\nmin_keep = 1".parse().unwrap();
        config.insert("retention".into(), retention.into());
        if second {
            let stores = config["store"].as_array_mut().unwrap();
            stores[0].as_table_mut().unwrap().insert("prune".into(), "elsewhere".into());
            let path = lab.path("second").display().to_string();
            let store: toml::Table = format!("name = \"second\"\npath = {path:?}").parse().unwrap();
            stores.insert(0, store.into());
        }
        lab.set_config(&config);
        if second {
            lab.run(&["init", "--yes"]).expect(0, &["made store"]);
        }
        let pruner = pruner(&lab);
        // Both may prune, and each believes the other about that.
        let file = pruner.join("backstay.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("roles = [\"host\"]", "roles = [\"host\", \"prune\"]")).unwrap();
        let seen = RefCell::new(lab.keys().into_iter().collect());
        let mut ground = Self { lab, pruner, contents: BTreeMap::new(), saved: None, seen };
        ground.set_clock(Timestamp::now());
        // Two days apart: so no gap in what follows is one that freezes anything.
        for n in 0..4 {
            ground.turn(48);
            ground.backup(&format!("content {n}"));
        }
        ground
    }

    fn clock(&self) -> PathBuf {
        self.lab.path("clock")
    }

    fn set_clock(&self, time: Timestamp) {
        let new = self.lab.path("clock.new");
        fs::write(&new, time.to_string()).unwrap();
        fs::rename(new, self.clock()).unwrap();
    }

    fn now(&self) -> Timestamp {
        fs::read_to_string(self.clock()).unwrap().parse().unwrap()
    }

    fn turn(&self, hours: i64) {
        self.set_clock(self.now() + SignedDuration::from_hours(hours));
    }

    fn host(&self) -> PathBuf {
        self.lab.path("project")
    }

    fn start(&self, dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(args).current_dir(dir).env_clear().envs(env.iter().copied());
        command.env("HOME", self.lab.path("home")).env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        command.env("BACKSTAY_TEST_NOW", format!("@{}", self.clock().display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, dir: &Path, args: &[&str]) -> (i32, String) {
        let ran = told(&self.start(dir, args, &[]).wait_with_output().unwrap());
        self.stamp();
        ran
    }

    /// What came into the store since says that it was put now, by the clock that is turned.
    fn stamp(&self) {
        let now = SystemTime::from(self.now());
        let mut seen = self.seen.borrow_mut();
        for key in self.lab.keys() {
            // Of a tombstone the two clocks are compared.
            if !seen.contains(&key)
                && !matches!(key, Key::Tombstone(_))
                && let Ok(file) = File::options().write(true).open(self.lab.object(&key))
            {
                file.set_modified(now).unwrap();
                seen.insert(key);
            }
        }
    }

    /// Runs it and fails unless it ended well.
    #[track_caller]
    fn ok(&self, dir: &Path, args: &[&str]) -> String {
        let (code, text) = self.run(dir, args);
        assert_eq!(code, 0, "{args:?}: {text}");
        text
    }

    /// Starts it, lets it stop at its `at`-th point, and waits until it has.
    fn stopped(&self, dir: &Path, args: &[&str], at: usize) -> Child {
        let child = self.start(dir, args, &[("BACKSTAY_TEST_SIGNAL", &format!("{at}:19"))]);
        wait_until_stopped(&child);
        self.stamp();
        child
    }

    /// A backup of `content`; what it became is told by its exit code. A snapshot that was committed anywhere is remembered with its content.
    fn try_backup(&mut self, content: &str) -> (i32, String) {
        self.set_clock(self.now() + SignedDuration::from_mins(1));
        put(&self.lab.path("project/app/a"), content.as_bytes());
        let before: BTreeSet<String> = self.snapshots().into_keys().collect();
        let ran = self.run(&self.host(), &["backup"]);
        let new: Vec<String> = self.snapshots().into_keys().filter(|id| !before.contains(id)).collect();
        for id in new {
            self.contents.entry(id).or_insert_with(|| content.to_owned());
        }
        ran
    }

    #[track_caller]
    fn backup(&mut self, content: &str) {
        let (code, text) = self.try_backup(content);
        assert_eq!(code, 0, "{text}");
    }

    /// Snapshots that the host lists, in whatever store, each with why it is void.
    fn snapshots(&self) -> BTreeMap<String, Option<String>> {
        self.listed(&[])
    }

    fn listed(&self, more: &[&str]) -> BTreeMap<String, Option<String>> {
        let child = self.start(&self.host(), &[&["list", "--json"], more].concat(), &[]);
        let output = child.wait_with_output().unwrap();
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(list["history"], serde_json::json!([]), "{list:#}");
        let row = |row: &serde_json::Value| {
            (row["id"].as_str().unwrap().to_owned(), row["void"].as_str().map(str::to_owned))
        };
        list["snapshots"].as_array().unwrap().iter().map(row).collect()
    }

    /// Every snapshot that the store `local` shows and does not call void comes back from there as it was. Gives how many.
    #[track_caller]
    fn whole(&self, when: &str) -> usize {
        let listed = self.listed(&["--store", "local"]);
        let whole: Vec<&String> =
            listed.iter().filter(|(_, void)| void.is_none()).map(|(id, _)| id).collect();
        for id in &whole {
            let to = self.lab.path("restored");
            let args = ["restore", id, "--store", "local", "--to", to.to_str().unwrap()];
            let (code, text) = self.run(&self.host(), &args);
            assert_eq!(code, 0, "{when}: {id}: {text}");
            let file = fs::read_to_string(to.join("app/a")).unwrap();
            assert_eq!(Some(&file), self.contents.get(*id), "{when}: {id}");
            fs::remove_dir_all(&to).unwrap();
        }
        whole.len()
    }

    fn folders(&self) -> Vec<(PathBuf, PathBuf)> {
        let state = self.lab.state();
        let all = [
            (self.lab.store(), "saved-store"),
            (self.lab.path("second"), "saved-second"),
            (state, "saved-state"),
            (self.pruner.join("state"), "saved-pruner"),
        ];
        let there = all.into_iter().filter(|(path, _)| path.exists());
        there.map(|(path, name)| (path, self.lab.path(name))).collect()
    }

    fn save(&mut self) {
        for (path, saved) in self.folders() {
            copy(&path, &saved);
        }
        self.saved = Some(Saved { time: self.now(), contents: self.contents.clone() });
    }

    fn reset(&mut self) {
        for (path, saved) in self.folders() {
            copy(&saved, &path);
        }
        let Some(saved) = &self.saved else { panic!("nothing was saved") };
        self.contents = saved.contents.clone();
        *self.seen.borrow_mut() = self.lab.keys().into_iter().collect();
        self.set_clock(saved.time);
    }

    /// The points that `args` passes from what was saved: of those that begin with `prefix` the first of each name, with
    /// `BACKSTAY_LONG` all of them.
    fn points(&mut self, dir: &Path, args: &[&str], prefix: &str) -> Vec<(usize, String)> {
        if self.saved.is_some() {
            self.reset();
        }
        let log = self.lab.path("points");
        let _absent = fs::remove_file(&log);
        let env = [("BACKSTAY_TEST_CRASH_COUNT_FILE", log.to_str().unwrap())];
        let (code, text) = told(&self.start(dir, args, &env).wait_with_output().unwrap());
        assert_eq!(code, 0, "{text}");
        self.reset();
        let text = fs::read_to_string(&log).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
        let long = long();
        let wanted = |at: usize| {
            let name = names[at];
            let first = names.iter().position(|n| *n == name) == Some(at);
            name.starts_with(prefix) && (long || first)
        };
        (0..names.len()).filter(|at| wanted(*at)).map(|at| (at + 1, names[at].to_owned())).collect()
    }

    /// Lets the stopped process go on, or kills it.
    fn end(&self, mut child: Child, kill: bool) -> (i32, String) {
        if kill {
            child.kill().unwrap();
        } else {
            go_on(&child);
        }
        let ended = told(&child.wait_with_output().unwrap());
        self.stamp();
        ended
    }

    fn tombstones(&self) -> usize {
        self.lab.keys().iter().filter(|key| matches!(key, Key::Tombstone(_))).count()
    }
}

fn told(output: &Output) -> (i32, String) {
    let text = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat();
    (output.status.code().unwrap_or(-1), text)
}

/// A store that was away has objects and no record of the newest snapshot: they look like orphans, and the pruner has announced them. It is
/// stopped at each of its steps while days pass, and meanwhile the host takes the same objects up again.
#[test]
fn a_pruner_that_was_stopped_past_the_grace_takes_nothing_that_was_taken_up_meanwhile() {
    let mut ground = Ground::new(true);
    let (host, elsewhere) = (ground.host(), ground.pruner.clone());
    // Killed when all is brought but the record.
    ground.turn(1);
    ground.save();
    put(&ground.lab.path("project/app/a"), b"brought, and not committed there");
    let (at, _) = ground.points(&host, &["backup"], "catch-up: objects proved").remove(0);
    let child = ground.start(&host, &["backup"], &[("BACKSTAY_TEST_CRASH", &at.to_string())]);
    assert_eq!(told(&child.wait_with_output().unwrap()).0, -1);
    let newest = ground.snapshots().into_keys().next_back().unwrap();
    ground.contents.insert(newest, "brought, and not committed there".to_owned());
    ground.stamp();
    let orphans = age_orphans(&ground.lab, 8);
    assert!(orphans.len() >= 3, "{orphans:?}");
    // It knows the one store, has proved nothing, and so takes away nothing but what no record names.
    ground.ok(&elsewhere, &["prune"]);
    assert_eq!(ground.tombstones(), 1);
    ground.turn(25);
    ground.save();
    let points = ground.points(&elsewhere, &["prune"], "prune: ");
    let mut codes = BTreeSet::new();
    for (turn, (at, name)) in points.iter().enumerate() {
        ground.reset();
        let kill = turn % 3 == 2;
        let when = format!("stopped at {at} ({name}), {}", if kill { "killed" } else { "resumed" });
        let pruning = ground.stopped(&elsewhere, &["prune"], *at);
        ground.turn(30);
        let (code, text) = ground.try_backup("made while it was stopped");
        codes.insert(code);
        assert!([0, 1, 4].contains(&code), "{when}: {text}");
        ground.whole(&when);
        let (code, text) = ground.end(pruning, kill);
        assert!(kill || [0, 10, 13].contains(&code), "{when}: {code} {text}");
        ground.whole(&when);
        // From here on everything is well again, in both stores.
        for _ in 0..3 {
            ground.turn(25);
            ground.ok(&elsewhere, &["prune"]);
            if ground.tombstones() == 0 {
                break;
            }
        }
        ground.whole(&when);
        ground.backup("made when it was over");
        assert!(ground.whole(&when) >= 1, "{when}");
        assert_eq!(ground.tombstones(), 0, "{when}");
        ground.ok(&host, &["verify", "--read-data"]);
    }
    assert!(points.len() >= 6, "{points:?}");
    assert!(codes.contains(&4) && codes.contains(&0), "never held up, or always: {codes:?}");
}

/// A tombstone comes between the record and the look after it, and is there at every look that follows: the snapshot is not left listed in that store.
#[test]
fn a_record_that_was_brought_is_void_there_when_every_later_look_finds_a_tombstone() {
    let mut ground = Ground::new(true);
    let host = ground.host();
    ground.turn(1);
    put(&ground.lab.path("project/app/a"), b"announced while it was brought");
    let signal = [("BACKSTAY_TEST_SIGNAL", "catch-up: record put#1:19")];
    let backing_up = ground.start(&host, &["backup"], &signal);
    wait_until_stopped(&backing_up);
    ground.stamp();
    let record = |key: Key| if let Key::Record(id) = key { Some(id) } else { None };
    let newest = ground.lab.keys().into_iter().filter_map(record).max().unwrap();
    let tombstone = announce(&ground.lab, &newest);
    let (code, text) = ground.end(backing_up, false);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("a prune is about to delete"), "{text}");
    fs::remove_file(ground.lab.object(&Key::Tombstone(tombstone))).unwrap();
    ground.backup("made when the tombstone was gone");
    let there = ground.listed(&["--store", "local"]);
    let void = there[newest.as_str()].as_deref();
    assert!(void.is_some_and(|why| why.contains("a prune is about to delete")), "{there:?}");
    assert!(ground.whole("when the tombstone was gone") >= 1);
}

/// Puts a stranger's tombstone for all objects of a snapshot into the store `local`.
fn announce(lab: &Lab, snapshot: &SnapshotId) -> SnapshotId {
    let (record, now) = (lab.record(snapshot.as_str()), Timestamp::now());
    let own: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.store().join("backstay.json")).unwrap()).unwrap();
    let id: SnapshotId = "20261123T080000Z-abcdefgh".parse().unwrap();
    let tombstone = Tombstone {
        format: 1,
        needs: Vec::new(),
        doc: "tombstone".into(),
        vault: record.vault,
        instance: own["instance"].as_str().unwrap().parse().unwrap(),
        id: id.clone(),
        signer: SignerId([9; 16]),
        created: now,
        not_before: now,
        snapshots: Vec::new(),
        objects: record.objects.iter().map(|o| (o.kind, o.id)).collect(),
    };
    put(&lab.object(&Key::Tombstone(id.clone())), &document::line_of(&tombstone).unwrap());
    id
}

/// Two machines prune the same store: the one is stopped at each of its steps while the other comes to its end, days later.
#[test]
fn of_two_prunes_one_that_is_stopped_at_any_step_and_one_that_ends_lose_nothing() {
    let mut ground = Ground::new(false);
    let (host, elsewhere) = (ground.host(), ground.pruner.clone());
    ground.ok(&elsewhere, &["verify", "--read-data"]);
    // Both have announced the same.
    ground.ok(&elsewhere, &["prune"]);
    ground.ok(&host, &["prune"]);
    assert_eq!(ground.tombstones(), 2);
    ground.turn(25);
    ground.save();
    for (first, second) in [(&elsewhere, &host), (&host, &elsewhere)] {
        let points = ground.points(first, &["prune"], "prune: ");
        assert!(points.len() >= 8, "{points:?}");
        for (turn, (at, name)) in points.iter().enumerate() {
            ground.reset();
            let kill = turn % 3 == 2;
            let when = format!("stopped at {at} ({name}), {}", if kill { "killed" } else { "resumed" });
            let pruning = ground.stopped(first, &["prune"], *at);
            for _ in 0..2 {
                let (code, text) = ground.run(second, &["prune"]);
                assert!([0, 10, 13].contains(&code), "{when}: the other: {code} {text}");
                ground.whole(&when);
                ground.turn(25);
            }
            let (code, text) = ground.end(pruning, kill);
            assert!(kill || [0, 10, 13].contains(&code), "{when}: {code} {text}");
            assert!(ground.whole(&when) >= 1, "{when}");
            ground.backup("made when it was over");
            for _ in 0..4 {
                ground.ok(first, &["prune"]);
                ground.ok(second, &["prune"]);
                if ground.tombstones() == 0 {
                    break;
                }
                ground.turn(25);
            }
            assert_eq!(ground.tombstones(), 0, "{when}");
            assert!(ground.whole(&when) >= 1, "{when}");
            assert!(ground.listed(&[]).values().all(Option::is_none), "{when}");
        }
    }
}

/// A restore that is stopped while prune takes its snapshot away gives all of it, or leaves out and names what is gone, exit 13; of one that
/// stays it gives all.
#[test]
fn a_restore_that_was_stopped_while_its_snapshot_went_gives_all_of_it_or_says_what_is_gone() {
    let mut ground = Ground::new(false);
    let host = ground.host();
    let ids: Vec<String> = ground.contents.keys().cloned().collect();
    let to = ground.lab.path("back");
    ground.save();
    let mut ends = BTreeSet::new();
    for (id, goes) in [(&ids[0], true), (&ids[3], false)] {
        let args = ["restore", id, "--to", to.to_str().unwrap()];
        let points = ground.points(&host, &args, "restore: ");
        fs::remove_dir_all(&to).unwrap();
        for (at, name) in points {
            ground.reset();
            let when = format!("{id} stopped at {at} ({name})");
            let restoring = ground.stopped(&host, &args, at);
            for _ in 0..3 {
                ground.ok(&host, &["prune", "--now"]);
                ground.turn(25);
            }
            let parsed: SnapshotId = id.parse().unwrap();
            assert_eq!(ground.lab.keys().contains(&Key::Record(parsed)), !goes, "{when}");
            let (code, text) = ground.end(restoring, false);
            ends.insert((goes, code));
            if code == 0 {
                let tree = crate::lab::tree(&to);
                let file = &tree[Path::new("app/a")];
                let expected = ground.contents[id].as_bytes();
                assert!(matches!(file, Node::File(_, bytes) if bytes == expected), "{when}: {file:?}");
                fs::remove_dir_all(&to).unwrap();
            } else {
                // Before it has read what is there, it finds no such snapshot.
                assert!(goes && [13, 16].contains(&code), "{when}: {code} {text}");
                // What is gone is left out and named; nothing else than what the snapshot held is written.
                let written = if to.exists() { crate::lab::tree(&to) } else { BTreeMap::new() };
                let expected = ground.contents[id].as_bytes();
                let right = |node: &Node| matches!(node, Node::File(_, bytes) if bytes == expected);
                assert!(written.get(Path::new("app/a")).is_none_or(right), "{when}: {written:?} {text}");
                let _nothing = fs::remove_dir_all(&to);
            }
        }
    }
    assert!([(true, 0), (true, 13), (false, 0)].iter().all(|end| ends.contains(end)), "{ends:?}");
}

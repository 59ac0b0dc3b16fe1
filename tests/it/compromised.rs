//! A host whose key was stolen: whoever has it may put what he likes for eight days, and a prune elsewhere removes no good snapshot.
#![cfg(debug_assertions)]

use crate::lab::{Lab, put};
use crate::prune_process::{lab, pruner, run_in};
use backstay::keys::{Signer, seal_document};
use backstay::model::document::{self, namespace};
use backstay::model::mark::{KeyAction, Level, Mark, Statement, Target, Verdict};
use backstay::model::{ObjectId, ObjectKind, ObjectRef, Record, SnapshotId, Timestamp};
use backstay::store::Key;
use jiff::SignedDuration;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

const NIGHTS: i64 = 14;

/// The thief: the host's key, and the right to put.
struct Thief<'a> {
    lab: &'a Lab,
    signer: Signer,
    number: u64,
    previous: ObjectId,
    model: Record,
    mark: Mark,
}

impl<'a> Thief<'a> {
    fn new(lab: &'a Lab) -> Self {
        let signer = lab.signer();
        let mut newest: Option<(u64, Mark, ObjectId)> = None;
        for key in lab.keys() {
            let Key::Mark(by, number) = &key else { continue };
            if *by == signer.id() && newest.as_ref().is_none_or(|(n, ..)| n < number) {
                let bytes = fs::read(lab.object(&key)).unwrap();
                let line = document::split(&bytes).unwrap().0;
                newest = Some((*number, document::parse(line, "mark").unwrap(), ObjectId::of(line)));
            }
        }
        let (number, mark, previous) = newest.unwrap();
        let model = lab.record(records(lab).last().unwrap().as_str());
        Self { lab, signer, number: number + 1, previous, model, mark }
    }

    fn put(&mut self, key: &Key, (bytes, hash): (Vec<u8>, ObjectId)) {
        put(&self.lab.object(key), &bytes);
        (self.number, self.previous) = (self.number + 1, hash);
    }

    fn say(&mut self, time: Timestamp, statement: Statement) {
        let (number, previous) = (self.number, Some(self.previous));
        let mark = Mark { number, previous, time, statement, ..self.mark.clone() };
        let document = seal_document(&mark, &self.signer, namespace::MARK).unwrap();
        self.put(&Key::Mark(mark.signer, number), document);
    }

    fn introduce(&mut self, key: &Signer, time: Timestamp) {
        let (key, host) = (key.public_text().to_owned(), self.mark.host);
        self.say(time, Statement::Key { action: KeyAction::Introduce, key, host, last: None });
    }

    /// A snapshot of nothing that can be read, and that it is proved.
    fn garbage(&mut self, n: u64, time: Timestamp, there: bool) {
        let rubbish = format!("rubbish {n}").into_bytes();
        let (id, size) = (ObjectId::of(&rubbish), rubbish.len() as u64);
        if there {
            put(&self.lab.object(&Key::Manifest(id)), &rubbish);
        }
        let mut record = Record { started: time, finished: time, index: Some(id), ..self.model.clone() };
        record.snapshot = SnapshotId::new(time, n.to_be_bytes()[3..].try_into().unwrap());
        (record.number, record.previous) = (self.number, Some(self.previous));
        record.objects = vec![ObjectRef { kind: ObjectKind::Manifest, size, id, recipients: 0 }];
        let document = seal_document(&record, &self.signer, namespace::RECORD).unwrap();
        let target = Target { snapshot: record.snapshot.clone(), record: document.1 };
        self.put(&Key::Record(record.snapshot.clone()), document);
        self.verdict(target, time, true, Vec::new());
    }

    fn verdict(&mut self, target: Target, began: Timestamp, good: bool, bad: Vec<ObjectId>) {
        let Statement::Verdict(last) = self.mark.statement.clone() else {
            panic!("the last mark is no verdict")
        };
        let (level, covered, checks) = (Level::Drill, vec![(0, 1)], Vec::new());
        self.say(
            began,
            Statement::Verdict(Verdict { target, level, began, good, covered, bad, checks, ..last }),
        );
    }

    /// All that can be said against a snapshot.
    fn slander(&mut self, id: &str, time: Timestamp) {
        let bytes = fs::read(self.lab.object(&Key::Record(id.parse().unwrap()))).unwrap();
        let record = ObjectId::of(document::split(&bytes).unwrap().0);
        let objects: Vec<ObjectId> = self.lab.record(id).objects.iter().map(|o| o.id).collect();
        let target = Target { snapshot: id.parse().unwrap(), record };
        self.verdict(target.clone(), time, false, objects);
        self.verdict(target.clone(), time, false, Vec::new());
        let reason = "it is mine".to_owned();
        self.say(time, Statement::Void { target: target.clone(), instance: None, reason });
        let remove = vec!["stable".to_owned()];
        self.say(time, Statement::Tag { target: target.clone(), add: Vec::new(), remove });
        self.say(time, Statement::Milestone { target: target.clone(), on: false });
        self.say(time, Statement::Delete(target));
    }
}

fn records(lab: &Lab) -> BTreeSet<String> {
    let id = |key: Key| if let Key::Record(id) = key { Some(id.to_string()) } else { None };
    lab.keys().into_iter().filter_map(id).collect()
}

/// A host with a verifying pruner elsewhere, and a calendar: what is put says that it was put then.
struct Site {
    lab: Lab,
    elsewhere: PathBuf,
    begin: Timestamp,
}

impl Site {
    /// After [`NIGHTS`] nights, each with a good snapshot that the pruner has read.
    fn new() -> Self {
        let lab = Lab::new(
            |project| put(&project.join("app/a"), b"first"),
            "[[component]]\nname = \"app\"\npath = \"app\"",
        );
        let elsewhere = pruner(&lab);
        let config = elsewhere.join("backstay.toml");
        let rules =
            "keep_within = \"7d\"\nkeep_weekly_within = \"30d\"\nmin_keep = 3\nkeep_tags = [\"stable\"]";
        let text = fs::read_to_string(&config).unwrap().replace("keep_last = 1\nmin_keep = 1", rules);
        fs::write(config, text).unwrap();
        let begin = Timestamp::now() - SignedDuration::from_hours(60 * 24);
        let site = Self { lab, elsewhere, begin };
        (0..NIGHTS).for_each(|night| site.night(night));
        site
    }

    fn day(&self, n: i64) -> Timestamp {
        self.begin + SignedDuration::from_hours(24 * n)
    }

    fn run(&self, dir: &Path, args: &[&str], time: Timestamp) -> (i32, String) {
        let before: BTreeSet<Key> = self.lab.keys().into_iter().collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(args).current_dir(dir).env_clear().env("HOME", self.lab.path("home"));
        command.env("PATH", "/usr/bin:/bin").env("TZ", "UTC").env("BACKSTAY_TEST_NOW", time.to_string());
        let output = command.stdin(Stdio::null()).output().unwrap();
        self.date(&before, time);
        let text = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat();
        (output.status.code().unwrap_or(-1), text)
    }

    /// What is not in `before` says that it was put at `time`.
    fn date(&self, before: &BTreeSet<Key>, time: Timestamp) {
        for key in self.lab.keys().iter().filter(|key| !before.contains(*key)) {
            let file = fs::OpenOptions::new().write(true).open(self.lab.object(key)).unwrap();
            file.set_modified(SystemTime::from(time)).unwrap();
        }
    }

    /// A snapshot of the host, and the pruner's look at it.
    fn night(&self, night: i64) {
        put(&self.lab.path("project/app/a"), format!("night {night}").as_bytes());
        let tag: &[&str] = if night == 2 { &["backup", "--tag", "stable"] } else { &["backup"] };
        let (code, text) = self.run(&self.lab.path("project"), tag, self.day(night));
        assert_eq!(code, 0, "{text}");
        let (code, text) = self.run(&self.elsewhere, &["verify", "--read-data"], self.day(night));
        assert_eq!(code, 0, "{text}");
    }
}

/// Three looks of the pruner after eight days, a day apart; gives the nights whose snapshots are left.
fn left_after(site: &Site, good: &BTreeSet<String>) -> BTreeSet<usize> {
    for late in 0..3 {
        let now = site.day(NIGHTS + 8 + late) + SignedDuration::from_hours(late);
        let (code, text) = site.run(&site.elsewhere, &["verify", "--read-data"], now);
        assert!([0, 3, 13].contains(&code), "{code} {text}");
        let (code, text) = site.run(&site.elsewhere, &["prune"], now);
        assert!([0, 18].contains(&code), "{code} {text}");
    }
    let left = records(&site.lab);
    for id in good.intersection(&left) {
        for object in site.lab.record(id).objects {
            assert!(site.lab.object(&Key::data(object.kind, object.id)).exists(), "{id} lacks an object");
        }
    }
    good.iter().enumerate().filter(|(_, id)| left.contains(*id)).map(|(night, _)| night).collect()
}

/// What is left when for eight days a thief signs all that can be signed; `there`: what his snapshots name can be read.
fn after_a_thief(there: bool) -> BTreeSet<usize> {
    let site = Site::new();
    let lab = &site.lab;
    let good = records(lab);
    assert_eq!(good.len() as i64, NIGHTS);
    // The thief goes on in the chain, and the honest host says nothing any more.
    let before: BTreeSet<Key> = lab.keys().into_iter().collect();
    let mut thief = Thief::new(lab);
    for (n, id) in good.iter().enumerate() {
        thief.slander(id, site.day(NIGHTS) + SignedDuration::from_mins(n as i64));
    }
    for hour in 0..8 * 24 {
        // Some say that they are of last year, some of the next.
        let odd = [0, 0, 0, -400 * 24, 300 * 24][hour as usize % 5];
        let time = site.day(NIGHTS) + SignedDuration::from_hours(hour + 1 + odd);
        thief.garbage(hour as u64, time, there);
    }
    // A key of his own, and the pruner's: as one of this host its word about it would be the host's own.
    for key in [Signer::generate().unwrap(), Signer::load(&site.elsewhere.join("key")).unwrap()] {
        thief.introduce(&key, site.day(NIGHTS + 8));
    }
    site.date(&before, site.day(NIGHTS + 8));
    left_after(&site, &good)
}

#[test]
fn eight_days_of_what_a_stolen_key_signs_remove_no_good_snapshot_elsewhere() {
    let honest = {
        let site = Site::new();
        let good = records(&site.lab);
        (NIGHTS..NIGHTS + 8).for_each(|night| site.night(night));
        left_after(&site, &good)
    };
    // Or what follows would prove nothing.
    assert!(honest.len() < NIGHTS as usize && honest.contains(&2), "{honest:?}");
    let all: BTreeSet<usize> = (0..NIGHTS as usize).collect();
    assert_eq!(after_a_thief(false), all, "of what cannot be read nothing counts, and nothing goes");
    // Without a key nobody can tell such rubbish from a snapshot: it counts as one, and takes no more away than an honest one would have.
    let left = after_a_thief(true);
    assert!(left.is_superset(&honest), "left by a thief {left:?}, by an honest host {honest:?}");
}

#[test]
fn a_pruner_whom_a_thief_calls_a_key_of_his_host_prunes_two_stores_as_before() {
    let lab = lab();
    let (elsewhere, second) = (pruner(&lab), lab.path("second"));
    let more = format!("[[store]]\nname = \"second\"\npath = {second:?}\n");
    for dir in [lab.path("project"), elsewhere.clone()] {
        let config = dir.join("backstay.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replacen("[signing]", &format!("{more}\n[signing]"), 1)).unwrap();
    }
    lab.run(&["init"]).expect(0, &["made store"]);
    lab.run(&["sync"]).expect(0, &[]);
    let (code, text) = run_in(&lab, &elsewhere, &["verify", "--read-data"]);
    assert_eq!(code, 0, "{text}");
    let mut thief = Thief::new(&lab);
    let mark = Key::Mark(thief.signer.id(), thief.number);
    thief.introduce(&Signer::load(&elsewhere.join("key")).unwrap(), Timestamp::now());
    let file = lab.object(&mark);
    put(&second.join(file.strip_prefix(lab.store()).unwrap()), &fs::read(&file).unwrap());
    let (code, text) = run_in(&lab, &elsewhere, &["prune", "--now"]);
    assert_eq!(code, 0, "{text}");
    assert!(records(&lab).len() < 5, "{text}");
    for store in ["local", "second"] {
        lab.run(&["list", "--store", store]).expect(0, &[]);
    }
}

//! Records and marks that are forged, hidden, replayed or rewritten, and a memory that is lost: an old state is never taken for the newest
//! without a word, and what a person names by its id can still be had.

use crate::forge::Forge;
use crate::lab::{Lab, Ran, put, tree};
use backstay::keys::{Signer, seal_document};
use backstay::model::document::{self, namespace};
use backstay::model::mark::{Mark, Statement, Target};
use backstay::model::{ObjectId, Record, SnapshotId, VaultId};
use backstay::store::Key;
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

impl Forge {
    /// Fails unless `latest` is refused with `words`, and both named snapshots still come back.
    #[track_caller]
    fn no_latest(&self, words: &[&str], there: &[&str]) {
        for id in ["latest", "latest~1", "latest-good"] {
            self.lab.refused(&[id], words);
        }
        self.lab.run(&["cat", "latest", "app/a"]).expect(13, words);
        self.lab.run(&["list"]).expect(13, words);
        for id in there {
            self.restores(id);
        }
    }

    /// Fails unless `id` comes back as it was, and gives what was said.
    #[track_caller]
    fn restores(&self, id: &str) -> Ran {
        let (ran, found) = self.lab.restore(&[id]);
        ran.expect(0, &[]);
        let content = if self.ids[0] == id { &b"first"[..] } else { b"changed" };
        let file = &found.unwrap()[Path::new("app/a")];
        assert!(matches!(file, crate::lab::Node::File(_, bytes) if bytes == content), "{id}: {file:?}");
        ran
    }

    fn record_key(&self, place: usize) -> Key {
        Key::Record(self.ids[place].parse().unwrap())
    }

    fn mark_key(&self, number: u64) -> Key {
        Key::Mark(self.lab.signer().id(), number)
    }

    fn remove(&self, key: &Key) {
        fs::remove_file(self.lab.object(key)).unwrap();
    }

    /// A record of `signer` about the same objects, with an index of its own.
    fn own_record(&self, signer: &Signer, seed: u8) -> Record {
        let mut record = self.next(signer, seed);
        self.reindex(&mut record, |_| {});
        record
    }
}

#[test]
fn a_record_of_a_stranger_is_shown_as_untrusted_and_used_only_by_its_id_and_on_demand() {
    let forge = Forge::new();
    let stranger = Signer::generate().unwrap();
    let record = forge.own_record(&stranger, 1);
    forge.put_record(&record, &stranger);
    untrusted(&forge, &record, "its key is not trusted");
}

#[test]
fn a_record_of_another_trusted_host_for_this_one_is_untrusted() {
    let forge = Forge::new();
    let other = Signer::generate().unwrap();
    forge.lab.trust(&other, "web-2", &["host", "verify", "prune"]);
    let record = forge.own_record(&other, 1);
    forge.put_record(&record, &other);
    untrusted(&forge, &record, "its key is not one of that host");
}

#[track_caller]
fn untrusted(forge: &Forge, record: &Record, why: &str) {
    let id = record.snapshot.as_str();
    forge.lab.run(&["list"]).expect(0, &[id, "UNTRUSTED"]);
    forge.lab.refused(&[id], &[id, "is not trusted", why]);
    forge.lab.run(&["cat", id, "app/a"]).expect(13, &[id, why]);
    forge.lab.run(&["ls", id]).expect(13, &[id, why]);
    // Its own id, and saying so: nothing less.
    let (ran, found) = forge.lab.restore(&[id, "--accept-untrusted"]);
    ran.expect(0, &[id]);
    assert!(found.is_some());
    for choosing in ["latest", "@-0s"] {
        let (ran, _) = forge.lab.restore(&[choosing, "--accept-untrusted"]);
        ran.expect(0, &[&forge.ids[1]]);
        assert!(!ran.text().contains(id), "{choosing} chose it: {}", ran.text());
    }
    forge.restores("latest");
}

/// Documents that are none: named, passed over, and `latest` is still known.
#[test]
fn documents_that_fail_a_check_are_named_and_used_for_nothing() {
    let forge = Forge::new();
    let signer = forge.lab.signer();
    let sound = fs::read(forge.lab.object(&forge.record_key(1))).unwrap();
    let (line, signature) = document::split(&sound).unwrap();
    let record = forge.own_record(&signer, 1);
    let value = serde_json::to_value(&record).unwrap();
    let id = &record.snapshot;
    let key = Key::Record(id.clone());
    let path = forge.lab.object(&key);
    let sign = |record: &Record, namespace| seal_document(record, &signer, namespace).unwrap().0;
    let mut tampered: Value = serde_json::from_slice(line).unwrap();
    tampered["snapshot"] = id.as_str().into();
    let mut elsewhere = record.clone();
    elsewhere.vault = VaultId::from_random([9; 17]);
    let mut large = record.clone();
    large.components[0].size = u64::MAX;
    let mut twice = record.clone();
    twice.objects.push(twice.objects[0]);
    let mut backdated = record.clone();
    backdated.started -= jiff::SignedDuration::from_hours(1);
    let mut stolen = value.clone();
    stolen["signer"] = Signer::generate().unwrap().id().to_string().into();
    let armored = |value: &Value| {
        let line = document::line_of(value).unwrap();
        document::join(&line, &signer.sign(namespace::RECORD, &line).unwrap())
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("unsigned", document::line_of(&record).unwrap(), "last line does not end"),
        (
            "unsigned, one line break more",
            [document::line_of(&record).unwrap(), b"\n".to_vec()].concat(),
            "not exactly one",
        ),
        (
            "an old signature",
            document::join(&document::line_of(&tampered).unwrap(), signature),
            "does not fit",
        ),
        ("two signatures", [&sound[..], signature.as_bytes()].concat(), "not exactly one"),
        ("the signature of a mark", sign(&record, namespace::MARK), "\"backstay-mark-1\""),
        ("the signature of a tombstone", sign(&record, namespace::TOMBSTONE), "\"backstay-tombstone-1\""),
        ("of another vault", sign(&elsewhere, namespace::RECORD), "belongs to another vault"),
        ("a signer that did not sign", armored(&stolen), "it names signer"),
        ("replayed under a new id", sound.clone(), "under another name"),
        ("huge numbers", sign(&large, namespace::RECORD), "too large"),
        ("an object listed twice", sign(&twice, namespace::RECORD), "lists an object twice"),
        ("of another second than its id", sign(&backdated, namespace::RECORD), "of another time"),
        ("a mark in its place", fs::read(forge.lab.object(&forge.mark_key(2))).unwrap(), "it is a \"mark\""),
        ("no JSON", b"{}\n".to_vec(), "missing field"),
        ("nothing", Vec::new(), "does not end"),
    ];
    for (case, bytes, words) in &cases {
        println!("{case}");
        put(&path, bytes);
        forge.lab.refused(&[id.as_str()], &[&key.to_string(), words]);
        forge.lab.refused(&[id.as_str(), "--accept-untrusted"], &[&key.to_string()]);
        forge.lab.run(&["list"]).expect(13, &["DAMAGED", &key.to_string(), words]);
        forge.restores("latest").expect(0, &[&key.to_string(), "passed over"]);
    }
    forge.remove(&key);
    // The same mark under another number.
    let copy = forge.mark_key(99);
    fs::copy(forge.lab.object(&forge.mark_key(2)), forge.lab.object(&copy)).unwrap();
    forge.lab.run(&["list"]).expect(13, &["DAMAGED", &copy.to_string(), "under another name"]);
    forge.restores("latest");
    forge.remove(&copy);
    // More than a document may have; it takes no room.
    File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    forge.lab.run(&["list"]).expect(13, &["DAMAGED", &key.to_string(), "too large"]);
    forge.restores("latest");
}

/// `ssh-keygen`'s signatures by other kinds of keys.
#[test]
fn signatures_by_rsa_and_ecdsa_keys_are_damage() {
    let forge = Forge::new();
    let record = forge.own_record(&forge.lab.signer(), 1);
    let line = document::line_of(&record).unwrap();
    for kind in ["rsa", "ecdsa"] {
        let key = forge.lab.path(kind);
        let keygen = |args: &[&str]| {
            let mut command = Command::new("ssh-keygen");
            command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let (key, text) = (key.to_str().unwrap(), forge.lab.path("line"));
        if !keygen(&["-q", "-t", kind, "-N", "", "-f", key]) {
            println!("not run: ssh-keygen makes no {kind} key here");
            continue;
        }
        fs::write(&text, &line).unwrap();
        assert!(keygen(&["-Y", "sign", "-f", key, "-n", namespace::RECORD, text.to_str().unwrap()]));
        let signature = fs::read_to_string(forge.lab.path("line.sig")).unwrap();
        fs::remove_file(forge.lab.path("line.sig")).unwrap();
        let at = Key::Record(record.snapshot.clone());
        put(&forge.lab.object(&at), &document::join(&line, &signature));
        let ran = forge.lab.refused(&[record.snapshot.as_str()], &[&at.to_string(), "signature"]);
        let said = ["not by an Ed25519 key", "the SSH signature cannot be read"];
        assert!(said.iter().any(|words| ran.err.contains(words)), "{kind}: {}", ran.err);
        forge.lab.refused(&[record.snapshot.as_str(), "--accept-untrusted"], &[&at.to_string()]);
        forge.restores("latest");
    }
}

#[test]
fn hidden_entries_are_noticed_and_named_snapshots_still_come_back() {
    let signer = |forge: &Forge| forge.lab.signer().id().to_string();
    // The newest record alone; its verdict stays.
    let forge = Forge::new();
    forge.remove(&forge.record_key(1));
    forge.no_latest(&[&signer(&forge), "has a gap: entry 3 is missing"], &[&forge.ids[0]]);
    let (ran, _) = forge.lab.restore(&[&forge.ids[1]]);
    ran.expect(16, &[&forge.ids[1]]);
    // Also one that never saw more.
    fs::remove_dir_all(forge.lab.state()).unwrap();
    forge.no_latest(&["has a gap: entry 3 is missing"], &[&forge.ids[0]]);

    // The record and its verdict.
    let forge = Forge::new();
    forge.remove(&forge.record_key(1));
    forge.remove(&forge.mark_key(4));
    let words = ["was rolled back: entry 4 was seen before, now the last is 2"];
    forge.no_latest(&words, &[&forge.ids[0]]);
    // A backup is still made, and says what is missing.
    forge.lab.run(&["backup"]).expect(13, &words);

    // Everything newer than the first record.
    let forge = Forge::new();
    for key in [forge.record_key(1), forge.mark_key(4), forge.mark_key(2)] {
        forge.remove(&key);
    }
    forge.no_latest(&["entry 4 was seen before, now the last is 1"], &[&forge.ids[0]]);

    // Everything.
    let forge = Forge::new();
    for key in [forge.record_key(0), forge.record_key(1), forge.mark_key(4), forge.mark_key(2)] {
        forge.remove(&key);
    }
    forge.no_latest(&["entry 4 was seen before, now the last is 0"], &[]);

    // Only the verdict on the first: nothing is lost, and yet somebody was there.
    let forge = Forge::new();
    forge.remove(&forge.mark_key(2));
    forge.no_latest(&["has a gap: entry 2 is missing"], &[&forge.ids[0], &forge.ids[1]]);
}

#[test]
fn forks_gaps_and_rewritten_entries_are_noticed() {
    let (first, hash) = (|forge: &Forge| forge.lab.record(&forge.ids[1]), ObjectId::of(b"x"));
    type Change = (&'static str, fn(&mut Record, &Record, ObjectId), &'static str);
    let changes: [Change; 4] = [
        (
            "a fork",
            |r, like, _| (r.number, r.previous) = (like.number, like.previous),
            "is forked: 2 entries have number 3",
        ),
        ("a gap", |r, _, _| r.number += 1, "has a gap: entry 5 is missing"),
        ("a long gap", |r, _, _| r.number = (1 << 53) - 1, "has a gap: entries 5 to"),
        ("another past", |r, _, hash| r.previous = Some(hash), "entry 5 follows on another entry"),
    ];
    for (place, (case, change, words)) in changes.iter().enumerate() {
        println!("{case}");
        let forge = Forge::new();
        let signer = forge.lab.signer();
        let mut record = forge.own_record(&signer, place as u8);
        change(&mut record, &first(&forge), hash);
        forge.put_record(&record, &signer);
        forge.no_latest(&[&signer.id().to_string(), words], &[&forge.ids[0], &forge.ids[1]]);
    }
    // The newest entries exchanged for others that hang together.
    let forge = Forge::new();
    let signer = forge.lab.signer();
    forge.remove(&forge.record_key(1));
    let mark = fs::read(forge.lab.object(&forge.mark_key(4))).unwrap();
    forge.remove(&forge.mark_key(4));
    let mut record = forge.lab.record(&forge.ids[0]);
    let head = forge.head(&signer).unwrap();
    (record.number, record.previous) = (3, Some(head.1));
    record.snapshot = SnapshotId::new(record.started, [7; 5]);
    forge.reindex(&mut record, |_| {});
    let hash = forge.put_record(&record, &signer);
    let mut mark: Mark = document::parse(document::split(&mark).unwrap().0, "mark").unwrap();
    mark.previous = Some(hash);
    forge.put_mark(&mark, &signer);
    forge.no_latest(&["was rewritten: entry 4 is not the one seen before"], &[&forge.ids[0]]);
}

#[test]
fn a_void_by_a_stranger_hides_nothing() {
    let forge = Forge::new();
    let stranger = Signer::generate().unwrap();
    let record = forge.lab.record(&forge.ids[1]);
    let line = fs::read(forge.lab.object(&forge.record_key(1))).unwrap();
    let target =
        Target { snapshot: record.snapshot.clone(), record: ObjectId::of(document::split(&line).unwrap().0) };
    let mark = Mark {
        format: 1,
        needs: Vec::new(),
        doc: "mark".into(),
        vault: record.vault.clone(),
        host: record.host,
        signer: stranger.id(),
        number: 1,
        previous: None,
        time: record.finished,
        agent: "x".into(),
        statement: Statement::Void { target, instance: None, reason: "hidden".into() },
    };
    forge.put_mark(&mark, &stranger);
    forge.lab.run(&["list"]).expect(0, &[&forge.ids[1]]);
    forge.restores("latest");
    // By its own signer it counts, for that snapshot alone.
    let signer = forge.lab.signer();
    let (number, hash) = forge.head(&signer).unwrap();
    let own = Mark { signer: signer.id(), number: number + 1, previous: Some(hash), ..mark };
    forge.put_mark(&own, &signer);
    let (ran, found) = forge.lab.restore(&["latest"]);
    ran.expect(0, &[&forge.ids[0]]);
    assert!(found.is_some());
    forge.lab.refused(&[&forge.ids[1]], &[&forge.ids[1], "is void: hidden"]);
}

#[test]
fn a_tombstone_that_cannot_be_read_stops_a_commit_and_nothing_else() {
    let forge = Forge::new();
    let key = Key::Tombstone(SnapshotId::new(jiff::Timestamp::UNIX_EPOCH, [3; 5]));
    put(&forge.lab.object(&key), b"garbage\n");
    forge.restores("latest");
    let before = tree(&forge.lab.store().join("snapshots"));
    let ran = forge.lab.run(&["backup"]);
    assert!([1, 13].contains(&ran.code), "{}", ran.text());
    assert!(ran.text().contains(&key.to_string()), "{}", ran.text());
    assert_eq!(tree(&forge.lab.store().join("snapshots")), before);
    forge.remove(&key);
    forge.lab.run(&["backup"]).expect(0, &[]);
}

/// Who lost its memory begins anew, and takes what it is shown; a kit that was made before still knows better.
#[test]
fn a_store_that_was_rolled_back_is_noticed_through_the_kit_when_the_memory_is_lost() {
    let forge = Forge::new();
    let old_kit = forge.lab.path("kit.txt");
    forge.lab.run_kit(&["restore", "latest", "--to", forge.lab.path("out").to_str().unwrap()]).expect(0, &[]);
    fs::remove_file(&old_kit).unwrap();
    forge.lab.run(&["kit", "-o", old_kit.to_str().unwrap()]).expect(0, &[]);
    forge.lab.run_kit(&["list"]).expect(0, &[&forge.ids[1]]);
    forge.remove(&forge.record_key(1));
    forge.remove(&forge.mark_key(4));
    fs::remove_file(forge.lab.state().join("heads.json")).unwrap();
    // First run again: nobody can know.
    forge.lab.run(&["list"]).expect(0, &[&forge.ids[0]]);
    forge.restores(&forge.ids[0]);
    let words = ["was rolled back: entry 4 was seen before, now the last is 2"];
    let to = forge.lab.path("never");
    let restore = |id: &str| forge.lab.run_kit(&["restore", id, "--to", to.to_str().unwrap()]);
    restore("latest").expect(13, &words);
    assert!(!to.exists());
    forge.lab.run_kit(&["list"]).expect(13, &words);
    restore(&forge.ids[0]).expect(0, &[&forge.ids[0]]);
}

#[test]
fn a_memory_that_cannot_be_read_or_knows_more_is_said() {
    let forge = Forge::new();
    let heads = forge.lab.state().join("heads.json");
    let sound = fs::read_to_string(&heads).unwrap();
    fs::write(&heads, "{").unwrap();
    forge.lab.refused(&["latest"], &["heads.json"]);
    fs::write(&heads, sound.replace("\"number\": 4", "\"number\": 9")).unwrap();
    forge.no_latest(&["entry 9 was seen before, now the last is 4"], &[&forge.ids[0], &forge.ids[1]]);
    let other = ObjectId::of(b"other").to_string();
    let start = sound.find("\"hash\": \"").unwrap() + 9;
    let known = &sound[start..start + 64];
    fs::write(&heads, sound.replace(known, &other)).unwrap();
    forge.no_latest(&["entry 4 is not the one seen before"], &[&forge.ids[0], &forge.ids[1]]);
}

#[test]
fn an_exchanged_store_is_refused_and_a_copied_one_only_read() {
    let forge = Forge::new();
    let copy = forge.lab.path("copy");
    copy_dir(&forge.lab.store(), &copy);
    // A copy is read when it is named by its path (a rescued disk), and never written.
    let copied = copy.to_str().unwrap();
    forge.lab.run(&["--store", copied, "list"]).expect(0, &[&forge.ids[0]]);
    forge.lab.run(&["--store", copied, "backup"]).expect(2, &["is not the store of the configuration"]);
    // Another store of the same vault in its place.
    let path = forge.lab.object(&Key::Store);
    let sound = fs::read(&path).unwrap();
    let mut info: Value = serde_json::from_slice(&sound).unwrap();
    let other = VaultId::from_random([5; 17]).to_string();
    info["instance"] = other.clone().into();
    fs::write(&path, document::line_of(&info).unwrap()).unwrap();
    forge.lab.refused(&["latest"], &["backstay.json", &other]);
    // A store of another vault.
    info["vault"] = other.into();
    fs::write(&path, document::line_of(&info).unwrap()).unwrap();
    forge.lab.refused(&["latest"], &["backstay.json", "belongs to another vault"]);
    forge.lab.run(&["backup"]).expect(13, &["belongs to another vault"]);
    fs::write(&path, sound).unwrap();
    forge.restores("latest");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let (from, to) = (item.path(), to.join(item.file_name()));
        if item.file_type().unwrap().is_dir() {
            copy_dir(&from, &to);
        } else {
            fs::copy(from, to).map(drop).unwrap();
        }
    }
}

#[test]
fn a_store_with_nothing_but_documents_that_cannot_be_used_is_damage_and_not_empty() {
    let project = |dir: &Path| put(&dir.join("app/a"), b"x");
    let lab = Lab::new(project, "component = [{ name = \"app\", path = \"app\" }]");
    let key = Key::Record(SnapshotId::new(jiff::Timestamp::UNIX_EPOCH, [3; 5]));
    put(&lab.object(&key), b"garbage\n");
    lab.refused(&["latest"], &[&key.to_string()]);
    fs::remove_file(lab.object(&key)).unwrap();
    let (ran, _) = lab.restore(&["latest"]);
    ran.expect(16, &[]);
}

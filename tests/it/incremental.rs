//! Later snapshots: what is not stored again, and what must be.

use crate::lab::{Lab, noise, put, tree};
use backstay::catalog::known::{Expected, Loaded, load};
use backstay::keys::signed::seal_document;
use backstay::model::document::{self, namespace};
use backstay::model::mark::Tombstone;
use backstay::model::{Kind, ObjectId, ObjectKind, Record};
use backstay::store::Key;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";

fn files(project: &Path) {
    for n in 0..40 {
        put(&project.join(format!("app/d{}/f{n}", n % 5)), &noise(n, 3000 + n as usize));
    }
    std::os::unix::fs::symlink("d1/f1", project.join("app/link")).unwrap();
    fs::hard_link(project.join("app/d1/f1"), project.join("app/d1/hard")).unwrap();
    fs::create_dir(project.join("app/empty")).unwrap();
}

fn lab() -> Lab {
    Lab::new(files, APP)
}

fn snapshot(report: &serde_json::Value) -> String {
    report["snapshot"].as_str().unwrap().to_owned()
}

fn objects(record: &Record, kind: ObjectKind) -> BTreeSet<String> {
    record.objects.iter().filter(|o| o.kind == kind).map(|o| o.id.to_string()).collect()
}

/// Fails unless restoring `id` gives the live tree of component `app`.
#[track_caller]
fn same_as_live(lab: &Lab, id: &str) {
    let (ran, found) = lab.restore(&[id]);
    ran.expect(0, &[]);
    let live = tree(&lab.path("project/app"));
    let found = found.unwrap();
    let app: Vec<_> = found.iter().filter_map(|(p, n)| Some((p.strip_prefix("app").ok()?, n))).collect();
    let app: Vec<_> = app.into_iter().filter(|(p, _)| !p.as_os_str().is_empty()).collect();
    let live: Vec<_> = live.iter().map(|(p, n)| (p.as_path(), n)).collect();
    assert!(app == live, "the restored tree differs");
}

#[test]
fn when_nothing_changed_no_archive_and_no_segment_is_stored_again() {
    let lab = lab();
    let first = lab.backup_settled(&[]);
    let keys = lab.keys().len();
    let second = lab.backup_settled(&[]);
    // The index, the record, the verdict, and that of the older proofs.
    assert_eq!(lab.keys().len(), keys + 4);
    assert_eq!(second["objects"], 1);
    let (one, two) = (lab.record(&snapshot(&first)), lab.record(&snapshot(&second)));
    assert!(one.alone && !two.alone);
    assert_eq!(objects(&one, ObjectKind::Archive), objects(&two, ObjectKind::Archive));
    assert_eq!(two.components[0].entries, one.components[0].entries);
    assert_eq!(two.components[0].size, one.components[0].size);
    assert!(second["good"].as_bool().unwrap(), "{second}");
    same_as_live(&lab, "latest");
    lab.run(&["list"]).expect(0, &["good"]);
}

#[test]
fn what_changed_is_stored_and_the_rest_referred_to() {
    let lab = lab();
    let first = lab.backup_settled(&[]);
    fs::write(lab.path("project/app/d2/f7"), b"changed").unwrap();
    fs::remove_file(lab.path("project/app/d3/f8")).unwrap();
    put(&lab.path("project/app/d9/new"), b"new");
    fs::remove_file(lab.path("project/app/link")).unwrap();
    std::os::unix::fs::symlink("d2", lab.path("project/app/link")).unwrap();
    let second = lab.backup_settled(&[]);
    let (one, two) = (lab.record(&snapshot(&first)), lab.record(&snapshot(&second)));
    let (one, two) = (objects(&one, ObjectKind::Archive), objects(&two, ObjectKind::Archive));
    assert!(two.is_superset(&one) && two.len() == one.len() + 1);
    assert!(second["stored_bytes"].as_u64().unwrap() < 20_000, "{second}");
    assert!(second["reused_bytes"].as_u64().unwrap() > 100_000, "{second}");
    same_as_live(&lab, "latest");
    let third = lab.backup_settled(&[]);
    assert_eq!(third["objects"], 1, "{third}");
    same_as_live(&lab, "latest");
}

/// Of how many files the catalog says where they lie after snapshot `id`, and of how many of them equal times are taken for equal bytes.
fn believed(lab: &Lab, id: &str) -> (usize, usize) {
    let bytes = fs::read(lab.object(&Key::Record(id.parse().unwrap()))).unwrap();
    let (record, hash) = (lab.record(id), ObjectId::of(document::split(&bytes).unwrap().0));
    let expected = Expected { vault: &record.vault, host: &record.host, record: &hash };
    let Loaded::Usable(known) = load(&lab.state().join("catalog.db"), &expected, |_| true) else {
        panic!("the catalog is not of this snapshot");
    };
    let opened = known.components.values().flatten().map(|stretch| stretch.open().unwrap());
    let rows = opened.flat_map(|stretch| stretch.rows().map(|row| (row.kind, row.safe)).collect::<Vec<_>>());
    let safe: Vec<bool> = rows.filter(|(kind, _)| *kind == Kind::File).map(|(_, safe)| safe).collect();
    (safe.len(), safe.iter().filter(|safe| **safe).count())
}

/// That a change without any trace in the times is found: `what_is_written_through_a_mapping_without_its_times_telling_is_in_the_next_snapshot`.
#[test]
fn times_are_believed_of_what_was_read_a_minute_after_its_last_change_and_of_nothing_else() {
    let lab = lab();
    let app = lab.path("project/app");
    let paths = tree(&app).into_keys();
    let changed = paths.map(|path| fs::symlink_metadata(app.join(path)).unwrap().ctime()).max().unwrap();
    let backup = |seconds: i64| {
        let time = jiff::Timestamp::from_second(changed + seconds).unwrap();
        let ran = lab.run_with(&["--json", "backup"], &[("BACKSTAY_TEST_NOW", &*time.to_string())]);
        ran.expect(0, &[]);
        let report: serde_json::Value = serde_json::from_slice(&ran.out).unwrap();
        (report["objects"].as_u64().unwrap(), believed(&lab, &snapshot(&report)))
    };
    assert_eq!(backup(20).1, (41, 0));
    assert_eq!(backup(40), (1, (41, 0)), "read again, not stored again, and still too early");
    // Had one been taken for what it was, its row would say what it said.
    assert_eq!(backup(70), (1, (41, 41)), "read again, not stored again, and known from now on");
    same_as_live(&lab, "latest");
}

#[test]
fn a_file_changed_with_its_times_set_back_is_noticed_by_its_change_time() {
    let lab = lab();
    lab.backup_settled(&[]);
    let path = lab.path("project/app/d0/f5");
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, noise(999, 3005)).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    lab.backup_settled(&[]);
    same_as_live(&lab, "latest");
}

/// A backup that finds older snapshots damaged.
fn damaged(lab: &Lab) -> serde_json::Value {
    let ran = lab.run_with(&["--json", "backup"], &[("BACKSTAY_TEST_SETTLE_MS", "0")]);
    ran.expect(13, &["missing or of another size"]);
    serde_json::from_slice(&ran.out).unwrap()
}

#[test]
fn an_archive_that_is_lost_cut_or_doomed_is_not_referred_to() {
    type Harm = fn(&Path);
    let lost: Harm = |path| fs::remove_file(path).unwrap();
    let cut: Harm = |path| {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        fs::write(path, &bytes[1..]).unwrap();
    };
    for harm in [lost, cut] {
        let lab = lab();
        let first = lab.backup_settled(&[]);
        let record = lab.record(&snapshot(&first));
        let archive = record.objects.iter().find(|o| o.kind == ObjectKind::Archive).unwrap().id;
        harm(&lab.object(&Key::Archive(archive)));
        let second = damaged(&lab);
        let two = lab.record(&snapshot(&second));
        assert!(two.object(&archive).is_none());
        same_as_live(&lab, "latest");
    }
    let lab = lab();
    let record = lab.record(&snapshot(&lab.backup_settled(&[])));
    let archive = record.objects.iter().find(|o| o.kind == ObjectKind::Archive).unwrap().id;
    doom(&lab, &record, archive);
    // It is there still, and nothing is wrong with it.
    let second = lab.backup_settled(&[]);
    assert!(lab.record(&snapshot(&second)).object(&archive).is_none());
    same_as_live(&lab, "latest");
}

/// A prune is about to delete `object`.
fn doom(lab: &Lab, record: &Record, object: ObjectId) {
    let info: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.store().join("backstay.json")).unwrap()).unwrap();
    let tombstone = Tombstone {
        format: 1,
        needs: vec![],
        doc: "tombstone".into(),
        vault: record.vault.clone(),
        instance: info["instance"].as_str().unwrap().parse().unwrap(),
        id: record.snapshot.clone(),
        signer: record.signer,
        created: jiff::Timestamp::now(),
        not_before: jiff::Timestamp::now(),
        snapshots: vec![],
        objects: vec![(ObjectKind::Archive, object)],
    };
    let (bytes, _) = seal_document(&tombstone, &lab.signer(), namespace::TOMBSTONE).unwrap();
    put(&lab.object(&Key::Tombstone(tombstone.id.clone())), &bytes);
}

#[test]
fn a_lost_segment_is_written_again() {
    let lab = lab();
    let first = lab.backup_settled(&[]);
    let record = lab.record(&snapshot(&first));
    let index = record.index;
    for object in record.objects.iter().filter(|o| o.kind == ObjectKind::Manifest && Some(o.id) != index) {
        fs::remove_file(lab.object(&Key::Manifest(object.id))).unwrap();
    }
    let second = damaged(&lab);
    assert_eq!(second["objects"], 2, "a segment and the index: {second}");
    same_as_live(&lab, "latest");
}

#[test]
fn a_new_recipient_gets_everything_packed_anew() {
    let lab = lab();
    lab.backup_settled(&[]);
    let (_, other) = backstay::keys::identity::generate();
    let mut config = lab.config();
    config["encryption"]["recipients"].as_array_mut().unwrap().push(other.into());
    lab.set_config(&config);
    let second = lab.backup_settled(&[]);
    let two = lab.record(&snapshot(&second));
    assert!(two.alone);
    assert_eq!(second["reused_bytes"], 0);
    let third = lab.backup_settled(&[]);
    assert_eq!(third["objects"], 1, "and then it is referred to: {third}");
    same_as_live(&lab, "latest");
}

#[test]
fn a_catalog_that_is_lost_stale_or_damaged_costs_time_and_nothing_else() {
    let lab = lab();
    lab.backup_settled(&[]);
    let path = lab.state().join("catalog.db");
    let stale = fs::read(&path).unwrap();
    fs::write(lab.path("project/app/d2/f7"), b"changed").unwrap();
    lab.backup_settled(&[]);
    let harms: [&dyn Fn(); 3] =
        [&|| fs::remove_file(&path).unwrap(), &|| fs::write(&path, &stale).unwrap(), &|| {
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle..].fill(0x5a);
            fs::write(&path, bytes).unwrap();
        }];
    for harm in harms {
        harm();
        let report = lab.backup_settled(&[]);
        assert_eq!(report["objects"], 1, "{report}");
        same_as_live(&lab, "latest");
        let next = lab.backup_settled(&[]);
        assert_eq!(next["objects"], 1, "{next}");
    }
}

#[test]
fn a_state_folder_that_was_copied_to_another_tree_costs_time_only() {
    let lab = lab();
    lab.backup_settled(&[]);
    // The same names, sizes and modification times, other inodes and other bytes.
    fs::rename(lab.path("project/app"), lab.path("project/old")).unwrap();
    for (path, node) in tree(&lab.path("project/old")) {
        let (from, to) = (lab.path("project/old").join(&path), lab.path("project/app").join(&path));
        if let crate::lab::Node::File(_, content) = node {
            put(&to, &noise(content.len() as u64 + 7, content.len()));
            let times = fs::metadata(&from).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&to).unwrap().set_modified(times).unwrap();
        }
    }
    lab.backup_settled(&[]);
    same_as_live(&lab, "latest");
}

#[test]
fn components_that_are_not_asked_for_stay_known() {
    let two = format!("{APP}[[component]]\nname = \"etc\"\npath = \"etc\"\n");
    let lab = Lab::new(
        |project| {
            files(project);
            put(&project.join("etc/conf"), &noise(5, 50_000));
        },
        &two,
    );
    lab.backup_settled(&[]);
    lab.backup_settled(&["--only", "etc"]);
    let third = lab.backup_settled(&[]);
    assert_eq!(third["objects"], 1, "{third}");
}

#[test]
fn only_new_objects_are_covered_and_the_snapshot_is_good() {
    let lab = lab();
    lab.backup_settled(&[]);
    fs::write(lab.path("project/app/d2/f7"), b"changed").unwrap();
    let second = lab.backup_settled(&[]);
    let record = lab.record(&snapshot(&second));
    let marks: Vec<Key> = lab.keys().into_iter().filter(|k| matches!(k, Key::Mark(..))).collect();
    let text = fs::read_to_string(lab.object(marks.iter().max().unwrap())).unwrap();
    let mark: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let rows = mark["covered"].as_array().unwrap();
    let covered: u64 = rows.iter().map(|r| r[1].as_u64().unwrap() - r[0].as_u64().unwrap()).sum();
    assert_eq!(covered, second["objects"].as_u64().unwrap());
    assert!(covered < record.objects.len() as u64);
    assert!(second["good"].as_bool().unwrap());
}

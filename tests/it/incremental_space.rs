//! What is packed again, so that space comes free and no snapshot hangs on very many little archives; what is packed in full; what a lost catalog and lost or damaged objects
//! cost.

use crate::lab::{Lab, Node, Ran, noise, put, tree};
use backstay::keys::signed::seal_document;
use backstay::model::document::{self, namespace};
use backstay::model::mark::{Level, Mark, Statement, Target, Verdict};
use backstay::model::{ObjectId, ObjectKind, Record};
use backstay::store::Key;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";

fn files(project: &Path) {
    for n in 0..40 {
        put(&project.join(format!("app/d{}/f{n}", n % 5)), &noise(n, 30_000));
    }
    put(&project.join("app/large"), &noise(99, 3 << 20));
}

fn lab() -> Lab {
    Lab::new(files, APP)
}

/// A run of the program on a day after today.
fn on_day(lab: &Lab, day: i64, args: &[&str]) -> Ran {
    let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * day);
    let env = [("BACKSTAY_TEST_SETTLE_MS", "0"), ("BACKSTAY_TEST_NOW", &*time.to_string())];
    lab.run_with(args, &env)
}

/// A backup on a day after today.
fn backup_on(lab: &Lab, day: i64, args: &[&str], code: i32) -> serde_json::Value {
    let ran = on_day(lab, day, &[&["--json", "backup"], args].concat());
    ran.expect(code, &[]);
    serde_json::from_slice(&ran.out).unwrap()
}

fn three_days_on() -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(73)).to_string()
}

fn record_of(lab: &Lab, report: &serde_json::Value) -> Record {
    lab.record(report["snapshot"].as_str().unwrap())
}

fn archives(record: &Record) -> BTreeSet<String> {
    let archives = record.objects.iter().filter(|o| o.kind == ObjectKind::Archive);
    archives.map(|o| o.id.to_string()).collect()
}

#[track_caller]
fn is_live(lab: &Lab, id: &str) {
    let (ran, found) = lab.restore(&[id]);
    ran.expect(0, &[]);
    let in_app = |path: &Path| path.starts_with("app") && path != Path::new("app");
    let found: Vec<_> = found.unwrap().into_iter().filter(|(path, _)| in_app(path)).collect();
    let live = tree(&lab.path("project/app")).into_iter();
    let live: Vec<(_, Node)> = live.map(|(path, node)| (Path::new("app").join(path), node)).collect();
    assert!(found == live, "the restored tree differs");
}

#[test]
fn what_is_left_in_a_half_empty_archive_is_packed_again_a_quarter_a_run() {
    let lab = lab();
    let first = archives(&record_of(&lab, &lab.backup_settled(&[])));
    assert_eq!(first.len(), 1);
    // Of 4.3 MB in that archive 0.6 MB stay: 20 files.
    fs::remove_file(lab.path("project/app/large")).unwrap();
    put(&lab.path("project/app/other"), &noise(100, 3 << 20));
    for n in 0..20 {
        fs::remove_file(lab.path(&format!("project/app/d{}/f{n}", n % 5))).unwrap();
    }
    let second = record_of(&lab, &lab.backup_settled(&[]));
    assert!(archives(&second).is_superset(&first), "what is in use was not known before to be so little");
    let third = lab.backup_settled(&[]);
    let record = record_of(&lab, &third);
    assert!(archives(&record).is_disjoint(&first), "all of it fits into a quarter");
    let stored = third["stored_bytes"].as_u64().unwrap();
    assert!((600_000..700_000).contains(&stored), "{third:#}");
    is_live(&lab, "latest");
    let fourth = lab.backup_settled(&[]);
    assert_eq!(fourth["objects"], 1, "and then there is nothing more to do: {fourth:#}");
}

#[test]
fn not_more_than_a_quarter_of_a_component_is_packed_again_in_a_run() {
    let lab = Lab::new(
        |project| {
            for n in 0..200 {
                put(&project.join(format!("app/f{n}")), &noise(n, 100_000));
            }
        },
        APP,
    );
    let first = archives(&record_of(&lab, &lab.backup_settled(&[])));
    // 120 of 200 files are replaced: 8 MB stay in the first archive, of a component of 20 MB.
    for n in 0..120 {
        put(&lab.path(&format!("project/app/f{n}")), &noise(n + 1000, 100_000));
    }
    lab.backup_settled(&[]);
    let third = lab.backup_settled(&[]);
    let stored = third["stored_bytes"].as_u64().unwrap();
    assert!((4_500_000..5_200_000).contains(&stored), "a quarter of 20 MB: {third:#}");
    assert!(archives(&record_of(&lab, &third)).is_superset(&first));
    let fourth = lab.backup_settled(&[]);
    assert!(
        (2_500_000..3_500_000).contains(&fourth["stored_bytes"].as_u64().unwrap()),
        "the rest: {fourth:#}"
    );
    assert!(archives(&record_of(&lab, &fourth)).is_disjoint(&first));
    is_live(&lab, "latest");
    assert_eq!(lab.backup_settled(&[])["objects"], 1);
}

#[test]
fn a_component_never_hangs_on_many_archives() {
    let lab = lab();
    lab.backup_settled(&[]);
    let mut most = 0;
    for n in 0..42 {
        put(&lab.path(&format!("project/app/d{}/f{}", n % 5, n % 40)), &noise(5000 + n, 20_000));
        let record = record_of(&lab, &lab.backup_settled(&[]));
        most = most.max(archives(&record).len());
    }
    // The base, 32 deltas, and the one of the run that notices.
    assert!((30..=34).contains(&most), "{most} archives");
    is_live(&lab, "latest");
    lab.backup_settled(&[]);
    let last = lab.backup_settled(&[]);
    assert_eq!(last["objects"], 1, "and then there is nothing more to do: {last:#}");
    assert!(archives(&record_of(&lab, &last)).len() <= 33);
}

#[test]
fn however_many_full_archives_there_are_a_run_without_a_change_stores_nothing() {
    let lab = Lab::new(files, &format!("packing = {{ archive_size = \"1MiB\" }}\n{APP}"));
    lab.backup_settled(&[]);
    let add = |name: &str, seed: u64| put(&lab.path("project/app/more").join(name), &noise(seed, 1 << 20));
    for n in 0..40 {
        add(&format!("f{n}"), 3000 + n);
    }
    let second = record_of(&lab, &lab.backup_settled(&[]));
    assert!(archives(&second).len() > 40);
    for _ in 0..3 {
        let report = lab.backup_settled(&[]);
        assert_eq!(report["objects"], 1, "nothing changed: {report:#}");
    }
    // And what is added each day is all that is stored.
    for day in 0..4 {
        for n in 0..2 {
            add(&format!("day{day}.{n}"), 4000 + day * 2 + n);
        }
        let report = lab.backup_settled(&[]);
        assert!(report["stored_bytes"].as_u64().unwrap() < (2 << 20) + 100_000, "day {day}: {report:#}");
    }
    assert_eq!(lab.backup_settled(&[])["objects"], 1);
    is_live(&lab, "latest");
}

#[test]
fn a_component_stands_alone_again_as_often_as_the_configuration_says() {
    let lab = Lab::new(files, &format!("{APP}full_every = \"7d\"\n"));
    assert!(record_of(&lab, &backup_on(&lab, 0, &[], 0)).alone);
    for (day, alone) in [(3, false), (6, false), (7, true), (8, false), (13, false), (14, true)] {
        let record = record_of(&lab, &backup_on(&lab, day, &[], 0));
        assert_eq!(record.alone, alone, "day {day}");
    }
    assert!(!record_of(&lab, &backup_on(&lab, 15, &[], 0)).alone);
    assert!(record_of(&lab, &backup_on(&lab, 16, &["--full"], 0)).alone);
    assert!(!record_of(&lab, &backup_on(&lab, 22, &[], 0)).alone, "asked for by hand counts, too");
    assert!(record_of(&lab, &backup_on(&lab, 23, &[], 0)).alone);
    is_live(&lab, "latest");
}

/// Of each snapshot, the oldest first, whether it is a milestone.
fn milestones(lab: &Lab) -> Vec<bool> {
    let ran = on_day(lab, 5, &["--json", "list"]);
    let list: serde_json::Value = serde_json::from_slice(&ran.expect(0, &[]).out).unwrap();
    list["snapshots"].as_array().unwrap().iter().map(|row| row["milestone"].as_bool().unwrap()).collect()
}

#[test]
fn a_milestone_that_stands_alone_is_made_by_one_command() {
    let lab = lab();
    let first = record_of(&lab, &backup_on(&lab, 0, &[], 0));
    put(&lab.path("project/app/new"), &noise(7, 300_000));
    let second = record_of(&lab, &backup_on(&lab, 3, &[], 0));
    assert!(!second.alone && !archives(&first).is_disjoint(&archives(&second)), "it hangs on the first");
    let ran = on_day(&lab, 4, &["--json", "milestone", "--standalone"]);
    let made: serde_json::Value = serde_json::from_slice(&ran.expect(0, &[]).out).unwrap();
    let third = record_of(&lab, &made);
    assert!(third.alone && third.milestone && third.number > second.number);
    for older in [&first, &second] {
        assert!(archives(&third).is_disjoint(&archives(older)), "it needs an archive of {}", older.snapshot);
    }
    // What is told is what `backup` tells.
    assert_eq!((&made["good"], &made["reused_bytes"]), (&true.into(), &0.into()), "{made:#}");
    let shown = on_day(&lab, 5, &["--json", "show", "latest"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.expect(0, &[]).out).unwrap();
    assert_eq!((&shown["id"], &shown["depends_on"]), (&made["snapshot"], &serde_json::json!([])));
    assert_eq!(milestones(&lab), [false, false, true]);
    is_live(&lab, "latest");
}

#[test]
fn an_existing_snapshot_is_made_a_milestone_that_stands_alone_only_if_it_does() {
    let lab = lab();
    let first = record_of(&lab, &backup_on(&lab, 0, &[], 0)).snapshot.to_string();
    put(&lab.path("project/app/new"), &noise(7, 300_000));
    let second = record_of(&lab, &backup_on(&lab, 3, &[], 0)).snapshot.to_string();
    let what = format!("error: snapshot {second} does not stand alone");
    let refused = [
        what.as_str(),
        "caused by: ",
        "it needs an archive of one of them",
        "the live files, which may be others by now",
        "hint: `backstay milestone --standalone` makes one now",
    ];
    on_day(&lab, 4, &["milestone", &second, "--standalone"]).expect(2, &refused);
    assert_eq!(milestones(&lab), [false, false], "nothing was marked");
    // The records say which stand alone: no identity is needed.
    let mut without = lab.config();
    without["encryption"].as_table_mut().unwrap().remove("identity_file");
    lab.set_config(&without);
    on_day(&lab, 4, &["milestone", &second, "--standalone"]).expect(2, &refused);
    on_day(&lab, 4, &["milestone", &first, "--standalone"]).expect(0, &["a milestone that stands alone"]);
    assert_eq!(milestones(&lab), [true, false]);
    // As the hint says, the other may be one all the same.
    on_day(&lab, 4, &["milestone", &second]).expect(0, &["a milestone: "]);
    assert_eq!(milestones(&lab), [true, true]);
}

#[test]
fn show_says_on_which_older_snapshots_one_hangs_and_the_plan_what_a_month_adds() {
    let lab = lab();
    let first = backup_on(&lab, 0, &[], 0);
    put(&lab.path("project/app/new"), &noise(7, 300_000));
    let second = backup_on(&lab, 3, &[], 0);
    let shown = lab.run(&["show", "latest", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.expect(0, &[]).out).unwrap();
    let on = shown["depends_on"].as_array().unwrap();
    assert_eq!(on.len(), 1);
    assert_eq!((&on[0]["snapshot"], &on[0]["archives"]), (&first["snapshot"], &1.into()));
    assert_eq!(on[0]["bytes"], second["reused_bytes"]);
    lab.run(&["show", "latest"]).expect(0, &["depends on", first["snapshot"].as_str().unwrap()]);
    let alone = lab.run(&["show", first["snapshot"].as_str().unwrap(), "--json"]);
    let alone: serde_json::Value = serde_json::from_slice(&alone.expect(0, &[]).out).unwrap();
    assert_eq!(alone["depends_on"], serde_json::json!([]));
    let plan = lab.run(&["backup", "--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&plan.expect(0, &[]).out).unwrap();
    let month = plan["growth"]["bytes_a_month"].as_u64().unwrap();
    let expected = second["stored_bytes"].as_u64().unwrap() * 10;
    assert!(month.abs_diff(expected) < 100, "three days of thirty: {plan:#}");
    lab.run(&["backup", "--dry-run"]).expect(0, &["a month"]);
    let doctor = lab.run_with(&["doctor", "--json"], &[("BACKSTAY_TEST_NOW", &*three_days_on())]);
    let doctor: serde_json::Value = serde_json::from_slice(&doctor.out).unwrap();
    let said =
        format!("at the pace of the last 3 days a month adds {:.1} MB to each store", month as f64 / 1e6);
    let told = |finding: &serde_json::Value| finding["what"].as_str().unwrap().starts_with(&said);
    assert!(doctor["findings"].as_array().unwrap().iter().any(told), "{said:?} is not in {doctor:#}");
}

fn without_identity(lab: &Lab) -> toml::Table {
    let config = lab.config();
    let mut without = config.clone();
    without["encryption"].as_table_mut().unwrap().remove("identity_file");
    lab.set_config(&without);
    config
}

#[test]
fn a_lost_catalog_is_made_again_with_an_identity_and_costs_a_full_pack_without() {
    let lab = lab();
    lab.backup_settled(&[]);
    fs::write(lab.path("project/app/d2/f7"), b"changed").unwrap();
    let second = lab.backup_settled(&[]);
    let catalog = lab.state().join("catalog.db");
    fs::remove_file(&catalog).unwrap();
    let third = lab.backup_settled(&[]);
    assert_eq!(third["objects"], 1, "nothing is stored again: {third:#}");
    assert_eq!(archives(&record_of(&lab, &third)), archives(&record_of(&lab, &second)));
    is_live(&lab, "latest");
    fs::remove_file(&catalog).unwrap();
    // Also when things changed meanwhile, in a large file, too.
    let large = fs::File::options().write(true).open(lab.path("project/app/large")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&large, b"changed", 1_000_000).unwrap();
    put(&lab.path("project/app/new"), b"new");
    let fourth = lab.backup_settled(&[]);
    assert!(fourth["stored_bytes"].as_u64().unwrap() < 60_000, "{fourth:#}");
    is_live(&lab, "latest");
    let config = without_identity(&lab);
    fs::remove_file(&catalog).unwrap();
    let fifth = lab.backup_settled(&[]);
    lab.set_config(&config);
    assert!(fifth["reused_bytes"] == 0 && record_of(&lab, &fifth).alone, "{fifth:#}");
    is_live(&lab, "latest");
}

#[test]
fn what_a_run_for_one_component_did_not_make_again_of_a_lost_catalog_a_later_one_does() {
    let lab = Lab::new(
        |project| {
            files(project);
            put(&project.join("etc/conf"), &noise(5, 50_000));
        },
        &format!("{APP}[[component]]\nname = \"etc\"\npath = \"etc\"\n"),
    );
    lab.backup_settled(&[]);
    fs::remove_file(lab.state().join("catalog.db")).unwrap();
    assert_eq!(lab.backup_settled(&["--only", "etc"])["objects"], 1);
    // Of a large file only what changed is stored, too.
    let large = fs::File::options().write(true).open(lab.path("project/app/large")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&large, b"changed", 1_000_000).unwrap();
    let third = lab.backup_settled(&[]);
    assert!(third["stored_bytes"].as_u64().unwrap() < 60_000, "{third:#}");
    is_live(&lab, "latest");
    let fourth = lab.backup_settled(&[]);
    assert_eq!(fourth["objects"], 1, "all of it is known again: {fourth:#}");
}

fn archive_of(lab: &Lab, report: &serde_json::Value) -> std::path::PathBuf {
    let record = record_of(lab, report);
    let archive = record.objects.iter().find(|o| o.kind == ObjectKind::Archive).unwrap().id;
    lab.object(&Key::Archive(archive))
}

fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_object_that_is_found_damaged_is_said_and_packed_anew() {
    let lab = lab();
    let first = backup_on(&lab, 0, &[], 0);
    let path = archive_of(&lab, &first);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    replace(&path, &bytes);
    // Of the same size: only reading tells. In time everything is read again.
    let mut found = 0;
    for day in [2, 4, 6, 8] {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * day);
        let env = [("BACKSTAY_TEST_SETTLE_MS", "0"), ("BACKSTAY_TEST_NOW", &*time.to_string())];
        let ran = lab.run_with(&["--json", "backup"], &env);
        if ran.code == 13 {
            found += 1;
            ran.expect(13, &["turned out to be damaged", first["snapshot"].as_str().unwrap()]);
            let report: serde_json::Value = serde_json::from_slice(&ran.out).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
            assert!(!archives(&record_of(&lab, &report)).contains(&name));
            is_live(&lab, report["snapshot"].as_str().unwrap());
        } else {
            ran.expect(0, &[]);
        }
    }
    assert_eq!(found, 1, "said once");
}

#[test]
fn an_object_that_is_lost_is_said_once_and_packed_anew() {
    let lab = lab();
    let first = lab.backup_settled(&[]);
    fs::remove_file(archive_of(&lab, &first)).unwrap();
    let ran = lab.run_with(&["--json", "backup"], &[("BACKSTAY_TEST_SETTLE_MS", "0")]);
    ran.expect(13, &["missing or of another size", "packed anew"]);
    is_live(&lab, "latest");
    let listed = lab.run(&["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.out).unwrap();
    let good: Vec<bool> = listed["snapshots"].as_array().unwrap().iter().map(|s| s["good"] == true).collect();
    assert_eq!(good, [false, true], "the older one does not count as good any more");
    let third = lab.backup_settled(&[]);
    assert_eq!(third["objects"], 1, "{third:#}");
}

/// The number and hash of the last entry of this host.
fn head(lab: &Lab) -> (u64, ObjectId) {
    let entry = |key: &Key| {
        let bytes = fs::read(lab.object(key)).ok()?;
        let (line, _) = document::split(&bytes)?;
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        Some((value["number"].as_u64()?, ObjectId::of(line)))
    };
    let entries = lab.keys().into_iter().filter(|k| matches!(k, Key::Record(_) | Key::Mark(..)));
    entries.filter_map(|key| entry(&key)).max().unwrap()
}

#[test]
fn what_a_verification_named_bad_is_packed_anew_although_it_is_there() {
    let lab = lab();
    let first = lab.backup_settled(&[]);
    let record = record_of(&lab, &first);
    let bad = record.objects.iter().find(|o| o.kind == ObjectKind::Archive).unwrap().id;
    let info: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.store().join("backstay.json")).unwrap()).unwrap();
    let line = fs::read(lab.object(&Key::Record(record.snapshot.clone()))).unwrap();
    let target =
        Target { snapshot: record.snapshot.clone(), record: ObjectId::of(document::split(&line).unwrap().0) };
    let (number, previous) = head(&lab);
    let signer = lab.signer();
    let verdict = Verdict {
        target,
        instance: info["instance"].as_str().unwrap().parse().unwrap(),
        level: Level::Read,
        began: jiff::Timestamp::now(),
        good: false,
        covered: Vec::new(),
        bad: vec![bad],
        checks: Vec::new(),
    };
    let mark = Mark {
        format: 1,
        needs: Vec::new(),
        doc: "mark".into(),
        vault: record.vault.clone(),
        host: record.host,
        signer: signer.id(),
        number: number + 1,
        previous: Some(previous),
        time: jiff::Timestamp::now(),
        agent: "a verifier".into(),
        statement: Statement::Verdict(verdict),
    };
    let (bytes, _) = seal_document(&mark, &signer, namespace::MARK).unwrap();
    put(&lab.object(&Key::Mark(mark.signer, mark.number)), &bytes);
    let second = lab.backup_settled(&[]);
    let second = record_of(&lab, &second);
    assert!(second.object(&bad).is_none() && second.alone);
    is_live(&lab, "latest");
}

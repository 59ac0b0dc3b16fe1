//! Prune as real processes: killed at every step, beside a backup that is stopped past the grace, and on a machine that only prunes.
#![cfg(debug_assertions)]

use crate::common::long::{in_time, long};
use crate::common::trees::copy;
use crate::lab::{Lab, noise, put};
use backstay::keys::Signer;
use backstay::store::Key;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Five snapshots, of which the newest is to stay.
pub(crate) fn lab() -> Lab {
    let lab = Lab::new(
        |project| put(&project.join("app/a"), b"first"),
        "[[component]]\nname = \"app\"\npath = \"app\"",
    );
    let mut config = lab.config();
    let retention: toml::Table = "keep_last = 1\nmin_keep = 1".parse().unwrap();
    config.insert("retention".into(), retention.into());
    lab.set_config(&config);
    for n in 0..5 {
        put(&lab.path("project/app/a"), format!("content {n}").as_bytes());
        lab.backup();
    }
    lab
}

fn snapshots(lab: &Lab) -> usize {
    lab.keys().iter().filter(|key| matches!(key, Key::Record(_))).count()
}

/// Fails unless everything that is listed comes back and nothing is wrong with the history.
#[track_caller]
fn whole(lab: &Lab) {
    lab.run(&["list"]).expect(0, &[]);
    for key in lab.keys() {
        let Key::Record(id) = key else { continue };
        for object in &lab.record(id.as_str()).objects {
            let path = lab.object(&Key::data(object.kind, object.id));
            assert_eq!(fs::metadata(&path).unwrap().len(), object.size, "{} of {id}", path.display());
        }
    }
    let (ran, found) = lab.restore(&["latest"]);
    ran.expect(0, &[]);
    assert!(found.is_some());
}

#[test]
fn a_prune_that_is_killed_at_any_step_is_ended_by_the_next() {
    let lab = lab();
    let (store, state) = (lab.store(), lab.state());
    let (saved_store, saved_state) = (lab.path("saved-store"), lab.path("saved-state"));
    copy(&store, &saved_store);
    copy(&state, &saved_state);
    let log = lab.path("points");
    lab.run_with(&["prune", "--now"], &[("BACKSTAY_TEST_CRASH_COUNT_FILE", log.to_str().unwrap())])
        .expect(0, &["deleted 2 snapshots"]);
    let text = fs::read_to_string(&log).unwrap();
    let points: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    for name in ["prune: tombstone put", "prune: mark put", "prune: record deleted", "prune: object deleted"]
    {
        assert!(points.contains(&name), "{name} is not among the points");
    }
    let mut seen = BTreeSet::new();
    // Every step of prune itself; of what lies below it the first of each name.
    let wanted = |name: &str| long() || name.starts_with("prune: ") || seen.insert(name.to_owned());
    let wanted = points.iter().copied().map(wanted).collect::<Vec<bool>>();
    let wanted = points.iter().enumerate().filter(|(at, _)| wanted[*at]).collect();
    for (at, name) in in_time(wanted) {
        copy(&saved_store, &store);
        copy(&saved_state, &state);
        let ran = lab.run_with(&["prune", "--now"], &[("BACKSTAY_TEST_CRASH", &(at + 1).to_string())]);
        assert_eq!(ran.code, -1, "point {at} ({name}) did not kill it: {}", ran.text());
        whole(&lab);
        for _ in 0..4 {
            let ran = lab.run(&["prune", "--now"]);
            assert_eq!(ran.code, 0, "after a kill at {at} ({name}): {}", ran.text());
        }
        whole(&lab);
        assert_eq!(snapshots(&lab), 1, "after a kill at {at} ({name})");
        let left = lab.keys().iter().filter(|key| matches!(key, Key::Tombstone(_))).count();
        assert_eq!(left, 0, "after a kill at {at} ({name})");
    }
}

/// A folder with a configuration that only prunes, with a key of its own. The host trusts that key.
pub(crate) fn pruner(lab: &Lab) -> PathBuf {
    let dir = lab.path("pruner");
    fs::create_dir(&dir).unwrap();
    let key = Signer::generate().unwrap();
    key.write(&dir.join("key")).unwrap();
    let signer = lab.signer();
    let host = signer.public_text();
    let own = key.public_text();
    let store = lab.store();
    let text = format!(
        "[project]\nname = \"pruner\"\n[[store]]\nname = \"local\"\npath = {store:?}\n[signing]\nkey_file = {key:?}\n\
         trusted = [{{ key = {host:?}, name = \"web\", roles = [\"host\"] }}, {{ key = {own:?}, name = \"pruner\", roles = [\"prune\", \"verify\"] }}]\n\
         [retention]\nkeep_last = 1\nmin_keep = 1\n[state]\ndir = {state:?}\n",
        key = dir.join("key"),
        state = dir.join("state"),
    );
    fs::write(dir.join("backstay.toml"), text).unwrap();
    lab.trust(&key, "pruner", &["prune", "verify"]);
    dir
}

fn begin(lab: &Lab, dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(args).current_dir(dir).env_clear().envs(env.iter().copied());
    command.env("HOME", lab.path("home")).env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn run_in(lab: &Lab, dir: &Path, args: &[&str]) -> (i32, String) {
    let output = begin(lab, dir, args, &[]).wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    (output.status.code().unwrap_or(-1), text)
}

/// Waits until the process has stopped itself.
pub(crate) fn wait_until_stopped(child: &Child) {
    let begun = Instant::now();
    let stat = format!("/proc/{}/stat", child.id());
    while begun.elapsed() < Duration::from_secs(120) {
        let text = fs::read_to_string(&stat).unwrap();
        match text.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()) {
            Some("T") => return,
            Some("Z") => panic!("it ended instead of stopping"),
            _ => std::thread::yield_now(),
        }
    }
    panic!("it did not stop");
}

pub(crate) fn go_on(child: &Child) {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::CONT).unwrap();
}

/// Objects that no record names, made to look as old as `days`.
pub(crate) fn age_orphans(lab: &Lab, days: u64) -> BTreeSet<Key> {
    let keys = lab.keys();
    let mut named = BTreeSet::new();
    for key in &keys {
        if let Key::Record(id) = key {
            named.extend(lab.record(id.as_str()).objects.iter().map(|o| Key::data(o.kind, o.id)));
        }
    }
    let data = |key: &&Key| matches!(key, Key::Archive(_) | Key::Manifest(_)) && !named.contains(*key);
    let orphans: BTreeSet<Key> = keys.iter().filter(data).cloned().collect();
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    for key in &orphans {
        let file = fs::OpenOptions::new().write(true).open(lab.object(key)).unwrap();
        file.set_modified(then).unwrap();
    }
    orphans
}

#[test]
fn a_backup_that_was_stopped_past_the_grace_is_void_and_the_next_one_is_whole() {
    let lab = lab();
    let elsewhere = pruner(&lab);
    put(&lab.path("project/app/a"), b"while it was stopped");
    // Stopped after it has looked, before it puts its record.
    let stop = "commit: objects proved#1:19";
    let backup = begin(&lab, &lab.path("project"), &["backup"], &[("BACKSTAY_TEST_SIGNAL", stop)]);
    wait_until_stopped(&backup);
    let orphans = age_orphans(&lab, 8);
    assert!(orphans.len() >= 3, "{orphans:?}");
    // Half in each run, until none is left.
    for _ in 0..8 {
        let (code, text) = run_in(&lab, &elsewhere, &["prune", "--now"]);
        assert_eq!(code, 0, "{text}");
    }
    assert!(orphans.iter().all(|key| !lab.keys().contains(key)), "what nothing named for 8 days went");
    go_on(&backup);
    let output = backup.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("could not be committed"), "{text}");
    let list = lab.run(&["list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.out).unwrap();
    let rows = list["snapshots"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["void"].is_string()).count(), 1, "{list:#}");
    assert_eq!(list["history"], serde_json::json!([]));
    lab.backup();
    let (ran, found) = lab.restore(&["latest"]);
    ran.expect(0, &[]);
    let file = &found.unwrap()[Path::new("app/a")];
    assert!(matches!(file, crate::lab::Node::File(_, bytes) if bytes == b"while it was stopped"), "{file:?}");
}

#[test]
fn a_machine_that_only_prunes_believes_no_host_about_itself() {
    let lab = lab();
    let elsewhere = pruner(&lab);
    let before = lab.keys();
    // The host says that all five are good; nobody else has looked.
    let (code, text) = run_in(&lab, &elsewhere, &["prune", "--dry-run"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("no snapshot is good"), "{text}");
    let (code, text) = run_in(&lab, &elsewhere, &["prune", "--now"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(lab.keys(), before, "{text}");
    // It has no identity, no component and no naming key, and needs none.
    let (code, text) = run_in(&lab, &elsewhere, &["milestone", "latest"]);
    assert_ne!(code, 0, "it has no snapshots of its own: {text}");
    let (code, text) = run_in(&lab, &elsewhere, &["milestone", "latest", "--all-hosts"]);
    assert_eq!(code, 0, "{text}");
    // Another host sees the mark, and no hole.
    let list = lab.run(&["list", "--json"]);
    list.expect(0, &[]);
    let list: serde_json::Value = serde_json::from_slice(&list.out).unwrap();
    assert_eq!(list["snapshots"][4]["milestone"], true, "{list:#}");
}

#[test]
fn marks_are_said_by_commands_and_shown() {
    let lab = lab();
    lab.run(&["tag", "latest", "stable", "before move"]).expect(0, &["tagged"]);
    lab.run(&["tag", "latest", "before move", "--remove"]).expect(0, &["tags taken away"]);
    lab.run(&["tag", "latest~1", "never-there", "--remove"]).expect(16, &["it has none"]);
    lab.run(&["note", "latest", "the night before"]).expect(0, &["noted"]);
    lab.run(&["milestone", "latest~1"]).expect(0, &["a milestone"]);
    let list = lab.run(&["list", "--json"]);
    let list: serde_json::Value = serde_json::from_slice(&list.out).unwrap();
    let (newest, before) = (&list["snapshots"][4], &list["snapshots"][3]);
    assert_eq!(newest["tags"], serde_json::json!(["stable"]));
    assert_eq!(newest["note"], "the night before");
    assert_eq!(before["milestone"], true);
    lab.run(&["show", "tag:stable"]).expect(0, &["the night before"]);
    // Notes are never public.
    let public =
        lab.keys().iter().filter(|key| matches!(key, Key::Mark(..))).any(|key| {
            String::from_utf8_lossy(&fs::read(lab.object(key)).unwrap()).contains("the night before")
        });
    assert!(!public);
    // A milestone stays whatever the rules say, and cannot be deleted.
    lab.run(&["delete", "latest~1", "--yes"])
        .expect(1, &["cannot be deleted: milestone", "milestone ID --remove"]);
    // Others are good, too: it is not the last of them.
    lab.run(&["delete", "latest", "--yes"]).expect(1, &["it is the newest good one, which always stays"]);
    for _ in 0..4 {
        lab.run(&["prune", "--now"]).expect(0, &[]);
    }
    assert_eq!(snapshots(&lab), 2);
    lab.run(&["milestone", "latest~1", "--remove"]).expect(0, &["no longer a milestone"]);
    lab.run(&["prune", "--now"]).expect(0, &["deleted 1 snapshot"]);
    whole(&lab);
    // What makes no sense is said.
    lab.run(&["tag", "latest", ""]).expect(2, &["cannot be a tag"]);
    lab.run(&["delete", "latest"]).expect(1, &["newest good one"]);
    lab.run(&["tag", "latest", "never-there", "--remove"])
        .expect(16, &["has no tag \"never-there\"", "its tags: stable"]);
    lab.run(&["milestone", "20200101T000000Z-aaaaaaaa"]).expect(16, &["no snapshot"]);
    lab.run(&["prune", "--ignore", "latest"]).expect(2, &["no whole snapshot id"]);
    lab.run(&["prune", "--store", "local"]).expect(2, &["leave --store away"]);
    lab.run(&["prune", "--dry-run", "--accept", "latest"]).expect(2, &["--dry-run does nothing"]);
    lab.run(&["prune", "--accept", "latest"]).expect(2, &["nothing to accept"]);
}

#[test]
fn a_deletion_is_asked_for_and_shown_announced_by_one_prune_and_done_by_a_later_one() {
    let lab = lab();
    let mut config = lab.config();
    let retention: toml::Table = "keep_within = \"7d\"".parse().unwrap();
    config.insert("retention".into(), retention.into());
    lab.set_config(&config);
    lab.run(&["prune", "--now"]).expect(0, &["nothing to delete"]);
    let ran = lab.run(&["delete", "latest~2", "latest~3"]);
    ran.expect(2, &["These snapshots are to be deleted", "nobody is here to confirm it", "--yes"]);
    assert_eq!(snapshots(&lab), 5);
    lab.run(&["delete", "latest~2", "latest~3", "--yes"])
        .expect(0, &["the next `backstay prune` announces it, and one a day later deletes it"]);
    lab.run(&["prune", "--dry-run"]).expect(0, &["deletion was asked for"]);
    lab.run(&["prune"]).expect(0, &["announced: 1 snapshot", "at the first prune after"]);
    assert_eq!(snapshots(&lab), 5);
    for _ in 0..2 {
        lab.run(&["prune", "--now"]).expect(0, &["deleted 1 snapshot"]);
    }
    assert_eq!(snapshots(&lab), 3);
    whole(&lab);
}

#[test]
fn what_was_announced_and_is_kept_again_is_not_said_to_go() {
    let lab = lab();
    let mut config = lab.config();
    let retention: toml::Table = "keep_within = \"7d\"".parse().unwrap();
    config.insert("retention".into(), retention.into());
    lab.set_config(&config);
    lab.run(&["delete", "latest~3", "--yes"]).expect(0, &["asked to go"]);
    lab.run(&["prune"]).expect(0, &["announced: 1 snapshot"]);
    // It may be deleted just now, which this cannot know.
    lab.run(&["milestone", "latest~3"]).expect(4, &["a milestone", "had announced"]);
    let ran = lab.run(&["prune"]);
    ran.expect(0, &["what was announced before stays"]);
    assert!(!ran.text().contains("go at the first prune"), "{}", ran.text());
    let planned = lab.run(&["prune", "--dry-run", "--json"]);
    planned.expect(0, &[]);
    let planned: serde_json::Value = serde_json::from_slice(&planned.out).unwrap();
    let waiting = &planned["stores"][0]["waiting"][0];
    assert_eq!((&waiting["snapshots"], &waiting["objects"]), (&0.into(), &0.into()), "{waiting:#}");
    assert_eq!(snapshots(&lab), 5);
}

#[test]
fn a_broken_chain_of_a_key_that_only_prunes_or_verifies_is_told() {
    let lab = lab();
    let elsewhere = pruner(&lab);
    for id in ["latest", "latest~1"] {
        let (code, text) = run_in(&lab, &elsewhere, &["milestone", id, "--all-hosts"]);
        assert_eq!(code, 0, "{text}");
    }
    lab.run(&["list"]).expect(0, &[]);
    let own = lab.signer().id();
    let marks = lab.keys().into_iter().filter(|key| matches!(key, Key::Mark(by, _) if *by != own));
    let last = marks.max_by_key(|key| if let Key::Mark(_, number) = key { *number } else { 0 }).unwrap();
    fs::remove_file(lab.object(&last)).unwrap();
    lab.run(&["list"]).expect(13, &["entry 2 was seen before"]);
    lab.run(&["verify"]).expect(13, &["entry 2 was seen before"]);
    // What this host itself has signed is whole all the same.
    lab.restore(&["latest"]).0.expect(0, &[]);
}

#[test]
fn a_damaged_object_stays_damaged_when_the_newest_snapshot_that_needs_it_goes() {
    let files = |project: &Path| put(&project.join("app/shared"), &noise(1, 3 << 20));
    let lab = Lab::new(files, "[[component]]\nname = \"app\"\npath = \"app\"");
    let mut config = lab.config();
    let retention: toml::Table = "keep_last = 1\nmin_keep = 1".parse().unwrap();
    config.insert("retention".into(), retention.into());
    lab.set_config(&config);
    let backup = |n: usize| {
        put(&lab.path("project/app/a"), format!("content {n}").as_bytes());
        lab.backup_settled(&[])["snapshot"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = (0..4).map(backup).collect();
    lab.run(&["milestone", &ids[0]]).expect(0, &[]);
    let last = lab.record(&ids[3]).objects;
    let largest = lab.record(&ids[0]).objects.into_iter().filter(|o| last.contains(o)).max_by_key(|o| o.size);
    let file = lab.object(&largest.map(|o| Key::data(o.kind, o.id)).expect("an object that all need"));
    let whole = fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    put(&file, &bytes);
    let marks = || lab.keys().iter().filter(|key| matches!(key, Key::Mark(..))).count();
    lab.run(&["verify", "--read-data"]).expect(13, &[]);
    let said = marks();
    lab.run(&["verify"]).expect(13, &[]);
    assert_eq!(marks(), said, "what is known is said once");
    for n in 4..7 {
        backup(n);
        lab.run(&["prune", "--now"]).expect(0, &[]);
    }
    let good = |id: &str| {
        let list = lab.run(&["list", "--json"]);
        let list: serde_json::Value = serde_json::from_slice(&list.out).unwrap();
        list["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["id"] == id)
            .map(|row| row["good"] == true)
    };
    assert_eq!(good(&ids[3]), None, "the newest that needs it is pruned");
    assert_eq!(good(&ids[0]), Some(false), "what it needs is as damaged as before");
    // Mended and read again, it is good.
    put(&file, &whole);
    lab.run(&["verify"]).expect(0, &[]);
    assert_eq!(good(&ids[0]), Some(true));
}

//! The same histories before backstay and before `recover.py`: which keys and records count, what is broken, what is the latest.

mod world;

use crate::common::project::have;
use backstay::model::chain::{BreakKind, ChainEntry, EntryBody, History, Reader, Trust, signer_of_text};
use backstay::model::{HostId, SignerId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use world::{KEYS, case, host, id, instance, key};

fn as_json(entries: &[ChainEntry], reader: &Reader) -> Value {
    let line = |e: &ChainEntry| match &e.body {
        EntryBody::Record(record) => serde_json::to_value(&**record).unwrap(),
        EntryBody::Mark(mark) => serde_json::to_value(mark).unwrap(),
    };
    let of = |signer: SignerId| (0..KEYS).map(key).find(|key| signer_of_text(key) == Some(signer)).unwrap();
    json!({
        "keys": (0..KEYS).map(key).collect::<Vec<_>>(),
        "hosts": (0..KEYS).map(host).collect::<Vec<_>>(),
        "instance": instance(1),
        "trusted": reader.trusted.iter().map(|t| json!([of(t.id), t.roles, t.host])).collect::<Vec<_>>(),
        "heads": reader.seen.iter().map(|(s, (n, hash))| json!([s, n, hash])).collect::<Vec<_>>(),
        "entries": entries.iter().map(|e| json!({"hash": e.hash, "line": line(e)})).collect::<Vec<_>>(),
    })
}

/// What backstay says, as `judge.py` puts it.
fn judged(entries: Vec<ChainEntry>, reader: &Reader) -> Value {
    let history = History::of(entries, reader);
    let keys = history.keys();
    let mut signers: Vec<SignerId> = (0..KEYS).map(id).collect();
    signers.sort();
    let hosts: Vec<HostId> = (0..KEYS).map(host).collect();
    let kind = |kind: &BreakKind| match kind {
        BreakKind::Forked { .. } => "fork",
        BreakKind::Gap { .. } => "gap",
        BreakKind::WrongPrevious => "wrong",
        BreakKind::RolledBack { .. } => "back",
        BreakKind::Rewritten { .. } => "rewritten",
    };
    let breaks: BTreeSet<(String, &str)> =
        history.breaks.iter().map(|b| (b.signer.to_string(), kind(&b.kind))).collect();
    let mut of = Vec::new();
    for signer in &signers {
        of.extend(hosts.iter().filter(|host| keys.is_of(signer, host)).map(|host| json!([signer, host])));
    }
    let depths: BTreeMap<String, usize> = signers.iter().map(|s| (s.to_string(), keys.depth(s))).collect();
    let mut records = BTreeMap::new();
    for snapshot in history.hosts.values().flatten() {
        let trusted = snapshot.trusted == Trust::Trusted;
        let void = trusted && snapshot.void.is_some();
        let (tags, milestone) = (&snapshot.tags, snapshot.milestone);
        let said = json!({"trusted": trusted, "void": void, "tags": tags, "milestone": milestone});
        records.insert(snapshot.hash.to_string(), said);
    }
    let latest: BTreeMap<String, Value> = hosts
        .iter()
        .map(|host| {
            let said = match history.latest(host) {
                Err(_) => json!("broken"),
                Ok(newest) => json!(newest.map(|s| s.hash)),
            };
            (host.to_string(), said)
        })
        .collect();
    json!({"breaks": breaks, "of": of, "depths": depths, "records": records, "latest": latest})
}

#[test]
fn recover_py_judges_histories_as_backstay_does() {
    if !have(&["python3"]) {
        return;
    }
    let first = 1_u64;
    let cases: Vec<(Vec<ChainEntry>, Reader)> = (first..first + 1500).map(case).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("histories");
    let mut lines = String::new();
    cases.iter().for_each(|(entries, reader)| writeln!(lines, "{}", as_json(entries, reader)).unwrap());
    std::fs::write(&file, lines).unwrap();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("python3");
    python.arg("-B").arg(top.join("tests/tools/judge.py")).arg(top.join("src/recover/recover.py")).arg(&file);
    let done = python.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let theirs: Vec<Value> = String::from_utf8(done.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(theirs.len(), cases.len());
    let (mut latest, mut broken, mut introduced, mut kept_out) = (0, 0, 0, 0);
    for ((seed, (entries, reader)), theirs) in (first..).zip(&cases).zip(&theirs) {
        let ours = judged(entries.clone(), reader);
        for what in ["of", "depths", "breaks", "records", "latest"] {
            let history = || serde_json::to_string_pretty(&as_json(entries, reader)).unwrap();
            assert_eq!(
                ours[what],
                theirs[what],
                "seed {seed}, {what}: backstay left, recover.py right\n{}",
                history()
            );
        }
        let said = |what: &str| ours[what].as_object().unwrap().values().cloned().collect::<Vec<_>>();
        latest += said("latest").iter().filter(|l| l.is_string() && **l != "broken").count();
        broken += said("latest").iter().filter(|l| **l == "broken").count();
        introduced += said("depths").iter().filter(|depth| **depth != 0).count();
        kept_out += said("records").iter().filter(|record| record["trusted"] == false).count();
    }
    // These histories are about something.
    let enough = [latest, broken, introduced, kept_out].iter().all(|count| *count > 500);
    assert!(enough, "latest {latest}, broken {broken}, introduced {introduced}, untrusted {kept_out}");
}

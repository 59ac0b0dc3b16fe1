//! Very many snapshots: what it costs to list them, to plan a prune, and to look for a file in all of them.

use crate::common::watched::{around, project};
use crate::common::{crowd, long::long};
use backstay::model::{Clock, Timestamp};
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::look;
use backstay::ops::look::FindOptions;
use backstay::ops::prune::{Fate, PruneOptions, run as prune};
use backstay::ops::session::Session;
use backstay::store::testing::{FaultStore, MemoryStore};
use backstay::store::{Prefix, Store};
use jiff::SignedDuration;
use std::sync::Arc;
use std::time::Instant;

/// The time of day of a test.
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn clock(hours: i64) -> Arc<dyn Clock> {
    Arc::new(At(Timestamp::now() + SignedDuration::from_hours(hours)))
}

/// A project whose store has `count` snapshots up to an hour ago.
fn crowded(dir: &std::path::Path, count: usize) -> (Session, Arc<MemoryStore>, Arc<FaultStore>) {
    let (mut session, memory, store) = project(dir, |app| std::fs::write(app.join("a"), "hello").unwrap());
    session.around.clock = clock(-(count as i64) - 1);
    backup(&session, &BackupOptions::default()).unwrap();
    crowd::fill(&session, &*memory, count - 1);
    session.around.clock = around().clock;
    store.reset();
    (session, memory, store)
}

#[test]
fn a_second_list_opens_no_index_again_and_a_plan_opens_none() {
    let count = if long() { 10_000 } else { 300 };
    let dir = tempfile::tempdir().unwrap();
    let (session, _memory, store) = crowded(dir.path(), count);
    let opened = || store.calls().iter().filter(|(_, key)| key.starts_with("manifests/")).count();
    let first = look::list(&session).unwrap();
    assert_eq!(first.snapshots.len(), count);
    assert_eq!(opened(), count, "each index once");
    store.reset();
    let begun = Instant::now();
    let second = look::list(&session).unwrap();
    println!("{count} snapshots: listed again in {:?} with {} calls", begun.elapsed(), store.calls().len());
    assert_eq!(opened(), 0, "names are remembered");
    // A record and a verdict of each, two listings, the store's own file, the four instructions.
    let fixed = 10;
    assert!(store.calls().len() <= 2 * count + fixed, "{} calls", store.calls().len());
    let text = |list: &look::ListReport| serde_json::to_string(list).unwrap();
    assert_eq!(text(&first), text(&second));
    assert_eq!(second.snapshots[count / 2].note, Some(format!("note {}", count / 2 - 1)));

    store.reset();
    let begun = Instant::now();
    let plan = prune(&session, &PruneOptions { dry_run: true, ..PruneOptions::default() }).unwrap();
    println!("planned in {:?} with {} calls", begun.elapsed(), store.calls().len());
    assert_eq!(opened(), 0, "a plan needs no key");
    assert!(store.calls().len() <= 2 * count + 20, "{} calls", store.calls().len());
    assert_eq!(plan.stores[0].snapshots.len(), count);
    assert!(plan.stores[0].snapshots.iter().any(|row| row.fate == Fate::Goes));
}

#[test]
fn what_is_remembered_of_indexes_is_sealed_goes_with_them_and_may_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (session, memory, store) = crowded(dir.path(), 12);
    let first = look::list(&session).unwrap();
    let file = session.state.as_ref().unwrap().dir().join("shown.age");
    let sealed = std::fs::read(&file).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/v1"));
    assert!(!sealed.windows(5).any(|part| part == b"note "));
    // Lost, damaged, or another's: it is read from the indexes again.
    for bytes in [None, Some(&sealed[..sealed.len() / 2]), Some(b"nonsense")] {
        match bytes {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        let again = look::list(&session).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&first).unwrap());
    }
    assert!(std::fs::read(&file).unwrap().starts_with(b"age-encryption.org/v1"), "it was made anew");
    // Without an identity nothing of it is shown.
    let mut config = (**session.config().unwrap()).clone();
    config.encryption.identity_file = None;
    let mut blind = Session::open(Arc::new(config), around()).unwrap();
    blind.store = Arc::clone(&store) as Arc<dyn Store>;
    let blind = look::list(&blind).unwrap();
    assert!(blind.snapshots.iter().all(|row| row.note.is_none() && row.components.is_none()));
    assert!(!blind.opened);
    // An index that is not there any more is for `verify` to tell, and for whatever reads it.
    let gone = memory.list(Prefix::Manifests).unwrap();
    gone.iter().for_each(|listed| memory.delete(&listed.key).unwrap());
    assert_eq!(look::list(&session).unwrap().damaged.len(), first.damaged.len());
    let id = first.snapshots[5].id.to_string();
    let error = look::show(&session, &id, false).unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
}

#[test]
fn a_file_is_found_in_a_thousand_snapshots_and_a_listing_that_they_share_is_read_once() {
    let count = 1000;
    let dir = tempfile::tempdir().unwrap();
    let (session, _memory, store) = crowded(dir.path(), count);
    let options = FindOptions { pattern: "a".into(), only: Vec::new() };
    let begun = Instant::now();
    let found = look::find(&session, &options).unwrap();
    println!("found in {:?}", begun.elapsed());
    assert_eq!((found.snapshots, found.listings), (count as u64, 1));
    assert_eq!((found.paths.len(), found.paths[0].versions.len()), (1, 1));
    assert_eq!(found.paths[0].versions[0].snapshots.len(), count);
    let read = store.calls().iter().filter(|(_, key)| key.starts_with("manifests/")).count();
    assert_eq!(read, count + 1);
}

/// Makes a project with very many snapshots for `bench/snapshots.py`, in the folder that `BACKSTAY_VAULT` names.
#[test]
#[ignore = "makes a vault to measure with"]
fn a_vault_to_measure_with() {
    let Some(dir) = std::env::var_os("BACKSTAY_VAULT") else { return };
    let count = std::env::var("BACKSTAY_SNAPSHOTS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let dir = std::path::PathBuf::from(dir);
    let (mut session, _memory, _store) = project(&dir, |app| std::fs::write(app.join("a"), "hello").unwrap());
    let config = Arc::clone(session.config().unwrap());
    let mut surroundings = around();
    surroundings.clock = clock(-(count as i64) - 1);
    session = Session::open(config, surroundings).unwrap();
    backup(&session, &BackupOptions::default()).unwrap();
    crowd::fill(&session, &*session.store, count - 1);
}

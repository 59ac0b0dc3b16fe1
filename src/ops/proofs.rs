//! When what was last proved, store by store: for lists, `show` and the status. Reads verdicts and decides nothing.

use crate::model::chain::{KnownSnapshot, KnownVerdict};
use crate::model::mark::Level;
use crate::model::proof::Standing;
use crate::model::{HostId, ObjectId, Timestamp, VaultId};
use crate::ops::vault::Vault;
use crate::store::Key;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A verdict, as people are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// How deep.
    pub level: Level,
    /// Whether all was well.
    pub good: bool,
    /// Whether the host said it of itself.
    pub own: bool,
}

impl Said {
    fn of(known: &KnownVerdict) -> Self {
        Self { at: known.time, level: known.verdict.level, good: known.verdict.good, own: known.own }
    }
}

/// What is proved of one snapshot in one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreProof {
    /// The store.
    pub store: String,
    /// Good there.
    pub good: bool,
    /// Good there by its own host's word alone: no other verifier proved all of it lately.
    pub self_verified: bool,
    /// When the oldest proof of its objects began; none where an object has no proof.
    pub proved_since: Option<Timestamp>,
    /// Objects of it that were found missing or damaged there, and that nobody proved since.
    pub bad: Vec<String>,
    /// The last verdict on the snapshot itself, drills aside. Proofs of its objects also come from verdicts on others.
    pub last_verdict: Option<Said>,
    /// The last drill.
    pub last_drill: Option<Said>,
}

type Standings = HashMap<ObjectId, Standing>;

/// Answers for every snapshot of a vault; what is known of objects is worked out once.
pub struct Proofs<'v> {
    vault: &'v Vault,
    known: RefCell<BTreeMap<(HostId, VaultId), Rc<Standings>>>,
}

impl<'v> Proofs<'v> {
    /// For what `vault` holds.
    pub fn new(vault: &'v Vault) -> Self {
        Self { vault, known: RefCell::default() }
    }

    fn standings(&self, host: &HostId, instance: &VaultId) -> Rc<Standings> {
        let key = (*host, instance.clone());
        let found = self.known.borrow().get(&key).cloned();
        found.unwrap_or_else(|| {
            let made = Rc::new(self.vault.history.standing(host, instance));
            self.known.borrow_mut().insert(key, Rc::clone(&made));
            made
        })
    }

    /// What is proved of `snapshot`, for each of the stores that were read and have it.
    pub fn of(&self, snapshot: &KnownSnapshot) -> Vec<StoreProof> {
        let name = (snapshot.record.signer, snapshot.record.number, snapshot.hash);
        let views = self.vault.views.iter().filter(|view| view.present.contains(&name));
        views.map(|view| self.in_store(snapshot, view.store.name(), &view.info.instance)).collect()
    }

    fn in_store(&self, snapshot: &KnownSnapshot, store: &str, instance: &VaultId) -> StoreProof {
        let standings = self.standings(&snapshot.record.host, instance);
        let objects = &snapshot.record.objects;
        let proved = |id: &ObjectId| standings.get(id).and_then(|standing| standing.proved);
        let since = objects.iter().map(|o| proved(&o.id)).collect::<Option<Vec<Timestamp>>>();
        let bad = objects.iter().filter(|o| standings.get(&o.id).is_some_and(|standing| standing.bad));
        let here = || snapshot.verdicts.iter().filter(|v| v.verdict.instance == *instance);
        let last = |drill: bool| here().rfind(|v| (v.verdict.level == Level::Drill) == drill).map(Said::of);
        let good = snapshot.good_in.contains(instance);
        StoreProof {
            store: store.to_owned(),
            good,
            self_verified: good && !snapshot.good_by_others_in.contains(instance),
            proved_since: since.and_then(|all| all.into_iter().min()),
            bad: bad.map(|o| Key::data(o.kind, o.id).to_string()).collect(),
            last_verdict: last(false),
            last_drill: last(true),
        }
    }

    /// The last drill that ended well of any snapshot of `host`, in any store that was read: the snapshot, and when.
    pub fn last_full_drill(&self, host: &HostId) -> Option<(&'v KnownSnapshot, Timestamp)> {
        let snapshots = self.vault.history.snapshots(host).iter();
        let full = |s: &'v KnownSnapshot| {
            let drills = s.verdicts.iter().filter(|v| v.verdict.level == Level::Drill && v.verdict.good);
            drills.map(|v| (s, v.time)).max_by_key(|drill| drill.1)
        };
        snapshots.filter_map(full).max_by_key(|drill| drill.1)
    }
}

//! What is verified: which snapshots, in which stores, and the objects that these need there.

use crate::model::chain::KnownSnapshot;
use crate::model::mark::Statement;
use crate::model::proof::Standing as Proof;
use crate::model::record::SnapshotKind;
use crate::model::{HostId, ObjectId, ObjectRef, Timestamp};
use crate::ops::error::Result;
use crate::ops::excuses::excused_in;
use crate::ops::select;
use crate::ops::session::{HostChoice, Session};
use crate::ops::sharing;
use crate::ops::union::{self, Standing};
use crate::ops::vault::{Vault, View, is_trusted};
use crate::ops::verify::objects::{How, Outcome};
use std::collections::{HashMap, HashSet};

/// All stores that are meant, read, and how each stands.
pub(super) struct Reading {
    pub(super) vault: Vault,
    pub(super) standings: Vec<Standing>,
}

/// Reads every store that is meant.
pub(super) fn read(session: &Session) -> Result<Reading> {
    if session.stores.len() > 1 {
        let union::Union { vault, standings } = union::read(session)?;
        return Ok(Reading { vault, standings });
    }
    let vault = session.read_vault()?;
    let standing = Standing {
        name: session.store.name().to_owned(),
        place: session.store.location(),
        view: Some(0),
        away: None,
        fallen: false,
        lost: Vec::new(),
        bad: vault.bad.clone(),
        older: Vec::new(),
    };
    Ok(Reading { vault, standings: vec![standing] })
}

/// The hosts that are meant. A configuration that only verifies has no snapshots of its own: then all hosts are.
pub(super) fn hosts(session: &Session, vault: &Vault) -> Result<Vec<HostId>> {
    let hosts = select::hosts(session, vault)?;
    let all = vault.hosts();
    let none = session.around.hosts == HostChoice::Own && !hosts.iter().any(|host| all.contains(host));
    let verifier = session.config.as_ref().is_some_and(|c| c.components.is_empty());
    if none && verifier && !all.is_empty() {
        session.note("this host has no snapshots of its own: those of all hosts are verified");
        return Ok(all);
    }
    Ok(hosts)
}

/// The snapshots that are meant: those named, else all of `hosts` that are held, oldest first.
pub(super) fn snapshots<'v>(
    session: &Session,
    vault: &'v Vault,
    hosts: &[HostId],
    ids: &[String],
    accept_untrusted: bool,
) -> Result<Vec<&'v KnownSnapshot>> {
    if ids.is_empty() {
        let meant = |s: &&KnownSnapshot| {
            hosts.contains(&s.record.host) && s.is_usable() && s.record.kind != SnapshotKind::Partial
        };
        return Ok(vault.snapshots().filter(meant).collect());
    }
    let mut found: Vec<&KnownSnapshot> = Vec::new();
    for id in ids {
        let snapshot = select::snapshot(session, vault, id, accept_untrusted)?;
        if !found.iter().any(|other| other.hash == snapshot.hash) {
            found.push(snapshot);
        }
    }
    found.sort_by_key(|s| (s.record.started, s.record.number));
    Ok(found)
}

/// An object, what was proved of it before, and what was found now.
pub(super) struct Item {
    pub(super) object: ObjectRef,
    pub(super) before: Proof,
    pub(super) found: Option<(How, Outcome)>,
    /// When the reading that `found` is of began.
    pub(super) began: Timestamp,
    /// No snapshot needs it any more: they were deleted meanwhile.
    pub(super) gone: bool,
}

impl Item {
    pub(super) fn fault(&self) -> Option<&super::objects::Fault> {
        match &self.found {
            Some((_, Outcome::Bad(fault))) if !self.gone => Some(fault),
            _ => None,
        }
    }

    /// Read now, and whole.
    pub(super) fn proved_now(&self) -> bool {
        matches!(&self.found, Some((How::Read, Outcome::Fine | Outcome::FineAtLast(_))))
    }
}

/// What is to be looked at in one store.
pub(super) struct Work<'v> {
    pub(super) view: &'v View,
    /// Those of the snapshots meant that the store has, oldest first.
    pub(super) snapshots: Vec<&'v KnownSnapshot>,
    /// All that it has of the same hosts and that are usable, meant or not.
    pub(super) held: Vec<&'v KnownSnapshot>,
    /// Those that it lacks and should have.
    pub(super) lacking: Vec<&'v KnownSnapshot>,
    /// Every object they need, once.
    pub(super) items: Vec<Item>,
    /// The place of each object among `items`.
    pub(super) places: HashMap<ObjectId, usize>,
}

impl<'v> Work<'v> {
    pub(super) fn of(vault: &'v Vault, view: &'v View, meant: &[&'v KnownSnapshot], now: Timestamp) -> Self {
        let voided = voided_in(vault, view);
        let excused = excused_in(vault, &view.info.instance);
        let mut work = Self {
            view,
            snapshots: Vec::new(),
            held: Vec::new(),
            lacking: Vec::new(),
            items: Vec::new(),
            places: HashMap::new(),
        };
        let mut proofs: HashMap<HostId, HashMap<ObjectId, Proof>> = HashMap::new();
        for snapshot in meant.iter().filter(|s| !voided.contains(&s.hash)) {
            let name = (snapshot.record.signer, snapshot.record.number, snapshot.hash);
            if !view.present.contains(&name) {
                if is_trusted(snapshot) && !excused.contains(&name) {
                    work.lacking.push(snapshot);
                }
                continue;
            }
            work.snapshots.push(snapshot);
            let host = snapshot.record.host;
            let proofs = proofs.entry(host).or_insert_with(|| {
                let held = sharing::usable_in(vault, view, &host).into_iter();
                work.held.extend(held.filter(|s| !voided.contains(&s.hash)));
                vault.history.standing(&host, &view.info.instance)
            });
            for object in &snapshot.record.objects {
                let place = work.items.len();
                if *work.places.entry(object.id).or_insert(place) == place {
                    let before = proofs.get(&object.id).copied().unwrap_or_default();
                    work.items.push(Item { object: *object, before, found: None, began: now, gone: false });
                }
            }
        }
        work
    }

    /// The snapshots of this store that need the object, oldest first.
    pub(super) fn users(&self, id: &ObjectId) -> Vec<&'v KnownSnapshot> {
        let needs = |s: &&&KnownSnapshot| s.record.objects.iter().any(|o| o.id == *id);
        self.snapshots.iter().filter(needs).copied().collect()
    }

    /// Objects found bad now.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&Item, &super::objects::Fault)> {
        self.items.iter().filter_map(|item| Some((item, item.fault()?)))
    }
}

/// Records whose commit did not hold in this very store.
fn voided_in(vault: &Vault, view: &View) -> HashSet<ObjectId> {
    let of = |entry: &crate::model::chain::ChainEntry| match &entry.as_mark()?.statement {
        Statement::Void { target, instance: Some(instance), .. } if *instance == view.info.instance => {
            let own = vault.snapshots().any(|s| s.hash == target.record && s.record.signer == entry.signer());
            own.then_some(target.record)
        }
        _ => None,
    };
    vault.entries.iter().filter_map(of).collect()
}

//! What damage costs, down to snapshot and path, and the way out.

use super::objects::{Fault, FaultKind};
use super::opened::{Finding, Lost, Opener};
use super::report::Damage;
use super::scope::{Item, Work};
use super::stores::OneStore;
use super::{Run, document, reason, scratch_place};
use crate::model::ObjectId;
use crate::model::chain::KnownSnapshot;
use crate::ops::error::{Class, Result};
use crate::ops::verify::scratch::Scratch;
use crate::store::Key;
use std::collections::{HashMap, HashSet};

/// Tells of every object found bad in the store which snapshots need it, and, with an identity, which paths are lost.
pub(super) fn damage(one: &mut OneStore<'_, '_>, work: &Work<'_>) -> Result<()> {
    let mut all: HashMap<ObjectId, Damage> = HashMap::new();
    for (item, fault) in work.faults() {
        all.insert(item.object.id, of_object(&one.standing.name, work, item, fault));
    }
    if all.is_empty() {
        return Ok(());
    }
    if !one.run.identities.is_empty() {
        match paths(one, work, &mut all) {
            Err(error) if error.class == Class::Interrupted => return Err(error),
            Err(error) => {
                let what = format!("what the damage costs could not be found out: {}", reason(&error));
                one.run.warn(&one.standing.name, what, "`backstay verify ID --decrypt` tries again");
            }
            Ok(()) => all.values_mut().for_each(|damage| damage.opened = true),
        }
    }
    let mut all: Vec<Damage> = all.into_values().collect();
    all.sort_by(|a, b| a.object.cmp(&b.object));
    for damage in all {
        // Opening it may have told of it before.
        match one.run.damage.iter_mut().find(|d| d.store == damage.store && d.object == damage.object) {
            Some(there) => {
                (there.kind, there.why, there.snapshots) = (damage.kind, damage.why, damage.snapshots);
                damage.paths.into_iter().for_each(|path| there.add_path(path));
                there.more_paths = there.more_paths.max(damage.more_paths);
            }
            None => one.run.damage.push(damage),
        }
    }
    Ok(())
}

fn of_object(store: &str, work: &Work<'_>, item: &Item, fault: &Fault) -> Damage {
    let key = Key::data(item.object.kind, item.object.id).to_string();
    let users = work.users(&item.object.id);
    let snapshots = users.iter().map(|s| s.record.snapshot.clone()).collect();
    Damage { kind: fault.kind, snapshots, ..document(store, &key, &fault.why) }
}

/// Finds the paths, in each snapshot that needs one of the objects.
fn paths(one: &OneStore<'_, '_>, work: &Work<'_>, all: &mut HashMap<ObjectId, Damage>) -> Result<()> {
    let session = one.run.session;
    let scratch = Scratch::create(&scratch_place(session), session.around.clock.now())?;
    let mut opener = Opener::new(session, &work.view.store, &one.run.identities, &scratch);
    let bad: HashSet<ObjectId> = all.keys().copied().collect();
    for snapshot in work.snapshots.iter().rev() {
        if snapshot.record.objects.iter().any(|o| bad.contains(&o.id)) {
            for finding in opener.check(snapshot, Some(&bad))? {
                for id in &finding.objects {
                    if let Some(damage) = all.get_mut(id) {
                        damage.add_path(words(&finding.what, snapshot));
                    }
                }
            }
        }
    }
    Ok(())
}

fn words(lost: &Lost, snapshot: &KnownSnapshot) -> String {
    match lost {
        Lost::Snapshot => format!("everything of snapshot {}", snapshot.record.snapshot),
        Lost::Listing(first, last) if first == last => first.clone(),
        Lost::Listing(first, last) => format!("{first} to {last}"),
        Lost::File(path) | Lost::Check(path, _) | Lost::NotChecked(path) | Lost::Foreign(path, _) => {
            path.clone()
        }
    }
}

/// Takes up what opening a snapshot found in objects whose bytes are right: damage of another kind.
pub(super) fn found(
    run: &mut Run<'_>,
    store: &str,
    snapshot: &KnownSnapshot,
    work: &Work<'_>,
    findings: &[Finding],
) {
    for finding in findings.iter().filter(|f| !matches!(f.what, Lost::NotChecked(_) | Lost::Foreign(..))) {
        let faulty = |id: &&ObjectId| work.places.get(*id).is_some_and(|p| work.items[*p].fault().is_some());
        // What a damaged object costs is told with that.
        if finding.objects.iter().any(|id| faulty(&id)) {
            continue;
        }
        let listed = finding.objects.first().and_then(|id| snapshot.record.object(id));
        let key = listed.map_or_else(String::new, |o| Key::data(o.kind, o.id).to_string());
        let why = match finding.what {
            Lost::Check(..) => format!("a database in it fails its check: {}", finding.why),
            _ => finding.why.clone(),
        };
        let place = run
            .damage
            .iter()
            .position(|d| d.store == store && d.object == key && d.kind == FaultKind::Content);
        let place = place.unwrap_or_else(|| {
            run.damage.push(Damage { kind: FaultKind::Content, opened: true, ..document(store, &key, &why) });
            run.damage.len() - 1
        });
        let damage = &mut run.damage[place];
        if !damage.snapshots.contains(&snapshot.record.snapshot) {
            damage.snapshots.push(snapshot.record.snapshot.clone());
        }
        damage.add_path(words(&finding.what, snapshot));
    }
}

/// Which other stores have what is damaged, and what to do.
pub(super) fn ways_out(run: &mut Run<'_>, works: &[Work<'_>]) {
    let bad: HashSet<(String, String)> =
        run.damage.iter().map(|d| (d.store.clone(), d.object.clone())).collect();
    // What a verdict calls bad is mended by itself; else everything is to be read for it.
    let unsigned = run.voice.silent.is_some();
    let configured = run.session.config.as_ref().map_or(0, |config| config.stores.len());
    let one_of_several = run.session.stores.len() < configured;
    for damage in &mut run.damage {
        let others = works.iter().filter(|w| w.view.store.name() != damage.store);
        let here = |w: &&Work<'_>| {
            let name = w.view.store.name().to_owned();
            !bad.contains(&(name, damage.object.clone())) && has(w, damage)
        };
        damage.elsewhere = others.filter(here).map(|w| w.view.store.name().to_owned()).collect();
        damage.way_out = way_out(damage, unsigned, one_of_several);
    }
}

fn has(work: &Work<'_>, damage: &Damage) -> bool {
    let Some(key) = Key::parse(&damage.object) else { return false };
    let size = match &key {
        Key::Archive(id) | Key::Manifest(id) => {
            let Some(place) = work.places.get(id) else { return false };
            Some(work.items[*place].object.size)
        }
        // Every store has its own.
        Key::Store => return false,
        _ => None,
    };
    match work.view.store.head(&key) {
        Ok(Some(found)) => size.is_none_or(|size| size == found),
        _ => false,
    }
}

/// `one_of_several`: `--store` named one, so what the others have was not looked at.
fn way_out(damage: &Damage, unsigned: bool, one_of_several: bool) -> String {
    let store = &damage.store;
    if damage.kind == FaultKind::Content {
        return "its bytes are those that were stored: restore these paths from an older snapshot, and make a new one with \
                `backstay backup --full`"
            .into();
    }
    let read = if unsigned && damage.kind == FaultKind::Bytes { " --read-data" } else { "" };
    if !damage.elsewhere.is_empty() {
        let from = damage.elsewhere.join(", ");
        return format!("`backstay sync --to {store}{read}` brings it from {from}");
    }
    match Key::parse(&damage.object) {
        Some(Key::Archive(_) | Key::Manifest(_) | Key::Record(_) | Key::Mark(..)) if one_of_several => {
            format!(
                "the other stores were not looked at: `backstay sync --to {store}{read}` brings it from one that has it whole"
            )
        }
        Some(Key::Archive(_) | Key::Manifest(_)) => {
            "no other store that is here has it: `backstay backup` packs anew what is still on this machine; what is only in older \
             snapshots comes back when a store that has it does"
                .into()
        }
        Some(Key::RecoverMd | Key::RecoverMdSig | Key::RecoverPy | Key::RecoverPySig) => {
            "another store or `backstay init` with a new store gives whole ones; nothing else in this store depends on it".into()
        }
        Some(Key::Record(_) | Key::Mark(..)) => {
            "no other store that is here has it: bring back a store or a copy of one that does; other snapshots can be restored".into()
        }
        _ => "bring it back from a copy of the store; its objects are untouched by this".into(),
    }
}

//! The stores that a recovery reads: all of the kit, of which `--store` may say that one lies elsewhere now.
//!
//! A place that is named must not hide what the kit's other stores hold: it may be the older one, and what comes from it would pass for the newest.

use super::Looked;
use crate::keys::Kit;
use crate::keys::kit::StoreAt;
use crate::model::VaultId;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::{Session, Surroundings};
use crate::ops::slots::named_beside;
use crate::ops::stores::{Means, StoreSlot, open_folder};
use crate::ops::vault::{EntryName, name_of, store_info};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The place that `--store` names, when that is none of the kit's stores by its name.
pub(super) fn place_named<'a>(kit: &Kit, around: &'a Surroundings) -> Option<&'a str> {
    around.store.as_deref().filter(|named| !kit.stores.iter().any(|store| store.name == **named))
}

/// Opens what the kit names, for reading. A place that is named beside comes first, with the name of the store that it is taken for.
pub(super) fn open(kit: &Kit, around: Surroundings) -> Result<Session> {
    let Some(named) = place_named(kit, &around) else {
        return Session::open_kit(kit.clone(), around);
    };
    let means = Means::of_reader(&around.interrupt, around.as_of);
    let named = named_beside(named, kit, &means)?;
    named.open().map_err(|away| away.error())?;
    let mut stores: Vec<StoreSlot> =
        kit.stores.iter().map(|store| StoreSlot::of_kit(store, &means)).collect();
    let replaced = taken_for(kit, &stores, &named).map(|number| stores.remove(number));
    let first = replaced.as_ref().map_or_else(|| named.clone(), |store| named.called(&store.name));
    stores.insert(0, first.clone());
    let session = Session::open_kit_with(kit.clone(), around, stores)?;
    if let Some(other) = replaced.filter(|other| other.place != first.place) {
        refuse_older(&session, &first, &other)?;
    }
    Ok(session)
}

/// Which of the kit's stores a place that was named is: the one at that place, or of which it is a copy; else the first of its kind that cannot be read.
fn taken_for(kit: &Kit, stores: &[StoreSlot], named: &StoreSlot) -> Option<usize> {
    if let Some(same) = stores.iter().position(|store| store.place == named.place) {
        return Some(same);
    }
    let all: Vec<Option<VaultId>> = stores.iter().map(|store| instance(kit, store)).collect();
    let own = instance(kit, named);
    let same = all.iter().position(|other| other.is_some() && *other == own);
    let kind = |store: &StoreSlot| store.in_folder().is_some();
    let lost = || (0..stores.len()).find(|&n| all[n].is_none() && kind(&stores[n]) == kind(named));
    same.or_else(lost)
}

/// Which store lies there; none where none of this vault can be read.
fn instance(kit: &Kit, store: &StoreSlot) -> Option<VaultId> {
    let info = store_info(&*store.open().ok()?).ok()?;
    (info.vault == kit.vault).then_some(info.instance)
}

/// Fails where the store also lies where the kit says, with entries that the place which was named lacks: an older copy must not pass for the store.
fn refuse_older(session: &Session, named: &StoreSlot, other: &StoreSlot) -> Result<()> {
    let entries = |slot: &StoreSlot| -> Option<BTreeSet<EntryName>> {
        let reading = session.read_one(&slot.open().ok()?).ok()?;
        Some(reading.entries.iter().map(name_of).collect())
    };
    let (Some(here), Some(there)) = (entries(named), entries(other)) else {
        return Ok(());
    };
    let lacks = there.difference(&here).count();
    if lacks == 0 {
        return Ok(());
    }
    let what = format!(
        "{} is an older copy of store {}: it lacks {lacks} entries that lie where the kit says, in {}",
        named.place, other.name, other.place
    );
    Err(OpError::new(Class::Usage, what).hint(format!(
        "leave --store away to recover from the newer one; if that must not be used, rename its folder, so that nothing lies in {}",
        other.place
    )))
}

/// The folder in which the kit's store with this name lies on this machine, if it is in one: where it was read, else where the kit says.
pub(super) fn folder_of(looked: &Looked, name: &str) -> Option<PathBuf> {
    let folder = match looked.session.stores.iter().find(|slot| slot.name == name) {
        Some(slot) => slot.in_folder()?,
        None => {
            looked.kit.stores.iter().find(|store| store.name == name).and_then(|store| match &store.at {
                StoreAt::Path(path) => Some(Path::new(path)),
                StoreAt::Url(_) => None,
            })?
        }
    };
    let store = open_folder(name, folder, None).ok()?;
    (store_info(&*store).ok()?.vault == looked.kit.vault).then(|| folder.to_owned())
}

/// Whether `--store` named the place of the kit's store with this name.
pub(super) fn is_named(looked: &Looked, name: &str) -> bool {
    let first = looked.session.stores.first();
    place_named(&looked.kit, &looked.session.around).is_some() && first.is_some_and(|slot| slot.name == name)
}

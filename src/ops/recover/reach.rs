//! Where the stores of the kit are on this machine.

use super::Looked;
use crate::keys::Kit;
use crate::keys::kit::StoreAt;
use crate::ops::session::Surroundings;
use crate::ops::stores::open_folder;
use crate::ops::vault::store_info;
use std::path::{Path, PathBuf};

/// The place that `--store` names, when that is none of the kit's stores by its name.
pub(super) fn place_named<'a>(kit: &Kit, around: &'a Surroundings) -> Option<&'a str> {
    around.store.as_deref().filter(|named| !kit.stores.iter().any(|store| store.name == **named))
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

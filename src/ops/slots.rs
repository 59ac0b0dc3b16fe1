//! Which stores a command means: those of the configuration, or one that was named.

use crate::config::{Config, Place, StoreConfig, UrlPlace};
use crate::keys::kit::{Kit, StoreAt};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::layout::store_path;
use crate::ops::none_here::none_here;
use crate::ops::stores::{Means, StoreSlot};
use crate::store::{AbsentStore, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The stores that are meant, and whether it is one that was named by a path.
pub(super) fn slots(config: &Config, wanted: Option<&str>, means: &Means) -> Result<(Vec<StoreSlot>, bool)> {
    if config.stores.is_empty() {
        return Err(OpError::new(Class::Config, format!("{} names no store", config.path.display()))
            .hint("add a [[store]] with `name` and `path`, then run `backstay init`"));
    }
    let Some(wanted) = wanted else {
        return Ok((config.stores.iter().map(|s| StoreSlot::configured(s, means)).collect(), false));
    };
    if let Some(store) = config.stores.iter().find(|s| s.name == wanted) {
        return Ok((vec![StoreSlot::configured(store, means)], false));
    }
    let slot = if UrlPlace::is_url(wanted) {
        let place = moved(wanted, config)?;
        if let Some(store) = config.stores.iter().find(|s| is_bucket(s, &place)) {
            return Ok((vec![StoreSlot::configured(store, means)], false));
        }
        StoreSlot::bucket(place, means)
    } else {
        let path = tidy(wanted)?;
        if let Some(store) = config.stores.iter().find(|s| store_path(s) == Some(&*path)) {
            return Ok((vec![StoreSlot::configured(store, means)], false));
        }
        StoreSlot::folder(&path, means)
    };
    let names: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).collect();
    let hint = format!(
        "the configuration names: {}; anything else is taken as a path, or as a URL where it has ://",
        names.join(", ")
    );
    slot.open().map_err(|away| away.error().hint(hint))?;
    Ok((vec![slot], true))
}

fn is_bucket(store: &StoreConfig, place: &UrlPlace) -> bool {
    matches!(&store.place, Place::Url(own) if own.url() == place.url() && own.endpoint == place.endpoint)
}

fn moved(url: &str, config: &Config) -> Result<UrlPlace> {
    let buckets = config.stores.iter().filter_map(|s| match &s.place {
        Place::Url(place) => Some(&**place),
        Place::Path(_) => None,
    });
    crate::ops::remote::named_bucket(url, &buckets.collect::<Vec<_>>())
}

/// The store at a place that is named beside those of a kit.
pub(super) fn named_beside(place: &str, kit: &Kit, means: &Means) -> Result<StoreSlot> {
    Ok(match UrlPlace::is_url(place) {
        true => StoreSlot::bucket(moved_of_kit(place, kit)?, means),
        false => StoreSlot::folder(&tidy(place)?, means),
    })
}

fn moved_of_kit(url: &str, kit: &Kit) -> Result<UrlPlace> {
    let buckets = kit.stores.iter().filter_map(|s| match &s.at {
        StoreAt::Url(url) => UrlPlace::from_kit(url, &s.settings).ok(),
        StoreAt::Path(_) => None,
    });
    let buckets: Vec<UrlPlace> = buckets.collect();
    crate::ops::remote::named_bucket(url, &buckets.iter().collect::<Vec<_>>())
}

/// The first store that is here; when none is, why each is not.
pub(super) fn first_here(stores: &[StoreSlot]) -> Result<Arc<dyn Store>> {
    let mut all = Vec::new();
    for slot in stores {
        match slot.open() {
            Ok(store) => return Ok(store),
            Err(away) => all.push((&*slot.name, away)),
        }
    }
    Err(none_here(&all))
}

/// The first store that is here, else one that says of itself that it is not.
pub(super) fn first_or_absent(stores: &[StoreSlot]) -> Arc<dyn Store> {
    let absent = || {
        let (name, place) = stores.first().map_or(("none", ""), |slot| (&*slot.name, &*slot.place));
        Arc::new(AbsentStore::new(name, place)) as Arc<dyn Store>
    };
    first_here(stores).unwrap_or_else(|_| absent())
}

fn tidy(path: &str) -> Result<PathBuf> {
    crate::platform::place::tidy(Path::new(path))
        .doing(Class::Usage, || format!("{path:?} is not a usable path"))
}

//! What goes down together: stores on the disks of what they protect.

use crate::config::{Config, Place};
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::layout::component_paths;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The file system that holds `path`, or the nearest folder above that is there.
fn device(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|place| place.metadata().ok()).map(|facts| facts.dev())
}

/// Looks whether one broken disk takes everything.
pub(super) fn look(config: &Config, findings: &mut Findings) {
    let folders: Vec<&Path> = config
        .stores
        .iter()
        .filter_map(|store| match &store.place {
            Place::Path(path) => Some(&**path),
            Place::Url(_) => None,
        })
        .collect();
    let live: BTreeSet<u64> =
        config.components.iter().flat_map(component_paths).filter_map(|path| device(&path)).collect();
    let stores: Vec<Option<u64>> = folders.iter().map(|path| device(path)).collect();
    let away = config.stores.len() > folders.len();
    if config.components.is_empty() || folders.is_empty() || away {
        return;
    }
    let beside = |device: &Option<u64>| device.is_some_and(|device| live.contains(&device));
    if stores.iter().all(beside) {
        findings.warning(
            Area::Store,
            "all stores",
            "all of them lie on a file system of what they protect: one broken disk, one thief or one fire takes both",
            "add a [[store]] on another disk or, better, at another place, then run `backstay init` and `backstay sync`",
        );
    } else {
        let disks: BTreeSet<u64> = stores.iter().flatten().copied().collect();
        let what = match disks.len() {
            1 => "the stores lie on one other disk of this machine",
            _ => "the stores lie on several disks of this machine",
        };
        findings.warning(
            Area::Store,
            "all stores",
            format!("{what}, and none off it: a fire, a thief or a wrong command as root takes both"),
            "add a [[store]] at another place, then run `backstay init` and `backstay sync`",
        );
    }
}

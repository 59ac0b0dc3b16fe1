//! Snapshots of a store that need the same objects.
//!
//! A verdict ends when prune takes the snapshot that it is about. That an object was found bad must not end with it, or what was proved of
//! the object before would count again: it is said of every snapshot that needs the object, and so is that it was proved since.

use crate::model::HostId;
use crate::model::chain::KnownSnapshot;
use crate::ops::vault::{Vault, View};

/// The usable snapshots of `host` that the store of `view` has, in the order of the chain.
pub(super) fn usable_in<'v>(vault: &'v Vault, view: &View, host: &HostId) -> Vec<&'v KnownSnapshot> {
    vault.history.snapshots(host).iter().filter(|s| s.is_usable() && view.has(s)).collect()
}

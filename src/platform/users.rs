//! Names of owners and groups, through the system's own lookup, each asked once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Remembers names of users and groups and their numbers.
#[derive(Debug, Default)]
pub struct Names {
    users: Mutex<HashMap<u32, Option<Arc<str>>>>,
    groups: Mutex<HashMap<u32, Option<Arc<str>>>>,
    uids: Mutex<HashMap<String, Option<u32>>>,
    gids: Mutex<HashMap<String, Option<u32>>>,
}

fn cached<K: std::hash::Hash + Eq + Clone, V: Clone>(
    cache: &Mutex<HashMap<K, V>>,
    key: &K,
    look_up: impl FnOnce() -> V,
) -> V {
    let mut cache = cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    cache.entry(key.clone()).or_insert_with(look_up).clone()
}

impl Names {
    /// The name of user `uid` on this machine.
    pub fn user(&self, uid: u32) -> Option<Arc<str>> {
        cached(&self.users, &uid, || Some(nix::unistd::User::from_uid(uid.into()).ok()??.name.into()))
    }

    /// The name of group `gid` on this machine.
    pub fn group(&self, gid: u32) -> Option<Arc<str>> {
        cached(&self.groups, &gid, || Some(nix::unistd::Group::from_gid(gid.into()).ok()??.name.into()))
    }

    /// The number of user `name` on this machine.
    pub fn uid(&self, name: &str) -> Option<u32> {
        cached(&self.uids, &name.to_owned(), || Some(nix::unistd::User::from_name(name).ok()??.uid.as_raw()))
    }

    /// The number of group `name` on this machine.
    pub fn gid(&self, name: &str) -> Option<u32> {
        cached(&self.gids, &name.to_owned(), || Some(nix::unistd::Group::from_name(name).ok()??.gid.as_raw()))
    }
}

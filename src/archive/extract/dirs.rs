//! A few open directories, the last used first.

use super::made::Key;
use rustix::process::{Resource, getrlimit};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries of a listing come directory by directory, so that few open ones are enough.
const OPEN_MAX: u64 = 128;
const OPEN_MIN: u64 = 4;

/// Open directories by path; the one used longest ago is closed first.
#[derive(Debug)]
pub(super) struct Dirs {
    capacity: usize,
    open: Mutex<Vec<(Key, Arc<OwnedFd>)>>,
}

impl Dirs {
    /// As many as a process with few descriptors can spare.
    pub(super) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with_capacity((limit / 8).clamp(OPEN_MIN, OPEN_MAX) as usize)
    }

    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { capacity, open: Mutex::new(Vec::with_capacity(capacity + 1)) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Key, Arc<OwnedFd>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<OwnedFd>> {
        let mut open = self.lock();
        let place = open.iter().position(|(k, _)| k == key)?;
        open[..=place].rotate_right(1);
        open.first().map(|(_, fd)| Arc::clone(fd))
    }

    pub(super) fn put(&self, key: Key, fd: Arc<OwnedFd>) {
        let mut open = self.lock();
        open.insert(0, (key, fd));
        // Dropped after the lock: closing may take a while.
        let dropped = (open.len() > self.capacity).then(|| open.pop());
        drop(open);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::extract::made::key;

    #[test]
    fn the_one_used_longest_ago_is_closed_first() {
        let dirs = Dirs::with_capacity(2);
        let fd = || Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        let (a, b, c) = (key(b"a"), key(b"b"), key(b"c"));
        dirs.put(a, fd());
        dirs.put(b, fd());
        assert!(dirs.get(&a).is_some());
        dirs.put(c, fd());
        assert!(dirs.get(&a).is_some() && dirs.get(&c).is_some() && dirs.get(&b).is_none());
    }
}

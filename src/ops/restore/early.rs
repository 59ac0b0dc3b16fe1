//! Bringing to the disk what a restore wrote, while it is still at work.
//!
//! What was written waits in memory until somebody syncs, and nothing is published before that. Without this the disk has nothing to do while gigabytes are fetched and
//! databases are checked, and everything afterwards. It is never what decides that something is durable: that sync comes last, and its errors are told.

use crate::platform::at;
use crossbeam_channel::{Sender, bounded};
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

/// The disk is given something to do each time that so many bytes were written.
const STEP: u64 = 256 << 20;

/// A thread that syncs when it is told to. Dropped, it ends, after the sync that it is at.
pub(super) struct Early {
    tell: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    since: Cell<u64>,
}

impl Early {
    /// For the file system of `dir`. Where no thread is to be had there is none, and all is synced at the end.
    pub(super) fn new(dir: OwnedFd) -> Self {
        // Told while it is at work, it goes on once; told twice, too.
        let (tell, told) = bounded(1);
        let sync = move || {
            for () in told {
                // The last sync, which is not this one, says what cannot be written.
                let _early = at::sync_file_system(&dir);
            }
        };
        let thread = Builder::new().name("backstay-sync".into()).spawn(sync).ok();
        Self { tell: thread.is_some().then_some(tell), thread, since: Cell::new(0) }
    }

    /// So many more bytes were written.
    pub(super) fn written(&self, bytes: u64) {
        self.since.set(self.since.get() + bytes);
        if self.since.get() >= STEP {
            self.now();
        }
    }

    /// Begins to write everything.
    pub(super) fn now(&self) {
        self.since.set(0);
        if let Some(tell) = &self.tell {
            let _is_told = tell.try_send(());
        }
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        drop(self.tell.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

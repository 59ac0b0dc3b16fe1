//! Bringing to the disk what a restore wrote, while it is still at work.
//!
//! What was written waits in memory until somebody syncs, and nothing is published before that. Without this the disk has nothing to do while gigabytes are fetched and
//! databases are checked, and everything afterwards. It never decides that something is durable: that sync comes last. But what could not be written the kernel tells
//! one caller, once, and that may be this one: whoever publishes must have asked [`Early::end`] before.

use crate::durable::crash;
use crate::platform::at;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

/// The disk is given something to do each time that so many bytes were written.
const STEP: u64 = 256 << 20;

/// A thread that syncs when it is told to. Dropped, it waits for the sync that is under way and begins no other: what was written is about to be removed.
pub(super) struct Early {
    tell: Option<Sender<()>>,
    /// The same orders, to take back one that was not begun.
    told: Receiver<()>,
    thread: Option<JoinHandle<io::Result<()>>>,
    since: Cell<u64>,
}

impl Early {
    /// For the file system of `dir`. Where no thread is to be had there is none, and all is synced at the end.
    pub(super) fn new(dir: OwnedFd) -> Self {
        Self::with(move || {
            crash::refusable("sync what is there of a restored tree", || at::sync_file_system(&dir))
        })
    }

    fn with(mut sync: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        // Told while it is at work, it goes on once; told twice, too.
        let (tell, told) = bounded(1);
        let orders = told.clone();
        // After an error there is nothing more to do for it: nothing is to be published.
        let run = move || orders.into_iter().try_for_each(|()| sync());
        let thread = Builder::new().name("backstay-sync".into()).spawn(run).ok();
        Self { tell: thread.is_some().then_some(tell), told, thread, since: Cell::new(0) }
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

    /// Ends it when it has done what it was told. An error says that something of what was restored is not on the disk, and never will be.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> io::Result<()> {
        drop(self.tell.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes to the disk is gone")))
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        let _not_begun = self.told.try_recv();
        let _nothing_is_published = self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_is_told_at_the_end_however_much_was_written_after_it() {
        let (done, each) = bounded(0);
        let mut results = vec![Ok(()), Err(io::ErrorKind::StorageFull.into()), Ok(())].into_iter();
        let early = Early::with(move || {
            let result = results.next().unwrap_or(Ok(()));
            done.send(()).map_err(io::Error::other).and(result)
        });
        for _ in 0..2 {
            early.written(STEP);
            each.recv().unwrap();
        }
        early.written(STEP);
        early.now();
        assert_eq!(early.end().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(each.recv().is_err(), "after an error nothing is written any more");
    }

    #[test]
    fn dropped_it_begins_nothing_more() {
        let (begun, each) = bounded(0);
        let (go_on, waits) = bounded::<()>(0);
        let early = Early::with(move || {
            begun.send(()).map_err(io::Error::other)?;
            let _nobody = waits.recv();
            Ok(())
        });
        early.now();
        each.recv().unwrap();
        early.now(); // waits its turn
        std::thread::scope(|scope| {
            let orders = early.told.clone();
            scope.spawn(move || drop(early));
            while !orders.is_empty() {
                std::thread::yield_now();
            }
            drop(go_on);
        });
        assert!(each.recv().is_err(), "one that was not begun is taken back");
    }

    #[test]
    fn less_than_a_step_is_left_to_the_end() {
        let early = Early::with(|| Err(io::ErrorKind::Other.into()));
        early.written(STEP - 1);
        assert!(early.end().is_ok());
    }
}

//! Putting objects while packing goes on: archives are ended by one thread and put by a few, which also read back what the store did not prove.
//!
//! A put or a proof that failed ends the run at the next object, and at the latest in [`Uploads::finish`]: no record may be made before that gave its word for every
//! object. What waits is bounded in bytes. Names are known before anything is sent, so listings can be written while the archives they refer to are on their way.

use crate::archive::{ArchiveError, ArchiveWriter};
use crate::durable::crash;
use crate::model::ObjectId;
use crate::model::manifest::ArchiveInfo;
use crate::model::mark::Level;
use crate::ops::backup::unfinished::{Taken, Unfinished};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::session::in_store;
use crate::ops::stores::Away;
use crate::store::{Key, Put, Store};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// So many objects are put at once: a store with latency takes them together.
const AT_ONCE: usize = 4;
/// Archives that were handed over and not put yet take no more room on the disk than this, or are one; listings, in memory, no more than that.
const WAITING_FILES: u64 = 256 << 20;
const WAITING_BYTES: u64 = 16 << 20;

/// What is to be put.
enum Job {
    /// One that is `kept` stays for the next run when it cannot be put.
    File {
        path: PathBuf,
        size: u64,
        id: ObjectId,
        kept: bool,
    },
    Bytes {
        id: ObjectId,
        bytes: Vec<u8>,
    },
}

impl Job {
    fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Bytes { bytes, .. } => bytes.len() as u64,
        }
    }

    fn limit(&self) -> u64 {
        match self {
            Self::File { .. } => WAITING_FILES,
            Self::Bytes { .. } => WAITING_BYTES,
        }
    }

    /// It will not be put: its file goes. One that stays all the same is found by the next run's sweep.
    fn discard(&self) {
        if let Self::File { path, kept: false, .. } = self {
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// An archive of a component that is to be ended, and who waits to hear of it.
struct Ending {
    writer: ArchiveWriter,
    component: String,
    heard: Sender<ArchiveInfo>,
}

/// Objects of a kind that are handed over and neither put nor given up.
#[derive(Default)]
struct Waiting {
    objects: usize,
    bytes: u64,
}

#[derive(Default)]
struct State {
    files: Waiting,
    listings: Waiting,
    /// The first that went wrong. Told to whoever asks: which of them the run ends with is not known.
    failed: Option<Away>,
    stopped: bool,
    /// What is in the store and proved there, and how.
    proved: HashMap<ObjectId, Level>,
}

impl State {
    fn of(&mut self, job: &Job) -> &mut Waiting {
        match job {
            Job::File { .. } => &mut self.files,
            Job::Bytes { .. } => &mut self.listings,
        }
    }
}

/// What the threads share.
struct Shared {
    store: Arc<dyn Store>,
    interrupt: Interrupt,
    /// What runs that were cut off left, where that is of use.
    unfinished: Option<Arc<Unfinished>>,
    state: Mutex<State>,
    moved: Condvar,
}

/// Objects on their way into one store. Dropped before [`Uploads::finish`] it gives up what waits and waits for what is under way.
pub(super) struct Uploads {
    shared: Arc<Shared>,
    endings: Option<Sender<Ending>>,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Uploads {
    /// Begins with nothing.
    pub(super) fn new(
        store: &Arc<dyn Store>,
        interrupt: &Interrupt,
        unfinished: Option<Arc<Unfinished>>,
    ) -> Result<Self> {
        let (endings, to_end) = bounded::<Ending>(0);
        let (jobs, to_put) = bounded::<Job>(AT_ONCE * 16);
        let shared = Arc::new(Shared {
            store: Arc::clone(store),
            interrupt: interrupt.clone(),
            unfinished,
            state: Mutex::default(),
            moved: Condvar::new(),
        });
        let mut uploads =
            Self { shared, endings: Some(endings), jobs: Some(jobs.clone()), threads: Vec::new() };
        let shared = Arc::clone(&uploads.shared);
        uploads.start("backstay-seal", move || {
            for ending in to_end {
                shared.end(ending, &jobs);
            }
        })?;
        for _ in 0..AT_ONCE {
            let (shared, to_put) = (Arc::clone(&uploads.shared), to_put.clone());
            uploads.start("backstay-put", move || to_put.into_iter().for_each(|job| shared.put(&job)))?;
        }
        Ok(uploads)
    }

    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = Builder::new().name(name.into()).spawn(work);
        let thread =
            thread.map_err(|e| OpError::new(Class::Failed, "no thread can be started").because(e))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Ends an archive of `component` and puts it. Waits while too much is on its way; what it is called comes through the receiver, which hears nothing when anything
    /// fails.
    pub(super) fn archive(&self, component: &str, writer: ArchiveWriter) -> Result<Receiver<ArchiveInfo>> {
        self.shared.check()?;
        let (heard, hear) = bounded(1);
        let ending = Ending { writer, component: component.to_owned(), heard };
        let sent = self.endings.as_ref().is_some_and(|endings| endings.send(ending).is_ok());
        if sent { Ok(hear) } else { Err(self.shared.failure()) }
    }

    /// True when archives are kept in case the run is cut off, and so must say what is inside of them.
    pub(super) fn keeps(&self) -> bool {
        self.shared.unfinished.is_some()
    }

    /// Waits for what [`Uploads::archive`] promised.
    pub(super) fn info(&self, hear: &Receiver<ArchiveInfo>) -> Result<ArchiveInfo> {
        hear.recv().map_err(|_| self.shared.failure())
    }

    /// Puts a listing or an index.
    pub(super) fn manifest(&self, id: ObjectId, bytes: Vec<u8>) -> Result<()> {
        self.shared.check()?;
        let job = Job::Bytes { id, bytes };
        self.shared.enter(&job)?;
        match self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.shared.failure()),
        }
    }

    /// Waits until everything is in the store; gives what was proved there, and how.
    pub(super) fn finish(&self) -> Result<HashMap<ObjectId, Level>> {
        let mut state = self.shared.state();
        while state.files.objects + state.listings.objects > 0 && !state.stopped {
            state = self.shared.wait(state);
        }
        drop(state);
        self.shared.check()?;
        Ok(std::mem::take(&mut self.shared.state().proved))
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.moved.notify_all();
        (self.endings, self.jobs) = (None, None);
        for thread in self.threads.drain(..) {
            // A thread that panicked has put nothing that anybody counts on.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.moved.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails when anything did.
    fn check(&self) -> Result<()> {
        self.interrupt.check()?;
        if self.state().stopped { Err(self.failure()) } else { Ok(()) }
    }

    /// What went wrong first.
    fn failure(&self) -> OpError {
        let failed = self.state().failed.as_ref().map(Away::error);
        let failed = failed.or_else(|| self.interrupt.check().err());
        failed.unwrap_or_else(|| {
            OpError::new(Class::Failed, "internal: a thread that puts objects ended before its work was done")
        })
    }

    fn fail(&self, error: OpError) {
        let mut state = self.state();
        if !state.stopped {
            (state.failed, state.stopped) = (Some(Away::from(&error)), true);
        }
        drop(state);
        self.moved.notify_all();
    }

    /// Books an object; waits while too much is booked.
    fn enter(&self, job: &Job) -> Result<()> {
        let (size, limit) = (job.size(), job.limit());
        let mut state = self.state();
        while !state.stopped && state.of(job).objects > 0 && state.of(job).bytes + size > limit {
            state = self.wait(state);
        }
        if state.stopped {
            drop(state);
            return Err(self.failure());
        }
        let waiting = state.of(job);
        (waiting.objects, waiting.bytes) = (waiting.objects + 1, waiting.bytes + size);
        Ok(())
    }

    fn leave(&self, job: &Job) {
        let mut state = self.state();
        let waiting = state.of(job);
        (waiting.objects, waiting.bytes) = (waiting.objects - 1, waiting.bytes - job.size());
        drop(state);
        self.moved.notify_all();
    }

    /// Ends an archive and hands it on.
    fn end(&self, Ending { writer, component, heard }: Ending, jobs: &Sender<Job>) {
        if self.state().stopped {
            return; // dropping the writer removes its file
        }
        crash::point("pack: archive to be sealed");
        // Where a put is a move, the file that is moved must last.
        let moved = self.store.spool_dir().is_some();
        let sealed = match if moved { writer.finish() } else { writer.finish_passing() } {
            Ok(sealed) => sealed,
            Err(error) => return self.fail(cannot_pack(&component, error)),
        };
        crash::point("pack: archive sealed");
        let (id, size) = (sealed.id, sealed.size);
        let taken = match &self.unfinished {
            Some(unfinished) => unfinished.take(&*self.store, sealed),
            None => Ok(Taken::Put { info: sealed.info, path: sealed.path, kept: false }),
        };
        let (info, path, kept) = match taken {
            Ok(Taken::Put { info, path, kept }) => (info, path, kept),
            Ok(Taken::There { info }) => return drop(heard.send(info)),
            Err(error) => return self.fail(error),
        };
        let job = Job::File { path, size, id, kept };
        if let Err(error) = self.enter(&job) {
            self.fail(error);
            return job.discard();
        }
        let _heard = heard.send(info); // whoever asked may have failed meanwhile
        // The threads that take them live as long as this one.
        let _sent = jobs.send(job);
    }

    /// Puts an object and proves it.
    fn put(&self, job: &Job) {
        let _leaving = Leaving { shared: self, job };
        if self.state().stopped {
            job.discard();
        } else {
            match self.put_and_prove(job) {
                Ok((id, level)) => drop(self.state().proved.insert(id, level)),
                Err(error) => self.fail(error),
            }
        }
    }

    fn put_and_prove(&self, job: &Job) -> Result<(ObjectId, Level)> {
        let store = &*self.store;
        let (key, id, put) = match job {
            Job::File { path, size, id, .. } => {
                let key = Key::Archive(*id);
                let put = in_store(store, store.put_file(&key, path, *size, id));
                if put.is_err() {
                    job.discard();
                }
                crash::point("pack: archive put");
                (key, *id, put?)
            }
            Job::Bytes { id, bytes } => {
                let key = Key::Manifest(*id);
                let put = in_store(store, store.put_bytes(&key, bytes))?;
                crash::point("pack: listing put");
                (key, *id, put)
            }
        };
        if put == Put::Proved {
            return Ok((id, Level::Put));
        }
        prove(store, &self.interrupt, &mut |_| {}, &key, (job.size(), id))?;
        crash::point("pack: object read back");
        Ok((id, Level::Read))
    }
}

/// Counts an object off, also when putting it panicked: whoever waits for it would wait for ever, and the lock would be held as long.
struct Leaving<'a> {
    shared: &'a Shared,
    job: &'a Job,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(OpError::new(Class::Failed, "internal: a thread that puts objects panicked"));
        }
        self.shared.leave(self.job);
    }
}

/// Reads an object from the medium and compares it with its size and name.
pub(super) fn prove(
    store: &dyn Store,
    interrupt: &Interrupt,
    seen: &mut dyn FnMut(u64),
    key: &Key,
    expected: (u64, ObjectId),
) -> Result<()> {
    interrupt.check()?;
    let found = in_store(store, store.read_back(key, seen))?;
    if found == expected {
        return Ok(());
    }
    let what = format!("store {:?} did not keep {key} as it was written", store.name());
    Err(OpError::new(Class::Damage, what)
        .because("what was read back is not what was put; no snapshot was made")
        .hint(
            "check that disk, and its cable and memory; older snapshots are untouched, but verify them too",
        ))
}

/// An archive that cannot be made.
pub(super) fn cannot_pack(component: &str, error: ArchiveError) -> OpError {
    let what = format!("cannot pack component {component}");
    let hint = match &error {
        ArchiveError::Io { source, .. } => spool_hint(source.kind()),
        _ => None,
    };
    match hint {
        Some(hint) => OpError::new(Class::Store, what).because(error).hint(hint),
        None => OpError::new(Class::Failed, what).because(error),
    }
}

/// What to do where the disk on which archives are prepared, the store's own, takes none.
fn spool_hint(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room on that disk; nothing that was committed is touched")
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            Some("check who may read and write there")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! One writer at a time, by `flock`: the system drops the lock with its process, so nothing goes stale and nobody has to unlock.

use crate::durable::error::DurableError;
use crate::model::Timestamp;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// What it is doing: `backup`, `prune`, ….
    pub what: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.to_zoned(jiff::tz::TimeZone::system());
        let since = since.strftime("%Y-%m-%d %H:%M");
        write!(f, "{} since {since} (process {})", self.what.escape_debug(), self.pid)
    }
}

/// A lock file. It is made when needed and never removed.
#[derive(Debug, Clone)]
pub struct FileLock {
    path: PathBuf,
}

/// The lock is held until this is dropped.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub struct Held {
    file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Only for people: what the file says counts for nothing once the lock is gone.
        let _ = self.file.set_len(0);
        // Closing is not enough: a child that another thread forks just now has a copy of the descriptor until it execs, and the lock with it.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

const LARGEST_NOTE: u64 = 4096;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl FileLock {
    /// The lock at `path`; touches nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock for `what`; `None` when another holds it.
    pub fn try_lock(&self, what: &str, now: Timestamp) -> Result<Option<Held>, DurableError> {
        let fail = |verb, source: std::io::Error| DurableError::io(verb, &self.path, source);
        loop {
            let file = self.open()?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(fail("lock", e.into())),
            }
            // Somebody may have removed the file between opening and locking: a lock on a file without a name excludes nobody.
            if !self.is_at_path(&file).map_err(|e| fail("look at", e))? {
                continue;
            }
            let note = Holder { pid: std::process::id(), since: now, what: what.to_owned() };
            // A full disk must not keep a prune from its lock: the note is only for people.
            let _ = write_note(&file, &note);
            return Ok(Some(Held { file }));
        }
    }

    /// Who holds the lock, as far as its file says. Right only while the lock is held by somebody.
    pub fn holder(&self) -> Option<Holder> {
        let mut text = Vec::new();
        File::open(&self.path).ok()?.take(LARGEST_NOTE).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Takes the lock for `what`, waiting for whoever holds it: for `timeout` at most, without end if that is `None`, not at all if it is
    /// zero. `pause` waits for the time it is given ([`sleep`] does), or breaks off. [`DurableError::Busy`] when it was not to be had.
    pub fn lock_wait(
        &self,
        what: &str,
        now: &dyn Fn() -> Timestamp,
        timeout: Option<Duration>,
        pause: &mut dyn FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Held, DurableError> {
        let mut waited = Duration::ZERO;
        let mut step = FIRST_PAUSE;
        loop {
            if let Some(held) = self.try_lock(what, now())? {
                return Ok(held);
            }
            let left = timeout.map_or(step, |timeout| timeout.saturating_sub(waited));
            step = step.min(left);
            if step.is_zero() || pause(step).is_break() {
                return Err(DurableError::Busy { path: self.path.clone(), holder: self.holder() });
            }
            waited += step;
            step = (step * 2).min(LONGEST_PAUSE);
        }
    }

    fn open(&self) -> Result<File, DurableError> {
        // Close-on-exec: a child that inherited the descriptor would keep the lock after us.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, &self.path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| DurableError::io("open", &self.path, e))?;
        Ok(File::from(fd))
    }

    fn is_at_path(&self, file: &File) -> std::io::Result<bool> {
        let held = file.metadata()?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn write_note(mut file: &File, note: &Holder) -> std::io::Result<()> {
    let text = serde_json::to_vec(note)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}

/// Sleeps for `time` and goes on: the ordinary `pause` of [`FileLock::lock_wait`].
pub fn sleep(time: Duration) -> ControlFlow<()> {
    std::thread::sleep(time);
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_when_it_is_dropped_though_a_forked_child_still_has_a_copy_of_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let lock = FileLock::new(dir.path().join("lock"));
        let held = lock.try_lock("backup", Timestamp::UNIX_EPOCH).unwrap().unwrap();
        let copy = held.file.try_clone().unwrap();
        assert!(lock.try_lock("backup", Timestamp::UNIX_EPOCH).unwrap().is_none());
        drop(held);
        assert!(lock.try_lock("backup", Timestamp::UNIX_EPOCH).unwrap().is_some());
        drop(copy);
    }
}

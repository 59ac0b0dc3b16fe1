//! What goes out while a transaction on a database is open: it must keep neither writers nor the log waiting for a slow reader.

use crate::source::sqlite::copy::{Copy, blank_lock_page};
use crate::source::sqlite::error::{Cause, Failure};
use crate::source::sqlite::outlet::Outlet;
use crate::source::sqlite::wire::CHUNK;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A log may grow by this much, or by half the database, while the transaction keeps it from being reset.
const WAL_GROWTH_MIN: u64 = 1 << 30;
/// The reader may make the transaction last this long; then what is left goes to a file.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// A reader that takes nothing for this long is waiting for something else, such as the network.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pages on their way out while the transaction is open.
pub(super) struct Live<'a> {
    outlet: &'a Outlet,
    spool: &'a Path,
    log: LogWatch,
    until: Instant,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte.
    at: u64,
    spill: Option<(Copy, u64)>,
}

impl<'a> Live<'a> {
    pub(super) fn new(outlet: &'a Outlet, spool: &'a Path, log: LogWatch) -> Self {
        let until = Instant::now() + HOLD_MAX;
        Self { outlet, spool, log, until, buffer: outlet.buffer(), at: 0, spill: None }
    }

    pub(super) fn page(&mut self, page: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + page.len() > CHUNK {
            self.flush()?;
        }
        self.buffer.extend_from_slice(page);
        Ok(())
    }

    /// Adds `length` bytes that lie at `at` of `file`, without filling a buffer with zeros first. False: not so many lie there, and nothing was added.
    pub(super) fn add_of(
        &mut self,
        file: &File,
        at: u64,
        length: u64,
        page_size: u32,
    ) -> Result<bool, Failure> {
        let unreadable = |e: &dyn std::fmt::Display| Failure::new(Cause::Unreadable, e);
        let length = usize::try_from(length).map_err(|e| unreadable(&e))?;
        if self.buffer.len() + length > CHUNK {
            self.flush()?;
        }
        let before = self.buffer.len();
        let mut from = file;
        from.seek(SeekFrom::Start(at)).map_err(|e| unreadable(&e))?;
        let read = from.take(length as u64).read_to_end(&mut self.buffer).map_err(|e| unreadable(&e))?;
        if read < length {
            self.buffer.truncate(before);
            return Ok(false);
        }
        blank_lock_page(&mut self.buffer[before..], at, page_size);
        Ok(true)
    }

    /// Sends the rest. What the reader did not take in time comes back, with the offset where it begins.
    pub(super) fn end(mut self) -> Result<Option<(Copy, u64)>, Failure> {
        self.flush()?;
        Ok(self.spill)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.log.check()?;
        let bytes = std::mem::replace(&mut self.buffer, self.outlet.buffer());
        let (at, length) = (self.at, bytes.len() as u64);
        self.at += length;
        let mut rest = Some(bytes);
        if self.spill.is_none() && Instant::now() < self.until {
            rest = self.outlet.data_within(rest.take().unwrap_or_default(), PATIENCE)?;
        }
        let Some(bytes) = rest else { return Ok(()) };
        let fail = |e: io::Error| Failure::of_spool(self.spool, &e);
        if self.spill.is_none() {
            self.spill = Some((Copy::create(self.spool).map_err(fail)?, at));
        }
        match &self.spill {
            Some((copy, _)) => copy.file.write_all_at(&bytes, at).map_err(fail),
            None => Ok(()),
        }
    }
}

/// Watches how much a log grows. Looks at its size only.
#[derive(Debug, Clone)]
pub(super) struct LogWatch {
    path: PathBuf,
    before: u64,
    limit: u64,
}

impl LogWatch {
    pub(super) fn new(database: &Path, size: u64) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        let path = PathBuf::from(path);
        let before = log_size(&path);
        Self { path, before, limit: WAL_GROWTH_MIN.max(size / 2) }
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        let grown = log_size(&self.path).saturating_sub(self.before);
        if grown > self.limit {
            let why = format!("it grew by {} MiB, more than {} MiB", grown >> 20, self.limit >> 20);
            return Err(Failure::new(Cause::WalGrew, &why));
        }
        Ok(())
    }
}

fn log_size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_grows_too_much_ends_the_capture() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("app.db");
        let log = File::create(dir.path().join("app.db-wal")).unwrap();
        log.set_len(5000).unwrap();
        let watch = LogWatch::new(&database, 4 << 30);
        log.set_len(5000 + (2 << 30)).unwrap();
        assert_eq!(watch.check(), Ok(()));
        log.set_len(5001 + (2 << 30)).unwrap();
        assert_eq!(watch.check().unwrap_err().cause, Cause::WalGrew);
    }

    #[test]
    fn a_file_that_ends_early_adds_nothing() {
        let (queue, frames) = crossbeam_channel::unbounded();
        let outlet = Outlet::new(queue, crossbeam_channel::never());
        let dir = tempfile::tempdir().unwrap();
        let mut live = Live::new(&outlet, dir.path(), LogWatch::new(dir.path(), 0));
        live.buffer.extend([1; 512]);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[2; 1024], 0).unwrap();
        assert!(!live.add_of(&file, 512, 1024, 512).unwrap());
        assert_eq!(live.buffer, [1; 512]);
        assert!(live.add_of(&file, 512, 512, 512).unwrap());
        assert_eq!(live.buffer, [[1; 512], [2; 512]].concat());
        assert!(frames.is_empty());
    }

    #[test]
    fn a_reader_that_stalls_does_not_hold_the_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, reader) = crossbeam_channel::bounded(1);
        let outlet = Outlet::new(queue, crossbeam_channel::never());
        let mut live = Live::new(&outlet, dir.path(), LogWatch::new(dir.path(), 0));
        live.until = Instant::now();
        live.buffer.extend([1; 10]);
        live.flush().unwrap();
        live.page(&[2; 10]).unwrap();
        live.flush().unwrap();
        let (copy, from) = live.spill.unwrap();
        assert_eq!(from, 0);
        assert!(reader.is_empty());
        drop(std::thread::spawn(move || reader.iter().count()));
        copy.send(&outlet, from, 20, 512).unwrap();
        assert_eq!(std::fs::read(&copy.path).unwrap(), [[1; 10], [2; 10]].concat());
    }
}

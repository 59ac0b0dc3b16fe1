//! Reading the pages of a database in its open transaction: straight into the pipe, or into a copy.

use crate::source::sqlite::child::{SCHEMA, Source};
use crate::source::sqlite::copy::Copy;
use crate::source::sqlite::error::{Cause, Failure};
use crate::source::sqlite::outlet::Outlet;
use crate::source::sqlite::wire::CHUNK;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A log may grow by this much, or by half the database, while the transaction keeps it from being reset.
const WAL_GROWTH_MIN: u64 = 1 << 30;
/// The reader may make the transaction last this long; then what is left goes to a file.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// How long writers have, at least, between two turns of a copy.
const TURN: Duration = Duration::from_millis(10);
/// A reader that takes nothing for this long is waiting for something else, such as the network.
const PATIENCE: Duration = Duration::from_secs(2);

impl Source {
    /// Whether this build can read pages through SQL.
    pub(super) fn has_dbpage(&self) -> bool {
        self.connection.prepare("SELECT pgno, data FROM sqlite_dbpage").is_ok()
    }

    /// Hands over every page, in order.
    fn each_page(&self, take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let fail = |e: rusqlite::Error| self.explain(&e);
        let mut statement = self.connection.prepare("SELECT pgno, data FROM sqlite_dbpage").map_err(fail)?;
        let mut rows = statement.query([]).map_err(fail)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(fail)? {
            count += 1;
            let number: i64 = row.get(0).map_err(fail)?;
            let page =
                row.get_ref(1).map_err(fail)?.as_blob().map_err(|e| Failure::new(Cause::Damaged, &e))?;
            if u64::try_from(number) != Ok(count) || page.len() != self.page_size as usize {
                return Err(Failure::new(Cause::Damaged, &format!("page {count} cannot be read")));
            }
            take(page)?;
        }
        if count != self.pages {
            let why = format!("it has {count} pages, but says that it has {}", self.pages);
            return Err(Failure::new(Cause::Damaged, &why));
        }
        Ok(())
    }

    /// Sends all pages as they are read. What the reader does not take in time is in the copy that comes back, from the offset beside it; it is to be sent
    /// when the transaction has ended.
    pub(super) fn stream(
        &self,
        outlet: &Outlet,
        spool: &Path,
        log: &LogWatch,
    ) -> Result<Option<(Copy, u64)>, Failure> {
        let mut live = Live {
            outlet,
            spool,
            log: log.clone(),
            until: Instant::now() + HOLD_MAX,
            buffer: outlet.buffer(),
            at: 0,
            spill: None,
        };
        self.each_page(&mut |page| live.page(page))?;
        live.flush()?;
        Ok(live.spill)
    }

    /// Copies all pages into `copy`, in rollback-journal mode. Where that takes longer than `limit`, the lock is let go in between, and what was copied is still of
    /// one state as long as SQLite says that nobody committed anything meanwhile; else this fails with [`Cause::WriterWouldWait`].
    pub(super) fn copy_in_turns(&self, copy: &Copy, spool: &Path, limit: Duration) -> Result<(), Failure> {
        let fail = |e: rusqlite::Error| self.explain(&e);
        let version = self.data_version()?;
        let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
        let mut statement = self.connection.prepare(sql).map_err(fail)?;
        let mut until = self.began + limit;
        let (mut buffer, mut at) = (Vec::with_capacity(CHUNK), 0);
        for number in 1..=self.pages {
            let number = i64::try_from(number).map_err(|e| Failure::new(Cause::Damaged, &e))?;
            let take = |row: &rusqlite::Row<'_>| {
                buffer.extend_from_slice(row.get_ref(0)?.as_blob()?);
                Ok(())
            };
            match statement.query_row([number], take) {
                Ok(()) if buffer.len() % self.page_size as usize == 0 => {}
                Ok(()) | Err(rusqlite::Error::QueryReturnedNoRows) => {
                    return Err(Failure::new(Cause::Damaged, &format!("page {number} cannot be read")));
                }
                Err(e) => return Err(fail(e)),
            }
            if buffer.len() + self.page_size as usize <= CHUNK {
                continue;
            }
            copy.file.write_all_at(&buffer, at).map_err(|e| Failure::of_spool(spool, &e))?;
            at += buffer.len() as u64;
            buffer.clear();
            if Instant::now() >= until {
                self.let_writers(limit, version)?;
                until = Instant::now() + limit;
            }
        }
        copy.file.write_all_at(&buffer, at).map_err(|e| Failure::of_spool(spool, &e))
    }

    /// Changes when another connection commits something.
    fn data_version(&self) -> Result<i64, Failure> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|e| self.explain(&e))
    }

    /// Ends the transaction, so that writers have their turn, and begins another one on the same state.
    fn let_writers(&self, limit: Duration, version: i64) -> Result<(), Failure> {
        if limit.is_zero() {
            return Err(Failure::new(Cause::WriterWouldWait, "the time for copying it is over"));
        }
        self.connection.execute_batch("COMMIT").map_err(|e| self.explain(&e))?;
        std::thread::sleep(TURN);
        let again = self.connection.execute_batch("BEGIN");
        let again = again.and_then(|()| self.connection.query_row(SCHEMA, [], |row| row.get::<_, i64>(0)));
        again.map_err(|e| self.explain(&e))?;
        match self.data_version()? == version {
            true => Ok(()),
            false => Err(Failure::new(Cause::WriterWouldWait, "it was written to while it was copied")),
        }
    }

    /// The same through the backup interface, for builds without `sqlite_dbpage`. The schema cookie on page 1 comes out one higher.
    pub(super) fn back_up(&self, copy: &Copy, deadline: Option<Instant>) -> Result<(), Failure> {
        let spool_error = |e: rusqlite::Error| match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Failure::new(Cause::NoRoom, &e),
            _ => Failure::new(Cause::Unreadable, &format!("cannot write a copy: {e}")),
        };
        let log = LogWatch::new(&self.database, self.size());
        let mut to = Connection::open(&copy.path).map_err(spool_error)?;
        to.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF").map_err(spool_error)?;
        {
            let backup = Backup::new(&self.connection, &mut to).map_err(spool_error)?;
            let step = i32::try_from(CHUNK / self.page_size as usize).unwrap_or(16).max(16);
            loop {
                match backup.step(step).map_err(spool_error)? {
                    StepResult::Done => break,
                    StepResult::More => {}
                    _ => {
                        return Err(Failure::new(Cause::Locked, "the backup interface found it locked"));
                    }
                }
                log.check()?;
                deadline.map_or(Ok(()), in_time)?;
            }
        }
        drop(to);
        let size = copy.file.metadata().map_err(|e| Failure::new(Cause::Unreadable, &e))?.len();
        if size != self.size() {
            let why = format!("the backup interface made {size} bytes of {}", self.size());
            return Err(Failure::new(Cause::Unreadable, &why));
        }
        Ok(())
    }

    /// Clones the file itself where the file system can share blocks. Right only in rollback-journal mode, where the shared lock keeps writers out of the file.
    /// False: not possible here.
    pub(super) fn clone_file(&self, raw: &std::fs::File, copy: &Copy) -> bool {
        let same = match (raw.metadata(), std::fs::metadata(&self.database)) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            _ => false,
        };
        same && clone(raw, &copy.file).is_ok() && copy.file.metadata().is_ok_and(|m| m.len() >= self.size())
    }
}

#[cfg(target_os = "linux")]
fn clone(from: &std::fs::File, to: &std::fs::File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}
#[cfg(not(target_os = "linux"))]
fn clone(_: &std::fs::File, _: &std::fs::File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn in_time(deadline: Instant) -> Result<(), Failure> {
    match Instant::now() < deadline {
        true => Ok(()),
        false => Err(Failure::new(Cause::WriterWouldWait, "the time for copying it is over")),
    }
}

/// Pages on their way out while the transaction is open.
struct Live<'a> {
    outlet: &'a Outlet,
    spool: &'a Path,
    log: LogWatch,
    until: Instant,
    buffer: Vec<u8>,
    /// Offset of the buffer's first byte.
    at: u64,
    spill: Option<(Copy, u64)>,
}

impl Live<'_> {
    fn page(&mut self, page: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + page.len() > CHUNK {
            self.flush()?;
        }
        self.buffer.extend_from_slice(page);
        Ok(())
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

/// Watches how much a log grows. Looks at its size only and never opens it.
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
        let log = std::fs::File::create(dir.path().join("app.db-wal")).unwrap();
        log.set_len(5000).unwrap();
        let watch = LogWatch::new(&database, 4 << 30);
        log.set_len(5000 + (2 << 30)).unwrap();
        assert_eq!(watch.check(), Ok(()));
        log.set_len(5001 + (2 << 30)).unwrap();
        assert_eq!(watch.check().unwrap_err().cause, Cause::WalGrew);
    }

    #[test]
    fn a_reader_that_stalls_does_not_hold_the_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, reader) = crossbeam_channel::bounded(1);
        let outlet = Outlet::new(queue, crossbeam_channel::never());
        let (spool, log) = (dir.path(), LogWatch::new(dir.path(), 0));
        let mut live = Live {
            outlet: &outlet,
            spool,
            log,
            until: Instant::now(),
            buffer: vec![1; 10],
            at: 0,
            spill: None,
        };
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

//! Reading the pages of a database in its open transaction: straight into the pipe, or into a copy.

use crate::source::sqlite::child::{SCHEMA, Source};
use crate::source::sqlite::copy::Copy;
use crate::source::sqlite::error::{Cause, Failure};
use crate::source::sqlite::live::{Live, LogWatch};
use crate::source::sqlite::outlet::Outlet;
use crate::source::sqlite::raw::{Raw, Stretch, is_held};
use crate::source::sqlite::twin::{Files, LogIndex, is_at, open_beside};
use crate::source::sqlite::wire::CHUNK;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long writers have, at least, between two turns of a copy.
const TURN: Duration = Duration::from_millis(10);

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

    /// The pages that need not be asked of SQLite, in the transaction that `connections` of this process have open.
    fn raw<'f>(&self, (file, index): Files<'f>, connections: usize) -> Option<Raw<'f>> {
        if self.log.get().is_none() {
            let _ = self.log.set(open_beside(&self.database, "-wal")?);
        }
        if index.get().is_none() {
            let _ = index.set(LogIndex::open(&self.database)?);
        }
        let raw = Raw::new(file, self.log.get()?, index.get()?, (self.page_size, connections))?;
        let mut first = vec![0; self.page_size as usize];
        let same = is_at(file, &self.database) && file.read_exact_at(&mut first, 0).is_ok();
        (same && (raw.is_logged(1) || self.page(1, &mut |page| page == first).ok()?)).then_some(raw)
    }

    /// Lets `take` have one page.
    fn page<T>(&self, number: u64, take: &mut dyn FnMut(&[u8]) -> T) -> Result<T, Failure> {
        let sql = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
        let fail = |e: rusqlite::Error| self.explain(&e);
        let damaged = || Failure::new(Cause::Damaged, &format!("page {number} cannot be read"));
        let mut statement = self.connection.prepare_cached(sql).map_err(fail)?;
        let mut rows = statement.query([i64::try_from(number).unwrap_or(0)]).map_err(fail)?;
        let row = rows.next().map_err(fail)?.ok_or_else(damaged)?;
        let page = row.get_ref(0).map_err(fail)?.as_blob().map_err(|e| Failure::new(Cause::Damaged, &e))?;
        if page.len() != self.page_size as usize {
            return Err(damaged());
        }
        Ok(take(page))
    }

    /// Sends pages from the file, those that lie in the log as SQLite has them.
    fn each_stretch(&self, raw: &Raw<'_>, live: &mut Live<'_>) -> Result<(), Failure> {
        let page_size = u64::from(self.page_size);
        for stretch in raw.stretches(self.pages, CHUNK as u64 / page_size) {
            match stretch {
                Stretch::Asked(number) => self.page(number, &mut |page| live.page(page))??,
                Stretch::InFile(pages) => {
                    let (at, length) = ((pages.start - 1) * page_size, (pages.end - pages.start) * page_size);
                    if !live.add_of(raw.file, at, length, self.page_size)? {
                        // The file ends early. What that means SQLite knows.
                        pages.into_iter().try_for_each(|n| self.page(n, &mut |page| live.page(page))?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends all pages as they are read; so many connections of this process have a transaction on its state. What the reader does not take in time is in the copy that comes back, from the offset beside
    /// it; it is to be sent when the transaction has ended.
    pub(super) fn stream(
        &self,
        outlet: &Outlet,
        spool: &Path,
        log: &LogWatch,
        (files, connections): (Files<'_>, usize),
    ) -> Result<Option<(Copy, u64)>, Failure> {
        let mut live = Live::new(outlet, spool, log.clone());
        match self.raw(files, connections) {
            Some(raw) => self.each_stretch(&raw, &mut live)?,
            None => self.each_page(&mut |page| live.page(page))?,
        }
        if self.connection.is_autocommit() {
            return Err(Failure::new(Cause::Unreadable, "its transaction ended before all pages were read"));
        }
        live.end()
    }

    /// Copies all pages into `copy`, in rollback-journal mode. Where that takes longer than `limit`, the lock is let go in between, and what was copied is still of
    /// one state as long as SQLite says that nobody committed anything meanwhile; else this fails with [`Cause::WriterWouldWait`].
    pub(super) fn copy_in_turns(&self, copy: &Copy, spool: &Path, limit: Duration) -> Result<(), Failure> {
        let version = self.data_version()?;
        let mut until = self.began + limit;
        let (mut buffer, mut at) = (Vec::with_capacity(CHUNK), 0);
        for number in 1..=self.pages {
            self.page(number, &mut |page| buffer.extend_from_slice(page))?;
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
    pub(super) fn clone_file(&self, raw: &File, copy: &Copy) -> bool {
        let same = match (raw.metadata(), std::fs::metadata(&self.database)) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            _ => false,
        };
        // Its name proves nothing: what is cloned must be what SQLite holds the lock on.
        same && is_held(raw, 1)
            && clone(raw, &copy.file).is_ok()
            && copy.file.metadata().is_ok_and(|m| m.len() >= self.size())
    }
}

#[cfg(target_os = "linux")]
fn clone(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}
#[cfg(not(target_os = "linux"))]
fn clone(_: &File, _: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn in_time(deadline: Instant) -> Result<(), Failure> {
    match Instant::now() < deadline {
        true => Ok(()),
        false => Err(Failure::new(Cause::WriterWouldWait, "the time for copying it is over")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sqlite::testing::Ends;
    use crate::source::sqlite::wire::Request;

    /// All pages as they are sent, and how many of them were asked of SQLite; `None` where all were.
    fn sent(source: &Source, files: Files<'_>, spool: &Path) -> Option<(Vec<u8>, usize)> {
        let raw = source.raw(files, 1)?;
        let asked = raw.stretches(source.pages, 1).filter(|s| matches!(s, Stretch::Asked(_))).count();
        let (queue, frames) = crossbeam_channel::unbounded();
        let outlet = Outlet::new(queue, crossbeam_channel::never());
        let log = LogWatch::new(&source.database, source.size());
        assert!(source.stream(&outlet, spool, &log, (files, 1)).unwrap().is_none());
        Some((frames.try_iter().flat_map(|frame| frame.bytes).collect(), asked))
    }

    /// What is in the file. Not by opening it: that would be closed again.
    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        let _ends_early = file.read_exact_at(&mut bytes, 0);
        bytes
    }

    #[test]
    fn pages_from_the_file_are_those_of_the_transaction_whoever_writes_and_checkpoints_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let setup =
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
            INSERT INTO t SELECT i, randomblob(900) FROM n; PRAGMA wal_checkpoint(TRUNCATE)";
        Connection::open(&path).unwrap().execute_batch(setup).unwrap();
        // Open for as long as any connection is: closing it would drop their locks.
        let (raw, index) = (File::open(&path).unwrap(), std::cell::OnceCell::new());
        let ended = std::sync::atomic::AtomicBool::new(false);
        let runs = || !ended.load(std::sync::atomic::Ordering::Relaxed);
        let (mut asked, mut moved, mut whole, mut states) = (0, 0, 0, std::collections::BTreeSet::new());
        let connection = || {
            let connection = Connection::open(&path).unwrap();
            connection.busy_timeout(Duration::from_secs(10)).unwrap();
            connection.execute_batch("PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=40").unwrap();
            connection
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = connection();
                for n in 0_i64.. {
                    let change = match n % 5 {
                        0 => "DELETE FROM t WHERE id = 1 + (?1 * 7919) % 1500",
                        1 => "INSERT OR REPLACE INTO t VALUES (1 + (?1 * 7919) % 1500, randomblob(2500))",
                        _ => "UPDATE t SET x = randomblob(800) WHERE id % 97 = ?1 % 97 AND id > 300",
                    };
                    writer.execute(change, [n / 5]).unwrap();
                    if n % 16 == 0 {
                        std::thread::yield_now();
                    }
                    if !runs() {
                        break;
                    }
                }
            });
            scope.spawn(|| {
                let other = connection();
                other.busy_timeout(Duration::from_millis(1)).unwrap();
                for kind in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"].iter().cycle().take_while(|_| runs()) {
                    // One that cannot end now says so in a row, or fails: both are as it should be.
                    let sql = format!("PRAGMA wal_checkpoint({kind})");
                    drop(other.query_row(&sql, [], |row| row.get::<_, i64>(0)));
                    (0..2000).for_each(|_| std::hint::spin_loop());
                }
            });
            let _ends = Ends(&ended);
            let end = Instant::now() + Duration::from_secs(60);
            while Instant::now() < end && (whole < 150 || asked < 2000 || moved < 30 || states.len() < 50) {
                let source = Source::begin(&Request::of(&path)).unwrap();
                let before = content(&raw);
                let Some((bytes, from_sqlite)) = sent(&source, (&raw, &index), dir.path()) else { continue };
                let mut expected = Vec::new();
                source
                    .each_page(&mut |page| {
                        expected.extend_from_slice(page);
                        Ok(())
                    })
                    .unwrap();
                assert!(bytes == expected, "a page is of another state: {from_sqlite} of {}", source.pages);
                // The file moved on under the transaction, which is what all this is about.
                moved += u32::from(content(&raw) != before);
                (whole, asked) = (whole + 1, asked + from_sqlite);
                states.insert(blake3::hash(&bytes).to_hex());
            }
        });
        let seen = format!("{whole} captures of {} states, {asked} pages asked, {moved} moved", states.len());
        assert!(whole >= 150 && asked >= 2000 && moved >= 30 && states.len() >= 50, "{seen}");
    }

    #[test]
    fn files_that_are_not_those_sqlite_has_open_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (path, log) = (at("app.db"), at("app.db-wal"));
        let setup =
            "PRAGMA journal_mode=WAL; CREATE TABLE t(x); PRAGMA wal_checkpoint; INSERT INTO t VALUES (1)";
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch(setup).unwrap();
        let (raw, index) = (File::open(&path).unwrap(), std::cell::OnceCell::new());
        let begin = || Source::begin(&Request::of(&path)).unwrap();
        let raw_of = |source: &Source, file: &File| source.raw((file, &index), 1).map(|raw| raw.is_logged(2));
        assert_eq!(raw_of(&begin(), &raw), Some(true));
        // Another file with the same content, also where it has taken the name.
        let source = begin();
        std::fs::write(at("copy.db"), content(&raw)).unwrap();
        let copy = File::open(at("copy.db")).unwrap();
        assert_eq!(raw_of(&source, &copy), None);
        std::fs::rename(&path, at("moved.db")).unwrap();
        std::fs::rename(at("copy.db"), &path).unwrap();
        assert_eq!((raw_of(&source, &copy), raw_of(&source, &raw)), (None, None));
        std::fs::rename(&path, at("copy.db")).unwrap();
        std::fs::rename(at("moved.db"), &path).unwrap();
        assert_eq!(raw_of(&source, &raw), Some(true));
        assert!(source.raw((&raw, &index), 3).is_none(), "two connections have it open, not three");
        // A log that is gone, or another one, since the transaction began.
        let gone = |with: &dyn Fn()| {
            let source = begin();
            std::fs::rename(&log, at("moved-wal")).unwrap();
            with();
            assert_eq!(raw_of(&source, &raw), None);
            std::fs::rename(at("moved-wal"), &log).unwrap();
        };
        gone(&|| ());
        gone(&|| std::fs::write(&log, b"").unwrap());
        gone(&|| std::fs::write(&log, std::fs::read(at("moved-wal")).unwrap()).unwrap());
        // Or before: the writer goes on with the one that it has, and SQLite makes an empty one for whoever comes.
        std::fs::rename(&log, at("moved-wal")).unwrap();
        let source = begin();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(raw_of(&source, &raw), None);
        drop(source);
        std::fs::rename(at("moved-wal"), &log).unwrap();
        assert_eq!(raw_of(&begin(), &raw), Some(true));
    }
}

//! The child: opens one database, and answers on stdout.

use crate::model::record::CheckResult;
use crate::source::sqlite::checking::{checked, quick_check, quick_check_beside, unchecked};
use crate::source::sqlite::copy::Copy;
use crate::source::sqlite::error::{Cause, Failure};
use crate::source::sqlite::live::LogWatch;
use crate::source::sqlite::outlet::{Outlet, QUEUE};
use crate::source::sqlite::twin;
use crate::source::sqlite::wire::{Frame, Header, Method, Request, Tag, Trailer};
use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use rustix::fs::{Mode, OFlags};
use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The hidden command under which the program becomes such a child.
pub const CHILD_COMMAND: &str = "__capture-sqlite";
/// Reads something, so that the transaction has its lock.
pub(super) const SCHEMA: &str = "SELECT count(*) FROM sqlite_schema";
/// So often a copy in rollback-journal mode is tried.
const COPY_TRIES: u32 = 3;
/// Between two tries, writers get their turn.
const PAUSE: Duration = Duration::from_millis(200);

/// What the program does when its first argument is [`CHILD_COMMAND`]: reads a request from stdin, answers on stdout, returns the exit code.
pub fn child_main() -> i32 {
    let answer = || -> io::Result<()> {
        let mut request = Vec::new();
        io::stdin().lock().read_to_end(&mut request)?;
        let request: Request = serde_json::from_slice(&request)?;
        let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        serve(&request, &mut out)
    };
    match answer() {
        Ok(()) => 0,
        Err(e) => {
            // For the parent, which shows it when the talk ends early; nobody else reads it.
            drop(writeln!(io::stderr(), "{e}"));
            1
        }
    }
}

/// Answers `request` on `out`. An error is one of `out`; everything else is said in a frame.
pub(super) fn serve(request: &Request, out: &mut (impl Write + Send)) -> io::Result<()> {
    let (queue, frames) = crossbeam_channel::bounded::<Frame>(QUEUE);
    let (written, spare) = crossbeam_channel::bounded(QUEUE);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            frames.into_iter().try_for_each(|mut frame| {
                frame.write(out)?;
                frame.bytes.clear();
                // Where there are enough of them it goes.
                drop(written.try_send(frame.bytes));
                io::Result::Ok(())
            })?;
            out.flush()
        });
        let outlet = Outlet::new(queue, spare);
        if let Err(failure) = capture(request, &outlet) {
            // When the reader is gone, the writer's error says so.
            drop(outlet.say(Tag::Failure, &failure));
        }
        drop(outlet);
        writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer failed")))
    })
}

fn capture(request: &Request, outlet: &Outlet) -> Result<(), Failure> {
    // Open until the connection is closed: closing it earlier would drop the connection's locks.
    let raw = open_raw(request)?;
    // The same holds for the index of its log.
    let index = OnceCell::new();
    let spool = &request.spool.0;
    let mut tries = 1;
    loop {
        let source = Source::begin(request)?;
        if source.journal_mode == "wal" {
            return live(request, outlet, source, (&raw, &index));
        }
        match copied(request, &source, &raw, spool) {
            Ok((copy, method)) => {
                let header = source.header(method);
                drop(source);
                return send_copy(request, outlet, &header, &copy);
            }
            Err(f) if f.cause == Cause::WriterWouldWait && tries < COPY_TRIES => tries += 1,
            Err(f) if f.cause == Cause::WriterWouldWait => {
                let (size, limit) = (source.size() >> 20, request.lock_limit_ms);
                let why = format!(
                    "its {size} MiB cannot be copied within {limit} ms, and each of the {COPY_TRIES} times somebody wrote to it between two such turns"
                );
                return Err(Failure::new(Cause::WriterWouldWait, &why));
            }
            Err(f) => return Err(f),
        }
        drop(source);
        std::thread::sleep(PAUSE);
    }
}

/// WAL mode: nobody waits for us, so pages are sent, and checked, in the transaction.
fn live(
    request: &Request,
    outlet: &Outlet,
    mut source: Source,
    files: twin::Files<'_>,
) -> Result<(), Failure> {
    let spool = &request.spool.0;
    if request.pages && source.has_dbpage() {
        let twin = match unchecked(request.check, source.size()) {
            None => twin::of(&mut source, files, || Source::begin(request))?,
            Some(_) => None,
        };
        let header = source.header(Method::Pages);
        outlet.say(Tag::Header, &header)?;
        let (spill, trailer) = match twin {
            Some(twin) => stream_and_check(request, outlet, &source, twin, files)?,
            None => stream_then_check(request, outlet, &mut source, files)?,
        };
        drop(source);
        if let Some((copy, from)) = spill {
            copy.send(outlet, from, header.size, header.page_size)?;
        }
        return outlet.say(Tag::Trailer, &trailer);
    }
    let header = source.header(Method::Backup);
    let copy = Copy::create(spool).map_err(|e| Failure::of_spool(spool, &e))?;
    let log = LogWatch::new(&source.database, source.size());
    source.back_up(&copy, None)?;
    let check = || quick_check_beside(&mut source.connection, log, Arc::default());
    let trailer = checked(request.check, header.size, check);
    drop(source);
    outlet.say(Tag::Header, &header)?;
    copy.send(outlet, 0, header.size, header.page_size)?;
    outlet.say(Tag::Trailer, &trailer)
}

/// What was not sent in time, and what the check says.
type Sent = (Option<(Copy, u64)>, Trailer);

fn stream_then_check(
    request: &Request,
    outlet: &Outlet,
    source: &mut Source,
    files: twin::Files<'_>,
) -> Result<Sent, Failure> {
    let (log, size) = (LogWatch::new(&source.database, source.size()), source.size());
    let spill = source.stream(outlet, &request.spool.0, &log, (files, 1))?;
    let check = || quick_check_beside(&mut source.connection, log, Arc::default());
    Ok((spill, checked(request.check, size, check)))
}

/// Sends pages while `twin`, which sees the same state, is checked.
fn stream_and_check(
    request: &Request,
    outlet: &Outlet,
    source: &Source,
    mut twin: Connection,
    files: twin::Files<'_>,
) -> Result<Sent, Failure> {
    let (log, size) = (LogWatch::new(&source.database, source.size()), source.size());
    let (given_up, watch) = (Arc::new(AtomicBool::new(false)), log.clone());
    let seen = Arc::clone(&given_up);
    std::thread::scope(|scope| {
        let check = || checked(request.check, size, move || quick_check_beside(&mut twin, watch, seen));
        let check = std::thread::Builder::new().spawn_scoped(scope, check);
        let spill = source.stream(outlet, &request.spool.0, &log, (files, 2));
        given_up.store(spill.is_err(), Ordering::Relaxed);
        let ended = check.ok().and_then(|check| check.join().ok());
        let nothing = || Trailer {
            check: CheckResult::Deferred,
            messages: vec!["the check could not run, or broke off".into()],
        };
        Ok((spill?, ended.unwrap_or_else(nothing)))
    })
}

/// Rollback-journal mode: writers wait while we read, so a copy is made, as fast as can be and for no longer than `lock_limit` at a time.
fn copied(request: &Request, source: &Source, raw: &File, spool: &Path) -> Result<(Copy, Method), Failure> {
    let deadline = source.began + Duration::from_millis(request.lock_limit_ms);
    let create = || Copy::create(spool).map_err(|e| Failure::of_spool(spool, &e));
    let copy = create()?;
    if source.clone_file(raw, &copy) {
        return Ok((copy, Method::Copy));
    }
    let copy = create()?;
    if request.pages && source.has_dbpage() {
        source.copy_in_turns(&copy, spool, Duration::from_millis(request.lock_limit_ms))?;
        return Ok((copy, Method::Pages));
    }
    source.back_up(&copy, Some(deadline))?;
    Ok((copy, Method::Backup))
}

fn send_copy(request: &Request, outlet: &Outlet, header: &Header, copy: &Copy) -> Result<(), Failure> {
    outlet.say(Tag::Header, header)?;
    copy.send(outlet, 0, header.size, header.page_size)?;
    // The copy is what the transaction saw, so checking it is the same, and no writer waits for it.
    let check =
        || Ok(quick_check(&Connection::open_with_flags(&copy.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?));
    outlet.say(Tag::Trailer, &checked(request.check, header.size, check))
}

/// The database file, open, with its first bytes looked at.
fn open_raw(request: &Request) -> Result<File, Failure> {
    let path = &request.database.0;
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    flags.set(OFlags::NOFOLLOW, request.no_links);
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
    let raw = File::from(opened.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::new(Cause::Missing, &e),
        _ => Failure::new(Cause::Unreadable, &e),
    })?);
    let meta = raw.metadata().map_err(|e| Failure::new(Cause::Unreadable, &e))?;
    if !meta.is_file() {
        return Err(Failure::new(Cause::NotADatabase, "it is not a regular file"));
    }
    if meta.len() == 0 {
        return Err(Failure::new(Cause::Empty, "the file has 0 bytes"));
    }
    let mut begin = [0; 16];
    match raw.read_exact_at(&mut begin, 0) {
        Ok(()) if begin == *b"SQLite format 3\0" => Ok(raw),
        Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => Err(Failure::new(Cause::Unreadable, &e)),
        _ => Err(Failure::new(Cause::NotADatabase, "it does not begin like one, or it is encrypted")),
    }
}

/// A database with an open read transaction.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) connection: Connection,
    pub(super) database: PathBuf,
    no_links: bool,
    limit: Duration,
    pub(super) page_size: u32,
    pub(super) pages: u64,
    journal_mode: String,
    instant: Timestamp,
    /// When others may have begun to wait.
    pub(super) began: Instant,
    /// Its log, once that was opened. After the connection here, because it is closed after it.
    pub(super) log: OnceCell<File>,
}

impl Source {
    /// Opens the database and begins to read. Waits for locks, and for somebody to roll back a hot journal, until `busy_limit` is over.
    pub(super) fn begin(request: &Request) -> Result<Self, Failure> {
        let limit = Duration::from_millis(request.busy_limit_ms);
        let until = Instant::now() + limit;
        loop {
            match Self::try_begin(request, limit) {
                Err(f) if f.cause == Cause::HotJournal && Instant::now() < until => {
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    fn try_begin(request: &Request, limit: Duration) -> Result<Self, Failure> {
        let path = &request.database.0;
        // SQLite keeps the log beside the file itself, also where a link leads to it. Where none may, SQLite is to refuse it, so none is followed here.
        let real = if request.no_links { None } else { path.canonicalize().ok() };
        let real = real.unwrap_or_else(|| path.clone());
        let began = || -> rusqlite::Result<(Self, i64)> {
            // By the name that the sidecars, and a second connection, are found by.
            let connection = open(&real, request.no_links, limit)?;
            connection.execute_batch("BEGIN")?;
            let tables = connection.query_row(SCHEMA, [], |row| row.get(0))?;
            let (instant, began) = (Timestamp::now(), Instant::now());
            let page_size = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let pages = pages_of(&connection)?;
            let journal_mode = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let (database, no_links) = (real.clone(), request.no_links);
            let source = Self {
                connection,
                database,
                no_links,
                limit,
                page_size,
                pages,
                journal_mode,
                instant,
                began,
                log: OnceCell::new(),
            };
            Ok((source, tables))
        };
        match began() {
            Ok((_, 0)) => Err(Failure::new(Cause::Empty, "it has no tables")),
            Ok((source, _)) => Ok(source),
            Err(e) => Err(explain(&e, &real)),
        }
    }

    pub(super) fn size(&self) -> u64 {
        u64::from(self.page_size) * self.pages
    }

    /// Another connection to the same database.
    pub(super) fn another(&self) -> rusqlite::Result<Connection> {
        open(&self.database, self.no_links, self.limit)
    }

    /// Reads something, so that the transaction of `connection` has its state.
    pub(super) fn look(connection: &Connection) -> rusqlite::Result<()> {
        connection.query_row(SCHEMA, [], |_| Ok(()))
    }

    /// Ends the transaction and begins another, on what is there now.
    pub(super) fn begin_again(&mut self) -> Result<(), Failure> {
        let again = self.connection.execute_batch("COMMIT; BEGIN");
        let pages =
            again.and_then(|()| Self::look(&self.connection)).and_then(|()| pages_of(&self.connection));
        self.pages = pages.map_err(|e| self.explain(&e))?;
        (self.instant, self.began) = (Timestamp::now(), Instant::now());
        Ok(())
    }

    fn header(&self, method: Method) -> Header {
        let (page_size, pages, instant) = (self.page_size, self.pages, self.instant);
        Header {
            page_size,
            pages,
            size: self.size(),
            journal_mode: self.journal_mode.clone(),
            method,
            instant,
        }
    }

    /// An error of SQLite on this database as a failure.
    pub(super) fn explain(&self, error: &rusqlite::Error) -> Failure {
        explain(error, &self.database)
    }
}

fn open(path: &Path, no_links: bool, limit: Duration) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_NOFOLLOW, no_links);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(limit)?;
    // Our close must never be the one that empties or removes the log.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn pages_of(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    Ok(u64::try_from(pages).unwrap_or(0))
}

pub(super) fn sidecar(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn explain(error: &rusqlite::Error, path: &Path) -> Failure {
    let extended = error.sqlite_error().map_or(0, |e| e.extended_code);
    let journal = || std::fs::metadata(sidecar(path, "-journal")).is_ok_and(|m| m.len() > 0);
    let no_log = || !sidecar(path, "-wal").exists() || !sidecar(path, "-shm").exists();
    let cause = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Cause::Locked,
        Some(ErrorCode::NotADatabase) => Cause::NotADatabase,
        Some(ErrorCode::DatabaseCorrupt) => Cause::Damaged,
        Some(ErrorCode::DiskFull) => Cause::NoRoom,
        Some(ErrorCode::ReadOnly) if extended == ffi::SQLITE_READONLY_ROLLBACK || journal() => {
            Cause::HotJournal
        }
        Some(ErrorCode::ReadOnly) => Cause::ReadOnlyWal,
        // The file itself could be opened a moment ago.
        Some(ErrorCode::CannotOpen) if no_log() => Cause::ReadOnlyWal,
        _ => Cause::Unreadable,
    };
    Failure::new(cause, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sqlite::CheckPolicy;
    use crate::source::sqlite::wire::WirePath;

    // No other connection may be open here: `serve` is made to be alone in its process.
    fn captured(
        database: &Path,
        pages: bool,
        check: CheckPolicy,
    ) -> (Result<Header, Failure>, Vec<u8>, Option<Trailer>) {
        let spool = tempfile::tempdir().unwrap();
        let request = Request {
            database: WirePath::from(database),
            spool: WirePath::from(spool.path()),
            no_links: false,
            lock_limit_ms: 60_000,
            busy_limit_ms: 100,
            check,
            pages,
        };
        let mut out = Vec::new();
        serve(&request, &mut out).unwrap();
        assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "something is left in the spool");
        let (mut rest, mut data) = (&out[..], Vec::new());
        let header = match frame(&mut rest) {
            (Tag::Header, said) => serde_json::from_slice(said).unwrap(),
            (_, said) => return (Err(serde_json::from_slice(said).unwrap()), data, None),
        };
        loop {
            match frame(&mut rest) {
                (Tag::Data, bytes) => data.extend_from_slice(bytes),
                (_, said) => {
                    assert!(rest.is_empty());
                    return (Ok(header), data, Some(serde_json::from_slice(said).unwrap()));
                }
            }
        }
    }

    fn frame<'o>(rest: &mut &'o [u8]) -> (Tag, &'o [u8]) {
        let (tag, length) = Frame::read_head(rest).unwrap();
        let (said, after) = rest.split_at(length as usize);
        *rest = after;
        (tag, said)
    }

    fn database(dir: &Path, setup: &str) -> PathBuf {
        let path = dir.join("app.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(setup).unwrap();
        let rows = "CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB);
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
            INSERT INTO t SELECT i, randomblob(700) FROM n";
        connection.execute_batch(rows).unwrap();
        path
    }

    fn sum_of(path: &Path) -> (i64, String) {
        let connection = Connection::open(path).unwrap();
        let check: String = connection.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
        assert_eq!(check, "ok");
        connection
            .query_row("SELECT count(*), hex(sum(substr(hex(x), 1, 9))) FROM t", [], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .unwrap()
    }

    #[test]
    fn builds_without_dbpage_capture_the_same_rows() {
        for mode in ["WAL", "DELETE"] {
            let dir = tempfile::tempdir().unwrap();
            let path = database(dir.path(), &format!("PRAGMA journal_mode={mode}"));
            let (header, data, trailer) = captured(&path, false, CheckPolicy::Always);
            let header = header.unwrap();
            assert_eq!((header.method, header.size), (Method::Backup, data.len() as u64), "{mode}");
            assert_eq!(trailer.unwrap().check, CheckResult::Passed);
            let copy = dir.path().join("copy.db");
            std::fs::write(&copy, &data).unwrap();
            assert_eq!(sum_of(&copy), sum_of(&path));
        }
    }

    #[test]
    fn a_database_at_rest_is_captured_byte_by_byte() {
        for mode in ["WAL", "DELETE"] {
            for size in [512, 1024, 4096, 65536] {
                let dir = tempfile::tempdir().unwrap();
                let path =
                    database(dir.path(), &format!("PRAGMA page_size={size}; PRAGMA journal_mode={mode}"));
                let before = std::fs::read(&path).unwrap();
                let (header, data, trailer) = captured(&path, true, CheckPolicy::Auto);
                let header = header.unwrap();
                assert_eq!((header.page_size, header.journal_mode), (size, mode.to_lowercase()));
                assert_eq!(trailer.unwrap().check, CheckResult::Passed);
                assert!(data == before, "{mode} {size}: {} and {} bytes", data.len(), before.len());
                assert!(before == std::fs::read(&path).unwrap(), "the database was written to");
            }
        }
    }

    #[test]
    fn a_schema_that_needs_its_own_program_is_captured_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path(), "");
        let setup = "CREATE TABLE u(a TEXT); CREATE INDEX i ON u(a); INSERT INTO u VALUES ('x');
            PRAGMA writable_schema=ON;
            UPDATE sqlite_schema SET sql = 'CREATE TABLE u(a TEXT COLLATE OURS)' WHERE name = 'u'";
        Connection::open(&path).unwrap().execute_batch(setup).unwrap();
        let (header, data, trailer) = captured(&path, true, CheckPolicy::Always);
        assert_eq!(header.unwrap().size, data.len() as u64);
        let trailer = trailer.unwrap();
        assert_eq!(trailer.check, CheckResult::None);
        assert!(trailer.messages[0].contains("OURS"), "{trailer:?}");
    }
}

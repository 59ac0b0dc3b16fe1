//! A second connection that sees the very state of the first, so that a check runs while pages are sent: a changed database is captured sooner, and holds
//! its log back for less long.
//!
//! SQLite gives no way (in safe code) to open a second transaction on the state of another. But every commit changes the header of the log's index, which
//! counts them: when it is the same before the first transaction began and after the second did, both see the same commits.

use crate::source::sqlite::child::{Source, sidecar};
use crate::source::sqlite::error::Failure;
use rusqlite::Connection;
use rustix::fs::{Mode, OFlags};
use std::cell::OnceCell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The header's two copies, of 48 bytes each ([format](https://sqlite.org/walformat.html#the_wal_index_header)). What follows is of checkpoints.
const HEADER: usize = 96;
/// Where a copy says that it is one.
const INITIALISED: usize = 12;
/// Where it says which frame is the last, in this machine's byte order, and what the log's header says, too, when these frames are in it.
const FRAMES: Range<usize> = 16..20;
const SALTS: Range<usize> = 32..40;
/// How often it is tried, where somebody commits all the time.
const TRIES: u32 = 5;

/// The index of a write-ahead log (`-shm`), read as a file.
///
/// Closing it drops the locks that SQLite holds on that file in this process: whoever opens one keeps it until all connections to the database are closed.
#[derive(Debug)]
pub(super) struct LogIndex(pub(super) File);

impl LogIndex {
    pub(super) fn open(database: &Path) -> Option<Self> {
        open_beside(database, "-shm").map(Self)
    }

    /// What the last commit left; `None` while one is being written down.
    fn header(&self) -> Option<[u8; HEADER]> {
        let mut header = [0; HEADER];
        self.0.read_exact_at(&mut header, 0).ok()?;
        let (first, second) = header.split_at(HEADER / 2);
        (first == second && first[INITIALISED] != 0).then_some(header)
    }

    /// How many frames the log has, and its salts; `None` while a commit is being written down.
    pub(super) fn newest(&self) -> Option<(u32, [u8; 8])> {
        let header = self.header()?;
        let frames = header[FRAMES].try_into().ok().map(u32::from_ne_bytes)?;
        Some((frames, header[SALTS].try_into().ok()?))
    }
}

/// The database file, opened before the first connection was, and the place for the index of its log. Both stay open until all connections are closed.
pub(super) type Files<'a> = (&'a File, &'a OnceCell<LogIndex>);

/// A connection with a transaction on the state that the transaction of `source` sees, which begins anew for that. `None`: there is none to be had.
/// Where it cannot begin anew, `first` gives another source in its place.
pub(super) fn of(
    source: &mut Source,
    (raw, index): Files<'_>,
    first: impl FnOnce() -> Result<Source, Failure>,
) -> Result<Option<Connection>, Failure> {
    if index.get().is_none() {
        let Some(opened) = LogIndex::open(&source.database) else { return Ok(None) };
        let _ = index.set(opened);
    }
    let (Some(index), Ok(twin)) = (index.get(), source.another()) else { return Ok(None) };
    for _ in 0..TRIES {
        let before = index.header();
        if source.begin_again().is_err() {
            // A moment ago it could: nothing may fail that only saves time.
            *source = first()?;
            return Ok(None);
        }
        if twin.execute_batch("BEGIN").and_then(|()| Source::look(&twin)).is_err() {
            return Ok(None);
        }
        if before.is_some() && index.header() == before {
            // One of the three may have been opened after somebody put another database in this one's place.
            let same = is_at(raw, &source.database) && is_at(&index.0, &sidecar(&source.database, "-shm"));
            return Ok(same.then_some(twin));
        }
        if twin.execute_batch("COMMIT").is_err() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Opens what SQLite keeps beside a database. To be closed after all connections are: should it be another name of the database or of the log's index, closing it would
/// drop SQLite's locks on that.
pub(super) fn open_beside(database: &Path, ending: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(sidecar(database, ending), flags, Mode::empty()).ok().map(File::from)
}

/// Whether the open `file` is what lies at `path`.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    match (rustix::fs::fstat(file), rustix::fs::lstat(path)) {
        (Ok(open), Ok(there)) => (open.st_dev, open.st_ino) == (there.st_dev, there.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::sqlite::testing::Ends;
    use crate::source::sqlite::wire::Request;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn begin(database: &Path) -> Source {
        Source::begin(&Request::of(database)).unwrap()
    }

    fn database(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("app.db");
        let setup =
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE t(x); INSERT INTO t VALUES (0)";
        Connection::open(&path).unwrap().execute_batch(setup).unwrap();
        path
    }

    fn newest(connection: &Connection) -> i64 {
        connection.query_row("SELECT max(x) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_twin_sees_the_state_that_its_source_sees_whoever_commits_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        // Open for as long as anything here is: see `LogIndex`.
        let (raw, index) = (File::open(&path).unwrap(), OnceCell::new());
        let (ended, mut had, mut states) = (AtomicBool::new(false), 0, std::collections::BTreeSet::new());
        std::thread::scope(|scope| {
            let writer = Connection::open(&path).unwrap();
            scope.spawn(|| {
                let writer = writer;
                for n in 1.. {
                    writer.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
                    // Now and then nobody commits for a moment.
                    for _ in 0..(n % 64) * 500 {
                        std::hint::spin_loop();
                    }
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let _ends = Ends(&ended);
            for _ in 0..50_000 {
                let mut source = begin(&path);
                if let Some(twin) = of(&mut source, (&raw, &index), || unreachable!()).unwrap() {
                    let seen = newest(&source.connection);
                    assert_eq!(newest(&twin), seen);
                    let pages: i64 = twin.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
                    assert_eq!(u64::try_from(pages), Ok(source.pages));
                    had += 1;
                    states.insert(seen);
                }
                if had >= 20 && states.len() >= 10 {
                    break;
                }
            }
        });
        assert!(had >= 20 && states.len() >= 10, "{had} twins of {} states", states.len());
    }

    #[test]
    fn a_commit_in_between_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        let source = begin(&path);
        let index = LogIndex::open(&source.database).unwrap();
        let before = index.header();
        assert!(before.is_some());
        assert_eq!(index.header(), before, "nothing was committed");
        Connection::open(&path).unwrap().execute_batch("INSERT INTO t VALUES (7)").unwrap();
        assert_ne!(index.header(), before);
        drop(source);
    }

    #[test]
    fn without_an_index_there_is_no_twin() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
        let (raw, index) = (File::open(&path).unwrap(), OnceCell::new());
        assert!(of(&mut begin(&path), (&raw, &index), || unreachable!()).unwrap().is_none());
    }

    #[test]
    fn another_database_at_that_place_is_no_twin() {
        let dir = tempfile::tempdir().unwrap();
        let path = database(dir.path());
        let (elsewhere, index) = (tempfile::tempfile().unwrap(), OnceCell::new());
        let mut source = begin(&path);
        assert!(of(&mut source, (&elsewhere, &index), || unreachable!()).unwrap().is_none());
        assert_eq!(newest(&source.connection), 0, "the source is as good as before");
        let raw = File::open(&path).unwrap();
        assert!(of(&mut source, (&raw, &index), || unreachable!()).unwrap().is_some());
    }
}

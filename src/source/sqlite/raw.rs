//! Which pages of a database in WAL mode may be read from its file, many at a time, instead of one by one through SQLite.
//!
//! While a read transaction is open, SQLite finds a page in the log when the log holds a version of it that the transaction sees, and in the database file else.
//! The file is written to by checkpoints alone, and these write only what some reader's mark allows: versions in the log that this transaction sees, too. One that
//! uses nothing of the log keeps checkpoints out altogether, and one that uses it keeps the log from being begun anew. So a page that is nowhere in the log, once the
//! transaction has begun, is in the file as the transaction sees it, and stays so until it ends. Whether a frame of the log is valid does not matter here: a page
//! that only seems to be in the log is read through SQLite, which is always right.

use crate::source::sqlite::twin::LogIndex;
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

/// The log begins with a header of this many bytes, and each frame, too ([format](https://sqlite.org/fileformat2.html#the_write_ahead_log)).
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;
/// Where the log's header says how long a page is.
const PAGE_SIZE: Range<usize> = 8..12;
/// Where the log's header has its salts, which are new each time it is begun anew.
const LOG_SALTS: u64 = 16;
/// Somebody may just be writing to the index.
const TRIES: u32 = 5;
/// A log with more frames than this is not looked through: a database of that many changes is read through SQLite.
const FRAMES_MAX: u64 = 1 << 17;

/// The database file, and which of its pages lie in the log.
#[derive(Debug)]
pub(super) struct Raw<'f> {
    pub(super) file: &'f File,
    /// Numbers of pages, from 1.
    logged: BTreeSet<u64>,
}

/// What is read next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Pages that the file holds.
    InFile(Range<u64>),
    /// A page that SQLite must be asked for.
    Asked(u64),
}

impl<'f> Raw<'f> {
    /// Of a database with pages of `page_size` bytes, on which `connections` of this process have a read transaction: its file, its log and the index of that. `None`
    /// where one of them is not what SQLite has open, or the log is long, or not the one that the index is of: then SQLite must be asked for every page.
    pub(super) fn new(
        file: &'f File,
        log: &File,
        index: &LogIndex,
        (page_size, connections): (u32, usize),
    ) -> Option<Self> {
        // All connections share one index.
        let held = is_held(file, connections) && is_held(log, connections) && is_held(&index.0, 1);
        let suits = held && (0..TRIES).any(|_| is_log_of(log, index, page_size).unwrap_or(false));
        suits.then(|| logged(log, page_size)).flatten().map(|logged| Self { file, logged })
    }

    /// Whether SQLite must be asked for this page.
    pub(super) fn is_logged(&self, page: u64) -> bool {
        self.logged.contains(&page)
    }

    /// The stretches of `pages` pages, in order; at most `most` pages are in one.
    pub(super) fn stretches(&self, pages: u64, most: u64) -> impl Iterator<Item = Stretch> {
        let mut next = 1;
        std::iter::from_fn(move || {
            if next > pages {
                return None;
            }
            let asked = self.logged.range(next..).next().copied().filter(|page| *page <= pages);
            if asked == Some(next) {
                next += 1;
                return asked.map(Stretch::Asked);
            }
            let end = asked.unwrap_or(pages + 1).min(next + most.max(1));
            let stretch = next..end;
            next = end;
            Some(Stretch::InFile(stretch))
        })
    }
}

/// Whether this process has what `file` is open `times` times more. Names prove nothing: somebody may have moved other files to them, and back. Needs `/proc`.
pub(super) fn is_held(file: &File, times: usize) -> bool {
    let same = |meta: &Metadata, other: &Metadata| (meta.dev(), meta.ino()) == (other.dev(), other.ino());
    let own = file.as_raw_fd().to_string();
    let (Ok(meta), Ok(open)) = (file.metadata(), std::fs::read_dir("/proc/self/fd")) else { return false };
    let others = open.flatten().filter(|entry| entry.file_name().to_str() != Some(&own));
    others.filter(|entry| std::fs::metadata(entry.path()).is_ok_and(|other| same(&meta, &other))).count()
        >= times
}

/// Whether the frames that the index tells of are in the log. An application whose log was removed goes on with one that has no name, and SQLite makes an empty one
/// for whoever comes later.
fn is_log_of(log: &File, index: &LogIndex, page_size: u32) -> Option<bool> {
    let (frames, salts) = index.newest()?;
    if frames == 0 {
        return Some(true);
    }
    let whole = LOG_HEADER + u64::from(frames) * (FRAME_HEADER + u64::from(page_size));
    let mut said = [0; 8];
    log.read_exact_at(&mut said, LOG_SALTS).ok()?;
    Some(said == salts && log.metadata().ok()?.len() >= whole)
}

fn logged(file: &File, page_size: u32) -> Option<BTreeSet<u64>> {
    let meta = file.metadata().ok().filter(Metadata::is_file)?;
    if meta.len() == 0 {
        return Some(BTreeSet::new());
    }
    let mut header = [0; LOG_HEADER as usize];
    file.read_exact_at(&mut header, 0).ok()?;
    let said = u32::from_be_bytes(header[PAGE_SIZE].try_into().ok()?);
    let frame = FRAME_HEADER + u64::from(page_size);
    let frames = meta.len().saturating_sub(LOG_HEADER).div_ceil(frame);
    if said != page_size || frames > FRAMES_MAX {
        return None;
    }
    (0..frames).map(|n| page_of(file, LOG_HEADER + n * frame)).collect()
}

/// The page that the frame at `offset` is a version of. A frame that is not whole is one that nobody sees, but a number that is there is taken.
fn page_of(log: &File, offset: u64) -> Option<u64> {
    let mut number = [0; 4];
    match log.read_exact_at(&mut number, offset) {
        Ok(()) => Some(u32::from_be_bytes(number).into()),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Some(0),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(logged: &[u64], pages: u64, most: u64) -> Vec<Stretch> {
        let file = tempfile::tempfile().unwrap();
        let raw = Raw { file: &file, logged: logged.iter().copied().collect() };
        raw.stretches(pages, most).collect()
    }

    #[test]
    fn every_page_comes_once_and_in_order() {
        use Stretch::{Asked, InFile};
        assert_eq!(stretches(&[], 5, 2), [InFile(1..3), InFile(3..5), InFile(5..6)]);
        assert_eq!(stretches(&[0, 1, 4, 9], 5, 9), [Asked(1), InFile(2..4), Asked(4), InFile(5..6)]);
        assert_eq!(stretches(&[5, 6], 5, 9), [InFile(1..5), Asked(5)]);
        assert_eq!(stretches(&[1, 2], 2, 1), [Asked(1), Asked(2)]);
        assert_eq!(stretches(&[7], 0, 1), []);
    }

    fn log(page_size: u32, frames: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; LOG_HEADER as usize];
        bytes[PAGE_SIZE].copy_from_slice(&page_size.to_be_bytes());
        for page in frames {
            bytes.extend_from_slice(&page.to_be_bytes());
            bytes.resize(bytes.len() + FRAME_HEADER as usize - 4 + page_size as usize, 7);
        }
        bytes
    }

    #[test]
    fn what_is_in_the_log_is_found_and_a_log_of_something_else_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db-wal");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            logged(&File::open(&path).unwrap(), 512).map(|pages| pages.into_iter().collect::<Vec<u64>>())
        };
        assert_eq!(read(b""), Some(vec![]));
        let whole = log(512, &[3, 9, 3, u32::MAX]);
        assert_eq!(read(&whole), Some(vec![3, 9, u32::MAX.into()]));
        assert_eq!(read(&whole[..LOG_HEADER as usize]), Some(vec![]));
        // The number of the last page is there, or is not; nobody sees a frame that is not whole.
        assert_eq!(read(&whole[..whole.len() - 512]), Some(vec![3, 9, u32::MAX.into()]));
        assert_eq!(read(&whole[..whole.len() - 512 - 22]), Some(vec![0, 3, 9]));
        assert_eq!(read(&whole[..20]), None, "its header is cut off");
        assert_eq!(read(&log(1024, &[3])), None, "pages of another size");
        std::fs::remove_file(&path).unwrap();
        let (write, file) = (File::create_new(&path).unwrap(), File::open(&path).unwrap());
        write.write_all_at(&log(512, &[1]), 0).unwrap();
        write.set_len(LOG_HEADER + FRAMES_MAX * (512 + FRAME_HEADER)).unwrap();
        assert!(logged(&file, 512).is_some());
        write.set_len(LOG_HEADER + FRAMES_MAX * (512 + FRAME_HEADER) + 1).unwrap();
        assert_eq!(logged(&file, 512), None, "it is too long");
    }
}

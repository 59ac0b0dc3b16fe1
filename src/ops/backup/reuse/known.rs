//! Whether something is as it was when it was captured last.

use crate::catalog::known::{Row, RowRef};
use crate::model::entry::FLAG_CRASH_CONSISTENT;
use crate::model::record::CheckResult;
use crate::model::{Entry, Kind, ObjectId, Timestamp};
use crate::ops::backup::reuse::{Old, cursor};
use crate::platform::capture::Ident;
use crate::platform::filesystem::keeps_change_times_at;
use crate::source::folder::Found;
use std::path::{Path, PathBuf};

/// A file that was changed so shortly before it was read may be changed again without its times telling: clocks tick slowly, and a page that is written through a
/// mapping moves them only once until it is on the disk, which takes the kernel up to 35 seconds (`dirty_expire_centisecs`, `dirty_writeback_centisecs`).
const SETTLED_NS: i128 = 60_000_000_000;

/// Whether times tell of every change.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops::backup) struct Settled {
    /// Nanoseconds since 1970; times at or before this have settled.
    before: i128,
    /// Days since 1970.
    today: u32,
}

/// A file is read again when its content was not for so many days, however still it lies: what times do not tell (a page written through a mapping, a clock
/// set back) is found then, and so is a disk that forgets.
const REREAD_DAYS: u32 = 30;

impl Settled {
    /// For what is read from `now` on.
    pub(in crate::ops::backup) fn at(now: Timestamp) -> Self {
        let today = u32::try_from(now.as_second() / 86_400).unwrap_or(0);
        Self { before: now.as_nanosecond() - margin(), today }
    }

    /// True when content that was read on day `read` is to be read again: each day a thirtieth of what is old enough, told by its path.
    fn reread(&self, read: u32, path: &[u8]) -> bool {
        let its_turn = || {
            let slot = blake3::hash(path).as_bytes()[0];
            u32::from(slot) % REREAD_DAYS == self.today % REREAD_DAYS
        };
        match self.today.checked_sub(read) {
            Some(age) => age >= 2 * REREAD_DAYS || (age >= REREAD_DAYS && its_turn()),
            // The clock was ahead: when it was read is not known, and waiting for that day may take years.
            None => its_turn(),
        }
    }

    fn holds(&self, ident: &Ident) -> bool {
        let nanos = |(s, ns): (i64, u32)| i128::from(s) * 1_000_000_000 + i128::from(ns);
        nanos(ident.mtime) <= self.before && nanos(ident.ctime) <= self.before
    }
}

/// In debug builds a test may set another margin, in milliseconds, so that it need not wait.
fn margin() -> i128 {
    #[cfg(debug_assertions)]
    if let Some(ms) = std::env::var("BACKSTAY_TEST_SETTLE_MS").ok().and_then(|ms| ms.parse::<i128>().ok()) {
        return ms * 1_000_000;
    }
    SETTLED_NS
}

/// What will tell, next time, whether an entry is still the same.
#[derive(Debug, Clone, Default)]
pub(in crate::ops::backup) struct Facts {
    pub(in crate::ops::backup) ident: Option<Ident>,
    pub(in crate::ops::backup) safe: bool,
    pub(in crate::ops::backup) beside: [Option<Ident>; 2],
    pub(in crate::ops::backup) check: Option<CheckResult>,
    /// When its content was read last, in days since 1970.
    pub(in crate::ops::backup) read: u32,
    /// The pieces of its block hashes.
    pub(in crate::ops::backup) blocks: Vec<ObjectId>,
    /// Its content was found under another path.
    pub(in crate::ops::backup) copied: bool,
}

impl Facts {
    /// Of a file that was read.
    pub(in crate::ops::backup) fn of(ident: Ident, settled: Settled) -> Self {
        Self { ident: Some(ident), safe: settled.holds(&ident), read: settled.today, ..Self::default() }
    }

    /// Of a database, before it is captured: later changes will show. `None` when it cannot be told.
    ///
    /// A link never changes, and SQLite keeps its log beside the file itself: that is what is looked at.
    pub(in crate::ops::backup) fn of_database(path: &Path, settled: Settled) -> Option<Self> {
        let real = path.canonicalize().ok()?;
        let path = real.as_path();
        let stat = |path: &Path| match rustix::fs::lstat(path) {
            Ok(stat) => Ok(Some(Ident::of(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(e),
        };
        let beside = |ending: &str| -> rustix::io::Result<Option<Ident>> {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            // An empty log holds nothing, like one that is not there: SQLite makes and removes them as it opens and closes.
            Ok(stat(&PathBuf::from(name))?.filter(|ident| ident.size > 0))
        };
        let ident = stat(path).ok()??;
        let beside = [beside("-wal").ok()?, beside("-journal").ok()?];
        let still = settled.holds(&ident) && beside.iter().flatten().all(|ident| settled.holds(ident));
        let safe = still && keeps_change_times_at(path);
        Some(Self { ident: Some(ident), safe, beside, read: settled.today, ..Self::default() })
    }

    /// Of what a row says.
    pub(in crate::ops::backup) fn of_row(row: &Row) -> Self {
        Self {
            ident: row.ident,
            safe: row.safe,
            beside: row.beside,
            check: Some(row.check),
            read: row.read,
            blocks: row.blocks.clone(),
            copied: row.copied,
        }
    }
}

fn same_owners(row: &RowRef<'_>, entry: &Entry) -> bool {
    row.user.map(|n| &**n) == entry.user.as_deref() && row.group.map(|n| &**n) == entry.group.as_deref()
}

/// True when the file that `found` is has the bytes it had.
fn same_file(row: &RowRef<'_>, found: &Found, settled: Settled) -> bool {
    let entry = &found.entry;
    let kind = row.kind == Kind::File && entry.kind == Kind::File && !row.database && !found.database;
    let meta = (row.mode, row.uid, row.gid) == (entry.mode, entry.uid, entry.gid);
    let same = kind && meta && row.safe && row.ident == Some(found.ident());
    same && !settled.reread(row.read, row.path)
}

/// True when the entry of `found` would be that of `row` again.
fn same_entry(row: &RowRef<'_>, found: &Found, settled: Settled) -> bool {
    let entry = &found.entry;
    if entry.kind == Kind::File {
        let flag = row.crash_consistent == entry.has_flag(FLAG_CRASH_CONSISTENT);
        return same_file(row, found, settled) && row.link == entry.link && same_owners(row, entry) && flag;
    }
    row.kind == entry.kind && row.decode().is_some_and(|row| row.entry == *entry)
}

impl cursor::Cursor<'_> {
    /// The stretch that the first of `found` begins, when all of it is as it was. `database` says of those that are databases whether they are.
    pub(in crate::ops::backup) fn whole_stretch(
        &mut self,
        found: &[Found],
        settled: Settled,
        database: impl Fn(usize) -> bool,
    ) -> Option<cursor::Whole> {
        let first = found.first()?.entry.path.as_bytes();
        self.whole(first, found.len(), |place, row| {
            let Some(found) = found.get(place) else { return false };
            if row.path != found.entry.path.as_bytes() {
                return false;
            }
            if found.database {
                row.database && row.link == found.entry.link && database(place)
            } else {
                same_entry(row, found, settled)
            }
        })
    }

    /// The entry of `found` as it was stored, when it is still the same and may be used.
    pub(in crate::ops::backup) fn unchanged(
        &mut self,
        found: &Found,
        settled: Settled,
    ) -> Option<(Entry, Facts)> {
        let old = self.old;
        let row = self.seek(found.entry.path.as_bytes())?;
        if found.entry.kind == Kind::File {
            if !same_file(&row, found, settled) {
                return None;
            }
            let row = row.decode().filter(|row| old.may_stay(row))?;
            let facts = Facts::of_row(&row);
            let mut entry = old.entry_of(row);
            (entry.link, entry.flags) = (found.entry.link, found.entry.flags.clone());
            (entry.user, entry.group) = (found.entry.user.clone(), found.entry.group.clone());
            return Some((entry, facts));
        }
        let row = row.decode().filter(|row| row.entry == found.entry)?;
        Some((row.entry, Facts::default()))
    }
}

/// A database that is as it was, when it may be used: its entry with what was stored.
pub(in crate::ops::backup) fn same_database(
    old: &Old<'_>,
    path: &[u8],
    facts: &Facts,
    settled: Settled,
) -> Option<Row> {
    let row = cursor::Cursor::new(*old).seek(path)?.decode()?;
    let same = row.safe && row.ident.is_some() && row.ident == facts.ident && row.beside == facts.beside;
    let passed = row.check != CheckResult::Failed && !settled.reread(row.read, path);
    (same && passed && old.may_stay(&row)).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn what_was_read_under_a_clock_that_was_ahead_is_read_again_within_thirty_days() {
        let start = "2026-11-30T12:00:00Z".parse::<Timestamp>().unwrap();
        let ahead = Settled::at("2036-01-01T00:00:00Z".parse().unwrap()).today;
        let day = |n: i64| Settled::at(start + jiff::SignedDuration::from_hours(24 * n));
        let paths: Vec<String> = (0..300).map(|n| format!("dir/file-{n}")).collect();
        let mut most = 0;
        let mut read = std::collections::HashSet::new();
        for n in 0..30 {
            let due: Vec<&String> =
                paths.iter().filter(|path| day(n).reread(ahead, path.as_bytes())).collect();
            most = most.max(due.len());
            read.extend(due);
        }
        assert_eq!(read.len(), paths.len());
        assert!(most < 40, "{most} of 300 in one day: they are to be spread");
        // And what was read today is not due, nor anything younger than thirty days.
        let today = day(0).today;
        assert!(paths.iter().all(|path| !day(0).reread(today, path.as_bytes())));
        assert!(paths.iter().all(|path| !day(29).reread(today, path.as_bytes())));
        assert!(paths.iter().all(|path| day(60).reread(today, path.as_bytes())));
    }

    #[test]
    fn times_are_believed_when_both_lie_a_minute_before_the_capture_and_not_a_nanosecond_later() {
        let settled = Settled::at("2026-11-30T12:01:00.5Z".parse().unwrap());
        let noon = "2026-11-30T12:00:00Z".parse::<Timestamp>().unwrap().as_second();
        let safe = |mtime: (i64, u32), ctime: (i64, u32)| {
            Facts::of(Ident { dev: 1, ino: 2, size: 3, mtime, ctime }, settled).safe
        };
        let (border, after) = ((noon, 500_000_000), (noon, 500_000_001));
        assert!(safe(border, border) && safe((noon - 100, 0), border));
        assert!(!safe(after, border) && !safe(border, after) && !safe(border, (noon + 100, 0)));
    }

    /// A minute after the last change of what lies at `path`.
    fn settles(path: &Path) -> Timestamp {
        let facts = std::fs::metadata(path).unwrap();
        let last = (facts.ctime(), facts.ctime_nsec()).max((facts.mtime(), facts.mtime_nsec()));
        Timestamp::new(last.0, i32::try_from(last.1).unwrap()).unwrap() + jiff::SignedDuration::from_mins(1)
    }

    #[test]
    fn a_database_is_believed_when_it_and_what_lies_beside_it_changed_last_a_minute_before_the_capture() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("app.db");
        std::fs::write(&db, "pages").unwrap();
        if !keeps_change_times_at(&db) {
            crate::not_run("databases are never believed on this file system");
            return;
        }
        let safe = |at: Timestamp| Facts::of_database(&db, Settled::at(at)).unwrap().safe;
        let nanosecond = jiff::SignedDuration::from_nanos(1);
        let border = settles(&db);
        assert!(safe(border) && !safe(border - nanosecond));
        for name in ["app.db-wal", "app.db-journal"] {
            let beside = dir.path().join(name);
            // The clock of a file system ticks some hundred times a second.
            loop {
                std::fs::write(&beside, "what was committed").unwrap();
                if settles(&beside) > border {
                    break;
                }
            }
            let later = settles(&beside);
            assert!(!safe(border) && !safe(later - nanosecond) && safe(later), "{name}");
            std::fs::write(&beside, "").unwrap();
            assert!(safe(border), "an empty {name} holds nothing");
        }
    }
}

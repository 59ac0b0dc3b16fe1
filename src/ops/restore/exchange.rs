//! Exchanging staged files for live ones: first all of them are brought beside their live ones, then they are exchanged one by one; and what is said when
//! that ends in the middle.

use crate::archive::extract::{
    At, Copier, Extractor, LiveDir, Owners, Replaced, replace_in_place, temporary_name,
};
use crate::durable::{crash, own_names};
use crate::model::entry::FLAG_DATABASE;
use crate::model::path::escape;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::RestoreReport;
use crate::ops::restore::litter::Unfinished;
use crate::ops::restore::logs::{Database, log_beside};
use crate::ops::restore::made::MadeDirs;
use crate::ops::restore::staging::Staged;
use crate::ops::restore::ways::Place;
use crate::ops::session::Session;
use crate::platform::at;
use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What was exchanged so far.
#[derive(Default)]
pub(super) struct Done {
    count: u64,
    first: Vec<String>,
}

impl Done {
    /// So many are named.
    const NAMED: usize = 20;

    fn add(&mut self, live: &Path) {
        self.count += 1;
        if self.first.len() < Self::NAMED {
            self.first.push(escape(live.as_os_str().as_bytes()));
        }
    }

    /// Adds to an error what is not any more as it was, and where the old files are.
    pub(super) fn tell(&self, kept: &[String], error: OpError) -> OpError {
        if self.count == 0 && kept.is_empty() {
            return error;
        }
        let named = |count: u64, first: &[String]| {
            let more = count.saturating_sub(first.len() as u64);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", first.join(", "))
        };
        let kept_first = &kept[..kept.len().min(Self::NAMED)];
        let done = format!("already in place ({}): {}", self.count, named(self.count, &self.first));
        let old = match kept_first {
            [] => String::new(),
            some => format!("; what was there before: {}", named(kept.len() as u64, some)),
        };
        let hint = error.hint.as_ref().map(|hint| format!("{hint}; ")).unwrap_or_default();
        error.hint(format!("{hint}{done}{old}"))
    }
}

/// A proved file in its live directory, under a name that nobody uses.
struct Brought<'a> {
    entry: &'a Entry,
    temporary: Vec<u8>,
}

/// The exchange of one component's files. Dropped in the middle, it takes away what it brought and did not exchange.
pub(super) struct Exchange<'a> {
    session: &'a Session,
    staged: Staged<'a>,
    finisher: Extractor<'a>,
    copier: Copier<'a>,
    stamp: String,
    brought: Vec<Brought<'a>>,
    /// So many of them are exchanged.
    exchanged: usize,
    /// Files with several names that had to be copied: where among what was brought the first copy is.
    copied: HashMap<u64, usize>,
    made: MadeDirs<'a>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        session: &'a Session,
        staged: Staged<'a>,
        owners: Owners,
        stamp: String,
    ) -> Result<Self> {
        let component = staged.listing.component.name.as_str();
        let finisher = super::extractor(session, staged.staging.root()?, owners, staged.listing)?;
        let copier = Copier::new(&session.names, owners, component);
        let (brought, copied, made) = (Vec::new(), HashMap::new(), MadeDirs::default());
        Ok(Self { session, staged, finisher, copier, stamp, brought, exchanged: 0, copied, made })
    }

    /// Whether no other restore is at work in the component.
    pub(super) fn is_alone(&self) -> bool {
        self.staged.staging.alone
    }

    /// Brings all files beside their live ones, and makes the directories that are missing. What a killed restore left there goes, if `unfinished` says so.
    pub(super) fn bring(
        &mut self,
        mut unfinished: Option<&mut Unfinished>,
        report: &mut RestoreReport,
    ) -> Result<()> {
        let listing = self.staged.listing;
        for entry in &listing.entries {
            if self.staged.brings(entry) {
                self.session.around.interrupt.check()?;
                self.bring_one(entry, unfinished.as_deref_mut())?;
            }
        }
        for problem in self.copier.problems() {
            // Mostly the same was said when it was staged.
            if !report.problems.contains(&problem) {
                report.problems.push(problem);
            }
        }
        Ok(())
    }

    fn bring_one(&mut self, entry: &'a Entry, unfinished: Option<&mut Unfinished>) -> Result<()> {
        let Some(place) = self.place(entry)? else { return Ok(()) };
        let cannot = || place.cannot();
        if self.was_not_made(entry).doing(Class::Failed, cannot)? {
            return Ok(());
        }
        let LiveDir { dir, created } = place.open(true)?;
        self.made.add(&place, created, self.staged.listing, &self.finisher)?;
        if entry.kind == Kind::Dir {
            return Ok(());
        }
        if let Some(unfinished) = unfinished {
            unfinished.clear(dir.as_fd()).doing(Class::Failed, cannot)?;
        }
        let temporary = temporary_name(place.path.name()).doing(Class::Failed, cannot)?;
        let to = At { dir: dir.as_fd(), name: &temporary };
        let moved = self.moved(&entry.path, to).doing(Class::Failed, cannot)?;
        if !moved && !self.copy(entry, to)? {
            return Ok(());
        }
        crash::point("in place: file brought");
        self.brought.push(Brought { entry, temporary });
        Ok(())
    }

    /// Moves a proved file from the staging folder. False when its live directory cannot be reached so: something else is mounted there.
    fn moved(&self, path: &RelPath, to: At<'_>) -> std::io::Result<bool> {
        let parent = path.parent().unwrap_or_else(RelPath::root);
        let from = at::open_dir_beneath(self.staged.staging.root.as_fd(), parent.as_bytes())?;
        // The call as a test lets it fail, which has no way to mount something.
        match crash::around("bring in place", || at::move_new_as(&from, path.name(), to.dir, to.name)) {
            Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => Ok(false),
            other => other,
        }
    }

    /// Copies it instead; another name of what was copied becomes another name of the copy. False for a device that cannot be there.
    fn copy(&mut self, entry: &'a Entry, to: At<'_>) -> Result<bool> {
        let cannot = || format!("cannot bring {} to its place", entry.path);
        if let Some(first) = entry.link.and_then(|link| self.copied.get(&link)) {
            let first = &self.brought[*first];
            if let Some(place) = self.place(first.entry)? {
                let dir = place.open(false)?.dir;
                // On a third file system it needs a copy of its own.
                if at::link(&dir, &first.temporary, to.dir, to.name).is_ok() {
                    return Ok(true);
                }
            }
        }
        let parent = entry.path.parent().unwrap_or_else(RelPath::root);
        let from = at::open_dir_beneath(self.staged.staging.root.as_fd(), parent.as_bytes())
            .doing(Class::Failed, cannot)?;
        let from = At { dir: from.as_fd(), name: entry.path.name() };
        let stop = || self.session.around.interrupt.signal().is_some();
        let copied = self.copier.copy(entry, from, to, &stop);
        self.session.around.interrupt.check().inspect_err(|_| drop(at::unlink(to.dir, to.name)))?;
        copied.doing(Class::Failed, cannot)?;
        if let Some(link) = entry.link {
            self.copied.entry(link).or_insert(self.brought.len());
        }
        Ok(at::facts_if_any(to.dir, to.name).doing(Class::Failed, cannot)?.is_some())
    }

    /// Exchanges what was brought.
    pub(super) fn exchange(&mut self, done: &mut Done, report: &mut RestoreReport) -> Result<()> {
        let exchanged = self.exchange_brought(done, report);
        let finished = self.made.finish(&self.finisher);
        exchanged.and(finished)?;
        self.staged.staging.remove()
    }

    fn exchange_brought(&mut self, done: &mut Done, report: &mut RestoreReport) -> Result<()> {
        while let Some(brought) = self.brought.get(self.exchanged) {
            if let Some(place) = self.place(brought.entry)? {
                let kept = self.exchange_one(brought, &place)?;
                done.add(&place.live);
                report.kept.extend(kept.iter().map(|name| place.beside(name)));
            }
            self.exchanged += 1;
        }
        Ok(())
    }

    /// Exchanges one, and gives the names under which what was there is kept.
    fn exchange_one(&self, brought: &Brought<'_>, place: &Place) -> Result<Vec<Vec<u8>>> {
        let dir = place.open(false)?.dir;
        let (name, temporary) = (place.path.name(), brought.temporary.as_slice());
        if is_database(brought.entry, dir.as_fd(), name) {
            let database = Database {
                session: self.session,
                dir: dir.as_fd(),
                folder: place.live.parent().unwrap_or(Path::new("/")),
                name,
                temporary,
                keep_as: &|name| self.keep_as(name),
                cannot: &|| place.cannot(),
            };
            return database.exchange();
        }
        let replaced = replace_in_place(dir.as_fd(), name, temporary, &self.keep_as(name));
        Ok(match replaced.doing(Class::Failed, || place.cannot())? {
            Replaced::Kept { name } => vec![name],
            Replaced::New => Vec::new(),
        })
    }

    fn place(&self, entry: &Entry) -> Result<Option<Place>> {
        Place::of(self.staged.base, &self.staged.listing.component, entry)
    }

    /// A node that nobody here may make, which the problems name; all else that is not there is an error when it is brought.
    fn was_not_made(&self, entry: &Entry) -> std::io::Result<bool> {
        if matches!(entry.kind, Kind::File | Kind::Dir) {
            return Ok(false);
        }
        let parent = entry.path.parent().unwrap_or_else(RelPath::root);
        let from = at::open_dir_beneath(self.staged.staging.root.as_fd(), parent.as_bytes())?;
        Ok(at::facts_if_any(from, entry.path.name())?.is_none())
    }

    fn keep_as(&self, name: &[u8]) -> Vec<u8> {
        own_names::kept_as(name, &self.stamp)
    }
}

/// By what the snapshot says, or by the log beside the live one: what was kept as bytes is a database, too, and encrypted ones do not look like any.
fn is_database(entry: &Entry, dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    entry.has_flag(FLAG_DATABASE) || entry.kind == Kind::File && log_beside(dir, name)
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        for brought in self.brought.iter().skip(self.exchanged) {
            // What cannot be taken away is told by its name, and goes with the next restore.
            if let Ok(Some(place)) = self.place(brought.entry)
                && let Ok(live) = place.open(false)
            {
                let _gone = at::unlink(live.dir, &brought.temporary);
            }
        }
        self.made.take_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_middle_names_what_was_exchanged_and_what_was_kept() {
        let mut done = Done::default();
        let error = || OpError::new(Class::Failed, "no room").hint("make room");
        assert_eq!(done.tell(&[], error()).hint.as_deref(), Some("make room"));
        for number in 1..=22 {
            done.add(Path::new(&format!("/srv/f{number}")));
        }
        let hint = done.tell(&["/srv/f1.before-restore-1".to_owned()], error()).hint.unwrap();
        assert!(hint.starts_with("make room; already in place (22): /srv/f1, /srv/f2, "), "{hint}");
        assert!(
            hint.ends_with("/srv/f20 and 2 more; what was there before: /srv/f1.before-restore-1"),
            "{hint}"
        );
    }
}

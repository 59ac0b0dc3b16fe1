//! Exchanging staged files for live ones, one by one; and what is said when that ends in the middle.

use crate::archive::extract::{
    ExtractError, Extractor, Replaced, open_live_dir, replace_in_place, temporary_name,
};
use crate::durable::{crash, own_names};
use crate::model::entry::FLAG_DATABASE;
use crate::model::index::{ComponentKind, IndexComponent};
use crate::model::path::escape;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::inplace::Staging;
use crate::ops::restore::litter::Unfinished;
use crate::ops::restore::{Listing, RestoreReport};
use crate::platform::at;
use rustix::fs::{RenameFlags, renameat_with};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// In a list of paths, what lies outside of the base is kept below this.
const OUTSIDE: &[u8] = b"_root";

/// The path from `/` of what lies outside of the base. Only lists have such paths: a folder may hold a `_root` of its own.
pub(super) fn outside<'p>(component: &IndexComponent, path: &'p RelPath) -> Option<&'p [u8]> {
    let rest = path.as_bytes().strip_prefix(OUTSIDE)?;
    match (component.kind, rest) {
        (ComponentKind::Paths, []) => Some(rest),
        (ComponentKind::Paths, [b'/', below @ ..]) => Some(below),
        _ => None,
    }
}

pub(super) fn live_path(base: &Path, outside: Option<&[u8]>, path: &RelPath) -> PathBuf {
    match outside {
        Some(rest) => Path::new("/").join(std::ffi::OsStr::from_bytes(rest)),
        None => base.join(std::ffi::OsStr::from_bytes(path.as_bytes())),
    }
}

/// The directory that a path is opened below, and the path from there.
fn live_base(base: &Path, outside: Option<&[u8]>, path: &RelPath) -> Result<(OwnedFd, RelPath)> {
    let (base, rest) = match outside {
        Some(rest) => (Path::new("/"), rest),
        None => (base, path.as_bytes()),
    };
    let open = at::open_place(base).doing(Class::Failed, || format!("cannot open {}", base.display()))?;
    let rest = RelPath::new(rest).doing(Class::Damage, || "a path of the snapshot cannot be used".into())?;
    Ok((open, rest))
}

/// The folder that must be there for the entry: itself, or the one that it lies in.
fn folder_of(entry: &Entry, live: &RelPath) -> RelPath {
    let folder = if entry.kind == Kind::Dir { Some(live.clone()) } else { live.parent() };
    folder.unwrap_or_else(RelPath::root)
}

/// Goes the way to every live file as far as it is there: a link or a file in it must be found before the first file is exchanged.
pub(super) fn check_ways(base: &Path, listing: &Listing, brings: impl Fn(&Entry) -> bool) -> Result<()> {
    let mut last = None;
    for entry in listing.entries.iter().filter(|entry| brings(entry)) {
        let outside = outside(&listing.component, &entry.path);
        if outside.is_some_and(<[u8]>::is_empty) {
            continue;
        }
        let (live_base, live_rel) = live_base(base, outside, &entry.path)?;
        let way = (outside.is_some(), folder_of(entry, &live_rel));
        if last.as_ref() == Some(&way) {
            continue;
        }
        match open_live_dir(live_base.as_fd(), &way.1, false) {
            Err(ExtractError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            other => {
                let live = live_path(base, outside, &entry.path);
                let what = || format!("cannot put {} in place", escape(live.as_os_str().as_bytes()));
                other.doing(Class::Failed, what)?;
            }
        }
        last = Some(way);
    }
    Ok(())
}

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

/// The exchange of one component's files.
pub(super) struct Exchange<'a> {
    pub(super) staging: &'a Staging,
    pub(super) base: &'a Path,
    pub(super) listing: &'a Listing,
    pub(super) finisher: &'a Extractor<'a>,
    pub(super) stamp: String,
    /// Directories that were made, private to their owner until everything is in them.
    pub(super) made: Vec<(PathBuf, RelPath, &'a Entry)>,
    pub(super) unfinished: Unfinished,
    pub(super) done: &'a mut Done,
}

impl<'a> Exchange<'a> {
    pub(super) fn entry(&mut self, entry: &'a Entry, report: &mut RestoreReport) -> Result<()> {
        let outside = outside(&self.listing.component, &entry.path);
        if outside.is_some_and(<[u8]>::is_empty) {
            return Ok(());
        }
        let live = live_path(self.base, outside, &entry.path);
        let what = || format!("cannot put {} in place", escape(live.as_os_str().as_bytes()));
        if self.was_not_made(entry).doing(Class::Failed, what)? {
            return Ok(());
        }
        let (live_base, live_rel) = live_base(self.base, outside, &entry.path)?;
        let is_dir = entry.kind == Kind::Dir;
        let parent = folder_of(entry, &live_rel);
        let dir = open_live_dir(live_base.as_fd(), &parent, true).doing(Class::Failed, what)?;
        for made in &dir.created {
            self.remember_made(made, outside.is_some())?;
        }
        if is_dir {
            return Ok(());
        }
        if self.staging.alone {
            let cleared = self.unfinished.clear(dir.dir.as_fd());
            cleared.doing(Class::Failed, what)?;
        }
        let name = live_rel.name();
        if entry.has_flag(FLAG_DATABASE) {
            self.sidecars_aside(dir.dir.as_fd(), name, &live, report).doing(Class::Failed, what)?;
        }
        crash::point("in place: sidecars aside");
        let temporary = temporary_name(name).doing(Class::Failed, what)?;
        self.bring(&entry.path, dir.dir.as_fd(), &temporary).doing(Class::Failed, what)?;
        crash::point("in place: file brought");
        let replaced = replace_in_place(dir.dir.as_fd(), name, &temporary, &self.keep_as(name))
            .doing(Class::Failed, what)?;
        self.done.add(&live);
        if let Replaced::Kept { name } = replaced {
            report
                .kept
                .push(escape(live.with_file_name(std::ffi::OsStr::from_bytes(&name)).as_os_str().as_bytes()));
        }
        Ok(())
    }

    /// A device that nobody here may make, which the problems name; all else that is not there is an error when it is brought.
    fn was_not_made(&self, entry: &Entry) -> std::io::Result<bool> {
        if !matches!(entry.kind, Kind::Char | Kind::Block) {
            return Ok(false);
        }
        let parent = entry.path.parent().unwrap_or_else(RelPath::root);
        let from = at::open_dir_beneath(self.staging.root.as_fd(), parent.as_bytes())?;
        Ok(at::facts_if_any(from, entry.path.name())?.is_none())
    }

    fn keep_as(&self, name: &[u8]) -> Vec<u8> {
        let suffix = [own_names::BEFORE_RESTORE, self.stamp.as_bytes()].concat();
        let room = 255usize.saturating_sub(suffix.len() + 6);
        [&name[..name.len().min(room)], &suffix].concat()
    }

    /// Moves a proved file from the staging folder into its live directory, under a name that nobody uses.
    fn bring(&self, path: &RelPath, dir: BorrowedFd<'_>, temporary: &[u8]) -> std::io::Result<()> {
        let parent = path.parent().unwrap_or_else(RelPath::root);
        let from = at::open_dir_beneath(self.staging.root.as_fd(), parent.as_bytes())?;
        renameat_with(&from, path.name(), dir, temporary, RenameFlags::NOREPLACE)?;
        Ok(())
    }

    /// Keeps a directory that was just made, `made` from the base or from `/`, for [`Exchange::finish_made`].
    fn remember_made(&mut self, made: &RelPath, out: bool) -> Result<()> {
        let listing = self.listing;
        let listed = |e: &&Entry| match outside(&listing.component, &e.path) {
            Some(path) => out && path == made.as_bytes(),
            None => !out && e.path == *made,
        };
        let base = if out { Path::new("/") } else { self.base };
        if let Some(entry) = listing.entries.iter().find(listed) {
            // Owner and mode at once, open for its owner: a run that is killed here is not followed by one that makes this directory.
            self.finish_dir(base, made, &Entry { mode: entry.mode | 0o700, ..entry.clone() })?;
            self.made.push((base.to_owned(), made.clone(), entry));
        }
        Ok(())
    }

    fn finish_dir(&self, base: &Path, made: &RelPath, entry: &Entry) -> Result<()> {
        let what = || format!("cannot finish directory {}", base.join(made.to_string()).display());
        let base = at::open_place(base).doing(Class::Failed, what)?;
        let dir = at::open_dir_beneath(base.as_fd(), made.as_bytes()).doing(Class::Failed, what)?;
        self.finisher.finish_dir(&dir, entry).doing(Class::Failed, what)
    }

    /// Gives the directories that were made their metadata, the deepest first: now nothing more comes into them, which would change their time,
    /// and which a closed one would refuse.
    pub(super) fn finish_made(&mut self) -> Result<()> {
        while let Some((base, made, entry)) = self.made.pop() {
            self.finish_dir(&base, &made, entry)?;
        }
        Ok(())
    }

    /// A write-ahead log that belongs to the old database must never be replayed over the restored one.
    fn sidecars_aside(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        live: &Path,
        report: &mut RestoreReport,
    ) -> std::io::Result<()> {
        for suffix in [&b"-wal"[..], b"-shm", b"-journal"] {
            let sidecar = [name, suffix].concat();
            if at::facts_if_any(dir, &sidecar)?.is_none() {
                continue;
            }
            let kept = self.keep_as(&sidecar);
            crash::around("sidecar aside", || at::rename_new(dir, &sidecar, &kept))?;
            report
                .kept
                .push(escape(live.with_file_name(std::ffi::OsStr::from_bytes(&kept)).as_os_str().as_bytes()));
        }
        at::sync_dir(dir)
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

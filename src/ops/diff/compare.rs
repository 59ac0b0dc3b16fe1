//! What differs between two entries of one path, gathered to a report.

use crate::model::entry::{FLAG_DATABASE, Why};
use crate::model::index::IndexComponent;
use crate::model::{Entry, Extent, Kind, Problem, RelPath};
use crate::ops::diff::content::{Ranges, cover};
use crate::ops::diff::live::{Live, LiveListing, Looked, Unseen, Wanted};
use crate::ops::diff::pages::{self, Pages, StoredDatabase};
use crate::ops::diff::rename::Renames;
use crate::ops::diff::report::{Aspects, Change, DiffReport, Status, Summary};
use crate::ops::diff::stored::Stored;
use crate::ops::diff::walk::{Thing, side_by_side};
use crate::ops::error::Result;
use crate::ops::interrupt::Interrupt;
use crate::ops::restore::Opened;
use crate::ops::session::Session;
use crate::source::folder::Found;

/// Of a database that changed so many bytes are read to count its pages; more with `--read-data`.
const READ_MAX: u64 = 64 << 20;

/// A comparison under way.
pub(super) struct Comparison<'a> {
    session: &'a Session,
    read_up_to: u64,
    old: &'a Opened,
    new: Option<&'a Opened>,
    component: Option<(&'a IndexComponent, Option<&'a IndexComponent>)>,
    renames: Renames,
    lives: Vec<Live>,
    /// Something was there at all.
    pub(super) seen: bool,
    pub(super) report: DiffReport,
}

/// What differs beside content and kind.
fn metadata(a: &Entry, b: &Entry) -> Aspects {
    let mut what = Aspects::default();
    // The same person has another number on another machine.
    let other = |names: (&Option<_>, &Option<_>), numbers: (u32, u32)| match names {
        (Some(a), Some(b)) => a != b,
        _ => numbers.0 != numbers.1,
    };
    let owner = other((&a.user, &b.user), (a.uid, b.uid)) || other((&a.group, &b.group), (a.gid, b.gid));
    what.add(Aspects::MODE, a.mode != b.mode);
    what.add(Aspects::OWNER, owner);
    // A folder's time changes with every file that comes or goes, and these are listed.
    what.add(Aspects::MTIME, a.mtime != b.mtime && a.kind != Kind::Dir);
    what.add(Aspects::XATTRS, a.xattrs != b.xattrs);
    what.add(Aspects::LINKS, a.link != b.link);
    what.add(Aspects::DEVICE, a.dev != b.dev);
    what.add(Aspects::TARGET, a.target != b.target);
    what
}

fn status_of(what: Aspects) -> Option<Status> {
    let content = [Aspects::CONTENT, Aspects::TARGET, Aspects::DEVICE].into_iter().any(|a| what.has(a));
    match (what.is_empty(), content) {
        (true, _) => None,
        (false, true) => Some(Status::Changed),
        (false, false) => Some(Status::Metadata),
    }
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        session: &'a Session,
        read_data: bool,
        old: &'a Opened,
        new: Option<&'a Opened>,
    ) -> Self {
        let report = DiffReport {
            from: old.record.snapshot.clone(),
            from_time: old.record.started,
            to: new.map(|new| new.record.snapshot.clone()),
            to_time: new.map(|new| new.record.started),
            looked_at: None,
            changes: Vec::new(),
            summary: Summary::default(),
            only_in_from: Vec::new(),
            only_in_to: Vec::new(),
            not_compared: Vec::new(),
            problems: Vec::new(),
        };
        let (read_up_to, renames) = (if read_data { u64::MAX } else { READ_MAX }, Renames::default());
        Self {
            session,
            read_up_to,
            old,
            new,
            component: None,
            renames,
            lives: Vec::new(),
            seen: false,
            report,
        }
    }

    /// Begins with a component.
    pub(super) fn component(&mut self, old: &'a IndexComponent, new: Option<&'a IndexComponent>) {
        self.component = Some((old, new));
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.session.around.progress.problem(&problem);
        self.report.problems.push(problem);
    }

    /// Whether the report speaks of `component` as a whole: it is on one side only, or could not be compared.
    pub(super) fn names(&self, component: &str) -> bool {
        let one_side = self.report.only_in_from.iter().chain(&self.report.only_in_to);
        one_side.chain(self.report.not_compared.iter().map(|n| &n.component)).any(|name| name == component)
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> Result<DiffReport> {
        self.renames.pair(&mut self.report.changes, &mut self.lives)?;
        self.report.sum_up();
        self.report.problems.extend(self.session.troubles());
        Ok(self.report)
    }

    /// Says when to end.
    pub(super) fn interrupt(&self) -> &'a Interrupt {
        &self.session.around.interrupt
    }

    fn name(&self) -> &str {
        self.component.map_or("", |(old, _)| old.name.as_str())
    }

    fn push(&mut self, status: Status, a: Option<&Entry>, b: Option<&Entry>, what: Aspects) -> usize {
        let Some(shown) = b.or(a) else { return usize::MAX };
        let path = match shown.path.is_root() {
            true => format!("{}/", self.name()),
            false => format!("{}/{}", self.name(), shown.path),
        };
        self.report.changes.push(Change {
            path,
            status,
            kind: shown.kind,
            was: a.filter(|a| a.kind != shown.kind).map(|a| a.kind),
            from: None,
            size_before: a.map_or(0, |a| a.size),
            size_after: b.map_or(0, |b| b.size),
            what,
            pages: None,
        });
        self.report.changes.len() - 1
    }

    /// A path of two snapshots.
    pub(super) fn stored(&mut self, a: Option<Thing<'_>>, b: Option<Thing<'_>>) -> Result<()> {
        self.seen = true;
        let (a, b) = (a.as_ref().map(Thing::entry), b.as_ref().map(Thing::entry));
        if let (Some(a), Some(b)) = (a, b) {
            return self.both_stored(a, b);
        }
        if let Some(change) = self.lone(a, b) {
            if let Some(a) = a {
                self.renames.gone(change, a);
            }
            if let Some(b) = b {
                self.renames.new_stored(change, b);
            }
        }
        Ok(())
    }

    /// Something that is on one side only; what was not captured there is not told.
    fn lone(&mut self, a: Option<&Entry>, b: Option<&Entry>) -> Option<usize> {
        let status = if a.is_some() { Status::Removed } else { Status::Added };
        let captured = a.or(b).is_some_and(|entry| entry.kind != Kind::Left);
        captured.then(|| self.push(status, a, b, Aspects::default()))
    }

    fn both_stored(&mut self, a: &Entry, b: &Entry) -> Result<()> {
        if a.kind != b.kind {
            self.other_kind(a, b);
            return Ok(());
        }
        let mut what = metadata(a, b);
        let same = a.kind != Kind::File || self.same_content(a, b)?;
        what.add(Aspects::CONTENT, !same);
        let Some(status) = status_of(what) else { return Ok(()) };
        let change = self.push(status, Some(a), Some(b), what);
        if !same && a.has_flag(FLAG_DATABASE) && b.has_flag(FLAG_DATABASE) {
            self.report.changes[change].pages = self.stored_pages(&a.path)?;
        }
        Ok(())
    }

    fn other_kind(&mut self, a: &Entry, b: &Entry) {
        // What could not be read is told as a problem when that happens, and says nothing of what is there.
        let unread = |e: &Entry| matches!(e.why, Some(Why::Unreadable | Why::Vanished));
        if !unread(a) && !unread(b) {
            self.push(Status::Type, Some(a), Some(b), Aspects::default());
        }
    }

    fn same_content(&self, a: &Entry, b: &Entry) -> Result<bool> {
        if a.size != b.size || a.hash != b.hash {
            return Ok(false);
        }
        if a.extents == b.extents && a.maps == b.maps {
            return Ok(true);
        }
        let (Some((old, new)), Some(opened)) = (self.component, self.new) else { return Ok(true) };
        let new = new.unwrap_or(old);
        Ok(cover_of(self.old, old, a)? == cover_of(opened, new, b)?)
    }

    fn stored_pages(&mut self, path: &RelPath) -> Result<Option<Pages>> {
        let (name, interrupt) = (self.name().to_owned(), self.session.around.interrupt.clone());
        let Some(new) = self.new else { return Ok(None) };
        let old = StoredDatabase::find(self.old, &name, path)?;
        let new = StoredDatabase::find(new, &name, path)?;
        let (Some(old), Some(new)) = (old, new) else { return Ok(None) };
        let pages = pages::stored(&old, &new, self.read_up_to, &interrupt)?;
        if pages.is_none() {
            self.problem(pages::damaged(&name, path));
        }
        Ok(pages)
    }

    /// A component of a snapshot and the live tree.
    pub(super) fn live(
        &mut self,
        old: &'a Opened,
        component: &'a IndexComponent,
        live: Live,
        top: &RelPath,
    ) -> Result<()> {
        let Live { scan, mut reader } = live;
        let mut stored = Stored::all(old, component, top, &self.session.around.interrupt);
        let mut listing = LiveListing::new(&scan, top);
        let (place, before) = (self.lives.len(), self.renames.new_count());
        side_by_side(&mut stored, &mut listing, &mut |a, b| {
            self.seen = true;
            match (&a, &b) {
                (Some(Thing::Stored(a)), Some(Thing::Live(_, found))) => {
                    let mut ask = |wanted: &mut Wanted<'_>| reader.look(&scan, found, wanted);
                    self.with_live(a, found, &mut ask)
                }
                _ => {
                    let (old, new) = (a.as_ref().map(Thing::entry), b.as_ref().map(Thing::entry));
                    let Some(change) = self.lone(old, new) else { return Ok(()) };
                    if let Some(old) = old {
                        self.renames.gone(change, old);
                    }
                    if let Some(Thing::Live(at, found)) = &b {
                        self.renames.new_live(change, found.entry.size, place, *at);
                    }
                    Ok(())
                }
            }
        })?;
        if self.renames.new_count() > before {
            self.lives.push(Live { scan, reader });
        }
        Ok(())
    }

    fn with_live(&mut self, a: &Entry, found: &Found, ask: &mut Ask<'_>) -> Result<()> {
        let b = &found.entry;
        if a.kind != b.kind {
            self.other_kind(a, b);
            return Ok(());
        }
        if a.kind != Kind::File {
            let what = metadata(a, b);
            if let Some(status) = status_of(what) {
                self.push(status, Some(a), Some(b), what);
            }
            return Ok(());
        }
        let (old, component) = (self.old, self.component.map(|(old, _)| old));
        let mut cover = || component.map_or_else(|| Ok(Ranges::new()), |c| cover_of(old, c, a));
        let copy_up_to =
            if a.has_flag(FLAG_DATABASE) && a.size <= self.read_up_to { self.read_up_to } else { 0 };
        let mut wanted = Wanted { size: a.size, hash: a.hash, cover: &mut cover, copy_up_to };
        match ask(&mut wanted)? {
            Ok(looked) => self.looked(a, &looked),
            Err(Unseen::Problem(problem)) => {
                self.problem(problem);
                Ok(())
            }
            Err(Unseen::Gone) => {
                self.push(Status::Removed, Some(a), None, Aspects::default());
                Ok(())
            }
        }
    }

    fn looked(&mut self, a: &Entry, looked: &Looked) -> Result<()> {
        let mut what = metadata(a, &looked.entry);
        what.add(Aspects::CONTENT, !looked.same);
        let Some(status) = status_of(what) else { return Ok(()) };
        let change = self.push(status, Some(a), Some(&looked.entry), what);
        let Some(copy) = &looked.copy else { return Ok(()) };
        let (name, interrupt) = (self.name().to_owned(), self.session.around.interrupt.clone());
        let Some(stored) = StoredDatabase::find(self.old, &name, &a.path)? else { return Ok(()) };
        let pages = pages::live(&stored, copy, looked.entry.size, &interrupt)?;
        if pages.is_none() {
            self.problem(pages::damaged(&name, &a.path));
        }
        self.report.changes[change].pages = pages;
        Ok(())
    }
}

/// Asks the live tree about a file.
type Ask<'f> = dyn FnMut(&mut Wanted<'_>) -> Result<std::result::Result<Looked, Unseen>> + 'f;

/// Where the hashed bytes of a stored file lie.
fn cover_of(opened: &Opened, component: &IndexComponent, entry: &Entry) -> Result<Ranges> {
    if entry.maps.is_empty() {
        return Ok(cover(&entry.extents));
    }
    let (extents, _): (Vec<Extent>, _) = opened.reader().extents(component, entry)?;
    Ok(cover(&extents))
}

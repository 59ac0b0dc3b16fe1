//! Writing one listing: every entry made, every file proved, nothing under a name that is not its content.

use super::read::{Piece, Reading, reading_pool};
use super::write::{Beside, Files, Pending, Unnamed};
use super::{Listing, Opened, RestoreReport, extractor};
use crate::archive::extract::{Extractor, Owners};
use crate::model::{Entry, Kind, Problem, ProblemKind, RelPath};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::session::{Session, in_store};
use crate::store::Key;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

/// Restores one listing into `dir`, which is new and this run's alone: what a drill looks at. Owners stay those of whoever runs it; what is
/// damaged is left out and among the problems.
pub(crate) fn lay(
    session: &Session,
    opened: &Opened,
    listing: &Listing,
    dir: &Path,
) -> Result<RestoreReport> {
    let cannot = || format!("cannot restore to {}", dir.display());
    let root = crate::platform::at::open_place(dir).doing(Class::Failed, cannot)?;
    let extractor = extractor(session, root, Owners::Ignore, listing)?;
    let mut report = RestoreReport {
        snapshot: opened.record.snapshot.clone(),
        to: dir.display().to_string(),
        files: 0,
        entries: 0,
        bytes: listing.bytes(),
        databases_checked: 0,
        kept: Vec::new(),
        problems: Vec::new(),
    };
    write_listing(session, opened, listing, extractor, &|_| (), &mut report)?;
    Ok(report)
}

/// Makes every entry of `listing` in the extractor's tree; `written` hears of bytes of content.
pub(crate) fn write_listing(
    session: &Session,
    opened: &Opened,
    listing: &Listing,
    extractor: Extractor<'_>,
    written: &dyn Fn(u64),
    report: &mut RestoreReport,
) -> Result<()> {
    let component = listing.component.name.as_str();
    let mut first_names: HashMap<u64, RelPath> = HashMap::new();
    let mut links = Vec::new();
    // As many as there are: doubling would take twice the room.
    let files = (0..listing.entries.len()).filter(|place| listing.entries[*place].kind == Kind::File);
    let (count, extents) =
        files.fold((0, 0), |(count, extents), place| (count + 1, extents + listing.extents(place).len()));
    let mut pending = Vec::with_capacity(count);
    let mut pieces = Vec::with_capacity(extents);
    let mut beside = VecDeque::new();
    for (place, entry) in listing.entries.iter().enumerate() {
        let first = entry.link.and_then(|link| first_names.get(&link)).cloned();
        match (entry.kind, first) {
            (Kind::Socket | Kind::Left, _) => continue,
            (kind, Some(first)) if kind != Kind::Dir => links.push((first, entry)),
            (Kind::File, _) => {
                let extents = listing.extents(place);
                if extents.is_empty() {
                    beside.push_back((place, Beside::Empty(pending.len())));
                }
                pieces.extend(extents.iter().map(|extent| Piece { extent, file: pending.len() }));
                pending.push(Pending::new(place, extents));
            }
            _ => beside.push_back((place, Beside::Bare(entry))),
        }
        if let Some(link) = entry.link {
            first_names.entry(link).or_insert_with(|| entry.path.clone());
        }
        report.entries += 1;
    }
    let more_names = links.iter().filter(|(_, e)| e.kind == Kind::File).count();
    report.files += (pending.len() + more_names) as u64;
    let progress = &session.around.progress;
    let advance = |bytes| {
        progress.advance(bytes);
        written(bytes);
    };
    let pool = reading_pool();
    let mut files = Files::new(&extractor, listing, pending, beside, &advance);
    let reading = Reading {
        sources: &opened.sources,
        record: &opened.record,
        identities: &opened.identities,
        pool: &pool,
        interrupt: &session.around.interrupt,
    };
    reading.deliver(pieces, &listing.archives, &mut files)?;
    files.make_before(usize::MAX)?;
    files.leave_unfinished_out()?;
    if !files.damaged.is_empty() {
        // A store that does not answer is no damage, and what has holes because of it must not be taken for all that there is.
        session.around.interrupt.check()?;
        opened.sources.answered()?;
    }
    report.problems.extend(check_sizes(opened, listing)?);
    let damaged = std::mem::take(&mut files.damaged);
    let unnamed = std::mem::take(&mut files.unnamed);
    // A million paths are only gathered where something needs them.
    let whole = if links.is_empty() { HashSet::new() } else { files.whole() };
    drop(files);
    report.files -= damaged.len() as u64 + unnamed.files;
    report.problems.extend(damaged);
    let further = Further { extractor: &extractor, component, whole, unnamed, session };
    further.make(&links, report)?;
    let problems =
        extractor.finish().doing(Class::Failed, || format!("cannot finish component {component}"))?;
    let named = |mut p: Problem| {
        p.component.get_or_insert_with(|| component.to_owned());
        p
    };
    report.problems.extend(problems.into_iter().map(named));
    Ok(())
}

/// Makes the other names of files that were written whole.
struct Further<'a> {
    extractor: &'a Extractor<'a>,
    component: &'a str,
    whole: HashSet<RelPath>,
    unnamed: Unnamed,
    session: &'a Session,
}

impl Further<'_> {
    fn make(mut self, links: &[(RelPath, &Entry)], report: &mut RestoreReport) -> Result<()> {
        for (first, entry) in links {
            let is_file = entry.kind == Kind::File;
            if is_file && !self.whole.contains(first) {
                report.problems.push(self.no_first(first, entry));
                report.files -= 1;
            } else if self.unnamed.holds(&entry.path) || !self.link(first, entry)? {
                report.files -= u64::from(is_file);
            }
        }
        report.problems.append(&mut self.unnamed.problems);
        Ok(())
    }

    fn no_first(&self, first: &RelPath, entry: &Entry) -> Problem {
        let (kind, why) = match self.unnamed.linked.contains(first) {
            true => (ProblemKind::NotRestored, "cannot have its name here"),
            false => (ProblemKind::Damaged, "is damaged"),
        };
        let what = format!("it is another name of {first}, which {why}");
        Problem::at_path(kind, self.component, entry.path.as_bytes(), what)
    }

    /// False when it cannot have its name.
    fn link(&mut self, first: &RelPath, entry: &Entry) -> Result<bool> {
        let interrupt = &self.session.around.interrupt;
        let made = match self.extractor.hard_link(first, entry) {
            Err(e) if e.is_no_link() => {
                self.extractor.copy_instead(first, entry, &|| interrupt.signal().is_some())
            }
            other => other,
        };
        match made {
            Err(e) if e.is_of_name() => {
                self.unnamed.add(self.component, entry, &e);
                Ok(false)
            }
            made => {
                interrupt.check()?;
                made.doing(Class::Failed, || format!("cannot link {}/{}", self.component, entry.path))?;
                Ok(true)
            }
        }
    }
}

/// Archives that are not there with the size that the record gives. What could be had of them was proved and is restored.
fn check_sizes(opened: &Opened, listing: &Listing) -> Result<Vec<Problem>> {
    let (record, sources) = (&opened.record, &opened.sources);
    let first = sources.first();
    let mut problems = Vec::new();
    for id in listing.archives_needed() {
        let key = Key::Archive(id);
        let size = record.object(&id).map_or(0, |o| o.size);
        let what = match in_store(&**first, first.head(&key))? {
            Some(found) if found == size => continue,
            Some(found) => format!("is damaged: it has {found} bytes, and the record says {size}"),
            None => "is missing".to_owned(),
        };
        if let Some(other) = sources.elsewhere(&key, size).first() {
            sources.tell(&key, &**other, &what);
            continue;
        }
        let (kind, subject) = (ProblemKind::Damaged, key.to_string());
        problems.push(Problem { kind, component: None, subject, what, hint: None });
    }
    Ok(problems)
}

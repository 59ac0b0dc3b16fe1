//! What differs between two snapshots, or between a snapshot and the live tree.
//!
//! Listings are read side by side in walk order, one segment of each at a time; segments that both have are not read at all. Nothing is written, and nothing
//! that is found here decides what is stored: what the catalog remembers of live files only saves reading them again.

mod compare;
mod content;
mod known;
mod live;
mod pages;
mod rename;
mod report;
mod stored;
mod walk;

pub use pages::Pages;
pub use report::{Aspects, Change, DiffReport, NotCompared, Status, Summary};

use crate::config::Component;
use crate::model::index::{Index, IndexComponent};
use crate::model::{Problem, RelPath};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::holding::named_by;
use crate::ops::restore::{Opened, open_in};
use crate::ops::select;
use crate::ops::session::Session;
use compare::Comparison;
use known::KnownFiles;
use live::Live;
use stored::Stored;

/// What to compare.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// The older snapshot.
    pub from: String,
    /// The newer snapshot, a path, or both in this order; the live tree where no snapshot is named.
    pub rest: Vec<String>,
    /// Read every live file, whatever is remembered of it, and count changed pages of databases of any size.
    pub read_data: bool,
    /// Use snapshots by keys that are not trusted.
    pub accept_untrusted: bool,
}

/// What both sides are narrowed to.
struct Narrowed {
    component: String,
    path: RelPath,
}

/// Compares. Differences are no failure: they are in the report.
pub fn run(session: &Session, options: &DiffOptions) -> Result<DiffReport> {
    let vault = session.read_vault()?;
    let accept = options.accept_untrusted;
    let names = asked_for(session, &options.rest);
    let old = open_in(session, &vault, &options.from, &names, accept)?;
    let (to, path) = sort_out(session, &old.index, &options.rest)?;
    let new = to.map(|to| open_in(session, &vault, to, &[], accept)).transpose()?;
    if new.is_none() && session.config.is_none() {
        let what = "a kit names no live tree to compare with";
        return Err(OpError::new(Class::Usage, what)
            .hint("name a second snapshot, or run it in the project's folder"));
    }
    let narrowed = path.map(|path| narrow(session, &old, new.as_ref(), path)).transpose()?;
    let mut comparison = Comparison::new(session, options.read_data, &old, new.as_ref());
    match &new {
        Some(new) => snapshots(&mut comparison, &old, new, narrowed.as_ref())?,
        None => {
            let known = KnownFiles::load(session, &vault, options.read_data)?;
            with_live(&mut comparison, session, &old, known, narrowed.as_ref())?;
        }
    }
    let unseen = narrowed.filter(|_| !comparison.seen);
    if let Some(narrowed) = unseen.filter(|n| !comparison.names(&n.component)) {
        // What both share is passed over by the walk.
        for side in [Some(&old), new.as_ref()].into_iter().flatten() {
            if is_in(side, &narrowed, session)? {
                return comparison.finish();
            }
        }
        let what = format!("there is no {}/{} on either side", narrowed.component, narrowed.path);
        return Err(OpError::new(Class::NotFound, what).hint("`backstay ls ID` lists what is in a snapshot"));
    }
    comparison.finish()
}

/// Whether a snapshot has what both sides were narrowed to.
fn is_in(side: &Opened, narrowed: &Narrowed, session: &Session) -> Result<bool> {
    let Some(component) = side.index.component(&narrowed.component) else { return Ok(false) };
    let mut listed = Stored::all(side, component, &narrowed.path, &session.around.interrupt);
    Ok(narrowed.path.is_root() || walk::Listed::next(&mut listed)?.is_some())
}

/// The component that a comparison with the live tree is narrowed to, as far as that is known before a snapshot is opened. Of two snapshots each is
/// what it is called: that one lacks a component is a difference.
fn asked_for(session: &Session, rest: &[String]) -> Vec<String> {
    let name = |word: &str| word.split('/').next().unwrap_or_default().to_owned();
    let is_configured =
        |word: &str| session.config.as_ref().is_some_and(|c| c.component(&name(word)).is_some());
    match rest {
        [word] if select::is_live(word) || is_configured(word) => named_by(session, rest),
        _ => Vec::new(),
    }
}

/// Tells a second snapshot from a path. A word that could be either is refused: nobody must compare with something else than he meant.
fn sort_out<'o>(
    session: &Session,
    index: &Index,
    rest: &'o [String],
) -> Result<(Option<&'o str>, Option<&'o str>)> {
    match rest {
        [] => Ok((None, None)),
        [to, path] => Ok((Some(to), Some(path))),
        [word] => {
            let here = word.starts_with(['/', '.']);
            let (name, below) = word.split_once('/').map_or((word.as_str(), false), |(name, _)| (name, true));
            let configured = |c: &&Component| c.name.as_str() == name;
            let component = index.component(name).is_some()
                || session.config.as_ref().is_some_and(|c| c.components.iter().any(|c| configured(&c)));
            let now = session.around.clock.now();
            let selector = crate::model::selector::Selector::parse(word, now, jiff::tz::TimeZone::system);
            match (here || component, selector.is_ok() && !here && !below) {
                (true, true) => Err(OpError::new(
                    Class::Usage,
                    format!("{word:?} names a component and could name a snapshot"),
                )
                .hint(format!("write {word}/ for the component, or the whole id of the snapshot"))),
                (true, false) => Ok((None, Some(word))),
                _ => Ok((Some(word), None)),
            }
        }
        _ => Err(OpError::new(Class::Usage, "more was named than two snapshots and a path")),
    }
}

/// The component and path that `path` means, on whichever side it is.
fn narrow(session: &Session, old: &Opened, new: Option<&Opened>, path: &str) -> Result<Narrowed> {
    let found = select::path(session, &old.index, path);
    let found = match (found, new) {
        (Err(e), Some(new)) if e.class == Class::NotFound => select::path(session, &new.index, path),
        (found, _) => found,
    };
    let (component, path) = found?;
    Ok(Narrowed { component, path: path.unwrap_or_else(RelPath::root) })
}

fn wanted(narrowed: Option<&Narrowed>, name: &str) -> bool {
    narrowed.is_none_or(|n| n.component == name)
}

/// The path that both sides are narrowed to.
fn top(narrowed: Option<&Narrowed>) -> RelPath {
    narrowed.map_or_else(RelPath::root, |n| n.path.clone())
}

fn snapshots<'a>(
    comparison: &mut Comparison<'a>,
    old: &'a Opened,
    new: &'a Opened,
    narrowed: Option<&Narrowed>,
) -> Result<()> {
    let top = top(narrowed);
    for component in old.index.components.iter().filter(|c| wanted(narrowed, c.name.as_str())) {
        let Some(other) = new.index.component(component.name.as_str()) else {
            comparison.report.only_in_from.push(component.name.to_string());
            continue;
        };
        comparison.component(component, Some(other));
        let (mut a, mut b) = Stored::pair((old, component), (new, other), &top, comparison.interrupt());
        walk::side_by_side(&mut a, &mut b, &mut |a, b| comparison.stored(a, b))?;
    }
    let only = |c: &&IndexComponent| old.index.component(c.name.as_str()).is_none();
    let only = new.index.components.iter().filter(only).filter(|c| wanted(narrowed, c.name.as_str()));
    comparison.report.only_in_to.extend(only.map(|c| c.name.to_string()));
    Ok(())
}

fn with_live<'a>(
    comparison: &mut Comparison<'a>,
    session: &Session,
    old: &'a Opened,
    mut known: KnownFiles,
    narrowed: Option<&Narrowed>,
) -> Result<()> {
    let config = session.config()?;
    let top = top(narrowed);
    comparison.report.looked_at = Some(session.around.clock.now());
    for component in old.index.components.iter().filter(|c| wanted(narrowed, c.name.as_str())) {
        let Some(configured) = config.components.iter().find(|c| c.name == component.name) else {
            comparison.report.only_in_from.push(component.name.to_string());
            continue;
        };
        comparison.component(component, None);
        let mut problems: Vec<Problem> = Vec::new();
        let rows = known.of(component.number);
        let live = Live::open(session, configured, rows, &mut problems);
        problems.into_iter().for_each(|problem| comparison.problem(problem));
        match live {
            Ok(live) => comparison.live(old, component, live, &top)?,
            Err(why) => {
                let component = component.name.to_string();
                if let Some(problem) = why.problem {
                    comparison.problem(problem);
                }
                comparison.report.not_compared.push(NotCompared { component, why: why.what });
            }
        }
    }
    let only = |c: &&Component| old.index.component(c.name.as_str()).is_none();
    let only = config.components.iter().filter(only).filter(|c| wanted(narrowed, c.name.as_str()));
    comparison.report.only_in_to.extend(only.map(|c| c.name.to_string()));
    Ok(())
}

//! Problems that do not stop an extraction, kept few: a million files that one system call refuses must not be a million lines.

use super::extractor::Owners;
use crate::model::RelPath;
use crate::model::path::escape;
use crate::model::report::{Problem, ProblemKind};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of each sort so many are listed one by one; of the others only the number.
const LISTED_MAX: u64 = 100;

/// What sort of thing could not be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    Attribute,
    Mode,
    Time,
    Device,
    /// Symbolic links and FIFOs.
    Node,
    /// Further names of a file.
    Name,
    SetId,
}

impl Sort {
    fn plural(self) -> &'static str {
        match self {
            Self::Attribute => "more extended attributes were not restored",
            Self::Mode => "more modes were not restored",
            Self::Time => "more modification times were not restored",
            Self::Device => "more devices were not made",
            Self::Node => "more symbolic links or FIFOs were not made",
            Self::Name => "more further names of files are copies",
            Self::SetId => "more set-user-id or set-group-id bits were left out",
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    listed: Vec<Problem>,
    counts: BTreeMap<Sort, u64>,
    owners: u64,
    first_owner: Option<Problem>,
}

/// Collects problems; several threads may add.
#[derive(Debug)]
pub(super) struct Troubles {
    component: String,
    owners: Owners,
    is_root: bool,
    inner: Mutex<Inner>,
}

impl Troubles {
    pub(super) fn new(component: &str, owners: Owners, is_root: bool) -> Self {
        Self { component: component.to_owned(), owners, is_root, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Owners, and the bits that hang on them, are not what an ordinary user can give, nor what is asked for with [`Owners::Ignore`].
    fn kind(&self, sort: Sort) -> ProblemKind {
        let expected = sort == Sort::SetId && !(self.is_root && self.owners == Owners::Keep);
        if expected { ProblemKind::Warning } else { ProblemKind::NotRestored }
    }

    pub(super) fn add(&self, sort: Sort, path: &RelPath, what: impl FnOnce() -> String) {
        let mut inner = self.lock();
        let count = inner.counts.entry(sort).or_default();
        *count += 1;
        if *count <= LISTED_MAX {
            let (component, kind) = (&self.component, self.kind(sort));
            inner.listed.push(Problem::at_path(kind, component, path.as_bytes(), what()));
        }
    }

    /// The owner of `path` could not be set. For an ordinary user that is what is to be expected, so it is a warning, and one for all.
    pub(super) fn add_owner(&self, path: &RelPath, why: impl ToString) {
        let mut inner = self.lock();
        inner.owners += 1;
        if inner.first_owner.is_none() {
            let kind = if self.is_root { ProblemKind::NotRestored } else { ProblemKind::Warning };
            let component = &self.component;
            inner.first_owner = Some(Problem::at_path(kind, component, path.as_bytes(), why));
        }
    }

    /// All problems, the general ones last.
    pub(super) fn take(&self) -> Vec<Problem> {
        let inner = std::mem::take(&mut *self.lock());
        let mut problems = inner.listed;
        let about = |kind, what: String| {
            let subject = escape(self.component.as_bytes());
            Problem { kind, component: Some(self.component.clone()), subject, what, hint: None }
        };
        for (sort, count) in inner.counts {
            if let Some(more @ 1..) = count.checked_sub(LISTED_MAX) {
                problems.push(about(self.kind(sort), format!("{more} {}", sort.plural())));
            }
        }
        if let Some(first) = inner.first_owner {
            let (count, what) = (inner.owners, first.what);
            let noun = if count == 1 { "entry" } else { "entries" };
            let text = format!("owners of {count} {noun} not restored, {} first: {what}", first.subject);
            let problem = about(first.kind, text);
            let hint = "restore as root to get the owners back";
            problems.push(if self.is_root { problem } else { problem.hint(hint) });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_problems_of_one_sort_become_few_lines_and_none_is_lost_from_the_count() {
        let troubles = Troubles::new("web", Owners::Keep, false);
        for n in 0..1000 {
            let path = RelPath::new(format!("f{n}").as_bytes()).unwrap();
            troubles.add(Sort::Attribute, &path, || "user.x: no".into());
            troubles.add_owner(&path, "operation not permitted");
        }
        let problems = troubles.take();
        assert_eq!(problems.len(), 102);
        assert!(problems[100].what.starts_with("900 more"), "{:?}", problems[100]);
        assert_eq!(problems[101].kind, ProblemKind::Warning);
        assert!(problems[101].what.contains("1000 entries"), "{:?}", problems[101]);
    }
}

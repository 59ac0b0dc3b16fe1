//! Walking the folders, beside the packing of the last database or dump.
//!
//! Never before everything of that kind is captured: a file that a row names must be there, and a walk that began earlier may have passed its folder by then.

use crate::config::{Component, Spec};
use crate::model::index::ComponentKind;
use crate::model::report::Phase;
use crate::model::{Problem, ProblemKind};
use crate::ops::backup::build::Build;
use crate::ops::backup::capture::{Run, chain_text};
use crate::ops::error::Result;
use crate::ops::layout::folder_spec;
use crate::platform::users::Names;
use crate::source::folder::{FolderSpec, Scan, SourceError, scan};
use std::thread;

/// A component that was walked; without a scan there was nothing to walk, and it is said.
pub(super) type Scanned<'a> = (Build<'a>, Option<Scan>);

/// What a walk gives: what it found and what it could not read.
type Found = (std::result::Result<Scan, SourceError>, Vec<Problem>);

fn walk(spec: &FolderSpec, names: &Names) -> Found {
    let mut problems = Vec::new();
    let found = scan(spec, names, &mut |problem| problems.push(problem));
    (found, problems)
}

/// Looks at all of `specs` while `work` is done.
fn beside<T>(
    specs: &[FolderSpec],
    look: impl Fn(&FolderSpec) -> Found + Sync,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Found>)> {
    let all = || -> Vec<Found> { specs.iter().map(&look).collect() };
    thread::scope(|scope| {
        let others = thread::Builder::new().name("scan".to_owned()).spawn_scoped(scope, all);
        let done = work()?;
        let found = match others {
            Ok(others) => others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // No more threads may be started.
            Err(_) => all(),
        };
        Ok((done, found))
    })
}

impl<'a> Run<'a> {
    /// Walks a folder or a list of paths.
    pub(super) fn scan(&self, component: &Component) -> Result<Scanned<'a>> {
        let (build, spec) = self.to_walk(component)?;
        Ok(self.walked(build, walk(&spec, &self.session.names)))
    }

    /// Walks `components` while `work` is done.
    pub(super) fn scan_beside<T>(
        &self,
        components: &[&Component],
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Vec<Scanned<'a>>)> {
        // Their instants lie before the walks: what is younger is looked at again by the next run.
        let begun: Vec<(Build<'a>, FolderSpec)> =
            components.iter().map(|component| self.to_walk(component)).collect::<Result<_>>()?;
        let (builds, specs): (Vec<Build<'a>>, Vec<FolderSpec>) = begun.into_iter().unzip();
        let look = |spec: &FolderSpec| walk(spec, &self.session.names);
        let (done, found) = beside(&specs, look, || {
            let done = work()?;
            self.pack.progress.phase(Phase::Scan, None);
            Ok(done)
        })?;
        Ok((done, builds.into_iter().zip(found).map(|(build, found)| self.walked(build, found)).collect()))
    }

    fn to_walk(&self, component: &Component) -> Result<(Build<'a>, FolderSpec)> {
        let kind = match component.spec {
            Spec::Paths { .. } => ComponentKind::Paths,
            _ => ComponentKind::Folder,
        };
        let spec = folder_spec(component, &self.session.config()?.components, self.session)?;
        Ok((self.build(component, kind, "files"), spec))
    }

    fn walked(&self, mut build: Build<'a>, (found, problems): Found) -> Scanned<'a> {
        for problem in problems {
            if problem.kind == ProblemKind::Unreadable {
                (build.complete, build.unreadable_count) = (false, build.unreadable_count + 1);
            }
            build.problem(problem);
        }
        match found {
            Ok(scan) => {
                build.rules.clone_from(&scan.rules);
                // Holes are not packed: a thin image of a terabyte may have ten gigabytes.
                build.packer.archive_size = self.archive_size(scan.allocated);
                (build, Some(scan))
            }
            Err(error) => {
                build.root_failed(&error);
                (build, None)
            }
        }
    }
}

impl Build<'_> {
    fn root_failed(&mut self, error: &SourceError) {
        self.unreadable_count += 1;
        self.complete = false;
        let what = chain_text(error);
        let problem = Problem::at_path(ProblemKind::Unreadable, self.name.as_str(), b".", what);
        self.problem(problem.hint("is its disk mounted, and is the path in backstay.toml right?"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::error::{Class, OpError};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn folders_are_walked_while_the_last_database_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"content").unwrap();
        let specs = [FolderSpec::tree("a", dir.path()), FolderSpec::tree("b", dir.path().join("not-there"))];
        let names = Names::default();
        let (walked, packing) = mpsc::channel();
        let look = |spec: &FolderSpec| {
            let found = walk(spec, &names);
            walked.send(spec.component.clone()).unwrap();
            found
        };
        // What is packed is not done before both were walked.
        let pack = || {
            let two = (
                packing.recv_timeout(Duration::from_secs(60)),
                packing.recv_timeout(Duration::from_secs(60)),
            );
            Ok((two.0.unwrap(), two.1.unwrap()))
        };
        let (done, found) = beside(&specs, look, pack).unwrap();
        assert_eq!(done, ("a".to_owned(), "b".to_owned()));
        assert_eq!(found[0].0.as_ref().unwrap().entries.len(), 2);
        assert!(matches!(found[1].0, Err(SourceError::Missing { .. })));
    }

    #[test]
    fn a_failure_while_packing_is_the_one_that_is_told() {
        let failed = beside(&[], |_| unreachable!(), || Err::<(), _>(OpError::new(Class::Failed, "no room")));
        assert_eq!(failed.unwrap_err().to_string(), "no room");
    }
}

//! Capturing all components in the right order: databases and dumps first, then folders, in which databases come before files.

use crate::archive::About;
use crate::config::{Component, Spec};
use crate::durable::crash;
use crate::keys::naming::{component_number, setup};
use crate::model::index::ComponentKind;
use crate::model::record::CheckResult;
use crate::model::report::Phase;
use crate::model::{Problem, ProblemKind, RelPath};
use crate::ops::backup::build::Build;
use crate::ops::backup::files::{Databases, pack_found};
use crate::ops::backup::held::{Held, HeldDatabases};
use crate::ops::backup::listing::Listing;
use crate::ops::backup::manifest::{Stored, store_component};
use crate::ops::backup::packer::{PackRun, Packer, archive_size};
use crate::ops::backup::reuse::{Contents, Reuse, Settled};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::layout::{base_of, folder_spec};
use crate::ops::session::{Session, Writer};
use crate::ops::vault::Vault;
use crate::source::folder::{Excluded, Scan, SourceError, scan};
use crate::source::sqlite::{CheckPolicy, SqliteError, SqliteSpec};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// How long a busy database is waited for.
pub(crate) const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// How long writers of a database in rollback-journal mode may be made to wait.
pub(crate) const LOCK_LIMIT: Duration = Duration::from_secs(2);

/// What capturing needs.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) session: &'a Session,
    pub(super) writer: &'a Writer,
    pub(super) vault: &'a Vault,
    pub(super) pack: &'a PackRun<'a>,
    /// What of earlier snapshots may be referred to.
    pub(super) reuse: &'a Reuse,
}

/// Captures `components` and puts all their data objects. Fails when nothing at all could be captured.
pub(super) fn all(run: Run<'_>, components: &[&Component]) -> Result<Vec<Stored>> {
    let pack = run.pack;
    let mut stored: Vec<Option<Stored>> = components.iter().map(|_| None).collect();
    pack.progress.phase(Phase::Capture, None);
    let stopped = components.iter().enumerate().filter(|(_, c)| c.with_services_stopped);
    let stopped: Vec<(usize, &Component)> = stopped.map(|(place, component)| (place, *component)).collect();
    let mut troubles = Vec::new();
    let mut held = run.hold(&stopped, &mut troubles)?;
    for (place, component) in components.iter().enumerate() {
        match (held.remove(&place), &component.spec) {
            (Some(Held::Stream(stream)), _) => stored[place] = Some(stream.pack()?),
            (Some(files), _) => drop(held.insert(place, files)),
            (None, Spec::Sqlite { .. } | Spec::Command { .. } | Spec::Postgres { .. }) => {
                stored[place] = Some(run.stream(component)?);
            }
            _ => {}
        }
    }
    pack.progress.phase(Phase::Scan, None);
    let mut scans = Vec::new();
    for (place, component) in components.iter().enumerate() {
        match held.remove(&place) {
            Some(Held::Files(build, scan, databases)) => scans.push((place, (*build, scan), databases)),
            _ if stored[place].is_none() => scans.push((place, run.scan(component)?, HeldDatabases::new())),
            _ => {}
        }
    }
    crash::point("backup: scanned");
    let bytes = scans.iter().filter_map(|(_, (_, scan), _)| scan.as_ref()).map(|s| s.bytes);
    let bytes = bytes.fold(0, u64::saturating_add);
    pack.progress.phase(Phase::Pack, Some(bytes));
    let mut databases = Vec::new();
    for (_, (build, scan), held) in &mut scans {
        databases.push(match scan {
            Some(scan) => run.databases(build, scan, held)?,
            None => Databases::default(),
        });
    }
    for ((place, (mut build, scan), _), databases) in scans.into_iter().zip(databases) {
        if let Some(scan) = scan {
            pack_found(&mut build, scan, databases)?;
        }
        stored[place] = Some(store_component(build)?);
    }
    if let Some(first) = stored.iter_mut().flatten().next() {
        first.problems.extend(troubles);
    }
    let stored: Vec<Stored> = stored.into_iter().flatten().collect();
    if stored.iter().all(|s| s.index.entries == 0) {
        let causes: Vec<String> =
            stored.iter().flat_map(|s| &s.problems).map(|p| format!("{}: {}", p.place(), p.what)).collect();
        return Err(OpError::new(Class::Failed, "nothing at all could be captured, so no snapshot was made")
            .because(causes.join("; "))
            .hint("is a disk not mounted? older snapshots are untouched"));
    }
    Ok(stored)
}

impl<'a> Run<'a> {
    /// A component of which nothing was captured yet.
    pub(super) fn build(&self, component: &Component, kind: ComponentKind, method: &str) -> Build<'a> {
        let now = self.session.around.clock.now();
        let number = component_number(&self.writer.naming, &component.name);
        let old = self.reuse.component(number);
        let about = About {
            vault: self.vault.info.vault.clone(),
            host: self.vault.host_of(&self.writer.signer.id()),
            component: component.name.clone(),
            delta: !old.is_empty(),
        };
        let (base, single) = base_of(component, self.session.config.as_deref());
        Build {
            name: component.name.clone(),
            number,
            setup: setup(&self.writer.naming, &component.canonical()),
            kind,
            base: base.display().to_string(),
            single,
            method: method.to_owned(),
            started: now,
            instant: now,
            complete: true,
            check: CheckResult::None,
            unreadable_count: 0,
            rules: Vec::new(),
            strict: component.strict,
            allow: Excluded::from_patterns(&component.allow_unreadable),
            // Members that only say what the listing says are left out of a delta.
            alone: old.is_empty(),
            full: self.reuse.full(number, old.is_empty(), now),
            old,
            contents: Contents::new(old),
            brought: None,
            settled: Settled::at(now),
            file_systems: HashMap::new(),
            listing: if old.is_empty() { Listing::folding() } else { Listing::default() },
            unlisted: BTreeMap::new(),
            held: HashMap::new(),
            packer: Packer::new(self.pack.clone(), about, self.archive_size(0)),
            names: &self.session.names,
            problems: Vec::new(),
        }
    }

    /// The size of archives of a component that has so many bytes.
    pub(super) fn archive_size(&self, bytes: u64) -> u64 {
        archive_size(self.session.config.as_ref().and_then(|c| c.packing.archive_size), bytes)
    }

    /// Walks a folder or a list of paths.
    pub(super) fn scan(&self, component: &Component) -> Result<(Build<'a>, Option<Scan>)> {
        let kind = match component.spec {
            Spec::Paths { .. } => ComponentKind::Paths,
            _ => ComponentKind::Folder,
        };
        let spec = folder_spec(component, &self.session.config()?.components, self.session)?;
        let mut build = self.build(component, kind, "files");
        let mut problems = Vec::new();
        let scanned = scan(&spec, &self.session.names, &mut |problem| problems.push(problem));
        for problem in problems {
            if problem.kind == ProblemKind::Unreadable {
                (build.complete, build.unreadable_count) = (false, build.unreadable_count + 1);
            }
            build.problem(problem);
        }
        match scanned {
            Ok(scan) => {
                build.rules.clone_from(&scan.rules);
                // Holes are not packed: a thin image of a terabyte may have ten gigabytes.
                build.packer.archive_size = self.archive_size(scan.allocated);
                Ok((build, Some(scan)))
            }
            Err(error) => {
                build.root_failed(&error);
                Ok((build, None))
            }
        }
    }

    pub(super) fn found_spec(&self, database: PathBuf) -> SqliteSpec {
        SqliteSpec {
            no_links: true,
            component: String::new(),
            database,
            exe: self.session.around.exe.clone(),
            lock_limit: LOCK_LIMIT,
            check: CheckPolicy::Auto,
            spool: self.pack.scratch.to_owned(),
            busy_limit: BUSY_LIMIT,
        }
    }
}

impl Build<'_> {
    pub(super) fn not_captured(&mut self, path: &RelPath, error: &SqliteError) {
        let what = format!("the database cannot be captured: {}", chain_text(error));
        self.unreadable_count += 1;
        self.complete = false;
        let mut problem =
            Problem::at_path(ProblemKind::Unreadable, self.name.as_str(), path.as_bytes(), what);
        problem.hint = error.hint().map(str::to_owned);
        self.problem(problem);
    }

    fn root_failed(&mut self, error: &SourceError) {
        self.unreadable_count += 1;
        self.complete = false;
        let what = chain_text(error);
        let problem = Problem::at_path(ProblemKind::Unreadable, self.name.as_str(), b".", what);
        self.problem(problem.hint("is its disk mounted, and is the path in backstay.toml right?"));
    }
}

/// An error and its causes on one line.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

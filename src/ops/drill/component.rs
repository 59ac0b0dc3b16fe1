//! One component brought back, checked, and taken away again.

use super::report::{DrilledComponent, Outcome};
use crate::archive::Pool;
use crate::config::{CommandLine, Spec};
use crate::durable::crash;
use crate::model::entry::FLAG_DATABASE;
use crate::model::index::IndexComponent;
use crate::model::{Entry, Kind, ObjectId, Problem, ProblemKind, SnapshotId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::read::Reading;
use crate::ops::restore::{Listing, Opened, lay};
use crate::ops::select::Selection;
use crate::ops::session::Session;
use crate::ops::stores::Away;
use crate::ops::verify::{Checker, Content, Scratch, Wanted};
use crate::platform::remove::remove_tree;
use crate::source::command::{Judging, judge};
use crate::source::sqlite::Checked;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a file costs beside its bytes, roughly: an inode and the rest of a block.
const FILE_COSTS: u64 = 4096;
/// A check command of files may take this long.
const CHECK_LIMIT: Duration = Duration::from_secs(3600);
/// So many lost files are named one by one.
const NAMED: usize = 100;

/// One component on its way.
pub(super) struct Drilling<'a> {
    pub(super) session: &'a Session,
    pub(super) opened: &'a Opened,
    pub(super) scratch: &'a Scratch,
    pub(super) selection: &'a Selection,
}

/// What checks found.
#[derive(Default)]
struct Checks {
    passed: u64,
    failed: u64,
    run: bool,
    /// Some could not be run.
    unknown: bool,
}

impl Drilling<'_> {
    /// Brings it back. Fails only when the run is to end: what is wrong with the component is its outcome.
    pub(super) fn run(&self) -> Result<DrilledComponent> {
        let component = crate::ops::select::component(&self.opened.index, &self.selection.component)?;
        let mut done = empty(component, &self.opened.record.snapshot);
        let begun = self.session.around.clock.now();
        let read = Listing::read(&self.opened.reader(), &self.opened.index, self.selection);
        let tried = read.and_then(|listing| {
            let needed = listing.bytes().saturating_add(FILE_COSTS * listing.entries.len() as u64);
            match self.scratch.room_for(needed) {
                Ok(()) => self.restore(&listing, &mut done, begun),
                Err(why) => self.compare(&listing, &mut done, begun, &why),
            }
        });
        match tried {
            Ok(checks) => self.conclude(checks, &mut done),
            Err(error) if error.class == Class::Interrupted => return Err(error),
            Err(error) => self.give_up(&error, &mut done),
        }
        Ok(done)
    }

    fn seconds(&self, since: crate::model::Timestamp) -> f64 {
        self.session.around.clock.now().duration_since(since).as_secs_f64()
    }

    /// Damage is the snapshot's; a full disk, a store that does not answer and the like are not.
    fn give_up(&self, error: &OpError, done: &mut DrilledComponent) {
        let kind = match error.class {
            Class::Damage => ProblemKind::Damaged,
            Class::Store => ProblemKind::Store,
            _ => ProblemKind::NotRestored,
        };
        done.outcome = match error.class {
            Class::Damage => Outcome::Unrecoverable,
            _ => Outcome::Inconclusive,
        };
        let mut problem =
            self.problem(kind, format!("it could not be brought back: {}", Away::from(error).line()));
        problem.hint.clone_from(&error.hint);
        done.problems.push(problem);
    }

    fn problem(&self, kind: ProblemKind, what: impl Into<String>) -> Problem {
        Problem {
            kind,
            component: Some(self.selection.component.clone()),
            subject: ".".into(),
            what: what.into(),
            hint: None,
        }
    }

    fn restore(
        &self,
        listing: &Listing,
        done: &mut DrilledComponent,
        begun: crate::model::Timestamp,
    ) -> Result<Checks> {
        let laid = Laid::new(self.scratch, listing.component.name.as_str())?;
        let report = lay(self.session, self.opened, listing, &laid.path)?;
        crash::point("drill: component restored");
        done.restore_seconds = self.seconds(begun);
        done.files = report.files;
        let lost: BTreeSet<String> = report
            .problems
            .iter()
            // What is said of an archive itself is no file.
            .filter(|p| p.kind == ProblemKind::Damaged && p.component.is_some())
            .map(|p| p.subject.clone())
            .collect();
        done.lost = lost.len() as u64;
        let is_lost = |entry: &Entry| lost.contains(&crate::model::path::escape(entry.path.as_bytes()));
        done.bytes = listing.bytes() - listing.bytes_of(is_lost);
        done.blamed = blamed(listing, is_lost);
        done.problems
            .extend(report.problems.into_iter().filter(|p| p.kind == ProblemKind::Damaged).take(NAMED));
        let began = self.session.around.clock.now();
        let mut checks = self.databases(listing, &laid.path, done);
        self.command(listing, &laid.path, &mut checks, done)?;
        done.check_seconds = self.seconds(began);
        laid.remove()?;
        Ok(checks)
    }

    fn databases(&self, listing: &Listing, root: &Path, done: &mut DrilledComponent) -> Checks {
        let mut checks = Checks::default();
        for entry in listing.entries.iter().filter(|e| e.has_flag(FLAG_DATABASE)) {
            let path = root.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
            if !path.exists() {
                continue; // lost, and said so
            }
            match crate::source::sqlite::check_file_wholly(&path) {
                Checked::Sound => checks.passed += 1,
                Checked::Unsound(why) => self.check_failed(entry, &why, &mut checks, done),
                Checked::Unknown(why) => self.check_unknown(entry, &why, &mut checks, done),
            }
        }
        checks
    }

    fn check_failed(&self, entry: &Entry, why: &str, checks: &mut Checks, done: &mut DrilledComponent) {
        checks.failed += 1;
        let what = format!("it came back as it was stored, but the database check fails: {why}");
        let name = &self.selection.component;
        let problem = Problem::at_path(ProblemKind::CheckFailed, name, entry.path.as_bytes(), what);
        done.problems.push(
            problem.hint("it was so when the snapshot was made; drill an older one: backstay drill ID"),
        );
    }

    /// Only its own program can check it. Where the component's check does, that judges; else nobody did.
    fn check_unknown(&self, entry: &Entry, why: &str, checks: &mut Checks, done: &mut DrilledComponent) {
        checks.unknown |= self.check_command().is_none();
        let what = format!("it came back as it was stored, and could not be checked: {why}");
        let name = &self.selection.component;
        let problem = Problem::at_path(ProblemKind::Warning, name, entry.path.as_bytes(), what);
        done.problems.push(problem.hint(
            "its schema needs what only its own program has: let that check it, as `check` of the component",
        ));
    }

    /// The component's own check, on what was brought back.
    fn command(
        &self,
        listing: &Listing,
        root: &Path,
        checks: &mut Checks,
        done: &mut DrilledComponent,
    ) -> Result<()> {
        let Some(check) = self.check_command() else {
            return Ok(());
        };
        let input = match check.on_output {
            true => Some(output_file(listing, root)?),
            false => None,
        };
        let stopped = || self.session.around.interrupt.signal().is_some();
        let judging = Judging {
            component: self.selection.component.clone(),
            command: crate::ops::backup::words(&check.line),
            dir: if check.on_output { self.session.config()?.dir.clone() } else { root.to_owned() },
            input,
            env_file: check.env_file,
            restored: root.to_owned(),
            snapshot: self.opened.record.snapshot.to_string(),
            timeout: check.timeout,
        };
        checks.run = true;
        if let Err(error) = judge(judging, &stopped) {
            self.session.around.interrupt.check()?;
            if error.is_verdict() {
                checks.failed += 1;
                let what = format!(
                    "its check says that what came back is not sound: {}",
                    crate::ops::restore::read::chain_text(&error)
                );
                done.problems.push(self.problem(ProblemKind::CheckFailed, what));
            } else {
                checks.unknown = true;
                let what =
                    format!("its check could not be run: {}", crate::ops::restore::read::chain_text(&error));
                done.problems.push(self.problem(ProblemKind::NotRestored, what));
            }
        }
        Ok(())
    }

    fn check_command(&self) -> Option<CheckCommand> {
        let config = self.session.config.as_ref()?;
        let component = config.component(&self.selection.component)?;
        match &component.spec {
            Spec::Command { check, env_file, timeout, .. } => Some(CheckCommand {
                line: check.clone()?,
                on_output: true,
                env_file: env_file.clone(),
                timeout: *timeout,
            }),
            Spec::Postgres { env_file, timeout, .. } => Some(CheckCommand {
                line: CommandLine::Args(["pg_restore", "--file=/dev/null"].map(String::from).to_vec()),
                on_output: true,
                env_file: env_file.clone(),
                timeout: *timeout,
            }),
            _ => Some(CheckCommand {
                line: component.check.clone()?,
                on_output: false,
                env_file: None,
                timeout: CHECK_LIMIT,
            }),
        }
    }

    /// There is no room for it: all content is fetched and compared all the same, file by file.
    fn compare(
        &self,
        listing: &Listing,
        done: &mut DrilledComponent,
        begun: crate::model::Timestamp,
        why: &str,
    ) -> Result<Checks> {
        done.how = "compared";
        let files: Vec<Wanted> = listing
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.kind == Kind::File)
            .map(|(place, entry)| Wanted::new(entry.clone(), listing.extents(place).to_vec()))
            .collect();
        let pool = Pool::for_machine();
        let reading = Reading {
            sources: &self.opened.sources,
            record: &self.opened.record,
            identities: &self.opened.identities,
            pool: &pool,
            interrupt: &self.session.around.interrupt,
        };
        let advance = |bytes| self.session.around.progress.advance(bytes);
        let checker =
            Checker { reading, scratch: self.scratch, advance: &advance, databases: true, thorough: true };
        let wanted: Vec<&Wanted> = files.iter().collect();
        let outcomes = checker.check_in(&wanted, &listing.archives)?;
        done.restore_seconds = self.seconds(begun);
        let mut checks = Checks::default();
        let mut lost = BTreeSet::new();
        for (file, outcome) in files.iter().zip(outcomes) {
            match outcome {
                Content::Whole => {
                    (done.files, done.bytes) = (done.files + 1, done.bytes + file.bytes());
                    checks.passed += u64::from(file.entry().has_flag(FLAG_DATABASE));
                }
                Content::Lost(why) => {
                    lost.insert(file.entry().path.clone());
                    let path = file.entry().path.as_bytes();
                    if lost.len() <= NAMED {
                        let name = &self.selection.component;
                        done.problems.push(Problem::at_path(ProblemKind::Damaged, name, path, why));
                    }
                }
                Content::CheckFailed(why) => self.check_failed(file.entry(), &why, &mut checks, done),
                Content::CheckUnknown(why) => {
                    (done.files, done.bytes) = (done.files + 1, done.bytes + file.bytes());
                    self.check_unknown(file.entry(), &why, &mut checks, done);
                }
                Content::NotChecked(why) => {
                    checks.unknown = true;
                    let name = &self.selection.component;
                    let path = file.entry().path.as_bytes();
                    let what = format!("it could not be brought back to be checked: {why}");
                    done.problems
                        .push(Problem::at_path(ProblemKind::NotRestored, name, path, what).hint(ROOM));
                }
            }
        }
        done.lost = lost.len() as u64;
        done.blamed = blamed(listing, |entry| lost.contains(&entry.path));
        if self.check_command().is_some() {
            checks.unknown = true;
            let what = format!("its check needs it on disk, and there is no room: {why}");
            done.problems
                .push(Problem { hint: Some(ROOM.into()), ..self.problem(ProblemKind::NotRestored, what) });
        }
        Ok(checks)
    }

    fn conclude(&self, checks: Checks, done: &mut DrilledComponent) {
        (done.databases, done.checks_failed, done.check_run) = (checks.passed, checks.failed, checks.run);
        done.complete = !checks.unknown && done.lost == 0;
        let nothing = done.lost > 0 && done.files == 0;
        done.outcome = match (nothing, done.lost > 0 || checks.failed > 0, checks.unknown) {
            (true, ..) => Outcome::Unrecoverable,
            (_, true, _) => Outcome::Partial,
            (_, _, true) => Outcome::Inconclusive,
            _ => Outcome::Full,
        };
    }
}

const ROOM: &str = "make room, or name another place as `scratch` in [verify]";

/// A check command and how it is run.
struct CheckCommand {
    line: CommandLine,
    /// It gets the one file on its standard input, as after a dump; else it runs in the restored folder.
    on_output: bool,
    env_file: Option<PathBuf>,
    timeout: Duration,
}

fn output_file(listing: &Listing, root: &Path) -> Result<File> {
    let entry = listing.entries.first();
    let name = entry.map_or(&b"output"[..], |e| e.path.as_bytes());
    let path = root.join(std::ffi::OsStr::from_bytes(name));
    File::open(&path).doing(Class::Failed, || format!("cannot read {}", path.display()))
}

/// Bytes of the content of those files.
fn blamed(listing: &Listing, lost: impl Fn(&Entry) -> bool) -> Vec<ObjectId> {
    let files = listing.entries.iter().enumerate().filter(|(_, entry)| lost(entry));
    let extents = files.flat_map(|(place, _)| listing.extents(place));
    let archives: BTreeSet<ObjectId> = extents.map(|extent| extent.archive).collect();
    archives.into_iter().collect()
}

/// Where one component lies for a while.
struct Laid {
    above: File,
    name: String,
    path: PathBuf,
}

impl Laid {
    fn new(scratch: &Scratch, name: &str) -> Result<Self> {
        let path = scratch.path().join(name);
        let cannot = || format!("cannot make {}", path.display());
        let above = File::open(scratch.path()).doing(Class::Failed, cannot)?;
        if path.symlink_metadata().is_ok() {
            // What an earlier try of this run left there.
            remove_tree(above.as_fd(), name.as_bytes()).doing(Class::Failed, cannot)?;
        }
        crate::durable::create_dirs(&path, 0o700).doing(Class::Failed, cannot)?;
        Ok(Self { above, name: name.to_owned(), path })
    }

    fn remove(self) -> Result<()> {
        let removed = remove_tree(self.above.as_fd(), self.name.as_bytes());
        removed.doing(Class::Failed, || format!("cannot remove {}", self.path.display()))
    }
}

fn empty(component: &IndexComponent, snapshot: &SnapshotId) -> DrilledComponent {
    DrilledComponent {
        name: component.name.to_string(),
        snapshot: snapshot.clone(),
        outcome: Outcome::Inconclusive,
        how: "restored",
        files: 0,
        bytes: 0,
        lost: 0,
        databases: 0,
        checks_failed: 0,
        check_run: false,
        restore_seconds: 0.0,
        check_seconds: 0.0,
        number: component.number,
        complete: false,
        blamed: Vec::new(),
        problems: Vec::new(),
    }
}

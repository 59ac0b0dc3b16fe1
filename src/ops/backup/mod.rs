//! Making a snapshot: capture, pack, put, prove, commit.
//!
//! Databases and dumps are captured first, folders after, and each instant is noted. Nothing here may report success before the record is durable
//! and everything it names was read back from the store.

mod blocks;
mod build;
mod capture;
mod check;
pub(crate) use blocks::database_page;
pub(crate) use capture::{BUSY_LIMIT, LOCK_LIMIT, chain_text};
pub(crate) use reuse::FILE as CATALOG;
mod content;
mod damaged;
mod databases;
mod draft;
mod files;
mod folded;
mod git;
mod held;
mod large;
mod laying;
mod listing;
mod manifest;
mod options;
mod packer;
mod plan;
mod readback;
mod report;
mod reuse;
mod several;
mod shelf;
mod shrunk;
mod start;
mod streams;
mod unfinished;
mod uploads;

pub(crate) use start::{open_chain, prepare_spool};

pub use git::BUNDLE;
pub use options::{BackupOptions, GitWish};
pub use plan::{BackupPlan, PlannedComponent, plan};
pub use report::{BackupReport, ComponentReport, Shrunk};
pub use several::StoreReport;
pub(crate) use streams::words;

use crate::archive::Pool;
use crate::config::{Component, Event};
use crate::durable::{Held, crash};
use crate::keys::naming::component_number;
use crate::model::index::{Index, IndexHeader};
use crate::model::mark::{Level, Statement, Target, Verdict};
use crate::model::record::{CheckResult, ComponentLine, ObjectRef, SnapshotKind};
use crate::model::report::Phase;
use crate::model::{ObjectId, Problem, Record, SnapshotId, Timestamp};
use crate::ops::commit::{AGENT, Chain};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::hooks::{self, Ran};
use crate::ops::session::{Session, Writer};
use crate::ops::vault::Vault;
use capture::Run;
use manifest::Stored;
use packer::PackRun;
use readback::{Proofs, Times, carried};
use reuse::{Reuse, Wanted, Wishes};
pub(in crate::ops) use start::chosen;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use unfinished::Unfinished;
use uploads::Uploads;

/// Makes a snapshot.
pub fn run(session: &Session, options: &BackupOptions) -> Result<BackupReport> {
    chosen(&session.config()?.components, &options.only)?;
    session.check_writable()?;
    session.writer()?;
    let held = crate::ops::lock::hold(session, "backup")?;
    crash::point("backup: lock held");
    let started = session.around.clock.now();
    let state = session.state()?.dir();
    let mut report = run_held(session, options, &held)?;
    if report.good {
        // What a rollback put away is needed no more once something good came after it.
        let swept = crate::ops::rollback::sweep(state, started);
        for place in swept.removed {
            session.note(&format!("removed what a rollback put away a week ago: {}", place.display()));
        }
        swept.problems.iter().for_each(|problem| session.around.progress.problem(problem));
        report.problems.extend(swept.problems);
    }
    Ok(report)
}

/// The same for whoever holds the project's lock.
pub(crate) fn run_held(session: &Session, options: &BackupOptions, _: &Held) -> Result<BackupReport> {
    let config = Arc::clone(session.config()?);
    let components = chosen(&config.components, &options.only)?;
    let writer = session.writer()?;
    let names: Vec<String> = components.iter().map(|c| c.name.to_string()).collect();
    let id = |report: &BackupReport| report.snapshot.to_string();
    let Ran { outcome: mut report, problems } = hooks::around(session, Event::Backup, &names, id, || {
        git::around(session, options, &components, |options, components| {
            if session.stores.len() > 1 {
                return several::run(session, options, components, &writer);
            }
            in_one_store(session, options, components, &writer)
        })
    })?;
    report.problems.extend(problems);
    Ok(report)
}

/// Makes a snapshot in the only store. The lock is held.
fn in_one_store(
    session: &Session,
    options: &BackupOptions,
    components: &[&Component],
    writer: &Writer,
) -> Result<BackupReport> {
    // Before anything is written: a store of another vault must stay as it is.
    let vault = session.read_vault()?;
    let spool = prepare_spool(session)?;
    crash::point("backup: spool swept");
    let mut chain = open_chain(session, &writer.signer, &vault)?;
    if let Some(told) = chain.finish_pending()? {
        session.note(&told);
    }
    crash::point("backup: nothing pending");
    let making = Making { options, components, writer, vault: &vault, spool: &spool };
    making.run(session, &mut chain)
}

/// What a snapshot is made with.
struct Making<'a> {
    options: &'a BackupOptions,
    components: &'a [&'a Component],
    writer: &'a Writer,
    vault: &'a Vault,
    spool: &'a Path,
}

impl Making<'_> {
    /// Captures, packs, puts, proves and commits in the store that leads. Where an older object turns out to be damaged, that is said, and it is done again without it.
    fn run(&self, session: &Session, chain: &mut Chain<'_>) -> Result<BackupReport> {
        let (mut bad, mut told) = (BTreeSet::new(), Vec::new());
        loop {
            let began = session.around.clock.now();
            match self.attempt(session, chain, &mut bad, &mut told)? {
                Attempt::Made(mut report) => {
                    report.problems.extend(told);
                    return Ok(*report);
                }
                Attempt::Damaged(found) => {
                    let new: BTreeSet<ObjectId> = found.difference(&bad).copied().collect();
                    told.extend(damaged::say_bad(session, self.vault, chain, &new, Level::Read, began)?);
                    bad.extend(found);
                }
            }
        }
    }

    /// What is in `bad` is not referred to.
    fn attempt(
        &self,
        session: &Session,
        chain: &mut Chain<'_>,
        bad: &mut BTreeSet<ObjectId>,
        told: &mut Vec<Problem>,
    ) -> Result<Attempt> {
        let started = session.around.clock.now();
        let random = crate::durable::random_bytes();
        let random = random.doing(Class::Failed, || "no random numbers are to be had".into())?;
        let id = SnapshotId::new(started, random);
        let pool = Arc::new(Pool::for_machine());
        let unfinished = Unfinished::of(session, &self.writer.recipients).map(Arc::new);
        if let Some(unfinished) = unfinished.as_ref().filter(|unfinished| !unfinished.is_empty()) {
            unfinished.pass_over(&chain.doomed()?);
        }
        let uploads = Uploads::new(&session.store, &session.around.interrupt, unfinished.clone())?;
        let scratch = session.state()?.spool_dir();
        let run = PackRun {
            uploads: &uploads,
            spool: self.spool,
            scratch: &scratch,
            recipients: &self.writer.recipients,
            pool: &pool,
            level: session.config()?.packing.level,
            progress: &*session.around.progress,
            interrupt: &session.around.interrupt,
        };
        let number = |c: &Component| component_number(&self.writer.naming, &c.name);
        let wanted = |c: &&Component| Wanted { number: number(c), full_every: c.full_every };
        let components: Vec<Wanted> = self.components.iter().map(wanted).collect();
        let wishes = Wishes { components: &components, full: self.options.full, bad };
        let reuse = Reuse::open(session, self.writer, self.vault, chain, &wishes)?;
        told.extend(damaged::say_bad(session, self.vault, chain, &reuse.lost, Level::Presence, started)?);
        bad.extend(&reuse.lost);
        crash::point("backup: catalog read");
        let capture = Run { session, writer: self.writer, vault: self.vault, pack: &run, reuse: &reuse };
        let done = capture::all(capture, self.components).and_then(|stored| {
            crash::point("backup: captured");
            let snapshot = Snapshot { id, started, options: self.options, stored };
            snapshot.finish(session, self.writer, &run, chain, self.vault, reuse)
        });
        // No thread lays anything aside any more.
        drop(uploads);
        // What a store damaged, or what a commit was refused with, must not be taken for sent again and again.
        let given_up = |e: &OpError| matches!(e.class, Class::Damage | Class::Failed);
        if done.as_ref().map_or_else(given_up, |made| matches!(made, Attempt::Made(_))) {
            unfinished.iter().for_each(|unfinished| unfinished.clear());
        }
        done
    }
}

/// What came of making a snapshot.
enum Attempt {
    Made(Box<BackupReport>),
    /// Older objects that it was to refer to are not what their names say.
    Damaged(BTreeSet<ObjectId>),
}

/// A snapshot whose data objects are in the store.
struct Snapshot<'a> {
    id: SnapshotId,
    started: Timestamp,
    options: &'a BackupOptions,
    stored: Vec<Stored>,
}

impl Snapshot<'_> {
    fn finish(
        mut self,
        session: &Session,
        writer: &Writer,
        run: &PackRun<'_>,
        chain: &mut Chain<'_>,
        vault: &Vault,
        reuse: Reuse,
    ) -> Result<Attempt> {
        let index = self.index(session, writer, chain)?;
        let encoded = index.encode().doing(Class::Failed, || "cannot write the index".into())?;
        let index_object = manifest::put_manifest(run, &encoded)?;
        let objects = self.objects(&index_object);
        let put = run.uploads.finish()?;
        crash::point("backup: index put");
        let now = session.around.clock.now();
        let reused: HashSet<ObjectId> = self.stored.iter().flat_map(|s| s.reused.iter().copied()).collect();
        let times = Times { now, before: reuse.last_backup(), reverify: session.reverify() };
        let proofs = Proofs::plan(&objects, &put, &reuse, &reused, &times);
        let damaged = readback::read_back(session, &proofs.chosen(&objects), &reused)?;
        if !damaged.is_empty() {
            return Ok(Attempt::Damaged(damaged));
        }
        crash::point("backup: read back");
        let record = self.record(writer, chain, &index, &index_object, objects, now);
        session.around.interrupt.check()?;
        reuse.check_store(chain)?;
        let line = crate::model::document::line_of(&record);
        let line = line.doing(Class::Failed, || "cannot write the record".into())?;
        let carried = carried(&record, &reuse, &reused, &proofs, now);
        let saved = self.stored.iter_mut().filter_map(|s| s.saved.take()).collect();
        reuse.save(session, &record, ObjectId::of(&line), saved);
        let hash = chain.commit(&record)?;
        crash::point("backup: committed");
        readback::read_record(session, &record, hash)?;
        crash::point("backup: record read back");
        let verdict = self.verdict(&record, hash, chain, &proofs);
        let good = verdict.good && proofs.others_hold;
        for carried in carried.verdicts(&verdict) {
            chain.mark(Statement::Verdict(carried), session.around.clock.now())?;
            crash::point("backup: older proofs carried over");
        }
        chain.mark(Statement::Verdict(verdict), session.around.clock.now())?;
        crash::point("backup: verdict put");
        chain.remember_store()?;
        crash::point("backup: store remembered");
        let mut report = self.report(session, &record, vault, good && record.complete, &reused);
        shrunk::note(session, writer, vault, chain, (&record, hash), &mut report)?;
        Ok(Attempt::Made(Box::new(report)))
    }

    fn objects(&self, index: &ObjectRef) -> Vec<ObjectRef> {
        let archives = self.stored.iter().flat_map(|s| s.archives.iter().copied());
        let manifests = self.stored.iter().flat_map(|s| s.manifests.iter().copied());
        archives.chain(manifests).chain(std::iter::once(*index)).collect()
    }

    fn index(&self, session: &Session, writer: &Writer, chain: &Chain<'_>) -> Result<Index> {
        let config = session.config()?;
        let mut states = self.options.trees.iter().map(|tree| tree.state.clone());
        let header = IndexHeader {
            format: IndexHeader::FORMAT,
            needs: Vec::new(),
            doc: "index".into(),
            vault: chain.vault.clone(),
            snapshot: self.id.clone(),
            host: chain.host,
            hostname: crate::platform::hostname(),
            project: config.project.name.clone(),
            system: std::env::consts::OS.into(),
            note: self.options.note.clone(),
            git: states.next(),
            git_more: states.collect(),
            agent: AGENT.into(),
            config: config.text.clone(),
            config_path: config.path.display().to_string(),
            naming_key: writer.naming.reveal().to_string(),
        };
        Ok(Index { header, components: self.stored.iter().map(|s| s.index.clone()).collect() })
    }

    fn record(
        &self,
        writer: &Writer,
        chain: &Chain<'_>,
        index: &Index,
        index_object: &ObjectRef,
        objects: Vec<ObjectRef>,
        finished: Timestamp,
    ) -> Record {
        let line = |s: &Stored| ComponentLine {
            number: s.index.number,
            size: s.index.size,
            entries: s.index.entries,
            complete: s.index.complete,
            check: s.index.check,
            setup: s.setup.clone(),
        };
        Record {
            format: IndexHeader::FORMAT,
            needs: Vec::new(),
            doc: "record".into(),
            vault: chain.vault.clone(),
            snapshot: self.id.clone(),
            kind: if self.options.safety { SnapshotKind::Safety } else { SnapshotKind::Normal },
            host: chain.host,
            signer: chain.signer_id(),
            number: chain.next.0,
            previous: chain.next.1,
            started: self.started,
            finished,
            complete: index.components.iter().all(|c| c.complete),
            alone: index.components.iter().all(|c| c.alone),
            components: self.stored.iter().map(line).collect(),
            recipients: vec![writer.recipients.ids()],
            objects,
            index: Some(index_object.id),
            run: None,
            tags: crate::ops::select::each_once(&self.options.tags),
            milestone: self.options.milestone,
            agent: AGENT.into(),
        }
    }

    fn verdict(&self, record: &Record, hash: ObjectId, chain: &Chain<'_>, proofs: &Proofs) -> Verdict {
        let checks: Vec<(u64, CheckResult)> = record
            .components
            .iter()
            .filter(|c| c.check != CheckResult::None)
            .map(|c| (c.number, c.check))
            .collect();
        Verdict {
            target: Target { snapshot: record.snapshot.clone(), record: hash },
            instance: chain.instance.clone(),
            level: proofs.level(),
            // Objects are proved while others are packed.
            began: self.started,
            good: checks.iter().all(|c| c.1 != CheckResult::Failed),
            covered: proofs.covered(),
            bad: Vec::new(),
            checks,
        }
    }

    fn report(
        self,
        session: &Session,
        record: &Record,
        vault: &Vault,
        good: bool,
        reused: &HashSet<ObjectId>,
    ) -> BackupReport {
        let component = |s: &Stored| ComponentReport {
            name: s.index.name.to_string(),
            size: s.index.size,
            entries: s.index.entries,
            complete: s.index.complete,
            check: s.index.check,
            instant: s.index.instant,
        };
        let new = || record.objects.iter().filter(|o| !reused.contains(&o.id));
        let took = session.around.clock.now().duration_since(self.started);
        BackupReport {
            snapshot: self.id,
            complete: record.complete,
            good,
            components: self.stored.iter().map(component).collect(),
            objects: new().count() as u64,
            stored_bytes: new().map(|o| o.size).sum(),
            reused_bytes: record.objects.iter().filter(|o| reused.contains(&o.id)).map(|o| o.size).sum(),
            store: session.store.name().to_owned(),
            location: session.store.location(),
            stores: vec![StoreReport::of_lead(session)],
            git: Vec::new(),
            seconds: took.as_secs_f64(),
            history: vault.history.breaks.iter().map(ToString::to_string).collect(),
            kit: crate::ops::kit_standing::standing(session),
            shrunk: None,
            problems: self.stored.into_iter().flat_map(|s| s.problems).collect(),
        }
    }
}

/// Starts the part of a run in which bytes are counted.
fn begin_phase(session: &Session, phase: Phase, total: u64) {
    session.around.progress.phase(phase, Some(total));
}

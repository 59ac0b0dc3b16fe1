//! `drill`: a snapshot really brought back, into a scratch place, checked, timed, and taken away again.
//!
//! A drill never touches what is live and never calls a snapshot good that it did not bring back to the last file. What it could not find
//! out is `inconclusive` and no success. Component by component, so that the largest one bounds the room on disk; where that does not
//! fit, all content is still fetched and compared, file by file.

mod component;
mod report;

pub use report::{DrillReport, DrilledComponent, Outcome};

use crate::catalog::DrillNote;
use crate::durable::crash;
use crate::model::chain::KnownSnapshot;
use crate::model::mark::{Level, Target, Verdict};
use crate::model::record::{CheckResult, ComponentLine};
use crate::model::report::Phase;
use crate::model::{ObjectId, ObjectRef, Problem, ProblemKind, Record};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::Opened;
use crate::ops::select::{self, Selection};
use crate::ops::session::Session;
use crate::ops::sharing;
use crate::ops::sources::Sources;
use crate::ops::stores::Away;
use crate::ops::vault::{Vault, View};
use crate::ops::verify::{How, Looked, Outcome as Found, Scratch, Voice, look, scratch_place};
use crate::store::Key;
use component::Drilling;
use std::sync::Arc;

/// What to bring back.
#[derive(Debug, Clone, Default)]
pub struct DrillOptions {
    /// Which snapshot; the newest good one without.
    pub id: Option<String>,
    /// Only these components; all when empty.
    pub only: Vec<String>,
    /// Use a snapshot by a key that is not trusted.
    pub accept_untrusted: bool,
}

/// Brings a snapshot back and takes it away again. What is wrong with the snapshot is in the report; an error means that nothing was found out.
pub fn run(session: &Session, options: &DrillOptions) -> Result<DrillReport> {
    let began = session.around.clock.now();
    let identities = Arc::new(session.identities_needed()?);
    let vault = session.read_vault()?;
    let known = choose(session, &vault, options)?;
    let view = view_of(&vault, known)?;
    let mut voice = Voice::of(session, "drill");
    let mut report = DrillReport::new(known, view, began);
    let sources = Arc::new(Sources::alone(session, &view.store));
    let record = Arc::clone(&known.record);
    let reader =
        crate::ops::objects::SnapshotReader { store: &*view.store, record: &record, identities: &identities };
    match reader.index() {
        Ok(index) => {
            let opened = Opened { sources, record: Arc::clone(&record), index, identities };
            let selections = selections(&opened, options)?;
            report.whole = selections.len() == opened.index.components.len();
            drill(session, &opened, view, &selections, &mut report)?;
        }
        Err(error) if error.class == Class::Damage => {
            let what = format!("the snapshot cannot be opened: {}", Away::from(&error).line());
            report.fail(session, Problem { hint: error.hint, ..damaged(known, what) });
            report.outcome = Outcome::Unrecoverable;
            let index = record.index.and_then(|id| record.object(&id));
            report.bad.extend(index.copied());
        }
        Err(error) => return Err(error),
    }
    report.damaged = report.bad.iter().map(|o| Key::data(o.kind, o.id).to_string()).collect();
    crash::point("drill: found out");
    if let Some(verdict) = verdict(known, view, &report) {
        let shared = shared(&vault, view, known, &verdict);
        let verdicts = std::iter::once(verdict).chain(shared);
        voice.sign(session, verdicts.map(|verdict| (known.record.host, verdict)).collect())?;
    }
    crash::point("drill: signed");
    (report.verdicts, report.not_signed) = (voice.signed, voice.silent);
    report.not_signed_class = voice.class;
    remember(session, view, &report)?;
    report.problems.extend(session.troubles());
    Ok(report)
}

/// The snapshot that is meant; without an ID the newest good one, else the newest: what nobody proved needs a drill most.
fn choose<'v>(session: &Session, vault: &'v Vault, options: &DrillOptions) -> Result<&'v KnownSnapshot> {
    let select = |text: &str| select::snapshot(session, vault, text, options.accept_untrusted);
    if let Some(id) = &options.id {
        return select(id);
    }
    match select("latest-good") {
        Err(error) if error.class == Class::NotFound => {
            let newest = select("latest")?;
            session
                .note(&format!("no snapshot is good, so the newest is drilled: {}", newest.record.snapshot));
            Ok(newest)
        }
        found => found,
    }
}

/// The store that it is brought back from, and no other: the drill is a proof of that one.
fn view_of<'v>(vault: &'v Vault, known: &KnownSnapshot) -> Result<&'v View> {
    let name = (known.record.signer, known.record.number, known.hash);
    vault.views.iter().find(|view| view.present.contains(&name)).ok_or_else(|| {
        let what = format!("no store that is here has snapshot {}", known.record.snapshot);
        OpError::new(Class::NotFound, what).hint("`backstay list --store NAME` shows what a store has")
    })
}

/// All components, or those named.
fn selections(opened: &Opened, options: &DrillOptions) -> Result<Vec<Selection>> {
    let names = opened.index.components.iter().map(|c| c.name.to_string());
    let names: Vec<String> = if options.only.is_empty() { names.collect() } else { options.only.clone() };
    let selection = |component: String| {
        select::component(&opened.index, &component)?;
        Ok(Selection { component, paths: Vec::new() })
    };
    names.into_iter().map(selection).collect()
}

fn damaged(known: &KnownSnapshot, what: String) -> Problem {
    let subject = format!("snapshot {}", known.record.snapshot);
    Problem { kind: ProblemKind::Damaged, component: None, subject, what, hint: None }
}

fn drill(
    session: &Session,
    opened: &Opened,
    view: &View,
    selections: &[Selection],
    report: &mut DrillReport,
) -> Result<()> {
    let scratch = Scratch::create(&scratch_place(session), session.around.clock.now())?;
    let of = |s: &Selection| opened.index.component(&s.component).map_or(0, |c| c.size);
    session.around.progress.phase(Phase::Restore, Some(selections.iter().map(of).sum()));
    crash::point("drill: begun");
    for selection in selections {
        session.around.interrupt.check()?;
        let drilling = Drilling { session, opened, scratch: &scratch, selection };
        let mut component = drilling.run()?;
        crash::point("drill: component done");
        if component.is_hurt() && opened.sources.answered().is_ok() {
            let bad = blame(session, &opened.record, view, &component)?;
            match bad {
                // Every object is whole: the way here may have done it.
                Ok(bad) if bad.is_empty() => component = drilling.run()?,
                Ok(bad) => report.bad.extend(bad),
                Err(error) => component.doubt(&error),
            }
        }
        if let Err(error) = opened.sources.answered() {
            component.doubt(&error);
        }
        report.take(session, component);
    }
    report.conclude();
    Ok(())
}

/// Which objects are to blame for what was lost; the inner error is that of a store which does not answer and says nothing about them.
fn blame(
    session: &Session,
    record: &Record,
    view: &View,
    component: &DrilledComponent,
) -> Result<std::result::Result<Vec<ObjectRef>, OpError>> {
    let asked = |o: &&ObjectRef| component.blamed.is_empty() || component.blamed.contains(&o.id);
    let objects: Vec<ObjectRef> = record.objects.iter().filter(asked).copied().collect();
    let Looked { outcomes, failed } = look(session, &*view.store, &objects, How::Read, None)?;
    if let Some(error) = failed {
        return Ok(Err(error));
    }
    let bad = |(object, outcome): (&ObjectRef, Option<Found>)| {
        matches!(outcome, Some(Found::Bad(_))).then_some(*object)
    };
    Ok(Ok(objects.iter().zip(outcomes).filter_map(bad).collect()))
}

/// What is signed: nothing where nothing was found out, and nothing of a part that was well.
fn verdict(known: &KnownSnapshot, view: &View, report: &DrillReport) -> Option<Verdict> {
    let full = report.outcome == Outcome::Full;
    if report.outcome == Outcome::Inconclusive || !known.is_usable() || (full && !report.whole) {
        return None;
    }
    // What passed is named where there is a check, or where one failed before: only that takes it back.
    let failed_before = |number: u64| {
        known.verdicts.iter().any(|v| v.verdict.checks.contains(&(number, CheckResult::Failed)))
    };
    let has_check = |c: &DrilledComponent| {
        let of_record = |line: &ComponentLine| line.number == c.number && line.check != CheckResult::None;
        c.check_run || known.record.components.iter().any(of_record) || failed_before(c.number)
    };
    let check = |c: &DrilledComponent| match c.checks_failed {
        0 if c.complete && has_check(c) => Some((c.number, CheckResult::Passed)),
        0 => None,
        _ => Some((c.number, CheckResult::Failed)),
    };
    Some(Verdict {
        target: Target { snapshot: known.record.snapshot.clone(), record: known.hash },
        instance: view.info.instance.clone(),
        level: Level::Drill,
        began: report.began,
        good: full,
        // Ranges were read, each proved by age and by its file's hash: of objects that is no proof to their last byte.
        covered: Vec::new(),
        bad: report.bad.iter().map(|o| o.id).collect(),
        checks: report.components.iter().filter_map(check).collect(),
    })
}

/// That the objects which were found bad are so for the other snapshots that need them, too, where that was not said yet.
fn shared<'v>(
    vault: &'v Vault,
    view: &View,
    known: &KnownSnapshot,
    said: &Verdict,
) -> impl Iterator<Item = Verdict> + use<'v> {
    let said = Verdict { level: Level::Read, good: false, checks: Vec::new(), ..said.clone() };
    let (bad, hash) = (said.bad.clone(), known.hash);
    let before = vault.history.found_bad(&known.record.host, &said.instance);
    let others =
        sharing::usable_in(vault, view, &known.record.host).into_iter().filter(move |s| s.hash != hash);
    others.filter_map(move |other| {
        let unsaid = |id: &ObjectId| other.record.object(id).is_some() && !before.says(id, &other.hash);
        let bad: Vec<ObjectId> = bad.iter().copied().filter(unsaid).collect();
        let target = Target { snapshot: other.record.snapshot.clone(), record: other.hash };
        (!bad.is_empty()).then(|| Verdict { target, bad, ..said.clone() })
    })
}

/// Remembers what came of it, also of one that was inconclusive: people ask when the last drill was.
fn remember(session: &Session, view: &View, report: &DrillReport) -> Result<()> {
    let Some(state) = &session.state else {
        return Ok(());
    };
    let note = DrillNote {
        snapshot: report.snapshot.clone(),
        at: report.began,
        result: report.outcome.word().to_owned(),
        restore_seconds: report.restore_seconds,
    };
    state
        .note_drill(&view.info.instance, note)
        .doing(Class::Failed, || "cannot remember what came of the drill".into())
}

//! `drill`: snapshots really brought back, into a scratch place, checked, timed, and taken away again.
//!
//! A drill never touches what is live and never calls a snapshot good that it did not bring back to the last file. What it could not find
//! out is `inconclusive` and no success. Component by component, so that the largest one bounds the room on disk; where that does not
//! fit, all content is still fetched and compared, file by file.

mod component;
mod plan;
mod report;

pub use report::{DrillReport, DrilledComponent, DrilledSnapshot, Outcome};

use crate::catalog::DrillNote;
use crate::durable::crash;
use crate::keys::Identities;
use crate::model::chain::KnownSnapshot;
use crate::model::mark::{Level, Target, Verdict};
use crate::model::record::{CheckResult, ComponentLine};
use crate::model::report::Phase;
use crate::model::{ObjectId, ObjectRef, Problem, ProblemKind, Record};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::objects::SnapshotReader;
use crate::ops::remembering::UNWRITABLE;
use crate::ops::restore::Opened;
use crate::ops::select::{self, Selection};
use crate::ops::session::Session;
use crate::ops::sharing;
use crate::ops::sources::Sources;
use crate::ops::stores::Away;
use crate::ops::vault::{Vault, View};
use crate::ops::verify::{How, Looked, Outcome as Found, Scratch, Voice, look, scratch_place};
use component::Drilling;
use plan::Turn;
use report::Part;
use std::sync::Arc;

/// What to bring back.
#[derive(Debug, Clone, Default)]
pub struct DrillOptions {
    /// Which snapshot; without, of each component of the configuration the newest good one that holds it.
    pub id: Option<String>,
    /// Only these components; all when empty.
    pub only: Vec<String>,
    /// Use a snapshot by a key that is not trusted.
    pub accept_untrusted: bool,
}

/// Brings snapshots back and takes them away again. What is wrong with them is in the report; an error means that nothing was found out.
pub fn run(session: &Session, options: &DrillOptions) -> Result<DrillReport> {
    let began = session.around.clock.now();
    let identities = Arc::new(session.identities_needed()?);
    let vault = session.read_vault()?;
    let options = DrillOptions { only: select::each_once(&options.only), ..options.clone() };
    let plan = plan::of(session, &vault, &options)?;
    let mut voice = Voice::of(session, "drill");
    let views = plan.turns.iter().map(|turn| view_of(&vault, turn.known)).collect::<Result<Vec<&View>>>()?;
    let mut parts = Vec::new();
    let mut failed = Failed::default();
    for (turn, view) in plan.turns.iter().zip(views.iter().copied()) {
        let mut part = Part::new(turn.known, view, session.around.clock.now());
        if let Err(error) = drilled(session, turn, &identities, &mut part) {
            failed.take(session, error, &mut part)?;
        }
        crash::point("drill: found out");
        if let Some(verdict) = verdict(turn.known, part.view, &part) {
            let shared = shared(&vault, part.view, turn.known, &verdict);
            let verdicts = std::iter::once(verdict).chain(shared);
            voice.sign(session, verdicts.map(|verdict| (turn.known.record.host, verdict)).collect())?;
        }
        crash::point("drill: signed");
        parts.push(part);
    }
    let given_up = failed.end(&parts)?;
    let mut report = DrillReport::of(began, &plan, parts);
    for problem in given_up.into_iter().chain(plan.missing.iter().map(|name| missing(name))) {
        session.around.progress.problem(&problem);
        report.problems.push(problem);
    }
    (report.verdicts, report.not_signed) = (voice.signed, voice.silent);
    report.not_signed_class = voice.class;
    if let Err(error) = remember(session, &views, &report) {
        let problem = not_remembered(&error);
        session.around.progress.problem(&problem);
        report.problems.push(problem);
    }
    report.problems.extend(session.troubles());
    Ok(report)
}

/// Snapshots that could not be drilled to their end: what was found out of the others, and signed, is to be told all the same.
#[derive(Default)]
struct Failed {
    first: Option<OpError>,
    problems: Vec<Problem>,
}

impl Failed {
    /// Takes up why `part` ended early. Fails only when the run is to end.
    fn take(&mut self, session: &Session, error: OpError, part: &mut Part<'_>) -> Result<()> {
        if error.class == Class::Interrupted {
            return Err(error);
        }
        // A store whose calls a signal ended may call that by another name.
        session.around.interrupt.check()?;
        self.problems.push(part.give_up(&error));
        self.first = self.first.take().or(Some(error));
        Ok(())
    }

    /// What is to be told; fails when nothing was found out at all.
    fn end(self, parts: &[Part<'_>]) -> Result<Vec<Problem>> {
        match self.first {
            Some(error) if !parts.iter().any(Part::found_out) => Err(error),
            _ => Ok(self.problems),
        }
    }
}

/// Brings back one snapshot, or what is asked for of it.
fn drilled(
    session: &Session,
    turn: &Turn<'_>,
    identities: &Arc<Identities>,
    part: &mut Part<'_>,
) -> Result<()> {
    let (known, view) = (turn.known, part.view);
    let sources = Arc::new(Sources::alone(session, &view.store));
    let record = Arc::clone(&known.record);
    let reader = SnapshotReader { store: &*view.store, record: &record, identities };
    match reader.index() {
        Ok(index) => {
            let identities = Arc::clone(identities);
            let opened = Opened { sources, record: Arc::clone(&record), index, identities };
            let selections = selections(&opened, &turn.only)?;
            let chosen = |name: &str| selections.iter().any(|s| s.component == name);
            part.shown.whole = opened.index.components.iter().all(|c| chosen(c.name.as_str()));
            drill(session, &opened, view, &selections, part)
        }
        Err(error) if error.class == Class::Damage => {
            let what = format!("the snapshot cannot be opened: {}", Away::from(&error).line());
            part.fail(session, Problem { hint: error.hint, ..damaged(known, what) });
            part.shown.outcome = Outcome::Unrecoverable;
            let index = record.index.and_then(|id| record.object(&id));
            part.bad.extend(index.copied());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Says that a component of the configuration was not drilled.
fn missing(name: &str) -> Problem {
    Problem {
        kind: ProblemKind::NotRestored,
        component: Some(name.to_owned()),
        subject: "component".into(),
        what: "it was not drilled: no good snapshot holds it".into(),
        hint: Some(format!(
            "`backstay backup` makes one, if all of it can be read; `backstay drill --only {name}` takes the newest that holds it"
        )),
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
fn selections(opened: &Opened, only: &[String]) -> Result<Vec<Selection>> {
    let names = opened.index.components.iter().map(|c| c.name.to_string());
    let names: Vec<String> = if only.is_empty() { names.collect() } else { only.to_vec() };
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
    part: &mut Part<'_>,
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
                Ok(bad) => part.bad.extend(bad),
                Err(error) => component.doubt(&error),
            }
        }
        if let Err(error) = opened.sources.answered() {
            component.doubt(&error);
        }
        part.take(session, component);
    }
    part.conclude();
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
fn verdict(known: &KnownSnapshot, view: &View, part: &Part<'_>) -> Option<Verdict> {
    let outcome = part.shown.outcome;
    let full = outcome == Outcome::Full;
    if outcome == Outcome::Inconclusive || !known.is_usable() || (full && !part.shown.whole) {
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
        began: part.began,
        good: full,
        // Ranges were read, each proved by age and by its file's hash: of objects that is no proof to their last byte.
        covered: Vec::new(),
        bad: part.bad.iter().map(|o| o.id).collect(),
        checks: part.components.iter().filter_map(check).collect(),
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

/// What was found out, and signed, is worth more than the note of it.
fn not_remembered(error: &OpError) -> Problem {
    Problem {
        kind: ProblemKind::Warning,
        component: None,
        subject: "drill".into(),
        what: Away::from(error).line(),
        hint: Some(format!("`backstay status` does not know of this drill; {UNWRITABLE}")),
    }
}

/// Remembers what came of it, also of one that was inconclusive: people ask when the last drill was.
fn remember(session: &Session, views: &[&View], report: &DrillReport) -> Result<()> {
    let Some(state) = &session.state else {
        return Ok(());
    };
    // Of what lies in several stores none was proved to give all of it.
    let one = views.windows(2).all(|pair| pair[0].info.instance == pair[1].info.instance);
    for (place, (view, shown)) in views.iter().zip(&report.snapshots).enumerate() {
        if views[..place].iter().any(|before| before.info.instance == view.info.instance) {
            continue;
        }
        let note = DrillNote {
            snapshot: shown.snapshot.clone(),
            at: report.began,
            result: report.outcome.word().to_owned(),
            whole: report.whole && one,
            restore_seconds: report.restore_seconds,
        };
        state
            .note_drill(&view.info.instance, note)
            .doing(Class::Failed, || "cannot remember what came of the drill".into())?;
    }
    Ok(())
}

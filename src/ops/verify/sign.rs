//! What was found, as verdicts: as few marks as say it, because every mark is read for ever after.
//!
//! An object that was proved is proved for every snapshot that needs it, so each is named once, in the newest snapshot that has it. That
//! something is there proves nothing and is not signed; that it is not, or is damaged, is, and of every snapshot that needs the object.

use crate::model::chain::KnownSnapshot;
use crate::model::mark::{Level, Role, Statement, Target, Verdict};
use crate::model::record::CheckResult;
use crate::model::{HostId, ObjectId, ObjectRef, Timestamp};
use crate::ops::carried::ranges;
use crate::ops::error::{Class, Result};
use crate::ops::marks::Marks;
use crate::ops::session::Session;
use crate::ops::stores::Away;
use crate::ops::verify::objects::{How, Outcome};
use crate::ops::verify::scope::{Item, Work};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

/// Reading took long; another run that is under way is waited for this long before what was found is signed.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Signs verdicts, or knows why not.
pub(crate) struct Voice {
    /// Why nothing can be signed here; none where it can.
    pub(crate) silent: Option<String>,
    /// The class of that, where it is an error and not a choice.
    pub(crate) class: Option<Class>,
    pub(crate) signed: u64,
    what: &'static str,
}

impl Voice {
    /// Looks, before anything is read, whether this machine may sign in this session.
    pub(crate) fn of(session: &Session, what: &'static str) -> Self {
        let mut voice = Self { silent: None, class: None, signed: 0, what };
        if session.config.is_none() {
            voice.silent = Some("a kit alone signs nothing".into());
        } else if session.around.as_of.is_some() {
            voice.silent = Some("--as-of is for reading, and nothing is signed of what stood before".into());
        } else if let Err(error) = session.signer() {
            voice.fail(&error);
        } else if let Err(error) = session.with_all_stores() {
            voice.silent = Some(Away::from(&error).line());
        }
        voice
    }

    fn fail(&mut self, error: &crate::ops::error::OpError) {
        (self.silent, self.class) = (Some(Away::from(error).line()), Some(error.class));
    }

    /// Signs `verdicts`, each about a snapshot of the host beside it. What cannot be signed is remembered as the reason and ends no run: what
    /// was found is to be told in any case.
    pub(crate) fn sign(&mut self, session: &Session, verdicts: Vec<(HostId, Verdict)>) -> Result<()> {
        if verdicts.is_empty() || self.silent.is_some() {
            return Ok(());
        }
        match self.try_sign(session, verdicts) {
            Err(error) if error.class == Class::Interrupted => Err(error),
            Err(error) => {
                self.fail(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn try_sign(&mut self, session: &Session, verdicts: Vec<(HostId, Verdict)>) -> Result<()> {
        let mut patient = session.clone();
        patient.around.wait.get_or_insert(PATIENCE);
        let mut marks = Marks::open(&patient, self.what)?;
        let (mut statements, mut refused) = (Vec::new(), None);
        for (host, verdict) in verdicts {
            match marks.need(&host, Role::Verify) {
                // Deleted meanwhile: there is nothing left to say.
                Ok(()) if !marks.holds_record(&verdict.target.record, &verdict.instance) => {}
                Ok(()) => statements.push(Statement::Verdict(verdict)),
                Err(error) => refused = Some(error),
            }
        }
        self.signed += statements.len() as u64;
        marks.put(statements)?;
        refused.map_or(Ok(()), Err)
    }
}

/// The verdicts that say what was found of the items for which `fresh` is true.
pub(super) fn verdicts(work: &Work<'_>, fresh: &dyn Fn(&Item) -> bool) -> Vec<(HostId, Verdict)> {
    let mut all = Vec::new();
    for (how, level) in [(How::Head, Level::Presence), (How::Read, Level::Read)] {
        let of = |item: &&Item| fresh(item) && item.found.as_ref().is_some_and(|found| found.0 == how);
        let mut proved: HashSet<ObjectId> = HashSet::new();
        let mut turned = Turned::default();
        let mut began = Timestamp::MAX;
        for item in work.items.iter().filter(of) {
            match &item.found {
                // What is known to be bad and was not proved since need not be said again.
                Some((_, Outcome::Bad(_))) if item.before.bad => continue,
                Some((_, Outcome::Bad(_))) => turned.bad.insert(item.object.id),
                Some(_) if how == How::Read && item.before.bad => turned.good.insert(item.object.id),
                Some(_) if how == How::Read => proved.insert(item.object.id),
                _ => continue,
            };
            began = began.min(item.began);
        }
        all.extend(cover(work, level, began, &mut proved, &turned));
    }
    all
}

/// Objects that are not what they were: said of every snapshot that needs them, because a verdict goes with the snapshot that it is about.
#[derive(Default)]
struct Turned {
    /// Found bad now.
    bad: HashSet<ObjectId>,
    /// Proved now, and found bad before.
    good: HashSet<ObjectId>,
}

/// Names each of `proved` once, of those meant: the newest snapshots first, because they have most.
fn cover(
    work: &Work<'_>,
    level: Level,
    began: Timestamp,
    proved: &mut HashSet<ObjectId>,
    turned: &Turned,
) -> Vec<(HostId, Verdict)> {
    let meant: HashSet<ObjectId> = work.snapshots.iter().map(|s| s.hash).collect();
    let mut verdicts = Vec::new();
    for snapshot in work.held.iter().rev() {
        if proved.is_empty() && turned.bad.is_empty() && turned.good.is_empty() {
            break;
        }
        let objects = &snapshot.record.objects;
        let named = meant.contains(&snapshot.hash);
        let proves = |o: &ObjectRef| (named && proved.contains(&o.id)) || turned.good.contains(&o.id);
        let covered = ranges((0u64..).zip(objects).filter(|(_, o)| proves(o)).map(|(place, _)| place));
        let here: Vec<ObjectId> = objects.iter().map(|o| o.id).filter(|id| turned.bad.contains(id)).collect();
        if covered.is_empty() && here.is_empty() {
            continue;
        }
        if named {
            objects.iter().for_each(|o| {
                proved.remove(&o.id);
            });
        }
        let verdict = verdict(work, snapshot, level, began, covered, here);
        verdicts.push((snapshot.record.host, verdict));
    }
    verdicts
}

fn verdict(
    work: &Work<'_>,
    snapshot: &KnownSnapshot,
    level: Level,
    began: Timestamp,
    covered: Vec<(u64, u64)>,
    bad: Vec<ObjectId>,
) -> Verdict {
    Verdict {
        target: Target { snapshot: snapshot.record.snapshot.clone(), record: snapshot.hash },
        instance: work.view.info.instance.clone(),
        level,
        began,
        good: bad.is_empty(),
        covered,
        bad,
        checks: Vec::new(),
    }
}

/// What checks of databases said, by components.
pub(super) struct Checks<'a> {
    /// Those of which one failed.
    pub(super) failed: &'a BTreeMap<u64, String>,
    /// Those of which one can only be checked by its own program: of these nothing is known, and nothing is said.
    pub(super) foreign: &'a BTreeSet<u64>,
}

/// The verdict on a snapshot that was opened whole. `lost` says that something else was wrong.
pub(super) fn opened(
    work: &Work<'_>,
    snapshot: &KnownSnapshot,
    began: Timestamp,
    checks: &Checks<'_>,
    lost: bool,
) -> (HostId, Verdict) {
    let failed = checks.failed;
    let item = |id: &ObjectId| work.places.get(id).map(|place| &work.items[*place]);
    let objects = &snapshot.record.objects;
    let proved = (0u64..).zip(objects).filter(|(_, o)| item(&o.id).is_some_and(Item::proved_now));
    let covered = ranges(proved.map(|(place, _)| place));
    let bad =
        objects.iter().map(|o| o.id).filter(|id| item(id).is_some_and(|i| i.fault().is_some())).collect();
    let mut verdict = verdict(work, snapshot, Level::Decrypt, began, covered, bad);
    let known = |number: &u64| failed.contains_key(number) || !checks.foreign.contains(number);
    let checked = snapshot.record.components.iter().filter(|c| c.check != CheckResult::None);
    let checked = checked.filter(|c| known(&c.number));
    let result = |number: u64| match failed.contains_key(&number) {
        true => CheckResult::Failed,
        false => CheckResult::Passed,
    };
    // What is lost was not checked: then only failures are known.
    let known =
        checked.map(|c| (c.number, result(c.number))).filter(|(_, r)| !lost || *r == CheckResult::Failed);
    verdict.checks = known.collect();
    verdict.good = verdict.bad.is_empty() && !lost && failed.is_empty();
    (snapshot.record.host, verdict)
}

//! One store from its documents to the last byte that is asked for.

use super::objects::{How, Looked, Outcome, look};
use super::opened::{Finding, Lost, Opener};
use super::report::VerifiedStore;
use super::scope::{Item, Work};
use super::turn::{Turn, choose};
use super::{Run, document, explain, reason, scratch_place, sign};
use crate::durable::crash;
use crate::model::chain::KnownSnapshot;
use crate::model::report::Phase;
use crate::model::{ObjectId, ObjectRef, ProblemKind, Timestamp};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::recover_files;
use crate::ops::union::{Standing, store_problem};
use crate::ops::vault::Vault;
use crate::ops::verify::scratch::Scratch;
use crate::store::Key;
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// What was read is signed at least this often: a run that is ended after hours has not read in vain.
const SLICE: SignedDuration = SignedDuration::from_mins(15);

/// One store on its way.
pub(super) struct OneStore<'r, 'a> {
    pub(super) run: &'r mut Run<'a>,
    pub(super) vault: &'r Vault,
    pub(super) standing: &'r Standing,
    pub(super) report: VerifiedStore,
}

impl OneStore<'_, '_> {
    /// Verifies all of it. A store that fails half-way is said so, and what was found until then counts.
    pub(super) fn verify(&mut self, work: &mut Work<'_>) -> Result<()> {
        self.documents(work)?;
        self.report.lacking = work.lacking.iter().map(|s| s.record.snapshot.clone()).collect();
        if !self.report.lacking.is_empty() {
            let what = format!("it lacks {} of the snapshots asked for", self.report.lacking.len());
            let hint = format!("`backstay sync --to {}` brings what another store has", self.standing.name);
            self.run.tell(store_problem(&self.standing.name, what, hint));
        }
        let done = self.objects(work);
        self.settle(done)?;
        drop_deleted(work);
        explain::damage(self, work)?;
        self.sum_up(work);
        Ok(())
    }

    /// Ends the store's part on an error that is the store's own.
    fn settle(&mut self, done: Result<()>) -> Result<()> {
        match done {
            Err(error) if matches!(error.class, Class::Store | Class::Damage) => {
                let what = format!("it could not be verified to the end: {}", reason(&error));
                let hint = error.hint.clone().unwrap_or_else(|| "try again when it answers".into());
                self.report.problem = Some(reason(&error));
                self.run.tell(store_problem(&self.standing.name, what, hint));
                Ok(())
            }
            done => done,
        }
    }

    /// Documents that cannot be used, and the files with which people help themselves.
    fn documents(&mut self, work: &Work<'_>) -> Result<()> {
        let store = &work.view.store;
        let mut bad = self.standing.bad.clone();
        match recover_files::check(&**store, self.vault) {
            Ok(found) => bad.extend(found),
            Err(error) => self.settle(Err(error))?,
        }
        for bad in bad {
            let mut damage = document(&self.standing.name, &bad.key, &bad.why);
            if let Some(Key::Record(id)) = Key::parse(&bad.key) {
                damage.snapshots.push(id);
            }
            self.run.damage.push(damage);
        }
        Ok(())
    }

    /// Looks at every object; reads those whose turn it is; opens what is to be opened.
    fn objects(&mut self, work: &mut Work<'_>) -> Result<()> {
        let turn = |item: &Item| Turn {
            id: item.object.id,
            size: item.object.size,
            bad: item.before.bad,
            proved: item.before.proved,
        };
        let turns: Vec<Turn> = work.items.iter().map(turn).collect();
        let chosen = choose(&turns, self.run.options.percent());
        let mut others = vec![true; work.items.len()];
        chosen.iter().for_each(|place| others[*place] = false);
        let others: Vec<usize> = (0..work.items.len()).filter(|place| others[*place]).collect();
        crash::point("verify: begun");
        let failed = self.look(work, &others, How::Head, (self.run.session.around.clock.now(), None))?;
        crash::point("verify: looked");
        self.say(work, &|item| matches!(item.found, Some((How::Head, _))))?;
        failed.map_or(Ok(()), Err)?;
        self.read(work, chosen)?;
        crash::point("verify: read");
        if self.run.options.decrypt {
            self.open(work)?;
        }
        Ok(())
    }

    /// Reads objects, and signs what was found now and then.
    fn read(&mut self, work: &mut Work<'_>, mut places: Vec<usize>) -> Result<()> {
        let session = self.run.session;
        let bytes = places.iter().map(|place| work.items[*place].object.size).sum();
        session.around.progress.phase(Phase::Verify, Some(bytes));
        while !places.is_empty() {
            let began = session.around.clock.now();
            let until = began.checked_add(SLICE).ok();
            let failed = self.look(work, &places, How::Read, (began, until))?;
            crash::point("verify: slice read");
            self.say(work, &|item| item.began == began && matches!(item.found, Some((How::Read, _))))?;
            crash::point("verify: slice signed");
            failed.map_or(Ok(()), Err)?;
            places.retain(|place| work.items[*place].found.is_none());
        }
        Ok(())
    }

    /// Looks at the items at `places`, from now, `began`, and at most until then; gives why the store could not go on.
    fn look(
        &mut self,
        work: &mut Work<'_>,
        places: &[usize],
        how: How,
        (began, until): (Timestamp, Option<Timestamp>),
    ) -> Result<Option<OpError>> {
        let session = self.run.session;
        let objects: Vec<ObjectRef> = places.iter().map(|place| work.items[*place].object).collect();
        let Looked { outcomes, failed } = look(session, &*work.view.store, &objects, how, until)?;
        for (place, outcome) in places.iter().zip(outcomes) {
            let Some(outcome) = outcome else { continue };
            let item = &mut work.items[*place];
            if let Outcome::FineAtLast(why) = &outcome {
                let key = Key::data(item.object.kind, item.object.id);
                let what = format!("{key} was right only when it was fetched again; the first time {why}");
                let hint = "look at the way to it: network, cable, memory, disk";
                self.run.warn(&self.standing.name, what, hint);
            }
            (item.found, item.began) = (Some((how, outcome)), began);
        }
        Ok(failed)
    }

    /// Signs what was found of the items for which `fresh` is true.
    fn say(&mut self, work: &mut Work<'_>, fresh: &dyn Fn(&Item) -> bool) -> Result<()> {
        drop_deleted(work);
        self.run.voice.sign(self.run.session, sign::verdicts(work, fresh))
    }

    /// Opens every snapshot and compares all its content; each has a verdict of its own.
    fn open(&mut self, work: &Work<'_>) -> Result<()> {
        let session = self.run.session;
        let bytes = work.snapshots.last().map(|s| s.record.components.iter().map(|c| c.size).sum());
        session.around.progress.phase(Phase::Open, bytes);
        let scratch = Scratch::create(&scratch_place(session), session.around.clock.now())?;
        let identities = Arc::clone(&self.run.identities);
        let mut opener = Opener::new(session, &work.view.store, &identities, &scratch);
        // The newest first: it is the one that is wanted, and the older ones share most with it.
        for snapshot in work.snapshots.iter().rev() {
            self.open_one(work, snapshot, &mut opener)?;
            crash::point("verify: snapshot opened");
        }
        (self.report.files, self.report.databases) = (opener.files, opener.databases);
        Ok(())
    }

    fn open_one(&mut self, work: &Work<'_>, snapshot: &KnownSnapshot, opener: &mut Opener<'_>) -> Result<()> {
        let session = self.run.session;
        let began = session.around.clock.now();
        let findings = match opener.check(snapshot, None) {
            Err(error) if error.class == Class::NoIdentity => {
                let what =
                    format!("snapshot {} could not be opened: {}", snapshot.record.snapshot, reason(&error));
                self.unread(what, &error.hint.unwrap_or_default());
                return Ok(());
            }
            other => self.again(work, snapshot, opener, other?)?,
        };
        let (mut failed, mut foreign) = (BTreeMap::new(), BTreeSet::new());
        let (mut lost, mut unknown) = (false, false);
        for finding in &findings {
            match &finding.what {
                Lost::Check(path, number) => drop(failed.insert(*number, path.clone())),
                Lost::NotChecked(path) => {
                    unknown = true;
                    let what = format!("{path} was not checked: {}", finding.why);
                    self.unread(what, "make room, or name another place as `scratch` in [verify]");
                }
                Lost::Foreign(path, number) => {
                    foreign.insert(*number);
                    session.note(&format!(
                        "{path} is whole; only its own program can check it: {}",
                        finding.why
                    ));
                }
                _ => lost = true,
            }
        }
        explain::found(self.run, &self.standing.name, snapshot, work, &findings);
        let found = lost || !failed.is_empty();
        // Of one that was not looked at to the end nothing good is said.
        if snapshot.is_usable() && (found || !unknown) {
            let checks = sign::Checks { failed: &failed, foreign: &foreign };
            let verdict = sign::opened(work, snapshot, began, &checks, lost || unknown);
            self.run.voice.sign(session, vec![verdict])?;
        }
        Ok(())
    }

    /// What is lost although every object was read and is whole is looked at once more: the store may have been away, or the way here bad. A
    /// store that does not answer now ends its part, and nothing is said of the snapshot.
    fn again(
        &mut self,
        work: &Work<'_>,
        snapshot: &KnownSnapshot,
        opener: &Opener<'_>,
        mut findings: Vec<Finding>,
    ) -> Result<Vec<Finding>> {
        let fine =
            |id: &ObjectId| work.places.get(id).is_some_and(|place| work.items[*place].fault().is_none());
        let strange = |f: &Finding| f.what.is_lost() && f.objects.iter().all(fine);
        let objects: HashSet<ObjectId> =
            findings.iter().filter(|f| strange(f)).flat_map(|f| f.objects.iter().copied()).collect();
        if objects.is_empty() {
            return Ok(findings);
        }
        let refs: Vec<ObjectRef> =
            snapshot.record.objects.iter().filter(|o| objects.contains(&o.id)).copied().collect();
        let looked = look(self.run.session, &*work.view.store, &refs, How::Head, None)?;
        looked.failed.map_or(Ok(()), Err)?;
        findings.retain(|f| !strange(f));
        let mut fresh = Opener::new(self.run.session, &work.view.store, opener.identities, opener.scratch);
        findings.extend(fresh.check(snapshot, Some(&objects))?);
        Ok(findings)
    }

    /// Tells that something asked for could not be looked at.
    fn unread(&mut self, what: String, hint: &str) {
        let mut problem = store_problem(&self.standing.name, what, hint);
        problem.kind = ProblemKind::Unreadable;
        self.run.tell(problem);
    }

    fn sum_up(&mut self, work: &Work<'_>) {
        let report = &mut self.report;
        let since = self.run.session.around.clock.now().saturating_sub(self.run.session.reverify());
        let since = since.unwrap_or(Timestamp::MIN);
        let damaged = |key: &str| self.run.damage.iter().any(|d| d.store == report.name && d.object == key);
        let whole = |s: &KnownSnapshot| {
            s.record.objects.iter().all(|o| {
                let item = work.places.get(&o.id).map(|place| &work.items[*place]);
                item.is_some_and(|i| i.found.is_some() && i.fault().is_none())
                    && !damaged(&Key::data(o.kind, o.id).to_string())
            })
        };
        report.snapshots = work.snapshots.len() as u64;
        report.whole = work.snapshots.iter().filter(|s| whole(s)).count() as u64;
        let mut oldest = Some(Timestamp::MAX);
        for item in &work.items {
            report.objects += 1;
            report.bytes += item.object.size;
            if matches!(item.found, Some((How::Read, _))) {
                report.read_objects += 1;
                report.read_bytes += item.object.size;
            }
            let before = item.before.proved.filter(|proved| *proved >= since && item.fault().is_none());
            let proved = if item.proved_now() { Some(item.began) } else { before };
            if proved.is_none() {
                report.unproved_bytes += item.object.size;
            }
            oldest = oldest.zip(proved).map(|(oldest, proved)| oldest.min(proved));
        }
        report.proved_since = oldest.filter(|oldest| *oldest < Timestamp::MAX);
    }
}

/// What was deleted while this ran is no damage: a prune deletes records before objects.
fn drop_deleted(work: &mut Work<'_>) {
    let faulty: HashSet<ObjectId> = work.faults().map(|(item, _)| item.object.id).collect();
    if faulty.is_empty() {
        return;
    }
    let store = &work.view.store;
    let gone = |s: &KnownSnapshot| matches!(store.head(&Key::Record(s.record.snapshot.clone())), Ok(None));
    work.snapshots.retain(|s| !s.record.objects.iter().any(|o| faulty.contains(&o.id)) || !gone(s));
    let needed: HashSet<ObjectId> =
        work.snapshots.iter().flat_map(|s| s.record.objects.iter().map(|o| o.id)).collect();
    for item in work.items.iter_mut().filter(|item| !needed.contains(&item.object.id)) {
        item.gone = true;
    }
}

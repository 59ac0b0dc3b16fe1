//! Bringing this host's entries into a store that lacks them: lowest number first, every record only after its objects were proved there.
//!
//! Nothing may be put above a hole that is not filled or said, and no record may be put before its objects are proved in that very store.

mod prove;
mod say;

use crate::catalog::Head;
use crate::durable::crash;
use crate::model::chain::EntryBody;
use crate::model::mark::{Level, Statement, Target, Verdict};
use crate::model::proof::{FoundBad, Standing};
use crate::model::{HostId, ObjectId, Record};
use crate::ops::carry::{Carrier, Had, NotHad, Nowhere, sweep_spool};
use crate::ops::commit::{Chain, Signed, prove_in};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::ledger::{Ledger, proved_in};
use crate::ops::originals::original;
use crate::ops::session::{Session, in_store};
use crate::ops::union::remember_in;
use crate::ops::vault::{Vault, View};
use say::{Holed, Unsaid};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How often a look that found something missing is answered by bringing it.
const LOOKS: usize = 3;

/// A record and its hash.
pub(super) type Named = (Arc<Record>, ObjectId);

/// What was sent into one store.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Whose failure ended a step.
pub(super) enum Stop {
    /// The store that was to get something: only its own part ends.
    Target(OpError),
    /// The lead, into which everything signed goes first.
    Lead(OpError),
    /// The run is to end.
    Run(OpError),
}

impl From<OpError> for Stop {
    fn from(error: OpError) -> Self {
        if error.class == Class::Interrupted { Self::Run(error) } else { Self::Target(error) }
    }
}

impl Stop {
    pub(super) fn error(self) -> OpError {
        let (Self::Target(error) | Self::Lead(error) | Self::Run(error)) = self;
        error
    }
}

/// Whether an entry that cannot be brought may be named in an `absent` mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holes {
    /// Always: a newer record goes into the store now.
    Say,
    /// Only when a newer record was brought beyond it.
    SayIfPassed,
}

/// Brings this host's entries to the stores that were read.
pub(super) struct CatchUp<'a, 'c> {
    pub(super) session: &'a Session,
    pub(super) chain: &'c mut Chain<'a>,
    pub(super) ledger: Ledger,
    vault: &'a Vault,
    pub(super) views: &'a [View],
    /// The view of the store that the chain writes to.
    pub(super) lead: usize,
    /// By view: objects proved there in this run.
    proved: BTreeMap<usize, HashMap<ObjectId, Level>>,
    /// By view: objects that a verdict proved there before, and what was said of them.
    known: Vec<HashMap<ObjectId, Standing>>,
    /// By view: what was found bad there, also by this run.
    said_bad: Vec<FoundBad>,
    pub(super) sent: BTreeMap<usize, Sent>,
    /// The only view that objects are read from, when one was named.
    pub(super) only: Option<usize>,
    /// By view: what is gone from the other stores and not said of this one yet.
    unsaid: BTreeMap<usize, Unsaid>,
}

impl<'a, 'c> CatchUp<'a, 'c> {
    pub(super) fn new(
        session: &'a Session,
        chain: &'c mut Chain<'a>,
        vault: &'a Vault,
        host: HostId,
        lead: usize,
    ) -> Result<Self> {
        let ledger = Ledger::of(session, vault, &host)?;
        let known = vault.views.iter().map(|v| proved_in(vault, &host, &v.info.instance)).collect();
        let said_bad = vault.views.iter().map(|v| vault.history.found_bad(&host, &v.info.instance)).collect();
        let (proved, sent, unsaid) = Default::default();
        let (views, only) = (&*vault.views, None);
        Ok(Self { session, chain, ledger, vault, views, lead, proved, known, said_bad, sent, only, unsaid })
    }

    /// Takes up what the chain has signed since.
    pub(super) fn learn(&mut self) {
        for Signed { entry, bytes } in std::mem::take(&mut self.chain.signed) {
            self.ledger.learn(entry, bytes, self.lead);
        }
    }

    fn sign(&mut self, statement: Statement) -> std::result::Result<(), Stop> {
        let now = self.session.around.clock.now();
        let verdict = if let Statement::Verdict(verdict) = &statement { Some(verdict.clone()) } else { None };
        self.chain.mark(statement, now).map_err(Stop::Lead)?;
        self.learn();
        if let Some(verdict) = verdict {
            self.learn_verdict(&verdict, now);
        }
        Ok(())
    }

    /// Brings everything that the store at `view` lacks, also what an earlier run had to call absent there; and says of what cannot be brought that
    /// it is not there.
    pub(super) fn fill(&mut self, view: usize, holes: Holes) -> std::result::Result<(), Stop> {
        if self.ledger.forked || !self.has_to_do(view)? {
            return Ok(());
        }
        let (numbers, returned) = (self.ledger.to_bring(view), self.ledger.returned(view));
        crash::point("catch-up: begun");
        sweep_spool(self.session, &*self.views[view].store)?;
        let mut holed = Holed::default();
        let mut passed = false;
        let mut verdicts = Vec::new();
        for number in numbers {
            self.session.around.interrupt.check()?;
            match self.bring(view, number)? {
                Brought::Mark => {}
                Brought::Record(verdict) => {
                    passed |= holed.any();
                    if self.lead == view {
                        verdicts.extend(verdict);
                    } else {
                        for verdict in verdict {
                            self.sign(Statement::Verdict(verdict))?;
                        }
                    }
                }
                // That it is absent is said already, once for all runs.
                Brought::Nowhere { .. } if returned.contains(&number) => self.ledger.give_up(number, view),
                Brought::Nowhere { .. } if self.is_unsaid(view, number) => {}
                Brought::Nowhere { .. }
                    if holes == Holes::SayIfPassed && !self.more_records(view, number) =>
                {
                    break;
                }
                Brought::Nowhere { certain } => self.note_hole(view, number, certain, &mut holed),
            }
            if holed.stop.is_some() {
                break;
            }
        }
        self.say_gone(view)?;
        if holes == Holes::Say || passed {
            self.say_holes(view, &holed)?;
        }
        for verdict in verdicts {
            self.sign(Statement::Verdict(verdict))?;
        }
        self.remember(view)?;
        holed.stop.map_or(Ok(()), |error| Err(Stop::Target(error)))
    }

    /// Brings the marks that the store at `view` lacks, up to the first record that it lacks, too: that takes its objects along, which is for
    /// a backup or `sync` to do. Gives how many entries it lacks still.
    pub(super) fn fill_marks(&mut self, view: usize) -> std::result::Result<usize, Stop> {
        for number in self.ledger.missing(view) {
            self.session.around.interrupt.check()?;
            let own = self.ledger.entries.get(&number);
            let mark = own.is_some_and(|own| matches!(own.entry.body, EntryBody::Mark(_)));
            if self.ledger.forked || !mark || matches!(self.bring(view, number)?, Brought::Nowhere { .. }) {
                break;
            }
        }
        self.remember(view)?;
        Ok(self.ledger.missing(view).len())
    }

    /// True when a record above `number` is to come into the store at `view`.
    fn more_records(&self, view: usize, number: u64) -> bool {
        self.ledger.missing(view).into_iter().filter(|n| *n > number).any(|n| {
            let own = self.ledger.entries.get(&n);
            own.is_some_and(|own| {
                matches!(own.entry.body, EntryBody::Record(_)) && !self.ledger.unwanted(&own.entry.hash, view)
            })
        })
    }

    /// Remembers what the store at `view` holds, when it lacks nothing below. Nothing while the history is forked: of two entries with one
    /// number one is known here, and a store that holds the other would seem to have lost it.
    pub(super) fn remember(&self, view: usize) -> Result<()> {
        let whole = !self.ledger.forked && self.ledger.missing(view).is_empty();
        let Some(state) = self.session.state.as_ref().filter(|_| whole) else {
            return Ok(());
        };
        let mut seen = BTreeMap::new();
        for (number, own) in self.ledger.entries.iter().filter(|(n, _)| self.ledger.holds(view, **n)) {
            seen.insert(own.entry.signer(), Head { number: *number, hash: own.entry.hash });
        }
        remember_in(state, &self.views[view].info.instance, &seen.into_iter().collect::<Vec<_>>())
    }

    fn bring(&mut self, view: usize, number: u64) -> std::result::Result<Brought, Stop> {
        let Some(own) = self.ledger.entries.get(&number) else {
            return Ok(Brought::Nowhere { certain: true });
        };
        let (key, hash) = (own.key.clone(), own.entry.hash);
        let body = own.entry.body.clone();
        let Some(bytes) = self.document(number) else {
            return Ok(Brought::Nowhere { certain: false });
        };
        let store = Arc::clone(&self.views[view].store);
        let brought = match body {
            EntryBody::Mark(_) => {
                in_store(&*store, store.put_bytes(&key, &bytes))?;
                crash::point("catch-up: mark put");
                Brought::Mark
            }
            EntryBody::Record(_) if self.ledger.unwanted(&hash, view) => {
                return Ok(Brought::Nowhere { certain: true });
            }
            EntryBody::Record(record) => match self.bring_record(view, &record, hash, &bytes)? {
                Ok(verdict) => Brought::Record(verdict),
                Err(Nowhere { certain, .. }) => return Ok(Brought::Nowhere { certain }),
            },
        };
        self.ledger.put(number, view);
        self.sent.entry(view).or_default().entries += 1;
        Ok(brought)
    }

    /// The bytes of an entry: kept here, or read from a store that has it.
    fn document(&self, number: u64) -> Option<Vec<u8>> {
        let own = self.ledger.entries.get(&number)?;
        let vault = &self.vault.info.vault;
        let mut holders = self.views.iter().enumerate().filter(|(view, _)| self.ledger.holds(*view, number));
        let read = || holders.find_map(|(_, v)| original(&*v.store, &own.key, &own.entry.hash, vault));
        own.bytes.clone().or_else(read)
    }

    /// Brings objects to the store at `view`: from the lead, else from the others.
    pub(super) fn carrier(&self, view: usize) -> Carrier<'a> {
        let lead = self.views.get(self.only.unwrap_or(self.lead)).into_iter();
        let others = self.views.iter().enumerate().filter(|(v, _)| *v != self.lead && self.only.is_none());
        let others = others.map(|(_, v)| v);
        let sources = lead.chain(others).map(|v| Arc::clone(&v.store)).collect();
        Carrier { session: self.session, sources, to: Arc::clone(&self.views[view].store) }
    }

    /// Brings the objects of `record`; gives the reason when they are nowhere to be had.
    fn bring_objects(&mut self, view: usize, record: &Record) -> std::result::Result<Option<Nowhere>, Stop> {
        let carrier = self.carrier(view);
        for object in &record.objects {
            self.session.around.interrupt.check()?;
            let proved = self.proved.entry(view).or_default();
            if proved.contains_key(&object.id) || self.is_known(view, object)? {
                continue;
            }
            let sent = self.sent.entry(view).or_default();
            let level = match carrier.bring(object) {
                Ok(Had::Whole) => Level::Read,
                Ok(had) => {
                    (sent.objects, sent.bytes) = (sent.objects + 1, sent.bytes + object.size);
                    if let Had::Sent(level) = had { level } else { Level::Read }
                }
                Err(NotHad::Nowhere(nowhere)) => return Ok(Some(nowhere)),
                Err(NotHad::Target(error)) => return Err(error.into()),
            };
            self.proved.entry(view).or_default().insert(object.id, level);
        }
        Ok(None)
    }

    /// An object that a verdict proved there before, and that is still there with its size.
    fn is_known(&self, view: usize, object: &crate::model::ObjectRef) -> Result<bool> {
        if !self.known.get(view).is_some_and(|known| known.contains_key(&object.id)) {
            return Ok(false);
        }
        let store = &*self.views[view].store;
        let key = crate::store::Key::data(object.kind, object.id);
        Ok(in_store(store, store.head(&key))? == Some(object.size))
    }

    /// Objects, then the record, then the look again. The inner error: its objects are nowhere to be had.
    fn bring_record(
        &mut self,
        view: usize,
        record: &Record,
        hash: ObjectId,
        bytes: &[u8],
    ) -> std::result::Result<std::result::Result<Vec<Verdict>, Nowhere>, Stop> {
        let began = self.session.around.clock.now();
        let (store, instance) = (Arc::clone(&self.views[view].store), self.views[view].info.instance.clone());
        let key = crate::store::Key::Record(record.snapshot.clone());
        let mut why = String::new();
        for look in 0..LOOKS {
            let proved = match self.bring_objects(view, record)? {
                Some(nowhere) if look == 0 => {
                    self.session.note(&format!(
                        "snapshot {} cannot be brought into store {}: {}",
                        record.snapshot,
                        store.name(),
                        nowhere.why
                    ));
                    return Ok(Err(nowhere));
                }
                Some(nowhere) => Err(nowhere.why),
                None => prove_in(&*store, &instance, &record.objects)?,
            };
            match proved {
                // Before the record is put nothing is lost: it lags until this ends.
                Err(reason) if look == 0 => return Err(held_up(record, &store, &reason).into()),
                // It is listed there by now, and must not stay so without a word.
                Err(reason) => why = reason,
                Ok(()) => {
                    crash::point("catch-up: objects proved");
                    if look == 0 {
                        in_store(&*store, store.put_bytes(&key, bytes))?;
                        crash::point("catch-up: record put");
                    }
                    match prove_in(&*store, &instance, &record.objects)? {
                        Ok(()) => return Ok(Ok(self.verdicts(view, record, hash, began))),
                        Err(reason) => why = reason,
                    }
                }
            }
            self.proved.remove(&view);
            self.known.get_mut(view).map(HashMap::clear).unwrap_or_default();
        }
        let target = Target { snapshot: record.snapshot.clone(), record: hash };
        self.sign(Statement::Void { target, instance: Some(instance), reason: why.clone() })?;
        Err(held_up(record, &store, &why).into())
    }
}

/// What came of bringing one entry.
enum Brought {
    Mark,
    Record(Vec<Verdict>),
    /// It is not to be had; `certain` when each store that is here said so.
    Nowhere {
        certain: bool,
    },
}

fn held_up(record: &Record, store: &Arc<dyn crate::store::Store>, why: &str) -> OpError {
    let what = format!("snapshot {} could not be brought into store {:?}", record.snapshot, store.name());
    OpError::new(Class::Store, what)
        .because(why.to_owned())
        .hint("the next backup, or `backstay sync`, tries again")
}

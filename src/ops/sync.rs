//! `sync`: what one store lacks or holds damaged is brought from the others.
//!
//! Entries of this host are brought as a backup brings them; those of other trusted hosts are copied, and nothing is ever signed in their name.
//! An object is replaced only after good bytes are here and the bad ones were read twice.

mod documents;
mod foreign;
mod mend;
mod own_file;

use crate::durable::crash;
use crate::model::{Problem, VaultId};
use crate::ops::backup::{open_chain, prepare_spool};
use crate::ops::catchup::{CatchUp, Holes, Stop};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::ledger::Ledger;
use crate::ops::session::Session;
use crate::ops::stores::Away;
use crate::ops::union::{self, Standing, Union};
use serde::Serialize;
use std::collections::BTreeMap;

/// What to bring where.
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    /// Only from this store; else from any that has it.
    pub from: Option<String>,
    /// Only to this store; else to all.
    pub to: Option<String>,
    /// Read every object and compare it, not only those that are missing or of another size.
    pub read_data: bool,
}

/// What was brought into one store.
#[derive(Debug, Clone, Serialize)]
pub struct SyncedStore {
    /// The store.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Whether it could be used.
    pub here: bool,
    /// Records and marks that it lacked and has now.
    pub entries: u64,
    /// Objects that were copied into it.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were missing or damaged in it, and are whole now.
    pub mended: Vec<String>,
    /// Objects that are missing or damaged in it, and that no other store could give.
    pub lost: Vec<String>,
    /// Entries that it still lacks.
    pub entries_behind: u64,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

/// What `sync` did.
#[derive(Debug, Clone, Serialize)]
pub struct SyncReport {
    /// The stores that something was to be brought to.
    pub stores: Vec<SyncedStore>,
    /// Breaks in the history of all stores together, as lines.
    pub history: Vec<String>,
    /// Everything worth knowing.
    pub problems: Vec<Problem>,
}

/// Brings what stores lack.
pub fn run(session: &Session, options: &SyncOptions) -> Result<SyncReport> {
    let config = session.config()?;
    check_names(options, config)?;
    session.check_writable()?;
    let writer = session.writer()?;
    if config.stores.len() < 2 {
        return within_one(session);
    }
    let _held = crate::ops::lock::hold(session, "sync")?;
    let own_files = own_file::mend(session, |name| is_wanted(options, name))?;
    let mut union = union::read(session)?;
    only_from(options, &mut union)?;
    let host = union.vault.host_of(&writer.signer.id());
    let lead = lead_of(session, options, &union, &host)?;
    let led = session.led_by(&union.vault.views[lead].store);
    prepare_spool(&led)?;
    let mut chain = open_chain(&led, &writer.signer, &union.vault)?;
    chain.finish_pending()?;
    let mut catch_up = CatchUp::new(&led, &mut chain, &union.vault, host, lead)?;
    let documents = documents(&led, options, &union, &mut catch_up)?;
    // What is signed on the way goes into this one first, and nothing goes above what it lacks.
    catch_up.fill(lead, Holes::SayIfPassed).map_err(Stop::error)?;
    let mut synced = Vec::new();
    for (at, standing) in union.standings.iter().enumerate().filter(|(_, s)| is_target(options, s)) {
        let mut report = store_report(standing);
        report.mended.extend(own_files.get(&standing.name).map(|_| crate::store::Key::Store.to_string()));
        report.mended.extend(documents.get(&at).cloned().unwrap_or_default());
        let Some(view) = standing.view.filter(|_| may_be_written(options, standing)) else {
            synced.push((at, SyncedStore { problem: standing.away.as_ref().map(Away::line), ..report }));
            continue;
        };
        if standing.fallen {
            catch_up.trust_nothing(view);
        }
        let mut one = One { session: &led, options, vault: &union.vault, host, view, report };
        if let Err(stop) = one.bring(&mut catch_up) {
            let Stop::Target(error) = stop else { return Err(stop.error()) };
            one.report.problem = Some(Away::from(&error).line());
        }
        crash::point("sync: store done");
        synced.push((at, one.report));
    }
    level(&union, &mut synced, &mut catch_up)?;
    catch_up.tidy_outbox()?;
    Ok(report(session, &union, synced))
}

/// With one store there is nothing to bring; but what somebody wrote over in a store that keeps versions is put back.
fn within_one(session: &Session) -> Result<SyncReport> {
    let _held = crate::ops::lock::hold(session, "sync")?;
    let union = union::read(session)?;
    let standing = union.standings.iter().find(|s| s.view.is_some() && !s.older.is_empty());
    let Some((standing, view)) = standing.and_then(|s| Some((s, s.view?))) else {
        return Err(OpError::new(
            Class::Usage,
            "the configuration names one store, and there is none to bring anything from",
        )
        .hint("add a [[store]] with `name` and `path`, then run `backstay init`"));
    };
    let one = documents::Documents { session, vault: &union.vault, standing, view };
    let mended = one.overwritten()?;
    Ok(report(session, &union, vec![(0, SyncedStore { mended, ..store_report(standing) })]))
}

/// Documents that are damaged in one store and whole in another come first: what cannot be read counts as missing, and nothing is put over
/// it. The instructions that are missing go with them. Gives what was mended, by place among the standings.
fn documents(
    session: &Session,
    options: &SyncOptions,
    union: &Union,
    catch_up: &mut CatchUp<'_, '_>,
) -> Result<BTreeMap<usize, Vec<String>>> {
    let mut mended = BTreeMap::new();
    for (at, standing) in union.standings.iter().enumerate().filter(|(_, s)| is_target(options, s)) {
        let Some(view) = standing.view.filter(|_| may_be_written(options, standing)) else { continue };
        let one = documents::Documents { session, vault: &union.vault, standing, view };
        match one.mend(catch_up) {
            Ok(keys) => drop(mended.insert(at, keys)),
            // The store's own part says it again, and ends there.
            Err(Stop::Target(error)) => session.note(&Away::from(&error).line()),
            Err(stop) => return Err(stop.error()),
        }
    }
    Ok(mended)
}

/// What was signed on the way goes to all stores that were brought up before.
fn level(union: &Union, synced: &mut [(usize, SyncedStore)], catch_up: &mut CatchUp<'_, '_>) -> Result<()> {
    for (at, report) in synced {
        let Some(view) = union.standings[*at].view.filter(|_| report.here && report.problem.is_none()) else {
            continue;
        };
        match catch_up.fill(view, Holes::SayIfPassed) {
            Ok(()) => {}
            Err(Stop::Target(error)) => report.problem = Some(Away::from(&error).line()),
            Err(stop) => return Err(stop.error()),
        }
        report.entries_behind = catch_up.ledger.missing(view).len() as u64;
    }
    Ok(())
}

fn report(session: &Session, union: &Union, synced: Vec<(usize, SyncedStore)>) -> SyncReport {
    let mut problems = session.troubles();
    for (_, store) in &synced {
        let standing = union.standings.iter().find(|standing| standing.name == store.name);
        let away = standing.and_then(|standing| standing.away.as_ref()).and_then(Away::hint);
        let hint = away.unwrap_or("the next run of `backstay sync` goes on from here");
        let mut said: Vec<String> = store.problem.iter().cloned().collect();
        if !store.lost.is_empty() {
            said.push(format!("no store that is here has these whole: {}", store.lost.join(", ")));
        }
        if store.entries_behind > 0 && said.is_empty() {
            said.push(format!(
                "it still lacks {} entries, whose objects are in no store that is here",
                store.entries_behind
            ));
        }
        for what in said {
            if !problems.iter().any(|p| p.what == what) {
                let problem = union::store_problem(&store.name, what, hint);
                session.around.progress.problem(&problem);
                problems.push(problem);
            }
        }
    }
    let mut history: Vec<String> = union.vault.history.breaks.iter().map(ToString::to_string).collect();
    if !history.is_empty() {
        history = union::breaks_now(session).unwrap_or(history);
    }
    SyncReport { stores: synced.into_iter().map(|(_, store)| store).collect(), history, problems }
}

fn check_names(options: &SyncOptions, config: &crate::config::Config) -> Result<()> {
    for name in options.from.iter().chain(&options.to) {
        if config.store(name).is_none() {
            let names: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).collect();
            let what = format!("{} names no store {name:?}", config.path.display());
            return Err(OpError::new(Class::Usage, what).hint(format!("it names: {}", names.join(", "))));
        }
    }
    if options.from.is_some() && options.from == options.to {
        return Err(OpError::new(Class::Usage, "--from and --to name the same store")
            .hint("leave --from away: then every store that has it is asked"));
    }
    Ok(())
}

/// With `--from` nothing is read from the others but what the target holds.
fn only_from(options: &SyncOptions, union: &mut Union) -> Result<()> {
    let Some(from) = &options.from else {
        return Ok(());
    };
    let source = union.standings.iter().find(|s| s.name == *from);
    match source.filter(|s| s.view.is_none()).and_then(|s| s.away.as_ref()) {
        Some(away) => Err(away.error()),
        None => Ok(()),
    }
}

/// The store that takes first what is signed: the source, else the first that is here and lacks nothing.
fn lead_of(
    session: &Session,
    options: &SyncOptions,
    union: &Union,
    host: &crate::model::HostId,
) -> Result<usize> {
    let named = union.standings.iter().find(|s| Some(&s.name) == options.from.as_ref()).and_then(|s| s.view);
    let ledger = Ledger::of(session, &union.vault, host)?;
    let other = |s: &&Standing| s.view.is_some() && s.away.is_none() && Some(&s.name) != options.to.as_ref();
    let here = || union.standings.iter().filter(other).filter_map(|s| s.view);
    let whole = here().find(|view| ledger.missing(*view).is_empty());
    named.or(whole).or_else(|| here().next()).ok_or_else(|| {
        OpError::new(Class::Store, "no store is here that anything could be brought from")
            .hint("bring another store of the configuration back, then run it again")
    })
}

fn is_target(options: &SyncOptions, standing: &Standing) -> bool {
    is_wanted(options, &standing.name)
}

fn is_wanted(options: &SyncOptions, name: &str) -> bool {
    match (&options.to, &options.from) {
        (Some(to), _) => name == to,
        (None, Some(from)) => name != from,
        (None, None) => true,
    }
}

/// One that was rolled back is healed only when a person names it.
fn may_be_written(options: &SyncOptions, standing: &Standing) -> bool {
    standing.away.is_none() || (standing.fallen && options.to.as_ref() == Some(&standing.name))
}

fn store_report(standing: &Standing) -> SyncedStore {
    SyncedStore {
        name: standing.name.clone(),
        location: standing.place.clone(),
        here: standing.view.is_some(),
        entries: 0,
        objects: 0,
        bytes: 0,
        mended: Vec::new(),
        lost: Vec::new(),
        entries_behind: 0,
        problem: None,
    }
}

/// One store that something is brought to.
struct One<'a> {
    session: &'a Session,
    options: &'a SyncOptions,
    vault: &'a crate::ops::vault::Vault,
    host: crate::model::HostId,
    view: usize,
    report: SyncedStore,
}

impl One<'_> {
    fn bring(&mut self, catch_up: &mut CatchUp<'_, '_>) -> std::result::Result<(), Stop> {
        if let Some(from) = &self.options.from {
            catch_up.only = self.vault.views.iter().position(|v| v.store.name() == from);
        }
        self.mend(catch_up)?;
        crash::point("sync: mended");
        catch_up.fill(self.view, Holes::SayIfPassed)?;
        crash::point("sync: own entries brought");
        self.foreign(catch_up)?;
        let sent = catch_up.sent.get(&self.view).copied().unwrap_or_default();
        self.report.entries += sent.entries;
        self.report.objects += sent.objects;
        self.report.bytes += sent.bytes;
        self.report.entries_behind = catch_up.ledger.missing(self.view).len() as u64;
        Ok(())
    }

    fn instance(&self) -> &VaultId {
        &self.vault.views[self.view].info.instance
    }

    fn spool_clear(&self) -> Result<()> {
        crate::ops::carry::sweep_spool(self.session, &*self.vault.views[self.view].store)
            .doing(Class::Store, || "cannot clear what an earlier run left".into())
    }
}

//! `prune`: what retention lets go, and what nothing needs, is announced, and a day later deleted. Decision 0020 says why no live object is
//! lost, whoever else writes, reads or prunes meanwhile.
//!
//! Nothing here may be deleted on the word of a listing, a clock or a cache alone, and nothing before a signed mark says so.

mod accept;
mod clear;
mod look;
mod plan;
mod report;
mod tombstones;

pub use clear::Deleted;
pub use report::{
    Accepted, Fate, FrozenComponent, PlannedSnapshot, PruneReport, PrunedStore, Waiting, WouldFree,
};
pub(in crate::ops) use tombstones::announced_in;
pub use tombstones::last_pruned;

use crate::config::{Config, Place, StoreConfig};
use crate::durable::crash;
use crate::model::mark::{Role, Tombstone};
use crate::model::retention::Policy;
use crate::model::{HostId, Problem, ProblemKind, SnapshotId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::marks::Marks;
use crate::ops::session::{HostChoice, Session};
use crate::ops::stores::Away;
use crate::ops::union::{self, store_problem};
use crate::ops::vault::{BadDocument, Vault};
use look::{Look, Looked};
use plan::{Choice, Deciding, Most};
use report::Naming;
use std::collections::BTreeSet;
use std::sync::Arc;
use tombstones::Tombstones;

/// What to do.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// In a directory: delete at once what is announced.
    pub now: bool,
    /// Snapshots whose state a person looked at: ends freezes.
    pub accept: Vec<String>,
    /// Records that cannot be read or are gone, and are passed over.
    pub ignore: BTreeSet<SnapshotId>,
}

/// Plans, announces and deletes in every store of the configuration that is pruned from here.
pub fn run(session: &Session, options: &PruneOptions) -> Result<PruneReport> {
    let config = Arc::clone(session.config()?);
    refuse(session, options, &config)?;
    let run = Run { session, options, config: &config, naming: Naming::of(session) };
    let accepted = match options.accept.is_empty() || options.dry_run {
        true => Vec::new(),
        false => accept::run(&run)?,
    };
    let (mut stores, mut failed) = (Vec::new(), Vec::new());
    for store in &config.stores {
        match run.store(store) {
            Ok(pruned) => stores.push(pruned),
            Err(error) if error.class == Class::Interrupted => return Err(error),
            Err(error) => {
                stores.push(PrunedStore::failed(store, &error));
                failed.push((store, error));
            }
        }
    }
    // A plan is made for every store, anything else only where this host prunes.
    let meant = |store: &StoreConfig| options.dry_run || store.prune_here;
    let (all, away) = (config.stores.iter(), failed.iter().filter(|(store, _)| meant(store)));
    if away.count() == all.filter(|store| meant(store)).count()
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    let mut problems = session.troubles();
    problems.extend(failed.iter().map(|(store, error)| problem_of(store, error)));
    Ok(PruneReport { dry_run: options.dry_run, accepted, stores, problems })
}

fn problem_of(store: &StoreConfig, error: &OpError) -> Problem {
    let hint = error.hint.clone().unwrap_or_else(|| "run it again later".into());
    let problem = store_problem(&store.name, Away::from(error).line(), hint);
    let kind = if error.class == Class::Damage { ProblemKind::Damaged } else { problem.kind };
    Problem { kind, ..problem }
}

/// What makes no sense is said before anything is read.
fn refuse(session: &Session, options: &PruneOptions, config: &Config) -> Result<()> {
    let usage = |what: &str, hint: &str| Err(OpError::new(Class::Usage, what).hint(hint));
    if session.around.store.is_some() {
        return usage(
            "prune goes through every store of the configuration, and --store names one",
            "leave --store away; prune = \"elsewhere\" in a [[store]] leaves that one alone",
        );
    }
    if options.dry_run && !options.accept.is_empty() {
        return usage("--accept signs a mark, and --dry-run does nothing", "give one of them");
    }
    let in_bucket = config.stores.iter().find(|s| s.prune_here && !matches!(s.place, Place::Path(_)));
    if let (true, Some(store)) = (options.now, in_bucket) {
        let what = format!(
            "--now deletes without waiting, and store {:?} is not a directory: what it lists may be old",
            store.name
        );
        return usage(&what, "run `backstay prune` without --now: what it announces goes a day later");
    }
    if !config.stores.iter().any(|s| s.prune_here) {
        return usage(
            "every store of the configuration is pruned elsewhere (prune = \"elsewhere\")",
            "run prune on the host that prunes",
        );
    }
    Ok(())
}

struct Run<'a> {
    session: &'a Session,
    options: &'a PruneOptions,
    config: &'a Config,
    naming: Naming,
}

/// One reading of a store under the lock, with the right to sign.
struct Pass {
    marks: Marks,
    view: usize,
    looked: Looked,
    tombstones: Tombstones,
    hosts: Vec<HostId>,
}

impl Pass {
    fn deciding<'p>(&'p self, policy: &'p Policy) -> Deciding<'p> {
        let vault = self.marks.vault();
        Deciding {
            vault,
            view: &vault.views[self.view],
            looked: &self.looked,
            policy,
            own: self.marks.host(),
            hosts: &self.hosts,
        }
    }
}

impl Run<'_> {
    fn store(&self, store: &StoreConfig) -> Result<PrunedStore> {
        if self.options.dry_run {
            return self.planned(store);
        }
        if !store.prune_here {
            return self.elsewhere(store);
        }
        let policy = self.config.policy_in(store);
        let mut pass = self.pass(store)?;
        let most = self.most(&pass.deciding(&policy).choose(), &pass.tombstones);
        // With --now nothing waits: whatever was announced before was there before this list began.
        let meant: Vec<SnapshotId> = pass.tombstones.own.iter().map(|own| own.tombstone.id.clone()).collect();
        let due: Vec<Tombstone> = self.due(&pass, if self.options.now { &meant } else { &[] });
        let mut deleted = Deleted::default();
        if !due.is_empty() {
            deleted = self.clear(pass, &policy, &due)?;
            pass = self.pass(store)?;
        }
        let (announced, objects_later) = self.announce(&pass, &policy, most)?;
        if let (true, Some(tombstone)) = (self.options.now, announced) {
            // The list of records that counts begins after the tombstone was there. The lock is free in between, and that does no harm.
            drop(pass);
            pass = self.pass(store)?;
            let due = self.due(&pass, &[tombstone.id]);
            deleted.add(&self.clear(pass, &policy, &due)?);
            pass = self.pass(store)?;
        }
        let choice = pass.deciding(&policy).choose();
        let tombstones = tombstones::read(&pass.marks.vault().views[pass.view], &self.session.signer()?)?;
        let shown = report::Shown {
            store,
            vault: pass.marks.vault(),
            view: pass.view,
            choice: &choice,
            tombstones: &tombstones,
            naming: &self.naming,
        };
        Ok(PrunedStore { objects_later, ..shown.report(deleted) })
    }

    fn clear(&self, mut pass: Pass, policy: &Policy, due: &[Tombstone]) -> Result<Deleted> {
        // Planned again: what is needed now stays, whatever was announced.
        let choice = pass.deciding(policy).choose();
        crash::point("prune: planned again");
        clear::run(&mut pass.marks, pass.view, &pass.looked, &choice, due)
    }

    /// Own tombstones whose grace is over, or that are meant.
    fn due(&self, pass: &Pass, meant: &[SnapshotId]) -> Vec<Tombstone> {
        let now = pass.looked.now;
        let own = pass.tombstones.own.iter();
        let due = own.filter(|own| own.is_due(now) || meant.contains(&own.tombstone.id));
        due.map(|own| own.tombstone.clone()).collect()
    }

    /// How much more this run may announce. With --now snapshots go in it, as does what waits: that is a part of the half, too.
    fn most(&self, choice: &Choice, tombstones: &Tombstones) -> Most {
        Most::of(match self.options.now {
            true => plan::room_beside(choice, &tombstones.waiting()),
            false => usize::MAX,
        })
    }

    /// Puts a tombstone, if there is anything to announce; with how many objects are left for later ones.
    fn announce(&self, pass: &Pass, policy: &Policy, most: Most) -> Result<(Option<Tombstone>, u64)> {
        let deciding = pass.deciding(policy);
        let choice = deciding.choose();
        let announced = plan::announce(&choice, &deciding, &pass.tombstones.waiting(), most);
        if announced.is_empty() {
            return Ok((None, 0));
        }
        let grace = if self.options.now { jiff::SignedDuration::ZERO } else { pass.looked.grace };
        crash::point("prune: planned");
        let signer = self.session.signer()?;
        let put = tombstones::put(deciding.view, &signer, &announced, pass.looked.now, grace)?;
        Ok((Some(put), announced.later))
    }

    /// Opens and checks everything. Each pass reads the store anew: what is deleted is decided by what is there then.
    fn pass(&self, store: &StoreConfig) -> Result<Pass> {
        let marks = self.marks()?;
        let view = marks.usable_view(&store.name)?;
        let looked = self.look(marks.session(), marks.vault(), (view, marks.bad_in(view)))?;
        let tombstones = tombstones::read(&marks.vault().views[view], &self.session.signer()?)?;
        crash::point("prune: looked");
        let hosts = self.hosts(marks.vault())?;
        Ok(Pass { marks, view, looked, tombstones, hosts })
    }

    /// The right to sign. What a killed run had signed is put while that is taken: then everything is read once more; and so it is after it was
    /// said that what was deleted from every store there was is not in one that was made since.
    fn marks(&self) -> Result<Marks> {
        let cannot = || "cannot read what an earlier run left to do".into();
        let left = self.session.state()?.pending().doing(Class::Failed, cannot)?.is_some();
        let mut marks = Marks::open(self.session, "prune")?;
        if left {
            drop(marks);
            marks = Marks::open(self.session, "prune")?;
        }
        marks.need_role(Role::Prune)?;
        if marks.say_gone()? {
            drop(marks);
            marks = Marks::open(self.session, "prune")?;
        }
        Ok(marks)
    }

    fn look(&self, session: &Session, vault: &Vault, (view, bad): (usize, &[BadDocument])) -> Result<Looked> {
        Look { session, vault, view: &vault.views[view], bad, ignore: &self.options.ignore }.all()
    }

    /// Whose snapshots may go: this host's, or with a configuration that only prunes everybody's.
    fn hosts(&self, vault: &Vault) -> Result<Vec<HostId>> {
        if self.config.components.is_empty() && self.session.around.hosts == HostChoice::Own {
            return Ok(vault.hosts());
        }
        crate::ops::select::hosts(self.session, vault)
    }

    /// What would be done, without the lock and without a mark.
    fn planned(&self, store: &StoreConfig) -> Result<PrunedStore> {
        let session = self.session.with_all_stores()?;
        let union = union::read(&session)?;
        let standing = union.standings.iter().find(|s| s.name == store.name);
        let view = standing.filter(|s| s.away.is_none()).and_then(|s| s.view);
        let away = || standing.and_then(|s| s.away.as_ref()).map(Away::error);
        let Some(view) = view else {
            return Err(away().unwrap_or_else(|| OpError::new(Class::Store, "the store is not here")));
        };
        let signer = self.session.signer()?;
        let vault = &union.vault;
        let bad = standing.map_or(&[][..], |s| s.bad.as_slice());
        let looked = self.look(&session, vault, (view, bad))?;
        let tombstones = tombstones::read(&vault.views[view], &signer)?;
        let policy = self.config.policy_in(store);
        let hosts = self.hosts(vault)?;
        let own = vault.host_of(&signer.id());
        let deciding = Deciding {
            vault,
            view: &vault.views[view],
            looked: &looked,
            policy: &policy,
            own,
            hosts: &hosts,
        };
        let choice: Choice = deciding.choose();
        let most = self.most(&choice, &tombstones);
        let announced = plan::announce(&choice, &deciding, &tombstones.waiting(), most);
        let (choice, tombstones, naming) = (&choice, &tombstones, &self.naming);
        let shown = report::Shown { store, vault, view, choice, tombstones, naming };
        Ok(shown.planned(&announced))
    }

    /// Says when somebody pruned there last, and touches nothing.
    fn elsewhere(&self, store: &StoreConfig) -> Result<PrunedStore> {
        let mut pruned = PrunedStore::new(store);
        pruned.elsewhere = true;
        let session = self.session.with_all_stores()?;
        let union = union::read(&session)?;
        let standing = union.standings.iter().find(|s| s.name == store.name);
        if let Some(view) = standing.and_then(|s| s.view) {
            pruned.last_pruned = last_pruned(&union.vault, &union.vault.views[view].info.instance);
        }
        Ok(pruned)
    }
}

//! `settle`: accepts that entries of a history are lost, or says which of two histories stands.
//!
//! It deletes nothing and brings nothing back: signed marks say what a person looked into and accepts, for everybody who trusts this key with
//! the role `prune`. It must never excuse entries of the very key that signs, and never while a store is away that may have what is missing.

mod branches;

use crate::model::chain::ChainEntry;
use crate::model::mark::{Role, Statement};
use crate::model::settling::Unsettled;
use crate::model::{HostId, ObjectId, Problem, SignerId, SnapshotId};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::marks::Marks;
use crate::ops::session::Session;
use crate::ops::union;
use crate::ops::vault::Vault;
use branches::Branches;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is settled of one signer's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettledHistory {
    /// Whose.
    pub signer: String,
    /// The host that it signs for.
    pub host: HostId,
    /// What is wrong now.
    pub wrong: Vec<String>,
    /// Numbers of entries that are accepted as lost.
    pub lost: Vec<u64>,
    /// Snapshots of the history that does not stand, and of keys that it introduced: they become untrusted, and nothing of them is deleted.
    pub dropped: Vec<SnapshotId>,
}

/// What would be, or was, settled; empty when nothing is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SettleReport {
    /// By signer.
    pub histories: Vec<SettledHistory>,
    /// What is wrong afterwards; known only once it was signed.
    pub left: Vec<String>,
    /// Trouble with stores.
    pub problems: Vec<Problem>,
}

/// What [`run`] would sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// In words.
    pub report: SettleReport,
    statements: Vec<Statement>,
}

/// Looks at all stores and says what would be settled. `keep` names snapshots or entries of the histories that stand, where there are several.
pub fn plan(session: &Session, keep: &[String]) -> Result<Settlement> {
    let all = session.with_all_stores()?;
    let vault = match all.stores.len() {
        1 => all.read_vault()?,
        _ => read_all(&all)?,
    };
    let mut settlement = of(session, &vault, keep)?;
    settlement.report.problems = all.troubles();
    Ok(settlement)
}

/// Signs what [`plan`] said, after looking once more; fails when the history is another by now.
pub fn run(session: &Session, keep: &[String], shown: &Settlement) -> Result<SettleReport> {
    let mut marks = Marks::open(session, "settle")?;
    if let Some(away) = marks.away() {
        return Err(away);
    }
    let now = of(session, marks.vault(), keep)?;
    if now.statements != shown.statements {
        return Err(OpError::new(Class::Failed, "the history changed meanwhile; nothing was signed")
            .hint("run it again, and look at what it shows"));
    }
    marks.put(now.statements)?;
    let problems = marks.session().troubles();
    let all = session.with_all_stores()?;
    drop(marks);
    let left = match all.stores.len() {
        1 => all.read_vault()?.history.breaks.iter().map(ToString::to_string).collect(),
        _ => union::breaks_now(&all)?,
    };
    Ok(SettleReport { left, problems, ..now.report })
}

/// All stores of the configuration, or an error: what is missing may lie in one that is away.
fn read_all(session: &Session) -> Result<Vault> {
    let union = union::read(session)?;
    match union::first_away(&union.standings) {
        Some(away) => Err(away),
        None => Ok(union.vault),
    }
}

fn of(session: &Session, vault: &Vault, keep: &[String]) -> Result<Settlement> {
    if let Some(bad) = vault.bad.iter().find(|bad| bad.too_new) {
        let what =
            format!("{} was written by a newer backstay, so nobody here knows what is missing", bad.key);
        return Err(OpError::new(Class::Damage, what).hint("upgrade this one"));
    }
    let signers: BTreeSet<SignerId> = vault.history.breaks.iter().map(|b| b.signer).collect();
    let mut settlement = Settlement { report: SettleReport::default(), statements: Vec::new() };
    if signers.is_empty() {
        return Ok(settlement);
    }
    let own = session.signer()?.id();
    may(vault, &own, &signers)?;
    let kept = branches::kept(session, vault, keep)?;
    for signer in signers {
        let statements =
            vault.settling(&own, &signer, &kept).map_err(|why| cannot(vault, (&own, &signer), why))?;
        settlement.report.histories.push(row(vault, &signer, &statements));
        settlement.statements.extend(statements);
    }
    Ok(settlement)
}

/// No key may excuse what it signed itself: whoever stole it could hide what it likes.
fn may(vault: &Vault, own: &SignerId, signers: &BTreeSet<SignerId>) -> Result<()> {
    if !vault.history.keys().may(own, Role::Prune) {
        let what = "this machine's key has no role prune: what it settles would not count";
        return Err(OpError::new(Class::Config, what).hint(
            "run it on the machine that prunes, or give the key that role in [signing] trusted, here and wherever it is to count",
        ));
    }
    if !signers.contains(own) {
        return Ok(());
    }
    let wrong: Vec<String> =
        vault.history.breaks.iter().filter(|b| b.signer == *own).map(ToString::to_string).collect();
    Err(OpError::new(Class::Config, "no key may settle the history that it signed itself")
        .because(wrong.join("; "))
        .hint("`backstay keys signer rotate` makes a new key for this machine; run `backstay settle` again after that"))
}

fn row(vault: &Vault, signer: &SignerId, statements: &[Statement]) -> SettledHistory {
    let there: BTreeMap<ObjectId, &ChainEntry> =
        vault.entries.iter().filter(|e| e.signer() == *signer).map(|e| (e.hash, e)).collect();
    let (mut lost, mut dropped) = (Vec::new(), BTreeSet::new());
    for statement in statements {
        if let Statement::Settle { entry, keep, drop, .. } = statement {
            lost.extend(keep.is_none_or(|hash| !there.contains_key(&hash)).then_some(*entry));
            for entry in drop.iter().filter_map(|hash| there.get(hash)) {
                dropped.extend(entry.snapshot().cloned());
                dropped.extend(branches::hanging(vault, entry).into_iter().cloned());
            }
        }
    }
    let wrong =
        vault.history.breaks.iter().filter(|b| b.signer == *signer).map(ToString::to_string).collect();
    let (signer, host) = (signer.to_string(), vault.host_of(signer));
    SettledHistory { signer, host, wrong, lost, dropped: dropped.into_iter().collect() }
}

fn cannot(vault: &Vault, (own, signer): (&SignerId, &SignerId), unsettled: Unsettled) -> OpError {
    let what = unsettled.to_string();
    match unsettled {
        Unsettled::Choose { ends, .. } => {
            let ends = Branches::of(vault, signer, &ends, *own).in_words();
            OpError::new(Class::Usage, what).because(format!("one ends with {}", ends.join("; another with "))).hint(
                "look at both (`backstay list`, `backstay ls ID`), then name the one that stands with its --keep: `backstay settle --keep ...`; snapshots of the other become untrusted, and nothing is deleted",
            )
        }
        Unsettled::TooMany { .. } => OpError::new(Class::Damage, what)
            .hint("that is no loss but another store, or made up by whoever stole the key: `backstay keys signer retire` ends a key"),
        Unsettled::Disowns { key } => {
            let name = branches::that_brings_in(vault, key, signer);
            let how = name.map(|name| format!(": `backstay settle --keep {name}`")).unwrap_or_default();
            OpError::new(Class::Damage, what).hint(format!(
                "keep that history{how}; snapshots of the other can be restored with --accept-untrusted"
            ))
        }
        _ => OpError::new(Class::Damage, what)
            .hint("snapshots can be used by their ids; `backstay keys signer retire` with --last ends a key before that entry"),
    }
}

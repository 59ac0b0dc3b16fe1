//! `--accept`: a person looked at a component that is frozen, and says that its state is right.

use crate::config::StoreConfig;
use crate::model::SnapshotId;
use crate::model::mark::{Statement, Target};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::marks::Marks;
use crate::ops::prune::{Accepted, Deciding, Run};
use crate::ops::select;
use crate::ops::stores::Away;
use std::collections::BTreeSet;

/// What the mark gives as its reason.
const REASON: &str = "accepted by a person";

/// Signs a mark for each snapshot that was named: for those of its components that are frozen in some store.
pub(super) fn run(run: &Run<'_>) -> Result<Vec<Accepted>> {
    let mut marks = run.marks()?;
    let mut statements = Vec::new();
    let mut accepted = Vec::new();
    let frozen = frozen(run, &marks)?;
    for text in &run.options.accept {
        let known = select::snapshot(run.session, marks.vault(), text, false)?;
        let id = &known.record.snapshot;
        if accepted.iter().any(|a: &Accepted| a.snapshot == *id) {
            continue; // named twice
        }
        let holds: BTreeSet<u64> = known.record.components.iter().map(|c| c.number).collect();
        let components: Vec<u64> = holds.into_iter().filter(|c| frozen.iter().any(|f| f.0 == *c)).collect();
        if components.is_empty() {
            let others: Vec<String> =
                frozen.iter().map(|f| f.1.to_string()).collect::<BTreeSet<_>>().into_iter().collect();
            let hint = match others.is_empty() {
                true => "nothing is frozen; `backstay prune --dry-run` shows what is kept and why".to_owned(),
                false => format!("what ends a freeze here: --accept {}", others.join(" --accept ")),
            };
            let what = format!("nothing that snapshot {id} holds is frozen, so there is nothing to accept");
            return Err(OpError::new(Class::Usage, what).hint(hint));
        }
        let target = Target { snapshot: id.clone(), record: known.hash };
        accepted.push(Accepted {
            snapshot: id.clone(),
            components: components.iter().map(|c| run.naming.name(&known.record.host, *c)).collect(),
        });
        statements.push(Statement::Accept { target, components, reason: REASON.into() });
    }
    marks.put(statements)?;
    Ok(accepted)
}

/// Frozen components of all stores that are pruned from here, each with the snapshot to accept. A store that cannot be looked at is passed
/// over, and said: what is frozen in another is not to wait for it. Fails when none can.
fn frozen(run: &Run<'_>, marks: &Marks) -> Result<Vec<(u64, SnapshotId)>> {
    let (mut frozen, mut looked, mut failed) = (Vec::new(), 0, None);
    for store in run.config.stores.iter().filter(|s| s.prune_here) {
        match frozen_in(run, marks, store) {
            Ok(found) => {
                looked += 1;
                frozen.extend(found);
            }
            Err(error) if error.class == Class::Interrupted => return Err(error),
            Err(error) => {
                let why = Away::from(&error).line();
                run.session.note(&format!("store {}: what is frozen there is not known: {why}", store.name));
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if looked == 0 => Err(error),
        _ => Ok(frozen),
    }
}

fn frozen_in(run: &Run<'_>, marks: &Marks, store: &StoreConfig) -> Result<Vec<(u64, SnapshotId)>> {
    let vault = marks.vault();
    let view = marks.usable_view(&store.name)?;
    let (policy, hosts) = (run.config.policy_in(store), run.hosts(vault)?);
    let looked = run.look(marks.session(), vault, (view, marks.bad_in(view)))?;
    let (view, own) = (&vault.views[view], marks.host());
    let deciding = Deciding { vault, view, looked: &looked, policy: &policy, own, hosts: &hosts };
    let freezes = deciding.choose().hosts.into_iter().flat_map(|host| host.verdicts.freezes);
    Ok(freezes.map(|f| (f.component, f.accept)).collect())
}

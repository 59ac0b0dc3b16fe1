//! Objects of earlier snapshots that a run finds lost or damaged: said by a verdict and told, and what they held is packed anew.

use crate::model::mark::{Level, Statement, Target, Verdict};
use crate::model::{ObjectId, Problem, ProblemKind, Timestamp};
use crate::ops::commit::Chain;
use crate::ops::error::Result;
use crate::ops::session::Session;
use crate::ops::vault::Vault;
use std::collections::{BTreeMap, BTreeSet};

/// Signs that these objects were found bad, each for the newest snapshot that needs it, and gives what is to be told. What was proved of them ends with this.
pub(super) fn say_bad(
    session: &Session,
    vault: &Vault,
    chain: &mut Chain<'_>,
    bad: &BTreeSet<ObjectId>,
    level: Level,
    began: Timestamp,
) -> Result<Vec<Problem>> {
    let snapshots = vault.history.hosts.get(&chain.host).map_or(&[][..], Vec::as_slice);
    let mut waiting = bad.clone();
    let mut of: BTreeMap<usize, Vec<ObjectId>> = BTreeMap::new();
    for (place, snapshot) in snapshots.iter().enumerate().rev().filter(|(_, s)| s.is_usable()) {
        let needs = |id: &ObjectId| snapshot.record.object(id).is_some();
        let here: Vec<ObjectId> = waiting.iter().copied().filter(needs).collect();
        waiting.retain(|id| !here.contains(id));
        if !here.is_empty() {
            of.insert(place, here);
        }
    }
    let mut problems = Vec::new();
    for (place, bad) in of {
        let snapshot = &snapshots[place];
        let name = &snapshot.record.snapshot;
        let lost = if level == Level::Read { "damaged" } else { "missing or of another size" };
        let count = if bad.len() == 1 { "an object".to_owned() } else { format!("{} objects", bad.len()) };
        let what = format!(
            "{count} of snapshot {name} in store {} turned out to be {lost}; what they held was packed anew, but snapshots before this one may need them",
            session.store.name()
        );
        let problem = Problem {
            kind: ProblemKind::Damaged,
            component: None,
            subject: format!("snapshot {name}"),
            what,
            hint: Some(
                "look at that disk; `backstay sync` mends from another store what that has whole".into(),
            ),
        };
        session.around.progress.problem(&problem);
        problems.push(problem);
        let target = Target { snapshot: name.clone(), record: snapshot.hash };
        let (instance, checks) = (chain.instance.clone(), Vec::new());
        let verdict =
            Verdict { target, instance, level, began, good: false, covered: Vec::new(), bad, checks };
        chain.mark(Statement::Verdict(verdict), session.around.clock.now())?;
    }
    Ok(problems)
}

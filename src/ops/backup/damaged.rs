//! Objects of earlier snapshots that a run finds lost or damaged: said by a verdict and told, and what they held is packed anew.

use crate::model::chain::KnownSnapshot;
use crate::model::mark::{Level, Statement, Target, Verdict};
use crate::model::{ObjectId, Problem, ProblemKind, Timestamp};
use crate::ops::commit::Chain;
use crate::ops::error::Result;
use crate::ops::session::Session;
use crate::ops::sharing::usable_in;
use crate::ops::vault::Vault;
use std::collections::{BTreeSet, HashSet, VecDeque};

/// Signs that these objects were found bad, for every snapshot there that needs them, and gives what is to be told: each for the newest one.
/// What was proved of them ends with this.
pub(super) fn say_bad(
    session: &Session,
    vault: &Vault,
    chain: &mut Chain<'_>,
    bad: &BTreeSet<ObjectId>,
    level: Level,
    began: Timestamp,
) -> Result<Vec<Problem>> {
    let view = vault.views.iter().find(|view| view.info.instance == chain.instance);
    let snapshots = view.map(|view| usable_in(vault, view, &chain.host)).unwrap_or_default();
    let mut untold = bad.clone();
    // Oldest first, each with what is bad of it, and how many of these no newer one needs.
    let mut of: VecDeque<(&KnownSnapshot, Vec<ObjectId>, usize)> = VecDeque::new();
    for snapshot in snapshots.into_iter().rev() {
        let objects: HashSet<ObjectId> = snapshot.record.objects.iter().map(|o| o.id).collect();
        let here: Vec<ObjectId> = bad.iter().copied().filter(|id| objects.contains(id)).collect();
        let told = here.iter().filter(|id| untold.remove(id)).count();
        if !here.is_empty() {
            of.push_front((snapshot, here, told));
        }
    }
    let mut problems = Vec::new();
    for (snapshot, bad, told) in of {
        if told > 0 {
            let problem = problem(session, snapshot, level, told);
            session.around.progress.problem(&problem);
            problems.push(problem);
        }
        let target = Target { snapshot: snapshot.record.snapshot.clone(), record: snapshot.hash };
        let (instance, checks) = (chain.instance.clone(), Vec::new());
        let verdict =
            Verdict { target, instance, level, began, good: false, covered: Vec::new(), bad, checks };
        chain.mark(Statement::Verdict(verdict), session.around.clock.now())?;
    }
    Ok(problems)
}

fn problem(session: &Session, snapshot: &KnownSnapshot, level: Level, number: usize) -> Problem {
    let name = &snapshot.record.snapshot;
    let lost = if level == Level::Read { "damaged" } else { "missing or of another size" };
    let count = if number == 1 { "an object".to_owned() } else { format!("{number} objects") };
    let what = format!(
        "{count} of snapshot {name} in store {} turned out to be {lost}; what they held was packed anew, but snapshots before this one may need them",
        session.store.name()
    );
    Problem {
        kind: ProblemKind::Damaged,
        component: None,
        subject: format!("snapshot {name}"),
        what,
        hint: Some("look at that disk; `backstay sync` mends from another store what that has whole".into()),
    }
}

//! What stands against a snapshot that is not good. A proof that is old or was never made is doubt; a database that failed its check, or an object that
//! is known to be damaged, is none: such a snapshot comes after all others, however new and complete it is.

use crate::model::SnapshotId;
use crate::model::chain::KnownSnapshot;
use crate::model::record::CheckResult;
use crate::ops::known_bad::in_view;
use crate::ops::vault::{Vault, View};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the snapshots of a vault.
pub(super) struct Against {
    /// Those that need what is damaged or missing in every store that was read and has them.
    bad: BTreeSet<SnapshotId>,
}

/// The better one has the smaller value: good ones first, then those of which nothing bad is known, then complete ones.
pub(super) type Rank = (bool, bool, bool);

impl Against {
    pub(super) fn of(vault: &Vault) -> Self {
        let in_one = |view| in_view(vault, view).snapshots.into_iter().collect();
        let views: Vec<(&View, BTreeSet<SnapshotId>)> =
            vault.views.iter().map(|view| (view, in_one(view))).collect();
        let whole_nowhere = |known: &&KnownSnapshot| {
            let mut having = views.iter().filter(|(view, _)| view.has(known)).peekable();
            having.peek().is_some() && having.all(|(_, bad)| bad.contains(&known.record.snapshot))
        };
        Self { bad: vault.snapshots().filter(whole_nowhere).map(|s| s.record.snapshot.clone()).collect() }
    }

    /// How it stands among others that hold the same.
    pub(super) fn rank(&self, known: &KnownSnapshot) -> Rank {
        (!known.good, self.is_bad(known) || failed(known, None), !known.record.complete)
    }

    /// The same for one component alone: what is wrong with another one is none of its.
    pub(super) fn rank_of(&self, known: &KnownSnapshot, number: u64) -> Rank {
        let mut lines = known.record.components.iter().filter(|line| line.number == number);
        let complete = lines.all(|line| line.complete);
        (!known.good, self.is_bad(known) || failed(known, Some(number)), !complete)
    }

    /// Why a snapshot is not good; none for one that is.
    pub(super) fn why(&self, known: &KnownSnapshot) -> Option<&'static str> {
        match known.good {
            true => None,
            false if !known.record.complete => Some("something could not be captured"),
            false if failed(known, None) => Some("a database failed its check"),
            false if self.is_bad(known) => Some("objects of it were found damaged or missing"),
            false if known.verdicts.is_empty() => Some("it was never read back"),
            false => Some("it was not read back within the last 30 days"),
        }
    }

    fn is_bad(&self, known: &KnownSnapshot) -> bool {
        self.bad.contains(&known.record.snapshot)
    }
}

/// Whether a database of it failed its check, when it was captured or when it was last looked at; of this component, or of any.
fn failed(known: &KnownSnapshot, number: Option<u64>) -> bool {
    let captured = known.record.components.iter().map(|line| (line.number, line.check));
    let said = known.verdicts.iter().flat_map(|known| known.verdict.checks.iter().copied());
    // A later word takes an earlier one back, but none takes back what was found at the capture.
    let last: BTreeMap<u64, CheckResult> = said.collect();
    let meant = |of: u64| number.is_none_or(|number| number == of);
    captured.chain(last).any(|(of, check)| meant(of) && check == CheckResult::Failed)
}

//! What verdicts found missing or damaged in a store and nobody proved since: for `status` and `doctor`. Reads verdicts and decides nothing.

use crate::model::chain::KnownSnapshot;
use crate::model::{ObjectId, SnapshotId};
use crate::ops::vault::{Vault, View};
use std::collections::HashSet;

/// What to do about it.
pub(super) const WAY_OUT: &str = "`backstay sync` mends what another store has whole; what no store has whole the next `backstay backup` packs anew, and older snapshots lack it. Of snapshots of another host it is that host's to do, or `backstay verify`, by a key with the role verify, proves what was mended";
/// So many snapshots are named; `backstay list` shows them all.
const NAMED: usize = 3;

/// Such objects of one store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KnownBad {
    /// How many.
    pub(super) objects: u64,
    /// Snapshots in the store that need one of them, the newest first.
    pub(super) snapshots: Vec<SnapshotId>,
}

/// What is known of the store that `view` shows, of all hosts. What only void or untrusted snapshots need is missed by nobody.
pub(super) fn in_view(vault: &Vault, view: &View) -> KnownBad {
    let mut objects: HashSet<ObjectId> = HashSet::new();
    let mut needing: Vec<&KnownSnapshot> = Vec::new();
    for (host, snapshots) in &vault.history.hosts {
        let standing = vault.history.standing(host, &view.info.instance);
        let bad: HashSet<ObjectId> =
            standing.into_iter().filter(|(_, said)| said.bad).map(|(id, _)| id).collect();
        if bad.is_empty() {
            continue;
        }
        for known in snapshots.iter().filter(|s| s.is_usable() && view.has(s)) {
            let needed = known.record.objects.iter().map(|object| object.id).filter(|id| bad.contains(id));
            let needed: Vec<ObjectId> = needed.collect();
            if !needed.is_empty() {
                objects.extend(needed);
                needing.push(known);
            }
        }
    }
    needing.sort_by_key(|known| std::cmp::Reverse(known.record.started));
    let snapshots = needing.iter().map(|known| known.record.snapshot.clone()).collect();
    KnownBad { objects: objects.len() as u64, snapshots }
}

/// True when the snapshot `id` needs what is bad wherever it is: of each store that has it, `having` gives the snapshots that do.
pub(super) fn is_whole_nowhere<'a>(
    id: &SnapshotId,
    having: impl IntoIterator<Item = &'a [SnapshotId]>,
) -> bool {
    let mut having = having.into_iter().peekable();
    having.peek().is_some() && having.all(|bad| bad.contains(id))
}

/// `2 objects in store S are known to be damaged or missing (needed by …)`.
pub(super) fn line(store: &str, objects: u64, snapshots: &[SnapshotId]) -> String {
    let what = if objects == 1 { "1 object".to_owned() } else { format!("{objects} objects") };
    let is = if objects == 1 { "is" } else { "are" };
    let named: Vec<&str> = snapshots.iter().take(NAMED).map(SnapshotId::as_str).collect();
    let more = match snapshots.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let plural = if snapshots.len() == 1 { "" } else { "s" };
    let needed = format!("needed by snapshot{plural} {}{more}", named.join(", "));
    format!("{what} in store {store} {is} known to be damaged or missing ({needed})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_snapshots_are_named_and_the_rest_is_counted() {
        let ids: Vec<SnapshotId> =
            (1..=5).map(|n| format!("2026111{n}T103000Z-k3v7q2ma").parse().unwrap()).collect();
        let one = line("usb", 1, &ids[..1]);
        assert_eq!(
            one,
            format!(
                "1 object in store usb is known to be damaged or missing (needed by snapshot {})",
                ids[0]
            )
        );
        let many = line("usb", 12, &ids);
        assert!(many.starts_with("12 objects in store usb are known"), "{many}");
        assert!(
            many.ends_with(&format!("{} and 2 more)", ids[2])) && !many.contains(ids[3].as_str()),
            "{many}"
        );
        assert!(!is_whole_nowhere(&ids[0], []));
        assert!(is_whole_nowhere(&ids[0], [&ids[..1], &ids[..]]));
        assert!(!is_whole_nowhere(&ids[0], [&ids[..1], &ids[1..]]));
    }
}

//! Which archives are packed again: what they hold that is still in use goes from the live files into a new archive, and the reference is dropped.
//!
//! So the space of half-empty archives comes free, and a component never hangs on very many. It is only a wish: what does not fit into a run's share goes
//! on being referred to, and the next run continues.

use crate::catalog::known::{KnownArchive, KnownStretch, Usage};
use crate::model::ObjectId;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// A component that refers to more delta archives than this has its emptiest packed again.
pub(in crate::ops::backup) const DELTAS_MAX: usize = 32;

/// At most this part of a component is packed again in a run.
const PART: u64 = 4;

/// So many bytes may be packed again in any case: a part of very little is nothing.
const BYTES_MIN: u64 = 1 << 20;

/// Archives of one component that are packed again in this run.
#[derive(Debug, Default)]
pub(in crate::ops::backup) struct Drain {
    archives: HashSet<ObjectId>,
    /// Bytes that may still be packed again.
    left: AtomicU64,
}

/// How full an archive is.
#[derive(Debug, Clone, Copy)]
struct Share {
    archive: ObjectId,
    used: u64,
    of: u64,
    age: u64,
}

impl Share {
    fn part(&self) -> f64 {
        self.used as f64 / self.of.max(1) as f64
    }
}

impl Drain {
    /// What of the component with these stretches is to be packed again. Archives that may not be referred to any more are not counted: they are packed anew in any
    /// case.
    pub(super) fn plan(
        stretches: &[KnownStretch],
        known: &BTreeMap<ObjectId, KnownArchive>,
        usable: impl Fn(&ObjectId) -> bool,
    ) -> Self {
        let mut shares: Vec<Share> = Vec::new();
        let mut deltas = 0;
        for (archive, used) in used(stretches) {
            let Some(known) = known.get(&archive).filter(|_| usable(&archive)) else { continue };
            deltas += usize::from(known.delta);
            shares.push(Share { archive, used, of: known.content, age: known.age });
        }
        shares
            .sort_by(|a, b| a.part().total_cmp(&b.part()).then(a.used.cmp(&b.used)).then(a.age.cmp(&b.age)));
        // The new archive is one more.
        let mut over = if deltas > DELTAS_MAX { deltas + 1 - DELTAS_MAX } else { 0 };
        let mut archives = HashSet::new();
        for share in shares {
            let delta = known.get(&share.archive).is_some_and(|a| a.delta);
            if share.used * 2 < share.of || (delta && over > 0) {
                archives.insert(share.archive);
                over = over.saturating_sub(usize::from(delta));
            }
        }
        let content: u64 = stretches.iter().map(|s| s.content).sum();
        Self { archives, left: AtomicU64::new((content / PART).max(BYTES_MIN)) }
    }

    /// True when what lies in this archive is packed again, as long as there is a share left.
    pub(super) fn has(&self, archive: &ObjectId) -> bool {
        self.archives.contains(archive) && self.left() > 0
    }

    /// How many bytes may still be packed again.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `bytes` off, as far as there are any left, and gives how many.
    pub(super) fn spend(&self, bytes: u64) -> u64 {
        let take = |left: u64| Some(left.saturating_sub(bytes));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        left.unwrap_or_default().min(bytes)
    }
}

/// The bytes of each archive that are in use; what several files refer to counts once.
pub(super) fn used(stretches: &[KnownStretch]) -> BTreeMap<ObjectId, u64> {
    if !stretches.iter().any(|s| s.shared) {
        let mut sums = BTreeMap::new();
        for (archive, used) in stretches.iter().flat_map(|s| &s.archives) {
            *sums.entry(*archive).or_insert(0) += used;
        }
        return sums;
    }
    let mut usage = Usage::default();
    for stretch in stretches.iter().filter_map(KnownStretch::open) {
        for row in stretch.rows().filter_map(|row| row.decode()) {
            usage.add(&row.entry.extents);
        }
    }
    usage.bytes()
}

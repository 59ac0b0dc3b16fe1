//! Where bytes of the old content lie.

use crate::model::{Extent, ObjectId};

/// A stretch of the old content: where it lies, or that no extent covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) length: u64,
    pub(super) place: Option<(ObjectId, u64)>,
}

/// Cuts `length` bytes from `from` of the old content into stretches, in order. `extents` are in order and do not overlap.
pub(super) fn stretches(extents: &[Extent], from: u64, length: u64) -> impl Iterator<Item = Stretch> {
    let mut next = extents.partition_point(|e| e.offset + e.length <= from);
    let (mut at, end) = (from, from + length);
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let extent = extents.get(next).filter(|e| e.offset < end);
        let stretch = match extent {
            Some(e) if e.offset <= at => {
                next += 1;
                let length = (e.offset + e.length).min(end) - at;
                Stretch { length, place: Some((e.archive, e.tar_offset + (at - e.offset))) }
            }
            Some(e) => Stretch { length: e.offset - at, place: None },
            None => Stretch { length: end - at, place: None },
        };
        at += stretch.length;
        Some(stretch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_what_extents_cover_and_what_they_do_not() {
        let archive = ObjectId::of(b"a");
        let extent = |offset, tar_offset, length| Extent { offset, archive, tar_offset, length };
        let extents = [extent(10, 100, 10), extent(20, 500, 5), extent(40, 200, 10)];
        let cut = |from, length| -> Vec<_> {
            stretches(&extents, from, length).map(|s| (s.length, s.place.map(|p| p.1))).collect()
        };
        assert_eq!(
            cut(0, 60),
            [(10, None), (10, Some(100)), (5, Some(500)), (15, None), (10, Some(200)), (10, None)]
        );
        assert_eq!(cut(12, 3), [(3, Some(102))]);
        assert_eq!(cut(19, 2), [(1, Some(109)), (1, Some(500))]);
        assert_eq!(cut(25, 15), [(15, None)]);
        assert_eq!(cut(100, 1), [(1, None)]);
        assert_eq!(cut(5, 0), []);
    }
}

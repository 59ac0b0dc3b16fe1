//! Entries that wait for their archives' names, in little memory: a million of them must not take a gigabyte.

use crate::catalog::known::{Row, Stretch};
use crate::model::record::CheckResult;
use crate::model::{Extent, ObjectId};
use crate::ops::backup::build::Item;
use crate::ops::backup::packer::LocalExtent;
use crate::ops::backup::reuse::Facts;

/// Entries of which everything that is packed lies in archives of this run, as the catalog keeps rows.
#[derive(Debug)]
pub(super) struct Folded(Vec<u8>);

/// Stands for the archive of this number until it has a name.
fn stand_in(archive: usize) -> ObjectId {
    let mut id = [0; 32];
    id[24..].copy_from_slice(&(archive as u64).to_be_bytes());
    ObjectId(id)
}

fn number(stand_in: &ObjectId) -> Option<usize> {
    let (zeros, number) = stand_in.0.split_at(24);
    let number = u64::from_be_bytes(number.try_into().ok()?);
    if zeros.iter().any(|byte| *byte != 0) { None } else { usize::try_from(number).ok() }
}

fn row_of(item: &Item) -> Row {
    let mut entry = item.entry.clone();
    let named = |e: &LocalExtent| Extent {
        offset: e.offset,
        archive: stand_in(e.archive),
        tar_offset: e.tar_offset,
        length: e.length,
    };
    entry.extents = item.extents.iter().map(named).collect();
    entry.extents.sort_unstable_by_key(|e| e.offset);
    let facts = &item.facts;
    Row {
        entry,
        ident: facts.ident,
        safe: facts.safe,
        beside: facts.beside,
        check: facts.check.unwrap_or(CheckResult::None),
        read: facts.read,
        blocks: facts.blocks.clone(),
        copied: facts.copied,
    }
}

fn item_of(row: Row) -> Option<Item> {
    let mut entry = row.entry;
    let local = |e: Extent| {
        let archive = number(&e.archive)?;
        Some(LocalExtent { offset: e.offset, archive, tar_offset: e.tar_offset, length: e.length })
    };
    let extents = std::mem::take(&mut entry.extents).into_iter().map(local).collect::<Option<Vec<_>>>()?;
    let facts = Facts {
        ident: row.ident,
        safe: row.safe,
        beside: row.beside,
        check: Some(row.check),
        read: row.read,
        blocks: row.blocks,
        copied: row.copied,
    };
    Some(Item { extents, facts, ..Item::bare(entry) })
}

impl Folded {
    /// Folds `items`; `None` when they would not come back as they are.
    pub(super) fn of(items: &[Item]) -> Option<Self> {
        if items.iter().any(|item| !item.entry.extents.is_empty() || !item.entry.maps.is_empty()) {
            return None;
        }
        let rows: Vec<Row> = items.iter().map(row_of).collect();
        let folded = Self(Stretch::encode(&rows).ok()?);
        let opened = Stretch::open(&folded.0)?;
        let mut found = opened.rows();
        let same = rows.iter().all(|row| found.next().and_then(|row| row.decode()).as_ref() == Some(row));
        (same && found.next().is_none()).then_some(folded)
    }

    /// The items again; `None` when memory failed.
    pub(super) fn unfold(&self) -> Option<Vec<Item>> {
        let opened = Stretch::open(&self.0)?;
        let count = usize::try_from(opened.sums.entries).ok()?;
        let items = opened.rows().map(|row| item_of(row.decode()?)).collect::<Option<Vec<_>>>()?;
        (items.len() == count).then_some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContentHash, Entry, Kind, RelPath};
    use crate::platform::capture::Ident;

    fn item(path: &str, extents: Vec<LocalExtent>) -> Item {
        let mut entry = Entry::new(RelPath::new(path.as_bytes()).unwrap(), Kind::File);
        entry.size = extents.iter().map(|e| e.offset + e.length).max().unwrap_or(0);
        entry.hash = Some(ContentHash([7; 32]));
        (entry.mode, entry.user, entry.mtime) = (0o640, Some("app".into()), (-5, 9));
        entry.xattrs.insert("user.x".into(), vec![1, 2]);
        let ident = Ident { dev: 1, ino: 2, size: entry.size, mtime: (1, 2), ctime: (3, 4) };
        let facts = Facts { ident: Some(ident), safe: true, read: 20_000, ..Facts::default() };
        Item { extents, facts, ..Item::bare(entry) }
    }

    #[test]
    fn entries_come_back_with_what_is_packed_of_them_and_what_tells_them_apart() {
        let extent = |offset, archive| LocalExtent { offset, archive, tar_offset: 512 + offset, length: 10 };
        let items = [
            item("a", vec![]),
            item("b", vec![extent(0, 3)]),
            item("c", vec![extent(0, 0), extent(100, 70_000)]),
        ];
        let back = Folded::of(&items).unwrap().unfold().unwrap();
        assert_eq!(back.len(), 3);
        for (item, back) in items.iter().zip(&back) {
            assert_eq!((&item.entry, &item.extents), (&back.entry, &back.extents));
            assert_eq!((item.facts.ident, item.facts.safe), (back.facts.ident, back.facts.safe));
            assert_eq!((item.facts.read, &item.facts.blocks), (back.facts.read, &back.facts.blocks));
        }
    }

    #[test]
    fn what_lies_in_older_archives_is_not_folded() {
        let mut old = item("a", vec![]);
        old.entry.size = 10;
        old.entry.extents.push(Extent { offset: 0, archive: ObjectId([0; 32]), tar_offset: 512, length: 10 });
        assert!(Folded::of(&[old]).is_none());
    }
}

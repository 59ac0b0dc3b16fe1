//! The segments of one component: those of before where nothing changed, new ones elsewhere.

use crate::archive::Ticket;
use crate::catalog::known::{KnownArchive, KnownStretch, Row, Usage};
use crate::durable::crash;
use crate::keys::RecipientSet;
use crate::model::entry::{EXTENTS_INLINE_MAX, MAP_RANGE};
use crate::model::index::SegmentRef;
use crate::model::manifest::{ArchiveInfo, ArchiveTable};
use crate::model::record::CheckResult;
use crate::model::seldom::Seldom;
use crate::model::{ComponentName, Entry, Extent, MapRef, ObjectId, ObjectKind, ObjectRef, RelPath};
use crate::ops::backup::blocks::unchanged_ranges;
use crate::ops::backup::build::Item;
use crate::ops::backup::check::Checker;
use crate::ops::backup::draft::{Draft, Drawn};
use crate::ops::backup::manifest::{archive_ref, internal, lacks_frames, put_maps};
use crate::ops::backup::packer::{PackRun, resolve};
use crate::ops::backup::reuse::{Contents, Old, Saved, Whole};
use crate::ops::error::{OpError, Result};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Segments and all that they refer to.
#[derive(Default)]
pub(super) struct Shelved {
    pub(super) segments: Vec<SegmentRef>,
    /// Oldest first.
    pub(super) archives: Vec<ObjectRef>,
    pub(super) manifests: Vec<ObjectRef>,
    pub(super) reused: HashSet<ObjectId>,
    pub(super) saved: Saved,
}

/// A segment that is being made, and what is known of it meanwhile.
struct UnderWay<'a> {
    drawn: Ticket<Result<Drawn>>,
    /// The earlier one that says the same.
    same: Option<&'a KnownStretch>,
    first: RelPath,
    last: RelPath,
    entries: u64,
    maps: Vec<(ObjectId, u64)>,
    blocks: Vec<ObjectId>,
}

/// Segments that are made at a time, beside those that the threads work on: each may take 8 MiB.
const AHEAD: usize = 2;

/// Lets segments be made by the pool, and puts them one after the other.
pub(super) struct Shelf<'a> {
    run: &'a PackRun<'a>,
    name: &'a ComponentName,
    old: Old<'a>,
    /// The archives of this run, in order.
    made: Vec<ObjectId>,
    /// How much of them is in use.
    used: Usage,
    alone: bool,
    /// Described archives: all of this run, and older ones once they are referred to.
    table: Arc<ArchiveTable>,
    recipients: Arc<RecipientSet>,
    under_way: VecDeque<UnderWay<'a>>,
    /// Older archives that are referred to.
    older: BTreeMap<ObjectId, &'a KnownArchive>,
    checker: Checker,
    /// Maps of files with several names, by their numbers.
    maps: HashMap<u64, Seldom<Vec<MapRef>>>,
    out: Shelved,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(
        run: &'a PackRun<'a>,
        name: &'a ComponentName,
        old: Old<'a>,
        infos: Vec<ArchiveInfo>,
        alone: bool,
    ) -> Self {
        let made = infos.iter().map(|i| i.sha256).collect();
        let table: ArchiveTable = infos.into_iter().map(|i| (i.sha256, i)).collect();
        Self {
            run,
            name,
            old,
            made,
            used: Usage::default(),
            alone,
            table: Arc::new(table),
            recipients: Arc::new(run.recipients.clone()),
            under_way: VecDeque::new(),
            older: BTreeMap::new(),
            checker: Checker::default(),
            maps: HashMap::new(),
            out: Shelved::default(),
        }
    }

    /// Notes that an older archive is referred to.
    fn refer(&mut self, archive: &ObjectId) {
        if !self.older.contains_key(archive)
            && let Some(known) = self.old.archive(archive)
        {
            self.older.insert(*archive, known);
        }
    }

    fn manifest(&mut self, object: ObjectRef, reused: bool) {
        if reused && !self.out.reused.insert(object.id) {
            return; // two names of one file have the same maps
        }
        self.out.manifests.push(object);
    }

    fn reuse_manifest(&mut self, id: ObjectId, size: u64) {
        self.manifest(ObjectRef { kind: ObjectKind::Manifest, size, id, recipients: 0 }, true);
    }

    fn segment_of(&mut self, known: &KnownStretch, entries: u64) {
        let KnownStretch { segment, size, first, last, maps, .. } = known;
        for (id, size) in maps {
            self.reuse_manifest(*id, *size);
        }
        self.reuse_manifest(*segment, *size);
        let (first, last) = (first.clone(), last.clone());
        self.out.segments.push(SegmentRef { object: *segment, size: *size, entries, first, last });
    }

    /// An earlier segment of which everything is as it was.
    pub(super) fn whole(&mut self, whole: &Whole) -> Result<()> {
        self.take_all()?;
        let stretches = self.old.stretches;
        let known = stretches.get(whole.place).ok_or_else(|| internal("a stretch that is not there"))?;
        self.checker.stretch(&known.first, &known.last).map_err(internal)?;
        if whole.links {
            let stretch = known.open().ok_or_else(|| internal("a stretch that does not open"))?;
            for row in stretch.rows().filter(|row| row.link.is_some()).filter_map(|row| row.decode()) {
                self.checker.link(&row.entry).map_err(internal)?;
            }
        }
        for (archive, _) in &whole.archives {
            self.refer(archive);
        }
        self.out.saved.keep.push(known.row);
        self.segment_of(known, whole.sums.entries);
        Ok(())
    }

    /// A segment of these entries: the earlier one, if it says the same.
    pub(super) fn items(&mut self, items: Vec<Item>) -> Result<()> {
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            rows.push(self.row(item)?);
        }
        for row in &rows {
            self.checker.entry(&row.entry).map_err(internal)?;
        }
        for row in &rows {
            let (new, older): (Vec<Extent>, Vec<Extent>) =
                row.entry.extents.iter().partition(|e| self.made.contains(&e.archive));
            self.used.add(&new);
            older.iter().for_each(|extent| self.refer(&extent.archive));
        }
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        let (first, last) = (first.entry.path.clone(), last.entry.path.clone());
        let entries = rows.len() as u64;
        let mut maps: Vec<(ObjectId, u64)> =
            rows.iter().flat_map(|row| row.entry.maps.iter().map(|m| (m.object, m.size))).collect();
        maps.sort_unstable();
        maps.dedup();
        let mut blocks: Vec<ObjectId> = rows.iter().flat_map(|row| row.blocks.iter().copied()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let stretches = self.old.stretches;
        let at = stretches.binary_search_by(|s| s.first.cmp(&first)).ok().and_then(|at| stretches.get(at));
        let same = at.filter(|known| self.old.may_use(&known.segment) && says_the_same(known, &rows));
        if same.is_none() {
            self.describe_all(&rows)?;
        }
        let recipients = same.is_none().then(|| Arc::clone(&self.recipients));
        let draft = Draft { name: self.name.clone(), rows, table: Arc::clone(&self.table), recipients };
        let drawn = self.run.pool.submit(move || draft.draw());
        self.under_way.push_back(UnderWay { drawn, same, first, last, entries, maps, blocks });
        while self.under_way.len() > self.run.pool.threads() + AHEAD {
            self.take()?;
        }
        Ok(())
    }

    fn take_all(&mut self) -> Result<()> {
        while !self.under_way.is_empty() {
            self.take()?;
        }
        Ok(())
    }

    /// Waits for the oldest segment and lets it be put.
    fn take(&mut self) -> Result<()> {
        let Some(UnderWay { drawn, same, first, last, entries, maps, blocks }) = self.under_way.pop_front()
        else {
            return Ok(());
        };
        let Drawn { packed, archives, shared, content, sealed } =
            drawn.wait().map_err(internal)?.map_err(|e| self.unlisted(e))?;
        let (segment, size) = match (same, sealed) {
            (Some(known), _) => {
                self.segment_of(known, entries);
                (known.segment, known.size)
            }
            (None, Some((id, bytes))) => {
                crash::point("pack: listing sealed");
                let size = bytes.len() as u64;
                self.run.uploads.manifest(id, bytes)?;
                self.manifest(ObjectRef { kind: ObjectKind::Manifest, size, id, recipients: 0 }, false);
                let (first, last) = (first.clone(), last.clone());
                self.out.segments.push(SegmentRef { object: id, size, entries, first, last });
                (id, size)
            }
            (None, None) => return Err(internal("a segment that was not sealed")),
        };
        self.out.saved.put.push(KnownStretch {
            row: 0,
            segment,
            size,
            recipients: self.old.recipients().to_vec(),
            first,
            last,
            maps,
            blocks,
            archives,
            shared,
            content,
            packed,
        });
        Ok(())
    }

    /// Names the archives of an entry, and writes maps where it has many extents.
    fn row(&mut self, item: Item) -> Result<Row> {
        let Item { mut entry, extents, facts, .. } = item;
        if !extents.is_empty() {
            entry.extents.extend(resolve(&extents, &self.made)?);
            entry.extents.sort_unstable_by_key(|e| e.offset);
            entry.maps = Seldom::default();
        }
        if entry.maps.is_empty() && entry.extents.len() > EXTENTS_INLINE_MAX {
            self.describe(&entry)?;
            let mut objects = Vec::new();
            // All names of one file have the same maps.
            let known = entry.link.and_then(|link| self.maps.get(&link)).cloned();
            entry.maps = match known {
                Some(maps) => maps,
                None => {
                    let stays = self.maps_that_stay(&entry);
                    let maps = put_maps(self.run, &entry.extents, &self.table, &stays, &mut objects);
                    maps.map_err(|e| self.unlisted(e))?.into()
                }
            };
            self.out.manifests.extend(objects);
            if let Some(link) = entry.link {
                self.maps.insert(link, entry.maps.clone());
            }
        }
        let check = facts.check.unwrap_or(CheckResult::None);
        Ok(Row {
            entry,
            ident: facts.ident,
            safe: facts.safe,
            beside: facts.beside,
            check,
            read: facts.read,
            blocks: facts.blocks,
            copied: facts.copied,
        })
    }

    /// Puts away what is remembered, where a listing cannot be written because of it: else no run would ever write one again.
    fn unlisted(&self, e: OpError) -> OpError {
        if lacks_frames(&e) {
            self.old.put_away();
        }
        e
    }

    /// The earlier maps of a file, for those of its ranges in which nothing changed.
    fn maps_that_stay(&self, entry: &Entry) -> Vec<MapRef> {
        let row = Contents::new(self.old).row(entry.path.as_bytes());
        let Some(row) = row.filter(|row| !row.entry.maps.is_empty()) else { return Vec::new() };
        let same = unchanged_ranges(&row.entry.extents, &entry.extents, entry.size);
        let stays = |map: &MapRef| {
            let range = usize::try_from(map.offset / MAP_RANGE).unwrap_or(usize::MAX);
            same.get(range) == Some(&true) && self.old.may_use(&map.object)
        };
        row.entry.maps.iter().copied().filter(stays).collect()
    }

    /// Brings the descriptions of the older archives that `entry` refers to into the table.
    fn describe(&mut self, entry: &Entry) -> Result<()> {
        for extent in &entry.extents {
            if !self.table.contains_key(&extent.archive) {
                let known = self.old.archive(&extent.archive);
                let known = known.ok_or_else(|| internal("an extent in an archive that is not known"))?;
                // Who still reads the table would keep a copy of it.
                self.take_all()?;
                Arc::make_mut(&mut self.table).insert(extent.archive, known.info.clone());
            }
        }
        Ok(())
    }

    /// Brings everything into the table that a segment of `rows` refers to, and notes earlier maps.
    fn describe_all(&mut self, rows: &[Row]) -> Result<()> {
        for entry in rows.iter().map(|row| &row.entry) {
            for map in &entry.maps {
                if self.old.may_use(&map.object) && !self.out.manifests.iter().any(|o| o.id == map.object) {
                    self.reuse_manifest(map.object, map.size);
                }
            }
            if entry.maps.is_empty() {
                self.describe(entry)?;
            }
        }
        Ok(())
    }

    /// All segments, and everything that they refer to.
    pub(super) fn finish(mut self) -> Result<Shelved> {
        self.take_all()?;
        let mut out = self.out;
        let mut older: Vec<&KnownArchive> = self.older.into_values().collect();
        older.sort_by_key(|archive| (archive.age, archive.info.sha256));
        for archive in older {
            out.archives.push(archive_ref(&archive.info));
            out.reused.insert(archive.info.sha256);
            out.saved.archives.push(archive.clone());
        }
        let used = self.used.bytes();
        for id in &self.made {
            let Some(info) = self.table.get(id) else { continue };
            out.archives.push(archive_ref(info));
            out.saved.archives.push(KnownArchive {
                info: info.clone(),
                age: u64::MAX,
                delta: !self.alone,
                content: used.get(id).copied().unwrap_or(0),
                recipients: self.old.recipients().to_vec(),
            });
        }
        Ok(out)
    }
}

/// True when the earlier segment has just these entries.
fn says_the_same(known: &KnownStretch, rows: &[Row]) -> bool {
    let Some(stretch) = known.open().filter(|s| s.sums.entries == rows.len() as u64) else {
        return false;
    };
    let mut old = stretch.rows();
    rows.iter().all(|row| old.next().and_then(|old| old.decode()).is_some_and(|old| old.entry == row.entry))
}

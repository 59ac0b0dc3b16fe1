//! What of archives a snapshot uses, told from its listings in the store. It counts for itself: what chooses the archives that are packed again may be wrong.

use backstay::archive::open_manifest;
use backstay::keys::Identities;
use backstay::keys::identity::load_identity_file;
use backstay::model::index::Index;
use backstay::model::manifest::{Map, Segment};
use backstay::model::{Entry, ObjectId, ObjectKind, Record, document};
use backstay::store::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From where to where in a tar stream.
type Stretches = Vec<(u64, u64)>;

/// A snapshot's record, and the entries of its components with all their extents, those that lie in maps too.
pub(crate) struct Listed {
    pub(crate) record: Record,
    pub(crate) entries: Vec<(String, Entry)>,
    /// Files whose extents are in maps.
    pub(crate) maps: usize,
}

impl Listed {
    /// Reads snapshot `id` of the store at `store` with the identities in a file.
    pub(crate) fn read(store: &Path, identity: &Path, id: &str) -> Self {
        let identities = Identities::from_secrets(load_identity_file(identity).unwrap());
        let bytes = fs::read(store.join(format!("snapshots/{id}.json"))).unwrap();
        let (line, _) = document::split(&bytes).unwrap();
        let record: Record = document::parse(line, "record").unwrap();
        let open = |id: &ObjectId| {
            let bytes = fs::read(store.join(Key::Manifest(*id).to_string())).unwrap();
            open_manifest(&bytes, &identities).unwrap()
        };
        let (mut entries, mut maps) = (Vec::new(), 0);
        for component in Index::decode(&open(&record.index.unwrap())).unwrap().components {
            for segment in &component.segments {
                for mut entry in Segment::decode(&open(&segment.object)).unwrap().entries {
                    maps += usize::from(!entry.maps.is_empty());
                    for map in &entry.maps {
                        let map = Map::decode(&open(&map.object), map.offset, entry.size).unwrap();
                        entry.extents.extend(map.extents);
                    }
                    entries.push((component.name.to_string(), entry));
                }
            }
        }
        Self { record, entries, maps }
    }

    /// The archives that the record names.
    pub(crate) fn archives(&self) -> BTreeSet<ObjectId> {
        let objects = self.record.objects.iter();
        objects.filter(|o| o.kind == ObjectKind::Archive).map(|o| o.id).collect()
    }

    /// Its archives that hold something of a file which has the same bytes in `next`, and to which that does not refer.
    pub(crate) fn packed_again_in(&self, next: &Self) -> BTreeSet<ObjectId> {
        let content = |(component, entry): &(String, Entry)| {
            let Entry { path, size, hash, .. } = entry;
            hash.map(|hash| (component.clone(), path.clone(), *size, hash))
        };
        let there: BTreeSet<_> = next.entries.iter().filter_map(content).collect();
        let same = |&entry: &&(String, Entry)| content(entry).is_some_and(|content| there.contains(&content));
        let held = self.entries.iter().filter(same).flat_map(|(_, entry)| &entry.extents);
        let held: BTreeSet<ObjectId> = held.map(|extent| extent.archive).collect();
        held.difference(&next.archives()).copied().collect()
    }

    /// The bytes of each archive's tar stream that are in use, headers by estimate, and the component that uses them: no archive is of two.
    pub(crate) fn used(&self) -> BTreeMap<ObjectId, (String, u64)> {
        /// A pax header, its records, the header itself.
        const HEADERS: u64 = 3 * 512;
        let mut stretches: BTreeMap<ObjectId, (&str, Stretches)> = BTreeMap::new();
        for (component, entry) in &self.entries {
            let mut seen = BTreeSet::new();
            for extent in &entry.extents {
                let before = if seen.insert(extent.archive) { HEADERS } else { 0 };
                let (owner, all) =
                    stretches.entry(extent.archive).or_insert((component.as_str(), Vec::new()));
                assert!(*owner == component.as_str(), "{} is of two components", extent.archive);
                all.push((extent.tar_offset.saturating_sub(before), extent.tar_offset + extent.length));
            }
        }
        let sum = |mut all: Stretches| {
            all.sort_unstable();
            let (mut bytes, mut reached) = (0, 0);
            for (from, to) in all {
                bytes += to.saturating_sub(from.max(reached));
                reached = reached.max(to);
            }
            bytes
        };
        stretches.into_iter().map(|(id, (owner, all))| (id, (owner.to_owned(), sum(all)))).collect()
    }
}

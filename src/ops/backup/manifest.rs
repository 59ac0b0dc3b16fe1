//! The listing of a component: maps, segments, and its line in the index.

use crate::archive::seal_manifest;
use crate::durable::crash;
use crate::model::entry::{EXTENTS_INLINE_MAX, MAP_RANGE};
use crate::model::index::{IndexComponent, SegmentRef};
use crate::model::manifest::{ArchiveInfo, ArchiveTable, Map, Segment};
use crate::model::record::ObjectRef;
use crate::model::segment_cut::{Cutter, estimated_bytes};
use crate::model::{ComponentName, Entry, Extent, Kind, MapRef, ObjectId, ObjectKind};
use crate::ops::backup::build::Build;
use crate::ops::backup::packer::{PackRun, resolve};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::in_store;
use crate::store::Key;

/// A component whose objects are all in the store.
pub(super) struct Stored {
    pub(super) index: IndexComponent,
    pub(super) setup: String,
    pub(super) archives: Vec<ObjectRef>,
    pub(super) manifests: Vec<ObjectRef>,
    pub(super) problems: Vec<crate::model::Problem>,
}

/// Puts a manifest object and gives its name and size.
pub(super) fn put_manifest(run: &PackRun<'_>, content: &[u8]) -> Result<ObjectRef> {
    let sealed = seal_manifest(content, run.recipients);
    let (id, bytes) = sealed.doing(Class::Failed, || "cannot seal a listing".into())?;
    crash::point("pack: listing sealed");
    in_store(run.store, run.store.put_bytes(&Key::Manifest(id), &bytes))?;
    crash::point("pack: listing put");
    Ok(ObjectRef { kind: ObjectKind::Manifest, size: bytes.len() as u64, id, recipients: 0 })
}

/// Seals a component's archives and writes its listing.
pub(super) fn store_component(build: Build<'_>) -> Result<Stored> {
    let Build { name, packer, items, .. } = build;
    let run = packer.run.clone();
    let infos = packer.finish()?;
    let names: Vec<ObjectId> = infos.iter().map(|i| i.sha256).collect();
    let archives = infos.iter().map(archive_ref).collect();
    let table: ArchiveTable = infos.into_iter().map(|i| (i.sha256, i)).collect();
    let mut manifests = Vec::new();
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        let mut entry = item.entry;
        let extents = resolve(&item.extents, &names)?;
        if extents.len() > EXTENTS_INLINE_MAX {
            entry.maps = put_maps(&run, &extents, &table, &mut manifests)?;
        } else {
            entry.extents = extents;
        }
        entries.push(entry);
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let segments = put_segments(&run, &name, &entries, &table, &mut manifests)?;
    let count = |kind| entries.iter().filter(|e| e.kind == kind).count() as u64;
    let index = IndexComponent {
        name,
        number: build.number,
        kind: build.kind,
        base: build.base,
        single: build.single,
        method: build.method,
        started: build.started,
        instant: build.instant,
        complete: build.complete,
        check: build.check,
        entries: entries.len() as u64,
        files: count(Kind::File),
        dirs: count(Kind::Dir),
        size: entries.iter().map(|e| e.size).sum(),
        alone: build.alone,
        segments,
        archives: names,
        unreadable: build.unreadable_count,
        rules: build.rules,
    };
    Ok(Stored { index, setup: build.setup, archives, manifests, problems: build.problems })
}

fn archive_ref(info: &ArchiveInfo) -> ObjectRef {
    ObjectRef { kind: ObjectKind::Archive, size: info.size, id: info.sha256, recipients: 0 }
}

fn internal(e: impl std::fmt::Display) -> OpError {
    OpError::new(Class::Failed, format!("cannot write a listing: {e}"))
}

fn put_maps(
    run: &PackRun<'_>,
    extents: &[Extent],
    table: &ArchiveTable,
    manifests: &mut Vec<ObjectRef>,
) -> Result<Vec<MapRef>> {
    let mut maps = Vec::new();
    for range in extents.chunk_by(|a, b| a.offset / MAP_RANGE == b.offset / MAP_RANGE) {
        let content = Map::encode(range, table).map_err(internal)?;
        let object = put_manifest(run, &content)?;
        manifests.push(object);
        let offset = range.first().map_or(0, |e| e.offset / MAP_RANGE * MAP_RANGE);
        maps.push(MapRef { offset, object: object.id, size: object.size });
    }
    Ok(maps)
}

fn put_segments(
    run: &PackRun<'_>,
    name: &ComponentName,
    entries: &[Entry],
    table: &ArchiveTable,
    manifests: &mut Vec<ObjectRef>,
) -> Result<Vec<SegmentRef>> {
    let mut segments = Vec::new();
    for range in cut(entries) {
        let (Some(first), Some(last)) = (range.first(), range.last()) else {
            continue;
        };
        let content = Segment::encode(name, range, table).map_err(internal)?;
        let object = put_manifest(run, &content)?;
        manifests.push(object);
        segments.push(SegmentRef {
            object: object.id,
            size: object.size,
            entries: range.len() as u64,
            first: first.path.clone(),
            last: last.path.clone(),
        });
    }
    Ok(segments)
}

/// The stretches of `entries` that make a segment each.
fn cut(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut cutter, mut stretches, mut start) = (Cutter::default(), Vec::new(), 0);
    for (place, entry) in entries.iter().enumerate() {
        let bytes = estimated_bytes(entry);
        if cutter.must_cut_before(bytes) {
            stretches.push(&entries[start..place]);
            start = place;
            cutter.reset();
        }
        if cutter.add(entry, bytes) {
            stretches.push(&entries[start..=place]);
            start = place + 1;
            cutter.reset();
        }
    }
    if start < entries.len() {
        stretches.push(&entries[start..]);
    }
    stretches
}

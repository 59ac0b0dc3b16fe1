//! The listing of a component: maps, segments, and its line in the index.

use crate::archive::seal_manifest;
use crate::durable::crash;
use crate::model::entry::MAP_RANGE;
use crate::model::index::IndexComponent;
use crate::model::manifest::{ArchiveInfo, ArchiveTable, Map, Undescribed};
use crate::model::record::ObjectRef;
use crate::model::{Extent, MapRef, ObjectId, ObjectKind};
use crate::ops::backup::build::Build;
use crate::ops::backup::listing::Piece;
use crate::ops::backup::packer::PackRun;
use crate::ops::backup::reuse::Saved;
use crate::ops::backup::shelf::{Shelf, Shelved};
use crate::ops::error::{Class, Doing, OpError, Result};
use std::collections::HashSet;

/// A component whose objects are in the store or on their way there.
pub(super) struct Stored {
    pub(super) index: IndexComponent,
    pub(super) setup: String,
    pub(super) archives: Vec<ObjectRef>,
    pub(super) manifests: Vec<ObjectRef>,
    /// Those that were there before.
    pub(super) reused: HashSet<ObjectId>,
    /// What is to be remembered of it; nothing when it is so incomplete that what is known already serves better.
    pub(super) saved: Option<Saved>,
    pub(super) problems: Vec<crate::model::Problem>,
}

/// Lets a manifest object be put and gives its name and size.
pub(super) fn put_manifest(run: &PackRun<'_>, content: &[u8]) -> Result<ObjectRef> {
    let sealed = seal_manifest(content, run.recipients);
    let (id, bytes) = sealed.doing(Class::Failed, || "cannot seal a listing".into())?;
    crash::point("pack: listing sealed");
    let size = bytes.len() as u64;
    run.uploads.manifest(id, bytes)?;
    Ok(ObjectRef { kind: ObjectKind::Manifest, size, id, recipients: 0 })
}

/// Ends a component's archives and writes its listing.
pub(super) fn store_component(build: Build<'_>) -> Result<Stored> {
    let Build { name, packer, listing, old, .. } = build;
    let sums = listing.sums();
    let run = packer.run.clone();
    let infos = packer.finish()?;
    let mut shelf = Shelf::new(&run, &name, old, infos, build.alone);
    for piece in listing.finish() {
        match piece {
            Piece::Whole(whole) => shelf.whole(&whole)?,
            Piece::Items(items) => shelf.items(items)?,
            Piece::Folded(folded) => {
                let items = folded.unfold();
                shelf.items(items.ok_or_else(|| internal("entries that waited do not come back"))?)?;
            }
        }
    }
    let Shelved { segments, archives, manifests, reused, mut saved } = shelf.finish()?;
    saved.number = build.number;
    saved.full = build.full;
    let saved = (build.complete || !old.serves_better_than(&sums)).then_some(saved);
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
        entries: sums.entries,
        files: sums.files,
        dirs: sums.dirs,
        size: sums.size,
        alone: build.alone,
        segments,
        archives: archives.iter().map(|a| a.id).collect(),
        unreadable: build.unreadable_count,
        rules: build.rules,
    };
    let setup = build.setup;
    Ok(Stored { index, setup, archives, manifests, reused, saved, problems: build.problems })
}

pub(super) fn archive_ref(info: &ArchiveInfo) -> ObjectRef {
    ObjectRef { kind: ObjectKind::Archive, size: info.size, id: info.sha256, recipients: 0 }
}

pub(super) fn internal(e: impl std::fmt::Display) -> OpError {
    OpError::new(Class::Failed, format!("cannot write a listing: {e}"))
}

/// A listing that would lead nowhere is not written.
pub(super) fn undescribed(e: Undescribed) -> OpError {
    let hint = match e {
        Undescribed::Frames(_) => {
            "what this machine remembered of it is put away: run it again; it is made anew from earlier listings, or without an identity everything is stored anew"
        }
        Undescribed::Archive(_) => "this is a mistake in backstay; nothing was committed",
    };
    OpError::new(Class::Failed, "cannot write a listing").because(e).hint(hint)
}

/// True when that is why: what this machine remembers of an archive lacks frames, and must not be used again.
pub(super) fn lacks_frames(e: &OpError) -> bool {
    let cause = std::error::Error::source(e).and_then(|cause| cause.downcast_ref::<Undescribed>());
    matches!(cause, Some(Undescribed::Frames(_)))
}

/// Puts the maps of a file's extents, but not those of ranges that have one in `stays`.
pub(super) fn put_maps(
    run: &PackRun<'_>,
    extents: &[Extent],
    table: &ArchiveTable,
    stays: &[MapRef],
    manifests: &mut Vec<ObjectRef>,
) -> Result<Vec<MapRef>> {
    let mut maps = Vec::new();
    for range in extents.chunk_by(|a, b| a.offset / MAP_RANGE == b.offset / MAP_RANGE) {
        let offset = range.first().map_or(0, |e| e.offset / MAP_RANGE * MAP_RANGE);
        if let Some(map) = stays.iter().find(|map| map.offset == offset) {
            maps.push(*map);
            continue;
        }
        let content = Map::encode(range, table).map_err(undescribed)?;
        let object = put_manifest(run, &content)?;
        manifests.push(object);
        maps.push(MapRef { offset, object: object.id, size: object.size });
    }
    Ok(maps)
}

//! Reading what a record leads to: index, segments, maps; each compared with its name and with what led to it.

use crate::archive::{ArchiveError, open_manifest};
use crate::keys::Identities;
use crate::model::index::{Index, IndexComponent, SegmentRef};
use crate::model::manifest::{ArchiveInfo, ManifestError, Map, Segment, Sifted};
use crate::model::record::SnapshotKind;
use crate::model::{Entry, Extent, ObjectId, ObjectKind, Record, RelPath};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::vault::{store_error, too_new};
use crate::store::{Key, Store};

/// A snapshot being read: its record, and what opens it.
pub struct SnapshotReader<'a> {
    /// Where it is read from.
    pub store: &'a dyn Store,
    /// Its record, verified.
    pub record: &'a Record,
    /// What opens it.
    pub identities: &'a Identities,
}

const ELSEWHERE: &str =
    "what is damaged here may be whole in another store, or in an older snapshot (`backstay list`)";

fn damaged(what: String) -> OpError {
    OpError::new(Class::Damage, what).hint(ELSEWHERE).of_a_listing()
}

/// The error of opening a manifest object: damage is the object's own.
fn of_manifest(error: OpError) -> OpError {
    if error.class == Class::Damage { error.of_a_listing() } else { error }
}

/// An archive's error while `what` was being read.
pub fn archive_error(error: ArchiveError, what: String) -> OpError {
    match error {
        ArchiveError::NoIdentity { .. } => OpError::new(Class::NoIdentity, what)
            .because(error)
            .hint("give another identity with -i FILE, or the recovery kit with --kit FILE"),
        _ => OpError::new(Class::Damage, what).because(error).hint(ELSEWHERE),
    }
}

/// The error of a manifest object's content; `what` names the object.
fn content_error(error: ManifestError, what: &str) -> OpError {
    match error {
        ManifestError::TooNew(_) => too_new(what).because(error),
        _ => damaged(format!("{what} is damaged")).because(error),
    }
}

impl SnapshotReader<'_> {
    /// Names a manifest object for people: what it is, and its key.
    fn named(&self, what: &str, id: &ObjectId) -> String {
        format!("{what} of snapshot {} ({})", self.record.snapshot, Key::Manifest(*id))
    }

    /// Reads a manifest object whole, proves it against its name, opens it. `size` is what led to it says, if it says one.
    fn manifest(&self, id: &ObjectId, size: Option<u64>, what: &str) -> Result<Vec<u8>> {
        let of = || format!("{what} of snapshot {}", self.record.snapshot);
        let listed = self.record.object(id).filter(|o| o.kind == ObjectKind::Manifest);
        let listed = listed.filter(|o| size.is_none_or(|size| size == o.size)).ok_or_else(|| {
            damaged(format!("{} is damaged", self.named(what, id)))
                .because("the record lists it otherwise or not")
        })?;
        let key = Key::Manifest(*id);
        let bytes = match self.store.get(&key, listed.size) {
            Ok(bytes) => bytes,
            Err(e) if e.kind == crate::store::StoreErrorKind::NotFound => {
                return Err(damaged(format!("{} is missing: {key}", of())).lost());
            }
            Err(e) => return Err(of_manifest(store_error(e, self.store)).lost()),
        };
        if bytes.len() as u64 != listed.size || ObjectId::of(&bytes) != *id {
            return Err(
                damaged(format!("{} is damaged: {key} does not have the bytes its name says", of())).lost()
            );
        }
        open_manifest(&bytes, self.identities)
            .map_err(|e| of_manifest(archive_error(e, format!("cannot open {}", self.named(what, id)))))
    }

    /// The index, compared with the record.
    pub fn index(&self) -> Result<Index> {
        let id = self.record.index.filter(|_| self.record.kind != SnapshotKind::Partial);
        let id = id.ok_or_else(|| {
            OpError::new(
                Class::NotFound,
                format!("snapshot {} is an interim one and cannot be read", self.record.snapshot),
            )
        })?;
        let bytes = self.manifest(&id, None, "the index")?;
        let what = self.named("the index", &id);
        let index = Index::decode(&bytes).map_err(|e| content_error(e, &what))?;
        self.check_index(&index).map_err(|why| damaged(format!("{what} is damaged")).because(why))?;
        Ok(index)
    }

    fn check_index(&self, index: &Index) -> std::result::Result<(), String> {
        let (record, header) = (self.record, &index.header);
        if header.vault != record.vault || header.snapshot != record.snapshot || header.host != record.host {
            return Err("it belongs to another snapshot".into());
        }
        if index.components.len() != record.components.len() {
            return Err("it has other components than the record".into());
        }
        for (component, line) in index.components.iter().zip(&record.components) {
            let same = component.number == line.number
                && component.size == line.size
                && component.entries == line.entries
                && component.complete == line.complete
                && component.check == line.check;
            if !same {
                return Err(format!(
                    "what it says of component {} is not what the record says",
                    component.name
                ));
            }
            let kept = |id: &ObjectId| record.object(id).is_some_and(|o| o.kind == ObjectKind::Archive);
            if let Some(id) = component.archives.iter().find(|id| !kept(id)) {
                return Err(format!("it refers to archive {id}, which the record does not list"));
            }
        }
        Ok(())
    }

    /// One segment, compared with the index.
    pub fn segment(&self, component: &IndexComponent, reference: &SegmentRef) -> Result<Segment> {
        self.sifted(component, reference, None)
    }

    /// The same with the entries of the paths that are `wanted` alone.
    pub fn segment_of(
        &self,
        component: &IndexComponent,
        reference: &SegmentRef,
        wanted: &dyn Fn(&RelPath) -> bool,
    ) -> Result<Segment> {
        self.sifted(component, reference, Some(wanted))
    }

    fn sifted(
        &self,
        component: &IndexComponent,
        reference: &SegmentRef,
        wanted: Option<&dyn Fn(&RelPath) -> bool>,
    ) -> Result<Segment> {
        let what = format!("a listing of component {}", component.name);
        let bytes = self.manifest(&reference.object, Some(reference.size), &what)?;
        let what = self.named(&what, &reference.object);
        let Sifted { segment, count, ends } =
            Sifted::read(&bytes, wanted).map_err(|e| content_error(e, &what))?;
        let wrong = |why: String| damaged(format!("{what} is damaged")).because(why);
        let meant = |(first, last): &(RelPath, RelPath)| (first, last) == (&reference.first, &reference.last);
        if segment.component != component.name
            || count != reference.entries
            || !ends.as_ref().is_some_and(meant)
        {
            return Err(wrong("it is not the one that the index means".into()));
        }
        self.check_archives(&segment.archives).map_err(wrong)?;
        Ok(segment)
    }

    fn check_archives(&self, archives: &[ArchiveInfo]) -> std::result::Result<(), String> {
        for archive in archives {
            let listed = self.record.object(&archive.sha256);
            if !listed.is_some_and(|o| o.kind == ObjectKind::Archive && o.size == archive.size) {
                return Err(format!(
                    "it refers to archive {}, which the record lists otherwise or not",
                    archive.sha256
                ));
            }
        }
        Ok(())
    }

    /// All extents of a file, from its entry or its maps, and the archives that maps add.
    pub fn extents(
        &self,
        component: &IndexComponent,
        entry: &Entry,
    ) -> Result<(Vec<Extent>, Vec<ArchiveInfo>)> {
        if entry.maps.is_empty() {
            return Ok((entry.extents.clone(), Vec::new()));
        }
        let (mut extents, mut archives) = (Vec::new(), Vec::new());
        for map in &entry.maps {
            let what = format!("a map of {}/{}", component.name, entry.path);
            let bytes = self.manifest(&map.object, Some(map.size), &what)?;
            let what = self.named(&what, &map.object);
            let decoded = Map::decode(&bytes, map.offset, entry.size).map_err(|e| content_error(e, &what))?;
            self.check_archives(&decoded.archives)
                .map_err(|why| damaged(format!("{what} is damaged")).because(why))?;
            extents.extend(decoded.extents);
            archives.extend(decoded.archives);
        }
        Ok((extents, archives))
    }
}

//! Reading from another store what the first one cannot give, proved as strictly.

use crate::archive::ArchiveReader;
use crate::model::manifest::{ArchiveInfo, Frame};
use crate::ops::restore::read::Reading;
use crate::store::{Key, Store};
use std::sync::Arc;

/// An archive opened in several stores.
type Readers = Vec<(Arc<dyn Store>, Arc<ArchiveReader>)>;

/// The same archive in other stores, for what the first one cannot give.
pub(super) struct Spare<'a> {
    reading: &'a Reading<'a>,
    info: &'a ArchiveInfo,
    readers: Option<Readers>,
}

impl<'a> Spare<'a> {
    /// Nothing is opened before it is needed.
    pub(super) fn of(reading: &'a Reading<'a>, info: &'a ArchiveInfo) -> Self {
        Self { reading, info, readers: None }
    }

    /// Which archive.
    pub(super) fn info(&self) -> &'a ArchiveInfo {
        self.info
    }

    fn readers(&mut self) -> &[(Arc<dyn Store>, Arc<ArchiveReader>)] {
        let (reading, info) = (self.reading, self.info);
        self.readers.get_or_insert_with(|| {
            let stores = reading.sources.elsewhere(&Key::Archive(info.sha256), info.size);
            let open =
                |store: Arc<dyn Store>| Some((Arc::clone(&store), reading.open(&store, info).ok()?.ok()?));
            stores.into_iter().filter_map(open).collect()
        })
    }

    /// The archive in another store.
    pub(super) fn reader(&mut self) -> Option<Arc<ArchiveReader>> {
        let (store, reader) = self.readers().first().cloned()?;
        self.tell(&*store);
        Some(reader)
    }

    /// A frame from another store, proved by age and its checksum as in the first.
    pub(super) fn read(&mut self, frame: &[Frame]) -> Option<Vec<Vec<u8>>> {
        let read = |(store, reader): &(Arc<dyn Store>, Arc<ArchiveReader>)| {
            Some((Arc::clone(store), reader.read_frames(frame).ok()?))
        };
        let (store, content) = self.readers().iter().find_map(read)?;
        self.tell(&*store);
        Some(content)
    }

    fn tell(&self, store: &dyn Store) {
        self.reading.sources.tell(&Key::Archive(self.info.sha256), store, "is damaged");
    }
}

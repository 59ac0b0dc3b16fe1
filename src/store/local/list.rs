//! Listing. A folder that cannot be read is an error: whoever deletes must never take a short list for a whole one.

use crate::durable::Dir;
use crate::store::local::LocalStore;
use crate::store::{Key, Listed, Prefix, StoreError};
use rustix::io::Errno;
use std::ffi::OsStr;

/// True for a folder that the format puts objects of `prefix` into.
fn is_folder_of(prefix: Prefix, name: &OsStr) -> bool {
    let hex = |length: usize| {
        let name = name.as_encoded_bytes();
        name.len() == length && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match prefix {
        Prefix::Archives | Prefix::Manifests => hex(2),
        Prefix::Marks => hex(32),
        Prefix::Records | Prefix::Tombstones => false,
    }
}

impl LocalStore {
    pub(super) fn list_all(&self, prefix: Prefix) -> Result<Vec<Listed>, StoreError> {
        let folder = prefix.dir();
        let fail = |e| self.error("list", &folder, e);
        let mut all = Vec::new();
        let dir = match self.root("list")?.child(folder) {
            Ok(dir) => dir,
            Err(e) if e.errno() == Some(Errno::NOENT) => return Ok(all),
            Err(e) => return Err(fail(e)),
        };
        self.listed(&dir, folder, &mut all)?;
        for name in dir.names().map_err(fail)?.iter().filter(|name| is_folder_of(prefix, name)) {
            let below = format!("{folder}/{}", name.display());
            match dir.child(name) {
                Ok(child) => self.listed(&child, &below, &mut all)?,
                Err(e) if e.errno() == Some(Errno::NOENT) => {}
                Err(e) => return Err(self.error("list", &below, e)),
            }
        }
        all.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(all)
    }

    fn listed(&self, dir: &Dir, folder: &str, into: &mut Vec<Listed>) -> Result<(), StoreError> {
        for name in dir.names().map_err(|e| self.error("list", &folder, e))? {
            let key = name.to_str().and_then(|name| Key::parse(&format!("{folder}/{name}")));
            let Some(key) = key else { continue };
            match dir.info(&name) {
                Ok(info) if info.regular => {
                    into.push(Listed { key, size: info.size, modified: info.modified });
                }
                Ok(_) => return Err(self.not_a_file("list", &key)),
                // Deleted between the two looks.
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(self.error("list", &key, e)),
            }
        }
        Ok(())
    }
}

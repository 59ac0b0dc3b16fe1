//! A signed document as its signer wrote it, from a store that has it: as it lies there, or as an older version has it.

use crate::model::ObjectId;
use crate::model::document::DOCUMENT_BYTES_MAX;
use crate::model::id::VaultId;
use crate::ops::vault::parse_entry;
use crate::ops::versions::older_document;
use crate::store::{Key, Store};

/// The bytes of the entry with this hash. What a store gives counts only when it is that entry, signature and all: somebody may have written
/// over it.
pub(super) fn original(store: &dyn Store, key: &Key, hash: &ObjectId, vault: &VaultId) -> Option<Vec<u8>> {
    let present = store.get(key, DOCUMENT_BYTES_MAX).ok().filter(|bytes| is_it(key, bytes, hash, vault));
    present.or_else(|| older_original(store, key, hash, vault))
}

/// The same from older versions alone.
pub(super) fn older_original(
    store: &dyn Store,
    key: &Key,
    hash: &ObjectId,
    vault: &VaultId,
) -> Option<Vec<u8>> {
    let fits = |bytes: &[u8]| is_it(key, bytes, hash, vault).then(|| bytes.to_vec());
    // What is not shown is said where a store is read as a whole.
    older_document(store, key, DOCUMENT_BYTES_MAX, fits).ok().flatten()
}

/// True when `bytes` are the entry with this hash.
pub(super) fn is_it(key: &Key, bytes: &[u8], hash: &ObjectId, vault: &VaultId) -> bool {
    let entry = parse_entry(key, bytes, vault).ok().flatten();
    entry.is_some_and(|entry| entry.hash == *hash)
}

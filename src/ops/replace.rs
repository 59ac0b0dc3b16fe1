//! Putting whole bytes in the place of a document or an instruction that was read and proved wrong.
//!
//! Nothing here decides what is wrong: whoever calls has read it just now, and has the bytes that belong there.

use crate::durable::{NewFile, create_dirs};
use crate::model::ObjectId;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::in_store;
use crate::store::{Key, Store};
use std::io::Write as _;
use std::path::Path;

/// Puts `bytes` in the place of what is damaged, and reads them back. `spool` is where objects for `to` are prepared.
pub(super) fn replace(spool: &Path, to: &dyn Store, key: &Key, bytes: &[u8]) -> Result<()> {
    let cannot = || format!("cannot prepare {key} in {}", spool.display());
    create_dirs(spool, 0o700).doing(Class::Store, cannot)?;
    let id = ObjectId::of(bytes);
    let path = spool.join(format!("{id}.document"));
    let _leftover = std::fs::remove_file(&path);
    let mut file = NewFile::create_in(spool).doing(Class::Store, cannot)?;
    file.write_all(bytes).doing(Class::Store, cannot)?;
    file.finish_new(&path, 0o600).doing(Class::Store, cannot)?;
    in_store(to, to.replace(key, &path, bytes.len() as u64, &id))?;
    let back = in_store(to, to.get(key, bytes.len() as u64))?;
    if back == bytes {
        return Ok(());
    }
    let what = format!("store {:?} did not keep {key} as it was written", to.name());
    Err(OpError::new(Class::Damage, what).hint("check that disk, and its cable and memory"))
}

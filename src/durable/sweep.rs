//! Clearing away what interrupted runs left.

use crate::durable::dir::Dir;
use crate::durable::error::DurableError;
use crate::model::Timestamp;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::ffi::OsStr;

const PREFIX: &str = ".backstay-";
const SUFFIX: &str = ".tmp";

/// The temporary name made of 16 random bytes.
pub(super) fn temp_name(random: [u8; 16]) -> String {
    format!("{PREFIX}{}{SUFFIX}", data_encoding::HEXLOWER.encode(&random))
}

/// True for the names under which unfinished files are written.
pub fn is_temp_name(name: &OsStr) -> bool {
    let inner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    inner.is_some_and(|inner| inner.len() == 32 && inner.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Files removed.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files left because they are young or locked.
    pub kept: u64,
}

/// Removes the regular files in `dir` whose name is `wanted`, that were last changed before `older_than` and that no process has locked.
/// A file that is changed while it lies there stays young; give an age that no step of a run reaches.
pub fn sweep(
    dir: &Dir,
    older_than: Timestamp,
    wanted: &dyn Fn(&OsStr) -> bool,
) -> Result<Swept, DurableError> {
    let mut swept = Swept::default();
    for name in dir.names()?.iter().filter(|name| wanted(name)) {
        let info = match dir.info(name) {
            Ok(info) => info,
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(e),
        };
        if !info.regular {
            continue;
        }
        let old = info.modified.is_some_and(|modified| modified < older_than);
        if !old || is_locked(dir, name)? {
            swept.kept += 1;
        } else if dir.remove(name)? {
            swept.removed += 1;
            swept.bytes += info.size;
        }
    }
    Ok(swept)
}

fn is_locked(dir: &Dir, name: &OsStr) -> Result<bool, DurableError> {
    let file = match dir.open_file(name) {
        Ok(file) => file,
        Err(e) if e.is_not_found() => return Ok(false),
        Err(e) => return Err(e),
    };
    // Any other error: no locks on this file system, so age decides alone.
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    Ok(locked == Err(Errno::WOULDBLOCK))
}

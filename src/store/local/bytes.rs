//! Reading and hashing in steps.

use crate::model::ObjectId;
use ring::digest::{Context, SHA256};
use std::fs::File;
use std::io::{self, Read, Write};

const STEP: usize = 1 << 20;

/// Reads `file` to its end and gives size and SHA-256; `seen` hears how many bytes each step read.
pub(super) fn hash_file(file: &mut File, seen: &mut dyn FnMut(u64)) -> io::Result<(u64, ObjectId)> {
    each_step(file, &mut |bytes| {
        seen(bytes.len() as u64);
        Ok(())
    })
}

/// Copies `from` to its end into `to` and gives the SHA-256 of what was read.
pub(super) fn copy_hashed(from: &mut File, to: &mut dyn Write) -> io::Result<ObjectId> {
    Ok(each_step(from, &mut |bytes| to.write_all(bytes))?.1)
}

fn each_step(file: &mut File, step: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<(u64, ObjectId)> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; STEP];
    let mut size = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        context.update(&buffer[..count]);
        size += count as u64;
        step(&buffer[..count])?;
    }
    Ok((size, ObjectId::of_all(context)))
}

/// Asks the system to read from the medium and not from its cache. Only advice: what another process has mapped stays.
pub(super) fn forget_cached(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(target_vendor = "apple")]
    let _ = rustix::fs::fcntl_nocache(file, true);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    let _ = file;
}

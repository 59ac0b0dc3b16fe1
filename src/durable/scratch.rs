//! Files without a name: gone when the last descriptor is closed, also after a kill.

use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io;
use std::path::Path;

/// A file in `dir` that has no name, readable and writable by its owner alone; where the file system knows no such files, one whose name is removed at
/// once.
pub fn scratch_file(dir: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(CWD, dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => return Ok(File::from(fd)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {}
        Err(e) => return Err(e.into()),
    }
    let random: [u8; 16] = super::random_bytes().map_err(io::Error::other)?;
    let path = dir.join(format!(".backstay-{}", data_encoding::HEXLOWER.encode(&random)));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, &path, flags, mode)?;
    rustix::fs::unlink(&path)?;
    Ok(File::from(fd))
}

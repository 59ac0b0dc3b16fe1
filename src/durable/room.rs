//! Room that is taken while there is some, for what must be written when there is none left.

use crate::durable::crash;
use crate::durable::dir::Dir;
use crate::durable::error::{DurableError, random_bytes};
use crate::durable::parent_of;
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Noise is made in pieces of so many bytes.
const PIECE: usize = 1 << 14;

/// Makes the file `path` (mode 0600) with `length` bytes on the medium. They are noise, of which no file system keeps fewer than there are. One that is
/// there already and is no shorter stays.
///
/// # Errors
/// There is not so much room: then there is no such file.
pub fn reserve(path: &Path, length: u64) -> Result<(), DurableError> {
    if std::fs::metadata(path).is_ok_and(|facts| facts.len() >= length) {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR);
    let fd = crash::around("create", || open().map_err(io::Error::from))
        .map_err(|e| DurableError::io("create", path, e))?;
    fill(File::from(fd), path, length).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

fn fill(mut file: File, path: &Path, length: u64) -> Result<(), DurableError> {
    let mut left = length;
    while left > 0 {
        let noise: [u8; PIECE] = random_bytes()?;
        let piece = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        crash::around("write", || file.write_all(&noise[..piece]))
            .map_err(|e| DurableError::io("write", path, e))?;
        left -= piece as u64;
    }
    // Where blocks are only promised until they are written, they are there from now on.
    crash::around("fsync", || file.sync_all()).map_err(|e| DurableError::io("fsync", path, e))
}

/// Writes `bytes` as `to`, over what is there, as [`replace`](crate::durable::replace) does, but into the bytes that the file `room` has on the medium: that is `to` afterwards. So
/// nothing new is needed of a file system that writes in place, and nobody who is quicker can take it. For state files only.
///
/// # Errors
/// `to` is as it was. What `room` holds is lost.
pub fn replace_in(room: &Path, to: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(CWD, room, flags, Mode::empty()).map_err(|e| DurableError::io("open", room, e))?;
    let mut file = File::from(fd);
    crash::around("write", || file.write_all(bytes)).map_err(|e| DurableError::io("write", room, e))?;
    let length = bytes.len() as u64;
    file.set_len(length).map_err(|e| DurableError::io("shorten", room, e))?;
    crash::around("fsync", || file.sync_all()).map_err(|e| DurableError::io("fsync", room, e))?;
    Dir::open(parent_of(to))?.take_over(room, to.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn what_is_written_into_room_that_was_kept_takes_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (room, to) = (dir.path().join("room"), dir.path().join("to"));
        reserve(&room, 100_000).unwrap();
        let facts = std::fs::metadata(&room).unwrap();
        assert_eq!((facts.len(), facts.mode() & 0o777), (100_000, 0o600));
        assert!(facts.blocks() * 512 >= 100_000, "it has {} blocks", facts.blocks());
        std::fs::write(&to, "before").unwrap();
        replace_in(&room, &to, b"after").unwrap();
        let after = std::fs::metadata(&to).unwrap();
        assert_eq!((after.ino(), after.mode() & 0o777), (facts.ino(), 0o600), "another file was made");
        assert_eq!(std::fs::read(&to).unwrap(), b"after");
        assert!(!room.exists());
        assert!(replace_in(&room, &to, b"again").unwrap_err().is_not_found());
        assert_eq!(std::fs::read(&to).unwrap(), b"after");
    }

    #[test]
    fn room_that_is_there_stays_and_room_that_cannot_be_had_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let room = dir.path().join("room");
        reserve(&room, 10).unwrap();
        let noise = std::fs::read(&room).unwrap();
        reserve(&room, 10).unwrap();
        assert_eq!(std::fs::read(&room).unwrap(), noise);
        reserve(&room, 20_000).unwrap();
        assert_eq!(std::fs::metadata(&room).unwrap().len(), 20_000);
        // 28: no space left on device.
        #[cfg(debug_assertions)]
        {
            crash::fail_call(3, 28);
            assert!(reserve(&room, 30_000).unwrap_err().is_full());
            assert!(!room.exists());
        }
    }
}

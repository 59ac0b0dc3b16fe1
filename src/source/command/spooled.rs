//! Where the output of a command is kept: a file without a name, written through one open file and read through another.
//!
//! What a command leaves running shares the open file that it writes to, and with it the place where the next byte goes. So nobody here moves that: a
//! seek to the beginning would let the next byte of a straggler fall there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file in a directory that nobody else can open and that is gone when it is closed.
pub(super) struct Spooled {
    /// For the command.
    pub(super) write: File,
    /// At offset 0, for reading only.
    pub(super) read: File,
}

impl Spooled {
    /// Makes an empty one in `dir`.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            if let Some(unnamed) = Self::unnamed(dir)? {
                return Ok(unnamed);
            }
        }
        Self::removed(dir)
    }

    /// `None` where the file system, or a system without `/proc`, does not have that.
    #[cfg(target_os = "linux")]
    fn unnamed(dir: &Path) -> io::Result<Option<Self>> {
        use rustix::fs::{Mode, OFlags};
        use rustix::io::Errno;
        use std::os::fd::AsRawFd as _;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let write = match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOTSUP | Errno::ISDIR | Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let again = File::open(format!("/proc/self/fd/{}", write.as_raw_fd()));
        Ok(again.ok().map(|read| Self { write, read }))
    }

    fn removed(dir: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!("command-{}-{number}.tmp", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
                Ok(write) => {
                    let read = File::open(&path);
                    std::fs::remove_file(&path)?;
                    return Ok(Self { write, read: read? });
                }
            }
        }
    }
}

/// What a file was like at some moment: another one later means that somebody wrote to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) size: u64,
    mtime: (i64, i64),
}

impl Written {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self { size: facts.len(), mtime: (facts.mtime(), facts.mtime_nsec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_private_has_no_name_and_reading_does_not_move_who_writes() {
        for make in [Spooled::create, Spooled::removed] {
            let dir = tempfile::tempdir().unwrap();
            let Spooled { mut write, mut read } = make(dir.path()).unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
            assert_eq!(write.metadata().unwrap().permissions().mode() & 0o077, 0);
            write.write_all(b"one").unwrap();
            let before = Written::of(&read).unwrap();
            let mut text = String::new();
            read.read_to_string(&mut text).unwrap();
            write.write_all(b"two").unwrap();
            read.read_to_string(&mut text).unwrap();
            assert_eq!(text, "onetwo");
            assert_ne!(Written::of(&read).unwrap(), before);
            assert!(read.write_all(b"x").is_err());
        }
    }
}

//! Reading what a manifest entry says of a file from the file system: metadata, extended attributes, where data and holes lie.
//!
//! Everything works on open descriptors, or on a name in an open directory; no symbolic link is ever followed here.
#![allow(clippy::unnecessary_cast, reason = "the types in `Stat` differ from system to system")]

use crate::model::entry::{Entry, Kind};
use crate::model::path::escape;
use crate::platform::users::Names;
use rustix::fs::{FileType, SeekFrom, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What tells whether a file is still the one that was captured before: equal in all five, it has not been written to (two writes within
/// one tick of the clock aside).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ident {
    /// Device it is on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Time of the last change of content or metadata.
    pub ctime: (i64, u32),
}

impl Ident {
    /// The identity in `stat`.
    pub fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        }
    }
}

/// What kind of entry `stat` is of; `None` for what no system has yet.
pub fn kind_of(stat: &Stat) -> Option<Kind> {
    Some(match FileType::from_raw_mode(stat.st_mode as _) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        FileType::Socket => Kind::Socket,
        FileType::Unknown => return None,
    })
}

/// Puts what `stat` says into `entry`, whose kind is that of `stat`: mode, owner, time, size, device numbers.
pub fn fill(entry: &mut Entry, stat: &Stat, names: &Names) {
    let ident = Ident::of(stat);
    entry.mode = stat.st_mode as u32 & 0o7777;
    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
    (entry.user, entry.group) = (names.user(stat.st_uid), names.group(stat.st_gid));
    entry.mtime = ident.mtime;
    entry.size = if entry.kind == Kind::File { ident.size } else { 0 };
    let device = matches!(entry.kind, Kind::Char | Kind::Block);
    entry.dev = device.then(|| (rustix::fs::major(stat.st_rdev as _), rustix::fs::minor(stat.st_rdev as _)));
}

/// Extended attributes, and what could not be had of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Xattrs {
    /// By name.
    pub values: BTreeMap<String, Vec<u8>>,
    /// One fragment for each that is not in `values`: its name (escaped) and why.
    pub lost: Vec<String>,
}

/// The extended attributes of an open file or directory. A file system without them has none.
pub fn xattrs_of(fd: impl AsFd) -> io::Result<Xattrs> {
    let fd = fd.as_fd();
    let list = |buf: &mut [u8]| rustix::fs::flistxattr(fd, buf);
    read_xattrs(list, |name, buf| rustix::fs::fgetxattr(fd, name, buf))
}

/// The extended attributes of `name` in `dir`, of a symbolic link itself or of something that must not be opened. Needs `/proc`, because
/// older kernels have no call for it; without `/proc` the error is [`io::ErrorKind::NotFound`].
pub fn xattrs_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Xattrs> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    xattrs_of_path(Path::new(OsStr::from_bytes(&path)))
}

/// The extended attributes of what lies at `path`, of a symbolic link itself. Nothing is opened: whoever closes a descriptor of a SQLite database drops
/// all locks that his process has on it.
pub fn xattrs_of_path(path: &Path) -> io::Result<Xattrs> {
    let list = |buf: &mut [u8]| rustix::fs::llistxattr(path, buf);
    read_xattrs(list, |name, buf| rustix::fs::lgetxattr(path, name, buf))
}

fn read_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let mut found = Xattrs::default();
    let names = match grown(list) {
        Ok(names) => names,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(found),
        Err(e) => return Err(e.into()),
    };
    for name in names.split_inclusive(|&b| b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let mut lost = |why: &str| {
            found.lost.push(format!("attribute {} {why}", escape(name.to_bytes())));
        };
        let Ok(text) = name.to_str() else {
            lost("is left out, because its name is not UTF-8");
            continue;
        };
        match grown(|buf| get(name, buf)) {
            Ok(value) => {
                found.values.insert(text.to_owned(), value);
            }
            Err(Errno::NODATA) => {} // removed since it was listed
            Err(e) => lost(&format!("cannot be read: {}", io::Error::from(e))),
        }
    }
    Ok(found)
}

/// What `read` puts into a buffer that is large enough; it says `ERANGE` while it is not.
fn grown(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 512];
    match read(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    // The kernel's own limit for a value and for a list of names.
    let mut large = vec![0; 64 << 10];
    let length = read(&mut large)?;
    large.truncate(length);
    large.shrink_to_fit();
    Ok(large)
}

/// How many bytes of a regular file there are to read, holes left out: what it takes on its disk, at most its size.
pub fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512).min(Ident::of(stat).size)
}

/// Where the data of an open regular file lie: `(offset, length)`, by offset, apart, within `stat`'s size. A file without holes has one range, an
/// empty one none. The offset of `fd`, which must be 0, is 0 again afterwards.
pub fn data_ranges(fd: BorrowedFd<'_>, stat: &Stat) -> io::Result<Vec<(u64, u64)>> {
    let size = Ident::of(stat).size;
    if size == 0 {
        return Ok(Vec::new());
    }
    if allocated(stat) >= size {
        return Ok(vec![(0, size)]);
    }
    let ranges = match holes_skipped(fd, size) {
        // The file system cannot tell.
        Err(Errno::INVAL | Errno::NOTSUP) => vec![(0, size)],
        other => other?,
    };
    rustix::fs::seek(fd, SeekFrom::Start(0))?;
    Ok(ranges)
}

fn holes_skipped(fd: BorrowedFd<'_>, size: u64) -> rustix::io::Result<Vec<(u64, u64)>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(fd, SeekFrom::Data(at)) {
            Ok(start) => start.max(at),
            Err(Errno::NXIO) => break, // only a hole follows
            Err(e) => return Err(e),
        };
        if start >= size {
            break;
        }
        let end = match rustix::fs::seek(fd, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => size, // cut shorter meanwhile: the reader will notice
            Err(e) => return Err(e),
        };
        if end <= start {
            break;
        }
        ranges.push((start, end - start));
        at = end;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RelPath;
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::{FileExt, PermissionsExt};

    #[test]
    fn metadata_of_a_file_is_what_was_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"12345").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4751)).unwrap();
        let file = File::open(&path).unwrap();
        let before_1970 = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_millis(1500);
        OpenOptions::new().write(true).open(&path).unwrap().set_modified(before_1970).unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let mut entry = Entry::new(RelPath::new(b"f").unwrap(), kind_of(&stat).unwrap());
        fill(&mut entry, &stat, &Names::default());
        assert_eq!((entry.kind, entry.mode, entry.size), (Kind::File, 0o4751, 5));
        assert_eq!(entry.mtime, (-2, 500_000_000));
        assert_eq!(entry.uid, rustix::process::geteuid().as_raw());
        assert_eq!(entry.dev, None);
    }

    #[test]
    fn attributes_of_a_file_and_of_a_link_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = File::create(&path).unwrap();
        let large = vec![7; 3000];
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::fsetxattr(&file, "user.small", b"x", flags).is_err() {
            crate::not_run(&format!("no extended attributes on {}", dir.path().display()));
            return;
        }
        rustix::fs::fsetxattr(&file, "user.large", &large, flags).unwrap();
        rustix::fs::fsetxattr(&file, b"user.\xff".as_slice(), b"x", flags).unwrap();
        let found = xattrs_of(&file).unwrap();
        assert_eq!(found.values["user.small"], b"x");
        assert_eq!(found.values["user.large"], large);
        assert_eq!(found.lost.len(), 1);
        assert!(found.lost[0].contains("user.\\xff"), "{:?}", found.lost);
        std::os::unix::fs::symlink("f", dir.path().join("link")).unwrap();
        let dir = File::open(dir.path()).unwrap();
        assert!(!xattrs_at(dir.as_fd(), c"link").unwrap().values.contains_key("user.small"));
        assert_eq!(xattrs_at(dir.as_fd(), c"f").unwrap(), found);
    }

    #[test]
    fn a_terabyte_of_holes_is_a_few_ranges() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 70_000], 10 << 20).unwrap();
        file.write_all_at(&[1; 10], 1 << 39).unwrap();
        file.set_len(1 << 40).unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let ranges = data_ranges(file.as_fd(), &stat).unwrap();
        let covers = |at: u64| ranges.iter().any(|&(o, l)| o <= at && at < o + l);
        assert!(covers(10 << 20) && covers((10 << 20) + 69_999) && covers((1 << 39) + 9));
        let total: u64 = ranges.iter().map(|r| r.1).sum();
        assert!(total < 1 << 20, "{ranges:?}");
        assert!(ranges.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
    }

    #[test]
    fn empty_all_hole_and_full_files_have_none_none_and_one_range() {
        let file = tempfile::tempfile().unwrap();
        let ranges = |f: &File| data_ranges(f.as_fd(), &rustix::fs::fstat(f).unwrap()).unwrap();
        assert_eq!(ranges(&file), []);
        file.set_len(1 << 20).unwrap();
        assert_eq!(ranges(&file), []);
        file.write_all_at(&[1; 1 << 20], 0).unwrap();
        assert_eq!(ranges(&file), [(0, 1 << 20)]);
    }
}

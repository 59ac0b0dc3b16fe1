//! What file systems keep of a file's changes.

use std::os::fd::AsFd;
use std::path::Path;

/// Magic numbers of file systems whose change times (ctime) move with every write and with every change of metadata: ext2 to 4, XFS, Btrfs, ZFS, tmpfs,
/// overlayfs, F2FS, bcachefs.
#[cfg(target_os = "linux")]
const KNOWN: [u64; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0xca45_1a4e];

#[cfg(target_os = "linux")]
fn known(found: rustix::io::Result<rustix::fs::StatFs>) -> bool {
    found.is_ok_and(|found| KNOWN.contains(&((found.f_type as u64) & 0xffff_ffff)))
}

/// True when the file system of an open file is known to keep change times. Others may be right, too, and are not believed.
#[cfg(target_os = "linux")]
pub fn keeps_change_times(file: impl AsFd) -> bool {
    known(rustix::fs::fstatfs(file))
}

/// The same of what lies at `path`.
#[cfg(target_os = "linux")]
pub fn keeps_change_times_at(path: &Path) -> bool {
    known(rustix::fs::statfs(path))
}

/// APFS and HFS+ do; others are rare here.
#[cfg(not(target_os = "linux"))]
pub fn keeps_change_times(_: impl AsFd) -> bool {
    true
}

/// The same of what lies at a path.
#[cfg(not(target_os = "linux"))]
pub fn keeps_change_times_at(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn proc_is_not_believed() {
        assert!(!keeps_change_times_at(Path::new("/proc/self")));
        assert!(!keeps_change_times_at(Path::new("/nothing/here")));
    }
}

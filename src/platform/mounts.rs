//! What is mounted where.

use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The places below `dir` (not itself) on which something is mounted, in the order of their paths.
///
/// # Errors
/// `dir` is not there, or this system does not tell.
pub fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = dir.canonicalize()?;
    let listed = std::fs::read("/proc/self/mountinfo")?;
    let below = |place: &PathBuf| place.starts_with(&dir) && *place != dir;
    let mut places: Vec<PathBuf> = listed.split(|b| *b == b'\n').filter_map(place).filter(below).collect();
    places.sort();
    places.dedup();
    Ok(places)
}

/// The fifth field of a line, in which blanks and the like are written as octal numbers.
fn place(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|b| *b == b' ').nth(4)?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| more.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_with_their_blanks() {
        let line = b"36 35 98:0 /mnt1 /mnt\\040a/\\134b rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(place(line), Some("/mnt a/\\b".into()));
        assert_eq!(place(b""), None);
        let below = mounts_below(Path::new("/")).unwrap();
        assert!(below.contains(&PathBuf::from("/proc")), "{below:?}");
        assert!(!mounts_below(Path::new("/proc")).unwrap().contains(&PathBuf::from("/proc")));
    }
}

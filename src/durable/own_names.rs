//! The names of what this program leaves beside other people's files: copies of what a restore replaced, and what killed runs did not finish.
//!
//! A scan leaves them out and a restore clears some of them away, so each must be told from a name that a person chose: whole, never by a
//! beginning alone.

use crate::durable::sweep::is_temp_name;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Between the name of a file that a restore in place replaced and the time of that.
pub const BEFORE_RESTORE: &[u8] = b".before-restore-";
/// Between the name that something is to have and random characters, until it is finished.
pub const PARTIAL: &[u8] = b".backstay-partial-";
/// Before the random digits of the hidden folder in which a restore in place prepares files.
pub const STAGING: &[u8] = b".backstay-restore-";

/// Before the random digits of the folder in which a rollback keeps what is not live.
pub const ROLLBACK: &[u8] = b".backstay-rollback-";

/// The name under which `name` is kept when something takes its place at the time `stamp`, short enough for a number behind it.
pub fn kept_as(name: &[u8], stamp: &str) -> Vec<u8> {
    let suffix = [BEFORE_RESTORE, stamp.as_bytes()].concat();
    let room = 255usize.saturating_sub(suffix.len() + 6);
    [&name[..name.len().min(room)], &suffix].concat()
}

/// What a restore in place kept: `NAME.before-restore-20261117T103000Z`, perhaps with a number behind.
pub fn is_kept(name: &[u8]) -> bool {
    let Some((_, time)) = split_last(name, BEFORE_RESTORE) else {
        return false;
    };
    let Some((time, number)) = time.split_at_checked(16) else {
        return false;
    };
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let is_time = digits(&time[..8]) && time[8] == b'T' && digits(&time[9..15]) && time[15] == b'Z';
    is_time && (number.is_empty() || number.strip_prefix(b"-").is_some_and(digits))
}

/// Something unfinished: `.NAME.backstay-partial-` and 16 characters of base32.
pub fn is_partial(name: &[u8]) -> bool {
    let is_random =
        |part: &[u8]| part.len() == 16 && part.iter().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
    name.starts_with(b".") && split_last(name, PARTIAL).is_some_and(|(_, random)| is_random(random))
}

/// The hidden folder of a restore in place: `.backstay-restore-` and 12 hexadecimal digits.
pub fn is_staging(name: &[u8]) -> bool {
    name.strip_prefix(STAGING).is_some_and(is_hidden_number)
}

/// The folder in which a rollback keeps what is not live: `.backstay-rollback-` and 12 hexadecimal digits. It may hold the only copy of something:
/// nothing that clears litter away may take it for that.
pub fn is_rollback(name: &[u8]) -> bool {
    name.strip_prefix(ROLLBACK).is_some_and(is_hidden_number)
}

fn is_hidden_number(part: &[u8]) -> bool {
    part.len() == 12 && part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// True for every name of these kinds: nothing that a snapshot is to hold.
pub fn is_own(name: &[u8], is_dir: bool) -> bool {
    is_kept(name)
        || is_partial(name)
        || if is_dir { is_staging(name) || is_rollback(name) } else { is_temp_name(OsStr::from_bytes(name)) }
}

fn split_last<'n>(name: &'n [u8], mark: &[u8]) -> Option<(&'n [u8], &'n [u8])> {
    let at = name.windows(mark.len()).rposition(|window| window == mark)?;
    Some((&name[..at], &name[at + mark.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_told_from_names_that_people_choose() {
        let own: [(&str, bool); 8] = [
            ("main.py.before-restore-20261117T103000Z", false),
            ("main.py.before-restore-20261117T103000Z-2", false),
            ("a.before-restore-x.before-restore-20261117T103000Z", false),
            ("folder.before-restore-20261117T103000Z-17", true),
            (".main.py.backstay-partial-abcdefgh234567ab", false),
            (".place.backstay-partial-abcdefgh234567ab", true),
            (".backstay-restore-0123456789ab", true),
            (".backstay-0123456789abcdef0123456789abcdef.tmp", false),
        ];
        for (name, is_dir) in own {
            assert!(is_own(name.as_bytes(), is_dir), "{name}");
        }
        let theirs: [(&str, bool); 13] = [
            ("main.py", false),
            ("notes.before-restore", false),
            ("notes.before-restore-", false),
            ("notes.before-restore-monday", false),
            ("notes.before-restore-20261117", false),
            ("notes.before-restore-20261117T103000Z-", false),
            ("notes.before-restore-20261117T103000Z.txt", false),
            ("main.py.backstay-partial-abcdefgh234567ab", false),
            (".main.py.backstay-partial-abcdefgh234567a", false),
            (".main.py.backstay-partial-ABCDEFGH234567AB", false),
            (".backstay-restore-0123456789ab", false),
            (".backstay-restore-mine", true),
            (".backstay-mine.tmp", false),
        ];
        for (name, is_dir) in theirs {
            assert!(!is_own(name.as_bytes(), is_dir), "{name}");
        }
    }
}

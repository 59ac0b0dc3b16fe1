//! The 512-byte header block, read strictly.

use super::BLOCK;
use crate::archive::error::Damage;

/// A ustar header block that passed its own checks.
pub(super) struct Ustar {
    pub(super) kind: u8,
    /// Prefix and name together.
    pub(super) path: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) target: Vec<u8>,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
    pub(super) dev: (u32, u32),
}

impl Ustar {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, Damage> {
        if octal(&block[148..156]) != Some(checksum(block)) {
            return Err("the checksum of a tar header is wrong".into());
        }
        if &block[257..265] != b"ustar\x0000" || block[500..].iter().any(|&b| b != 0) {
            return Err("a tar header is not ustar".into());
        }
        let text = |range: std::ops::Range<usize>| {
            terminated(&block[range]).ok_or_else(|| Damage::from("a tar header has bytes behind a NUL"))
        };
        let number = |range: std::ops::Range<usize>| {
            octal(&block[range]).ok_or_else(|| Damage::from("a number in a tar header is not octal"))
        };
        // The numbers of a device may be left empty where there is no device.
        let device = |range: std::ops::Range<usize>| match block[range.clone()].iter().all(|&b| b == 0) {
            true => Ok(0),
            false => number(range),
        };
        let (name, prefix) = (text(0..100)?, text(345..500)?);
        let path = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
        let mode = number(100..108)?;
        if mode > 0o7777 {
            return Err("a tar header has mode bits that there are not".into());
        }
        Ok(Self {
            kind: block[156],
            path,
            mode: mode as u32,
            uid: number(108..116)?,
            gid: number(116..124)?,
            size: number(124..136)?,
            mtime: number(136..148)?,
            target: text(157..257)?.to_vec(),
            user: text(265..297)?.to_vec(),
            group: text(297..329)?.to_vec(),
            dev: (device(329..337)? as u32, device(337..345)? as u32),
        })
    }
}

/// The sum of the block's bytes, with blanks for the checksum.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&b| u64::from(b)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

/// A field up to its first NUL, if nothing but NULs follows.
fn terminated(field: &[u8]) -> Option<&[u8]> {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    field[end..].iter().all(|&b| b == 0).then_some(&field[..end])
}

/// Octal digits, then at least one NUL or blank, nothing else. Never the binary numbers of GNU tar: what they say pax says.
fn octal(field: &[u8]) -> Option<u64> {
    let end = field.iter().position(|b| !(b'0'..=b'7').contains(b))?;
    let ended = field[end..].iter().all(|&b| b == 0 || b == b' ');
    (ended && end > 0).then(|| field[..end].iter().fold(0, |n, &b| n * 8 + u64::from(b - b'0')))
}

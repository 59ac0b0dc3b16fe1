//! Paths inside a component: bytes, relative, without a way out.

use std::cmp::Ordering;
use std::fmt;

/// Why a path may not stand in a manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{} is not a path inside a component: {why}", escape(path))]
pub struct BadPath {
    path: Vec<u8>,
    why: &'static str,
}

/// A path relative to a component's root: `.` alone, or parts separated by `/`, none of them empty, `.` or `..`, no NUL.
///
/// Ordered in *walk order*: byte by byte with `/` below every other byte, `.` (the root) first. So a directory
/// comes directly before everything in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Box<[u8]>);

/// Longest path that a reader accepts, in bytes.
pub const PATH_BYTES_MAX: usize = 65_535;
/// Most parts of a path that a reader accepts.
pub const PATH_PARTS_MAX: usize = 4096;

impl RelPath {
    /// The root.
    pub fn root() -> Self {
        Self(Box::from(&b"."[..]))
    }

    /// Checks `bytes` and makes a path of them.
    pub fn new(bytes: &[u8]) -> Result<Self, BadPath> {
        match Self::why_not(bytes) {
            None => Ok(Self(bytes.into())),
            Some(why) => Err(BadPath { path: bytes.to_vec(), why }),
        }
    }

    fn why_not(bytes: &[u8]) -> Option<&'static str> {
        if bytes == b"." {
            return None;
        }
        if bytes.is_empty() {
            return Some("it is empty");
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Some("it is too long");
        }
        if bytes.split(|&b| b == b'/').count() > PATH_PARTS_MAX {
            return Some("it has too many parts");
        }
        if bytes.contains(&0) {
            return Some("it holds a NUL byte");
        }
        let parts = bytes.split(|&b| b == b'/');
        parts.into_iter().find_map(|part| match part {
            b"" => Some("a part of it is empty, or it is absolute"),
            b"." => Some("it has a part \".\""),
            b".." => Some("it has a part \"..\""),
            _ => None,
        })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for `.`.
    pub fn is_root(&self) -> bool {
        &*self.0 == b"."
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &[u8]) -> Result<Self, BadPath> {
        if self.is_root() {
            return Self::new(name);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(&bytes)
    }

    /// The directory this lies in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => Some(Self(self.0[..slash].into())),
            None => Some(Self::root()),
        }
    }

    /// The last part.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }

    /// The parts; none for the root.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let bytes: &[u8] = if self.is_root() { b"" } else { &self.0 };
        bytes.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// True when this is `top` or lies below it.
    pub fn is_within(&self, top: &Self) -> bool {
        if top.is_root() {
            return true;
        }
        let rest = self.0.strip_prefix(&*top.0);
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

/// Compares the bytes of two paths in walk order (see [`RelPath`]).
pub fn walk_order(one: &[u8], other: &[u8]) -> Ordering {
    if one == b"." || other == b"." {
        return (other == b".").cmp(&(one == b"."));
    }
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let low = |b: &u8| if *b == b'/' { 0 } else { *b };
    one[same..].first().map(low).cmp(&other[same..].first().map(low))
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        walk_order(&self.0, &other.0)
    }
}
impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `bytes` as one line of printable text: control characters, backslashes and what is not UTF-8 are escaped, so that no file name
/// can write to a terminal.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_reordering(c) || c == '\\' {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// Characters that make a terminal show text in another order than it is in.
fn is_reordering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}
impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn no_path_leads_out() {
        for wrong in ["", "/", "/etc", "a//b", "a/", "..", "a/../b", "./a", "a/.", "a\0b"] {
            assert!(RelPath::new(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        for right in [".", "a", "...", "a/...b/..c", "a b", "-x"] {
            assert!(RelPath::new(right.as_bytes()).is_ok(), "{right:?}");
        }
    }

    #[test]
    fn walk_order_puts_a_directory_before_its_content_and_both_before_its_neighbours() {
        let mut paths = [p("a.b"), p("a/z"), p("b"), p("a"), p("a-"), p("."), p("a/b/c"), p("!")];
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(sorted, [".", "!", "a", "a/b/c", "a/z", "a-", "a.b", "b"]);
    }

    #[test]
    fn within_means_at_or_below() {
        assert!(p("a/b").is_within(&p("a")));
        assert!(p("a").is_within(&p("a")));
        assert!(!p("ab").is_within(&p("a")));
        assert!(p("a").is_within(&RelPath::root()));
    }

    #[test]
    fn escaped_names_cannot_write_to_a_terminal() {
        let text = escape(b"a\x1b[2J\n\xff\xe2\x80\xaeb\\");
        assert_eq!(text, "a\\u{1b}[2J\\n\\xff\\u{202e}b\\\\");
    }
}

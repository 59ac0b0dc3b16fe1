//! What lies in a folder, looked at without any of the program's own code, and the comparison of two such looks.
//!
//! Content is compared by its blocks that are not all zeros, so that a hole and zeros are the same content; that a hole stays a hole is
//! compared beside. Everything is reached through open directories: paths may be longer than the system takes at once.

use ring::digest::{Context, SHA256};
use rustix::fs::{SeekFrom, seek};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const BLOCK: usize = 4096;
const STEP: usize = 64 * BLOCK;

/// What is known of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Facts {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) size: u64,
    pub(crate) device: u64,
    pub(crate) content: String,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// All names of its inode in this tree, its own included; empty when it has one.
    pub(crate) names: Vec<Vec<u8>>,
    /// Stretches that are not holes.
    pub(crate) data: Vec<(u64, u64)>,
    /// Of 512 bytes each.
    pub(crate) blocks: u64,
}

/// Paths from the top of a tree; the top itself is the empty path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Facts>;

/// Looks at everything below `top`, and `top` itself.
pub(crate) fn look(top: &Path) -> Tree {
    let mut looking = Looking::default();
    looking.thing(top, Vec::new());
    for names in looking.inodes.into_values().filter(|n| n.len() > 1) {
        for name in &names {
            looking.tree.get_mut(name).unwrap().names.clone_from(&names);
        }
    }
    looking.tree
}

#[derive(Default)]
struct Looking {
    tree: Tree,
    inodes: BTreeMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Looking {
    fn thing(&mut self, place: &Path, path: Vec<u8>) {
        let meta =
            fs::symlink_metadata(place).unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(&path)));
        let facts = facts(place, &meta);
        if facts.kind == "dir" {
            self.children(place, &path);
        } else if meta.nlink() > 1 {
            let inode = (meta.dev(), meta.ino());
            self.inodes.entry(inode).or_default().push(path.clone());
        }
        self.tree.insert(path, facts);
    }

    fn children(&mut self, place: &Path, path: &[u8]) {
        let dir = File::open(place).unwrap();
        let mut names: Vec<OsString> = fs::read_dir(place).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            self.thing(&through(&dir, &name), join(path, name.as_bytes()));
        }
    }
}

/// A short path to `name` in an open directory.
pub(crate) fn through(dir: &File, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
}

fn facts(place: &Path, meta: &Metadata) -> Facts {
    let file_type = meta.file_type();
    let kind = match () {
        () if file_type.is_file() => "file",
        () if file_type.is_dir() => "dir",
        () if file_type.is_symlink() => "symlink",
        () if file_type.is_fifo() => "fifo",
        () if file_type.is_char_device() => "char",
        () if file_type.is_block_device() => "block",
        () => "socket",
    };
    let mut facts = Facts {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        xattrs: xattrs(place),
        blocks: meta.blocks(),
        ..Facts::default()
    };
    match kind {
        "symlink" => facts.target = Some(fs::read_link(place).unwrap().into_os_string().into_vec()),
        "char" | "block" => facts.device = meta.rdev(),
        "file" => {
            let file = File::open(place).unwrap();
            facts.size = meta.len();
            facts.data = data(&file, meta.len());
            facts.content = content(&file, &facts.data);
        }
        _ => {}
    }
    facts
}

fn xattrs(place: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(place, &mut list) else {
        return BTreeMap::new();
    };
    let names = list[..length].split(|b| *b == 0);
    let kept = names.filter(|n| !n.is_empty() && *n != b"security.selinux");
    kept.map(|name| {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(place, name, &mut value).unwrap();
        (name.to_vec(), value[..length].to_vec())
    })
    .collect()
}

/// The stretches of `file` that are not holes.
pub(crate) fn data(file: &File, size: u64) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < size {
        let Ok(start) = seek(file, SeekFrom::Data(at)) else {
            break;
        };
        let end = seek(file, SeekFrom::Hole(start)).unwrap().min(size);
        found.push((start, end));
        at = end;
    }
    found
}

fn content(file: &File, ranges: &[(u64, u64)]) -> String {
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; STEP];
    for &(start, end) in ranges {
        let mut at = start - start % BLOCK as u64;
        while at < end {
            let mut filled = 0;
            while filled < STEP {
                match file.read_at(&mut buffer[filled..], at + filled as u64).unwrap() {
                    0 => break,
                    n => filled += n,
                }
            }
            for (n, block) in buffer[..filled].chunks(BLOCK).enumerate() {
                let offset = at + (n * BLOCK) as u64;
                if offset < end && block.iter().any(|b| *b != 0) {
                    hash.update(&offset.to_le_bytes());
                    hash.update(block);
                }
            }
            at += STEP as u64;
        }
    }
    data_encoding::HEXLOWER.encode(hash.finish().as_ref())
}

/// Every difference, as a line; empty when `found` is `expected` come back.
pub(crate) fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for path in expected.keys().filter(|p| !found.contains_key(*p)) {
        lines.push(format!("missing: {}", path.escape_ascii()));
    }
    for path in found.keys().filter(|p| !expected.contains_key(*p)) {
        lines.push(format!("too much: {}", path.escape_ascii()));
    }
    for (path, want) in expected {
        let Some(have) = found.get(path) else {
            continue;
        };
        let mut what = String::new();
        difference(want, have, &mut what);
        if !what.is_empty() {
            lines.push(format!("{}:{what}", path.escape_ascii()));
        }
    }
    lines
}

fn difference(want: &Facts, have: &Facts, what: &mut String) {
    if want.kind != have.kind {
        write!(what, " is a {}, not a {}", have.kind, want.kind).unwrap();
        return;
    }
    if want.mode != have.mode && want.kind != "symlink" {
        write!(what, " mode {:o}, not {:o}", have.mode, want.mode).unwrap();
    }
    let mut compare = |name: &str, same: bool, have: String, want: String| {
        if !same {
            write!(what, " {name} {have}, not {want};").unwrap();
        }
    };
    macro_rules! same {
        ($($field:ident),*) => {
            $(compare(
                stringify!($field),
                want.$field == have.$field,
                format!("{:?}", have.$field),
                format!("{:?}", want.$field),
            );)*
        };
    }
    same!(owner, mtime, size, device, content, target, xattrs, names);
    if !holes_kept(want, have) {
        let text = format!(
            " holes are filled: {:?} ({} blocks), not {:?} ({} blocks)",
            have.data, have.blocks, want.data, want.blocks
        );
        what.push_str(&text);
    }
}

/// Nothing is allocated (but to the end of a block) that was a hole before. Holes that save nothing need not be kept: a small file with
/// attributes in a block of their own has as much allocated as it is long.
fn holes_kept(want: &Facts, have: &Facts) -> bool {
    let block = BLOCK as u64;
    if want.blocks * 512 >= want.size {
        return have.blocks <= want.blocks + 16;
    }
    let inside = |&(start, end): &(u64, u64)| {
        let mut at = start;
        for &(from, to) in &want.data {
            if at >= from - from % block && at < to.next_multiple_of(block) {
                at = to.next_multiple_of(block);
            }
        }
        at >= end
    };
    have.data.iter().all(inside) && have.blocks <= want.blocks + want.blocks / 10 + 64
}

/// Panics with all differences.
pub(crate) fn assert_same(expected: &Tree, found: &Tree) {
    let lines = differences(expected, found);
    assert!(
        lines.is_empty(),
        "the trees differ in {} places:\n{}",
        lines.len(),
        lines[..lines.len().min(40)].join("\n")
    );
}

/// What can come back: sockets never do.
pub(crate) fn restorable(mut tree: Tree) -> Tree {
    tree.retain(|_, facts| facts.kind != "socket");
    tree
}

/// The part of `tree` below `path`, as a tree of its own.
pub(crate) fn below(tree: &Tree, path: &[u8]) -> Tree {
    let strip = |full: &[u8]| {
        let rest = full.strip_prefix(path)?;
        match rest.first() {
            None => Some(Vec::new()),
            Some(b'/') => Some(rest[1..].to_vec()),
            Some(_) if path.is_empty() => Some(rest.to_vec()),
            Some(_) => None,
        }
    };
    let inside = tree.iter().filter_map(|(full, facts)| {
        let mut facts = facts.clone();
        facts.names = facts.names.iter().filter_map(|n| strip(n)).collect();
        if facts.names.len() < 2 {
            facts.names.clear();
        }
        Some((strip(full)?, facts))
    });
    inside.collect()
}

/// Copies the folder `from` with everything that is known of it, in the place of what is at `to`.
pub(crate) fn copy(from: &Path, to: &Path) {
    let _absent = fs::remove_dir_all(to);
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

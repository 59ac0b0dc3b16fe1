//! Random trees come back as they were. Sizes lie around the borders of everything that has blocks: file systems, tar, age, zstd frames,
//! archives, and the ranges that maps are of.

use crate::common::everything::{put_sparse, raw, set_mode, set_mtime};
use crate::common::long::long;
use crate::common::project::{Project, noise};
use crate::common::trees::{assert_same, look, restorable};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
use std::fs;
use std::path::{Path, PathBuf};

/// Sizes that matter: a byte less, the size itself, a byte more.
const BORDERS: [u64; 14] = [
    1,
    128,
    512,
    1024,
    4096,
    8192,
    16 << 10,
    64 << 10,
    (64 << 10) + 16,
    128 << 10,
    1 << 20,
    (1 << 20) + (512 << 10),
    4 << 20,
    256 << 20,
];
/// Content is not larger than this; files may be, by their holes.
const DATA_MAX: u64 = (4 << 20) + 4096;

#[derive(Debug, Clone)]
enum What {
    Dir,
    Noise(u64),
    Zeros(u64),
    /// Size, and stretches of data as (offset, length), taken modulo what fits.
    Sparse(u64, Vec<(u64, u64)>),
    Symlink(Vec<u8>),
    Fifo,
    /// Another name of one of the files before.
    Twin(usize),
}

#[derive(Debug, Clone)]
struct Node {
    parent: usize,
    name: Vec<u8>,
    what: What,
    mode: u32,
    mtime: (i64, i64),
    xattr: Option<Vec<u8>>,
}

fn size(max: u64) -> impl Strategy<Value = u64> {
    let border = (0..BORDERS.len(), -1..=1i64).prop_map(|(n, off)| BORDERS[n].saturating_add_signed(off));
    let any = 0..3_000_000u64;
    prop_oneof![4 => border, 2 => any, 1 => Just(0)].prop_map(move |size| size.min(max))
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => b'a'..=b'e', 1 => Just(b'.'), 1 => Just(b'-'), 1 => any::<u8>()];
    let odd = vec(byte, 1..12)
        .prop_filter("not a name", |n| !n.contains(&0) && !n.contains(&b'/') && n != b"." && n != b"..");
    let long = (b'f'..=b'h', 90..=255usize).prop_map(|(byte, length)| vec![byte; length]);
    prop_oneof![8 => odd, 1 => long]
}

fn what() -> impl Strategy<Value = What> {
    let stretch = (size(256 << 20), 1..40_000u64);
    let target = vec(1..=255u8, 1..120);
    prop_oneof![
        4 => Just(What::Dir),
        8 => size(DATA_MAX).prop_map(What::Noise),
        2 => size(DATA_MAX).prop_map(What::Zeros),
        3 => (size(600 << 20), vec(stretch, 0..12)).prop_map(|(s, r)| What::Sparse(s, r)),
        2 => target.prop_map(What::Symlink),
        1 => Just(What::Fifo),
        2 => any::<usize>().prop_map(What::Twin),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o600), 0..0o10000u32];
    let seconds = prop_oneof![-2_000_000_000..15_000_000_000i64, Just(-1), Just(0)];
    let nanoseconds = prop_oneof![0..1_000_000_000i64, Just(0), Just(999_999_999)];
    let xattr = prop::option::weighted(0.2, vec(any::<u8>(), 0..200));
    (any::<usize>(), name(), what(), mode, (seconds, nanoseconds), xattr)
        .prop_map(|(parent, name, what, mode, mtime, xattr)| Node { parent, name, what, mode, mtime, xattr })
}

/// Makes the tree; what does not fit (a name that is taken, a path that is too long) is left out.
fn make(top: &Path, nodes: &[Node]) {
    let (mut dirs, mut made) = (vec![top.to_owned()], Vec::<(PathBuf, &Node)>::new());
    for (number, node) in nodes.iter().enumerate() {
        let path = raw(&dirs[node.parent % dirs.len()], &node.name);
        if path.as_os_str().len() > 3500 || path.symlink_metadata().is_ok() {
            continue;
        }
        match &node.what {
            What::Dir => {
                fs::create_dir(&path).unwrap();
                dirs.push(path.clone());
            }
            What::Noise(size) => {
                let size = usize::try_from(*size).unwrap();
                fs::write(&path, noise(number as u64, size)).unwrap();
            }
            What::Zeros(size) => fs::write(&path, vec![0; usize::try_from(*size).unwrap()]).unwrap(),
            What::Sparse(size, stretches) => put_sparse(&path, *size, &fitting(*size, stretches)),
            What::Symlink(target) => {
                std::os::unix::fs::symlink(raw(Path::new(""), target), &path).unwrap();
            }
            What::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            What::Twin(of) => {
                let others: Vec<_> = { made.iter() }.filter(|(_, n)| !matches!(n.what, What::Dir)).collect();
                if others.is_empty() {
                    continue;
                }
                fs::hard_link(&others[of % others.len()].0, &path).unwrap();
            }
        }
        made.push((path, node));
    }
    // The deepest first, so that folders have the times that were meant, and closed ones are closed last.
    for (path, node) in made.iter().rev() {
        adorn(path, node);
    }
}

fn adorn(path: &Path, node: &Node) {
    let kind = path.symlink_metadata().unwrap().file_type();
    if !kind.is_symlink() {
        if let Some(value) = &node.xattr {
            let _not_everywhere = lsetxattr(path, "user.random", value, XattrFlags::empty());
        }
        // Who is not root must be able to read what is to be backed up.
        let readable = if kind.is_dir() { 0o700 } else { 0o400 };
        set_mode(path, node.mode | readable);
    }
    set_mtime(path, node.mtime.0, node.mtime.1);
}

fn fitting(size: u64, stretches: &[(u64, u64)]) -> Vec<(u64, usize)> {
    let fits = |&(offset, length): &(u64, u64)| {
        let offset = offset.checked_rem(size)?;
        let length = length.min(size - offset);
        Some((offset, usize::try_from(length).unwrap()))
    };
    stretches.iter().filter_map(fits).collect()
}

#[test]
fn random_trees_come_back_as_they_were() {
    let component = "[[component]]\nname = \"app\"\npath = \"app\"\n";
    let project = Project::new(component, "[packing]\narchive_size = \"1MiB\"\nlevel = 1\n");
    let app = project.dir.join("app");
    let config = Config {
        cases: if long() { 500 } else { 40 },
        failure_persistence: None,
        max_shrink_iters: 60,
        ..Config::default()
    };
    let test = |nodes: Vec<Node>| {
        if app.exists() {
            fs::remove_dir_all(&app).unwrap();
        }
        fs::create_dir(&app).unwrap();
        make(&app, &nodes);
        let before = look(&app);
        let id = project.backup();
        let restored = project.restore(&id, &[]);
        assert_same(&restorable(before), &look(&restored.join("app")));
        fs::remove_dir_all(&restored).unwrap();
        Ok(())
    };
    TestRunner::new(config).run(&vec(node(), 0..25), test).unwrap();
}

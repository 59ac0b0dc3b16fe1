//! A folder with everything that is hard to keep.

use super::project::{cannot_run, is_root, noise, not_run};
use super::trees::through;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags, mknodat, utimensat,
};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const MIB: u64 = 1 << 20;

/// So many folders with names of 250 bytes make a path that nobody can use at once, …
pub(crate) const BEYOND_PATH_MAX: u8 = 17;
/// … and so many just fit.
pub(crate) const WITHIN_PATH_MAX: u8 = 15;

/// Makes it at `top`, which must not exist, with `levels` of folders with long names. What needs root or a program that is not here is left out and said.
pub(crate) fn make(top: &Path, levels: u8) {
    fs::create_dir_all(top).unwrap();
    contents(top);
    names(top, levels);
    links(top);
    sparse(top);
    special(top);
    xattrs(top);
    if is_root() {
        owners(top);
    } else {
        cannot_run("owners, devices, trusted and security attributes need root");
    }
    modes(top);
    times(top);
}

pub(crate) fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn raw(top: &Path, name: &[u8]) -> PathBuf {
    top.join(OsStr::from_bytes(name))
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn contents(top: &Path) {
    put(&top.join("main.py"), "print('hello')\n");
    put(&top.join("empty"), "");
    put(&top.join("noise/one-frame"), noise(1, 3 << 20));
    put(&top.join("noise/more-than-a-frame"), noise(2, (4 << 20) + 1));
    put(&top.join("zeros"), vec![0; 3 << 20]);
    put(&top.join("copies/a"), noise(3, 100_000));
    put(&top.join("copies/b"), noise(3, 100_000));
    for n in 0..300 {
        put(&top.join(format!("many/file-{n}")), format!("{n}\n").repeat(n));
    }
    fs::create_dir_all(top.join("empty folder/in an empty one")).unwrap();
    // A dot sorts before a slash, and the order of paths is by parts.
    put(&top.join("order/a.b"), "3");
    put(&top.join("order/a/b"), "2");
    put(&top.join("order/a-"), "1");
}

fn names(top: &Path, levels: u8) {
    let top = top.join("names");
    let odd: [&[u8]; 12] = [
        b"new\nline",
        b"-rf",
        b"...",
        b" blank ",
        b"\xff\xfe not utf-8",
        b"\x1b[31mred",
        "Gr\u{fc}\u{df}e, \u{4e16}\u{754c}".as_bytes(),
        b"back\\slash 'quote' \"double\" $HOME `x` *",
        b"\x7f\x01\x80",
        b"a = b",
        b".backstay",
        b"e\xcc\x81 and \xc3\xa9",
    ];
    for (n, name) in odd.iter().enumerate() {
        put(&raw(&top, name), n.to_string());
    }
    put(&raw(&top, b"folder \xff\n/in it"), "x");
    put(&raw(&top, &[b'n'; 255]), "255 bytes");
    put(&raw(&top, &[0xe9; 255]), "255 other bytes");
    let mut dir = File::open(&top).unwrap();
    for level in 0..levels {
        let name = vec![b'a' + level; 250];
        let place = through(&dir, OsStr::from_bytes(&name));
        fs::create_dir(&place).unwrap();
        dir = File::open(&place).unwrap();
    }
    fs::write(through(&dir, OsStr::new("deep")), "at the end").unwrap();
    symlink("deep", through(&dir, OsStr::new("deep link"))).unwrap();
}

fn links(top: &Path) {
    symlink("main.py", top.join("link")).unwrap();
    symlink("/nowhere/at all", top.join("dangling")).unwrap();
    symlink("empty folder", top.join("link to a folder")).unwrap();
    symlink(OsStr::from_bytes(b"\xffraw\n"), top.join("link raw")).unwrap();
    symlink("y".repeat(4000), top.join("link long")).unwrap();
    put(&top.join("hard/one"), "one inode\n".repeat(50));
    fs::create_dir_all(top.join("zz")).unwrap();
    fs::hard_link(top.join("hard/one"), top.join("hard/two")).unwrap();
    fs::hard_link(top.join("hard/one"), top.join("zz/three")).unwrap();
    fs::hard_link(top.join("hard/one"), top.join("a first name")).unwrap();
    put(&top.join("hard/empty"), "");
    fs::hard_link(top.join("hard/empty"), top.join("zz/empty")).unwrap();
    symlink("one", top.join("hard/symlink")).unwrap();
    fs::hard_link(top.join("hard/symlink"), top.join("hard/symlink-2")).unwrap();
}

/// Makes a file of `size` with noise at `ranges`, and holes between.
pub(crate) fn put_sparse(path: &Path, size: u64, ranges: &[(u64, usize)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for &(at, length) in ranges {
        file.write_all_at(&noise(at + 7, length), at).unwrap();
    }
    // What is not on the disk yet may not be told from holes.
    file.sync_all().unwrap();
}

fn sparse(top: &Path) {
    let top = top.join("sparse");
    put_sparse(&top.join("leading"), 2 * MIB, &[(2 * MIB - 5000, 5000)]);
    put_sparse(&top.join("trailing"), 3 * MIB + 5, &[(0, 4096)]);
    put_sparse(&top.join("only hole"), 40 * MIB + 1, &[]);
    put_sparse(&top.join("between"), 2 * MIB, &[(64 << 10, 8192), (MIB, 100)]);
    let many: Vec<(u64, usize)> = (0..300).map(|n| (n * 8192, 4096)).collect();
    put_sparse(&top.join("many"), 300 * 8192, &many);
    // More than 256 stretches in three of the ranges of 256 MiB that maps are of, one range without any, and one stretch over a border.
    let border = 256 * MIB;
    let mut far = many.clone();
    far.push((border - 8192, 16384));
    far.extend((0..20).map(|n| (3 * border + n * 65536, 4096)));
    put_sparse(&top.join("very many"), 1000 * MIB + 77, &far);
    put_sparse(&top.join("border"), border + MIB, &[(border - MIB, 1 << 21)]);
}

fn special(top: &Path) {
    let node = |name: &str, kind, mode: u32, device| {
        let mode = Mode::from_raw_mode(mode);
        mknodat(CWD, top.join("special").join(name), kind, mode, device)
    };
    fs::create_dir_all(top.join("special/only a socket")).unwrap();
    node("fifo", FileType::Fifo, 0o640, 0).unwrap();
    node("only a socket/socket", FileType::Socket, 0o600, 0).unwrap();
    fs::hard_link(top.join("special/fifo"), top.join("special/fifo-2")).unwrap();
    if is_root() {
        let null = rustix::fs::makedev(1, 3);
        let block = rustix::fs::makedev(7, 300);
        let made = node("null", FileType::CharacterDevice, 0o666, null)
            .and_then(|()| node("block", FileType::BlockDevice, 0o600, block));
        if let Err(e) = made {
            cannot_run(&format!("device files cannot be made here: {e}"));
        }
    }
}

fn xattrs(top: &Path) {
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(top.join(name), key, value, XattrFlags::empty())
    };
    if let Err(e) = set("main.py", "user.note", b"text") {
        cannot_run(&format!("no user attributes on this file system: {e}"));
        return;
    }
    let all: Vec<u8> = (0..=255).collect();
    set("main.py", "user.bytes", &all).unwrap();
    set("main.py", "user.empty", b"").unwrap();
    set("main.py", "user.a=b", b"a name with =").unwrap();
    set("empty", "user.long", &[b'v'; 2000]).unwrap();
    set("empty folder", "user.folder", b"of a folder").unwrap();
    set("hard/one", "user.\u{fc}", "\u{fc}\n".as_bytes()).unwrap();
    set("sparse/many", "user.on a sparse file", b"1").unwrap();
    if !super::project::have(&["setfacl"]) {
        return;
    }
    for (name, acl) in [("copies/a", "-mu:12345:r"), ("zz", "-dmu:12345:rx,g:54321:-"), ("zz", "-mg:54321:x")]
    {
        let done = Command::new("setfacl").arg(acl).arg(top.join(name)).status();
        if !done.unwrap().success() {
            not_run("access control lists cannot be set on this file system");
        }
    }
}

fn owners(top: &Path) {
    for (name, user, group) in [
        ("order/a.b", 12345, 54321),
        ("order/a-", 4_294_967_294, 3_000_000),
        ("order", 1, 2),
        ("dangling", 1, 1),
        ("hard/one", 33, 33),
        ("special/fifo", 2, 3),
    ] {
        lchown(top.join(name), Some(user), Some(group)).unwrap();
    }
    let set = |name: &str, key: &str, value: &[u8]| {
        let done = rustix::fs::lsetxattr(top.join(name), key, value, XattrFlags::empty());
        if let Err(e) = done {
            cannot_run(&format!("{key} cannot be set here: {e}"));
        }
    };
    put(&top.join("capable"), "#!/bin/sh\n");
    lchown(top.join("capable"), Some(5), Some(5)).unwrap();
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("capable", "security.capability", &capability);
    set("link", "trusted.on a link", b"\xff\0");
}

fn modes(top: &Path) {
    for (name, mode) in [("setuid", 0o6755), ("read only", 0o444), ("for all", 0o777), ("strange", 0o1707)] {
        put(&top.join("modes").join(name), name);
        set_mode(&top.join("modes").join(name), mode);
    }
    put(&top.join("closed/inside"), "in a folder that cannot be written");
    fs::create_dir_all(top.join("sticky")).unwrap();
    fs::create_dir_all(top.join("setgid/in it")).unwrap();
    for (name, mode) in [("closed", 0o555), ("sticky", 0o1777), ("setgid", 0o2775)] {
        set_mode(&top.join(name), mode);
    }
    if is_root() {
        put(&top.join("modes/none"), "nobody but root reads this");
        set_mode(&top.join("modes/none"), 0);
        lchown(top.join("modes/setuid"), Some(7), Some(8)).unwrap();
        set_mode(&top.join("modes/setuid"), 0o6755); // a change of owner takes it away
        put(&top.join("none/inside"), "in a folder without any mode");
        set_mode(&top.join("none"), 0);
    }
}

fn times(top: &Path) {
    for (name, seconds, nanoseconds) in [
        ("main.py", 1_763_884_800, 123_456_789),
        ("order/a/b", -1, 999_999_999),
        ("order/a-", -1_500_000_001, 1),
        ("order/a.b", 4_400_000_000, 7),
        ("empty", 0, 0),
        ("modes/read only", 15_000_000_000, 500_000_000),
        ("link", -5, 250_000_000),
        ("dangling", 4_294_967_296, 1),
        ("special/fifo", 1, 1),
        ("hard/one", 1_000_000_000, 1),
        ("order/a", -86_400, 0),
        ("order", 4_300_000_000, 999_999_999),
        ("special/only a socket", 1_600_000_000, 0),
        ("closed", 1_600_000_000, 1_000),
        ("sparse", 1_600_000_000, 10),
        ("zz", 0, 1),
        ("empty folder", 1_600_000_000, 100_000_000),
    ] {
        set_mtime(&top.join(name), seconds, nanoseconds);
    }
    set_mtime(top, 1_700_000_000, 987_654_321);
}

//! Fidelity: what is restored is what was listed. That nothing else is touched is in `tests/it/extract_safety.rs`.

use super::*;
use crate::model::{ComponentName, Entry, Extent, Kind, ObjectId, Problem, ProblemKind, RelPath};
use crate::platform::at;
use crate::platform::users::Names;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn rel(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(path.as_ref()).unwrap()
}

/// An entry of the user who runs the test.
fn entry(path: impl AsRef<[u8]>, kind: Kind, mode: u32) -> Entry {
    let mut entry = Entry::new(rel(path), kind);
    entry.mode = mode;
    entry.uid = rustix::process::geteuid().as_raw();
    entry.gid = rustix::process::getegid().as_raw();
    entry.mtime = (1_700_000_000, 123_456_789);
    entry
}

fn link(path: &str, target: &[u8]) -> Entry {
    let mut entry = entry(path, Kind::Symlink, 0o777);
    entry.target = Some(target.into());
    entry
}

/// A target in a new folder, the place of which is `place`.
fn target() -> (tempfile::TempDir, Target, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    let place = top.path().join("place");
    let target = Target::create(&place).unwrap();
    (top, target, place)
}

fn extract(target: &Target, owners: Owners, entries: &[Entry]) -> Vec<Problem> {
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, owners, "web").unwrap();
    for entry in entries {
        if let Some(mut file) = extractor.make(entry).unwrap() {
            file.write_all(b"content").unwrap();
            extractor.finish_file(&file, entry).unwrap();
        }
    }
    extractor.finish().unwrap()
}

fn meta(path: impl AsRef<Path>) -> std::fs::Metadata {
    std::fs::symlink_metadata(path).unwrap()
}

#[test]
fn an_extractor_serves_several_threads() {
    fn shared<T: Sync>(_: &T) {}
    let (_top, target, place) = target();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    shared(&extractor);
    extractor.make_dir(&entry(".", Kind::Dir, 0o755)).unwrap();
    for dir in 0..200 {
        extractor.make_dir(&entry(format!("d{dir}"), Kind::Dir, 0o755)).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let extractor = &extractor;
            scope.spawn(move || {
                for file in 0..1000 {
                    let path = format!("d{}/t{thread}-{file}", file % 200);
                    let entry = entry(&path, Kind::File, 0o644);
                    let mut file = extractor.create_file(&entry).unwrap();
                    file.write_all(path.as_bytes()).unwrap();
                    extractor.finish_file(&file, &entry).unwrap();
                }
            });
        }
    });
    assert_eq!(extractor.finish().unwrap(), []);
    target.publish().unwrap();
    for (thread, file) in [(0, 0), (1, 999), (3, 512)] {
        let path = format!("d{}/t{thread}-{file}", file % 200);
        assert_eq!(std::fs::read_to_string(place.join(&path)).unwrap(), path);
    }
    let files = (0..200).map(|d| std::fs::read_dir(place.join(format!("d{d}"))).unwrap().count());
    assert_eq!(files.sum::<usize>(), 4000);
}

#[test]
fn closed_directories_get_their_content_first_and_their_times_last() {
    let (top, target, place) = target();
    let entries = [
        entry(".", Kind::Dir, 0o555),
        entry("closed", Kind::Dir, 0),
        entry("closed/read-only", Kind::Dir, 0o555),
        entry("closed/read-only/file", Kind::File, 0o400),
        entry("closed/read-only/none", Kind::File, 0),
        entry("sticky", Kind::Dir, 0o3777),
    ];
    assert_eq!(extract(&target, Owners::Keep, &entries), []);
    target.publish().unwrap();
    let check = |path: &str, mode: u32| {
        let meta = meta(place.join(path));
        assert_eq!(meta.mode() & 0o7777, mode, "{path}");
        let mtime = (meta.mtime(), meta.mtime_nsec());
        assert_eq!(mtime, (1_700_000_000, 123_456_789), "{path}");
    };
    check("", 0o555);
    check("closed", 0);
    check("sticky", 0o3777);
    std::fs::set_permissions(place.join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    check("closed/read-only", 0o555);
    check("closed/read-only/file", 0o400);
    check("closed/read-only/none", 0);
    let top = at::open_place(top.path()).unwrap();
    crate::platform::remove::remove_tree(top.as_fd(), b"place").unwrap();
}

#[test]
fn names_are_kept_byte_for_byte() {
    let (_top, target, place) = target();
    let names: [&[u8]; 9] = [
        b"\xff\xfe not text",
        b"new\nline",
        b"\x1b[2J",
        b"-rf",
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b"\\..\\..",
        b"...",
        &[b'n'; 255],
    ];
    let mut entries = vec![entry(".", Kind::Dir, 0o755)];
    entries.extend(names.iter().map(|name| entry(name, Kind::File, 0o644)));
    assert_eq!(extract(&target, Owners::Keep, &entries), []);
    target.publish().unwrap();
    for name in names {
        assert!(meta(place.join(OsStr::from_bytes(name))).is_file(), "{name:?}");
    }
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), names.len());
}

#[test]
fn a_name_that_is_too_long_is_an_error_that_names_it() {
    let (_top, target, _) = target();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    let error = extractor.create_file(&entry([b'n'; 256], Kind::File, 0o644)).unwrap_err();
    assert!(error.to_string().contains("nnnnn"), "{error}");
}

#[test]
fn unusual_times_are_kept_or_reported() {
    let (_top, target, place) = target();
    let times = [(-1, 999_999_999), (-86_400 * 365, 1), (0, 0), (i64::from(u32::MAX), 5), (1 << 40, 0)];
    let mut entries = vec![entry(".", Kind::Dir, 0o755)];
    for (n, mtime) in times.iter().enumerate() {
        for (kind, letter) in [(Kind::File, 'f'), (Kind::Dir, 'd')] {
            let mut entry = entry(format!("{letter}{n}"), kind, 0o755);
            entry.mtime = *mtime;
            entries.push(entry);
        }
        let mut entry = link(&format!("l{n}"), b"nowhere");
        entry.mtime = *mtime;
        entries.push(entry);
    }
    let problems = extract(&target, Owners::Keep, &entries);
    target.publish().unwrap();
    for entry in &entries[1..] {
        let name = entry.path.to_string();
        let meta = meta(place.join(&name));
        let kept = (meta.mtime(), meta.mtime_nsec()) == (entry.mtime.0, entry.mtime.1.into());
        let told = problems.iter().any(|p| p.subject == name && p.kind == ProblemKind::NotRestored);
        assert!(kept != told, "{name}: kept {kept}, told {told}");
        assert!(kept || entry.mtime.0 == 1 << 40, "{name}");
    }
}

#[test]
fn holes_take_no_room_and_the_size_is_right() {
    let (_top, target, place) = target();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    let mut sparse = entry("sparse", Kind::File, 0o600);
    sparse.size = 1 << 40;
    let extent = |offset, length| Extent { offset, archive: ObjectId::of(b"archive"), tar_offset: 0, length };
    sparse.extents = vec![extent(1 << 30, 4)];
    let file = extractor.create_file(&sparse).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 1 << 30).unwrap();
    extractor.finish_file(&file, &sparse).unwrap();
    let mut full = entry("full", Kind::File, 0o600);
    (full.size, full.extents) = (4, vec![extent(0, 4)]);
    let mut file = extractor.create_file(&full).unwrap();
    file.write_all(b"data").unwrap();
    extractor.finish_file(&file, &full).unwrap();
    extractor.finish().unwrap();
    target.publish().unwrap();
    let meta_of = meta(place.join("sparse"));
    assert_eq!(meta_of.len(), 1 << 40);
    assert!(meta_of.blocks() * 512 <= 1 << 20, "{} blocks", meta_of.blocks());
    assert_eq!(meta(place.join("full")).len(), 4);
}

#[test]
fn owners_go_by_name_where_the_name_is_known_and_else_by_number() {
    if !is_root() {
        eprintln!("not run: only root can give files to others");
        return;
    }
    let (_top, target, place) = target();
    let mut known = entry("known", Kind::File, 0o644);
    (known.uid, known.gid) = (54_321, 54_322);
    (known.user, known.group) = (Some("root".into()), Some("root".into()));
    let mut unknown = known.clone();
    unknown.path = rel("unknown");
    (unknown.user, unknown.group) = (Some("no such user".into()), Some("no such group".into()));
    let mut dir = unknown.clone();
    (dir.path, dir.kind) = (rel("dir"), Kind::Dir);
    let mut symlink = link("link", b"/etc/passwd");
    (symlink.uid, symlink.gid) = (54_321, 54_322);
    let mut fifo = unknown.clone();
    (fifo.path, fifo.kind) = (rel("fifo"), Kind::Fifo);
    let mut nobody = known.clone();
    (nobody.path, nobody.user, nobody.uid) = (rel("nobody"), None, u32::MAX);
    let entries = [known, unknown, dir, symlink, fifo, nobody];
    let problems = extract(&target, Owners::Keep, &entries);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].is_failure() && problems[0].what.contains("nobody"), "{problems:?}");
    target.publish().unwrap();
    let owner = |name: &str| (meta(place.join(name)).uid(), meta(place.join(name)).gid());
    assert_eq!(owner("known"), (0, 0));
    for name in ["unknown", "dir", "link", "fifo"] {
        assert_eq!(owner(name), (54_321, 54_322), "{name}");
    }
    assert_eq!(meta(place.join("fifo")).mode() & 0o7777, 0o644);
    assert_eq!(owner("nobody"), (0, 0));
}

#[test]
fn an_ordinary_user_is_told_once_that_owners_are_not_restored() {
    if is_root() {
        eprintln!("not run: root can set owners");
        return;
    }
    let (_top, target, _) = target();
    let mut entries = vec![entry(".", Kind::Dir, 0o755)];
    for n in 0..50 {
        let mut entry = entry(format!("f{n}"), Kind::File, 0o4755);
        (entry.uid, entry.user) = (entry.uid + 1, None);
        entries.push(entry);
    }
    let problems = extract(&target, Owners::Keep, &entries);
    assert!(problems.iter().all(|p| p.kind == ProblemKind::Warning), "{problems:?}");
    let owners = problems.iter().filter(|p| p.what.contains("owners of 50 entries"));
    assert_eq!(owners.count(), 1, "{problems:?}");
    let file = meta(target.staging_path().join("f0"));
    assert_eq!(file.mode() & 0o7777, 0o755, "set-user-id for another user than it was for");
}

#[test]
fn set_id_bits_survive_the_change_of_owner_and_only_with_it() {
    let own = entry("own", Kind::File, 0o6755);
    {
        let (_top, target, place) = target();
        assert_eq!(extract(&target, Owners::Keep, &[own]), []);
        target.publish().unwrap();
        assert_eq!(meta(place.join("own")).mode() & 0o7777, 0o6755);
    }
    if !is_root() {
        eprintln!("not run: only root can give files to others");
        return;
    }
    let mut other = entry("other", Kind::File, 0o6755);
    (other.uid, other.gid) = (54_321, 54_322);
    for (owners, mode) in [(Owners::Keep, 0o6755), (Owners::Ignore, 0o755)] {
        let (_top, target, place) = target();
        let problems = extract(&target, owners, &[other.clone()]);
        assert_eq!(problems.len(), usize::from(owners == Owners::Ignore), "{problems:?}");
        target.publish().unwrap();
        assert_eq!(meta(place.join("other")).mode() & 0o7777, mode, "{owners:?}");
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn attributes_are_restored_or_reported() {
    let (_top, target, place) = target();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut file = entry("file", Kind::File, 0o444);
    file.xattrs.insert("user.binary".into(), vec![0, 255, 10]);
    file.xattrs.insert("security.capability".into(), capability.to_vec());
    file.xattrs.insert("security.evil\x1b".into(), b"x".to_vec());
    file.xattrs.insert("nonsense".into(), b"x".to_vec());
    if is_root() {
        (file.uid, file.gid) = (54_321, 54_322);
    }
    let mut dir = entry("dir", Kind::Dir, 0o555);
    dir.xattrs.insert("user.dir".into(), b"d".to_vec());
    let mut symlink = link("link", b"file");
    symlink.xattrs.insert("trusted.link".into(), b"l".to_vec());
    let entries = [file, dir, symlink];
    let problems = extract(&target, Owners::Keep, &entries);
    target.publish().unwrap();
    for entry in &entries {
        let path = place.join(entry.path.to_string());
        for (name, value) in &entry.xattrs {
            let kept = xattr(&path, name).as_ref() == Some(value);
            let shown = crate::model::path::escape(name.as_bytes());
            let told = problems.iter().any(|p| p.what.contains(&format!("attribute {shown} ")));
            assert!(kept != told, "{}: {name:?}: kept {kept}, told {told}", entry.path);
        }
    }
    assert!(problems.iter().any(|p| p.what.contains("nonsense")));
    if is_root() {
        assert_eq!(xattr(&place.join("file"), "security.capability"), Some(capability.to_vec()));
        assert_eq!(meta(place.join("file")).uid(), 54_321);
    }
}

/// An ACL: the owner `rwx`, user 54321 `rwx`, group and others nothing.
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 54_321), (4, 0, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes().iter().chain(&rights.to_le_bytes()).chain(&id.to_le_bytes()));
    }
    acl
}

#[test]
fn an_acl_of_the_folder_around_opens_nothing() {
    let top = tempfile::tempdir().unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::setxattr(top.path(), "system.posix_acl_default", &acl(), flags);
    if let Err(e) = set {
        eprintln!("not run: no ACLs in the temporary folder: {e}");
        return;
    }
    let mut with_acl = entry("dir/with", Kind::File, 0o770);
    with_acl.xattrs.insert("system.posix_acl_access".into(), acl());
    let entries = [entry("dir", Kind::Dir, 0o755), entry("dir/file", Kind::File, 0o640), with_acl];
    let target = Target::create(&top.path().join("place")).unwrap();
    let problems = extract(&target, Owners::Keep, &entries);
    assert_eq!(problems, []);
    let names = Names::default();
    let live = at::open_place(top.path()).unwrap();
    let extractor = Extractor::new(live, &names, Owners::Keep, "web").unwrap();
    let live = entry("live", Kind::File, 0o640);
    let file = extractor.create_file(&live).unwrap();
    extractor.finish_file(&file, &live).unwrap();
    assert_eq!(extractor.finish().unwrap(), []);
    target.publish().unwrap();
    for path in ["place", "place/dir", "place/dir/file", "live"] {
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            assert_eq!(xattr(&top.path().join(path), name), None, "{path} {name}");
        }
    }
    assert_eq!(meta(top.path().join("live")).mode() & 0o7777, 0o640);
    let with = top.path().join("place/dir/with");
    assert_eq!(xattr(&with, "system.posix_acl_access"), Some(acl()));
    assert_eq!(meta(with).mode() & 0o7777, 0o770);
}

#[test]
fn nodes_are_made_as_what_they_are() {
    let (_top, target, place) = target();
    let mut char = entry("null", Kind::Char, 0o666);
    char.dev = Some((1, 3));
    let mut block = entry("block", Kind::Block, 0o600);
    block.dev = Some((7, 0));
    let mut impossible = entry("impossible", Kind::Char, 0o600);
    impossible.dev = Some((1 << 30, 3));
    let mut left = Entry::new(rel("left"), Kind::Left);
    left.why = Some(crate::model::entry::Why::Unreadable);
    let entries = [
        entry("fifo", Kind::Fifo, 0o622),
        entry("socket", Kind::Socket, 0o777),
        left,
        char,
        block,
        impossible,
        link("link", b"../../../nowhere"),
    ];
    let problems = extract(&target, Owners::Keep, &entries);
    target.publish().unwrap();
    let fifo = meta(place.join("fifo"));
    assert!(fifo.file_type().is_fifo() && fifo.mode() & 0o7777 == 0o622);
    assert_eq!(fifo.mtime(), 1_700_000_000);
    assert!(!place.join("socket").exists() && !place.join("left").exists());
    let link = std::fs::read_link(place.join("link")).unwrap();
    assert_eq!(link, Path::new("../../../nowhere"));
    for name in ["null", "block", "impossible"] {
        let told = problems.iter().any(|p| p.subject == name && p.is_failure());
        let made = std::fs::symlink_metadata(place.join(name)).is_ok();
        assert!(told != made, "{name}: told {told}, made {made}");
        assert!(!made || is_root());
    }
    if let Ok(null) = std::fs::symlink_metadata(place.join("null")) {
        assert!(null.file_type().is_char_device());
        assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
        assert_eq!(null.mode() & 0o7777, 0o666);
    }
}

#[test]
fn hard_links_share_an_inode_whatever_they_are() {
    let (_top, target, place) = target();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    extractor.make_dir(&entry("d", Kind::Dir, 0o755)).unwrap();
    let file = entry("file", Kind::File, 0o640);
    let mut open = extractor.create_file(&file).unwrap();
    extractor.hard_link(&rel("file"), &entry("d/file", Kind::File, 0o640)).unwrap();
    open.write_all(b"shared").unwrap();
    extractor.finish_file(&open, &file).unwrap();
    let mut symlink = link("link", b"file");
    symlink.link = Some(1);
    extractor.symlink(&symlink).unwrap();
    extractor.hard_link(&rel("link"), &link("d/link", b"file")).unwrap();
    let mut again = entry("again", Kind::File, 0o640);
    again.link = Some(2);
    extractor.hard_link(&rel("d/file"), &again).unwrap();
    extractor.finish().unwrap();
    target.publish().unwrap();
    let ino = |path: &str| meta(place.join(path)).ino();
    assert!(ino("file") == ino("d/file") && ino("file") == ino("again"));
    assert_eq!(ino("link"), ino("d/link"));
    assert!(meta(place.join("d/link")).is_symlink());
    assert_eq!(std::fs::read(place.join("again")).unwrap(), b"shared");
}

#[test]
fn a_file_is_written_in_parts_and_a_damaged_one_taken_back() {
    let (_top, target, place) = target();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    let file = entry("file", Kind::File, 0o400);
    drop(extractor.create_file(&file).unwrap());
    drop(extractor.create_file(&entry("damaged", Kind::File, 0o600)).unwrap());
    for part in ["one", "two"] {
        let mut open = extractor.reopen_file(&rel("file")).unwrap();
        let mut before = String::new();
        open.read_to_string(&mut before).unwrap();
        open.write_all(part.as_bytes()).unwrap();
    }
    let open = extractor.reopen_file(&rel("file")).unwrap();
    extractor.finish_file(&open, &file).unwrap();
    extractor.discard(&rel("damaged")).unwrap();
    assert!(extractor.reopen_file(&rel("damaged")).is_err());
    extractor.finish().unwrap();
    target.publish().unwrap();
    assert_eq!(std::fs::read(place.join("file")).unwrap(), b"onetwo");
    assert_eq!(meta(place.join("file")).mtime(), 1_700_000_000);
    assert!(!place.join("damaged").exists());
}

#[test]
fn two_thousand_directories_deep_is_restored() {
    let (top, target, place) = target();
    let mut entries = vec![entry(".", Kind::Dir, 0o755)];
    let mut path = String::new();
    for depth in 0..2000 {
        path.push_str(if depth == 0 { "dir" } else { "/dir" });
        entries.push(entry(&path, Kind::Dir, 0o500));
    }
    entries.push(entry(format!("{path}/file"), Kind::File, 0o400));
    assert_eq!(extract(&target, Owners::Keep, &entries), []);
    target.publish().unwrap();
    let mut dir = at::open_place(&place).unwrap();
    for _ in 0..2000 {
        dir = at::open_dir(&dir, b"dir").unwrap();
        let facts = at::facts(&dir).unwrap();
        assert_eq!((facts.mode, facts.mtime), (0o500, (1_700_000_000, 123_456_789)));
    }
    assert!(at::facts_at(&dir, b"file").is_ok());
    let top = at::open_place(top.path()).unwrap();
    crate::platform::remove::remove_tree(top.as_fd(), b"place").unwrap();
}

#[test]
fn staging_is_private_beside_the_place_and_gone_when_dropped() {
    let (top, target, place) = target();
    let staging = target.staging_path();
    assert_eq!(staging.parent(), place.parent());
    let name = staging.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with(".place.backstay-partial-"), "{name}");
    assert_eq!(meta(&staging).mode() & 0o7777, 0o700);
    let component = "web".parse::<ComponentName>().unwrap();
    drop(target.component(&component).unwrap());
    assert!(target.component(&component).is_err());
    let entries = [entry(".", Kind::Dir, 0o500), entry("d", Kind::Dir, 0), entry("l", Kind::Fifo, 0)];
    extract(&target, Owners::Keep, &entries);
    drop(target);
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
}

#[test]
fn a_place_that_is_taken_is_refused() {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/file"), "x").unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    std::os::unix::fs::symlink("empty", at("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    for name in ["full", "full/file", "link", "dangling"] {
        let error = Target::create(&at(name)).unwrap_err();
        assert!(matches!(error, ExtractError::NotEmpty { .. }), "{name}: {error}");
    }
    for path in ["/", ".", "..", ""] {
        let error = Target::create(Path::new(path)).unwrap_err();
        assert!(matches!(error, ExtractError::BadPlace { .. }), "{path}: {error}");
    }
    let error = Target::create(&at("no/such/parent")).unwrap_err();
    assert!(matches!(error, ExtractError::Io { .. }), "{error}");
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 4);
}

#[test]
fn an_empty_folder_is_replaced_and_one_filled_meanwhile_is_not() {
    let (_top, target, place) = target();
    std::fs::create_dir(&place).unwrap();
    let staging = target.staging_path();
    extract(&target, Owners::Keep, &[entry("file", Kind::File, 0o600)]);
    let error = target.publish().unwrap_err();
    assert!(matches!(error, ExtractError::Unpublished { .. }), "{error}");
    assert!(staging.join("file").exists(), "what was restored stays");

    let target = Target::create(&place).unwrap();
    let other = target.staging_path();
    extract(&target, Owners::Keep, &[entry("file", Kind::File, 0o600)]);
    std::fs::write(place.join("mine"), "x").unwrap();
    assert!(matches!(target.publish().unwrap_err(), ExtractError::Unpublished { .. }));
    assert!(place.join("mine").exists() && other.join("file").exists());

    std::fs::remove_file(place.join("mine")).unwrap();
    let target = Target::create(&place).unwrap();
    extract(&target, Owners::Keep, &[entry("file", Kind::File, 0o600)]);
    target.publish().unwrap();
    assert_eq!(std::fs::read(place.join("file")).unwrap(), b"content");
}

#[test]
fn long_names_leave_room_for_the_staging_name() {
    let top = tempfile::tempdir().unwrap();
    for name in ["n".repeat(255), "\u{e9}".repeat(127)] {
        let target = Target::create(&top.path().join(&name)).unwrap();
        let staging = target.staging_path();
        assert!(staging.file_name().unwrap().to_str().unwrap().contains("backstay-partial"));
        target.publish().unwrap();
        assert!(top.path().join(name).is_dir());
    }
}

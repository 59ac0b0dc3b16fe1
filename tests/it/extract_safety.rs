//! Whatever a listing says and whoever renames things meanwhile, nothing outside the target changes.
//!
//! Every test has a canary: a tree beside the target, whose fingerprint (names, types, modes, owners, times, numbers of links,
//! contents) must be the same before and after.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use backstay::archive::extract::{
    ExtractError, Extractor, Owners, Target, open_live_dir, replace_in_place, temporary_name,
};
use backstay::model::manifest::Segment;
use backstay::model::{Entry, Kind, RelPath};
use backstay::platform::at;
use backstay::platform::users::Names;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A canary and the place of a restore beside it.
struct Ground {
    top: tempfile::TempDir,
    before: String,
}

impl Ground {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        let canary = top.path().join("canary");
        std::fs::create_dir_all(canary.join("sub/dir")).unwrap();
        std::fs::write(canary.join("file"), "canary").unwrap();
        std::fs::write(canary.join("sub/file"), "canary, too").unwrap();
        symlink("file", canary.join("link")).unwrap();
        for (name, mode) in [("file", 0o640), ("sub/file", 0o600), ("sub", 0o750)] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(canary.join(name), mode).unwrap();
        }
        let before = fingerprint(&canary);
        Self { top, before }
    }

    fn canary(&self) -> PathBuf {
        self.top.path().join("canary")
    }

    fn target(&self) -> Target {
        Target::create(&self.top.path().join("place")).unwrap()
    }

    fn check(&self, what: &str) {
        assert_eq!(fingerprint(&self.canary()), self.before, "{what}: the canary changed");
    }
}

/// Everything about a tree that an escape could change, times of change included.
fn fingerprint(dir: &Path) -> String {
    let mut lines = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let ownership = (meta.mode(), meta.uid(), meta.gid(), meta.nlink());
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        lines.push(format!("{path:?} {} {ownership:?} {times:?} {content:?}", meta.ino()));
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines.join("\n")
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

fn entry(path: &str, kind: Kind, mode: u32) -> Entry {
    let mut entry = Entry::new(rel(path), kind);
    entry.mode = mode;
    entry.uid = rustix::process::geteuid().as_raw();
    entry.gid = rustix::process::getegid().as_raw();
    entry.mtime = (1_000_000_000, 1);
    entry
}

fn dir(path: &str) -> Entry {
    entry(path, Kind::Dir, 0o777)
}

fn file(path: &str) -> Entry {
    entry(path, Kind::File, 0o4777)
}

fn link(path: &str, target: &Path) -> Entry {
    let mut entry = entry(path, Kind::Symlink, 0o777);
    entry.target = Some(target.as_os_str().as_encoded_bytes().into());
    entry.link = Some(7);
    entry
}

/// Makes, writes and finishes one entry.
fn put(extractor: &Extractor<'_>, entry: &Entry) -> Result<(), ExtractError> {
    if let Some(mut file) = extractor.make(entry)? {
        file.write_all(b"from the archive").unwrap();
        extractor.finish_file(&file, entry)?;
    }
    Ok(())
}

const HEADER: &str = r#"{"format":1,"needs":[],"type":"segment","component":"web","archives":[]}"#;

fn line(path: &str) -> String {
    format!(r#"{{{path},"type":"dir","mode":"0755","uid":0,"gid":0,"mtime":[0,0]}}"#)
}

fn decode(lines: &[String]) -> Result<Segment, impl std::fmt::Display> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Segment::decode(format!("{HEADER}\n{text}").as_bytes())
}

#[test]
fn paths_that_lead_out_do_not_come_out_of_a_listing() {
    assert!(decode(&[line(r#""path":"a""#), line(r#""path":"a/b""#)]).is_ok());
    let wrong = [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/..",
        "a/../../x",
        "a/./b",
        "./a",
        "a//b",
        "a/",
        "a\\u0000b",
        "\\u002e\\u002e/x",
        "..\\/x",
    ];
    for path in wrong {
        assert!(decode(&[line(&format!(r#""path":"{path}""#))]).is_err(), "{path}");
    }
    for (path, why) in [
        (r#""path_b64":"Li4veA==""#, "../x in base64"),
        (r#""path_b64":"L2V0Yw==""#, "/etc in base64"),
        (r#""path_b64":"YQBi""#, "NUL in base64"),
        (r#""path_b64":"!!""#, "not base64"),
        (r#""path":"a","path_b64":"YQ==""#, "two paths"),
        (r#""path":"a","path":"b""#, "a field twice"),
        (r#""x":1"#, "no path"),
    ] {
        assert!(decode(&[line(path)]).is_err(), "{why}");
    }
    let twice = [line(r#""path":"a""#), line(r#""path":"a""#)];
    assert!(decode(&twice).is_err(), "a path twice");
    assert!(decode(&[line(r#""path":"b""#), line(r#""path":"a""#)]).is_err(), "out of order");
    let long = format!(r#""path":"{}""#, "a/".repeat(40_000) + "a");
    assert!(decode(&[line(&long)]).is_err(), "too long");
}

#[test]
fn entries_that_contradict_each_other_are_refused_and_touch_nothing_outside() {
    let ground = Ground::new();
    let out = ground.canary();
    let (sub, canary_file) = (out.join("sub"), out.join("file"));
    let up = Path::new("../canary");
    // The last entry of each list must be refused; the others are made.
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("write through a link", vec![link("a", &out), file("a/file")]),
        ("write through a relative link", vec![link("a", up), file("a/file")]),
        ("directory through a link", vec![link("a", &out), dir("a/new")]),
        ("link through a link", vec![link("a", &out), link("a/new", Path::new("x"))]),
        ("FIFO through a link", vec![link("a", &out), entry("a/p", Kind::Fifo, 0o666)]),
        ("deep through a link", vec![dir("d"), link("d/a", &out), file("d/a/sub/file")]),
        ("chmod through a link", vec![link("a", &sub), dir("a")]),
        ("link over a directory", vec![dir("a"), link("a", &sub)]),
        ("write to a link's target", vec![link("a", &canary_file), file("a")]),
        ("file, link, file", vec![file("a"), link("a", &canary_file)]),
        ("file twice", vec![file("a"), file("a")]),
        ("directory twice", vec![dir("a"), dir("a")]),
        ("root twice", vec![dir("."), dir(".")]),
        ("file below a file", vec![file("a"), file("a/b")]),
        ("below a FIFO", vec![entry("a", Kind::Fifo, 0o666), file("a/b")]),
        ("no parent", vec![file("a/b")]),
        ("no grandparent", vec![dir("a"), dir("a/b/c")]),
        ("the root as a file", vec![file(".")]),
        ("the root as a link", vec![link(".", &out)]),
    ];
    for (what, entries) in cases {
        let target = ground.target();
        let names = Names::default();
        let root = target.root().unwrap();
        let extractor = Extractor::new(root, &names, Owners::Keep, "web").unwrap();
        let (last, first) = entries.split_last().unwrap();
        for entry in first {
            put(&extractor, entry).unwrap();
        }
        let error = put(&extractor, last).expect_err(what);
        assert!(matches!(error, ExtractError::Damaged { .. }), "{what}: {error}");
        extractor.finish().unwrap();
        drop(target);
        ground.check(what);
    }
}

#[test]
fn hard_links_lead_only_to_what_was_restored() {
    let ground = Ground::new();
    let target = ground.target();
    let staging = target.staging_path();
    std::fs::hard_link(ground.canary().join("file"), staging.join("there before")).unwrap();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    for entry in [dir("d"), file("file"), link("link", &ground.canary().join("file"))] {
        put(&extractor, &entry).unwrap();
    }
    for existing in ["there before", "nothing", "d", "."] {
        let error = extractor.hard_link(&rel(existing), &file("new")).unwrap_err();
        assert!(matches!(error, ExtractError::Damaged { .. }), "{existing}: {error}");
    }
    assert!(extractor.reopen_file(&rel("there before")).is_err());
    assert!(extractor.create_file(&file("there before")).is_err());
    extractor.hard_link(&rel("link"), &link("second", Path::new("x"))).unwrap();
    for path in ["link", "second", "d"] {
        assert!(extractor.reopen_file(&rel(path)).is_err(), "{path}");
    }
    // Somebody puts another inode under a name that was made.
    std::fs::rename(staging.join("there before"), staging.join("file")).unwrap();
    let before = fingerprint(&ground.canary());
    let error = extractor.hard_link(&rel("file"), &file("new")).unwrap_err();
    assert!(matches!(error, ExtractError::Exchanged { .. }), "{error}");
    assert!(!staging.join("new").exists());
    let error = extractor.reopen_file(&rel("file")).unwrap_err();
    assert!(matches!(error, ExtractError::Exchanged { .. }), "{error}");
    let error = extractor.discard(&rel("file")).unwrap_err();
    assert!(matches!(error, ExtractError::Exchanged { .. }), "{error}");
    assert_eq!(fingerprint(&ground.canary()), before);
}

#[test]
fn links_that_lie_in_the_target_before_are_not_followed() {
    let ground = Ground::new();
    let target = ground.target();
    let staging = target.staging_path();
    symlink(ground.canary(), staging.join("dir")).unwrap();
    symlink(ground.canary().join("file"), staging.join("file")).unwrap();
    symlink(ground.canary().join("new"), staging.join("dangling")).unwrap();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    for entry in [dir("dir"), file("dir/file"), file("file"), file("dangling")] {
        let error = put(&extractor, &entry).unwrap_err();
        assert!(matches!(error, ExtractError::Damaged { .. }), "{error}");
    }
    extractor.finish().unwrap();
    ground.check("links there before");
    drop(target);
    ground.check("removal of the staging folder");

    symlink(ground.canary(), ground.top.path().join("place")).unwrap();
    let error = Target::create(&ground.top.path().join("place")).unwrap_err();
    assert!(matches!(error, ExtractError::NotEmpty { .. }), "{error}");
    ground.check("a place that is a link");
}

#[test]
fn a_directory_exchanged_before_the_end_does_not_get_the_metadata() {
    let ground = Ground::new();
    for what in ["link", "other directory", "gone"] {
        let target = ground.target();
        let staging = target.staging_path();
        let names = Names::default();
        let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
        put(&extractor, &dir("victim")).unwrap();
        // More directories than are kept open, so that the victim must be opened again.
        for n in 0..200 {
            put(&extractor, &dir(&format!("d{n}"))).unwrap();
        }
        std::fs::rename(staging.join("victim"), ground.top.path().join("aside")).unwrap();
        match what {
            "link" => symlink(ground.canary().join("sub"), staging.join("victim")).unwrap(),
            "other directory" => std::fs::create_dir(staging.join("victim")).unwrap(),
            _ => {}
        }
        let error = put(&extractor, &file("victim/file")).unwrap_err();
        assert!(matches!(error, ExtractError::Exchanged { .. }), "{what}: {error}");
        let error = extractor.finish().unwrap_err();
        assert!(matches!(error, ExtractError::Exchanged { .. }), "{what}: {error}");
        assert!(!ground.top.path().join("aside/file").exists());
        std::fs::remove_dir(ground.top.path().join("aside")).unwrap();
        drop(target);
        ground.check(what);
    }
}

/// So many times a directory of the target is exchanged for a link, and back, while entries are made below it.
const SWAPS: u32 = 10_000;

#[test]
fn a_link_swapped_in_while_entries_are_made_never_leads_out() {
    let ground = Ground::new();
    let (mut made, mut refused, swaps) = (0_u32, 0_u32, AtomicU32::new(0));
    let names = Names::default();
    while swaps.load(Ordering::Relaxed) < SWAPS {
        let target = ground.target();
        let staging = target.staging_path();
        let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
        put(&extractor, &dir("sub")).unwrap();
        for n in 0..200 {
            put(&extractor, &dir(&format!("sub/d{n}"))).unwrap();
        }
        // Below the canary the same names exist, so that a followed link would have something to change.
        symlink(ground.canary(), staging.join("trap")).unwrap();
        let (done, held) = (AtomicBool::new(false), at::open_place(&staging).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    at::exchange(&held, b"sub", b"trap").unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            for n in 0..2000 {
                let inside = format!("sub/d{}", n % 200);
                let path = format!("{inside}/f{n}");
                let result = match n % 4 {
                    0 => put(&extractor, &file(&path)),
                    1 => put(&extractor, &dir(&path)),
                    2 => put(&extractor, &link(&path, Path::new("/x"))),
                    _ => {
                        extractor.hard_link(&rel(&format!("sub/d{}/f{}", (n - 3) % 200, n - 3)), &file(&path))
                    }
                };
                match result {
                    Ok(()) => made += 1,
                    Err(_) => refused += 1,
                }
            }
            // Metadata of directories and removal race, too.
            let _ = extractor.finish();
            done.store(true, Ordering::Relaxed);
        });
        drop(target);
        let _ = std::fs::remove_dir_all(&staging);
    }
    ground.check("swapped links");
    assert!(made > 0 && refused > 0, "nothing was raced for: {made} made, {refused} refused");
}

#[test]
fn removal_raced_by_moved_directories_stays_inside() {
    let ground = Ground::new();
    let top = at::open_place(ground.top.path()).unwrap();
    let swaps = AtomicU32::new(0);
    while swaps.load(Ordering::Relaxed) < SWAPS {
        let tree = ground.top.path().join("tree");
        for n in 0..50 {
            std::fs::create_dir_all(tree.join(format!("sub/d{n}/e"))).unwrap();
        }
        symlink(ground.canary(), tree.join("trap")).unwrap();
        let (done, held) = (AtomicBool::new(false), at::open_place(&tree).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = at::exchange(&held, b"sub", b"trap");
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _ = backstay::platform::remove::remove_tree(top.as_fd(), b"tree");
            done.store(true, Ordering::Relaxed);
        });
        if tree.exists() {
            backstay::platform::remove::remove_tree(top.as_fd(), b"tree").unwrap();
        }
    }
    ground.check("raced removal");
}

#[test]
fn attributes_devices_and_modes_of_hostile_entries_stay_inside() {
    let ground = Ground::new();
    let target = ground.target();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    let mut symlink = link("link", &ground.canary().join("file"));
    symlink.mode = 0o4777;
    symlink.xattrs.insert("security.evil".into(), b"x".to_vec());
    symlink.xattrs.insert("user.evil".into(), b"x".to_vec());
    symlink.uid = 12_345;
    let mut evil = file("file");
    evil.xattrs.insert("security.capability".into(), b"nonsense".to_vec());
    evil.xattrs.insert("system.posix_acl_access".into(), vec![0xff; 100]);
    evil.xattrs.insert("user.huge".into(), vec![7; 1 << 20]);
    evil.xattrs.insert("\n../..".into(), vec![]);
    let mut device = entry("device", Kind::Block, 0o666);
    device.dev = Some((u32::MAX, u32::MAX));
    let mut times = entry("times", Kind::Dir, 0);
    times.mtime = (i64::MIN, 999_999_999);
    (times.uid, times.gid) = (u32::MAX, u32::MAX);
    for entry in [&symlink, &evil, &device, &times] {
        put(&extractor, entry).unwrap();
    }
    let problems = extractor.finish().unwrap();
    for subject in ["link", "file", "device"] {
        assert!(problems.iter().any(|p| p.subject == subject), "{subject}: {problems:?}");
    }
    let printable = |text: &str| text.chars().all(|c| !c.is_control());
    assert!(problems.iter().all(|p| printable(&p.what) && printable(&p.subject)));
    drop(target);
    ground.check("hostile metadata");
}

#[test]
fn a_live_file_is_replaced_only_on_a_way_without_links() {
    let ground = Ground::new();
    let live = ground.top.path().join("live");
    std::fs::create_dir_all(live.join("conf")).unwrap();
    std::fs::write(live.join("conf/app.toml"), "old").unwrap();
    symlink(ground.canary(), live.join("linked")).unwrap();
    let base = at::open_place(&live).unwrap();
    for path in ["linked", "linked/sub", "linked/new"] {
        let error = open_live_dir(base.as_fd(), &rel(path), true).unwrap_err();
        assert!(matches!(error, ExtractError::NotADirectory { .. }), "{path}: {error}");
        assert!(error.to_string().contains("linked is"), "{error}");
    }
    ground.check("live tree");

    let found = open_live_dir(base.as_fd(), &rel("conf"), false).unwrap();
    assert_eq!(found.created, []);
    let staged = temporary_name(b"app.toml").unwrap();
    let names = Names::default();
    let extractor = Extractor::new(found.dir.try_clone().unwrap(), &names, Owners::Keep, "web").unwrap();
    let mut entry = entry("app.toml", Kind::File, 0o640);
    entry.path = RelPath::new(&staged).unwrap();
    put(&extractor, &entry).unwrap();
    extractor.finish().unwrap();
    replace_in_place(found.dir.as_fd(), b"app.toml", &staged, b"app.toml.kept").unwrap();
    let text = |name: &str| std::fs::read_to_string(live.join("conf").join(name)).unwrap();
    assert_eq!((text("app.toml"), text("app.toml.kept")), ("from the archive".into(), "old".into()));
    assert_eq!(std::fs::read_dir(live.join("conf")).unwrap().count(), 2);
    let meta = std::fs::metadata(live.join("conf/app.toml")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o640, 1_000_000_000));
}

const UMASK_PLACE: &str = "BACKSTAY_TEST_UMASK_PLACE";

/// Runs only as a child of the next test, which gives it a umask of its own.
#[test]
fn child_that_restores_under_a_umask() {
    let Some(place) = std::env::var_os(UMASK_PLACE) else {
        return;
    };
    let target = Target::create(Path::new(&place)).unwrap();
    let names = Names::default();
    let extractor = Extractor::new(target.root().unwrap(), &names, Owners::Keep, "web").unwrap();
    let root = std::fs::symlink_metadata(target.staging_path()).unwrap();
    assert_eq!(root.mode() & 0o7777, 0o700);
    for entry in [
        entry(".", Kind::Dir, 0o755),
        entry("d", Kind::Dir, 0o2775),
        entry("d/e", Kind::Dir, 0o777),
        entry("d/e/fifo", Kind::Fifo, 0o666),
    ] {
        put(&extractor, &entry).unwrap();
    }
    for (path, mode) in [("d/open", 0o666), ("d/private", 0o600), ("d/setuid", 0o4755)] {
        let entry = entry(path, Kind::File, mode);
        drop(extractor.create_file(&entry).unwrap());
        let again = extractor.reopen_file(&rel(path)).unwrap();
        assert_eq!(again.metadata().unwrap().mode() & 0o7777, 0o600);
        extractor.finish_file(&again, &entry).unwrap();
    }
    assert_eq!(extractor.finish().unwrap(), []);
    target.publish().unwrap();
}

#[test]
fn the_umask_changes_nothing() {
    for umask in ["000", "022", "077", "777"] {
        let top = tempfile::tempdir().unwrap();
        let place = top.path().join("place");
        let run = Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "extract_safety::child_that_restores_under_a_umask"])
            .env(UMASK_PLACE, &place)
            .output()
            .unwrap();
        assert!(run.status.success(), "umask {umask}: {}", String::from_utf8_lossy(&run.stdout));
        let modes = [
            ("", 0o755),
            ("d", 0o2775),
            ("d/e", 0o777),
            ("d/e/fifo", 0o666),
            ("d/open", 0o666),
            ("d/private", 0o600),
            ("d/setuid", 0o4755),
        ];
        for (path, mode) in modes {
            let meta = std::fs::symlink_metadata(place.join(path)).unwrap();
            assert_eq!(meta.mode() & 0o7777, mode, "umask {umask}: {path}");
        }
    }
}

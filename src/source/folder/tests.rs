//! Scanning and opening real directories.

mod together;

use super::*;
use crate::model::RelPath;
use crate::model::entry::{FLAG_CRASH_CONSISTENT, Kind, Why};
use crate::model::report::{Problem, ProblemKind};
use crate::platform::users::Names;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        Self { _dir: dir, path }
    }
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(path)
    }
    fn file(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }
    fn files(&self, paths: &[&str]) -> &Self {
        for path in paths {
            self.file(path, path);
        }
        self
    }
    fn spec(&self) -> FolderSpec {
        FolderSpec::tree("app", &self.path)
    }
}

fn look(spec: &FolderSpec) -> (Scan, Vec<Problem>) {
    let mut problems = Vec::new();
    let scan = scan(spec, &Names::default(), &mut |p| problems.push(p)).unwrap();
    let paths: Vec<_> = scan.entries.iter().map(|f| &f.entry.path).collect();
    assert!(paths.windows(2).all(|w| w[0] < w[1]), "not in walk order: {paths:?}");
    (scan, problems)
}
fn paths(scan: &Scan) -> Vec<String> {
    scan.entries.iter().map(|f| f.entry.path.to_string()).collect()
}
fn get<'s>(scan: &'s Scan, path: &str) -> &'s Found {
    let path = RelPath::new(path.as_bytes()).unwrap();
    scan.entries.iter().find(|f| f.entry.path == path).unwrap_or_else(|| panic!("{path} is not listed"))
}
fn why(scan: &Scan, path: &str) -> Option<Why> {
    get(scan, path).entry.why
}
fn patterns(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn everything_is_listed_in_walk_order_with_its_kind() {
    let place = Place::new();
    place.files(&["a/z", "a/b/c", "a-", "a.b", "!"]);
    symlink("/nowhere/../x", place.at("link")).unwrap();
    fifo(&place.at("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(place.at("sock")).unwrap();
    let (scan, problems) = look(&place.spec());
    assert_eq!(problems, []);
    let expected = [".", "!", "a", "a/b", "a/b/c", "a/z", "a-", "a.b", "fifo", "link", "sock"];
    assert_eq!(paths(&scan), expected);
    let kind = |path| get(&scan, path).entry.kind;
    assert_eq!([kind("."), kind("a"), kind("a/z")], [Kind::Dir, Kind::Dir, Kind::File]);
    assert_eq!([kind("fifo"), kind("link"), kind("sock")], [Kind::Fifo, Kind::Symlink, Kind::Socket]);
    assert_eq!(get(&scan, "link").entry.target.as_deref(), Some(&b"/nowhere/../x"[..]));
    assert_eq!(scan.bytes, 3 + 5 + 2 + 3 + 1);
}

#[test]
fn a_found_file_has_the_identity_that_stat_gives() {
    let place = Place::new();
    place.file("f", b"12345");
    let (scan, _) = look(&place.spec());
    let meta = fs::metadata(place.at("f")).unwrap();
    let ident = get(&scan, "f").ident();
    assert_eq!((ident.dev, ident.ino, ident.size), (meta.dev(), meta.ino(), 5));
    assert_eq!((ident.mtime.0, i64::from(ident.mtime.1)), (meta.mtime(), meta.mtime_nsec()));
    assert_eq!((ident.ctime.0, i64::from(ident.ctime.1)), (meta.ctime(), meta.ctime_nsec()));
}

#[test]
fn names_are_kept_byte_by_byte() {
    let place = Place::new();
    let long = "n".repeat(255);
    let odd: [&[u8]; 6] = [b"new\nline", b"\x1b[2J", b"-rf", b"\xff\xfe", b"...", long.as_bytes()];
    for name in odd {
        place.file(OsStr::from_bytes(name), b"x");
    }
    let (scan, problems) = look(&place.spec());
    assert_eq!(problems, []);
    for name in odd {
        let found = scan.entries.iter().find(|f| f.entry.path.as_bytes() == name).unwrap();
        assert!(scan.tree.open(found, &Names::default()).is_ok());
    }
}

#[test]
fn depth_of_2000_needs_no_recursion_and_few_descriptors() {
    let place = Place::new();
    let mut dir = rustix::fs::openat(
        rustix::fs::CWD,
        &place.path,
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    for _ in 0..2000 {
        // Both a file before and one after the way down, so that each directory is come back to.
        rustix::fs::mkdirat(&dir, "d", mode).unwrap();
        for name in ["a", "z"] {
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            drop(rustix::fs::openat(&dir, name, flags, mode).unwrap());
        }
        dir = rustix::fs::openat(&dir, "d", rustix::fs::OFlags::DIRECTORY, mode).unwrap();
    }
    let (scan, problems) = look(&place.spec());
    assert_eq!(problems, []);
    assert_eq!(scan.entries.len(), 1 + 3 * 2000);
    let deepest = scan
        .entries
        .iter()
        .filter(|f| f.entry.kind == Kind::File)
        .max_by_key(|f| f.entry.path.parts().count());
    assert!(scan.tree.open(deepest.unwrap(), &Names::default()).is_ok());
}

#[test]
fn a_hundred_thousand_files_in_one_directory_are_quick() {
    let place = Place::new();
    for number in 0..100_000 {
        fs::File::create(place.at(format!("f{number:06}"))).unwrap();
    }
    let begin = Instant::now();
    let (scan, _) = look(&place.spec());
    assert_eq!(scan.entries.len(), 100_001);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn patterns_exclude_as_git_does() {
    let place = Place::new();
    place.files(&[
        "venv/lib/x",
        "src/venv",
        "a.log",
        "keep.log",
        "sub/out/x",
        "sub/deep/out/y",
        "sub/b.log",
        ".env",
        "sub/c.tmp",
    ]);
    place.file(".gitignore", "*.log\n!keep.log\n.env\n# comment\n");
    place.file("sub/.gitignore", "/out/\n!b.log\n");
    let mut spec = place.spec();
    spec.exclude = patterns(&["venv/", "*.tmp", "!.env"]);
    spec.exclude_from = patterns(&[".gitignore"]);
    let (scan, problems) = look(&spec);
    assert_eq!(problems, []);
    let expected = [
        ".",
        ".env",
        ".gitignore",
        "keep.log",
        "src",
        "src/venv",
        "sub",
        "sub/.gitignore",
        "sub/b.log",
        "sub/deep",
        "sub/deep/out",
        "sub/deep/out/y",
    ];
    assert_eq!(paths(&scan), expected);
    let rules =
        ["venv/", "*.tmp", "!.env", ".: *.log", ".: !keep.log", ".: .env", "sub: /out/", "sub: !b.log"];
    assert_eq!(scan.rules, rules);
    let (excluded, _) = Excluded::from_rules(&scan.rules);
    for found in &scan.entries {
        let path = &found.entry.path;
        assert!(!excluded.covers(path, found.entry.kind == Kind::Dir), "{path}");
    }
    assert!(excluded.covers(&RelPath::new(b"sub/out/x").unwrap(), false));
}

#[test]
fn pattern_files_named_by_path_are_read_and_must_be_there() {
    let place = Place::new();
    place.files(&["a/x.log", "b.log"]).file("conf/ignore", "/b.log\n");
    let mut spec = place.spec();
    spec.exclude_from = patterns(&["conf/ignore"]);
    assert_eq!(paths(&look(&spec).0), [".", "a", "a/x.log", "conf", "conf/ignore"]);
    spec.exclude_from = patterns(&["conf/none"]);
    let error = scan(&spec, &Names::default(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, SourceError::PatternFile { .. }), "{error}");
}

#[test]
fn a_pattern_file_that_cannot_be_read_is_said() {
    let place = Place::new();
    place.files(&["x"]);
    fifo(&place.at(".gitignore"));
    let mut spec = place.spec();
    spec.exclude_from = patterns(&[".gitignore"]);
    let (_, problems) = look(&spec);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].what.contains("not in force"), "{problems:?}");
}

#[test]
fn a_bad_pattern_is_an_error_before_anything_is_read() {
    let mut spec = Place::new().spec();
    spec.exclude = patterns(&["[z-a]"]);
    let place = Place::new();
    spec.base.clone_from(&place.path);
    let error = scan(&spec, &Names::default(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, SourceError::Pattern(_)), "{error}");
}

#[test]
fn of_caches_and_marked_directories_only_the_mark_is_taken() {
    let place = Place::new();
    place.files(&["cache/big", "marked/x", "false/x", "marked/.no backup"]);
    place.file("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    place.file("false/CACHEDIR.TAG", "not a signature");
    let mut spec = place.spec();
    spec.exclude_caches = true;
    spec.exclude_if_present = patterns(&[".no backup"]);
    let (scan, _) = look(&spec);
    let expected = [
        ".",
        "cache",
        "cache/CACHEDIR.TAG",
        "false",
        "false/CACHEDIR.TAG",
        "false/x",
        "marked",
        "marked/.no backup",
    ];
    assert_eq!(paths(&scan), expected);
    let (excluded, bad) = Excluded::from_rules(&scan.rules);
    assert!(bad.is_empty());
    assert!(excluded.covers(&RelPath::new(b"cache/big").unwrap(), false));
}

#[test]
fn what_is_nested_is_left_and_not_entered() {
    let place = Place::new();
    place.files(&[
        "backups/x",
        "data/agent.db",
        "data/agent.db-wal",
        "data/agent.db-shm",
        "data/other",
        "uploads/y",
    ]);
    let mut spec = place.spec();
    spec.nested = vec![
        (place.at("backups"), Why::Store),
        (place.at("data/agent.db"), Why::Component),
        (place.at("uploads"), Why::Component),
        (place.at("not-there"), Why::State),
        (place.path.parent().unwrap().to_owned(), Why::State),
    ];
    let (scan, problems) = look(&spec);
    assert_eq!(problems, []);
    assert_eq!(why(&scan, "backups"), Some(Why::Store));
    assert_eq!(why(&scan, "data/agent.db"), Some(Why::Component));
    assert_eq!(why(&scan, "data/agent.db-wal"), Some(Why::Sidecar));
    assert_eq!(why(&scan, "data/agent.db-shm"), Some(Why::Sidecar));
    assert_eq!(why(&scan, "data/other"), None);
    assert_eq!(scan.entries.len(), 8);
}

#[test]
fn a_list_takes_what_it_names_and_the_directories_on_the_way() {
    let place = Place::new();
    place.files(&[
        "app/.env",
        "app/other",
        "app/sub/x",
        "app/sub/deep/y",
        "app/sub/z",
        "etc/nginx/app",
        "etc/nginx/no",
    ]);
    let mut spec = place.spec();
    spec.base = place.at("app");
    spec.what = What::List(vec![place.at("app/.env"), place.at("app/sub/deep"), place.at("etc/nginx/app")]);
    let (scan, problems) = look(&spec);
    assert_eq!(problems, []);
    let mut expected = patterns(&[".", ".env", "_root"]);
    let outside = format!("_root{}/etc/nginx/app", place.path.display());
    let slashes = outside.match_indices('/').map(|(at, _)| outside[..at].to_owned());
    expected.extend(slashes.filter(|p| p != "_root"));
    expected.extend([outside.clone(), "sub".into(), "sub/deep".into(), "sub/deep/y".into()]);
    assert_eq!(paths(&scan), expected);
    let parent = get(&scan, outside.rsplit_once('/').unwrap().0);
    assert_eq!(
        (parent.entry.kind, parent.ident().ino),
        (Kind::Dir, fs::metadata(place.at("etc/nginx")).unwrap().ino())
    );
    let mut text = String::new();
    let found = get(&scan, &outside);
    scan.tree.open(found, &Names::default()).unwrap().file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "etc/nginx/app");
    assert_eq!(scan.tree.real_path(&found.entry.path), place.at("etc/nginx/app"));
}

#[test]
fn a_listed_path_is_taken_whatever_the_patterns_say() {
    let place = Place::new();
    place.files(&["logs/a.log", "logs/b.txt"]);
    let mut spec = place.spec();
    spec.exclude = patterns(&["*.log", "logs"]);
    spec.what = What::List(vec![place.at("logs/a.log")]);
    assert_eq!(paths(&look(&spec).0), [".", "logs", "logs/a.log"]);
    spec.what = What::List(vec![place.at("logs")]);
    assert_eq!(paths(&look(&spec).0), [".", "logs", "logs/b.txt"]);
}

#[test]
fn what_is_missing_is_never_an_empty_success() {
    let place = Place::new();
    place.files(&["x"]);
    let mut spec = place.spec();
    spec.what = What::List(vec![place.at("x"), place.at("gone/deep/y")]);
    let (listed, problems) = look(&spec);
    assert_eq!(paths(&listed), [".", "gone", "x"]);
    assert_eq!(why(&listed, "gone"), Some(Why::Unreadable));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].is_failure() && problems[0].what.contains("does not exist"));

    let fails = |spec: &FolderSpec| scan(spec, &Names::default(), &mut |_| ()).unwrap_err();
    spec.what = What::List(vec![place.at("gone")]);
    assert!(matches!(fails(&spec), SourceError::Missing { .. }));
    spec.what = What::Single(place.at("gone"));
    assert!(matches!(fails(&spec), SourceError::Missing { .. }));
    spec.what = What::Tree;
    spec.base = place.at("gone");
    assert!(matches!(fails(&spec), SourceError::Missing { .. }));
    spec.base = place.at("x");
    assert!(matches!(fails(&spec), SourceError::NotADirectory { .. }));
}

#[test]
fn a_single_file_is_the_only_entry_and_must_be_a_file() {
    let place = Place::new();
    place.files(&["sub/x"]);
    symlink("sub/x", place.at("link")).unwrap();
    let mut spec = place.spec();
    spec.what = What::Single(place.at("sub/x"));
    let (scan_, _) = look(&spec);
    assert_eq!(paths(&scan_), ["x"]);
    assert!(scan_.tree.open(&scan_.entries[0], &Names::default()).is_ok());
    spec.what = What::Single(place.at("link"));
    let error = scan(&spec, &Names::default(), &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn databases_are_known_by_their_header_and_their_sidecars_left() {
    let place = Place::new();
    let database = [&b"SQLite format 3\0"[..], &[0; 1008]].concat();
    place.file("d/app.data", &database).files(&[
        "d/app.data-wal",
        "d/app.data-shm",
        "d/app.data-journal",
        "d/app.data-x",
    ]);
    place.file("d/odd", [&database[..], b"x"].concat()).files(&["d/odd-wal"]);
    place.file("d/short", &database[..100]);
    let (scan, problems) = look(&place.spec());
    assert_eq!(problems, []);
    let databases: Vec<_> =
        scan.entries.iter().filter(|f| f.database).map(|f| f.entry.path.to_string()).collect();
    assert_eq!(databases, ["d/app.data"]);
    for sidecar in ["d/app.data-wal", "d/app.data-shm", "d/app.data-journal"] {
        assert_eq!(why(&scan, sidecar), Some(Why::Sidecar), "{sidecar}");
    }
    assert_eq!([why(&scan, "d/app.data-x"), why(&scan, "d/odd-wal")], [None, None]);
    let plain = scan.as_bytes(&RelPath::new(b"d/app.data").unwrap(), &Names::default());
    let names: Vec<_> = plain.iter().map(|f| f.entry.path.to_string()).collect();
    assert_eq!(names, ["d/app.data", "d/app.data-journal", "d/app.data-shm", "d/app.data-wal"]);
    assert!(plain.iter().all(|f| f.entry.has_flag(FLAG_CRASH_CONSISTENT) && !f.database));
}

#[test]
fn what_looks_like_an_encrypted_database_is_packed_as_bytes_and_said() {
    let place = Place::new();
    let log = [&0x377f_0682_u32.to_be_bytes()[..], &[0; 100]].concat();
    place.file("app.db", [7; 4096]).file("app.db-wal", &log).file("app.db-shm", b"x");
    place.file("calm.db", [7; 4096]).file("other.db", [7; 4096]).file("other.db-wal", b"not a log");
    let (scan, problems) = look(&place.spec());
    let marked = |path| get(&scan, path).entry.has_flag(FLAG_CRASH_CONSISTENT);
    assert!(marked("app.db") && marked("app.db-wal") && marked("app.db-shm"));
    assert!(!marked("calm.db") && !marked("other.db") && !marked("other.db-wal"));
    let kinds: Vec<_> = problems.iter().map(|p| (p.kind, p.subject.as_str())).collect();
    assert_eq!(kinds, [(ProblemKind::Warning, "app.db")]);
}

#[test]
fn data_of_a_running_server_is_refused_unless_excluded() {
    let place = Place::new();
    place.files(&["pg/PG_VERSION", "pg/base/1", "my/ibdata1", "x"]);
    let mut spec = place.spec();
    let (scan, problems) = look(&spec);
    assert_eq!(paths(&scan), [".", "my", "pg", "x"]);
    assert_eq!([why(&scan, "my"), why(&scan, "pg")], [Some(Why::Unreadable); 2]);
    assert!(problems.len() == 2 && problems.iter().all(Problem::is_failure), "{problems:?}");
    assert!(problems[1].what.contains("PostgreSQL"));
    spec.exclude = patterns(&["pg/", "my/"]);
    assert_eq!(look(&spec).1, []);
}

#[test]
fn hard_links_share_a_number_made_of_the_first_name() {
    let place = Place::new();
    place.files(&["b", "alone"]);
    fs::hard_link(place.at("b"), place.at("a")).unwrap();
    fs::create_dir(place.at("c")).unwrap();
    fs::hard_link(place.at("b"), place.at("c/d")).unwrap();
    let outside = Place::new();
    fs::hard_link(place.at("alone"), outside.at("elsewhere")).unwrap();
    let (scan, _) = look(&place.spec());
    let expected = u64::from_be_bytes(blake3::hash(b"a").as_bytes()[..8].try_into().unwrap());
    for name in ["a", "b", "c/d"] {
        assert_eq!(get(&scan, name).entry.link, Some(expected), "{name}");
    }
    assert_eq!(get(&scan, "alone").entry.link, None);
    let opened = scan.tree.open(get(&scan, "c/d"), &Names::default()).unwrap();
    assert_eq!(opened.entry.link, Some(expected));
}

#[test]
fn an_unreadable_directory_is_left_said_and_can_be_allowed() {
    if is_root() {
        crate::not_run("files that cannot be read, as one who reads not everything (this is root)");
        return;
    }
    let place = Place::new();
    place.files(&["shut/x", "open"]);
    fs::set_permissions(place.at("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut spec = place.spec();
    let (scan, problems) = look(&spec);
    assert_eq!(why(&scan, "shut"), Some(Why::Unreadable));
    assert!(problems.len() == 1 && problems[0].is_failure());
    spec.allow_unreadable = patterns(&["shut/"]);
    assert_eq!(look(&spec).1, []);
    fs::set_permissions(place.at("shut"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_may_be_unreadable_makes_no_problem() {
    let place = Place::new();
    place.files(&["srv/pg/PG_VERSION", "x"]);
    let mut spec = place.spec();
    spec.allow_unreadable = patterns(&["srv/"]);
    let (scan, problems) = look(&spec);
    assert_eq!(problems, []);
    assert_eq!(why(&scan, "srv/pg"), Some(Why::Unreadable));
}

#[test]
fn other_file_systems_are_left_when_asked() {
    let spec = FolderSpec {
        one_file_system: true,
        exclude: patterns(&["/*", "!/proc", "!/tmp", "/tmp/*"]),
        ..FolderSpec::tree("all", "/")
    };
    let (proc, root) = (fs::metadata("/proc"), fs::metadata("/").unwrap());
    if !proc.is_ok_and(|proc| proc.dev() != root.dev()) {
        crate::not_run("another file system in a folder (/proc is none here)");
        return;
    }
    let (scan, _) = look(&spec);
    assert_eq!(why(&scan, "proc"), Some(Why::Mount));
    assert!(!paths(&scan).iter().any(|p| p.starts_with("proc/")));
}

#[test]
fn a_directory_mounted_inside_itself_is_not_entered_again() {
    let place = Place::new();
    place.files(&["x", "sub/in/y"]);
    let (from, to) = (&place.path, place.at("sub/in"));
    let mounted = std::process::Command::new("mount")
        .arg("--bind")
        .args([from, &to])
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        crate::not_run("a bind mount in a folder (not allowed here)");
        return;
    }
    let mut problems = Vec::new();
    let scan = scan(&place.spec(), &Names::default(), &mut |p| problems.push(p));
    let unmounted = std::process::Command::new("umount").arg(&to).status().unwrap();
    assert!(unmounted.success());
    let scan = scan.unwrap();
    assert_eq!(paths(&scan), [".", "sub", "sub/in", "x"]);
    assert_eq!(why(&scan, "sub/in"), Some(Why::Mount));
    assert!(problems.len() == 1 && !problems[0].is_failure(), "{problems:?}");
}

#[test]
fn what_changed_since_the_scan_is_noticed_and_never_waited_for() {
    let place = Place::new();
    place.files(&["gone", "fifo", "link", "dir", "way/x", "same"]);
    let (scan, _) = look(&place.spec());
    for name in ["gone", "fifo", "link", "dir"] {
        fs::remove_file(place.at(name)).unwrap();
    }
    fifo(&place.at("fifo"));
    symlink("/etc/passwd", place.at("link")).unwrap();
    fs::create_dir(place.at("dir")).unwrap();
    fs::rename(place.at("way"), place.at("moved")).unwrap();
    symlink("moved", place.at("way")).unwrap();
    let open = |name: &str| scan.tree.open(get(&scan, name), &Names::default()).map(|_| ());
    assert!(matches!(open("gone"), Err(OpenError::Vanished { .. })));
    for name in ["fifo", "link", "dir", "way/x"] {
        assert!(matches!(open(name), Err(OpenError::Changed { .. })), "{name}: {:?}", open(name));
    }
    assert!(open("same").is_ok());
}

#[test]
fn growing_is_told_from_other_changes() {
    let place = Place::new();
    place.file("f", b"12345");
    let (scan, _) = look(&place.spec());
    let open = || scan.tree.open(get(&scan, "f"), &Names::default()).unwrap();
    let opened = open();
    assert_eq!((opened.entry.size, &opened.ranges[..]), (5, &[(0, 5)][..]));
    assert_eq!(opened.after().unwrap(), Steadiness::Same);
    let append = || fs::OpenOptions::new().append(true).open(place.at("f")).unwrap();
    append().write_all(b"67").unwrap();
    assert_eq!(opened.after().unwrap(), Steadiness::Grew);

    let opened = open();
    append().set_len(3).unwrap();
    assert_eq!(opened.after().unwrap(), Steadiness::Changed);

    let opened = open();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1000);
    append().set_modified(long_ago).unwrap();
    assert_eq!(opened.after().unwrap(), Steadiness::Changed, "a rewrite that sets the time back");
}

#[test]
fn the_open_file_says_what_is_true_when_it_is_opened() {
    let place = Place::new();
    place.file("f", b"old");
    let (scan, _) = look(&place.spec());
    fs::write(place.at("f"), b"newer").unwrap();
    fs::set_permissions(place.at("f"), fs::Permissions::from_mode(0o600)).unwrap();
    let opened = scan.tree.open(get(&scan, "f"), &Names::default()).unwrap();
    assert_eq!((opened.entry.size, opened.entry.mode, opened.ident.size), (5, 0o600, 5));
    assert_ne!(opened.ident, get(&scan, "f").ident());
}

#[test]
fn holes_are_not_read() {
    let place = Place::new();
    let file = fs::File::create(place.at("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (1 << 40) - 3).unwrap();
    fs::hard_link(place.at("sparse"), place.at("other name")).unwrap();
    let (scan, _) = look(&place.spec());
    let opened = scan.tree.open(get(&scan, "sparse"), &Names::default()).unwrap();
    assert_eq!(opened.entry.size, 1 << 40);
    // Archives are sealed by what there is to read.
    assert!(scan.bytes == 2 << 40 && (1..=1 << 20).contains(&scan.allocated), "{}", scan.allocated);
    assert!(opened.ranges.iter().map(|r| r.1).sum::<u64>() <= 1 << 20, "{:?}", opened.ranges);
}

#[test]
fn a_file_longer_than_its_hashes_could_be_held_is_not_captured_and_said() {
    // Few file systems take such lengths; the one in memory does.
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return crate::not_run("files of more than 128 TiB: there is no file system in memory here");
    };
    let file = fs::File::create(dir.path().join("thin")).unwrap();
    let spec = FolderSpec::tree("thin", dir.path());
    file.set_len(1 << 47).unwrap();
    let (scan, _) = look(&spec);
    assert!(scan.tree.open(get(&scan, "thin"), &Names::default()).is_ok());
    for length in [(1 << 47) + 1, i64::MAX as u64] {
        file.set_len(length).unwrap();
        let refused = scan.tree.open(get(&scan, "thin"), &Names::default()).unwrap_err();
        let source = match refused {
            OpenError::Unreadable { source, .. } => source,
            other => panic!("{other:?}"),
        };
        assert!(source.to_string().contains("128 TiB"), "{source}");
    }
    // Whatever they are said to be long, their sum is none that breaks.
    fs::File::create(dir.path().join("thin2")).unwrap().set_len(i64::MAX as u64).unwrap();
    fs::File::create(dir.path().join("thin3")).unwrap().set_len(i64::MAX as u64).unwrap();
    assert_eq!(look(&spec).0.bytes, u64::MAX);
}

#[test]
fn a_symlinked_base_is_followed_and_links_inside_are_not() {
    let place = Place::new();
    place.files(&["real/x", "other/secret"]);
    symlink("real", place.at("current")).unwrap();
    symlink("../other", place.at("real/link")).unwrap();
    let mut spec = place.spec();
    spec.base = place.at("current");
    let (scan, _) = look(&spec);
    assert_eq!(paths(&scan), [".", "link", "x"]);
    assert_eq!(scan.tree.real_base(), place.at("real"));
}

#[test]
fn a_name_that_is_no_text_can_be_a_base() {
    let place = Place::new();
    let name = OsString::from_vec(b"b\xff".to_vec());
    fs::create_dir(place.at(&name)).unwrap();
    fs::write(place.at(&name).join("f"), b"x").unwrap();
    let spec = FolderSpec::tree("odd", place.at(&name));
    assert_eq!(paths(&look(&spec).0), [".", "f"]);
}

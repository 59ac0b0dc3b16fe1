//! What is put back where it was: what was there is kept, and nothing else is touched.

use super::*;

/// Files of `dir` that a restore in place kept, by what they were.
fn kept(dir: &Path, name: &str) -> Vec<PathBuf> {
    let prefix = format!("{name}.before-restore-");
    let listing = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<PathBuf> = { listing }
        .filter(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&prefix)
        })
        .collect();
    found.sort();
    found
}

/// The tree without what restores in place kept.
fn without_kept(mut tree: Tree) -> Tree {
    let marker = b".before-restore-";
    tree.retain(|path, _| !path.windows(marker.len()).any(|w| w == marker));
    tree
}

#[test]
fn in_place_everything_is_as_it_was_and_what_was_there_is_kept() {
    let (project, app) = with_app("", |app| {
        put(&app.join("modified"), "as it was");
        put(&app.join("deleted"), "as it was");
        put(&app.join("gone/deep/file"), "as it was");
        symlink("file", app.join("gone/deep/link")).unwrap();
        fs::create_dir_all(app.join("gone/empty/too")).unwrap();
        set_mode(&app.join("gone/empty/too"), 0o500);
        put(&app.join("now a folder"), "as it was");
        symlink("modified", app.join("link")).unwrap();
        put(&app.join("twin"), "two names");
        fs::hard_link(app.join("twin"), app.join("twin-2")).unwrap();
        set_mode(&app.join("modified"), 0o751);
        set_mode(&app.join("gone/deep"), 0o700);
        set_mtime(&app.join("gone/deep"), 1_000_000_000, 1);
        set_mtime(&app.join("gone"), 1_000_000_000, 2);
    });
    let before = look(&app);
    project.backup();
    put(&app.join("modified"), "something else");
    set_mode(&app.join("modified"), 0o600);
    fs::remove_file(app.join("deleted")).unwrap();
    fs::remove_dir_all(app.join("gone")).unwrap();
    fs::remove_file(app.join("now a folder")).unwrap();
    put(&app.join("now a folder/in it"), "new");
    fs::remove_file(app.join("link")).unwrap();
    symlink("elsewhere", app.join("link")).unwrap();
    put(&app.join("only live"), "stays");
    let live = look(&app);
    let no_yes = project.run(["restore", "latest", "app", "--in-place"]);
    expect_code(no_yes, 2);
    assert_same(&live, &look(&app));
    project.ok(["restore", "latest", "app", "--in-place", "--yes"]);
    let mut found = without_kept(look(&app));
    assert!(found.remove(&b"only live"[..]).is_some());
    let mut expected = before;
    // Something was put into the component's folder, and its time says so.
    for tree in [&mut found, &mut expected] {
        tree.get_mut(&b""[..]).unwrap().mtime = (0, 0);
    }
    assert_same(&expected, &found);
    let old = kept(&app, "modified");
    assert_eq!(fs::read_to_string(&old[0]).unwrap(), "something else");
    assert_eq!(old[0].metadata().unwrap().mode() & 0o7777, 0o600);
    let old = kept(&app, "now a folder");
    assert_eq!(fs::read_to_string(old[0].join("in it")).unwrap(), "new");
    let old = kept(&app, "link");
    assert_eq!(fs::read_link(&old[0]).unwrap(), Path::new("elsewhere"));
    assert!(kept(&app, "deleted").is_empty());
}

#[test]
fn in_place_a_folder_that_is_called_root_stays_in_its_component() {
    let project = Project::new(FOLDER, "");
    let outside = project.top.join("outside");
    let inside = project.dir.join(format!("app/_root{}", outside.display()));
    put(&inside.join("file"), "of the component");
    put(&outside.join("file"), "of somebody else");
    project.backup();
    put(&inside.join("file"), "changed");
    project.ok(["restore", "latest", "app", "--in-place", "--yes"]);
    let text = |path: PathBuf| fs::read_to_string(path).unwrap();
    assert_eq!(text(inside.join("file")), "of the component");
    assert_eq!(text(outside.join("file")), "of somebody else");
}

#[test]
fn in_place_listed_paths_go_back_outside_of_the_project() {
    let project = Project::new("", "");
    let outside = project.top.join("outside");
    put(&outside.join("site/deep/file"), "as it was");
    fs::create_dir_all(outside.join("site/empty")).unwrap();
    set_mtime(&outside.join("site/deep"), 1_000_000_000, 5);
    put(&project.dir.join(".env"), "as it was");
    let site = outside.join("site");
    project.configure(&format!("[[component]]\nname = \"settings\"\npaths = [\".env\", {site:?}]\n"), "");
    let before = look(&outside);
    project.backup();
    fs::remove_dir_all(outside.join("site/deep")).unwrap();
    fs::remove_dir_all(outside.join("site/empty")).unwrap();
    put(&project.dir.join(".env"), "changed");
    project.ok(["restore", "latest", "settings", "--in-place", "--yes"]);
    let (mut found, mut before) = (look(&outside), before);
    for tree in [&mut found, &mut before] {
        tree.get_mut(&b"site"[..]).unwrap().mtime = (0, 0);
    }
    assert_same(&before, &found);
    let text = fs::read_to_string(project.dir.join(".env")).unwrap();
    assert_eq!(text, "as it was");
    assert!(!project.dir.join("_root").exists());
}

#[test]
fn in_place_a_live_path_chooses_one_file_and_touches_nothing_else() {
    let (project, app) = with_app("", |app| {
        put(&app.join("a/file"), "as it was");
        put(&app.join("a/other"), "as it was");
    });
    project.backup();
    put(&app.join("a/file"), "changed");
    put(&app.join("a/other"), "changed, too");
    let before = look(&app);
    project.ok(["restore", "latest", "./app/a/file", "--in-place", "--yes"]);
    let mut found = without_kept(look(&app));
    assert_eq!(fs::read_to_string(app.join("a/file")).unwrap(), "as it was");
    let mut expected = before;
    for tree in [&mut found, &mut expected] {
        tree.remove(&b"a/file"[..]);
        tree.get_mut(&b"a"[..]).unwrap().mtime = (0, 0);
        tree.get_mut(&b""[..]).unwrap().mtime = (0, 0);
    }
    assert_same(&expected, &found);
}

#[test]
fn in_place_a_stale_log_never_meets_the_restored_database() {
    let project = Project::new(MIXED, "");
    let database = project.dir.join("app/data/agent.db");
    drop(Live::new(&database, 1000));
    put(&project.dir.join("single file"), "alone");
    project.backup();
    let live = Live::new_rows_in(&database, 500);
    let wal = database.with_file_name("agent.db-wal");
    let old_wal = fs::read(&wal).unwrap();
    assert!(old_wal.len() > 10_000, "there is a log with content");
    project.ok(["restore", "latest", "db", "--in-place", "--yes"]);
    assert!(!wal.exists());
    drop(live);
    assert_eq!(rows(&database), 1000);
    let dir = database.parent().unwrap();
    assert_eq!(kept(dir, "agent.db").len(), 1);
    assert_eq!(fs::read(&kept(dir, "agent.db-wal")[0]).unwrap(), old_wal);
}

impl Live {
    /// Adds committed rows to the log of a database that is there.
    fn new_rows_in(path: &Path, rows: usize) -> Self {
        let connection = Connection::open(path).unwrap();
        let begin = "PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0";
        connection.execute_batch(begin).unwrap();
        let live = Self { connection };
        live.add(rows);
        live
    }
}

#[test]
fn in_place_nothing_is_written_through_a_link_or_over_a_file_that_was_a_folder() {
    let (project, app) = with_app("", |app| {
        put(&app.join("sub/deep/file"), "as it was");
        put(&app.join("other/file"), "as it was");
    });
    project.backup();
    let elsewhere = project.top.join("elsewhere");
    put(&elsewhere.join("deep/file"), "not ours");
    fs::remove_dir_all(app.join("sub")).unwrap();
    symlink(&elsewhere, app.join("sub")).unwrap();
    fs::remove_dir_all(app.join("other")).unwrap();
    put(&app.join("other"), "a file now");
    let (live, outside) = (look(&app), look(&elsewhere));
    for path in ["app/sub/deep/file", "app/other/file"] {
        let output = project.run(["restore", "latest", path, "--in-place", "--yes"]);
        let output = expect_code(output, 1);
        let said = String::from_utf8(output.stderr).unwrap();
        let part = if path.contains("sub") { "sub" } else { "other" };
        assert!(said.contains("not a directory") || said.contains(part), "{said}");
    }
    assert_same(&outside, &look(&elsewhere));
    let mut found = look(&app);
    let mut expected = live;
    for tree in [&mut found, &mut expected] {
        tree.get_mut(&b""[..]).unwrap().mtime = (0, 0); // a hidden folder was there for a while
    }
    assert_same(&expected, &found);
}

#[test]
fn in_place_nothing_is_exchanged_when_the_way_to_any_file_leads_through_a_link() {
    let (project, app) = with_app("", |app| {
        put(&app.join("a"), "as it was");
        put(&app.join("m/deep/file"), "as it was");
        put(&app.join("z"), "as it was");
    });
    project.backup();
    put(&app.join("a"), "newer");
    put(&app.join("z"), "newer");
    let elsewhere = project.top.join("elsewhere");
    fs::rename(app.join("m"), &elsewhere).unwrap();
    symlink(&elsewhere, app.join("m")).unwrap();
    let mut before = look(&app);
    let output = expect_code(project.run(["restore", "latest", "app", "--in-place", "--yes"]), 1);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("links are not followed"), "{said}");
    let mut after = look(&app);
    for tree in [&mut before, &mut after] {
        tree.get_mut(&b""[..]).unwrap().mtime = (0, 0); // a hidden folder was there for a while
    }
    assert_same(&before, &after);
}

#[test]
fn in_place_a_device_that_nobody_may_make_does_not_stop_the_rest() {
    if !is_root() {
        return cannot_run("a device that is made, and then may not be, needs root to begin with");
    }
    if !have(&["setpriv"]) {
        return;
    }
    let (project, app) = with_app("", |app| {
        put(&app.join("a"), "as it was");
        put(&app.join("z"), "as it was");
    });
    let (kind, numbers) = (FileType::CharacterDevice, makedev(1, 3));
    if let Err(e) = mknodat(CWD, app.join("device"), kind, Mode::RUSR, numbers) {
        return cannot_run(&format!("no device can be made here: {e}"));
    }
    project.backup();
    fs::remove_file(app.join("device")).unwrap();
    put(&app.join("a"), "newer");
    put(&app.join("z"), "newer");
    let mut without = program(Path::new("setpriv"), &project.home);
    without.args(["--inh-caps=-mknod", "--bounding-set=-mknod"]).arg(exe()).current_dir(&project.dir);
    without.args(["restore", "latest", "app", "--in-place", "--yes"]);
    let said = String::from_utf8(expect_code(without.output().unwrap(), 3).stderr).unwrap();
    assert!(said.contains("device 1:3 not made"), "{said}");
    for file in ["a", "z"] {
        assert_eq!(fs::read_to_string(app.join(file)).unwrap(), "as it was", "{file}");
    }
    assert!(!app.join("device").exists());
}

//! Restores in place into a component in which something else is mounted: where no rename leads, files are copied.

use super::bed::{Bed, FAIL_AT, Tree, assert_code, rows, tree};
use crate::common::mounts::{given_folder, in_own_mounts, mount};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// What lies in `top`, without the database, what was kept of old files, and what was only live.
fn files(top: &Path) -> Tree {
    let mut files = tree(top);
    files.retain(|path, _| {
        let text = path.to_string_lossy();
        !text.contains("agent.db") && !text.contains(".before-restore-")
    });
    files
}

/// One component that is all of the folder, and a list with a path elsewhere.
fn components(bed: &Bed, elsewhere: &Path) {
    let path = bed.app().join("backstay.toml");
    let mut config: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let components = format!(
        "[[component]]\nname = \"backend\"\npath = \"backend\"\n\
         [[component]]\nname = \"listed\"\npaths = [\"first.env\", {elsewhere:?}]\n"
    );
    config.remove("component");
    config.extend(components.parse::<toml::Table>().unwrap());
    fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
}

#[test]
fn a_restore_in_place_reaches_what_is_mounted_in_a_component() {
    in_own_mounts("crash::volumes::mounted");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn mounted() {
    let Some(top) = given_folder() else { return };
    let bed = Bed::at(&top);
    let (app, backend, elsewhere) = (bed.app(), bed.app().join("backend"), top.join("elsewhere"));
    mount(&["-t", "tmpfs", "tmpfs"], &backend.join("data"));
    mount(&["-t", "tmpfs", "tmpfs"], &elsewhere);
    // The same file system, and no rename leads there all the same.
    let steps = backend.join("steps");
    fs::create_dir_all(&steps).unwrap();
    mount(&["--bind", steps.to_str().unwrap()], &steps);
    bed.make_app();
    fs::create_dir(backend.join("data/deep")).unwrap();
    fs::write(backend.join("data/one"), b"two names").unwrap();
    fs::hard_link(backend.join("data/one"), backend.join("data/deep/two")).unwrap();
    fs::set_permissions(backend.join("data/one"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("one", backend.join("data/link")).unwrap();
    fs::write(app.join("first.env"), b"A=1").unwrap();
    fs::write(elsewhere.join("site.conf"), b"listen 80").unwrap();
    bed.set_up();
    components(&bed, &elsewhere);
    assert_code(&bed.run(&["backup"]), 0);
    let (expected, site, held) = (files(&backend), files(&elsewhere), rows(&bed.database()));

    for file in ["main.py", "data/one", "steps/step_0.py"] {
        fs::remove_file(backend.join(file)).unwrap();
        fs::write(backend.join(file), b"newer").unwrap();
    }
    fs::remove_file(steps.join("step_1.py")).unwrap();
    fs::remove_dir_all(backend.join("data/deep")).unwrap();
    fs::remove_file(backend.join("data/link")).unwrap();
    fs::write(app.join("first.env"), b"A=2").unwrap();
    fs::write(elsewhere.join("site.conf"), b"listen 81").unwrap();
    let live = Connection::open(bed.database()).unwrap();
    live.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (2)").unwrap();
    assert_code(&bed.run(&["restore", "latest", "backend/data/agent.db", "--in-place", "--yes"]), 0);
    drop(live);
    assert_eq!(rows(&bed.database()), held);
    assert_eq!(fs::read(backend.join("data/one")).unwrap(), b"newer", "only what was asked for");

    assert_code(&bed.run(&["restore", "latest", "backend", "listed", "--in-place", "--yes"]), 0);
    let now = files(&backend);
    for path in expected.keys().chain(now.keys()) {
        assert!(now.get(path) == expected.get(path), "{}", path.display());
    }
    assert_eq!(rows(&bed.database()), held);
    let inode = |path: &str| fs::metadata(backend.join(path)).unwrap().ino();
    assert_eq!(inode("data/one"), inode("data/deep/two"));
    assert_eq!(files(&elsewhere), site);
    assert_eq!(fs::read(app.join("first.env")).unwrap(), b"A=1");
    bed.assert_no_litter("restored");
}

#[test]
fn what_cannot_be_moved_to_its_place_is_copied_there() {
    let bed = Bed::with_snapshot();
    let (expected, held) = (bed.expected(), rows(&bed.database()));
    let backend = bed.app().join("backend");
    for file in ["main.py", "model.bin", "steps/step_0.py"] {
        fs::write(backend.join(file), b"newer").unwrap();
    }
    bed.write_rows(2);
    bed.save();
    let restore = ["restore", "latest", "backend", "db", "--in-place", "--yes"];
    let points = bed.points(&restore);
    let moves = points.iter().filter(|point| *point == "bring in place").count() / 2;
    assert!(moves >= 8, "{points:?}");
    for call in 1..=moves {
        bed.reset();
        // EXDEV.
        assert_code(&bed.run_with(&restore, &[(FAIL_AT, &format!("bring in place#{call}:18"))]), 0);
        let now = files(&backend);
        let wanted =
            expected.files.iter().filter_map(|(path, node)| Some((path.strip_prefix("backend").ok()?, node)));
        for (path, node) in wanted {
            assert!(now.get(path) == Some(node), "call {call}: {}", path.display());
        }
        assert_eq!(rows(&bed.database()), held, "call {call}");
        bed.assert_no_litter(&format!("call {call}"));
    }
}

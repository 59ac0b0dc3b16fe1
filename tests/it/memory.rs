//! Memory stays bounded, however large the files are and however many.

use crate::common::everything::{MIB, put, put_sparse};
use crate::common::long::long;
use crate::common::project::{Project, expect_code, noise, not_run};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TIME: &str = "/usr/bin/time";

/// The promise, in KiB.
const PEAK_MAX: u64 = 192 << 10;

/// The program as it is released, if it was built, is not older than what is tested, and so is the same; else the one under test.
fn released() -> PathBuf {
    let tested = Path::new(env!("CARGO_BIN_EXE_backstay"));
    let profiles = tested.parent().and_then(Path::parent).unwrap();
    let release = profiles.join("release/backstay");
    let age = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    if age(&release) >= age(tested) { release } else { tested.to_owned() }
}

/// Whether peaks can be had here; where not, it is said.
fn can_measure() -> bool {
    let can = Path::new(TIME).exists();
    if !can {
        not_run("/usr/bin/time not found: memory was not measured");
    }
    can
}

/// Runs the program, which must succeed, and returns the peak of its resident memory in KiB. That of its children counts, too: the largest.
fn peak(project: &Project, args: &[&str]) -> u64 {
    let report = project.top.join("peak");
    let mut time = Command::new(TIME);
    time.args(["-f", "%M", "-o"]).arg(&report).arg(released()).args(args);
    time.env_clear().env("HOME", &project.home).env("PATH", std::env::var_os("PATH").unwrap());
    expect_code(time.current_dir(&project.dir).stdin(Stdio::null()).output().unwrap(), 0);
    fs::read_to_string(report).unwrap().trim().parse().unwrap()
}

/// Large files with and without holes, and many small ones: about `total` MiB in all.
fn fill(app: &Path, total: u64) {
    let large = total / 2;
    put(&app.join("large"), "");
    let mut file = File::create(app.join("large")).unwrap();
    for seed in 0..large {
        file.write_all(&noise(seed + 1, 1 << 20)).unwrap();
    }
    let stretches = total / 6;
    let sparse: Vec<(u64, usize)> = (0..stretches * 256).map(|n| (n * 8192, 4096)).collect();
    put_sparse(&app.join("many holes"), stretches * 256 * 8192 + 2000 * MIB, &sparse);
    for n in 0..total * 10 {
        put(&app.join(format!("many/{}/{n}", n % 50)), noise(n, 30_000));
    }
}

#[test]
fn backup_and_restore_stay_below_192_mib() {
    if !can_measure() {
        return;
    }
    let components = "[[component]]\nname = \"app\"\npath = \"app\"\n";
    let project = Project::new(components, "");
    fill(&project.dir.join("app"), if long() { 5000 } else { 300 });
    let backup = peak(&project, &["backup"]);
    let to = project.top.join("restored");
    let restore = peak(&project, &["restore", "latest", "--to", to.to_str().unwrap()]);
    println!("peak of {}: backup {backup} KiB, restore {restore} KiB", released().display());
    assert!(backup <= PEAK_MAX, "backup took {backup} KiB at its peak");
    assert!(restore <= PEAK_MAX, "restore took {restore} KiB at its peak");
}

/// What is known of each file is held while large buffers are: together they must stay below it, too.
#[test]
fn many_small_files_beside_large_ones_stay_below_192_mib() {
    if !can_measure() {
        return;
    }
    let project = Project::new("[[component]]\nname = \"app\"\npath = \"app\"\n", "");
    let app = project.dir.join("app");
    for n in 0..40_000 {
        put(&app.join(format!("small/{}/{n}", n / 4)), format!("{n}"));
    }
    for n in 0..60 {
        put(&app.join(format!("large/{n}")), noise(n, 4 << 20));
    }
    let backup = peak(&project, &["backup"]);
    println!("peak of {}: {backup} KiB", released().display());
    assert!(backup <= PEAK_MAX, "backup took {backup} KiB at its peak");
}

/// The program that captures a database is a child: its pages must not pile up there either, by whichever way they are read.
#[test]
fn a_large_live_database_is_captured_below_192_mib() {
    if !can_measure() {
        return;
    }
    captured_below(4096, 90_000);
    // Two million pages: their hashes alone are 36 MB, and there are old ones and new ones.
    if long() {
        captured_below(512, 230_000);
    }
}

fn captured_below(page: u32, rows: u32) {
    let project = Project::new("[[component]]\nname = \"db\"\nsqlite = \"live.db\"\n", "");
    let database = rusqlite::Connection::open(project.dir.join("live.db")).unwrap();
    let setup = format!(
        "PRAGMA page_size={page}; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE t(x)"
    );
    database.execute_batch(&setup).unwrap();
    let insert = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
        INSERT INTO t SELECT randomblob(4000) FROM n"
    );
    database.execute_batch(&insert).unwrap();
    assert!(fs::metadata(project.dir.join("live.db")).unwrap().len() > u64::from(rows) * 4000);
    for what in ["all of it", "what changed of it"] {
        let peak = peak(&project, &["backup"]);
        println!("peak of {} for {what}, pages of {page} bytes: {peak} KiB", released().display());
        assert!(peak <= PEAK_MAX, "a backup of {what} took {peak} KiB at its peak");
        database.execute_batch("UPDATE t SET x = randomblob(4000) WHERE rowid % 100 = 0").unwrap();
    }
}

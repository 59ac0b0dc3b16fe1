//! What a lost catalog may cost; what is remembered, and for how long.

use crate::common::project::cannot_run;
use crate::common::watched;
use crate::lab::{Lab, Node, noise, put, tree};
use backstay::catalog::known::{
    ComponentUpdate, Expected, Known, KnownArchive, Loaded, Update, load, remove, save,
};
use backstay::model::{ObjectId, document};
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::error::Class;
use backstay::store::testing::Verb;
use backstay::store::{Key, Prefix, Store};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const APP: &str = "[[component]]\nname = \"app\"\npath = \"app\"\n";

/// A large file in blocks of which each day changes one in fifty, spread over all of it, none twice.
const BLOCK: usize = 16 << 10;
const BLOCKS: usize = 512;
const STRIDE: usize = 50;
/// More archives than frames are kept unpacked.
const DAYS: usize = 20;

fn large(path: &Path) {
    put(path, &noise(1, BLOCK * BLOCKS));
}

fn change(path: &Path, day: usize) {
    let file = fs::File::options().write(true).open(path).unwrap();
    for block in (day..BLOCKS).step_by(STRIDE) {
        let bytes = noise((1000 * day + block) as u64, BLOCK);
        file.write_all_at(&bytes, (block * BLOCK) as u64).unwrap();
    }
}

/// A backup with these variables set.
fn run(lab: &Lab, env: &[(&str, &str)], code: i32, words: &[&str]) -> Value {
    let ran = lab.run_with(&["--json", "backup"], &[&[("BACKSTAY_TEST_SETTLE_MS", "0")], env].concat());
    ran.expect(code, words);
    serde_json::from_slice(&ran.out).unwrap()
}

fn stored(report: &Value) -> u64 {
    report["stored_bytes"].as_u64().unwrap()
}

fn lose_catalog(lab: &Lab) {
    fs::remove_file(lab.state().join("catalog.db")).unwrap();
}

#[test]
fn a_file_beyond_all_bounds_is_said_and_everybody_reads_the_snapshot() {
    let lab = Lab::new(|project| put(&project.join("app/f"), b"content"), APP);
    let thin = fs::File::create(lab.path("project/app/thin")).unwrap();
    if thin.set_len(1 << 50).is_err() {
        return cannot_run("a sparse file of a petabyte: no file system here takes one");
    }
    let report = run(&lab, &[], 3, &["thin", "no file of more than 128 TiB is captured"]);
    lab.run(&["list"]).expect(0, &[]);
    let (_, found) = lab.restore(&[report["snapshot"].as_str().unwrap()]);
    let found = found.unwrap();
    assert!(found.contains_key(Path::new("app/f")) && !found.contains_key(Path::new("app/thin")));
    let mut config = lab.config();
    config["component"][0].as_table_mut().unwrap().insert("exclude".into(), vec!["/thin"].into());
    lab.set_config(&config);
    run(&lab, &[], 0, &[]);
}

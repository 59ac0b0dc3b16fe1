//! Vaults of every release, committed as they were written: each later build must read them. They are never made again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A store of a golden vault.
struct Kept {
    vault: PathBuf,
    store: PathBuf,
}

fn kept() -> Vec<Kept> {
    let folders = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let stores = folders(&golden()).into_iter().flat_map(|vault| {
        let stores = folders(&vault).into_iter().filter(|dir| dir.join("backstay.json").exists());
        stores.map(move |store| Kept { vault: vault.clone(), store }).collect::<Vec<_>>()
    });
    stores.collect()
}

/// Runs the program on a golden vault, with nothing of this machine.
fn run(kept: &Kept, home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.env_clear().env("HOME", home).current_dir(home);
    command.arg("--kit").arg(kept.vault.join("kit.txt")).arg("--store").arg(&kept.store);
    command.args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What `expected.txt` says: snapshot → path (hex) → mode as `ls` writes it, time, and link target or SHA-256.
fn expected(vault: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut snapshots: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut current = String::new();
    for line in fs::read_to_string(vault.join("expected.txt")).unwrap().lines() {
        match line.strip_prefix("# ") {
            Some(id) => current = id.to_owned(),
            None => {
                let (path, rest) = line.split_once(' ').unwrap();
                snapshots.entry(current.clone()).or_default().insert(path.to_owned(), rest.to_owned());
            }
        }
    }
    snapshots
}

fn mode_text(facts: &fs::Metadata) -> String {
    let kind = match facts.mode() & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        _ => '-',
    };
    let bits =
        (0..9).rev().map(|bit| if facts.mode() >> bit & 1 == 1 { ['x', 'w', 'r'][bit % 3] } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

fn found(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let facts = fs::symlink_metadata(&path).unwrap();
            let what = if facts.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if facts.is_file() {
                backstay::model::ObjectId::of(&fs::read(&path).unwrap()).to_string()
            } else {
                "-".to_owned()
            };
            if facts.is_dir() {
                waiting.push(path.clone());
            }
            let name = data_encoding::HEXLOWER.encode(path.strip_prefix(top).unwrap().as_os_str().as_bytes());
            let time = i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
            found.insert(name, format!("{} {time} {what}", mode_text(&facts)));
        }
    }
    found
}

#[test]
fn every_release_s_vault_is_listed_and_restored_exactly() {
    let mut seen = 0;
    for kept in kept() {
        let home = tempfile::tempdir().unwrap();
        let snapshots = expected(&kept.vault);
        let list = text(&run(&kept, home.path(), &["list", "--json"]));
        assert_all_believed(&list, snapshots.len());
        for (id, wanted) in &snapshots {
            assert!(list.contains(id.as_str()), "{list}");
            let to = home.path().join(id);
            text(&run(&kept, home.path(), &["restore", id, "--to", to.to_str().unwrap(), "--no-owners"]));
            assert_same(id, wanted, &found(&to));
            seen += wanted.len();
        }
        let newest = text(&run(&kept, home.path(), &["show", "latest", "--json"]));
        assert!(newest.contains("\"tags\""), "{newest}");
        let listing = text(&run(&kept, home.path(), &["ls", "latest", "-r"]));
        assert!(listing.lines().count() > 10, "{listing}");
    }
    assert!(seen > 20, "the golden vaults were not found");
}

/// Fails unless every snapshot is listed as what it was when it was made. (Not as `good`: after 30 days nothing is, unless it is proved again.)
fn assert_all_believed(list: &str, count: usize) {
    let list: serde_json::Value = serde_json::from_str(list).unwrap();
    let snapshots = list["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), count, "{list:#}");
    for snapshot in snapshots {
        assert!(snapshot["trusted"] == true && snapshot["complete"] == true, "{snapshot:#}");
        assert!(snapshot["void"].is_null() && snapshot["note"].is_string(), "{snapshot:#}");
    }
    let nothing = serde_json::json!([]);
    assert!(list["history"] == nothing && list["damaged"] == nothing, "{list:#}");
}

/// Compares what came back with what was there. Folders that only hold components, and those of lists of paths, are the restore's own.
fn assert_same(id: &str, wanted: &BTreeMap<String, String>, found: &BTreeMap<String, String>) {
    let bytes = |path: &String| data_encoding::HEXLOWER.decode(path.as_bytes()).unwrap();
    let own: BTreeSet<Vec<u8>> = { wanted.keys().map(bytes) }
        .flat_map(|path| path.iter().rposition(|b| *b == b'/').map(|end| path[..end].to_vec()))
        .collect();
    for (path, what) in found {
        let known = wanted.contains_key(path) || own.contains(&bytes(path));
        assert!(known, "{id}: {path} came from nowhere: {what}");
    }
    for (path, what) in wanted {
        let found = found.get(path).unwrap_or_else(|| panic!("{id}: {path} did not come back"));
        let inner = bytes(path).contains(&b'/');
        // A command's output has no mode or time of its own.
        let content = what.strip_prefix("? ? ").is_some_and(|sha| found.ends_with(sha));
        let same = content || found == what || (!inner && what.starts_with('d') && found.starts_with('d'));
        assert!(same, "{id}: {path}: {what} became {found}");
    }
}

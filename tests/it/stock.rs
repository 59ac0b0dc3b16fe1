//! What the program writes, other people's programs read: age, zstd, tar, sha256sum, ssh-keygen, Python. Without the program, all is there.

use crate::common::everything::{self, MIB, put, put_sparse};
use crate::common::project::{Project, expect_code, have, noise, program};
use crate::common::tars::{Member, by_bsdtar, by_gnu_tar, by_python, by_tar_crate};
use crate::common::trees::{Tree, assert_same, look, restorable};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

const TOOLS: [&str; 6] = ["age", "zstd", "tar", "sha256sum", "ssh-keygen", "python3"];

/// A vault with two snapshots of everything, made once for all tests here. It is never changed, and goes when the last test has ended.
struct Made {
    project: Project,
    /// Snapshot and what was backed up, the older first.
    snapshots: Vec<(String, Tree)>,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let components = "[[component]]\nname = \"app\"\npath = \"app\"\n";
        let project = Project::new(components, "[packing]\narchive_size = \"4MiB\"\n");
        let app = project.dir.join("app");
        everything::make(&app, everything::WITHIN_PATH_MAX);
        put(&app.join("parts/whole"), noise(9, 20 << 20));
        let holes: Vec<(u64, usize)> = (0..12).map(|n| (n * 5 * MIB, 900_000)).collect();
        put_sparse(&app.join("parts/sp arse\n\u{ff}"), 70 * MIB + 3, &holes);
        put(&app.join("changes"), "before");
        let mut snapshots = vec![(project.backup(), look(&app))];
        put(&app.join("changes"), "after");
        fs::remove_file(app.join("order/a.b")).unwrap();
        snapshots.push((project.backup(), look(&app)));
        Made { project, snapshots }
    })
}

/// A folder that goes away, for what a test makes.
fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("backstay-stock-").tempdir().unwrap()
}

/// What lies in a store, by kind of document.
fn files_below(dir: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn objects(store: &Path) -> Vec<PathBuf> {
    ["archives", "manifests"].iter().flat_map(|kind| files_below(store.join(kind))).collect()
}

fn record(store: &Path, id: &str) -> Value {
    let text = fs::read_to_string(store.join(format!("snapshots/{id}.json"))).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}

/// Paths of the archives of a snapshot, in order.
fn archives(store: &Path, id: &str) -> Vec<PathBuf> {
    let objects = record(store, id)["objects"].as_array().unwrap().clone();
    let archives = objects.iter().filter(|row| row[0] == "archive");
    archives
        .map(|row| {
            let name = row[2].as_str().unwrap();
            store.join(format!("archives/{}/{name}.tar.zst.age", &name[..2]))
        })
        .collect()
}

/// Decrypts an object and writes what is in it, still compressed, to `to`.
fn decrypt(object: &Path, identity: &Path, to: &Path) {
    let mut age = Command::new("age");
    let done = age.arg("-d").arg("-i").arg(identity).arg("-o").arg(to).arg(object).output();
    expect_code(done.unwrap(), 0);
}

#[test]
fn sha256sum_accepts_every_object_under_its_name() {
    if !have(&TOOLS) {
        return;
    }
    let store = &made().project.store;
    let list: String = objects(store)
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            format!("{}  {}\n", &name[..64], path.display())
        })
        .collect();
    let folder = scratch();
    let file = folder.path().join("sums");
    fs::write(&file, &list).unwrap();
    let checked = Command::new("sha256sum").arg("-c").arg(&file).output().unwrap();
    let said = String::from_utf8(expect_code(checked, 0).stdout).unwrap();
    assert_eq!(said.matches(": OK").count(), list.lines().count());
    assert!(list.lines().count() > 10);
}

#[test]
fn zstd_tests_and_lists_what_age_decrypts() {
    if !have(&TOOLS) {
        return;
    }
    let project = &made().project;
    let folder = scratch();
    let file = folder.path().join("object.zst");
    for object in objects(&project.store) {
        let _none_yet = fs::remove_file(&file);
        decrypt(&object, &project.identity(), &file);
        for option in ["-t", "-lv"] {
            let zstd = Command::new("zstd").arg(option).arg(&file).output().unwrap();
            let said = String::from_utf8(expect_code(zstd, 0).stdout).unwrap();
            if option == "-lv" {
                // What it does not know of any frame it does not add up.
                assert!(said.contains("Decompressed Size"), "{said}");
                assert!(said.contains("Check: XXH64"), "{said}");
                let archive = object.to_string_lossy().contains(".tar.");
                assert_eq!(said.contains("Skippable Frames: 1"), archive, "{said}");
            }
        }
    }
}

#[test]
fn four_tars_list_every_archive_alike() {
    if !have(&TOOLS) || !have(&["bsdtar"]) {
        return;
    }
    let Made { project, snapshots } = made();
    let folder = scratch();
    let (packed, tar) = (folder.path().join("a.zst"), folder.path().join("a.tar"));
    let mut alone = 0;
    for (id, tree) in snapshots {
        let mut all = BTreeMap::new();
        for archive in archives(&project.store, id) {
            let _none_yet = fs::remove_file(&packed);
            decrypt(&archive, &project.identity(), &packed);
            let zstd = Command::new("zstd").args(["-dqf", "-o"]).arg(&tar).arg(&packed).output().unwrap();
            expect_code(zstd, 0);
            let python = by_python(&tar);
            alike("GNU tar", &by_gnu_tar(&tar), &with_old_times_shown_wrong(python.clone()));
            alike(
                "bsdtar",
                &by_bsdtar(&tar),
                &with_composed_names(with_old_times_shown_wrong(python.clone())),
            );
            let (found, unreadable) = by_tar_crate(&tar);
            let known = python.iter().filter(|(name, _)| found.contains_key(*name));
            alike("the tar crate", &found, &known.map(|(n, m)| (n.clone(), m.clone())).collect());
            assert_eq!(found.len() + unreadable, python.len());
            all.extend(python);
        }
        // Only where a snapshot stands alone do its archives say all of it.
        if record(&project.store, id)["alone"] == true {
            alone += 1;
            agrees_with_the_tree(&all, tree);
        }
    }
    assert!(alone > 0);
}

type Members = BTreeMap<Vec<u8>, Member>;

fn alike(who: &str, found: &Members, python: &Members) {
    for (name, member) in python {
        assert_eq!(found.get(name), Some(member), "{who}, {}", name.escape_ascii());
    }
    assert_eq!(found.len(), python.len(), "{who} lists more");
}

/// GNU tar and libarchive show times before 1970 with the fraction on the wrong side of the second. (GNU tar restores them right, which
/// another test holds.)
fn with_old_times_shown_wrong(mut members: Members) -> Members {
    for member in members.values_mut() {
        let (seconds, nanos) = member.mtime;
        if seconds < 0 && nanos > 0 {
            member.mtime = (seconds + 1, 1_000_000_000 - nanos);
        }
    }
    members
}

/// libarchive composes accents: it knows a file by another spelling of its name.
fn with_composed_names(mut members: Members) -> Members {
    if let Some(member) = members.remove("app/names/e\u{301} and \u{e9}".as_bytes()) {
        members.insert("app/names/\u{e9} and \u{e9}".as_bytes().to_vec(), member);
    }
    members
}

fn agrees_with_the_tree(members: &Members, tree: &Tree) {
    for (path, facts) in restorable(tree.clone()) {
        let name = if path.is_empty() { b"app".to_vec() } else { [b"app/", &path[..]].concat() };
        let in_parts = [b".backstay/parts/", &name[..], b"/00000000000000000000"].concat();
        let Some(member) = members.get(&name) else {
            assert!(members.contains_key(&in_parts), "{}", path.escape_ascii());
            continue;
        };
        let name = path.escape_ascii();
        assert_eq!(member.mtime, facts.mtime, "{name}");
        if member.kind != "hardlink" {
            assert_eq!(member.kind, facts.kind, "{name}");
        }
        if member.kind == "file" && !members.contains_key(&in_parts) {
            assert_eq!(member.size, facts.size, "{name}");
        }
    }
}

/// A block of commands of the RECOVER.md in the store.
fn block(store: &Path, name: &str) -> String {
    let page = fs::read_to_string(store.join("RECOVER.md")).unwrap();
    let begin = format!("<!-- test: {name} -->\n```sh\n");
    let rest = page.split_once(&begin).unwrap_or_else(|| panic!("no block {name}")).1;
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn age_zstd_and_tar_alone_bring_back_the_tree_as_recover_md_says() {
    if !have(&TOOLS) || !have(&["bash", "dd", "truncate"]) {
        return;
    }
    let Made { project, snapshots } = made();
    let store = &project.store;
    let (id, tree) = &snapshots[0];
    assert_eq!(record(store, id)["alone"], true);
    let to = project.top.join("by tar");
    let settings = format!(
        "set -euo pipefail\nSTORE='{}'\nKEY='{}'\nTRUST='{}'\nTO='{}'\ncd \"$STORE\"\n",
        store.display(),
        project.identity().display(),
        project.trusted_key(),
        to.display()
    );
    let choose = block(store, "choose");
    let (placeholder, choose) = choose.split_once('\n').unwrap();
    assert!(placeholder.starts_with("ID="));
    let script = [
        settings,
        block(store, "script"),
        format!("ID={id}\n{choose}"),
        block(store, "unpack"),
        block(store, "join"),
    ]
    .concat();
    let bash = Command::new("bash").arg("-c").arg(&script).stdin(Stdio::null()).output().unwrap();
    let output = expect_code(bash, 0);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Good \"backstay-record-1\" signature"), "{said}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("FAILED"));
    let mut expected = restorable(tree.clone());
    for facts in expected.values_mut() {
        facts.xattrs.retain(|name, _| !name.contains(&b'=')); // tar has no way to write them
    }
    assert_same(&expected, &look(&to.join("app")));
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["app"]);
}

/// Runs the store's own recover.py.
fn recover(project: &Project, store: &Path, args: &[&str]) -> Output {
    let mut python = program(Path::new("python3"), &project.home);
    python.arg("-B").arg(store.join("recover.py")).arg(store).arg("-i").arg(project.identity());
    python.args(["--trust", &project.trusted_key()]).args(args).output().unwrap()
}

#[test]
fn recover_py_restores_every_snapshot_exactly() {
    if !have(&TOOLS) {
        return;
    }
    let Made { project, snapshots } = made();
    for (id, tree) in snapshots {
        let to = project.top.join(format!("by script {id}"));
        let restored = recover(project, &project.store, &["restore", id, "--to", to.to_str().unwrap()]);
        expect_code(restored, 0);
        assert_same(&restorable(tree.clone()), &look(&to.join("app")));
    }
    let listed = expect_code(recover(project, &project.store, &["list"]), 0);
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (id, _) in snapshots {
        assert!(listed.contains(id), "{listed}");
    }
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn recover_py_refuses_what_is_damaged() {
    if !have(&TOOLS) {
        return;
    }
    let Made { project, snapshots } = made();
    let folder = scratch();
    let store = folder.path().join("store");
    let copied = Command::new("cp").arg("-a").arg(&project.store).arg(&store).status().unwrap();
    assert!(copied.success());
    let id = &snapshots[0].0;
    let record_file = store.join(format!("snapshots/{id}.json"));
    let index = record(&store, id)["index"].as_str().unwrap().to_owned();
    let index = store.join(format!("manifests/{}/{index}.jsonl.zst.age", &index[..2]));
    let archive = archives(&store, id).swap_remove(0);
    let middle = usize::try_from(archive.metadata().unwrap().len()).unwrap() / 2;
    for (file, at) in [(&record_file, 40), (&index, 600), (&archive, middle)] {
        flip(file, at);
        let to = folder.path().join("restored");
        let refused = recover(project, &store, &["restore", id, "--to", to.to_str().unwrap()]);
        expect_code(refused, 13);
        assert!(!to.exists(), "{} is damaged, and something was restored", file.display());
        flip(file, at);
    }
    let to = folder.path().join("restored");
    expect_code(recover(project, &store, &["restore", id, "--to", to.to_str().unwrap()]), 0);
}

/// Asks ssh-keygen whether the key signed `bytes`.
fn verify(project: &Project, namespace: &str, bytes: &[u8], signature: &Path) -> bool {
    let allowed = signature.with_extension("allowed");
    fs::write(&allowed, format!("me namespaces=\"backstay-*\" {}\n", project.trusted_key())).unwrap();
    let input = signature.with_extension("signed");
    fs::write(&input, bytes).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-Y", "verify", "-I", "me", "-n", namespace])
        .arg("-f")
        .arg(&allowed)
        .arg("-s")
        .arg(signature);
    let output = keygen.stdin(fs::File::open(&input).unwrap()).output().unwrap();
    output.status.success()
}

#[test]
fn ssh_keygen_accepts_every_signature() {
    if !have(&TOOLS) {
        return;
    }
    let project = &made().project;
    let store = &project.store;
    let folder = scratch();
    let signature = folder.path().join("sig");
    let records = files_below(store.join("snapshots")).into_iter().map(|f| (f, "backstay-record-1"));
    let marks = files_below(store.join("marks")).into_iter().map(|f| (f, "backstay-mark-1"));
    let documents: Vec<_> = records.chain(marks).collect();
    assert!(documents.len() >= 4, "two records, and a mark for each");
    for (file, namespace) in documents {
        let bytes = fs::read(&file).unwrap();
        let line = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        fs::write(&signature, &bytes[line..]).unwrap();
        assert!(verify(project, namespace, &bytes[..line], &signature), "{}", file.display());
        assert!(!verify(project, "backstay-recover-1", &bytes[..line], &signature));
        let mut other = bytes[..line].to_vec();
        other[10] ^= 1;
        assert!(!verify(project, namespace, &other, &signature));
    }
    for name in ["RECOVER.md", "recover.py"] {
        fs::copy(store.join(format!("{name}.sig")), &signature).unwrap();
        let bytes = fs::read(store.join(name)).unwrap();
        assert!(verify(project, "backstay-recover-1", &bytes, &signature), "{name}");
    }
}

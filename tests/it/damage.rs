//! Whatever happens to a single object of a vault is noticed and named, and no wrong byte is ever written with exit code 0.

use crate::lab::{Lab, Node, Ran, noise, put, set_mode, tree};
use backstay::keys::open_document;
use backstay::model::document::namespace;
use backstay::model::mark::Mark;
use backstay::model::{ObjectKind, Record};
use backstay::store::Key;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

const COMPONENTS: &str = r#"
packing = { archive_size = "1MiB" }
component = [
    { name = "app", path = "app" },
    { name = "conf", paths = ["settings.env", "deploy/compose.yml"] },
    { name = "holes", path = "holes" },
]
"#;

/// Small entries: more than one segment of them.
fn many_small(dir: &Path) {
    let says_cut = |path: &str| {
        let hash = blake3::hash(path.as_bytes());
        u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap()).is_multiple_of(2048)
    };
    // After the 512th entry the listing is cut where a path says so.
    let cut = (0..).map(|n| format!("n/515-{n}")).find(|path| says_cut(path)).unwrap();
    for name in (0..=520).map(|n| format!("n/{n:03}")).chain([cut]) {
        put(&dir.join(name), b"");
    }
}

/// A file of more than 256 stretches with holes between them.
fn with_holes(path: &Path) {
    put(path, b"");
    let file = File::options().write(true).open(path).unwrap();
    for n in 0..300 {
        file.write_all_at(&noise(n, 4096), n * 8192).unwrap();
    }
    file.set_len(300 * 8192 + 1).unwrap();
}

fn project(dir: &Path) {
    many_small(&dir.join("app"));
    put(&dir.join("app/large"), &noise(1, 2_500_000));
    put(&dir.join("app/src/main.py"), &noise(2, 70_000));
    put(&dir.join("app/src/run.sh"), b"#!/bin/sh\n");
    set_mode(&dir.join("app/src/run.sh"), 0o755);
    symlink("src/run.sh", dir.join("app/run")).unwrap();
    fs::hard_link(dir.join("app/src/main.py"), dir.join("app/src/same.py")).unwrap();
    put(&dir.join("settings.env"), b"KEY=1\n");
    set_mode(&dir.join("settings.env"), 0o600);
    put(&dir.join("deploy/compose.yml"), &noise(3, 9_000));
    with_holes(&dir.join("holes/sparse"));
}

/// A vault with two snapshots, and what each command says of it when it is sound.
struct Vault {
    lab: Lab,
    ids: [String; 2],
    trees: [BTreeMap<PathBuf, Node>; 2],
    said: Vec<Vec<u8>>,
}

impl Vault {
    fn new() -> Self {
        let lab = Lab::new(project, COMPONENTS);
        let first = lab.backup();
        let live = tree(&lab.path("project"));
        put(&lab.path("project/app/src/main.py"), &noise(4, 71_000));
        fs::remove_file(lab.path("project/app/run")).unwrap();
        put(&lab.path("project/settings.env"), b"KEY=2\n");
        // Each stands alone, so that damage to one is no damage to the other.
        let second = lab.backup_settled(&["--full"])["snapshot"].as_str().unwrap().to_owned();
        let ids = [first, second];
        let trees = ids.each_ref().map(|id| {
            let (ran, found) = lab.restore(&[id]);
            ran.expect(0, &[]);
            found.unwrap()
        });
        // What is expected was what lay there.
        for (path, node) in live.iter().filter(|(path, _)| !path.ends_with("backstay.toml")) {
            let component = if path.starts_with("app") || path.starts_with("holes") { "" } else { "conf" };
            assert_eq!(trees[0].get(&Path::new(component).join(path)), Some(node), "{}", path.display());
        }
        assert!(trees[0] != trees[1]);
        let mut vault = Self { lab, ids, trees, said: Vec::new() };
        vault.check_shape();
        let said = |args: Vec<&str>| vault.lab.run(&args).expect(0, &[]).out.clone();
        vault.said = vault.looks().into_iter().map(said).collect();
        vault
    }

    /// The vault has all that is to be damaged.
    fn check_shape(&self) {
        let record = self.lab.record(&self.ids[0]);
        let count = |kind| record.objects.iter().filter(|o| o.kind == kind).count();
        assert!(count(ObjectKind::Archive) >= 5, "several archives a component: {:?}", record.objects);
        // Two segments of `app`, one of `conf` and `holes`, a map, the index.
        assert_eq!(count(ObjectKind::Manifest), 6, "{:?}", record.objects);
        assert_eq!(self.lab.keys().iter().filter(|k| matches!(k, Key::Mark(..))).count(), 2);
    }

    /// Commands that only look, whose output must be what it was.
    fn looks(&self) -> Vec<Vec<&str>> {
        let [first, second] = &self.ids;
        vec![
            vec!["list"],
            vec!["ls", "-r", "latest"],
            vec!["ls", "-r", first],
            vec!["cat", second, "app/src/main.py"],
            vec!["cat", first, "holes/sparse"],
        ]
    }

    /// Runs everything; gives what went wrong, or nothing when any command noticed and all behaved.
    fn try_all(&self, case: &str, names: &[Names]) -> Vec<String> {
        let (mut noticed, mut wrong) = (false, Vec::new());
        let mut judge = |what: &str, ran: &Ran, is_right: bool, is_harmless: bool| {
            noticed |= ran.code != 0;
            let right = if ran.code == 0 { is_right } else { is_harmless };
            let named = ran.code == 0 || names.iter().any(|n| n.fits(ran));
            if !right || !named {
                let why = if right { "the object is not named" } else { "it gave something wrong" };
                wrong.push(format!("{case}: {what}: {why}: exit code {}: {}", ran.code, ran.text()));
            }
        };
        for (args, before) in self.looks().iter().zip(&self.said) {
            let ran = self.lab.run(args);
            judge(&args.join(" "), &ran, ran.out == *before, args[0] == "list" || ran.out.is_empty());
        }
        for (id, expected) in [("latest", &self.trees[1]), (&self.ids[0], &self.trees[0])] {
            let (ran, found) = self.lab.restore(&[id]);
            let right = |(path, node): (&PathBuf, &Node)| {
                expected.get(path) == Some(node) || is_filled_in(&ran, path, node)
            };
            let harmless = found.iter().flatten().all(right);
            judge(&format!("restore {id}"), &ran, found.as_ref() == Some(expected), harmless);
        }
        if !noticed {
            wrong.push(format!("{case}: nothing noticed it"));
        }
        wrong
    }
}

/// A folder whose own entry was lost with its listing: closed to others, and named.
fn is_filled_in(ran: &Ran, path: &Path, node: &Node) -> bool {
    let said = format!("problem: {}: what is known of this folder itself is lost", path.display());
    *node == Node::Dir(0o700) && ran.text().contains(&said)
}

/// How an object may be named: by its key, or as the entry of a chain.
struct Names {
    key: String,
    entry: Option<(String, String)>,
    /// Of a record: its snapshot, which is then not found.
    snapshot: Option<String>,
}

impl Names {
    fn of(lab: &Lab, key: &Key) -> Self {
        let signer = lab.signer().id().to_string();
        let (entry, snapshot) = match key {
            Key::Record(id) => (Some(lab.record(id.as_str()).number), Some(id.to_string())),
            Key::Mark(_, number) => (Some(*number), None),
            _ => (None, None),
        };
        Self { key: key.to_string(), entry: entry.map(|n| (signer, format!("entry {n} "))), snapshot }
    }

    fn fits(&self, ran: &Ran) -> bool {
        let text = ran.text();
        let entry = self
            .entry
            .as_ref()
            .is_some_and(|(signer, entry)| text.contains(signer.as_str()) && text.contains(entry.as_str()));
        let named = text.contains(&self.key) || entry;
        match ran.code {
            13 => named,
            // The snapshot is not there any more, or the store itself is not to be had.
            16 => self.snapshot.as_ref().is_some_and(|id| text.contains(id)),
            10 => self.key == "backstay.json" && named,
            _ => false,
        }
    }
}

const KINDS: [&str; 7] = ["deleted", "emptied", "cut", "lengthened", "swapped", "flipped", "flipped early"];

/// Damages the object at `path`; `other` is another of its kind, if there is one. False when that cannot be done to it.
fn damage(kind: &str, path: &Path, other: Option<&Path>) -> bool {
    let bytes = fs::read(path).unwrap();
    let flip = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    match kind {
        "deleted" => fs::remove_file(path).unwrap(),
        "emptied" => fs::write(path, b"").unwrap(),
        "cut" => fs::write(path, &bytes[..bytes.len() - 1]).unwrap(),
        "lengthened" => fs::write(path, [&bytes[..], b"\n"].concat()).unwrap(),
        "swapped" => {
            let Some(other) = other else { return false };
            let others = fs::read(other).unwrap();
            fs::write(other, &bytes).unwrap();
            fs::write(path, others).unwrap();
        }
        "flipped" => flip(bytes.len() / 2),
        // Of data objects: in the stanza of the age header.
        _ => flip(bytes.len().min(80) - 1),
    }
    true
}

/// Another object of the same kind: the same folder, or the same extension at the top.
fn another<'k>(keys: &'k [Key], key: &Key) -> Option<&'k Key> {
    let kind = |key: &Key| std::mem::discriminant(key);
    let pair = match key {
        Key::RecoverMd => Some(Key::RecoverPy),
        Key::RecoverPy => Some(Key::RecoverMd),
        Key::RecoverMdSig => Some(Key::RecoverPySig),
        Key::RecoverPySig => Some(Key::RecoverMdSig),
        _ => None,
    };
    // The farthest: of another component or snapshot where there is one.
    keys.iter().rev().find(|k| *k != key && (Some(*k) == pair.as_ref() || kind(k) == kind(key)))
}

fn sweep(part: usize, parts: usize) -> (usize, Vec<String>) {
    let vault = Vault::new();
    let keys = vault.lab.keys();
    let (mut cases, mut wrong) = (0, Vec::new());
    for (place, key) in keys.iter().enumerate() {
        if place % parts != part {
            continue;
        }
        let other = another(&keys, key);
        let both = || [Some(key), other].into_iter().flatten();
        let names: Vec<Names> = both().map(|k| Names::of(&vault.lab, k)).collect();
        let paths: Vec<PathBuf> = both().map(|k| vault.lab.object(k)).collect();
        let saved: Vec<Vec<u8>> = paths.iter().map(|p| fs::read(p).unwrap()).collect();
        for kind in KINDS {
            let touched = if kind == "swapped" { &names[..] } else { &names[..1] };
            if damage(kind, &paths[0], paths.get(1).map(PathBuf::as_path)) {
                cases += 1;
                wrong.extend(vault.try_all(&format!("{key} {kind}"), touched));
            }
            for (path, bytes) in paths.iter().zip(&saved) {
                fs::write(path, bytes).unwrap();
            }
        }
    }
    // What was mended is well again, so no case was noticed because of the one before.
    assert_eq!(vault.try_all("mended", &[]), ["mended: nothing noticed it"]);
    (cases, wrong)
}

#[test]
fn every_kind_of_damage_to_every_object_is_noticed_and_named_and_nothing_wrong_is_written() {
    let (mut cases, mut wrong) = (0, Vec::new());
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|part| scope.spawn(move || sweep(part, 2))).collect();
        for run in runs {
            let (more, found) = run.join().unwrap();
            cases += more;
            wrong.extend(found);
        }
    });
    assert!(cases > 200, "{cases}");
    assert!(wrong.is_empty(), "{} of {cases} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_does_not_need_a_damaged_listing_comes_back_all_the_same() {
    let vault = Vault::new();
    let (id, expected) = (&vault.ids[0], &vault.trees[0]);
    let record = vault.lab.record(id);
    let manifests = record.objects.iter().filter(|o| o.kind == ObjectKind::Manifest);
    let mut missing = Vec::new();
    for object in manifests.filter(|o| Some(o.id) != record.index) {
        let key = Key::Manifest(object.id);
        let path = vault.lab.object(&key);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (ran, found) = vault.lab.restore(&[id]);
        ran.expect(13, &[&key.to_string()]);
        let found = found.unwrap();
        let in_component = |path: &&PathBuf, name: &str| path.starts_with(name);
        let lacks = |name: &str| {
            let paths = expected.keys().filter(|p| in_component(p, name));
            paths.filter(|p| !found.contains_key(*p)).count()
        };
        let lacking = ["app", "conf", "holes"].map(lacks);
        assert_eq!(
            lacking.iter().filter(|n| **n > 0).count(),
            1,
            "{key}: one component lacks something: {lacking:?}"
        );
        for (path, node) in &found {
            assert!(
                expected.get(path) == Some(node) || is_filled_in(&ran, path, node),
                "{key}: {}",
                path.display()
            );
        }
        missing.push(lacking);
        fs::write(&path, bytes).unwrap();
    }
    missing.sort_unstable();
    // The map costs its file alone, the listing of `conf` and `holes` these, and each of the two of `app` what it lists.
    let app = expected.keys().filter(|p| p.starts_with("app")).count();
    let [map, holes, conf, late, early] = missing[..] else { panic!("{missing:?}") };
    assert_eq!([map, holes], [[0, 0, 1], [0, 0, 2]]);
    assert_eq!(conf, [0, 4, 0]);
    assert!(late[0] < 100 && early[0] > 400 && late[0] + early[0] <= app, "{late:?}, {early:?} of {app}");
}

/// One large file alone in its archive: every chunk of 64 KiB is read back.
#[test]
fn one_flipped_bit_in_any_chunk_of_an_archive_is_noticed_and_the_file_left_out() {
    let content = noise(9, 4 << 20);
    let lab = Lab::new(
        |dir| put(&dir.join("app/large"), &content),
        "component = [{ name = \"app\", path = \"app\" }]",
    );
    lab.backup();
    let archives: Vec<Key> = lab.keys().into_iter().filter(|k| matches!(k, Key::Archive(_))).collect();
    assert_eq!(archives.len(), 1);
    let path = lab.object(&archives[0]);
    let size = fs::metadata(&path).unwrap().len();
    assert!(size > 4 << 20);
    // The first places are in the age header; the last byte is of the last tag.
    let places = (0..size).step_by(64 << 10).chain([50, 120, 170, size - 1]);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut cases = 0;
    for place in places {
        let flip = || {
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << (place / 7 % 8)], place).unwrap();
        };
        flip();
        let (ran, found) = lab.restore(&["latest"]);
        ran.expect(13, &["app/large", &archives[0].to_string()]);
        assert!(!found.unwrap().contains_key(Path::new("app/large")), "byte {place}");
        flip();
        cases += 1;
    }
    assert!(cases >= 68, "{cases}");
    let (ran, found) = lab.restore(&["latest"]);
    ran.expect(0, &[]);
    assert!(matches!(&found.unwrap()[Path::new("app/large")], Node::File(_, bytes) if *bytes == content));
}

#[test]
fn damage_in_one_frame_costs_only_the_files_in_it() {
    let files = ["one", "two", "three"];
    let lab = Lab::new(
        |dir| {
            for (seed, name) in files.iter().enumerate() {
                put(&dir.join("app").join(name), &noise(seed as u64, 4_300_000));
            }
        },
        "component = [{ name = \"app\", path = \"app\" }]",
    );
    lab.backup();
    let archive = lab.keys().into_iter().find(|k| matches!(k, Key::Archive(_))).unwrap();
    let mut bytes = fs::read(lab.object(&archive)).unwrap();
    // Packed in the order of their names: this is in the first.
    bytes[2 << 20] ^= 1;
    fs::write(lab.object(&archive), bytes).unwrap();
    let (ran, found) = lab.restore(&["latest"]);
    ran.expect(13, &["app/one", &archive.to_string()]);
    let found = found.unwrap();
    let there: Vec<bool> = files.iter().map(|f| found.contains_key(&Path::new("app").join(f))).collect();
    assert_eq!(there, [false, true, true], "{}", ran.text());
}

/// `backstay.json` is not signed: what of it can be changed without a trace is said here.
#[test]
fn every_flip_in_what_the_store_says_of_itself_is_noticed_or_without_meaning() {
    let lab =
        Lab::new(|dir| put(&dir.join("app/a"), b"x"), "component = [{ name = \"app\", path = \"app\" }]");
    lab.backup();
    let sound = lab.run(&["list"]).expect(0, &[]).out.clone();
    let path = lab.object(&Key::Store);
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    // The time and the program that made it: nothing is decided by them.
    let free = text.find("\"created\":").unwrap()..text.len();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        fs::write(&path, flipped).unwrap();
        let ran = lab.run(&["list"]);
        if ran.code == 0 {
            assert!(free.contains(&at), "byte {at} of {text}");
            assert_eq!(ran.out, sound, "byte {at}");
        } else {
            ran.expect(13, &["backstay.json"]);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_signed_document_is_noticed() {
    let lab =
        Lab::new(|dir| put(&dir.join("app/a"), b"x"), "component = [{ name = \"app\", path = \"app\" }]");
    lab.backup();
    for key in lab.keys() {
        let open = |bytes: &[u8]| match key {
            Key::Record(_) => open_document::<Record>(bytes, "record", namespace::RECORD).map(drop),
            _ => open_document::<Mark>(bytes, "mark", namespace::MARK).map(drop),
        };
        if !matches!(key, Key::Record(_) | Key::Mark(..)) {
            continue;
        }
        let mut bytes = fs::read(lab.object(&key)).unwrap();
        open(&bytes).unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&bytes).is_err(), "{key}: bit {bit} of {} bytes", bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut]).is_err(), "{key}: cut at {cut}");
        }
    }
}

//! Whoever can write into a store, or holds a trusted key, must not make a reader write anything it should not, nor take an old state for
//! the newest. What cannot be told must be said.

use crate::forge::{Forge, joined};
use crate::lab::{Lab, put, tree};
use backstay::archive::{About, ArchiveWriter, Member, MemberKind, Pool};
use backstay::keys::Signer;
use backstay::model::document;
use backstay::model::index::SegmentRef;
use backstay::model::{ContentHash, Record, RelPath};
use backstay::store::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A listing by a trusted key: how it is changed, and what the refusal must say.
type Hostile = (&'static str, fn(&mut Vec<Value>), &'static str);

fn insert(lines: &mut Vec<Value>, path: &str, like: &str) {
    let mut entry = lines.iter().find(|line| line["path"] == like).unwrap().clone();
    entry["path"] = path.into();
    let place = lines.iter().position(|line| line["path"].as_str() > Some(path)).unwrap_or(lines.len());
    lines.insert(place, entry);
}

fn link(path: &str, target: &str) -> Value {
    json!({"path": path, "type": "symlink", "mode": "0777", "uid": 0, "gid": 0, "mtime": [0, 0], "target": target})
}

fn entry<'v>(lines: &'v mut [Value], path: &str) -> &'v mut Value {
    lines.iter_mut().find(|line| line["path"] == path).unwrap()
}

/// Lines of `app`: 0 the header, then `.`, `a`, `b`, `b/c`.
const HOSTILE: &[Hostile] = &[
    ("a path that climbs", |l| entry(l, "a")["path"] = "../x".into(), "../x"),
    ("a path that climbs on its way", |l| entry(l, "b/c")["path"] = "b/../../x".into(), "b/../../x"),
    ("an absolute path", |l| entry(l, "a")["path"] = "/etc/x".into(), "/etc/x"),
    ("an empty part", |l| entry(l, "b/c")["path"] = "b//c".into(), "b//c"),
    ("a dot", |l| entry(l, "a")["path"] = "./a".into(), "./a"),
    ("an empty path", |l| entry(l, "a")["path"] = "".into(), "empty"),
    ("a NUL", |l| entry(l, "a")["path"] = "a\0b".into(), "NUL"),
    ("a path that is too long", |l| entry(l, "b/c")["path"] = "b/".repeat(33_000).into(), "too long"),
    (
        "too many parts",
        |l| entry(l, "b/c")["path"] = format!("b{}", "/b".repeat(4096)).into(),
        "too many parts",
    ),
    ("two paths", |l| entry(l, "a")["path_b64"] = "YQ==".into(), "path"),
    ("a path listed twice", |l| insert(l, "b/c", "b/c"), "b/c is out of order or listed twice"),
    ("entries out of order", |l| l.swap(2, 3), "out of order"),
    ("a file below a file", |l| insert(l, "a/evil", "a"), "a/evil"),
    ("a file below nothing", |l| insert(l, "zz/evil", "a"), "zz/evil"),
    ("a file below a link out", |l| l.extend([link("s", "../../canary"), json!(null)]), "line"),
    (
        "a file through a link out",
        |l| {
            l.push(link("s", "../../canary"));
            insert(l, "s/file", "a");
        },
        "s/file",
    ),
    ("no root", |l| drop(l.remove(1)), "a: what it lies in is not listed"),
    ("a root that is no directory", |l| l[1] = link(".", "/"), "the root is not a directory"),
    ("a size of 2^53", |l| entry(l, "a")["size"] = (1_u64 << 53).into(), "a: its size is impossible"),
    ("the largest size", |l| entry(l, "a")["size"] = u64::MAX.into(), "a: its size is impossible"),
    ("extents that overlap", |l| overlap(entry(l, "a")), "a: extents overlap"),
    ("an extent past the end", |l| entry(l, "a")["extents"][0][3] = 4096.into(), "a: an extent reaches past"),
    ("an extent of nothing", |l| entry(l, "a")["extents"][0][3] = 0.into(), "a: extents overlap"),
    ("an extent past all tar", |l| entry(l, "a")["extents"][0][2] = u64::MAX.into(), "a: extents overlap"),
    (
        "an extent in no archive",
        |l| entry(l, "a")["extents"][0][1] = 7.into(),
        "a: an extent names an archive",
    ),
    ("a frame of 4 GiB", |l| l[0]["archives"][0]["frames"][0][3] = (4_u64 << 30).into(), "impossible"),
    ("a frame past all tar", |l| l[0]["archives"][0]["frames"][0][0] = u64::MAX.into(), "impossible"),
    (
        "frames near the end of numbers",
        |l| l[0]["archives"][0]["frames"] = json!([[u64::MAX, 0, 1, 1], [u64::MAX, 0, 1, 1]]),
        "impossible",
    ),
    ("an archive all header", |l| l[0]["archives"][0]["payload"] = u64::MAX.into(), "impossible"),
    ("an archive of another size", |l| l[0]["archives"][0]["size"] = 77_777.into(), "lists otherwise or not"),
    (
        "an archive of no record",
        |l| l[0]["archives"][0]["sha256"] = "ab".repeat(32).into(),
        "otherwise or not",
    ),
    ("a mode of letters", |l| entry(l, "a")["mode"] = "rwxr".into(), "a: mode"),
    ("a mode that is too long", |l| entry(l, "a")["mode"] = "107777".into(), "a: mode"),
    ("too many nanoseconds", |l| entry(l, "a")["mtime"][1] = 1_000_000_000.into(), "a: no modification time"),
    ("a link to nothing", |l| l.push(link("s", "")), "s: the target is empty"),
    ("a link to a NUL", |l| l.push(link("s", "a\0b")), "NUL"),
    ("a link that is too long", |l| l.push(link("s", &"x".repeat(70_000))), "too long"),
    ("a device without numbers", |l| entry(l, "a")["type"] = "block".into(), "a: files, and only files"),
    ("an unknown type", |l| entry(l, "a")["type"] = "wormhole".into(), "wormhole"),
    (
        "both extents and maps",
        |l| entry(l, "a")["maps"] = json!([[0, "ab".repeat(32), 1]]),
        "both extents and maps",
    ),
    ("a map that is not there", |l| mapped(l, "ab".repeat(32), 1, 0), "lists it otherwise or not"),
    ("a map at an odd place", |l| mapped(l, "ab".repeat(32), 1, 5), "multiples of 256 MiB"),
    ("names of one inode that differ", |l| two_names(l), "a2: it is another name of a file"),
    (
        "a directory with two names",
        |l| entry(l, "b")["link"] = "00000000000000aa".into(),
        "b: it is a directory, which has one name only",
    ),
    (
        "a link that is another name of a file",
        |l| {
            entry(l, "a")["link"] = "00000000000000aa".into();
            l.push(link("s", "a"));
            entry(l, "s")["link"] = "00000000000000aa".into();
        },
        "s: it is another name of a file",
    ),
    ("a line of 17 MiB", |l| entry(l, "a")["x"] = "x".repeat(17 << 20).into(), "longer than 16 MiB"),
    (
        "the listing of another component",
        |l| l[0]["component"] = "conf".into(),
        "not the one that the index means",
    ),
    ("format 0", |l| l[0]["format"] = 0.into(), "no format 0"),
    ("another thing for a listing", |l| l[0]["type"] = "map".into(), "it is a \"map\", not a \"segment\""),
];

fn overlap(entry: &mut Value) {
    let mut second = entry["extents"][0].clone();
    second[0] = 1.into();
    second[3] = 1.into();
    entry["extents"].as_array_mut().unwrap().push(second);
}

fn mapped(lines: &mut [Value], sha256: String, size: u64, offset: u64) {
    let file = entry(lines, "a").as_object_mut().unwrap();
    file.remove("extents");
    file.insert("maps".into(), json!([[offset, sha256, size]]));
}

fn two_names(lines: &mut Vec<Value>) {
    entry(lines, "a")["link"] = "00000000000000aa".into();
    insert(lines, "a2", "a");
    entry(lines, "a2")["mode"] = "4755".into();
}

/// Fails unless the snapshot is refused by every command that reads it, with `words`, and nothing outside changed.
#[track_caller]
fn refused_by_all(forge: &Forge, case: &str, id: &str, words: &[&str]) {
    let (canary, live) = (tree(&forge.lab.path("canary")), tree(&forge.lab.path("project")));
    for id in [id, "latest"] {
        let ran = forge.lab.refused(&[id], words);
        assert!(ran.err.contains("app") || ran.err.contains(id), "{case}: {}", ran.err);
    }
    forge.lab.run(&["restore", id, "app", "--in-place", "--yes"]).expect(13, words);
    if !case.starts_with("a map") {
        forge.lab.run(&["ls", "-r", id]).expect(13, words); // which reads no maps
    }
    // One file of a listing may be sound when another entry is not; what comes out is then the file.
    let cat = forge.lab.run(&["cat", id, "app/a"]);
    match cat.code {
        0 => assert_eq!(cat.out, b"changed", "{case}"),
        code => assert!(code != 1 && cat.out.is_empty(), "{case}: {}", cat.text()),
    }
    assert_eq!(tree(&forge.lab.path("canary")), canary, "{case}");
    assert_eq!(tree(&forge.lab.path("project")), live, "{case}");
}

#[test]
fn listings_that_lie_are_refused_whole_even_when_a_trusted_host_signed_them() {
    let forge = Forge::new();
    let signer = forge.lab.signer();
    for (seed, (case, edit, words)) in HOSTILE.iter().enumerate() {
        println!("{case}");
        let mut record = forge.next(&signer, seed as u8);
        forge.relist(&mut record, edit);
        forge.put_record(&record, &signer);
        refused_by_all(&forge, case, record.snapshot.as_str(), &[words]);
        fs::remove_file(forge.lab.object(&Key::Record(record.snapshot))).unwrap();
        // Only this store was ever seen to be so: the next case begins where this one did.
        fs::remove_file(forge.lab.state().join("heads.json")).unwrap();
    }
}

#[test]
fn verify_finds_names_of_one_file_that_say_different_things() {
    let forge = Forge::new();
    let signer = forge.lab.signer();
    let mut record = forge.next(&signer, 1);
    forge.relist(&mut record, two_names);
    forge.put_record(&record, &signer);
    forge.lab.run(&["verify", "--decrypt"]).expect(13, &["a2: it is another name of a file"]);
}

/// Files whose listing is well-formed but does not say the truth are left out, one by one.
#[test]
fn files_whose_content_is_not_what_a_listing_says_are_left_out_and_named() {
    type Lie = (&'static str, fn(&mut Vec<Value>), &'static str);
    let lies: &[Lie] = &[
        (
            "another hash",
            |l| entry(l, "a")["hash"] = ContentHash::of(b"x").to_string().into(),
            "app/a: its content is not what its listing says",
        ),
        (
            "no frames",
            |l| l[0]["archives"][0]["frames"] = json!([]),
            "does not say where all of its frames lie",
        ),
        ("a frame elsewhere", |l| l[0]["archives"][0]["frames"][0][1] = 1.into(), "zstd frame"),
        ("a longer frame", |l| longer_frame(&mut l[0]), "zstd frame"),
        ("a header elsewhere", |l| l[0]["archives"][0]["payload"] = 100.into(), "age header"),
    ];
    let forge = Forge::new();
    let signer = forge.lab.signer();
    for (seed, (case, edit, words)) in lies.iter().enumerate() {
        let mut record = forge.next(&signer, seed as u8);
        forge.relist(&mut record, edit);
        forge.put_record(&record, &signer);
        let (ran, found) = forge.lab.restore(&[record.snapshot.as_str()]);
        ran.expect(13, &["app/a", words]);
        let found = found.unwrap();
        assert!(!found.contains_key(Path::new("app/a")), "{case}");
        assert!(found.contains_key(Path::new("conf/x")), "{case}: what is sound is there");
        let cat = forge.lab.run(&["cat", record.snapshot.as_str(), "app/a"]);
        assert!(cat.expect(13, &["a cannot be had"]).out.is_empty(), "{case}");
    }
}

fn longer_frame(header: &mut Value) {
    let frame = &mut header["archives"][0]["frames"][0];
    frame[2] = (frame[2].as_u64().unwrap() - 1).into();
}

#[test]
fn frames_that_two_listings_give_differently_are_refused() {
    let project = |dir: &Path| {
        // Two listings of one component, whose files lie in one frame.
        let says_cut = |path: &String| {
            let hash = blake3::hash(path.as_bytes());
            u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap()).is_multiple_of(2048)
        };
        let cut = (0..).map(|n| format!("n/600-{n}")).find(says_cut).unwrap();
        for name in (0..=650).map(|n| format!("n/{n:03}")).chain([cut]) {
            put(&dir.join("app").join(name), b"x");
        }
    };
    let lab = Lab::new(project, "component = [{ name = \"app\", path = \"app\" }]");
    let id = lab.backup();
    let forge = Forge { lab, ids: [id.clone(), id] };
    let signer = forge.lab.signer();
    let mut record = forge.next(&signer, 1);
    assert_eq!(forge.index(&record).components[0].segments.len(), 2);
    forge.relist(&mut record, |lines| {
        let archive = &mut lines[0]["archives"][0];
        let mut second = archive["frames"][0].clone();
        second[0] = 512.into();
        second[3] = (second[3].as_u64().unwrap() - 512).into();
        archive["frames"] = json!([second]);
    });
    forge.put_record(&record, &signer);
    let archive = Key::Archive(Forge::archive(&record).id).to_string();
    forge.lab.refused(&[record.snapshot.as_str()], &["component app", &archive, "overlap"]);
}

#[test]
fn an_index_or_listing_of_another_snapshot_or_component_is_refused() {
    let forge = Forge::new();
    let signer = forge.lab.signer();
    let older = forge.lab.record(&forge.ids[0]);

    let mut other_index = forge.next(&signer, 1);
    let content = forge.content(&older.index.unwrap());
    let old = other_index.index.unwrap();
    other_index.index = Some(forge.put_manifest(&mut other_index, &old, &content).id);
    let key = forge.put_record_key(&other_index, &signer);
    forge.lab.refused(&[other_index.snapshot.as_str()], &["the index", "belongs to another snapshot"]);
    fs::remove_file(forge.lab.object(&key)).unwrap();

    let mut swapped = forge.next(&signer, 2);
    forge.reindex(&mut swapped, |index| {
        let (app, conf) = index.components.split_at_mut(1);
        let (app, conf) = (&mut app[0].segments[0], &mut conf[0].segments[0]);
        std::mem::swap(&mut app.object, &mut conf.object);
        std::mem::swap(&mut app.size, &mut conf.size);
    });
    forge.put_record(&swapped, &signer);
    forge.lab.refused(&[swapped.snapshot.as_str()], &["component app", "not the one that the index means"]);

    let mut numbers = forge.next(&signer, 3);
    forge.reindex(&mut numbers, |_| {});
    numbers.components[0].entries += 1;
    forge.put_record(&numbers, &signer);
    forge
        .lab
        .refused(&[numbers.snapshot.as_str()], &["the index", "component app is not what the record says"]);

    let mut sums = forge.next(&signer, 4);
    forge.reindex(&mut sums, |index| index.components[0].entries += 1);
    forge.put_record(&sums, &signer);
    forge.lab.refused(&[sums.snapshot.as_str()], &["the index", "segments are impossible"]);

    let mut unlisted = forge.next(&signer, 5);
    forge.reindex(&mut unlisted, |_| {});
    let segment = forge.index(&unlisted).components[0].segments[0].object;
    unlisted.objects.retain(|o| o.id != segment);
    forge.put_record(&unlisted, &signer);
    forge.lab.refused(&[unlisted.snapshot.as_str()], &["component app", &segment.to_string()]);

    // Also where one file of the listing is asked for, and the others are passed over.
    let lies: [fn(&mut SegmentRef); 3] = [
        |segment| segment.entries += 1,
        |segment| segment.first = RelPath::new(b"#").unwrap(),
        |segment| segment.last = RelPath::new(b"~").unwrap(),
    ];
    for (seed, lie) in (6..).zip(lies) {
        let mut other = forge.next(&signer, seed);
        forge.reindex(&mut other, |index| {
            let app = &mut index.components[0];
            lie(&mut app.segments[0]);
            app.entries = app.segments.iter().map(|s| s.entries).sum();
        });
        forge.put_record(&other, &signer);
        let (id, words) = (other.snapshot.as_str(), ["component app", "not the one that the index means"]);
        forge.lab.refused(&[id], &words);
        for command in [&["cat", id, "app/a"][..], &["ls", id, "app/a"]] {
            forge.lab.run(command).expect(13, &words);
        }
    }
}

/// A map is read once and leads to archives only.
#[test]
fn a_map_that_is_none_is_refused() {
    let forge = Forge::new();
    let signer = forge.lab.signer();
    let mut record = forge.next(&signer, 1);
    let other = forge.index(&record).components[1].segments[0].clone();
    let (sha256, size) = (other.object.to_string(), other.size);
    forge.relist(&mut record, move |lines| mapped(lines, sha256, size, 0));
    forge.put_record(&record, &signer);
    let words = ["a map of app/a", "it is a \"segment\", not a \"map\""];
    forge.lab.refused(&[record.snapshot.as_str()], &words);
}

impl Forge {
    fn put_record_key(&self, record: &Record, signer: &Signer) -> Key {
        self.put_record(record, signer);
        Key::Record(record.snapshot.clone())
    }
}

#[test]
fn what_a_newer_program_wrote_is_called_newer_and_never_damaged() {
    let forge = Forge::new();
    let signer = forge.lab.signer();
    let newer: [fn(&mut Value); 2] = [|v| v["format"] = 2.into(), |v| v["needs"] = json!(["wormholes"])];
    for (seed, edit) in newer.iter().enumerate() {
        let newer_listing = |record: &mut Record| {
            forge.relist(record, |lines| edit(&mut lines[0]));
        };
        let newer_index = |record: &mut Record| {
            forge.reindex(record, |_| {});
            let old = record.index.unwrap();
            let text = String::from_utf8(forge.content(&old)).unwrap();
            let mut lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            edit(&mut lines[0]);
            record.index = Some(forge.put_manifest(record, &old, &joined(&lines)).id);
        };
        type Make<'m> = (&'m str, &'m dyn Fn(&mut Record));
        let makes: [Make<'_>; 2] =
            [("a listing of component app", &newer_listing), ("the index", &newer_index)];
        for (place, (what, make)) in makes.iter().enumerate() {
            let mut record = forge.next(&signer, (10 * seed + place) as u8);
            make(&mut record);
            let key = forge.put_record_key(&record, &signer);
            for id in [record.snapshot.as_str(), "latest"] {
                let ran =
                    forge.lab.refused(&[id], &[what, "newer than this backstay understands", "upgrade"]);
                assert!(!ran.text().contains("damaged"), "{}", ran.text());
            }
            fs::remove_file(forge.lab.object(&key)).unwrap();
            fs::remove_file(forge.lab.state().join("heads.json")).unwrap();
        }
        // The record itself. Its signature may be of a kind that is not known yet.
        let record = forge.next(&signer, 50);
        let mut value = serde_json::to_value(&record).unwrap();
        edit(&mut value);
        let key = forge.put_line(&record.snapshot, &value, &signer, "backstay-record-2");
        for id in [record.snapshot.as_str(), "latest"] {
            let ran = forge.lab.refused(&[id], &[&key.to_string(), "newer"]);
            assert!(!ran.text().contains("damage"), "{}", ran.text());
        }
        let list = forge.lab.run(&["list"]);
        list.expect(0, &[&format!("TOO NEW: {key}")]);
        assert!(!list.text().contains("DAMAGED"), "{}", list.text());
        let (ran, _) = forge.lab.restore(&[&forge.ids[1]]);
        ran.expect(0, &[]);
        fs::remove_file(forge.lab.object(&key)).unwrap();
        // The store.
        let path = forge.lab.object(&Key::Store);
        let sound = fs::read(&path).unwrap();
        let mut store: Value = serde_json::from_slice(&sound).unwrap();
        edit(&mut store);
        fs::write(&path, document::line_of(&store).unwrap()).unwrap();
        for id in [&forge.ids[1], "latest"] {
            let ran = forge.lab.refused(&[id], &["backstay.json", "newer than this backstay understands"]);
            assert!(!ran.text().contains("damaged"), "{}", ran.text());
        }
        forge.lab.run(&["backup"]).expect(13, &["backstay.json", "newer"]);
        fs::write(&path, sound).unwrap();
    }
}

/// A zstd frame that claims `content` bytes and holds `blocks` of 128 KiB of zeros.
fn bomb(content: u64, blocks: usize) -> Vec<u8> {
    // Content size in eight bytes, checksum, window 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xc4, 13 << 3];
    frame.extend(content.to_le_bytes());
    for block in 1..=blocks {
        let header = ((128_u32 << 10) << 3) | (1 << 1) | u32::from(block == blocks);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame.extend([0; 4]);
    frame
}

#[test]
fn bombs_are_refused_before_they_unfold() {
    let forge = Forge::new();
    let signer = forge.lab.signer();
    // 1 KiB that claims 4 GiB, as an index.
    let mut record = forge.next(&signer, 1);
    let old = record.index.unwrap();
    let frame = bomb(4 << 30, 200);
    assert!(frame.len() <= 1024);
    record.index = Some(forge.put_frames(&mut record, &old, &frame).id);
    let key = forge.put_record_key(&record, &signer);
    forge.lab.refused(&[record.snapshot.as_str()], &["the index", "too large"]);
    fs::remove_file(forge.lab.object(&key)).unwrap();
    // Many honest frames: more than an index may hold.
    let mut record = forge.next(&signer, 2);
    let many = zstd_frame(&vec![0; 4 << 20]).repeat(17);
    assert!(many.len() < 64 << 10);
    record.index = Some(forge.put_frames(&mut record, &old, &many).id);
    let key = forge.put_record_key(&record, &signer);
    forge.lab.refused(&[record.snapshot.as_str()], &["the index", "more than 64 MiB"]);
    fs::remove_file(forge.lab.object(&key)).unwrap();
    // The same as an archive, whose frame the listing gives as small.
    let mut record = forge.next(&signer, 3);
    let old = Forge::archive(&record);
    let size = forge.put_frames(&mut record, &old.id, &frame);
    let (id, length) = (size.id.to_string(), frame.len());
    forge.relist(&mut record, |lines| {
        let archive = &mut lines[0]["archives"][0];
        archive["sha256"] = id.clone().into();
        archive["size"] = size.size.into();
        archive["payload"] = (size.size - length as u64 - 16).into();
        archive["frames"] = json!([[0, 0, length, archive["tar"]]]);
    });
    forge.reindex(&mut record, |index| index.components[0].archives = vec![size.id]);
    forge.put_record(&record, &signer);
    let (ran, found) = forge.lab.restore(&[record.snapshot.as_str()]);
    ran.expect(13, &["app/a", &Key::Archive(size.id).to_string(), "too large"]);
    assert!(!found.unwrap().contains_key(Path::new("app/a")));
}

fn zstd_frame(content: &[u8]) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    compressor.include_checksum(true).unwrap();
    compressor.compress(content).unwrap()
}

#[test]
fn an_archive_of_another_host_is_not_read() {
    let forge = Forge::new();
    let (signer, other) = (forge.lab.signer(), Signer::generate().unwrap());
    let mut record = forge.next(&signer, 1);
    // Made by an honest program on another host, whose identity is the same.
    let about = About {
        vault: record.vault.clone(),
        host: other.id().into(),
        component: "app".parse().unwrap(),
        delta: false,
    };
    let pool = Arc::new(Pool::for_machine());
    let spool = forge.lab.path("spool");
    fs::create_dir(&spool).unwrap();
    let mut writer = ArchiveWriter::create(&spool, &about, &forge.lab.recipients(), &pool, 3).unwrap();
    let member = Member {
        path: b"app/secret",
        kind: MemberKind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        mtime: (0, 0),
        size: 6,
        target: None,
        dev: None,
        xattrs: &BTreeMap::new(),
        sparse: None,
    };
    let at = writer.begin(&member).unwrap();
    writer.data(b"secret").unwrap();
    writer.end().unwrap();
    let sealed = writer.finish().unwrap();
    let old = Forge::archive(&record);
    let object = forge.put_object(&mut record, &old.id, &fs::read(&sealed.path).unwrap());
    forge.relist(&mut record, |lines| {
        lines[0]["archives"][0] = serde_json::to_value(&sealed.info).unwrap();
        let file = entry(lines, "a");
        file["extents"] = json!([[0, 0, at, 6]]);
        file["size"] = 6.into();
        file["hash"] = ContentHash::of(b"secret").to_string().into();
        lines.retain(|line| line["path"] != "b/c");
    });
    forge.reindex(&mut record, |index| index.components[0].archives = vec![object.id]);
    forge.put_record(&record, &signer);
    let (ran, found) = forge.lab.restore(&[record.snapshot.as_str()]);
    let key = Key::Archive(object.id).to_string();
    ran.expect(13, &["app/a", &key, &other.id().to_string()]);
    assert!(!found.unwrap().contains_key(Path::new("app/a")));
    let cat = forge.lab.run(&["cat", record.snapshot.as_str(), "app/a"]);
    assert!(cat.expect(13, &[&key]).out.is_empty());
}

//! What the catalog gives back, and that no damage to it goes unnoticed.

use super::*;
use crate::model::entry::{FLAG_DATABASE, Why};
use crate::model::manifest::Frame;
use crate::model::record::CheckResult;
use crate::model::{ContentHash, Entry, Extent, HostId, Kind, MapRef, VaultId};
use crate::platform::capture::Ident;
use std::path::{Path, PathBuf};

fn id(n: u8) -> ObjectId {
    ObjectId([n; 32])
}

fn ident(n: u64) -> Ident {
    Ident { dev: 7, ino: n, size: 5000 + n, mtime: (-3, 999_999_999), ctime: (1_800_000_000, 5) }
}

fn file(path: &str, n: u64) -> Row {
    let mut entry = Entry::new(RelPath::new(path.as_bytes()).unwrap(), Kind::File);
    (entry.mode, entry.uid, entry.gid) = (0o4755, 1000, 100);
    (entry.user, entry.group) = (Some("app".into()), None);
    (entry.size, entry.hash, entry.mtime) = (5000 + n, Some(ContentHash([9; 32])), (-3, 999_999_999));
    entry.link = n.is_multiple_of(2).then_some(u64::MAX - n);
    let extent = |offset, archive, length| Extent { offset, archive, tar_offset: 1536 + offset, length };
    entry.extents = vec![extent(0, id(1), 100), extent(700, id(2), 300), extent(1000, id(1), 4000)];
    entry.xattrs.insert("user.x".into(), vec![0, 255]);
    Row::new(entry, Some(ident(n)), n.is_multiple_of(3))
}

fn rows() -> Vec<Row> {
    let mut dir = Entry::new(RelPath::root(), Kind::Dir);
    dir.group = Some("app".into());
    let mut link = Entry::new(RelPath::new(b"l\xff").unwrap(), Kind::Symlink);
    link.target = Some(b"to\xfe"[..].into());
    let mut left = Entry::new(RelPath::new(b"left").unwrap(), Kind::Left);
    left.why = Some(Why::Vanished);
    let mut device = Entry::new(RelPath::new(b"m").unwrap(), Kind::Char);
    device.dev = Some((1, 1 << 20));
    let mut database = file("z.db", 9);
    database.entry.flags.push(FLAG_DATABASE.into());
    database.entry.maps.push(MapRef { offset: 0, object: id(77), size: 1234 });
    database.read = 20_000;
    (database.blocks, database.copied) = (vec![id(90), id(91)], true);
    (database.beside, database.check) = ([Some(ident(3)), None], CheckResult::Deferred);
    let bare = |entry| Row::new(entry, None, false);
    vec![
        bare(dir),
        file("a", 1),
        file("a/b", 2),
        file("b", 3),
        bare(left),
        bare(link),
        bare(device),
        database,
    ]
}

fn archive(n: u8) -> KnownArchive {
    let frame = |at: u64| Frame { tar_offset: at << 22, offset: at * 100, length: 100, tar_length: 1 << 22 };
    let info = ArchiveInfo {
        sha256: id(n),
        size: 1 << 30,
        payload: 200,
        tar: 1 << 31,
        frames: (0..300).map(frame).collect(),
    };
    let recipients = vec![RecipientId([n; 16])];
    KnownArchive { info, age: u64::from(n), delta: n == 2, content: 1 << 30, recipients }
}

fn stretch(n: u8, rows: &[Row]) -> KnownStretch {
    let opened = Stretch::open(&Stretch::encode(rows).unwrap()).unwrap();
    KnownStretch {
        row: 0,
        archives: opened.archives,
        shared: opened.shared,
        content: opened.sums.size,
        segment: id(n),
        size: 4000,
        recipients: vec![RecipientId([1; 16]), RecipientId([2; 16])],
        first: rows[0].entry.path.clone(),
        last: rows[rows.len() - 1].entry.path.clone(),
        maps: vec![(id(77), 1234)],
        blocks: rows.iter().flat_map(|row| row.blocks.iter().copied()).collect(),
        packed: Stretch::encode(rows).unwrap(),
    }
}

/// A catalog in a folder of its own, with two stretches of one component and one of another.
struct Bed {
    _dir: tempfile::TempDir,
    path: PathBuf,
    vault: VaultId,
    host: HostId,
}

const RECORD: ObjectId = ObjectId([50; 32]);

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let bed = Self { _dir: dir, path, vault: VaultId::from_random([3; 17]), host: HostId([4; 16]) };
        let (later, earlier) = ([file("x", 1)], rows());
        let two = vec![stretch(11, &later[..]), stretch(10, &earlier[..7])];
        let archives = vec![archive(1), archive(2)];
        let one = ComponentUpdate { number: 5, keep: vec![], put: two, archives, full: 1_800_000_000 };
        let other = ComponentUpdate { number: 6, put: vec![stretch(12, &rows())], ..Default::default() };
        bed.save(None, &RECORD, vec![one, other]).unwrap();
        bed
    }

    fn save(
        &self,
        before: Option<ObjectId>,
        record: &ObjectId,
        components: Vec<ComponentUpdate>,
    ) -> Result<(), KnownError> {
        self.save_alive(before, record, components, None)
    }

    /// The same when only some of the other components may come again.
    fn save_alive(
        &self,
        before: Option<ObjectId>,
        record: &ObjectId,
        components: Vec<ComponentUpdate>,
        alive: Option<&[u64]>,
    ) -> Result<(), KnownError> {
        let now = Expected { vault: &self.vault, host: &self.host, record };
        let alive = alive.map(|numbers| numbers.iter().copied().collect());
        save(&self.path, &Update { now, before, components, alive })
    }

    fn load(&self, record: &ObjectId) -> Loaded {
        self.load_some(record, |_| true)
    }

    fn load_some(&self, record: &ObjectId, wanted: impl Fn(u64) -> bool) -> Loaded {
        load(&self.path, &Expected { vault: &self.vault, host: &self.host, record }, wanted)
    }

    fn known(&self, record: &ObjectId) -> Known {
        match self.load(record) {
            Loaded::Usable(mut known) => {
                known.components.values_mut().flatten().for_each(|s| s.row = 0);
                known
            }
            other => panic!("{other:?}"),
        }
    }

    /// The row of a segment.
    fn row_of(&self, segment: u8) -> i64 {
        let db = rusqlite::Connection::open(&self.path).unwrap();
        let select = "SELECT row FROM stretches WHERE segment = ?1";
        db.query_row(select, [&id(segment).0[..]], |row| row.get(0)).unwrap()
    }

    fn sql(&self, text: &str) {
        rusqlite::Connection::open(&self.path).unwrap().execute_batch(text).unwrap();
    }
}

#[test]
fn rows_come_back_as_they_were() {
    let rows = rows();
    let stretch = Stretch::open(&Stretch::encode(&rows).unwrap()).unwrap();
    let back: Vec<Row> = stretch.rows().map(|row| row.decode().unwrap()).collect();
    assert_eq!(back, rows);
    let database: Vec<bool> = stretch.rows().map(|row| row.database).collect();
    assert_eq!(database, [false, false, false, false, false, false, false, true]);
    assert_eq!(stretch.sums, Sums { entries: 8, files: 4, dirs: 1, size: 20_000 + 15 });
    // All four files use the same bytes of two archives, and their headers.
    assert_eq!(stretch.archives, [(id(1), 1536 + 4100), (id(2), 1536 + 300)]);
    assert!(stretch.shared && stretch.rows().all(|row| row.hash() == row.decode().unwrap().entry.hash));
    assert_eq!(stretch.maps, [(id(77), 1234)]);
}

#[test]
fn bytes_that_are_no_stretch_give_none_and_never_panic() {
    let good = Stretch::encode(&rows()).unwrap();
    let plain = zstd::bulk::decompress(&good, 1 << 20).unwrap();
    let read = |plain: &[u8]| {
        let stretch = Stretch::open(&zstd::bulk::compress(plain, 1).unwrap())?;
        let rows: Vec<_> = stretch.rows().map(|row| row.decode()).collect();
        (rows.len() as u64 == stretch.sums.entries && rows.iter().all(Option::is_some)).then_some(())
    };
    assert!(read(&plain).is_some());
    for cut in 0..plain.len() {
        assert!(read(&plain[..cut]).is_none(), "cut at {cut}");
    }
    for at in 0..plain.len() {
        for bit in [0, 3, 7] {
            let mut flipped = plain.clone();
            flipped[at] ^= 1 << bit;
            let _no_panic = read(&flipped);
        }
    }
    assert!(Stretch::open(&good[..good.len() - 1]).is_none() && Stretch::open(b"").is_none());
}

#[test]
fn a_catalog_gives_back_what_was_saved_in_walk_order() {
    let bed = Bed::new();
    let known = bed.known(&RECORD);
    assert_eq!(known.archives.values().cloned().collect::<Vec<_>>(), [archive(1), archive(2)]);
    let (later, earlier) = ([file("x", 1)], rows());
    assert_eq!(known.components[&5], [stretch(10, &earlier[..7]), stretch(11, &later[..])]);
    assert_eq!(known.components[&6].len(), 1);
    assert_eq!((known.full[&5], known.full[&6]), (1_800_000_000, 0));
    let mode = std::os::unix::fs::PermissionsExt::mode(&bed.path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_update_keeps_what_it_names_and_leaves_other_components_alone() {
    let bed = Bed::new();
    let put = vec![stretch(20, &[file("y", 4)])];
    let archives = vec![archive(2), archive(3)];
    let update = ComponentUpdate { number: 5, keep: vec![bed.row_of(10)], put, archives, full: -5 };
    let next = id(51);
    bed.save(Some(RECORD), &next, vec![update]).unwrap();
    let known = bed.known(&next);
    let segments: Vec<ObjectId> = known.components[&5].iter().map(|s| s.segment).collect();
    assert_eq!(segments, [id(10), id(20)]);
    assert_eq!(known.components[&6][0].segment, id(12));
    assert_eq!(known.archives.keys().copied().collect::<Vec<_>>(), [id(2), id(3)]);
}

#[test]
fn only_components_that_are_wanted_are_read() {
    let bed = Bed::new();
    // Damage in what nobody asks for is no matter.
    bed.sql("UPDATE stretches SET sum = zeroblob(32) WHERE component = 6");
    let Loaded::Usable(known) = bed.load_some(&RECORD, |number| number == 5) else { panic!() };
    assert_eq!((known.components.len(), known.components[&5].len(), known.full.len()), (1, 2, 1));
    assert!(matches!(bed.load_some(&RECORD, |number| number == 6), Loaded::Useless(_)));
    let Loaded::Usable(known) = bed.load_some(&RECORD, |number| number == 7) else { panic!() };
    assert!(known.components.is_empty() && known.archives.is_empty() && known.record == Some(RECORD));
}

#[test]
fn a_component_that_is_not_alive_any_more_goes_and_what_the_snapshot_has_stays() {
    let bed = Bed::new();
    let update =
        |n| ComponentUpdate { number: n, put: vec![stretch(20, &[file("y", 4)])], ..Default::default() };
    bed.save_alive(Some(RECORD), &id(51), vec![update(7)], Some(&[6])).unwrap();
    let mut numbers: Vec<u64> = bed.known(&id(51)).components.into_keys().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [6, 7]);
    // The generation before still has it, and goes as it always does.
    assert!(bed.known(&RECORD).components.contains_key(&5));
    for n in 52..55 {
        bed.save_alive(Some(id(n - 1)), &id(n), vec![], Some(&[6, 7])).unwrap();
    }
    let db = rusqlite::Connection::open(&bed.path).unwrap();
    let count = |table: &str| -> i64 {
        let select = format!("SELECT count(*) FROM {table} WHERE component = 5");
        db.query_row(&select, [], |row| row.get(0)).unwrap()
    };
    assert_eq!([count("stretches"), count("archives"), count("generations")], [0, 0, 0]);
}

#[test]
fn an_archive_that_is_described_anew_keeps_the_frames_that_others_need() {
    let bed = Bed::new();
    let some = |range: std::ops::Range<usize>| {
        let mut archive = archive(1);
        archive.info.frames = archive.info.frames[range].to_vec();
        archive
    };
    let update = |archive| {
        let put = vec![stretch(20, &[file("y", 4)])];
        ComponentUpdate { number: 5, put, archives: vec![archive], ..Default::default() }
    };
    // Made again from the listings of another snapshot, which uses three frames of it.
    bed.save(None, &id(60), vec![update(some(7..10))]).unwrap();
    let frames = |record: &ObjectId| bed.known(record).archives[&id(1)].info.frames.clone();
    assert_eq!(frames(&RECORD), archive(1).info.frames, "the older generation has all of them still");
    assert_eq!(frames(&id(60)), archive(1).info.frames);
    // What contradicts is not mixed: the last word counts.
    let mut other = some(7..8);
    other.info.frames[0].tar_offset += 5;
    bed.save(Some(id(60)), &id(61), vec![update(other.clone())]).unwrap();
    assert_eq!(frames(&id(61)), other.info.frames);
    // Nor is a row believed that is not what was written.
    bed.sql("UPDATE archives SET sum = zeroblob(32)");
    bed.save(Some(id(61)), &id(62), vec![update(some(1..2))]).unwrap();
    assert_eq!(frames(&id(62)), some(1..2).info.frames);
}

#[test]
fn the_generation_before_stays_until_the_one_after_the_next() {
    let bed = Bed::new();
    let before = bed.known(&RECORD).components;
    // The record of this generation is never put.
    let lost = ComponentUpdate { number: 5, put: vec![stretch(20, &[file("y", 4)])], ..Default::default() };
    bed.save(Some(RECORD), &id(51), vec![lost]).unwrap();
    assert_eq!(bed.known(&RECORD).components, before);
    for n in 52..56 {
        bed.save(Some(if n == 52 { RECORD } else { id(n - 1) }), &id(n), vec![]).unwrap();
    }
    assert!(matches!(bed.load(&RECORD), Loaded::Other) && matches!(bed.load(&id(51)), Loaded::Other));
    assert_eq!(bed.known(&id(55)).components, before);
    let db = rusqlite::Connection::open(&bed.path).unwrap();
    let rows: i64 = db.query_row("SELECT count(*) FROM stretches", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3, "what no generation has is gone");
}

#[test]
fn block_hashes_stay_while_a_generation_has_them_and_are_proved_when_they_are_read() {
    let bed = Bed::new();
    let piece = |n: u8| (ObjectId::of(&[n; 5000]), vec![n; 5000]);
    let (one, two, stray) = (piece(1), piece(2), piece(3));
    keep_blocks(&bed.path, &[one.clone(), two.clone(), stray.clone()]).unwrap();
    let mut row = file("y", 4);
    row.blocks = vec![two.0, one.0];
    let update = |put| ComponentUpdate { number: 5, put, ..Default::default() };
    bed.save(Some(RECORD), &id(51), vec![update(vec![stretch(20, &[row])])]).unwrap();
    let read = |ids: &[ObjectId]| read_blocks(&bed.path, ids);
    assert_eq!(read(&[two.0, one.0]), Some(vec![two.1.clone(), one.1.clone()]));
    assert_eq!(read(&[stray.0]), None, "no stretch refers to it");
    bed.sql("UPDATE blocks SET body = zeroblob(5000) WHERE id = (SELECT max(id) FROM blocks)");
    assert_eq!(read(&[two.0, one.0]), None);
    assert_eq!([one.0, two.0].iter().filter(|id| read(&[**id]).is_some()).count(), 1);
    keep_blocks(&bed.path, &[one.clone(), two.clone()]).unwrap();
    assert!(read(&[two.0, one.0]).is_some(), "what was damaged is written again");
    for n in 52..56 {
        let put = if n == 52 { vec![update(vec![])] } else { vec![] };
        bed.save(Some(id(n - 1)), &id(n), put).unwrap();
    }
    assert_eq!(read(&[one.0]), None, "no generation has it");
    remove(&bed.path).unwrap();
    assert_eq!(read(&[one.0]), None);
}

#[test]
fn a_catalog_of_another_record_host_or_vault_is_not_used() {
    let bed = Bed::new();
    assert!(matches!(bed.load(&id(49)), Loaded::Other));
    let usable = |vault: &VaultId, host: &HostId| {
        let expected = Expected { vault, host, record: &RECORD };
        matches!(load(&bed.path, &expected, |_| true), Loaded::Usable(_))
    };
    assert!(usable(&bed.vault, &bed.host));
    let (vault, host) = (VaultId::from_random([4; 17]), HostId([5; 16]));
    assert!(!usable(&vault, &bed.host) && !usable(&bed.vault, &host));
}

#[test]
fn no_part_of_a_row_changes_or_moves_unnoticed() {
    let changes = [
        "UPDATE stretches SET packed = (SELECT packed FROM stretches WHERE component = 6) WHERE component = 5",
        "UPDATE stretches SET body = (SELECT body FROM stretches WHERE component = 6) WHERE component = 5",
        "UPDATE stretches SET component = 9 WHERE component = 6",
        "UPDATE stretches SET segment = zeroblob(32) WHERE component = 6",
        "UPDATE stretches SET sum = zeroblob(32) WHERE component = 6",
        "UPDATE archives SET id = zeroblob(32) WHERE component = 5 AND id = (SELECT max(id) FROM archives)",
        "UPDATE archives SET body = substr(body, 1, 20) WHERE component = 5",
        "UPDATE meta SET value = x'33' WHERE key = 'format'",
        "DELETE FROM meta WHERE key = 'host'",
        "UPDATE generations SET body = (SELECT body FROM generations WHERE component = 6) WHERE component = 5",
        "UPDATE generations SET component = 9 WHERE component = 6",
        "DELETE FROM stretches WHERE component = 6",
        "DROP TABLE archives",
    ];
    for change in changes {
        let bed = Bed::new();
        bed.sql(change);
        assert!(matches!(bed.load(&RECORD), Loaded::Useless(_)), "{change}");
    }
}

#[test]
fn stretches_that_overlap_are_not_used() {
    let bed = Bed::new();
    let put = vec![stretch(20, &[file("a/a", 4)])];
    let update = ComponentUpdate { number: 5, keep: vec![bed.row_of(10)], put, archives: vec![], full: 0 };
    bed.save(Some(RECORD), &id(51), vec![update]).unwrap();
    assert!(matches!(bed.load(&id(51)), Loaded::Useless(_)));
}

#[test]
fn damaged_pages_never_give_other_rows() {
    let bed = Bed::new();
    let good = std::fs::read(&bed.path).unwrap();
    let before = bed.known(&RECORD);
    let mut useless = 0;
    for at in (0..good.len()).step_by(61) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        remove(&bed.path).unwrap();
        std::fs::write(&bed.path, &bytes).unwrap();
        match bed.load(&RECORD) {
            // A row may be lost with its page, which costs time; none may be another.
            Loaded::Usable(known) => {
                assert!(known.archives.iter().all(|(id, a)| before.archives.get(id) == Some(a)), "byte {at}");
                let all = |k: &Known| {
                    let mut all: Vec<KnownStretch> = k.components.values().flatten().cloned().collect();
                    all.iter_mut().for_each(|s| s.row = 0);
                    all
                };
                let old = all(&before);
                assert!(all(&known).iter().all(|s| old.contains(s)), "byte {at}");
            }
            Loaded::Useless(_) => useless += 1,
            Loaded::Other => useless += 1,
            Loaded::Absent => panic!("it is there"),
        }
    }
    assert!(useless > 20, "{useless}");
}

#[test]
fn what_is_no_database_or_no_file_is_useless_and_nothing_is_absent() {
    let bed = Bed::new();
    remove(&bed.path).unwrap();
    assert!(matches!(bed.load(&RECORD), Loaded::Absent));
    std::fs::write(&bed.path, b"not a database, not even nearly").unwrap();
    assert!(matches!(bed.load(&RECORD), Loaded::Useless(_)));
    remove(&bed.path).unwrap();
    std::fs::create_dir(&bed.path).unwrap();
    assert!(matches!(bed.load(&RECORD), Loaded::Useless(_)));
    assert!(!Path::new(&bed.path).join("x").exists());
}

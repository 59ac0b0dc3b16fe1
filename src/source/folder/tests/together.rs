//! One tree walked by many, in parts, is listed as if one had walked it alone.

use super::*;
use crate::source::folder::crew::{Crew, Hands};
use crate::source::folder::found::Yield;
use crate::source::folder::rules::{Layer, Rules};
use crate::source::folder::scan::{parts, walk};
use crate::source::folder::split::Part;
use crate::source::folder::walk::{Around, Walker};
use proptest::prelude::*;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const ALONE: Hands = Hands { threads: 1, eager: false };
/// Whatever can be split is.
const IN_PARTS: Hands = Hands { threads: 1, eager: true };
const TOGETHER: Hands = Hands { threads: 4, eager: false };
const TOGETHER_IN_PARTS: Hands = Hands { threads: 4, eager: true };

/// Everything that a walk gives, but what is allocated: that changes by itself while a file goes to the disk.
fn told(spec: &FolderSpec, hands: Hands) -> String {
    let (tree, mut problems) = (Tree::new(spec).unwrap(), Vec::new());
    let scan = walk(spec, tree, &Names::default(), &mut |p| problems.push(p), hands).unwrap();
    let mut text = format!("{} {:?} {problems:?}\n", scan.bytes, scan.rules);
    // Others work in there, too.
    let common = std::env::temp_dir().canonicalize().unwrap();
    let own = scan.entries.iter().filter(|found| !common.starts_with(scan.tree.real_path(&found.entry.path)));
    own.for_each(|found| text.push_str(&format!("{found:?}\n")));
    text
}

fn all_tell_the_same(spec: &FolderSpec) -> String {
    let alone = told(spec, ALONE);
    for hands in [IN_PARTS, TOGETHER, TOGETHER_IN_PARTS] {
        let parts = told(spec, hands);
        let differ = alone.lines().zip(parts.lines()).find(|(a, b)| a != b);
        assert!(alone == parts, "{hands:?}: {differ:#?}");
    }
    alone
}

/// What is taken for a database by its header.
fn database() -> Vec<u8> {
    [&b"SQLite format 3\0"[..], &[0; 496]].concat()
}

/// What is taken for a log by its header.
fn log() -> Vec<u8> {
    [&0x377f_0682_u32.to_be_bytes()[..], &[0; 60]].concat()
}

/// Something that is made in a directory: which, what, and a number for its name.
type Make = (prop::sample::Index, u8, u8);

/// Makes things, of all kinds that a walk treats each in its own way; directories of them are made in those that are there.
fn make(place: &Place, things: &[Make]) {
    let database = database();
    let log = log();
    let (mut dirs, mut files) = (vec![String::new()], Vec::<String>::new());
    for (dir, what, number) in things {
        let dir = dir.get(&dirs).clone();
        let at = |name: &str| format!("{dir}{name}");
        match what % 12 {
            0..=3 => {
                let name = at(&format!("d{number}/"));
                fs::create_dir_all(place.at(&name)).unwrap();
                dirs.push(name);
            }
            4 => {
                let name = at(&format!("n{number}.db"));
                place.file(&name, &database);
                files.push(name);
            }
            5 => {
                let name = format!("n{}.db", number % 8);
                place.files(&[&at(&format!("{name}-wal")), &at(&format!("{name}-shm"))]);
            }
            6 => {
                place.file(at(&format!("n{number}.db-wal")), &log);
                place.file(at(&format!("n{number}.db")), [7; 600]);
            }
            7 if !files.is_empty() => {
                let first = &files[usize::from(*number) % files.len()];
                let _there = fs::hard_link(place.at(first), place.at(at(&format!("h{number}"))));
            }
            8 => {
                let name = at(&format!("l{number}"));
                let _there = symlink("nowhere", place.at(&name));
                files.push(name);
            }
            9 => {
                let rules = format!("f{}*\n!f{number}\nd{}/\n", number % 7, number % 5);
                place.file(at(".gitignore"), rules);
            }
            10 if number % 4 == 0 => {
                place.file(at("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55");
            }
            10 if number % 4 == 2 => {
                place.file(at(".nobackup"), "");
            }
            10 if number % 4 == 1 => {
                place.file(at("PG_VERSION"), "17");
            }
            _ => {
                let name = at(&format!("f{number}"));
                place.file(&name, vec![*number; usize::from(*number)]);
                files.push(name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn however_a_walk_is_split_it_finds_the_same(things in prop::collection::vec(any::<Make>(), 1..120)) {
        let place = Place::new();
        make(&place, &things);
        let mut spec = place.spec();
        spec.exclude_from = patterns(&[".gitignore"]);
        spec.exclude_caches = true;
        spec.exclude_if_present = vec![".nobackup".into()];
        spec.exclude = patterns(&["f9*"]);
        spec.nested = vec![(place.at("d1"), Why::Component), (place.at("n4.db"), Why::Component)];
        all_tell_the_same(&spec);
        // Of a list only some is looked at in each directory on the way.
        fs::write(place.at("sure"), b"").unwrap();
        let outside = Place::new();
        outside.files(&["x/a", "x/b", "y"]);
        let named = ["d3", "d2/d2", "d2/f7", "d4/d5", "n1.db", "n1.db-wal", "n2.db-wal", "sure", "not/there"].map(|path| place.at(path));
        spec.what = What::List(named.into_iter().chain([outside.at("x"), outside.at("y")]).collect());
        all_tell_the_same(&spec);
    }
}

#[test]
fn a_database_is_never_torn_from_what_lies_beside_it_by_a_split() {
    let place = Place::new();
    let database = database();
    for n in 0..50 {
        place
            .file(format!("all/t{n}"), &database)
            .files(&[&format!("all/t{n}-wal"), &format!("all/t{n}-shm")]);
    }
    // One whose log sorts behind a hundred others.
    place.file("all/t", &database).files(&["all/t-wal"]);
    let told = all_tell_the_same(&place.spec());
    assert_eq!(told.matches("why: Some(Sidecar)").count(), 101, "{told}");
}

#[test]
fn names_of_one_file_in_several_parts_have_one_number_and_are_counted_once() {
    let place = Place::new();
    place.file("a/0", vec![1; 100_000]);
    for n in 0..40 {
        fs::create_dir(place.at(format!("b{n}"))).unwrap();
        fs::hard_link(place.at("a/0"), place.at(format!("b{n}/name"))).unwrap();
    }
    all_tell_the_same(&place.spec());
    let (scan, _) = look(&place.spec());
    let number = get(&scan, "a/0").entry.link;
    assert!(number.is_some());
    assert_eq!(scan.entries.iter().filter(|f| f.entry.link == number).count(), 41);
    assert!((100_000..200_000).contains(&scan.allocated), "{}", scan.allocated);
}

#[test]
fn a_wide_and_a_deep_tree_are_split() {
    for deep in [false, true] {
        let place = Place::new();
        for n in 0..100 {
            let dir = if deep { "in/".repeat(n / 4 + 1) } else { format!("d{n}/") };
            place.files(&[&format!("{dir}f{n}"), &format!("{dir}g{n}")]);
        }
        let parts = count(&place);
        assert!(parts > 50, "{parts} parts, deep: {deep}");
    }
}

/// In how many parts it is walked when everything is split that can be.
fn count(place: &Place) -> usize {
    all_tell_the_same(&place.spec());
    let (spec, names) = (place.spec(), Names::default());
    parts(&spec, &Tree::new(&spec).unwrap(), &names, IN_PARTS).unwrap().len()
}

#[test]
fn what_lies_beside_a_database_keeps_nobody_from_walking_what_is_between() {
    let place = Place::new();
    let database = database();
    place.file("app.db", &database).files(&["app.db-wal"]);
    // One that cannot be told from other files but by its log.
    let log = log();
    place.file("enc.db", [7; 600]).file("enc.db-wal", &log);
    for n in 0..100 {
        // Between the two by name: a directory of many, and many.
        place.files(&[&format!("app.db-files/f{n}"), &format!("app.db-f{n}"), &format!("enc.db-f{n}")]);
    }
    let parts = count(&place);
    assert!(parts > 60, "{parts} parts");
    let (scan, _) = look(&place.spec());
    assert_eq!(why(&scan, "app.db-wal"), Some(Why::Sidecar));
    assert!(get(&scan, "enc.db-wal").entry.has_flag(FLAG_CRASH_CONSISTENT));
}

#[test]
fn whoever_has_nothing_to_do_is_given_a_part() {
    let place = Place::new();
    for n in 0..100 {
        place.files(&[&format!("d{n}/f")]);
    }
    let (spec, names) = (place.spec(), Names::default());
    let tree = Tree::new(&spec).unwrap();
    let crew = Crew::new(Hands { threads: 2, eager: false });
    let (allow, nested) = (Layer::strict(&[]).unwrap(), HashMap::new());
    let around = Around { spec: &spec, tree: &tree, names: &names, allow, nested, crew };
    let rules = Rules::new(&[], &[]).unwrap();
    let mut first = Walker::new(&around, around.crew.begin(), Part { stack: Vec::new(), rules });
    first.begin(None).unwrap();
    let begun = Instant::now();
    let walk = || {
        while !around.crew.wants() {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody came");
            std::thread::yield_now();
        }
        first.walk();
    };
    around.crew.work(walk, |turn, part| Walker::new(&around, turn, part).walk());
    let parts = around.crew.into_found();
    assert!(parts.len() > 1, "one walked alone");
    assert_eq!(parts.iter().map(Yield::len).sum::<usize>(), 201);
    let (threads, here) = (Hands::of_this_machine(), std::thread::available_parallelism().unwrap().get());
    assert!(threads.threads == here.min(4) && !threads.eager, "{threads:?}");
}

#[test]
fn when_one_of_those_who_walk_panics_the_others_do_not_wait_for_ever() {
    let crew = Crew::new(TOGETHER);
    let first = crew.begin();
    let panics = || {
        let _turn = first;
        panic!("on purpose");
    };
    let ended = catch_unwind(AssertUnwindSafe(|| crew.work(panics, |_, _| {})));
    assert!(ended.is_err());
}

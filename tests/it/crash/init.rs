//! Setting up, killed anywhere.

use super::bed::{Bed, Node, assert_code, chosen, tree};
use backstay::config::Config;
use backstay::keys::SecretIdentity;
use backstay::keys::identity::load_identity_file;
use backstay::keys::kit::Kit;
use std::path::{Path, PathBuf};

fn prepare() -> Bed {
    let bed = Bed::new();
    bed.make_app();
    bed.save();
    bed
}

fn keys(bed: &Bed) -> PathBuf {
    bed.live.join("home/.config/backstay/app")
}

/// Files in which private age keys lie.
fn files_with_identities(bed: &Bed) -> Vec<PathBuf> {
    // The word alone also stands in recover.py.
    let is_key = |w: &[u8]| {
        let key = w.strip_prefix(b"AGE-SECRET-KEY-1");
        key.is_some_and(|key| key.iter().all(u8::is_ascii_alphanumeric))
    };
    let holds = |node: &Node| match node {
        Node::File(_, _, bytes) => bytes.windows(40).any(is_key),
        _ => false,
    };
    let found = tree(&bed.live).into_iter().filter(|(_, node)| holds(node));
    found.map(|(path, _)| path).collect()
}

/// The kit opens what is backed up now; it and the configuration know one and the same identity.
fn assert_usable(bed: &Bed, kit_path: &Path, offline: bool, what: &str) {
    let config = Config::load(&bed.app().join("backstay.toml")).unwrap();
    let kit = Kit::load(kit_path).unwrap();
    assert_eq!(kit.recipients, config.encryption.recipients, "{what}");
    let in_kit: Vec<String> = kit.identities.iter().map(SecretIdentity::recipient).collect();
    assert_eq!(in_kit, config.encryption.recipients, "{what}");
    assert_eq!(Some(&kit.vault), config.project.vault.as_ref(), "{what}");
    let kit_name = kit_path.strip_prefix(&bed.live).unwrap().to_owned();
    let identity = keys(bed).join("identity.txt");
    if offline {
        assert_eq!(config.encryption.identity_file, None, "{what}");
        assert_eq!(files_with_identities(bed), [kit_name], "{what}");
    } else {
        let there = load_identity_file(&identity).unwrap();
        assert_eq!(there.len(), 1, "{what}");
        assert_eq!([there[0].recipient()].as_slice(), in_kit, "{what}");
        assert_eq!(files_with_identities(bed).len(), 2, "{what}");
    }
    let expected = bed.expected();
    assert_code(&bed.run(&["backup"]), 0);
    bed.assert_no_litter(what);
    let (to, kit) = (bed.live.join("back"), kit_path.to_str().unwrap());
    let args = ["--kit", kit, "restore", "latest", "--to", to.to_str().unwrap()];
    assert_code(&bed.run(&args), 0);
    expected.assert_is_at(&to, what);
}

fn killed_anywhere(args: &[&str], kit: &str, offline: bool) {
    let bed = prepare();
    let points = bed.points(args);
    assert!(points.len() > 60, "only {} points", points.len());
    let kit = bed.live.join(kit);
    for point in chosen(&points, 40) {
        bed.reset();
        let what = format!("{args:?} killed at {point} ({})", points[point - 1]);
        assert!(bed.killed_at(args, point), "{what}: it was not killed");
        let before = kit.exists().then(|| Kit::load(&kit).unwrap());
        let output = bed.run(args);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{what}: {words}");
        if offline {
            assert!(words.contains("in the kit and nowhere else"), "{what}: {words}");
        }
        if let Some(before) = before {
            let now = Kit::load(&kit).unwrap();
            assert_eq!(before.recipients, now.recipients, "{what}: another identity");
        }
        assert_usable(&bed, &kit, offline, &what);
    }
}

#[test]
fn init_killed_anywhere_is_completed_by_the_next_and_its_kit_opens_the_vault() {
    let kit = "home/.config/backstay/app/recovery-kit.txt";
    killed_anywhere(&["init", "--yes"], kit, false);
}

#[test]
fn init_killed_anywhere_never_loses_an_offline_identity_nor_leaves_it_elsewhere() {
    let args = ["init", "--yes", "--offline-identity", "--kit", "../home/kit.txt"];
    killed_anywhere(&args, "home/kit.txt", true);
}

#[test]
fn a_kit_that_cannot_open_the_new_vault_is_not_passed_over() {
    let bed = prepare();
    let offline = ["init", "--yes", "--offline-identity"];
    let points = bed.points(&offline);
    let kit_there = points.iter().position(|p| p == "init: offline kit there");
    assert!(bed.killed_at(&offline, kit_there.unwrap() + 1));
    // Not the same command again: what is there already must not be taken for what this run would make.
    let output = bed.run(&["init", "--yes"]);
    assert_code(&output, 14);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("belongs to another identity"), "{words}");
    assert!(words.contains("--offline-identity"), "{words}");
    assert!(!bed.app().join("backstay.toml").exists());
    assert_code(&bed.run(&offline), 0);
    assert_usable(&bed, &keys(&bed).join("recovery-kit.txt"), true, "after all");
}

#[test]
fn a_configuration_that_was_lost_comes_back_with_the_vault_of_its_kit() {
    let bed = prepare();
    assert_code(&bed.run(&["init", "--yes"]), 0);
    std::fs::remove_file(bed.app().join("backstay.toml")).unwrap();
    assert_code(&bed.run(&["init", "--yes"]), 0);
    assert_usable(&bed, &keys(&bed).join("recovery-kit.txt"), false, "again");
}

#[test]
fn keys_that_were_cut_short_by_an_older_program_are_said_by_name() {
    let bed = prepare();
    assert_code(&bed.run(&["init", "--yes"]), 0);
    let key = keys(&bed).join("signing_key");
    std::fs::write(&key, "").unwrap();
    let output = bed.run(&["backup"]);
    assert_code(&output, 14);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("signing_key holds no key"), "{words}");
}

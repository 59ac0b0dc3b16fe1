//! `RECOVER.md` and `recover.py` as they lie in stores: what a kit says of them, and how one store gets them from another.

use crate::common::person::{Person, Said};
use backstay::keys::Signer;
use backstay::model::ObjectId;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const OLDER: &[u8] = b"print('as an older version says it')\n";
const SCRIPT: &str = "recover.py";

fn signer(person: &Person) -> Signer {
    Signer::load(Path::new(person.config()["signing"]["key_file"].as_str().unwrap())).unwrap()
}

/// Puts another version of the script into a store, signed by `signer`.
fn put(store: &Path, bytes: &[u8], signer: &Signer) {
    fs::write(store.join(SCRIPT), bytes).unwrap();
    fs::write(store.join("recover.py.sig"), signer.sign("backstay-recover-1", bytes).unwrap()).unwrap();
}

fn script(store: &Path) -> Option<Vec<u8>> {
    fs::read(store.join(SCRIPT)).ok()
}

/// Makes a kit, and gives its text.
fn kit(person: &Person, name: &str) -> String {
    person.ok(["kit", "-o", &format!("../{name}")]);
    fs::read_to_string(person.top.join(name)).unwrap()
}

fn proof(person: &Person, code: i32, name: &str) -> Value {
    person.json(code, ["kit", "verify", &format!("../{name}")])
}

/// More stores beside `local`, with one snapshot in each.
fn with_stores<const N: usize>(names: [&str; N]) -> (Person, [PathBuf; N]) {
    let person = Person::set_up();
    let stores = names.map(|name| person.top.join(name));
    for (name, path) in names.iter().zip(&stores) {
        person.configure(&format!("[[store]]\nname = {name:?}\npath = {:?}", path.display().to_string()));
    }
    person.ok(["init"]);
    person.ok(["backup"]);
    (person, stores)
}

#[test]
fn a_kit_names_the_instructions_that_lie_in_the_store_and_takes_another_signed_version_for_what_it_is() {
    let person = Person::set_up();
    person.backup();
    let (own, older) = (ObjectId::of(&script(&person.store()).unwrap()), ObjectId::of(OLDER));
    assert!(kit(&person, "before.txt").contains(&format!("{own}  recover.py")));
    // What an upgrade leaves behind: the store's script is not the one that this program carries.
    put(&person.store(), OLDER, &signer(&person));
    let text = kit(&person, "kit.txt");
    assert!(text.contains(&format!("{older}  recover.py")) && !text.contains(&own.to_string()), "{text}");
    let report = proof(&person, 0, "kit.txt");
    assert_eq!((&report["good"], &report["notes"]), (&true.into(), &Value::Array(vec![])), "{report:#}");
    // A kit that names another version is good, too, and says it.
    let report = proof(&person, 0, "before.txt");
    assert!(report["good"] == true && report["notes"][0].as_str().unwrap().contains(SCRIPT), "{report:#}");
    assert!(person.ok(["kit", "verify", "../before.txt"]).out.contains("of another version"));
    // A kit that `init` makes names it, too.
    fs::remove_file(person.kit()).unwrap();
    person.ok(["init"]);
    assert!(fs::read_to_string(person.kit()).unwrap().contains(&format!("{older}  recover.py")));
}

#[test]
fn a_kit_is_not_proved_where_no_key_that_still_signs_signed_another_script() {
    let person = Person::set_up();
    person.backup();
    let (text, own) = (kit(&person, "kit.txt"), script(&person.store()).unwrap());
    let old = signer(&person);
    let unproved = |name: &str, why: &str| {
        let report = proof(&person, 3, name);
        let found = report["findings"].to_string();
        assert!(found.contains(SCRIPT) && found.contains(why), "{why}: {report:#}");
    };
    // Its signature does not fit: somebody changed it. No kit takes that for what belongs there.
    fs::write(person.store().join(SCRIPT), OLDER).unwrap();
    unproved("kit.txt", "no trusted key signed it");
    assert!(kit(&person, "second.txt").contains(&ObjectId::of(&own).to_string()));
    unproved("second.txt", "no trusted key signed it");
    // It fits, and nobody trusts who signed.
    put(&person.store(), OLDER, &Signer::generate().unwrap());
    unproved("kit.txt", "no trusted key signed it");
    // Whoever stole a key that was retired could sign it at any time.
    put(&person.store(), &own, &old);
    person.json(0, ["keys", "signer", "rotate", "--yes"]);
    kit(&person, "third.txt");
    put(&person.store(), OLDER, &old);
    unproved("third.txt", "retired");
    assert!(!text.contains(&ObjectId::of(OLDER).to_string()));
    // Who looked at it and makes a new kit has one that says what is so.
    kit(&person, "fourth.txt");
    proof(&person, 0, "fourth.txt");
}

#[test]
fn where_two_stores_hold_two_versions_a_kit_names_both() {
    let (person, [second]) = with_stores(["second"]);
    put(&second, OLDER, &signer(&person));
    let text = kit(&person, "kit.txt");
    for bytes in [script(&person.store()).unwrap(), OLDER.to_vec()] {
        assert!(text.contains(&format!("{}  recover.py", ObjectId::of(&bytes))), "{text}");
    }
    let report = proof(&person, 0, "kit.txt");
    assert_eq!(report["notes"], Value::Array(vec![]), "{report:#}");
}

/// Brings what `local` lacks; gives what was mended, and all that was said.
fn synced(person: &Person) -> (Vec<String>, Said) {
    let said = person.run(["sync", "--to", "local", "--json"]).code(0);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let mended = report["stores"][0]["mended"].as_array().unwrap();
    (mended.iter().map(|key| key.as_str().unwrap().to_owned()).collect(), said)
}

#[test]
fn instructions_that_are_missing_come_from_a_store_in_which_they_are_whole_or_not_at_all() {
    let (person, [second, third]) = with_stores(["second", "third"]);
    let local = person.store();
    let whole = script(&third).unwrap();
    let gone = || {
        fs::remove_file(local.join(SCRIPT)).unwrap();
        fs::remove_file(local.join("recover.py.sig")).unwrap();
    };
    // The first store that has one has a changed one.
    fs::write(second.join(SCRIPT), OLDER).unwrap();
    gone();
    assert_eq!(synced(&person).0, ["recover.py", "recover.py.sig"]);
    assert_eq!(script(&local).unwrap(), whole);
    person.json(0, ["verify", "--store", "local"]);
    // None has it whole: nothing is put, and it is said.
    fs::write(third.join(SCRIPT), OLDER).unwrap();
    gone();
    let (mended, said) = synced(&person);
    assert!(mended.is_empty() && script(&local).is_none(), "{mended:?}");
    assert!(said.err.contains("recover.py: it is missing, and no other store has it whole"), "{said}");
}

#[test]
fn a_script_and_its_signature_are_of_one_version_after_a_sync() {
    let (person, [second, third]) = with_stores(["second", "third"]);
    let (local, signer) = (person.store(), signer(&person));
    let own = script(&local).unwrap();
    put(&second, OLDER, &signer);
    let verified = || drop(person.json(0, ["verify", "--store", "local"]));
    // The half that is left says which version belongs to it.
    fs::remove_file(local.join(SCRIPT)).unwrap();
    assert_eq!(synced(&person).0, ["recover.py"]);
    assert_eq!(script(&local).unwrap(), own);
    verified();
    // Where nobody has that version both halves come from one that is whole.
    put(&third, OLDER, &signer);
    fs::remove_file(local.join("recover.py.sig")).unwrap();
    assert_eq!(synced(&person).0, ["recover.py", "recover.py.sig"]);
    assert_eq!(script(&local).unwrap(), OLDER);
    verified();
}

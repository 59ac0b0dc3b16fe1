//! What one store cannot give is no loss while another that may have it is away: nobody decides for an older state but a person.

use super::{Lost, document, kit_of, main_py, text, with_offsite};
use crate::common::person::Person;
use crate::common::watched::around;
use crate::recover::Fresh;
use backstay::config::Config;
use backstay::keys::Kit;
use backstay::ops::recover::{RecoverOptions, look};
use backstay::ops::restore::{self, RestoreOptions};
use backstay::ops::session::Session;
use backstay::store::testing::{Damage, FaultStore};
use backstay::store::{Key, Store};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
fn a_store_that_stops_answering_is_no_damage_and_the_same_command_ends_the_recovery() {
    let person = Person::set_up();
    let offsite = with_offsite(&person);
    let id = person.backup();
    let (kit, fresh) = (kit_of(&person), Fresh::new());
    // What lies in the place of the first store is damage by itself.
    fs::write(person.store().join("backstay.json"), "damaged").unwrap();
    let app = fresh.top.join("app");
    let (keys_root, state_root) = (fresh.home.join("keys"), fresh.home.join("state"));
    let options = RecoverOptions { to: Some(app.clone()), keys_root, state_root, ..Default::default() };
    let looked = look(Kit::load(&kit).unwrap(), around(), options).unwrap();
    let chosen = looked.choose(None).unwrap();
    let unplugged = person.top.join("unplugged");
    fs::rename(&offsite, &unplugged).unwrap();
    let error = chosen.run().unwrap_err();
    assert!(app.join(".backstay-recovery/recovery.json").exists(), "it was given up: {error:?}");
    fs::rename(&unplugged, &offsite).unwrap();
    let args = ["recover", text(&kit), "--to", text(&app), "--yes", "--json"];
    let report = document(&fresh.run(&fresh.top, &args));
    let done = &report["recovered"];
    assert_eq!((&done["resumed"], &done["snapshot"]), (&json!(true), &json!(id)), "{done:#}");
    assert_eq!(done["components"].as_array().unwrap().len(), 4, "{done:#}");
}

/// Two snapshots in two stores, of which the first is the one to be damaged; and where the second is.
fn in_two_stores() -> (Lost, PathBuf) {
    let person = Person::set_up();
    let offsite = with_offsite(&person);
    let ids = ["one\n", "two\n"].map(|text| {
        fs::write(main_py(&person.app), text).unwrap();
        person.backup()
    });
    let (kit, fresh) = (kit_of(&person), Fresh::new());
    let lost = Lost { ids, kit: fresh.take_kit(&kit), store: person.store(), fresh, person };
    (lost, offsite)
}

fn recovered(lost: &Lost, app: &Path) -> Value {
    let args = ["recover", text(&lost.kit), "--to", text(app), "--yes", "--json"];
    let said = lost.fresh.run(&lost.fresh.top, &args);
    assert!([0, 4].contains(&said.code), "{said}");
    document(&said)["recovered"].clone()
}

#[test]
fn an_index_that_is_damaged_in_one_store_leads_to_no_older_snapshot_while_another_store_is_away() {
    let (lost, offsite) = in_two_stores();
    let [first, second] = &lost.ids;
    fs::write(lost.index(second), "damaged").unwrap();
    let unplugged = lost.fresh.top.join("unplugged");
    fs::rename(&offsite, &unplugged).unwrap();
    let (fresh, app) = (&lost.fresh, lost.fresh.top.join("app"));
    let args = ["recover", text(&lost.kit), "--to", text(&app), "--yes"];
    let said = fresh.run(&fresh.top, &args).code(13).error();
    said.says(&["it may be whole in offsite", "`--store NAME`", "--snapshot ID"]);
    assert!(!app.exists(), "nothing was begun");
    fs::rename(&unplugged, &offsite).unwrap();
    assert_eq!(recovered(&lost, &app)["snapshot"], second.as_str());
    assert_eq!(fs::read_to_string(main_py(&app)).unwrap(), "two\n");
    // Whoever knows that the other is gone for good says so.
    let other = Fresh::new();
    let (kit, alone) = (other.take_kit(&lost.kit), other.top.join("app"));
    let args = ["recover", text(&kit), "--to", text(&alone), "--yes", "--store", "local"];
    let report = other.json(13, &other.top, &args);
    assert_eq!(report["recovered"]["snapshot"], first.as_str(), "{report:#}");
}

#[test]
fn a_listing_that_is_damaged_in_one_store_is_waited_for_while_another_store_is_away() {
    let (lost, offsite) = in_two_stores();
    lost.damage_listings_of_the_second();
    let unplugged = lost.fresh.top.join("unplugged");
    fs::rename(&offsite, &unplugged).unwrap();
    let (fresh, app) = (&lost.fresh, lost.fresh.top.join("app"));
    let args = ["recover", text(&lost.kit), "--to", text(&app), "--yes"];
    fresh.run(&fresh.top, &args).code(13).error().says(&["it may be whole in offsite"]);
    assert!(!app.join("backstay.toml").exists(), "half of it passes for all");
    fs::rename(&unplugged, &offsite).unwrap();
    let done = recovered(&lost, &app);
    assert_eq!((&done["resumed"], &done["snapshot"]), (&json!(true), &json!(lost.ids[1])), "{done:#}");
    assert_eq!(fs::read_to_string(main_py(&app)).unwrap(), "two\n");
}

#[test]
fn an_object_that_another_store_did_not_give_is_not_called_damaged_there() {
    let (lost, _) = in_two_stores();
    let record = lost.record(&lost.ids[1]);
    fs::write(lost.index(&lost.ids[1]), "damaged").unwrap();
    let config = Config::load(&lost.person.config_path()).unwrap();
    let mut session = Session::open(Arc::new(config), around()).unwrap();
    let faults = Arc::new(FaultStore::new(session.stores[1].open().unwrap()));
    let index = Key::Manifest(record["index"].as_str().unwrap().parse().unwrap());
    faults.damage(&index, Damage::Unreadable);
    session.store = Arc::clone(&faults) as Arc<dyn Store>;
    let options = RestoreOptions {
        snapshot: lost.ids[1].clone(),
        paths: Vec::new(),
        to: lost.fresh.top.join("back"),
        accept_untrusted: false,
        ignore_owners: true,
        salvage: true,
    };
    let error = restore::run(&session, &options).unwrap_err();
    let hint = error.hint.unwrap();
    assert!(hint.contains("it may be whole in offsite"), "{hint}");
}

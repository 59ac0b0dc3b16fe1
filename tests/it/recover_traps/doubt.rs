//! What one store cannot give is no loss while another that may have it is away: nobody decides for an older state but a person.

use super::{document, kit_of, text, with_offsite};
use crate::common::person::Person;
use crate::common::watched::around;
use crate::recover::Fresh;
use backstay::keys::Kit;
use backstay::ops::recover::{RecoverOptions, look};
use serde_json::json;
use std::fs;

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

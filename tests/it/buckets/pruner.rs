//! A machine that makes backups with keys that may not delete, and another one that prunes.

use super::prune::ONE;
use super::shop::{Shop, private};
use crate::common::person::Said;
use crate::common::project::{exe, program};
use crate::common::servers::{BUCKET, tool, weed_with};
use backstay::keys::Signer;
use backstay::store::{Prefix, Store};
use std::fs;
use std::path::PathBuf;

/// A folder with a configuration that only prunes, with a signing key of its own which the host trusts.
struct Pruner<'a> {
    shop: &'a Shop,
    dir: PathBuf,
}

/// Keys of this user of the server, as AWS's tools want them.
fn keys_of(user: &str) -> String {
    format!("[default]\naws_access_key_id = {user}-key-id\naws_secret_access_key = {user}-secret-key\n")
}

impl<'a> Pruner<'a> {
    fn of(shop: &'a Shop) -> Self {
        let dir = shop.person.top.join("pruner");
        fs::create_dir(&dir).unwrap();
        let (key, host) =
            (Signer::generate().unwrap(), Signer::load(&shop.person.keys().join("signing_key")).unwrap());
        key.write(&dir.join("key")).unwrap();
        let (own, host) = (key.public_text(), host.public_text());
        let text = format!(
            "[project]\nname = \"pruner\"\n{}\ncredentials_file = {:?}\n[signing]\nkey_file = {:?}\n\
             trusted = [{{ key = {host:?}, name = \"web\", roles = [\"host\"] }}, {{ key = {own:?}, name = \"pruner\", roles = [\"prune\", \"verify\"] }}]\n\
             [retention]\n{ONE}\n[state]\ndir = {:?}\n",
            Shop::lines(&shop.endpoint, &shop.bucket),
            dir.join("keys"),
            dir.join("key"),
            dir.join("state"),
        );
        fs::write(dir.join("backstay.toml"), text).unwrap();
        let mut config = shop.person.config();
        let entry: toml::Table =
            format!("key = {own:?}\nname = \"pruner\"\nroles = [\"prune\", \"verify\"]").parse().unwrap();
        config["signing"]["trusted"].as_array_mut().unwrap().push(entry.into());
        fs::write(shop.person.config_path(), toml::to_string(&config).unwrap()).unwrap();
        Self { shop, dir }
    }

    fn with_keys_of(&self, user: &str) -> &Self {
        private(&self.dir.join("keys"), &keys_of(user));
        self
    }

    fn later(&self, hours: i64, args: &[&str]) -> Said {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        let mut command = program(exe(), &self.dir);
        command.current_dir(&self.dir).args(args).env("BACKSTAY_TEST_NOW", now.to_string());
        command.output().unwrap().into()
    }

    fn records(&self) -> usize {
        self.shop.store().list(Prefix::Records).unwrap().len()
    }
}

#[test]
fn a_host_that_may_not_delete_is_pruned_by_a_machine_that_may() {
    let Some(server) = weed_with(&["host", "pruner"]) else { return };
    tool(&server, "enable");
    let shop = Shop::open(&server.endpoint, BUCKET, &[]);
    // From now on this machine has the keys of a host.
    private(&shop.person.home.join(".aws/credentials"), &keys_of("host"));
    shop.keep(ONE);
    let ids: Vec<String> = (0..4).map(|number| shop.next(number)).collect();
    let told = shop.person.run(["doctor"]).out;
    assert!(told.contains("may not delete") && told.contains("prune = \"elsewhere\""), "{told}");
    // It tries, and is told what to do; nothing goes.
    shop.later(0, &["prune"]).code(0);
    let said = shop.later(25, &["prune"]).code(10).error();
    said.says(&["refuses to delete", "prune = \"elsewhere\""]);
    assert_eq!(shop.list(&[]), ids);
    shop.person.reconfigure("name = \"offsite\"", "name = \"offsite\"\nprune = \"elsewhere\"");
    shop.later(26, &["prune"]).code(2).error().says(&["pruned elsewhere"]);
    assert!(!shop.person.run(["doctor"]).out.contains("will be refused"));

    let pruner = Pruner::of(&shop);
    let unproved = pruner.with_keys_of("pruner").later(0, &["prune"]).code(0);
    assert!(
        unproved.out.contains("nothing to delete"),
        "what the host says of itself proves nothing: {unproved}"
    );
    pruner.later(0, &["verify", "--read-data"]).code(0);
    for _ in 0..2 {
        let announced = pruner.later(0, &["prune"]).code(0);
        assert!(announced.out.contains("announced: "), "{announced}");
    }
    // With the wrong keys it is refused and says so; with its own it goes on.
    pruner.with_keys_of("host").later(25, &["prune"]).code(10).error().says(&["refuses to delete"]);
    assert_eq!(pruner.records(), 4);
    pruner.with_keys_of("pruner").later(26, &["prune"]).code(0);
    assert_eq!(shop.list(&[]), ids[3..]);
    let cat = shop.person.ok(["cat", "latest", "backend/app/main.py"]).out;
    assert_eq!(cat, "number 3\n");
    let next = shop.next(4);
    assert_eq!(shop.list(&[]).last(), Some(&next), "the host goes on");
    let status = shop.person.run(["status"]);
    assert!(format!("{}{}", status.out, status.err).contains("pruned"), "{status}");
}

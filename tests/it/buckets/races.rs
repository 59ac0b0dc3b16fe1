//! Two machines and one bucket, at the same moment. Whatever the server honours: no snapshot is lost, none is overwritten, and nobody is told
//! that something was done which was not.

use super::shop::{PREFIX, give_keys};
use crate::common::fault_server::{FaultServer, Manner};
use crate::common::person::{Person, Said};
use crate::common::s3::{BUCKET, Oddities, Server};
use std::collections::BTreeSet;
use std::fs;
use std::sync::Barrier;

/// A store of this name in the bucket.
fn lines(endpoint: &str) -> String {
    format!("[[store]]\nname = \"shared\"\nurl = \"s3://{BUCKET}/{PREFIX}\"\nendpoint = \"{endpoint}\"")
}

/// Somebody with a vault of their own, whose configuration is then made to mean the bucket alone.
fn somebody(endpoint: &str, vault: Option<&str>) -> Person {
    let person = Person::set_up();
    give_keys(&person.home);
    let mut config = person.config();
    config["store"] = lines(endpoint).parse::<toml::Table>().unwrap()["store"].clone();
    if let Some(vault) = vault {
        config["project"].as_table_mut().unwrap().insert("vault".into(), vault.into());
    }
    fs::write(person.config_path(), toml::to_string(&config).unwrap()).unwrap();
    fs::remove_dir_all(person.home.join(".local/state")).unwrap();
    fs::remove_file(person.kit()).unwrap();
    person
}

/// Runs `args` for both at once.
fn both_at_once(people: &[Person; 2], args: &[&str]) -> [Said; 2] {
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let run = |person: &Person| {
            start.wait();
            person.run(args)
        };
        let threads = people.each_ref().map(|person| scope.spawn(move || run(person)));
        threads.map(|thread| thread.join().unwrap())
    })
}

fn snapshot(said: &Said) -> String {
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said}"));
    report["snapshot"].as_str().unwrap().to_owned()
}

/// Two hosts of one vault, each with its own signing key, trusted by the other.
fn two_hosts(endpoint: &str) -> [Person; 2] {
    let first = somebody(endpoint, None);
    first.ok(["init"]);
    let vault = first.config()["project"].get("vault").and_then(|v| v.as_str()).map(str::to_owned);
    let vault = vault.unwrap_or_else(|| {
        let shown: serde_json::Value = first.json(0, ["list"]);
        shown["vault"].as_str().unwrap().to_owned()
    });
    let second = somebody(endpoint, Some(&vault));
    let people = [first, second];
    let trusted = people.each_ref().map(|p| p.config()["signing"]["trusted"][0].clone());
    for person in &people {
        let mut config = person.config();
        config["signing"]["trusted"] = toml::Value::Array(trusted.to_vec());
        fs::write(person.config_path(), toml::to_string(&config).unwrap()).unwrap();
    }
    people[1].ok(["init"]);
    people
}

fn race_of_hosts(endpoint: &str) {
    let people = two_hosts(endpoint);
    let mut made = BTreeSet::new();
    for turn in 0..4 {
        for (number, person) in people.iter().enumerate() {
            fs::write(person.app.join("backend/app/main.py"), format!("{number} {turn}\n")).unwrap();
        }
        for said in both_at_once(&people, &["backup", "--json"]) {
            assert_eq!(said.code, 0, "{said}");
            assert!(made.insert(snapshot(&said)), "two snapshots of one name: {said}");
        }
    }
    for (number, person) in people.iter().enumerate() {
        let report = person.json(0, ["list", "--all-hosts"]);
        let rows = report["snapshots"].as_array().unwrap();
        let ids: BTreeSet<String> = rows.iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, made, "{report:#}");
        assert!(rows.iter().all(|row| row["good"] == true), "{report:#}");
        let own = person.json(0, ["list"]);
        let own = own["snapshots"].as_array().unwrap();
        assert_eq!(own.len(), 4);
        for (turn, row) in own.iter().enumerate() {
            let cat = person.ok(["cat", row["id"].as_str().unwrap(), "backend/app/main.py"]).out;
            assert_eq!(cat, format!("{number} {turn}\n"));
        }
    }
}

#[test]
fn two_hosts_that_back_up_at_once_lose_nothing() {
    let server = Server::start(Oddities::default());
    race_of_hosts(&server.endpoint);
}

#[test]
fn two_hosts_lose_nothing_in_a_store_that_ignores_conditions() {
    let server = FaultServer::with(Manner { overwrites: true, ..Manner::default() });
    race_of_hosts(&server.endpoint());
}

/// Two strangers make a store in one place at once: one has it, and the other is told, or finds out before anything of it is believed.
fn race_of_strangers(endpoint: &str) {
    let people = [somebody(endpoint, None), somebody(endpoint, None)];
    let made = both_at_once(&people, &["init"]);
    assert!(made.iter().any(|said| said.code == 0), "{} {}", made[0], made[1]);
    let backed = both_at_once(&people, &["backup", "--json"]);
    let good: Vec<usize> = (0..2).filter(|at| backed[*at].code == 0).collect();
    assert_eq!(good.len(), 1, "one of them has the store: {} {}", backed[0], backed[1]);
    for (at, person) in people.iter().enumerate() {
        if good.contains(&at) {
            let report = person.json(0, ["list"]);
            assert_eq!(report["snapshots"][0]["id"], snapshot(&backed[at]).as_str(), "{report:#}");
            person.ok(["restore", "latest", "--to", "../back"]);
        } else {
            assert!(backed[at].err.is_empty() || backed[at].code != 0, "{}", backed[at]);
        }
    }
}

#[test]
fn what_a_stranger_left_who_did_not_get_the_store_does_not_stay_in_it() {
    let server = Server::start(Oddities::default());
    let [winner, stranger] = [somebody(&server.endpoint, None), somebody(&server.endpoint, None)];
    stranger.ok(["init"]);
    fs::remove_file(server.bucket().join(PREFIX).join("backstay.json")).unwrap();
    winner.ok(["init"]);
    winner.ok(["backup"]);
    let listed = winner.json(0, ["list"]);
    assert_eq!(listed["damaged"].as_array().map(Vec::len), Some(0), "{listed:#}");
}

#[test]
fn a_store_whose_maker_was_cut_off_is_completed_by_the_next_init() {
    let server = Server::start(Oddities::default());
    let person = somebody(&server.endpoint, None);
    person.ok(["init"]);
    for gone in ["RECOVER.md.sig", "recover.py"] {
        fs::remove_file(server.bucket().join(PREFIX).join(gone)).unwrap();
    }
    person.ok(["init"]);
    let listed = person.json(0, ["list"]);
    assert_eq!(listed["damaged"].as_array().map(Vec::len), Some(0), "{listed:#}");
}

#[test]
fn of_two_strangers_in_one_place_one_has_the_store() {
    for _ in 0..3 {
        let server = Server::start(Oddities::default());
        race_of_strangers(&server.endpoint);
    }
}

#[test]
fn of_two_strangers_in_one_place_one_has_the_store_though_it_ignores_conditions() {
    for _ in 0..3 {
        let server = FaultServer::with(Manner { overwrites: true, ..Manner::default() });
        race_of_strangers(&server.endpoint());
    }
}

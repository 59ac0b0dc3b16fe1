//! A machine is recovered with the store that lags; the other one comes back with a newer snapshot, and the history of the lost key is forked.

use crate::common::person::{Person, Said};
use crate::common::project::{exe, program};
use crate::recover::Fresh;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// The recovered machine, and both stores that it has now.
struct Recovered {
    fresh: Fresh,
    app: PathBuf,
    /// The snapshot that both stores had from the lost machine, and the one that only the second had.
    shared: String,
    theirs: String,
    _person: Person,
}

impl Recovered {
    fn new() -> Self {
        let person = Person::set_up();
        let second = person.top.join("second");
        person.configure(&format!("[[store]]\nname = \"second\"\npath = {:?}", second.display().to_string()));
        person.ok(["init"]);
        let shared = person.backup();
        let (kit, stick) = (person.top.join("kit.txt"), person.top.join("stick"));
        person.ok(["kit", "-o", kit.to_str().unwrap()]);
        fs::rename(person.store(), &stick).unwrap();
        fs::write(person.app.join("backend/app/main.py"), "theirs\n").unwrap();
        let theirs = person.json(4, ["backup"])["snapshot"].as_str().unwrap().to_owned();
        let away = second.with_extension("away");
        fs::rename(&second, &away).unwrap();
        let fresh = Fresh::new();
        let app = fresh.top.join("app");
        let [kit, stick, to] = [&kit, &stick, &app].map(|path| path.to_str().unwrap());
        fresh.json(0, &fresh.top, &["recover", kit, "--store", stick, "--to", to, "--yes"]);
        fs::rename(&away, &second).unwrap();
        let recovered = Self { app, fresh, shared, theirs, _person: person };
        let synced = recovered.json(13, &["sync"]);
        assert!(synced["history"][0].as_str().unwrap().contains("is forked"), "{synced:#}");
        recovered
    }

    fn run(&self, args: &[&str]) -> Said {
        self.fresh.run(&self.app, args)
    }

    #[track_caller]
    fn json(&self, code: i32, args: &[&str]) -> Value {
        self.fresh.json(code, &self.app, args)
    }

    /// The name of an entry that `said` gives.
    #[track_caller]
    fn entry_named(said: &Said) -> String {
        let rest =
            said.err.split("--keep entry:").nth(1).unwrap_or_else(|| panic!("no entry is named\n{said}"));
        format!("entry:{}", rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>())
    }

    /// Both stores have one whole history, the next backup goes into both, and nobody waits for what was dropped.
    #[track_caller]
    fn goes_on(&self, trusted: &[&str]) {
        let synced = self.json(0, &["sync"]);
        assert_eq!((&synced["history"], &synced["problems"]), (&json!([]), &json!([])), "{synced:#}");
        let made = self.json(0, &["backup"]);
        assert_eq!(made["problems"], json!([]), "{made:#}");
        let newest = made["snapshot"].as_str().unwrap();
        let expected: Vec<&str> = trusted.iter().copied().chain([newest]).collect();
        for store in ["local", "second"] {
            let list = self.json(0, &["list", "--store", store]);
            assert_eq!(list["history"], json!([]), "{list:#}");
            let rows = list["snapshots"].as_array().unwrap();
            let stand: Vec<&str> = rows
                .iter()
                .filter(|row| row["trusted"] == true)
                .filter_map(|row| row["id"].as_str())
                .collect();
            assert_eq!(stand, expected, "{store}: {list:#}");
        }
        assert_eq!(self.json(0, &["show", "latest"])["id"], newest);
        let doctor = self.run(&["doctor", "--json"]);
        assert!(!doctor.out.contains("that another store has"), "what was dropped is missed\n{doctor}");
        // Untrusted, not gone.
        let to = self.fresh.top.join("theirs");
        let args = ["restore", &self.theirs, "--store", "second", "--to", to.to_str().unwrap()];
        self.run(&args).code(13).error().says(&["dropped when a fork of the history was settled"]);
        self.run(&[&args[..], &["--accept-untrusted", "--no-owners"]].concat()).code(0);
        assert_eq!(fs::read_to_string(to.join("backend/app/main.py")).unwrap(), "theirs\n");
    }
}

#[test]
fn the_side_of_a_recovered_machine_stands_when_one_of_its_own_snapshots_is_named() {
    let recovered = Recovered::new();
    let made = recovered.json(13, &["backup"]);
    let ours = made["snapshot"].as_str().unwrap();
    let said = recovered.run(&["settle", "--yes"]).code(2).error();
    said.says(&[
        "more than one history",
        &format!("--keep {}", recovered.theirs),
        "which this machine signs with (snapshots that hang on it: 1)",
    ]);
    // What both have names neither; the other one would disown the key that signs this.
    recovered.run(&["settle", "--yes", "--keep", &recovered.shared]).code(2).error();
    let said = recovered.run(&["settle", "--yes", "--keep", &recovered.theirs]).code(13).error();
    let name = Recovered::entry_named(&said);
    recovered.run(&["settle", "--keep", &name]).code(2).says(&["nobody is here to confirm it"]);
    // Who names both names none.
    let both = ["settle", "--yes", "--keep", ours, "--keep", &recovered.theirs];
    recovered.run(&both).code(2).error().says(&["more than one history"]);
    // The second store lacks the snapshot above which this is signed: `sync` brings both.
    let report = recovered.json(4, &["settle", "--yes", "--keep", ours]);
    assert_eq!(report["histories"][0]["dropped"], json!([recovered.theirs]), "{report:#}");
    assert_eq!(report["left"], json!([]), "{report:#}");
    recovered.goes_on(&[&recovered.shared, ours]);
}

#[test]
fn a_side_of_a_fork_without_a_snapshot_of_its_own_stands_by_the_name_that_settle_gives_it() {
    let recovered = Recovered::new();
    let said = recovered.run(&["settle", "--yes"]).code(2).error();
    let name = Recovered::entry_named(&said);
    assert!(said.err.contains("the mark of a new key of host"), "{said}");
    recovered.run(&["settle", "--yes", "--keep", "entry:0123456789abcdef"]).code(16).error();
    let report = recovered.json(0, &["settle", "--yes", "--keep", &name]);
    assert_eq!(report["histories"][0]["dropped"], json!([recovered.theirs]), "{report:#}");
    assert_eq!((&report["left"], &report["problems"]), (&json!([]), &json!([])), "{report:#}");
    recovered.goes_on(&[&recovered.shared]);
}

#[test]
fn what_settles_a_fork_and_is_in_no_store_yet_is_brought_across_it_by_sync() {
    let recovered = Recovered::new();
    let name = Recovered::entry_named(&recovered.run(&["settle", "--yes"]).code(2));
    let settle = ["settle", "--yes", "--keep", &name];
    let mut killed = program(exe(), &recovered.fresh.home);
    killed.current_dir(&recovered.app).args(settle).env("BACKSTAY_TEST_CRASH", "marks: kept#1");
    let killed = Said::from(killed.output().unwrap());
    assert_eq!(killed.code, -1, "{killed}");
    recovered.run(&["settle", "--yes"]).code(2).error().says(&["more than one history"]);
    recovered.goes_on(&[&recovered.shared]);
}

//! Recovery kits: what `kit verify` says of them is so, and none lies where only what it opens should be.

use crate::common::person::Person;
use std::fs;

#[test]
fn a_store_that_is_only_away_says_nothing_against_a_kit() {
    let person = Person::set_up();
    person.configure("[[store]]\nname = \"second\"\npath = \"../second\"");
    person.ok(["init"]);
    person.backup();
    person.ok(["kit", "-o", "../kit.txt"]);
    fs::rename(person.top.join("second"), person.top.join("away")).unwrap();
    let said = person.run(["kit", "verify", "../kit.txt"]).code(4);
    assert!(said.out.contains("could not be tried: ") && !said.out.contains("DOES NOT OPEN"), "{said}");
    assert!(said.out.contains("may introduce a new machine"), "{said}");
    assert!(said.err.contains("NOT PROVED YET") && said.err.contains("second"), "{said}");
    assert!(!said.err.contains("THIS KIT IS NOT PROVED"), "{said}");
    let proof = person.json(4, ["kit", "verify", "../kit.txt"]);
    assert_eq!((&proof["stores"][0]["tried"], &proof["stores"][1]["tried"]), (&true.into(), &false.into()));
    // Where none was looked into, nobody knows anything of its signing key.
    fs::rename(person.store(), person.top.join("away-too")).unwrap();
    let said = person.run(["kit", "verify", "../kit.txt"]).code(13);
    assert!(said.out.contains("was not found out") && !said.out.contains("introduces nobody"), "{said}");
}

#[test]
fn a_kit_whose_copy_of_the_identity_is_mistyped_is_not_proved() {
    let person = Person::set_up();
    person.backup();
    person.ok(["kit", "-o", "../kit.txt"]);
    let text = fs::read_to_string(person.top.join("kit.txt")).unwrap();
    // The line that `grep` takes.
    let number = text.lines().position(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let identity = text.lines().nth(number).unwrap();
    let other = if identity.ends_with('Q') { 'P' } else { 'Q' };
    let typo = text.replacen(identity, &format!("{}{other}", &identity[..identity.len() - 1]), 1);
    fs::write(person.top.join("typo.txt"), &typo).unwrap();
    let proof = person.json(3, ["kit", "verify", "../typo.txt"]);
    let findings = proof["findings"].to_string();
    assert!(
        findings.contains(&format!("line {}", number + 1)) && findings.contains("another identity"),
        "{proof:#}"
    );
    assert_eq!(proof["remembered"], false);
    assert!(!findings.contains(&identity[20..40]), "{findings}");
    person.ok(["kit", "verify", "../kit.txt"]);
}

#[test]
fn a_recovery_kit_is_not_written_into_a_store() {
    let person = Person::new();
    let why = ["must not lie in store \"local\"", "sign as this host"];
    person.fails(2, ["init", "--yes", "--kit", "backups/kit.txt"]).says(&why);
    assert!(!person.config_path().exists() && !person.keys().exists());
    person.ok(["init", "--yes"]);
    person.backup();
    std::os::unix::fs::symlink("backups", person.app.join("link")).unwrap();
    for path in ["backups/kit.txt", "link/kit.txt", "../tsushin/backups/marks/kit.html"] {
        person.fails(2, ["kit", "-o", path]).says(&why);
    }
    // One that came there by other ways is a problem.
    person.ok(["kit", "-o", "../kit.html"]);
    fs::copy(person.top.join("kit.html"), person.store().join("print-me.html")).unwrap();
    let report = person.json(18, ["doctor"]);
    let findings = report["findings"].as_array().unwrap();
    let found =
        findings.iter().find(|f| f["what"].as_str().unwrap().contains("a recovery kit lies in the store"));
    let found = found.unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(found["severity"], "problem");
    assert!(found["what"].as_str().unwrap().contains("print-me.html"), "{found:#}");
}

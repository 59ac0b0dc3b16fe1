//! Two hosts in one vault, whose components have the same names: neither's snapshot becomes live on the other by an oversight.

use super::{App, SERVICE};
use crate::common::project::{exe, expect_code, have, program};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn configure(app: &App, change: impl FnOnce(&mut toml::Table)) {
    let mut config = app.project.config();
    change(&mut config);
    fs::write(app.project.config_path(), toml::to_string(&config).unwrap()).unwrap();
}

/// Two hosts with one vault and one recipient, of which the first trusts the second; and a snapshot of each, the second's being the newer one.
fn two_hosts() -> (App, App, String, String) {
    let (first, second) = (App::new(SERVICE), App::new(""));
    let own = first.project.backup();
    let of_first = first.project.config();
    configure(&second, |config| {
        config["project"]["vault"] = of_first["project"]["vault"].clone();
        config["encryption"]["recipients"] = of_first["encryption"]["recipients"].clone();
        config["store"][0]["path"] = first.project.store.to_str().unwrap().into();
    });
    // It knows nothing of the store it had.
    fs::remove_dir_all(second.project.home.join(".local")).unwrap();
    second.write("app/version", "of the second");
    let foreign = second.project.backup();
    let key = second.project.trusted_key();
    configure(&first, |config| {
        let mut trusted = toml::Table::new();
        trusted.insert("key".into(), key.into());
        trusted.insert("name".into(), "second".into());
        trusted.insert("roles".into(), vec!["host"].into());
        config["signing"]["trusted"].as_array_mut().unwrap().push(trusted.into());
    });
    (first, second, own, foreign)
}

#[test]
fn another_hosts_snapshot_becomes_live_only_where_that_host_is_named_and_meant() {
    let (app, _second, own, foreign) = two_hosts();
    let (live, pid) = (app.live(), app.start_service());
    let file = "app/version";
    let in_place = ["restore", foreign.as_str(), file, "--in-place", "--yes"];
    for (args, words) in [
        (&["rollback", foreign.as_str(), "--yes"][..], "is not of this host"),
        (&["rollback", &foreign, "--dry-run"], "--host"),
        (&["rollback", &foreign, "--yes", "--all-hosts"], "is not of this host"),
        (&["rollback", "latest", "--yes", "--all-hosts"], "--all-hosts does not say whose"),
        (&["rollback", "--yes", "--all-hosts"], "--all-hosts does not say whose"),
        (&in_place, "is not of this host"),
        (
            &["restore", "latest", file, "--in-place", "--yes", "--all-hosts"],
            "--all-hosts does not say whose",
        ),
        // A yes is not enough where nobody is there to say which host is meant.
        (&["rollback", "latest", "--yes", "--host", "second"], "it takes the exact id, --host and --yes"),
        (
            &["rollback", &foreign[..20], "--yes", "--host", "second"],
            "it takes the exact id, --host and --yes",
        ),
        (&["rollback", &foreign, "--host", "second"], "it takes the exact id, --host and --yes"),
        (&["restore", "latest", file, "--in-place", "--yes", "--host", "second"], "it takes the exact id"),
    ] {
        let output = expect_code(app.project.run(args), 2);
        assert!(said(&output).contains(words), "{args:?}: {}", said(&output));
        assert!(said(&output).contains("hint: "), "{args:?}: {}", said(&output));
        assert_eq!((app.live(), app.service()), (live.clone(), pid), "{args:?}");
    }
    let plan = app.project.json(["rollback", &foreign, "--dry-run", "--host", "second"]);
    assert_eq!(plan["host"]["own"], false);
    let shown = app.project.ok(["rollback", &foreign, "--dry-run", "--host", "second"]);
    assert!(said(&shown).contains("of ANOTHER HOST, "), "{}", said(&shown));
    let plan = app.project.json(["rollback", &own, "--dry-run"]);
    assert_eq!(plan["host"]["own"], true);
    app.project.ok(in_place.iter().chain(&["--host", "second"]));
    assert_eq!(app.read(file), "of the second");
    app.write(file, "1");
    let id = plan["host"]["id"].as_str().unwrap();
    // To name oneself changes nothing.
    app.project.ok(["rollback", "latest", "--host", &id[..8]]);
    assert_eq!(app.read(file), "1");
    app.project.ok(["rollback", &foreign, "--yes", "--host", "second"]);
    assert_eq!(app.read(file), "of the second");
    assert!(app.runs());
}

/// Runs `backstay args` on a terminal where somebody types `typed`.
pub(super) fn on_a_terminal(app: &App, typed: &str, args: &[&str]) -> Output {
    let words: Vec<String> = [exe().to_str().unwrap()].iter().chain(args).map(|w| format!("'{w}'")).collect();
    let mut script = program(Path::new("script"), &app.project.home);
    script.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(&app.project.dir).env("TERM", "xterm");
    let mut child =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn on_a_terminal_the_name_of_another_host_is_typed_and_a_yes_is_none() {
    if !have(&["script"]) {
        return;
    }
    let (app, _second, _, foreign) = two_hosts();
    app.start_service();
    let live = app.live();
    let rollback = ["rollback", foreign.as_str(), "--host", "second", "--yes"];
    // The last is the end of the input, as Ctrl-D makes it.
    for typed in ["y\n", "yes\n", "\n", "third\n", "\u{4}"] {
        let output = expect_code(on_a_terminal(&app, typed, &rollback), 1);
        assert!(said(&output).contains("Type second or "), "{}", said(&output));
        assert_eq!(app.live(), live, "{typed:?}");
    }
    let restore = ["restore", "latest", "app/version", "--in-place", "--host", "second"];
    expect_code(on_a_terminal(&app, "y\n", &restore), 1);
    expect_code(on_a_terminal(&app, "second\n", &restore), 0);
    assert_eq!(app.read("app/version"), "of the second");
    app.write("app/version", "1");
    expect_code(on_a_terminal(&app, "second\n", &["rollback", "latest", "--host", "second"]), 0);
    assert_eq!(app.read("app/version"), "of the second");
}

#[test]
fn a_host_that_changed_its_signing_key_goes_back_to_what_it_signed_before() {
    let app = App::new(SERVICE);
    let before = app.project.backup();
    app.upgrade("2");
    app.start_service();
    app.project.ok(["keys", "signer", "rotate", "--yes"]);
    let after = app.project.backup();
    app.project.ok(["rollback", &before]);
    assert_eq!(app.read("app/version"), "1");
    app.project.ok(["rollback", &after]);
    assert_eq!(app.read("app/version"), "2");
}

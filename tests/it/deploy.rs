//! What lies in `deploy/` is what the program says and takes.

use backstay::agent::{Form, print};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// The settings of a unit, each with its section; not what is said in comments, nor what people read.
fn settings(text: &str) -> BTreeSet<String> {
    let (mut section, mut found) = ("", BTreeSet::new());
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if line.contains('=') && !line.starts_with('#') && !line.starts_with("Description=") {
            found.insert(format!("{section} {line}"));
        }
    }
    found
}

#[test]
fn the_units_in_deploy_say_all_that_is_printed() {
    let exe = Path::new("/usr/local/bin/backstay");
    for (template, config) in [("", "/etc/backstay/backstay.toml"), ("@", "/etc/backstay/%i.toml")] {
        let printed = |form| print(form, exe, &[Path::new(config)], &[]).replace("%%i", "%i");
        let timer = printed(Form::Timer);
        let (due, every) = timer.split_at(timer.find("# /etc/systemd/system/backstay-due.timer").unwrap());
        for (name, printed) in [
            ("backstay.service", printed(Form::Systemd).as_str()),
            ("backstay-due.service", due),
            ("backstay-due.timer", every),
        ] {
            let name = name.replace('.', &format!("{template}."));
            let shipped = settings(&fs::read_to_string(deploy("systemd").join(&name)).unwrap());
            let printed = settings(printed);
            assert!(printed.len() > 2, "{printed:?}");
            let lacking: Vec<&String> = printed.difference(&shipped).collect();
            assert!(lacking.is_empty(), "{name} lacks {lacking:?}");
        }
    }
}

#[test]
fn what_a_job_started_outlives_every_unit_that_ran_it() {
    let exe = Path::new("/usr/local/bin/backstay");
    let printed = [Form::Systemd, Form::Timer].map(|form| print(form, exe, &[Path::new("/x.toml")], &[]));
    let shipped = ["backstay", "backstay@", "backstay-due", "backstay-due@", "backstay-resume@"];
    let shipped = shipped.map(|name| fs::read_to_string(deploy("systemd").join(format!("{name}.service"))));
    for text in printed.into_iter().chain(shipped.map(Result::unwrap)) {
        let mode = settings(&text).into_iter().filter(|line| line.contains("KillMode")).collect::<Vec<_>>();
        assert_eq!(mode, ["[Service] KillMode=process"], "{text}");
    }
}

#[test]
fn the_version_names_the_commit_and_the_features() {
    let said = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("--version").env_clear().output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let [version, commit, features] = lines[..] else { panic!("{said}") };
    assert_eq!(version, format!("backstay {}", env!("CARGO_PKG_VERSION")));
    let both = cfg!(feature = "azure") && cfg!(feature = "gcs");
    assert_eq!(features == "features azure, gcs", both, "{said}");
    let git =
        Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let known = match option_env!("BACKSTAY_COMMIT").filter(|given| !given.is_empty()) {
        Some(given) => given.to_owned(),
        None if Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() => {
            String::from_utf8(git.unwrap().stdout).unwrap().trim().to_owned()
        }
        None => "unknown".to_owned(),
    };
    assert_eq!(commit, format!("commit {}", &known[..known.len().min(12)]));
}

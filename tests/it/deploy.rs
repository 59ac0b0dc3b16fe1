//! What lies in `deploy/` is what the program says and takes.

use backstay::agent::{Form, With, print};
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
        let printed = |form| {
            print(form, exe, With { configs: &[Path::new(config)], identities: &[] }, &[])
                .replace("%%i", "%i")
        };
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
    let printed = [Form::Systemd, Form::Timer]
        .map(|form| print(form, exe, With { configs: &[Path::new("/x.toml")], identities: &[] }, &[]));
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

/// The job `prepare` of the demo, on a machine of its own: its places lie in a folder, and nobody becomes another user.
struct Prepare(tempfile::TempDir);

/// What stands in the place of the program: the store in a bucket is made only once there is `mended`, and `cut` cuts the job off behind the first configuration.
const STAND_IN: &str = r#"#!/bin/sh
echo "$*" >>TOP/calls
case "$*" in
*"backstay.toml /"*) [ -e TOP/mended ] || exit 10 ;;
*) PROGRAM "$@" || exit; if [ -e TOP/cut ]; then kill -KILL "$PPID"; fi ;;
esac
"#;

impl Prepare {
    fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        for dir in ["etc/backstay", "var/lib/backstay", "srv/demo", "run/secrets", "tmp", "bin"] {
            fs::create_dir_all(new.path(dir)).unwrap();
        }
        fs::write(new.path("run/secrets/host.credentials"), "[default]\n").unwrap();
        let top = new.0.path().to_str().unwrap();
        let program = STAND_IN.replace("TOP", top).replace("PROGRAM", env!("CARGO_BIN_EXE_backstay"));
        let setpriv = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n";
        let install = "#!/bin/sh\nfor to; do from=${last:-}; last=$to; done\ncp \"$from\" \"$to\"\n";
        for (name, text) in [
            ("backstay", program.as_str()),
            ("setpriv", setpriv),
            ("install", install),
            ("chown", "#!/bin/sh\n"),
        ] {
            let path = new.path("bin").join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        new
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Runs the job; gives its exit code, or none where it was cut off.
    fn up(&self) -> Option<i32> {
        let mut text = fs::read_to_string(deploy("demo/prepare.sh")).unwrap();
        for place in ["/tmp", "/etc", "/var/lib", "/srv/demo", "/run/secrets"] {
            let own = self.path(&place[1..]).display().to_string();
            // At the beginning of a word alone: what was put in front must not be taken for one of these.
            for before in [" ", "=", "\"", ">"] {
                text = text.replace(&format!("{before}{place}"), &format!("{before}{own}"));
            }
        }
        let script = self.path("prepare.sh");
        fs::write(&script, text).unwrap();
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut job = Command::new("sh");
        job.arg(script)
            .env_clear()
            .env("PATH", path)
            .env("BUCKET", "backups")
            .env("ENDPOINT", "http://minio:9000");
        let output = job.output().unwrap();
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        output.status.code()
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect()
    }

    fn stores_made(&self) -> usize {
        self.calls().iter().filter(|call| call.contains("backstay.toml /")).count()
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let names = ["signing_key", "naming_key", "identity.txt"];
        names.map(|name| fs::read(self.path("etc/backstay/demo").join(name)).unwrap()).into()
    }

    /// The configuration, which the program takes.
    fn config(&self) -> toml::Table {
        let path = self.path("etc/backstay/backstay.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        let taken = command
            .env_clear()
            .env("HOME", self.0.path())
            .arg("-c")
            .arg(&path)
            .args(["agent", "--print", "cron"]);
        let taken = taken.output().unwrap();
        assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
        fs::read_to_string(path).unwrap().parse().unwrap()
    }
}

#[test]
fn the_demo_makes_its_store_at_a_later_up_where_the_first_could_not() {
    let demo = Prepare::new();
    assert_eq!(demo.up(), Some(10), "the store cannot be made, and nothing is called ready");
    let (config, keys) = (demo.config(), demo.keys());
    assert_eq!(config["store"][0]["url"].as_str(), Some("s3://backups/demo"));
    let state = PathBuf::from(config["state"]["dir"].as_str().unwrap());
    assert_eq!(state, demo.path("var/lib/backstay/demo"));
    assert_eq!(demo.up(), Some(10));
    fs::write(demo.path("mended"), "").unwrap();
    assert_eq!(demo.up(), Some(0));
    assert_eq!(demo.stores_made(), 3);
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("remembered"), "").unwrap();
    assert_eq!(demo.up(), Some(0), "and so it is at each up");
    assert_eq!((demo.config(), demo.keys()), (config, keys), "what is there stays");
    assert!(state.join("remembered").exists());
}

#[test]
fn a_first_up_of_the_demo_that_was_cut_off_is_made_good_by_the_next_with_the_same_keys() {
    let demo = Prepare::new();
    fs::write(demo.path("mended"), "").unwrap();
    fs::write(demo.path("cut"), "").unwrap();
    assert_eq!(demo.up(), None, "it was not cut off");
    assert!(!demo.path("etc/backstay/backstay.toml").exists());
    let keys = demo.keys();
    fs::remove_file(demo.path("cut")).unwrap();
    // A container's own files went with it.
    fs::remove_dir_all(demo.path("tmp/new")).unwrap();
    assert_eq!(demo.up(), Some(0));
    let config = demo.config();
    let components: Vec<&str> =
        config["component"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(components, ["db", "files"]);
    assert_eq!((demo.stores_made(), demo.keys()), (1, keys));
    let left = fs::read_dir(demo.path("etc/backstay"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("new"));
    assert_eq!(left.count(), 0);
    assert!(!demo.path("tmp/new").exists());
}

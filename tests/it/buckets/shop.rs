//! Somebody whose store is a bucket.

use crate::common::person::{Person, Said};
use backstay::store::s3::{S3Spec, S3Store, testing};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The prefix of the store.
pub(crate) const PREFIX: &str = "vaults/tsushin";

/// A file that only its owner can read.
pub(crate) fn private(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Keys that the servers of tests accept, where AWS's tools look for them.
pub(crate) fn give_keys(home: &Path) {
    let keys = "[default]\naws_access_key_id = test-key-id\naws_secret_access_key = test-secret-key\n";
    private(&home.join(".aws/credentials"), keys);
}

pub(crate) struct Shop {
    pub(crate) person: Person,
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
}

impl Shop {
    /// An application whose one store is a new one in `bucket` of the server at `endpoint`.
    pub(crate) fn open(endpoint: &str, bucket: &str, more: &[&str]) -> Self {
        let shop = Self { person: Person::new(), endpoint: endpoint.to_owned(), bucket: bucket.to_owned() };
        give_keys(&shop.person.home);
        let url = format!("s3://{bucket}/{PREFIX}");
        let args: Vec<&str> = ["init", "--yes", "--store", &url].iter().chain(more).copied().collect();
        let mut init = shop.person.command(args);
        let said: Said = init.env("AWS_ENDPOINT_URL", endpoint).output().unwrap().into();
        said.code(0).says(&["made store"]);
        shop
    }

    /// The lines of a further store in the bucket.
    pub(crate) fn lines(endpoint: &str, bucket: &str) -> String {
        format!("[[store]]\nname = \"offsite\"\nurl = \"s3://{bucket}/{PREFIX}\"\nendpoint = \"{endpoint}\"")
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.person.command(args)
    }

    /// The store, past the program: for looking and for doing harm.
    pub(crate) fn store(&self) -> S3Store {
        let state = self.person.top.join("other-state");
        let mut spec = S3Spec::new("offsite", &self.bucket, state, testing::keys());
        (spec.endpoint, spec.path_style) = (Some(self.endpoint.clone()), true);
        spec.prefix = PREFIX.to_owned();
        S3Store::open(spec).unwrap()
    }

    /// The application as it is now, put aside: what a restore of a snapshot made now must give.
    pub(crate) fn put_aside(&self, name: &str) -> PathBuf {
        let to = self.person.top.join(name);
        let copy = Command::new("cp").arg("-a").arg(&self.person.app).arg(&to).status().unwrap();
        assert!(copy.success());
        to
    }

    /// A day's work: a file changes, one comes, one goes, and the database grows.
    pub(crate) fn change(&self) {
        let app = &self.person.app;
        std::fs::write(app.join("backend/app/main.py"), "from fastapi import FastAPI  # two\n").unwrap();
        std::fs::write(app.join("backend/app/new.py"), vec![b'n'; 70_000]).unwrap();
        std::fs::remove_file(app.join("frontend/app/page.tsx")).unwrap();
        let db = rusqlite::Connection::open(app.join("backend/data/agent.db")).unwrap();
        db.execute("INSERT INTO message(text) VALUES ('the day after')", []).unwrap();
    }

    /// Ids of the snapshots that are listed, each good, with nothing wrong.
    pub(crate) fn list(&self, args: &[&str]) -> Vec<String> {
        let args: Vec<&str> = ["list"].iter().chain(args).copied().collect();
        let report = self.person.json(0, args);
        for trouble in ["history", "damaged"] {
            assert_eq!(report[trouble], serde_json::json!([]), "{report:#}");
        }
        let rows = report["snapshots"].as_array().unwrap();
        rows.iter().for_each(|row| assert_eq!(row["good"], true, "{row:#}"));
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// The rows of a restored database, which must be sound.
pub(crate) fn rows(database: &Path) -> u32 {
    let db = rusqlite::Connection::open(database).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    db.query_row("SELECT count(*) FROM message", [], |row| row.get(0)).unwrap()
}

/// That `restored` holds the folders of `expected` as they were, without what is left out.
pub(crate) fn assert_same(restored: &Path, expected: &Path) {
    for folder in ["backend/app", "frontend"] {
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference", "--exclude=node_modules"]);
        let output = diff.arg(expected.join(folder)).arg(restored.join(folder)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let env = |top: PathBuf| std::fs::read(top.join(".env")).unwrap();
    assert_eq!(env(restored.join("settings")), env(expected.to_owned()));
}

//! A throw-away project with a store of its own, driven by the real program in an environment that knows nothing of this machine's.

use backstay::keys::identity::load_identity_file;
use backstay::keys::{Identities, RecipientSet, Signer};
use backstay::model::{Record, document};
use backstay::store::Key;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of the program gave.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    /// All that it said.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.out), self.err)
    }

    /// Fails unless it ended with `code` and said every one of `words`.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, words: &[&str]) -> &Self {
        let text = self.text();
        assert_eq!(self.code, code, "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        self
    }
}

/// A file, directory or link of a tree: its mode, and its content or target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Dir(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
}

/// Everything below `dir`, by relative path.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Node> {
    let mut nodes = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for item in fs::read_dir(dir.join(&below)).unwrap() {
            let path = below.join(item.unwrap().file_name());
            let full = dir.join(&path);
            let facts = full.symlink_metadata().unwrap();
            let mode = facts.mode() & 0o7777;
            let node = if facts.is_dir() {
                open.push(path.clone());
                Node::Dir(mode)
            } else if facts.is_symlink() {
                Node::Link(fs::read_link(&full).unwrap())
            } else {
                Node::File(mode, fs::read(&full).unwrap())
            };
            nodes.insert(path, node);
        }
    }
    nodes
}

/// Bytes that do not compress, the same for the same `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes a file and the folders it lies in.
pub(crate) fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A project, its keys and state, and its store.
pub(crate) struct Lab {
    pub(crate) top: tempfile::TempDir,
}

impl Lab {
    /// Sets a project up that has `files` and protects what `components` (TOML) says.
    pub(crate) fn new(files: impl FnOnce(&Path), components: &str) -> Self {
        // In memory where that can be had: thousands of files are restored.
        let memory = Some(Path::new("/dev/shm")).filter(|p| p.is_dir());
        let memory = memory.and_then(|dir| tempfile::tempdir_in(dir).ok());
        let lab = Self { top: memory.unwrap_or_else(|| tempfile::tempdir().unwrap()) };
        for dir in ["home", "project"] {
            fs::create_dir(lab.path(dir)).unwrap();
        }
        files(&lab.path("project"));
        let (store, kit) = (lab.path("store"), lab.path("kit.txt"));
        let args = ["init", "--yes", "--store", store.to_str().unwrap(), "--kit", kit.to_str().unwrap()];
        lab.run(&args).expect(0, &["made store"]);
        let mut config: toml::Table = lab.config_text().parse().unwrap();
        let components: toml::Table = components.parse().unwrap();
        config.remove("component");
        config.extend(components);
        lab.set_config(&config);
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn config_text(&self) -> String {
        fs::read_to_string(self.path("project/backstay.toml")).unwrap()
    }

    pub(crate) fn config(&self) -> toml::Table {
        self.config_text().parse().unwrap()
    }

    pub(crate) fn set_config(&self, config: &toml::Table) {
        fs::write(self.path("project/backstay.toml"), toml::to_string(config).unwrap()).unwrap();
    }

    /// Trusts `key` with `roles`, too.
    pub(crate) fn trust(&self, key: &Signer, name: &str, roles: &[&str]) {
        let mut config = self.config();
        let mut entry = toml::Table::new();
        entry.insert("key".into(), key.public_text().into());
        entry.insert("name".into(), name.into());
        entry.insert("roles".into(), roles.to_vec().into());
        config["signing"]["trusted"].as_array_mut().unwrap().push(entry.into());
        self.set_config(&config);
    }

    /// Runs the program in the project's folder.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    /// The same with variables set.
    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(args).current_dir(self.path("project")).env_clear();
        command.env("HOME", self.path("home")).env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        command.envs(env.iter().copied());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: output.stdout, err }
    }

    /// The same as a machine that has nothing but the kit.
    pub(crate) fn run_kit(&self, args: &[&str]) -> Ran {
        let kit = self.path("kit.txt");
        self.run(&[&["--kit", kit.to_str().unwrap()], args].concat())
    }

    /// Makes a snapshot and gives its id.
    pub(crate) fn backup(&self) -> String {
        let ran = self.run(&["--json", "backup"]);
        ran.expect(0, &[]);
        let report: serde_json::Value = serde_json::from_slice(&ran.out).unwrap();
        report["snapshot"].as_str().unwrap().to_owned()
    }

    /// Makes a snapshot while files count as settled at once (see `BACKSTAY_TEST_SETTLE_MS`) and gives the report.
    pub(crate) fn backup_settled(&self, args: &[&str]) -> serde_json::Value {
        let ran = self.run_with(&[&["--json", "backup"], args].concat(), &[("BACKSTAY_TEST_SETTLE_MS", "0")]);
        ran.expect(0, &[]);
        serde_json::from_slice(&ran.out).unwrap()
    }

    /// Restores into a new folder, whose tree it gives when there is one, and removes it again.
    pub(crate) fn restore(&self, args: &[&str]) -> (Ran, Option<BTreeMap<PathBuf, Node>>) {
        let to = self.path("restored");
        let ran = self.run(&[&["restore"], args, &["--to", to.to_str().unwrap()]].concat());
        let found = to.exists().then(|| tree(&to));
        if found.is_some() {
            fs::remove_dir_all(&to).unwrap();
        }
        (ran, found)
    }

    /// Restores and fails unless it was refused with 13 and `words`, and nothing was written.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str], words: &[&str]) -> Ran {
        let before = names(self.top.path());
        let (ran, found) = self.restore(args);
        ran.expect(13, words);
        assert!(found.is_none(), "something was written: {}", ran.text());
        assert_eq!(names(self.top.path()), before, "something was left behind");
        ran
    }

    /// The keys of all objects of the store.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let paths = tree(&self.store()).into_iter().filter(|(_, node)| matches!(node, Node::File(..)));
        paths.filter_map(|(path, _)| Key::parse(path.to_str().unwrap())).collect()
    }

    /// Where an object lies.
    pub(crate) fn object(&self, key: &Key) -> PathBuf {
        self.store().join(key.to_string())
    }

    /// The record of a snapshot.
    pub(crate) fn record(&self, id: &str) -> Record {
        let bytes = fs::read(self.object(&Key::Record(id.parse().unwrap()))).unwrap();
        let (line, _) = document::split(&bytes).unwrap();
        document::parse(line, "record").unwrap()
    }

    fn keys_dir(&self) -> PathBuf {
        let file = self.config()["signing"]["key_file"].as_str().unwrap().to_owned();
        Path::new(&file).parent().unwrap().to_owned()
    }

    /// The host's own signing key.
    pub(crate) fn signer(&self) -> Signer {
        Signer::load(&self.keys_dir().join("signing_key")).unwrap()
    }

    pub(crate) fn identities(&self) -> Identities {
        Identities::from_secrets(load_identity_file(&self.keys_dir().join("identity.txt")).unwrap())
    }

    pub(crate) fn recipients(&self) -> RecipientSet {
        let recipients = self.config()["encryption"]["recipients"].clone();
        RecipientSet::parse(&recipients.try_into::<Vec<String>>().unwrap()).unwrap()
    }

    /// Where this machine remembers what it saw.
    pub(crate) fn state(&self) -> PathBuf {
        self.config()["state"]["dir"].as_str().unwrap().into()
    }
}

/// Names in a folder, hidden ones included.
fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Makes `path` readable and writable by its owner: what a restore gave may not be.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

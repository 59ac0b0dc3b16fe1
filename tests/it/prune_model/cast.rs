//! Who takes part: two hosts, two machines that prune, a reader; their keys, configurations and folders, and the store as it stands at the
//! beginning of each trial.

use crate::common::trees::copy;
use crate::common::watched::around;
use crate::lab::tree;
use backstay::config::Config;
use backstay::config::propose::propose;
use backstay::keys::Signer;
use backstay::model::{Clock, HostId, ObjectRef, Record, SnapshotId, SystemClock, Timestamp};
use backstay::ops::backup::{BackupOptions, run as backup};
use backstay::ops::error::OpError;
use backstay::ops::init;
use backstay::ops::interrupt::Interrupt;
use backstay::ops::session::Session;
use backstay::store::testing::{FaultStore, MemoryStore};
use backstay::store::{Key, Prefix, Store};
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Host,
    Other,
    Pruner,
    Second,
    Reader,
}

impl Role {
    pub(super) const ALL: [Self; 5] = [Self::Host, Self::Other, Self::Pruner, Self::Second, Self::Reader];

    fn name(self) -> &'static str {
        match self {
            Self::Host | Self::Reader => "host",
            Self::Other => "other",
            Self::Pruner => "pruner",
            Self::Second => "second",
        }
    }
}

struct Turned(Mutex<Timestamp>);

impl Clock for Turned {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub(super) struct Cast {
    dir: tempfile::TempDir,
    clock: Arc<Turned>,
    begun: Timestamp,
    pub(super) memory: Arc<MemoryStore>,
    faults: BTreeMap<Role, Arc<FaultStore>>,
    configs: BTreeMap<Role, Arc<Config>>,
    hosts: BTreeMap<Role, String>,
    template: Vec<(Key, Vec<u8>, Option<Timestamp>)>,
    pub(super) contents: BTreeMap<SnapshotId, String>,
}

/// An error with its causes.
pub(super) fn said(error: &OpError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(&format!("; {e}"));
        cause = e.source();
    }
    text
}

/// All that lies below a folder, as one text.
pub(super) fn content_below(dir: &Path) -> String {
    let files = tree(dir).into_iter().filter_map(|(path, node)| match node {
        crate::lab::Node::File(_, bytes) => {
            Some(format!("{}={}", path.file_name()?.to_str()?, String::from_utf8_lossy(&bytes)))
        }
        _ => None,
    });
    files.collect::<Vec<_>>().join("\n")
}

/// What the folder of a session's only component holds now.
pub(super) fn told(session: &Session) -> String {
    let config = session.config().unwrap();
    content_below(&config.path.parent().unwrap().join("app"))
}

impl Cast {
    pub(super) fn new() -> Self {
        let memory_dir = Some(Path::new("/dev/shm")).filter(|p| p.is_dir());
        let dir = memory_dir.and_then(|dir| tempfile::tempdir_in(dir).ok());
        let dir = dir.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let begun = Timestamp::now() + SignedDuration::from_hours(1);
        let clock = Arc::new(Turned(Mutex::new(begun)));
        let memory = Arc::new(MemoryStore::new("local"));
        let configs = configurations(dir.path(), &memory);
        let faults =
            Role::ALL.map(|role| (role, Arc::new(FaultStore::new(Arc::clone(&memory) as Arc<dyn Store>))));
        let mut cast = Self {
            dir,
            clock,
            begun,
            memory,
            faults: faults.into(),
            configs,
            hosts: BTreeMap::new(),
            template: Vec::new(),
            contents: BTreeMap::new(),
        };
        cast.fill();
        cast
    }

    /// Four nights of one host and three of the other, and what a run of each left that was killed a week ago.
    fn fill(&mut self) {
        for (role, nights) in [(Role::Host, 4), (Role::Other, 3)] {
            let faults = self.faults(role);
            let session = self.session(role, &faults);
            self.hosts.insert(role, HostId::from(session.signer().unwrap().id()).to_string());
            for night in 0..nights {
                self.turn(24);
                std::fs::write(self.file(role, night % 3), format!("night {night}")).unwrap();
                let report = backup(&self.session(role, &faults), &BackupOptions::default()).unwrap();
                self.stamp();
                self.contents.insert(report.snapshot, told(&session));
            }
            std::fs::write(self.file(role, 0), "of a run that was killed").unwrap();
            faults.fail_nth(
                backstay::store::testing::Verb::PutBytes,
                2,
                backstay::store::StoreErrorKind::Unreachable,
            );
            backup(&self.session(role, &faults), &BackupOptions::default()).unwrap_err();
            faults.reset();
        }
        self.stamp();
        self.turn(8 * 24);
        for role in [Role::Host, Role::Other] {
            let report = backup(
                &self.session(role, &self.faults(role)),
                &BackupOptions { full: true, ..BackupOptions::default() },
            )
            .unwrap();
            self.stamp();
            self.contents.insert(report.snapshot, told(&self.session(role, &self.faults(role))));
        }
        self.begun = self.now();
        let prefixes = [Prefix::Records, Prefix::Marks, Prefix::Archives, Prefix::Manifests];
        let times: BTreeMap<Key, Option<Timestamp>> = prefixes
            .into_iter()
            .flat_map(|p| self.memory.list(p).unwrap())
            .map(|listed| (listed.key, listed.modified))
            .collect();
        let object = |key: Key| {
            let bytes = self.memory.get(&key, 1 << 24).unwrap();
            let time = times.get(&key).copied().flatten();
            (key, bytes, time)
        };
        self.template = self.memory.keys().into_iter().map(object).collect();
        copy(&self.dir.path().join("states"), &self.dir.path().join("saved"));
    }

    fn stamp(&self) {
        for prefix in [Prefix::Records, Prefix::Marks, Prefix::Archives, Prefix::Manifests] {
            for listed in self.memory.list(prefix).unwrap().iter().filter(|l| l.modified.is_none()) {
                self.memory.set_modified(&listed.key, Some(self.now()));
            }
        }
    }

    /// Everything as it was after [`Cast::fill`].
    pub(super) fn reset(&self) {
        for key in self.memory.keys() {
            self.memory.delete(&key).unwrap();
        }
        for (key, bytes, time) in &self.template {
            self.memory.force(key, bytes);
            self.memory.set_modified(key, *time);
        }
        copy(&self.dir.path().join("saved"), &self.dir.path().join("states"));
        *self.clock.0.lock().unwrap() = self.begun;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn long_ago(&self) -> Timestamp {
        self.now() - SignedDuration::from_hours(30 * 24)
    }

    pub(super) fn turn(&self, hours: i64) {
        *self.clock.0.lock().unwrap() += SignedDuration::from_hours(hours);
    }

    pub(super) fn faults(&self, role: Role) -> Arc<FaultStore> {
        Arc::clone(&self.faults[&role])
    }

    /// A new run: all that it knows is in its state folder.
    pub(super) fn session(&self, role: Role, faults: &Arc<FaultStore>) -> Session {
        let mut around = around();
        around.clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let mut session = Session::open(Arc::clone(&self.configs[&role]), around).unwrap();
        session.store = Arc::clone(faults) as Arc<dyn Store>;
        session
    }

    pub(super) fn host_of(&self, role: Role) -> String {
        self.hosts[&role].clone()
    }

    pub(super) fn file(&self, role: Role, number: u64) -> PathBuf {
        self.dir.path().join(role.name()).join(format!("app/file-{number}"))
    }

    pub(super) fn restored(&self, name: &str) -> PathBuf {
        self.dir.path().join("restored").join(name)
    }

    fn record(&self, id: &SnapshotId) -> Record {
        let bytes = self.memory.get(&Key::Record(id.clone()), 1 << 20).unwrap();
        serde_json::from_slice(bytes.split(|b| *b == b'\n').next().unwrap()).unwrap()
    }

    pub(super) fn objects_of(&self, id: &SnapshotId) -> Vec<ObjectRef> {
        self.record(id).objects
    }

    /// The snapshots of the first host that are there now.
    pub(super) fn records_of_host(&self) -> Vec<SnapshotId> {
        let listed = self.memory.list(Prefix::Records).unwrap().into_iter();
        let ids = listed.filter_map(|l| if let Key::Record(id) = l.key { Some(id) } else { None });
        ids.filter(|id| self.record(id).host.to_string() == self.hosts[&Role::Host]).collect()
    }
}

/// One configuration for each, all trusting each other for what they are there for. The store's own file is copied to `memory`.
fn configurations(dir: &Path, memory: &MemoryStore) -> BTreeMap<Role, Arc<Config>> {
    let app = dir.join("made");
    std::fs::create_dir_all(app.join("code")).unwrap();
    std::fs::write(app.join("code/a.txt"), "x").unwrap();
    let options = init::InitOptions {
        dir: app.clone(),
        config_path: app.join("backstay.toml"),
        keys_root: dir.join("keys"),
        state_root: dir.join("made-state"),
        store: "backups".into(),
        more_stores: Vec::new(),
        replace_store: None,
        create_bucket: false,
        interrupt: Interrupt::default(),
        recipients: Vec::new(),
        offline_identity: false,
        kit: None,
        proposal: propose(&app),
    };
    init::run(&options, &SystemClock).unwrap();
    let made = Config::load(&options.config_path).unwrap();
    let store = app.join("backups");
    for key in [Key::Store, Key::RecoverMd] {
        memory.put_bytes(&key, &std::fs::read(store.join(key.to_string())).unwrap()).unwrap();
    }
    std::fs::create_dir_all(dir.join("restored")).unwrap();
    let made_key = made.signing.key_file.clone();
    let mut trusted = String::new();
    let names: Vec<&str> = vec!["host", "other", "pruner", "second"];
    for name in &names {
        let folder = dir.join(name);
        std::fs::create_dir_all(folder.join("app")).unwrap();
        let key =
            if *name == "host" { Signer::load(&made_key).unwrap() } else { Signer::generate().unwrap() };
        key.write(&folder.join("key")).unwrap();
        std::fs::copy(made_key.parent().unwrap().join("naming_key"), folder.join("naming_key")).unwrap();
        let roles = match *name {
            "host" => "\"host\", \"verify\", \"prune\"",
            "other" => "\"host\", \"verify\"",
            _ => "\"verify\", \"prune\"",
        };
        let text = key.public_text();
        trusted.push_str(&format!("{{ key = {text:?}, name = {name:?}, roles = [{roles}] }}, "));
        for number in 0..3 {
            std::fs::write(folder.join(format!("app/file-{number}")), format!("first {name} {number}"))
                .unwrap();
        }
    }
    let config = |role: Role| {
        let folder = dir.join(role.name());
        let state = dir.join("states").join(format!("{role:?}"));
        let recipients = &made.encryption.recipients;
        let identity = made.encryption.identity_file.clone().unwrap();
        let components = match role {
            Role::Pruner | Role::Second => String::new(),
            _ => format!(
                "[[component]]\nname = \"app\"\npath = \"app\"\n[encryption]\nrecipients = {recipients:?}\nidentity_file = {identity:?}\n"
            ),
        };
        let text = format!(
            "[project]\nname = \"model\"\n{components}[[store]]\nname = \"local\"\npath = {store:?}\n[signing]\nkey_file = {key:?}\ntrusted = [{trusted}]\n[retention]\nkeep_last = 2\nmin_keep = 1\n[state]\ndir = {state:?}\n",
            key = folder.join("key"),
        );
        std::fs::create_dir_all(&state).unwrap();
        let path = folder.join(format!("{role:?}.toml"));
        std::fs::write(&path, text).unwrap();
        (role, Arc::new(Config::load(&path).unwrap()))
    };
    Role::ALL.map(config).into()
}

//! A project whose store is in memory behind a wrapper that counts and disturbs.

use backstay::config::Config;
use backstay::config::propose::propose;
use backstay::model::{SilentProgress, SystemClock};
use backstay::ops::init;
use backstay::ops::interrupt::Interrupt;
use backstay::ops::session::{HostChoice, Session, Surroundings};
use backstay::store::testing::{FaultStore, MemoryStore};
use backstay::store::{Key, Store};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn around() -> Surroundings {
    Surroundings {
        clock: Arc::new(SystemClock),
        progress: Arc::new(SilentProgress),
        interrupt: Interrupt::default(),
        exe: env!("CARGO_BIN_EXE_backstay").into(),
        identity_files: Vec::new(),
        store: None,
        as_of: None,
        ask: backstay::keys::passphrase::nobody(),
        hosts: HostChoice::Own,
        wait: None,
    }
}

/// A project in `dir` that protects `dir/app`, which `fill` fills.
pub(crate) fn project(dir: &Path, fill: impl FnOnce(&Path)) -> (Session, Arc<MemoryStore>, Arc<FaultStore>) {
    let app = dir.join("app");
    std::fs::create_dir_all(&app).unwrap();
    fill(&app);
    let options = init::InitOptions {
        dir: app.clone(),
        config_path: app.join("backstay.toml"),
        keys_root: dir.join("keys"),
        state_root: dir.join("state"),
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
    let config = Config::load(&options.config_path).unwrap();
    let mut session = Session::open(Arc::new(config), around()).unwrap();
    let memory = Arc::new(MemoryStore::new("local"));
    for key in [Key::Store, Key::RecoverMd] {
        memory.put_bytes(&key, &session.store.get(&key, 1 << 20).unwrap()).unwrap();
    }
    let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as Arc<dyn Store>));
    session.store = Arc::clone(&faults) as Arc<dyn Store>;
    (session, memory, faults)
}

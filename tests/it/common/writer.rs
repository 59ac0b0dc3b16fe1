//! Vaults that tests/tools/mini_vault.py made: what it says of them, and kits that open them.

use backstay::keys::identity::load_identity_file;
use backstay::keys::kit::{Kit, KitStore, StoreAt};
use backstay::keys::{TrustList, TrustedKey};
use backstay::model::mark::Role;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What `vault.json` says.
pub(crate) struct Facts {
    pub(crate) store: PathBuf,
    pub(crate) identities: Vec<PathBuf>,
    pub(crate) snapshots: serde_json::Map<String, serde_json::Value>,
    /// A folder with what each snapshot must give.
    pub(crate) expected: PathBuf,
    trust: String,
    vault: String,
    host: String,
}

impl Facts {
    /// Reads the facts of the vault in `dir`. All paths are taken to be in there.
    pub(crate) fn read(dir: &Path) -> Self {
        let text = std::fs::read(dir.join("vault.json")).unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let text = |key: &str| facts[key].as_str().unwrap().to_owned();
        let name = |path: &str| dir.join(Path::new(path).file_name().unwrap());
        let identities = facts["identities"].as_array().unwrap();
        Self {
            store: name(&text("store")),
            identities: identities.iter().map(|i| name(i.as_str().unwrap())).collect(),
            snapshots: facts["snapshots"].as_object().unwrap().clone(),
            expected: dir.join("expected"),
            trust: text("trust"),
            vault: text("vault"),
            host: text("host"),
        }
    }
}

/// A kit for a vault, which trusts the first key of its host and holds these identities.
pub(crate) fn kit_for(facts: &Facts, identities: &[PathBuf]) -> Kit {
    let mut trusted = TrustList::default();
    let roles = [Role::Host, Role::Verify, Role::Prune];
    trusted.add(TrustedKey::parse(&facts.trust).unwrap().with_roles(roles));
    let loaded = identities.iter().flat_map(|file| load_identity_file(file).unwrap());
    Kit {
        printed: "2026-11-23T08:00:00Z".parse().unwrap(),
        project: "mini".into(),
        hostname: "mini-1".into(),
        host: facts.host.parse().unwrap(),
        vault: facts.vault.parse().unwrap(),
        stores: vec![KitStore {
            name: "local".into(),
            at: StoreAt::Path(facts.store.to_str().unwrap().to_owned()),
            settings: BTreeMap::new(),
        }],
        identities: loaded.collect(),
        recipients: Vec::new(),
        signing_key: None,
        trusted,
        naming_key: None,
        recover_py: Vec::new(),
        recover_md: Vec::new(),
        heads: BTreeMap::default(),
    }
}

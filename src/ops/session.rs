//! What every operation on a project needs: its configuration, stores, state, keys; opened once, in an order that fails early and clearly.

mod identities;

pub(super) use identities::identity_error;

use crate::catalog::{State, StateError};
use crate::config::{Config, Verify};
use crate::keys::kit::{Kit, KitStore};
use crate::keys::{NamingKey, RecipientSet, SecretIdentity, Signer, TrustList};
use crate::model::chain::Heads;
use crate::model::{HostId, Problem, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::remembering::recognised;
use crate::ops::slots::{first_here, first_or_absent, named_beside, slots};
use crate::ops::stores::{Means, StoreSlot};
pub use crate::ops::surroundings::{HostChoice, Surroundings};
use crate::ops::vault::{Judge, StoreReading, Vault, read_store, store_error};
use crate::platform::users::Names;
use crate::store::Store;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// A project opened for reading: with its configuration, or with a kit alone.
#[derive(Clone)]
pub struct Session {
    /// What comes from outside.
    pub around: Surroundings,
    /// The configuration; none with `--kit`.
    pub config: Option<Arc<Config>>,
    /// The project's name.
    pub project: String,
    /// The store that is read first, and written first: the first that is here.
    pub store: Arc<dyn Store>,
    /// All stores, in the order of the configuration; one alone when it was named.
    pub stores: Vec<StoreSlot>,
    /// This machine's memory of the vault; none with `--kit`.
    pub state: Option<State>,
    /// Keys whose signatures count.
    pub trust: TrustList,
    /// The vault, where it is known from elsewhere than the store.
    pub vault: Option<VaultId>,
    /// This host; none when it has no signing key (a laptop with a kit).
    pub host: Option<HostId>,
    /// Names of owners.
    pub names: Arc<Names>,
    pub(super) heads: Heads,
    kit_identities: Vec<SecretIdentity>,
    kit_naming: Option<NamingKey>,
    /// The store was named by a path: one that was moved, or a copy of one. It is read, never written.
    by_path: bool,
    /// The project's lock was taken: what is remembered guards what is written.
    pub(super) writes: Arc<AtomicBool>,
    troubles: Arc<Mutex<Vec<Problem>>>,
}

/// What a session that writes has beside.
pub struct Writer {
    /// The key this host signs with.
    pub signer: Signer,
    /// What component numbers are made with.
    pub naming: NamingKey,
    /// What everything is sealed to.
    pub recipients: RecipientSet,
}

impl Session {
    /// Opens the project of `config`.
    pub fn open(config: Arc<Config>, around: Surroundings) -> Result<Self> {
        Self::open_with(config, around, first_here)
    }

    /// The same also when no store is here: for what needs none, such as the end of a rollback at boot.
    pub fn open_anyway(config: Arc<Config>, around: Surroundings) -> Result<Self> {
        Self::open_with(config, around, |stores| Ok(first_or_absent(stores)))
    }

    fn open_with(
        config: Arc<Config>,
        around: Surroundings,
        first: impl FnOnce(&[StoreSlot]) -> Result<Arc<dyn Store>>,
    ) -> Result<Self> {
        let key_file = &config.signing.key_file;
        let signer = match key_file.exists() {
            true => Some(load_signer(key_file)?.id()),
            false => None,
        };
        let means = Means {
            writer: signer,
            state_dir: config.state_dir.clone(),
            interrupt: around.interrupt.clone(),
            as_of: around.as_of,
        };
        let (stores, by_path) = slots(&config, around.store.as_deref(), &means)?;
        let store = first(&stores)?;
        let state = State::open(&config.state_dir).doing(Class::Failed, || {
            format!("cannot open the state directory {}", config.state_dir.display())
        })?;
        let trust = crate::ops::kit::trust_of(&config.signing.trusted)?;
        // What was seen since is no measure of what stood before, and what stood before nothing to be remembered.
        let heads = if around.as_of.is_some() { Heads::new() } else { heads_seen(&state)? };
        let vault = match config.project.vault.clone() {
            Some(vault) => Some(vault),
            None => state.vault().doing(Class::Damage, || "cannot read which vault this is".into())?,
        };
        let state = Some(state).filter(|_| around.as_of.is_none());
        Ok(Self {
            around,
            project: config.project.name.clone(),
            config: Some(config),
            store,
            stores,
            state,
            trust,
            vault,
            host: signer.map(Into::into),
            names: Arc::default(),
            heads,
            kit_identities: Vec::new(),
            kit_naming: None,
            by_path,
            writes: Arc::default(),
            troubles: Arc::default(),
        })
    }

    /// Opens a vault with nothing but a kit, for reading.
    pub fn open_kit(kit: Kit, around: Surroundings) -> Result<Self> {
        let means = Means::of_reader(&around.interrupt, around.as_of);
        let slot = |store: &KitStore| StoreSlot::of_kit(store, &means);
        let stores = match around.store.as_deref() {
            Some(name) => vec![match kit.stores.iter().find(|s| s.name == name).map(slot) {
                Some(slot) => slot,
                None => named_beside(name, &kit, &means)?,
            }],
            None => kit.stores.iter().map(slot).collect(),
        };
        Self::open_kit_with(kit, around, stores)
    }

    /// The same with these stores, whatever the kit and the command line name.
    pub(super) fn open_kit_with(kit: Kit, around: Surroundings, stores: Vec<StoreSlot>) -> Result<Self> {
        if stores.is_empty() {
            let what = "the kit names no store";
            return Err(OpError::new(Class::Usage, what).hint("name it with --store PATH"));
        }
        let store = first_here(&stores)?;
        let heads = if around.as_of.is_some() { Heads::new() } else { kit.heads };
        Ok(Self {
            around,
            config: None,
            project: kit.project,
            store,
            stores,
            state: None,
            trust: kit.trusted,
            vault: Some(kit.vault),
            host: Some(kit.host),
            names: Arc::default(),
            heads,
            kit_identities: kit.identities,
            kit_naming: kit.naming_key,
            by_path: false,
            writes: Arc::default(),
            troubles: Arc::default(),
        })
    }

    /// Reads what is asked about: the store, or as many of several stores as it takes to know the history. Remembers the heads it proved.
    pub fn read_vault(&self) -> Result<Vault> {
        if self.stores.len() > 1 {
            return crate::ops::union::look(self);
        }
        let reading = self.read_one(&self.store)?;
        let own_heads = self.config.as_ref().is_some_and(|c| c.stores.len() > 1) && !self.by_path;
        let heads = match &self.state {
            // One of several is measured by what it had; what it lacks beside is the others' to tell.
            Some(_) if own_heads => reading.seen.clone(),
            _ => self.heads.clone(),
        };
        let instance = reading.info.instance.clone();
        let vault = Vault::of(vec![reading], &self.judge(&heads))?;
        if let Some(state) = &self.state {
            self.remembered(vault.remember(state))?;
            if !self.by_path {
                self.remembered(crate::ops::union::remember_in(state, &instance, &vault.seen()))?;
            }
        }
        Ok(vault)
    }

    /// Reads one store; one that is another's, or another than before, is an error and is not used.
    pub(super) fn read_one(&self, store: &Arc<dyn Store>) -> Result<StoreReading> {
        // What was seen is read first: another run may put entries and remember them while the store is read.
        let mut seen = self.state.as_ref().map_or_else(|| Ok(BTreeMap::new()), crate::ops::union::seen)?;
        let mut reading = read_store(store, self.vault.as_ref())?;
        reading.seen = seen.remove(&reading.info.instance).unwrap_or_default();
        for older in &reading.older {
            let what = format!(
                "{} cannot be used: {}; an older version of it, which the bucket keeps, was read",
                older.key, older.why
            );
            let hint = "somebody overwrote it: find out who may; `backstay sync` puts the older version back";
            self.trouble(crate::ops::union::store_problem(store.name(), what, hint));
        }
        if reading.hidden {
            self.trouble(crate::ops::versions::hidden(store.name()));
        }
        if let Some(state) = &self.state {
            self.recognise(state, &reading)?;
        }
        Ok(reading)
    }

    /// What a reading is judged by when `heads` were seen before.
    pub(super) fn judge<'a>(&'a self, heads: &'a Heads) -> Judge<'a> {
        let (trust, vault) = (&self.trust, self.vault.as_ref());
        let now = self.around.as_of.unwrap_or_else(|| self.around.clock.now());
        Judge { trust, vault, heads, now, reverify: self.reverify() }
    }

    /// How long a proof counts.
    pub fn reverify(&self) -> jiff::SignedDuration {
        let time = self.config.as_ref().map_or_else(|| Verify::default().reverify, |c| c.verify.reverify);
        jiff::SignedDuration::try_from(time).unwrap_or(jiff::SignedDuration::MAX)
    }

    /// The store of a slot, when it is here.
    pub fn store_of(
        &self,
        slot: &StoreSlot,
    ) -> std::result::Result<Arc<dyn Store>, crate::ops::stores::Away> {
        if slot.name == self.store.name() { Ok(Arc::clone(&self.store)) } else { slot.open() }
    }

    /// The same session with `store` as the one that is read and written first.
    #[must_use]
    pub fn led_by(&self, store: &Arc<dyn Store>) -> Self {
        Self { store: Arc::clone(store), ..self.clone() }
    }

    /// The same project with every store of the configuration, whatever `--store` named, and with what was seen up to now: for what is signed,
    /// which goes to all of them. Fails when a store was named by a path, which is only read.
    pub fn with_all_stores(&self) -> Result<Self> {
        let config = Arc::clone(self.config()?);
        if self.by_path {
            self.check_writable()?;
        }
        let around = Surroundings { store: None, ..self.around.clone() };
        let mut all = match self.stores.len() == config.stores.len() {
            true => self.clone(),
            false => Self::open(config, around)?,
        };
        all.heads = heads_seen(all.state()?)?;
        all.troubles = Arc::clone(&self.troubles);
        all.writes = Arc::clone(&self.writes);
        Ok(all)
    }

    /// Tells trouble with a store that another one makes good, once.
    pub fn trouble(&self, problem: Problem) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if !troubles.contains(&problem) {
            self.around.progress.problem(&problem);
            troubles.push(problem);
        }
    }

    /// All trouble with stores up to now.
    pub fn troubles(&self) -> Vec<Problem> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares the store with the one that had its name before. A store named by a path has none to be known by: the vault was compared.
    fn recognise(&self, state: &State, reading: &StoreReading) -> Result<()> {
        let Some(config) = self.config.as_ref().filter(|_| !self.by_path) else {
            return Ok(());
        };
        let (info, name) = (&reading.info, reading.store.name());
        let names: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).collect();
        let seen = |done: std::result::Result<(), StateError>| {
            self.remembered(done.map_err(|e| recognised(&format!("{name:?}"), e)))
        };
        // Each by itself: that the one cannot be written must not keep the other from being compared.
        seen(state.keep_stores(&names))?;
        seen(state.trust_store(name, &info.vault, &info.instance).map(drop))
    }

    /// Fails when the store was named by a path: what is written goes to the store of the configuration.
    pub fn check_writable(&self) -> Result<()> {
        if self.around.as_of.is_some() {
            let what = "--as-of is for reading: what stood before is never written";
            return Err(OpError::new(Class::Usage, what).hint("leave --as-of away"));
        }
        let configured = self.config.as_ref().map_or(0, |c| c.stores.len());
        if !self.by_path && self.stores.len() < configured {
            let what = "a backup goes to every store of the configuration, and --store names one";
            return Err(OpError::new(Class::Usage, what).hint("leave --store away; it is for reading"));
        }
        if !self.by_path {
            return Ok(());
        }
        let what = format!("{} is not the store of the configuration", self.store.location());
        Err(OpError::new(Class::Usage, what).hint(
            "a store named by a path is only read; if the store was moved, change its `path` in the configuration",
        ))
    }

    /// The configuration, for what cannot be done without.
    pub fn config(&self) -> Result<&Arc<Config>> {
        self.config.as_ref().ok_or_else(|| {
            OpError::new(Class::Usage, "this needs a configuration, and --kit gives none")
                .hint("run it in the project's folder, without --kit")
        })
    }

    /// This machine's memory, for what cannot be done without.
    pub fn state(&self) -> Result<&State> {
        self.state.as_ref().ok_or_else(|| match self.around.as_of {
            Some(_) => {
                OpError::new(Class::Usage, "this is not for what stood before").hint("leave --as-of away")
            }
            None => OpError::new(Class::Usage, "this cannot be done with a kit alone"),
        })
    }

    /// What the numbers of this host's components are made with, where it is here.
    pub(super) fn naming(&self) -> Option<NamingKey> {
        match &self.config {
            Some(config) => NamingKey::load(&crate::ops::init::naming_path(&config.signing.key_file)).ok(),
            None => self.kit_naming.clone(),
        }
    }

    /// The key that this host signs with; it must be among the trusted ones, whatever its roles.
    pub fn signer(&self) -> Result<Signer> {
        let signer = load_signer(&self.config()?.signing.key_file)?;
        match self.trust.get(&signer.id()) {
            Some(_) => Ok(signer),
            None => Err(not_trusted(&signer)),
        }
    }

    /// The keys that writing needs.
    pub fn writer(&self) -> Result<Writer> {
        let config = self.config()?;
        let key_file = &config.signing.key_file;
        let signer = load_signer(key_file)?;
        let naming = NamingKey::load(&crate::ops::init::naming_path(key_file))
            .doing(Class::Config, || "cannot load this host's naming key".into())
            .map_err(|e| e.hint(KEY_FROM_WHERE))?;
        let recipients = RecipientSet::parse(&config.encryption.recipients)
            .doing(Class::Config, || "a recipient in the configuration cannot be used".into())?;
        let trusted = self.trust.get(&signer.id());
        if !trusted.is_some_and(|key| key.roles.contains(&crate::model::mark::Role::Host)) {
            return Err(not_trusted(&signer));
        }
        Ok(Writer { signer, naming, recipients })
    }

    /// Tells the person something worth reading now.
    pub fn note(&self, text: &str) {
        self.around.progress.note(text);
    }
}

fn heads_seen(state: &State) -> Result<Heads> {
    let seen =
        state.heads().doing(Class::Damage, || "cannot read what was seen of the vault before".into())?;
    Ok(seen.into_iter().map(|(signer, head)| (signer, (head.number, head.hash))).collect())
}

fn not_trusted(signer: &Signer) -> OpError {
    let what = "this host's signing key is not among the trusted keys of the configuration";
    let hint = format!("add this to [signing] trusted: {:?}", signer.public_text());
    OpError::new(Class::Config, what).hint(hint)
}

/// What to do when a key of this host is not here, or not whole.
const KEY_FROM_WHERE: &str = "put it back from a copy of the key folder; or bring this machine back with its recovery kit, which holds it: `backstay recover KIT --to DIR`. Until then snapshots are read with --kit FILE";

fn load_signer(key_file: &Path) -> Result<Signer> {
    Signer::load(key_file).map_err(|e| {
        let hint = e.hint().unwrap_or_else(|| KEY_FROM_WHERE.into());
        OpError::new(Class::Config, "cannot load this host's signing key").because(e).hint(hint)
    })
}

/// Turns a store's error into an operation's.
pub fn in_store<T>(store: &dyn Store, result: std::result::Result<T, crate::store::StoreError>) -> Result<T> {
    result.map_err(|e| store_error(e, store))
}

//! What every operation on a project needs: its configuration, stores, state, keys; opened once, in an order that fails early and clearly.

use crate::catalog::State;
use crate::config::Config;
use crate::keys::KeyError;
use crate::keys::identity::load_identity_file;
use crate::keys::kit::Kit;
use crate::keys::kit::StoreAt;
use crate::keys::{Identities, NamingKey, RecipientSet, SecretIdentity, Signer, TrustList};
use crate::model::chain::Heads;
use crate::model::{Clock, HostId, Progress, SignerId, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::layout::store_path;
use crate::ops::vault::{Judge, Vault, store_error};
use crate::platform::users::Names;
use crate::store::{Key, LocalStore, Store, StoreErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What comes from outside of the configuration.
pub struct Surroundings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Hears how far a run is.
    pub progress: Arc<dyn Progress>,
    /// Says when to end.
    pub interrupt: Interrupt,
    /// This program, for children that capture databases.
    pub exe: PathBuf,
    /// Identity files given with `-i`.
    pub identity_files: Vec<PathBuf>,
    /// A store named with `--store`, if any: the name of one, or a path.
    pub store: Option<String>,
    /// Which hosts' snapshots are meant.
    pub hosts: HostChoice,
    /// How long to wait for another run to end.
    pub wait: Option<std::time::Duration>,
}

/// Which hosts' snapshots are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostChoice {
    /// Those of this host.
    #[default]
    Own,
    /// Those of the host with this name, or this beginning of its id.
    Named(String),
    /// Those of all.
    All,
}

/// A project opened for reading: with its configuration, or with a kit alone.
pub struct Session {
    /// What comes from outside.
    pub around: Surroundings,
    /// The configuration; none with `--kit`.
    pub config: Option<Arc<Config>>,
    /// The project's name.
    pub project: String,
    /// The store that is read and written.
    pub store: Arc<dyn Store>,
    /// This machine's memory of the vault; none with `--kit`.
    pub state: Option<State>,
    /// Keys whose signatures count.
    pub trust: TrustList,
    /// The vault, where it is known from elsewhere than the store.
    pub vault: Option<VaultId>,
    /// This host; none when it has no signing key (a laptop with a kit).
    pub host: Option<HostId>,
    /// Names of owners.
    pub names: Names,
    heads: Heads,
    kit_identities: Vec<SecretIdentity>,
    /// The store was named by a path: one that was moved, or a copy of one. It is read, never written.
    by_path: bool,
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
        let key_file = &config.signing.key_file;
        let signer = match key_file.exists() {
            true => Some(load_signer(key_file)?.id()),
            false => None,
        };
        let (store, by_path) = open_configured_store(&config, around.store.as_deref(), signer.as_ref())?;
        let state = State::open(&config.state_dir).doing(Class::Failed, || {
            format!("cannot open the state directory {}", config.state_dir.display())
        })?;
        let trust = crate::ops::kit::trust_of(&config.signing.trusted)?;
        let seen =
            state.heads().doing(Class::Damage, || "cannot read what was seen of the vault before".into())?;
        let heads = seen.into_iter().map(|(signer, head)| (signer, (head.number, head.hash))).collect();
        let vault = match config.project.vault.clone() {
            Some(vault) => Some(vault),
            None => state.vault().doing(Class::Damage, || "cannot read which vault this is".into())?,
        };
        Ok(Self {
            around,
            project: config.project.name.clone(),
            config: Some(config),
            store,
            state: Some(state),
            trust,
            vault,
            host: signer.map(Into::into),
            names: Names::default(),
            heads,
            kit_identities: Vec::new(),
            by_path,
        })
    }

    /// Opens a vault with nothing but a kit, for reading.
    pub fn open_kit(kit: Kit, around: Surroundings) -> Result<Self> {
        let store = match around.store.as_deref() {
            Some(place) => open_store("store", &tidy(place)?, None)?,
            None => open_kit_store(&kit)?,
        };
        Ok(Self {
            around,
            config: None,
            project: kit.project,
            store,
            state: None,
            trust: kit.trusted,
            vault: Some(kit.vault),
            host: Some(kit.host),
            names: Names::default(),
            heads: kit.heads,
            kit_identities: kit.identities,
            by_path: false,
        })
    }

    /// Reads the store and remembers the heads it proved.
    pub fn read_vault(&self) -> Result<Vault> {
        let judge = Judge {
            trust: &self.trust,
            vault: self.vault.as_ref(),
            heads: &self.heads,
            now: self.around.clock.now(),
        };
        let vault = Vault::read(&*self.store, &judge)?;
        if let Some(state) = &self.state {
            self.recognise(state, &vault)?;
            vault.remember(state)?;
        }
        Ok(vault)
    }

    /// Compares the store with the one that had its name before. A store named by a path has none to be known by: the vault was compared.
    fn recognise(&self, state: &State, vault: &Vault) -> Result<()> {
        let Some(config) = self.config.as_ref().filter(|_| !self.by_path) else {
            return Ok(());
        };
        let names: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).collect();
        let seen = state
            .keep_stores(&names)
            .and_then(|()| state.trust_store(self.store.name(), &vault.info.vault, &vault.info.instance));
        seen.doing(Class::Damage, || {
            format!("store {:?} is not the one seen before: so says its {}", self.store.name(), Key::Store)
        })?;
        Ok(())
    }

    /// Fails when the store was named by a path: what is written goes to the store of the configuration.
    pub fn check_writable(&self) -> Result<()> {
        if !self.by_path {
            return Ok(());
        }
        let what = format!("{} is not the store of the configuration", self.store.location());
        Err(OpError::new(Class::Usage, what).hint(
            "a store named by a path is only read; if the store was moved, change its `path` in the configuration",
        ))
    }

    /// The identities at hand: `-i`, the kit, the configuration's file. Empty when there is none here.
    pub fn identities(&self) -> Result<Identities> {
        let configured = self.config.as_ref().and_then(|c| c.encryption.identity_file.clone());
        let configured = configured.filter(|file| file.exists());
        let mut all: Vec<SecretIdentity> = self.kit_identities.clone();
        for file in self.around.identity_files.iter().chain(&configured) {
            all.extend(load_identity_file(file).map_err(|e| identity_error(file, e))?);
        }
        Ok(Identities::from_secrets(all))
    }

    /// The identities, of which there must be one.
    pub fn identities_needed(&self) -> Result<Identities> {
        let all = self.identities()?;
        if all.is_empty() {
            let what = "no identity is here, and this needs one to open the vault";
            return Err(OpError::new(Class::NoIdentity, what)
                .hint("give the identity file with -i FILE, or the recovery kit with --kit FILE"));
        }
        Ok(all)
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
        self.state.as_ref().ok_or_else(|| OpError::new(Class::Usage, "this cannot be done with a kit alone"))
    }

    /// The keys that writing needs.
    pub fn writer(&self) -> Result<Writer> {
        let config = self.config()?;
        let key_file = &config.signing.key_file;
        let signer = load_signer(key_file)?;
        let naming = NamingKey::load(&crate::ops::init::naming_path(key_file))
            .doing(Class::Config, || "cannot load this host's naming key".into())?;
        let recipients = RecipientSet::parse(&config.encryption.recipients)
            .doing(Class::Config, || "a recipient in the configuration cannot be used".into())?;
        let trusted = self.trust.get(&signer.id());
        if !trusted.is_some_and(|key| key.roles.contains(&crate::model::mark::Role::Host)) {
            let what = "this host's signing key is not among the trusted keys of the configuration";
            let hint = format!("add this to [signing] trusted: {:?}", signer.public_text());
            return Err(OpError::new(Class::Config, what).hint(hint));
        }
        Ok(Writer { signer, naming, recipients })
    }

    /// Tells the person something worth reading now.
    pub fn note(&self, text: &str) {
        self.around.progress.note(text);
    }
}

/// An identity file that cannot be used, and what to do.
fn identity_error(file: &Path, error: KeyError) -> OpError {
    let hint = error.hint().unwrap_or_else(|| {
        "an identity file holds a line AGE-SECRET-KEY-1…; a recovery kit is given with --kit FILE".into()
    });
    OpError::new(Class::NoIdentity, format!("cannot use identity {}", file.display()))
        .because(error)
        .hint(hint)
}

fn load_signer(key_file: &Path) -> Result<Signer> {
    Signer::load(key_file).map_err(|e| {
        let hint = e.hint().unwrap_or_else(|| {
            "backups can be read with --kit FILE; to make new ones without this key, set the project up again with `backstay init` and a new store".into()
        });
        OpError::new(Class::Config, "cannot load this host's signing key").because(e).hint(hint)
    })
}

/// The store that is meant, and whether it was named by a path.
fn open_configured_store(
    config: &Config,
    wanted: Option<&str>,
    writer: Option<&SignerId>,
) -> Result<(Arc<dyn Store>, bool)> {
    crate::ops::layout::only_folders(config)?;
    if config.stores.len() > 1 {
        return Err(OpError::new(Class::Config, format!("{} names several stores", config.path.display()))
            .hint("this version of backstay keeps one store a project; remove the others"));
    }
    let Some(first) = config.stores.first() else {
        return Err(OpError::new(Class::Config, format!("{} names no store", config.path.display()))
            .hint("add a [[store]] with `name` and `path`, then run `backstay init`"));
    };
    let Some(wanted) = wanted else {
        return Ok((open_store(&first.name, store_path(first), writer)?, false));
    };
    if let Some(store) = config.stores.iter().find(|s| s.name == wanted) {
        return Ok((open_store(&store.name, store_path(store), writer)?, false));
    }
    let path = tidy(wanted)?;
    if let Some(store) = config.stores.iter().find(|s| store_path(s) == path) {
        return Ok((open_store(&store.name, store_path(store), writer)?, false));
    }
    let names: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).collect();
    let hint = format!("the configuration names: {}; anything else is taken as a path", names.join(", "));
    Ok((open_store("store", &path, writer).map_err(|e| e.hint(hint))?, true))
}

fn tidy(path: &str) -> Result<PathBuf> {
    crate::platform::place::tidy(Path::new(path))
        .doing(Class::Usage, || format!("{path:?} is not a usable path"))
}

fn open_kit_store(kit: &Kit) -> Result<Arc<dyn Store>> {
    let Some(store) = kit.stores.first() else {
        return Err(OpError::new(Class::Usage, "the kit names no store").hint("name it with --store PATH"));
    };
    let StoreAt::Path(path) = &store.at else {
        return Err(OpError::new(
            Class::Usage,
            format!("store {:?} of the kit is none that this version can open", store.name),
        )
        .hint("name a folder that holds a copy of it with --store PATH"));
    };
    open_store(&store.name, Path::new(path), None).map_err(|e| {
        e.hint("that is where the kit says it is; if it is elsewhere now, name it with --store PATH")
    })
}

fn open_store(name: &str, path: &Path, writer: Option<&SignerId>) -> Result<Arc<dyn Store>> {
    match LocalStore::open(name, path) {
        Ok(store) => Ok(match writer {
            Some(writer) => Arc::new(store.writing_as(writer)),
            None => Arc::new(store),
        }),
        Err(e) => {
            let what = format!("store {name:?} ({}) cannot be opened", path.display());
            let hint = match e.kind {
                StoreErrorKind::Denied => "check who may read and write there",
                _ => "is the disk mounted? where there never was a store, `backstay init` makes one",
            };
            // What the store's own error says beside its cause is said above.
            Err(OpError::new(Class::Store, what).because(e.source).hint(hint))
        }
    }
}

/// Turns a store's error into an operation's.
pub fn in_store<T>(store: &dyn Store, result: std::result::Result<T, crate::store::StoreError>) -> Result<T> {
    result.map_err(|e| store_error(e, store))
}

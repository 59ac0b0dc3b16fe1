//! The stores of a project: opened when they are needed, each here or away. The only place that tells kinds of stores apart.

use crate::config::{Place, StoreConfig};
use crate::keys::kit::{KitStore, StoreAt};
use crate::model::SignerId;
use crate::ops::error::{Class, OpError, Result};
use crate::store::{LocalStore, Store, StoreErrorKind};
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Opens a store of the configuration. `writer` is the key of this host, where it is known: what it prepares lies apart from other writers'.
pub fn open_configured(store: &StoreConfig, writer: Option<&SignerId>) -> Result<Arc<dyn Store>> {
    match &store.place {
        Place::Path(path) => open_folder(&store.name, path, writer),
    }
}

/// Makes the place of a store of the configuration, without `backstay.json`: it is no store yet.
pub fn create_configured(store: &StoreConfig, writer: &SignerId) -> Result<Arc<dyn Store>> {
    match &store.place {
        Place::Path(path) => match LocalStore::create(&store.name, path) {
            Ok(made) => Ok(Arc::new(made.writing_as(writer))),
            Err(e) => {
                let what = format!("cannot make store {:?} in {}", store.name, path.display());
                Err(OpError::new(Class::Store, what).because(e))
            }
        },
    }
}

/// Where a store of the configuration is, for people.
pub fn place_of(store: &StoreConfig) -> String {
    match &store.place {
        Place::Path(path) => path.display().to_string(),
    }
}

/// Opens a store in a folder.
pub fn open_folder(name: &str, path: &Path, writer: Option<&SignerId>) -> Result<Arc<dyn Store>> {
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

fn open_of_kit(store: &KitStore) -> Result<Arc<dyn Store>> {
    let StoreAt::Path(path) = &store.at else {
        let what = format!("store {:?} of the kit is none that this version can open", store.name);
        return Err(
            OpError::new(Class::Usage, what).hint("name a folder that holds a copy of it with --store PATH")
        );
    };
    open_folder(&store.name, Path::new(path), None).map_err(|e| {
        e.hint("that is where the kit says it is; if it is elsewhere now, name it with --store PATH")
    })
}

/// Why a store cannot be used just now. Can be told any number of times.
#[derive(Debug, Clone)]
pub struct Away {
    /// What class of error it was.
    pub class: Class,
    what: String,
    why: Vec<String>,
    hint: Option<String>,
}

impl Away {
    /// The reason as one line.
    pub fn line(&self) -> String {
        std::iter::once(&self.what).chain(&self.why).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error that it was.
    pub fn error(&self) -> OpError {
        let error = OpError::new(self.class, self.what.clone());
        let error = if self.why.is_empty() { error } else { error.because(self.why.join(": ")) };
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

impl From<&OpError> for Away {
    fn from(error: &OpError) -> Self {
        let mut why = Vec::new();
        let mut cause = error.source();
        while let Some(e) = cause {
            why.push(e.to_string());
            cause = e.source();
        }
        Self { class: error.class, what: error.to_string(), why, hint: error.hint.clone() }
    }
}

#[derive(Debug, Clone)]
enum At {
    Configured(StoreConfig),
    Kit(KitStore),
    Folder(PathBuf),
}

type Opened = std::result::Result<Arc<dyn Store>, Away>;

/// A store of a session: opened at most once, when it is first needed.
#[derive(Clone)]
pub struct StoreSlot {
    /// Its name.
    pub name: String,
    /// Where it is, for people.
    pub place: String,
    at: At,
    writer: Option<SignerId>,
    opened: Arc<OnceLock<Opened>>,
}

impl StoreSlot {
    /// A store of the configuration.
    pub fn configured(store: &StoreConfig, writer: Option<&SignerId>) -> Self {
        Self::new(&store.name, place_of(store), At::Configured(store.clone()), writer.copied())
    }

    /// A store of a kit.
    pub fn of_kit(store: &KitStore) -> Self {
        let (StoreAt::Path(place) | StoreAt::Url(place)) = &store.at;
        Self::new(&store.name, place.clone(), At::Kit(store.clone()), None)
    }

    /// A store in a folder that nothing but the command line names.
    pub fn folder(path: &Path, writer: Option<&SignerId>) -> Self {
        Self::new("store", path.display().to_string(), At::Folder(path.to_owned()), writer.copied())
    }

    fn new(name: &str, place: String, at: At, writer: Option<SignerId>) -> Self {
        Self { name: name.to_owned(), place, at, writer, opened: Arc::default() }
    }

    /// The store, or why it is away.
    pub fn open(&self) -> Opened {
        let open = || match &self.at {
            At::Configured(store) => open_configured(store, self.writer.as_ref()),
            At::Kit(store) => open_of_kit(store),
            At::Folder(path) => open_folder(&self.name, path, self.writer.as_ref()),
        };
        self.opened.get_or_init(|| open().map_err(|e| Away::from(&e))).clone()
    }
}

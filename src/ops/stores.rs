//! The stores of a project: opened when they are needed, each here or away. The only place that tells kinds of stores apart.

use crate::config::{Place, StoreConfig, UrlPlace};
use crate::keys::kit::{KitStore, StoreAt};
use crate::model::SignerId;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::remote::{bucket_if_there, create_in_bucket, open_bucket};
use crate::store::s3::credentials::CredentialsError;
use crate::store::{LocalStore, Store, StoreErrorKind};
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What opening a store takes beside its place.
#[derive(Debug, Clone)]
pub struct Means {
    /// The key of this host, where it is known: what it prepares lies apart from other writers'.
    pub writer: Option<SignerId>,
    /// Where it is remembered what a server can do, and which uploads are under way.
    pub state_dir: PathBuf,
    /// Ends waits for a network.
    pub interrupt: Interrupt,
    /// Stores are read as they stood at that time (`--as-of`).
    pub as_of: Option<jiff::Timestamp>,
}

impl Means {
    /// For one who only reads, and has no state here: below a file there is no folder, so nothing is ever found or made there. A name in the
    /// system's temporary folder would be one that every other user could fill before.
    pub fn of_reader(interrupt: &Interrupt, as_of: Option<jiff::Timestamp>) -> Self {
        let state_dir = PathBuf::from("/dev/null/no-state");
        Self { writer: None, state_dir, interrupt: interrupt.clone(), as_of }
    }
}

/// Opens a store of the configuration.
pub fn open_configured(store: &StoreConfig, means: &Means) -> Result<Arc<dyn Store>> {
    match &store.place {
        Place::Path(path) => open_folder_of(&store.name, path, means, MOUNTED),
        Place::Url(place) => open_bucket(&store.name, place, means),
    }
}

/// The store, when there is one. A folder that cannot be opened is none yet; of a bucket it must be certain that nothing is in it: a server
/// that did not answer may hold a store.
pub fn open_if_there(store: &StoreConfig, means: &Means) -> Result<Option<Arc<dyn Store>>> {
    match &store.place {
        Place::Path(_) => Ok(open_configured(store, means).ok()),
        Place::Url(place) => bucket_if_there(&store.name, place, &means.state_dir, &means.interrupt),
    }
}

/// Makes the place of a store of the configuration, without `backstay.json`: it is no store yet. A bucket is made only when `make_bucket`
/// says so.
pub fn create_configured(store: &StoreConfig, means: &Means, make_bucket: bool) -> Result<Arc<dyn Store>> {
    let path = match &store.place {
        Place::Path(path) => path,
        Place::Url(place) => {
            let (state_dir, interrupt) = (&means.state_dir, &means.interrupt);
            return create_in_bucket(&store.name, place, state_dir, interrupt, make_bucket);
        }
    };
    let made = LocalStore::create(&store.name, path).map_err(|e| {
        let what = format!("cannot make store {:?} in {}", store.name, path.display());
        OpError::new(Class::Store, what).because(e)
    })?;
    Ok(match &means.writer {
        Some(writer) => Arc::new(made.writing_as(writer)),
        None => Arc::new(made),
    })
}

/// Where a store of the configuration is, for people.
pub fn place_of(store: &StoreConfig) -> String {
    match &store.place {
        Place::Path(path) => path.display().to_string(),
        Place::Url(place) => place.shown.clone(),
    }
}

const MOUNTED: &str = "is the disk mounted? where there never was a store, `backstay init` makes one";

/// Opens a store in a folder; it has no past to be read. `hint` is for a store that is not there, or is none.
fn open_folder_of(name: &str, path: &Path, means: &Means, hint: &str) -> Result<Arc<dyn Store>> {
    if means.as_of.is_some() {
        let what =
            format!("store {name:?} ({}) is a folder, and a folder keeps no older versions", path.display());
        return Err(OpError::new(Class::Usage, what)
            .hint("--as-of reads a bucket with versioning; name it with --store, or leave --as-of away"));
    }
    open_folder_else(name, path, means.writer.as_ref(), hint)
}

/// Opens a store in a folder.
pub fn open_folder(name: &str, path: &Path, writer: Option<&SignerId>) -> Result<Arc<dyn Store>> {
    open_folder_else(name, path, writer, MOUNTED)
}

fn open_folder_else(
    name: &str,
    path: &Path,
    writer: Option<&SignerId>,
    hint: &str,
) -> Result<Arc<dyn Store>> {
    match LocalStore::open(name, path) {
        Ok(store) => Ok(match writer {
            Some(writer) => Arc::new(store.writing_as(writer)),
            None => Arc::new(store),
        }),
        Err(e) => {
            let what = format!("store {name:?} ({}) cannot be opened", path.display());
            let hint = match e.kind {
                StoreErrorKind::Denied => "check who may read and write there",
                _ => hint,
            };
            // What the store's own error says beside its cause is said above.
            Err(OpError::new(Class::Store, what).because(e.source).hint(hint))
        }
    }
}

fn open_of_kit(store: &KitStore, means: &Means) -> Result<Arc<dyn Store>> {
    const ELSEWHERE: &str =
        "that is where the kit says it is; if it is elsewhere now, name it with --store PATH|URL";
    let opened: Result<Arc<dyn Store>> = match &store.at {
        // Whoever reads by a kit may be on another machine, and must not make a store there.
        StoreAt::Path(path) => open_folder_of(&store.name, Path::new(path), means, ELSEWHERE),
        StoreAt::Url(url) => {
            let place = UrlPlace::from_kit(url, &store.settings).map_err(|e| {
                let what = format!("store {:?} of the kit cannot be used", store.name);
                OpError::new(Class::Usage, what).because(e)
            })?;
            open_bucket(&store.name, &place, means)
        }
    };
    opened.map_err(|e| if e.hint.is_some() { e } else { e.hint(ELSEWHERE) })
}

/// Why a store cannot be used just now. Can be told any number of times.
#[derive(Debug, Clone)]
pub struct Away {
    /// What class of error it was.
    pub class: Class,
    /// It is away because nothing to sign requests with was found.
    pub wants_keys: bool,
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
        let wants_keys = CredentialsError::within(error).is_some();
        let mut why = Vec::new();
        let mut cause = error.source();
        while let Some(e) = cause {
            why.push(e.to_string());
            cause = e.source();
        }
        Self { class: error.class, wants_keys, what: error.to_string(), why, hint: error.hint.clone() }
    }
}

#[derive(Debug, Clone)]
enum At {
    Configured(StoreConfig),
    Kit(KitStore),
    Folder(PathBuf),
    Bucket(UrlPlace),
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
    means: Means,
    opened: Arc<OnceLock<Opened>>,
}

impl StoreSlot {
    /// A store of the configuration.
    pub fn configured(store: &StoreConfig, means: &Means) -> Self {
        Self::new(&store.name, place_of(store), At::Configured(store.clone()), means)
    }

    /// A store of a kit.
    pub fn of_kit(store: &KitStore, means: &Means) -> Self {
        let (StoreAt::Path(place) | StoreAt::Url(place)) = &store.at;
        Self::new(&store.name, place.clone(), At::Kit(store.clone()), means)
    }

    /// A store in a folder that nothing but the command line names.
    pub fn folder(path: &Path, means: &Means) -> Self {
        Self::new("store", path.display().to_string(), At::Folder(path.to_owned()), means)
    }

    /// A store in a bucket that nothing but the command line names.
    pub fn bucket(place: UrlPlace, means: &Means) -> Self {
        Self::new("store", place.shown.clone(), At::Bucket(place), means)
    }

    /// The same store under another name.
    #[must_use]
    pub fn called(&self, name: &str) -> Self {
        Self::new(name, self.place.clone(), self.at.clone(), &self.means)
    }

    /// The folder that it is in; none of a bucket.
    pub fn in_folder(&self) -> Option<&Path> {
        match &self.at {
            At::Configured(StoreConfig { place: Place::Path(path), .. }) | At::Folder(path) => {
                Some(path.as_path())
            }
            At::Kit(KitStore { at: StoreAt::Path(path), .. }) => Some(Path::new(path)),
            _ => None,
        }
    }

    fn new(name: &str, place: String, at: At, means: &Means) -> Self {
        Self { name: name.to_owned(), place, at, means: means.clone(), opened: Arc::default() }
    }

    /// The store, or why it is away.
    pub fn open(&self) -> Opened {
        let open = || -> Result<Arc<dyn Store>> {
            match &self.at {
                At::Configured(store) => open_configured(store, &self.means),
                At::Kit(store) => open_of_kit(store, &self.means),
                At::Folder(path) => open_folder_of(&self.name, path, &self.means, MOUNTED),
                At::Bucket(place) => open_bucket(&self.name, place, &self.means),
            }
        };
        self.opened.get_or_init(|| open().map_err(|e| Away::from(&e))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_would_remember_is_found_and_made_nowhere() {
        let means = Means::of_reader(&Interrupt::default(), None);
        assert!(means.state_dir.symlink_metadata().is_err());
        assert!(crate::durable::create_dirs(&means.state_dir, 0o700).is_err());
    }
}

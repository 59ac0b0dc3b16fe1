//! The error of an operation: what failed, on what, why, and what to do now.

use std::error::Error;
use std::fmt;

/// What class of failure it is; the command line gives each an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// It did not work.
    Failed,
    /// It was asked for in a way that makes no sense.
    Usage,
    /// The store is missing, unreachable, full or refuses access.
    Store,
    /// Another run holds the lock.
    Busy,
    /// No identity here opens it.
    NoIdentity,
    /// Damage, an untrusted snapshot, or missing history.
    Damage,
    /// The configuration (or a key file it names) is wrong.
    Config,
    /// There is no such snapshot, component or path.
    NotFound,
    /// A hook or a service failed.
    Service,
    /// A rollback failed, and everything is as it was before.
    RolledBack,
    /// A person has to decide or to mend something first.
    Person,
    /// A signal ended it; nothing was left half done.
    Interrupted,
}

/// How far it is known that an index or a listing is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    /// Wherever it could be.
    Everywhere,
    /// Somewhere; a store that may have it whole could not be asked.
    InDoubt,
}

/// An error with its class and, where there is one, a hint.
#[derive(Debug)]
pub struct OpError {
    /// What class.
    pub class: Class,
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    too_new: bool,
    declined: bool,
    listing: Option<Unreadable>,
    lost: bool,
    /// What to do now.
    pub hint: Option<String>,
}

impl OpError {
    /// An error that says `what` failed, on what.
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        let what = what.into();
        Self {
            class,
            what,
            source: None,
            too_new: false,
            declined: false,
            listing: None,
            lost: false,
            hint: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says that a later program made what this is about, which is then not damaged.
    #[must_use]
    pub(crate) fn too_new(mut self) -> Self {
        self.too_new = true;
        self
    }

    /// True when a later program made what this is about.
    pub fn is_too_new(&self) -> bool {
        self.too_new
    }

    /// Says that what is damaged is an index or a listing of one snapshot: that tells nothing of the store it lies in, nor of other snapshots.
    #[must_use]
    pub(crate) fn of_a_listing(mut self) -> Self {
        self.listing = Some(Unreadable::Everywhere);
        self
    }

    /// True when an index or a listing is damaged in every store that may have it.
    pub(crate) fn is_damaged_listing(&self) -> bool {
        self.listing == Some(Unreadable::Everywhere)
    }

    /// Says that it is not there any more, or does not have its bytes: what happens to a disk, and nobody's lie.
    #[must_use]
    pub(crate) fn lost(mut self) -> Self {
        self.lost = true;
        self
    }

    /// True when an index or a listing is lost in every store that may have it. One that is there, with the bytes of its name, and contradicts itself or what
    /// leads to it is none: what else it leads to is not to be believed either.
    pub(crate) fn is_lost_listing(&self) -> bool {
        self.lost && self.is_damaged_listing()
    }

    /// Says that a store which may have the index or the listing whole could not be asked.
    #[must_use]
    pub(crate) fn in_doubt(mut self) -> Self {
        self.listing = Some(Unreadable::InDoubt);
        self
    }

    /// True when an index or a listing is damaged, and a store that may have it whole could not be asked.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.listing == Some(Unreadable::InDoubt)
    }

    /// A person was asked and said no.
    pub fn declined(what: impl Into<String>) -> Self {
        Self { declined: true, ..Self::new(Class::Failed, what) }
    }

    /// True when a person said no: nothing is wrong.
    pub fn is_declined(&self) -> bool {
        self.declined
    }

    /// Adds what to do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for OpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// What every operation gives.
pub type Result<T> = std::result::Result<T, OpError>;

/// Turns another error into an [`OpError`] that says what was being done.
pub trait Doing<T> {
    /// `what` was being done when it failed.
    fn doing(self, class: Class, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, class: Class, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| OpError::new(class, what()).because(e))
    }
}

//! Data objects from one store into another: read from whoever has them, compared with their name, put, and proved where they are now.
//!
//! Nothing may count as brought that was not read back there, or proved by the store itself while it was put.

use crate::durable::{NewFile, crash, create_dirs};
use crate::model::mark::Level;
use crate::model::{ObjectId, ObjectRef};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::{Session, in_store};
use crate::store::{Key, Put, Store, StoreErrorKind};
use ring::digest::{Context, SHA256};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Objects are read in steps of this many bytes: bounds memory.
const STEP: u64 = 8 << 20;

/// What was done for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Had {
    /// It was sent and is proved at this level.
    Sent(Level),
    /// It was there, and was read and found whole just now.
    Whole,
    /// Something else lay under its name: read twice, found wrong, replaced, read back.
    Mended,
}

/// Why an object is not there.
pub(super) enum NotHad {
    /// No store that is here can give it.
    Nowhere(Nowhere),
    /// The store that was to get it failed.
    Target(OpError),
}

/// That no store which is here gives an object.
pub(super) struct Nowhere {
    /// What each of them said.
    pub(super) why: String,
    /// Each of them answered: it does not have the object, or has other bytes under its name.
    pub(super) certain: bool,
}

impl From<OpError> for NotHad {
    fn from(error: OpError) -> Self {
        Self::Target(error)
    }
}

/// Brings objects into one store.
pub(super) struct Carrier<'a> {
    pub(super) session: &'a Session,
    /// Where objects come from, in this order; the target itself may be among them and is passed over.
    pub(super) sources: Vec<Arc<dyn Store>>,
    /// Where they are to be.
    pub(super) to: Arc<dyn Store>,
}

impl Carrier<'_> {
    /// Makes sure that the object lies in the target with the bytes that its name says, and proves it there.
    pub(super) fn bring(&self, object: &ObjectRef) -> std::result::Result<Had, NotHad> {
        let key = Key::data(object.kind, object.id);
        let to = &*self.to;
        match in_store(to, to.head(&key))? {
            Some(size) if size == object.size => match self.read_back(object)? {
                true => Ok(Had::Whole),
                false => self.mend(object),
            },
            Some(_) => self.mend(object),
            None => self.send(object),
        }
    }

    fn send(&self, object: &ObjectRef) -> std::result::Result<Had, NotHad> {
        let key = Key::data(object.kind, object.id);
        let (to, path) = (&*self.to, self.fetch(object)?);
        let put = in_store(to, to.put_file(&key, &path, object.size, &object.id));
        if put.is_err() {
            // What is in the way of the next try must not stay.
            let _gone = std::fs::remove_file(&path);
        }
        crash::point("carry: object put");
        match put? {
            Put::Proved => Ok(Had::Sent(Level::Put)),
            Put::Created | Put::AlreadyThere => match self.read_back(object)? {
                true => Ok(Had::Sent(Level::Read)),
                false => Err(NotHad::Target(not_kept(to, &key))),
            },
        }
    }

    /// Replaces an object that is damaged. The good bytes are here and proved before, and the bad ones were read twice.
    fn mend(&self, object: &ObjectRef) -> std::result::Result<Had, NotHad> {
        let key = Key::data(object.kind, object.id);
        let (to, path) = (&*self.to, self.fetch(object)?);
        if self.read_back(object)? {
            // The first look was wrong: a flaky cable must not cost a good object.
            let _gone = std::fs::remove_file(&path);
            return Ok(Had::Whole);
        }
        crash::point("carry: about to mend");
        in_store(to, to.replace(&key, &path, object.size, &object.id))?;
        crash::point("carry: object mended");
        match self.read_back(object)? {
            true => Ok(Had::Mended),
            false => Err(NotHad::Target(not_kept(to, &key))),
        }
    }

    /// Whether the target gives the bytes that the name says, from its medium.
    pub(super) fn read_back(&self, object: &ObjectRef) -> Result<bool> {
        let key = Key::data(object.kind, object.id);
        let mut seen = |_| {};
        match self.to.read_back(&key, &mut seen) {
            Ok(found) => Ok(found == (object.size, object.id)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(false),
            Err(e) => in_store(&*self.to, Err(e)),
        }
    }

    /// The object as a file in the target's spool, its hash compared.
    fn fetch(&self, object: &ObjectRef) -> std::result::Result<PathBuf, NotHad> {
        let spool = spool_of(self.session, &*self.to)?;
        let path = spool.join(format!("{}.copy", object.id));
        let _leftover = std::fs::remove_file(&path);
        let key = Key::data(object.kind, object.id);
        let (mut reasons, mut certain) = (Vec::new(), true);
        for source in self.sources.iter().filter(|s| s.name() != self.to.name()) {
            self.session.around.interrupt.check()?;
            match self.copy(&**source, &key, object, &spool, &path)? {
                Ok(()) => return Ok(path),
                Err(no) => {
                    certain &= no.certain;
                    reasons.push(format!("{}: {}", source.name(), no.why));
                }
            }
        }
        let why = if reasons.is_empty() { "no other store is here".to_owned() } else { reasons.join("; ") };
        Err(NotHad::Nowhere(Nowhere { why: format!("{key}: {why}"), certain }))
    }

    /// Copies from one source; the inner error is the source's.
    fn copy(
        &self,
        source: &dyn Store,
        key: &Key,
        object: &ObjectRef,
        spool: &Path,
        path: &Path,
    ) -> Result<std::result::Result<(), Nowhere>> {
        let cannot = || format!("cannot prepare {key} in {}", spool.display());
        let mut file = NewFile::create_in(spool).doing(Class::Store, cannot)?;
        let mut context = Context::new(&SHA256);
        let mut at = 0;
        while at < object.size {
            self.session.around.interrupt.check()?;
            let length = STEP.min(object.size - at);
            let bytes = match source.get_range(key, at, length) {
                Ok(bytes) => bytes,
                Err(e) => {
                    let certain = matches!(e.kind, StoreErrorKind::NotFound | StoreErrorKind::Corrupt);
                    return Ok(Err(Nowhere { why: format!("{e}: {}", e.source), certain }));
                }
            };
            context.update(&bytes);
            file.write_all(&bytes).doing(Class::Store, cannot)?;
            self.session.around.progress.advance(length);
            at += length;
        }
        if ObjectId::of_all(context) != object.id {
            let why = "it does not have the bytes its name says".into();
            return Ok(Err(Nowhere { why, certain: true }));
        }
        file.finish_new(path, 0o600).doing(Class::Store, cannot)?;
        Ok(Ok(()))
    }
}

fn not_kept(store: &dyn Store, key: &Key) -> OpError {
    OpError::new(Class::Damage, format!("store {:?} did not keep {key} as it was written", store.name()))
        .hint("check that disk, and its cable and memory")
}

/// Where objects for `store` are prepared: on its own file system, where it has one.
pub(super) fn spool_of(session: &Session, store: &dyn Store) -> Result<PathBuf> {
    let spool = match store.spool_dir() {
        Some(dir) => dir,
        None => session.state()?.spool_dir(),
    };
    create_dirs(&spool, 0o700)
        .doing(Class::Store, || format!("cannot prepare the spool directory {}", spool.display()))?;
    Ok(spool)
}

/// Removes what killed runs of this host left where objects for `store` are prepared. The lock is held.
pub(super) fn sweep_spool(session: &Session, store: &dyn Store) -> Result<()> {
    let spool = spool_of(session, store)?;
    let swept = crate::durable::Dir::open(&spool)
        .and_then(|dir| crate::durable::sweep(&dir, crate::model::Timestamp::MAX, &|_| true));
    swept.map(drop).doing(Class::Store, || format!("cannot clear the spool directory {}", spool.display()))
}

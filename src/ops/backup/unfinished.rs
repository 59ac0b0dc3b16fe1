//! What a run that was cut off had sealed for a store elsewhere: when the next run packs the very same bytes again, what was sealed and sent
//! before is used, and nothing is sent twice.
//!
//! The next run is a capture of its own and packs everything; only after it sealed an archive is that compared, by the hash of what is inside,
//! with what is remembered here. This module must never let what it remembers stand for an object in the store: that is looked at, read
//! back with everything else, and looked at again when the snapshot is committed.

use crate::archive::SealedArchive;
use crate::durable::{self, crash};
use crate::keys::RecipientSet;
use crate::model::ObjectId;
use crate::model::id::RecipientId;
use crate::model::manifest::ArchiveInfo;
use crate::ops::error::Result;
use crate::ops::session::{Session, in_store};
use crate::store::{Key, Store, StoreErrorKind};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// As long as uploads in parts are gone on with.
const STALE: Duration = Duration::from_secs(6 * 24 * 3600);
/// Sealed archives that lie here take no more room than this; what is older goes first.
const ROOM: u64 = 4 << 30;

/// An archive that was sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// BLAKE3 of what was sealed, in hexadecimal.
    inside: String,
    /// Whom it was sealed for.
    recipients: Vec<RecipientId>,
    info: ArchiveInfo,
}

/// What becomes of a sealed archive; with what readers must know of the one that will be there.
pub(super) enum Taken {
    /// It is to be put. One that is `kept` stays where it lies when that fails.
    Put { info: ArchiveInfo, path: PathBuf, kept: bool },
    /// One that was sealed before is in the store. That is not a proof.
    There { info: ArchiveInfo },
}

/// What is remembered, for one run.
pub(super) struct Unfinished {
    dir: PathBuf,
    recipients: Vec<RecipientId>,
    known: Mutex<HashMap<String, Kept>>,
}

impl Unfinished {
    /// What runs that were cut off left; `None` for a store on this machine, to which nothing is sent. Trouble with reading it is no trouble
    /// of the run: everything is then sent anew.
    pub(super) fn of(session: &Session, recipients: &RecipientSet) -> Option<Self> {
        if session.store.spool_dir().is_some() {
            return None;
        }
        let dir = session.state().ok()?.dir().join("unfinished");
        durable::create_dirs(&dir, 0o700).ok()?;
        let unfinished = Self { dir, recipients: recipients.ids(), known: Mutex::default() };
        unfinished.load();
        Some(unfinished)
    }

    fn archive(&self, id: &ObjectId) -> PathBuf {
        self.dir.join(format!("{id}.archive"))
    }

    fn line(&self, id: &ObjectId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// Reads what is there, newest first; what is old, cannot be read, takes too much room or belongs to nothing is removed.
    fn load(&self) {
        let Ok(listing) = std::fs::read_dir(&self.dir) else { return };
        let mut files: Vec<(Duration, PathBuf)> = listing
            .flatten()
            .filter_map(|entry| {
                let age = entry.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
                Some((age, entry.path()))
            })
            .collect();
        files.sort();
        let mut room = ROOM;
        let mut known = self.known();
        for (age, path) in files.iter().filter(|(_, path)| path.extension().is_some_and(|e| e == "json")) {
            let kept = std::fs::read(path).ok().and_then(|b| serde_json::from_slice::<Kept>(&b).ok());
            let kept = kept.filter(|k| *age < STALE && self.line(&k.info.sha256) == *path);
            let Some(kept) = kept else { continue };
            let lies_here = self.archive(&kept.info.sha256).is_file();
            match room.checked_sub(if lies_here { kept.info.size } else { 0 }) {
                Some(left) => room = left,
                None => continue,
            }
            known.entry(kept.inside.clone()).or_insert(kept);
        }
        let wanted: Vec<PathBuf> =
            known.values().flat_map(|k| [self.archive(&k.info.sha256), self.line(&k.info.sha256)]).collect();
        for (_, path) in files.iter().filter(|(_, path)| !wanted.contains(path)) {
            let _next_time = std::fs::remove_file(path);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    /// Forgets what a prune has announced: a snapshot that refers to it would not be committed.
    pub(super) fn pass_over(&self, doomed: &HashSet<ObjectId>) {
        let known: Vec<Kept> = self.known().values().cloned().collect();
        known.iter().filter(|kept| doomed.contains(&kept.info.sha256)).for_each(|kept| self.forget(kept));
    }

    fn forget(&self, kept: &Kept) {
        self.known().remove(&kept.inside);
        let id = &kept.info.sha256;
        let _next_time = std::fs::remove_file(self.line(id));
        let _next_time = std::fs::remove_file(self.archive(id));
    }

    /// What is to be done with a sealed archive. One that a run before sealed from the same bytes is put at once in its place.
    pub(super) fn take(&self, store: &dyn Store, sealed: SealedArchive) -> Result<Taken> {
        let SealedArchive { path, id: _, size: _, info, inside } = sealed;
        let Some(inside) = inside.map(|hash| hash.to_hex().to_string()) else {
            return Ok(Taken::Put { info, path, kept: false });
        };
        let before = self.known().get(&inside).filter(|k| k.recipients == self.recipients).cloned();
        if let Some(kept) = before {
            // What is remembered of it goes into the listing, and nothing proves that: it must be what was learned just now.
            if describes(&kept.info, &info) && self.put_kept(store, &kept)? {
                let _swept = std::fs::remove_file(&path);
                return Ok(Taken::There { info: kept.info });
            }
            self.forget(&kept);
            crash::point("pack: what was laid aside before is forgotten");
        }
        let kept = Kept { inside, recipients: self.recipients.clone(), info };
        let (path, aside) = self.keep(&kept, path);
        crash::point("pack: archive kept in case the run is cut off");
        Ok(Taken::Put { info: kept.info, path, kept: aside })
    }

    /// Puts what was sealed before, or finds it put; false when it is neither here nor there any more.
    fn put_kept(&self, store: &dyn Store, kept: &Kept) -> Result<bool> {
        let (id, size) = (kept.info.sha256, kept.info.size);
        let (key, path) = (Key::Archive(id), self.archive(&id));
        if in_store(store, store.head(&key))? == Some(size) {
            let _next_time = std::fs::remove_file(&path);
            return Ok(true);
        }
        // Not every put reads the file before it is sent.
        if !is_whole(&path, &id) {
            return Ok(false);
        }
        match store.put_file(&key, &path, size, &id) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind, StoreErrorKind::Corrupt | StoreErrorKind::Exists) => Ok(false),
            Err(e) => in_store(store, Err(e)),
        }
    }

    /// Lays an archive aside until the run has ended; gives where it lies now, and whether that is so. Where it cannot be done it is put from where it lies.
    fn keep(&self, kept: &Kept, path: PathBuf) -> (PathBuf, bool) {
        let aside = self.archive(&kept.info.sha256);
        if std::fs::rename(&path, &aside).is_err() {
            return (path, false);
        }
        crash::point("pack: archive laid aside");
        // Not synced: what a power cut takes of it is packed and sent again, and a line that is cut off is none.
        let line = serde_json::to_vec(kept).unwrap_or_default();
        if durable::write_passing(&self.line(&kept.info.sha256), &line).is_err() {
            return (aside, false);
        }
        (aside, true)
    }

    /// Forgets everything: it is in a snapshot now, or was found damaged.
    pub(super) fn clear(&self) {
        clear(&self.dir);
        self.known().clear();
    }
}

/// Whether two archives hold the same at the same places. Their headers may be of different lengths.
fn describes(kept: &ArchiveInfo, made: &ArchiveInfo) -> bool {
    let inside = |info: &ArchiveInfo| info.size.checked_sub(info.payload);
    (kept.tar, &kept.frames, inside(kept)) == (made.tar, &made.frames, inside(made))
}

/// Whether the file has the bytes of its name: it may have been damaged while it lay here.
fn is_whole(path: &Path, id: &ObjectId) -> bool {
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return ObjectId::of_all(context) == *id,
            Ok(count) => context.update(&piece[..count]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let _next_time = std::fs::remove_file(entry.path());
    }
}

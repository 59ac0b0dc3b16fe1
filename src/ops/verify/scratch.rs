//! A private place on disk for what is proved and not kept: made when needed, gone afterwards, also after a kill.
//!
//! Each run has a folder of its own and keeps it locked; a folder that nobody has locked is what a killed run left and is removed by the next.

use crate::durable::{create_dirs, free_space};
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::platform::remove::remove_tree;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "backstay-scratch-";
/// So much is left free beside what is written: other programs live on that disk.
const SPARE: u64 = 64 << 20;

/// Bytes that may be written in `dir`, so that others find some room after it; `None` when the system does not say.
pub(crate) fn room_in(dir: &Path) -> Option<u64> {
    #[cfg(debug_assertions)]
    if let Some(room) = std::env::var("BACKSTAY_TEST_ROOM").ok().and_then(|text| text.parse().ok()) {
        return Some(room);
    }
    free_space(dir).ok().map(|free| free.saturating_sub(SPARE))
}

/// A folder of this run alone, removed with everything in it when this is dropped.
pub(crate) struct Scratch {
    above: PathBuf,
    path: PathBuf,
    /// Keeps the folder locked.
    lock: File,
    next: AtomicU64,
}

impl Scratch {
    /// Makes a folder in `above`, which is made when it is missing, and removes what killed runs left there.
    pub(crate) fn create(above: &Path, now: Timestamp) -> Result<Self> {
        let cannot = || format!("cannot prepare a scratch folder in {}", above.display());
        create_dirs(above, 0o700).doing(Class::Failed, cannot)?;
        clear(above).doing(Class::Failed, cannot)?;
        let random: [u8; 8] = crate::durable::random_bytes().doing(Class::Failed, cannot)?;
        let name = format!("{PREFIX}{}-{:016x}", now.as_second(), u64::from_le_bytes(random));
        let path = above.join(name);
        create_dirs(&path, 0o700).doing(Class::Failed, cannot)?;
        let lock = File::open(&path).doing(Class::Failed, cannot)?;
        // Between making and locking it, another run may take it for litter: then it is gone and this says so.
        flock(&lock, FlockOperation::NonBlockingLockExclusive).doing(Class::Failed, cannot)?;
        if !path.is_dir() {
            return Err(OpError::new(Class::Failed, cannot()).because("another run removed it; try again"));
        }
        Ok(Self { above: above.to_owned(), path, lock, next: AtomicU64::new(0) })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new file in it, for its owner alone, and where it is.
    pub(crate) fn new_file(&self) -> Result<(File, PathBuf)> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.join(format!("{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let made = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = made.doing(Class::Failed, || format!("cannot make {}", path.display()))?;
        Ok((file, path))
    }

    /// Bytes that may be written here; `None` when the system does not say.
    pub(crate) fn room(&self) -> Option<u64> {
        room_in(&self.path)
    }

    /// Fails with the reason when there is no room for `bytes`.
    pub(crate) fn room_for(&self, bytes: u64) -> std::result::Result<(), String> {
        match self.room() {
            Some(room) if room < bytes => {
                Err(format!("{bytes} bytes are needed in {} and {room} may be used", self.above.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The lock ends after the folder is gone.
        if let (Ok(above), Some(name)) = (File::open(&self.above), self.path.file_name()) {
            use std::os::unix::ffi::OsStrExt as _;
            let _next_run = remove_tree(above.as_fd(), name.as_bytes());
        }
        let _ends = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Removes scratch folders in `above` that no run has locked.
fn clear(above: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = File::open(above)?;
    for entry in std::fs::read_dir(above)? {
        let entry = entry?;
        let ours = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) && entry.file_type()?.is_dir();
        let Some(folder) = ours.then(|| File::open(entry.path()).ok()).flatten() else {
            continue;
        };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_tree(dir.as_fd(), entry.file_name().as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_scratch_folder_goes_with_its_run_and_a_living_runs_stays() {
        let top = tempfile::tempdir().unwrap();
        let above = top.path().join("scratch");
        let one = Scratch::create(&above, Timestamp::UNIX_EPOCH).unwrap();
        let (file, path) = one.new_file().unwrap();
        file.set_len(10).unwrap();
        let two = Scratch::create(&above, Timestamp::UNIX_EPOCH).unwrap();
        assert!(path.exists(), "the other run's folder is locked");
        drop(two);
        assert_eq!(names(&above), 1);
        drop(one);
        assert_eq!(names(&above), 0);
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        let above = top.path().join("scratch");
        std::fs::create_dir_all(above.join(format!("{PREFIX}1-left/deep"))).unwrap();
        std::fs::write(above.join(format!("{PREFIX}1-left/deep/file")), b"x").unwrap();
        std::fs::create_dir(above.join("somebody-else")).unwrap();
        let one = Scratch::create(&above, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(names(&above), 2, "the stranger's folder and our own");
        drop(one);
        assert_eq!(names(&above), 1);
    }

    #[test]
    fn no_room_is_said_with_both_numbers() {
        let top = tempfile::tempdir().unwrap();
        let one = Scratch::create(&top.path().join("scratch"), Timestamp::UNIX_EPOCH).unwrap();
        assert!(one.room_for(1).is_ok());
        let why = one.room_for(u64::MAX).unwrap_err();
        assert!(why.contains(&u64::MAX.to_string()), "{why}");
    }
}

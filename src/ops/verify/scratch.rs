//! A private place on disk for what is proved and not kept: made when needed, gone afterwards, also after a kill.
//!
//! Each run has a folder of its own and keeps it locked; a folder that nobody has locked is what a killed run left and is removed by the next.
//! What is opened there lies open: so nobody else may be able to put another folder in its place.

use crate::durable::{create_dirs, free_space};
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::platform::remove::remove_tree;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{getegid, geteuid};
use std::fs::{DirBuilder, File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
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
    /// Makes a folder in `above`, which is made when it is missing, and removes what killed runs left there. Fails when somebody else could
    /// exchange what lies in `above`.
    pub(crate) fn create(above: &Path, now: Timestamp) -> Result<Self> {
        let cannot = || format!("cannot prepare a scratch folder in {}", above.display());
        create_dirs(above, 0o700).doing(Class::Failed, cannot)?;
        let facts = std::fs::metadata(above).doing(Class::Failed, cannot)?;
        if let Some(who) = who_may_exchange(&facts, geteuid().as_raw(), getegid().as_raw()) {
            let why = format!(
                "what lies there can be exchanged by {who}, and what is brought back lies open there"
            );
            return Err(OpError::new(Class::Failed, cannot()).because(why).hint(
                "name a folder that only you can write to: `scratch` in [verify], or without a configuration $TMPDIR",
            ));
        }
        clear(above).doing(Class::Failed, cannot)?;
        let random: [u8; 8] = crate::durable::random_bytes().doing(Class::Failed, cannot)?;
        let name = format!("{PREFIX}{}-{:016x}", now.as_second(), u64::from_le_bytes(random));
        let path = above.join(name);
        // One that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path).doing(Class::Failed, cannot)?;
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

/// Who beside root and the user `uid` may put something else in the place of what lies in the folder with these `facts`. With the sticky bit
/// nobody can but its owner. The group of the process itself counts as the user: many have one of their own.
fn who_may_exchange(facts: &Metadata, uid: u32, gid: u32) -> Option<String> {
    let (mode, sticky) = (facts.mode(), facts.mode() & 0o1000 != 0);
    if facts.uid() != uid && facts.uid() != 0 {
        return Some(format!("user {}, who owns that folder", facts.uid()));
    }
    if sticky {
        return None;
    }
    if mode & 0o002 != 0 {
        return Some("everybody".to_owned());
    }
    (mode & 0o020 != 0 && facts.gid() != gid && facts.gid() != 0).then(|| format!("group {}", facts.gid()))
}

/// Removes scratch folders of this user in `above` that no run has locked. Where others have theirs too, these are not looked into: what they
/// put there may be anything by the time it is opened.
fn clear(above: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = File::open(above)?;
    for entry in std::fs::read_dir(above)? {
        let entry = entry?;
        let named = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
        // Another user's may go at any moment.
        let facts = named.then(|| entry.metadata().ok()).flatten();
        let ours = facts.is_some_and(|facts| facts.is_dir() && facts.uid() == geteuid().as_raw());
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
    fn a_place_where_others_could_exchange_the_folder_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let top = tempfile::tempdir().unwrap();
        let with_mode = |name: &str, mode: u32| {
            let above = top.path().join(name);
            std::fs::create_dir(&above).unwrap();
            std::fs::set_permissions(&above, std::fs::Permissions::from_mode(mode)).unwrap();
            above
        };
        let why = |above: &Path| match Scratch::create(above, Timestamp::UNIX_EPOCH) {
            Ok(_) => None,
            Err(error) => Some(std::error::Error::source(&error).unwrap().to_string()),
        };
        let open = with_mode("open", 0o777);
        assert!(why(&open).unwrap().contains("by everybody"));
        assert_eq!(names(&open), 0);
        for (name, mode) in [("sticky", 0o1777), ("of the group", 0o770), ("own", 0o700)] {
            assert_eq!(why(&with_mode(name, mode)), None, "{name}");
        }
        if !geteuid().is_root() {
            crate::not_run("a scratch place of another user, as root (this is not root)");
            return;
        }
        let theirs = with_mode("theirs", 0o700);
        chown(&theirs, Some(54_321), None).unwrap();
        assert!(why(&theirs).unwrap().contains("by user 54321"));
        let group = with_mode("of a group", 0o770);
        chown(&group, None, Some(54_321)).unwrap();
        assert!(why(&group).unwrap().contains("by group 54321"));
    }

    #[test]
    fn of_several_users_each_clears_what_is_its_own() {
        if !geteuid().is_root() {
            crate::not_run("what another user's killed run left, as root (this is not root)");
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let theirs = top.path().join(format!("{PREFIX}1-theirs"));
        std::fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(54_321), None).unwrap();
        drop(Scratch::create(top.path(), Timestamp::UNIX_EPOCH).unwrap());
        assert!(theirs.exists());
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

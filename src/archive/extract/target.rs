//! The place of a restore: private beside it until everything is there, then the place itself.

use super::error::ExtractError;
use crate::durable::{crash, own_names};
use crate::model::ComponentName;
use crate::platform::apply::{ACL_ACCESS, ACL_DEFAULT, Subject};
use crate::platform::at::{self, FileId};
use crate::platform::remove::remove_tree;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A place that does not exist yet, and the directory beside it in which it is being made.
///
/// Ended by [`Target::publish`]. Dropped before, the staging directory is removed with everything in it, as far as that is possible.
#[derive(Debug)]
pub struct Target {
    place: PathBuf,
    name: Vec<u8>,
    /// Whether the place was an empty directory.
    is_there: bool,
    parent: OwnedFd,
    staging: OwnedFd,
    staging_name: Vec<u8>,
    id: FileId,
    /// False once nothing must be removed any more.
    remove: bool,
}

impl Target {
    /// Makes a private staging directory beside `path`, which must not exist or be an empty directory; its parent must exist.
    /// Links in the parent's path are followed, the place itself is not.
    pub fn create(path: &Path) -> Result<Self, ExtractError> {
        let bad = |why| ExtractError::BadPlace { path: path.to_owned(), why };
        let name = path.file_name().ok_or_else(|| bad("give the folder's own name"))?;
        let name = name.as_bytes().to_vec();
        let above = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let parent = at::open_place(above).map_err(ExtractError::on("open folder", above))?;
        let is_there = Self::check_place(&parent, &name, path)?;
        let (staging, staging_name) = make_staging(parent.as_fd(), &name)
            .map_err(ExtractError::on("make a folder for the restore in", above))?;
        let facts = at::facts(&staging).map_err(ExtractError::on("look at", above))?;
        let (place, id) = (path.to_owned(), facts.id);
        Ok(Self { place, name, is_there, parent, staging, staging_name, id, remove: true })
    }

    /// Whether the place is there, as an empty directory.
    fn check_place(parent: &OwnedFd, name: &[u8], path: &Path) -> Result<bool, ExtractError> {
        let looked = at::facts_if_any(parent, name);
        let Some(facts) = looked.map_err(ExtractError::on("look at", path))? else {
            return Ok(false);
        };
        let taken = || ExtractError::NotEmpty { path: path.to_owned() };
        if !facts.is_dir() {
            return Err(taken());
        }
        let opened = at::open_dir(parent, name).and_then(at::is_empty);
        if !opened.map_err(ExtractError::on("list", path))? {
            return Err(taken());
        }
        let mounted = at::is_mount_point(parent, name).map_err(ExtractError::on("look at", path))?;
        if mounted {
            let why = "something is mounted there; give a new folder inside of it";
            return Err(ExtractError::BadPlace { path: path.to_owned(), why });
        }
        Ok(true)
    }

    /// Where the tree is made until it is published.
    pub fn staging_path(&self) -> PathBuf {
        self.place.with_file_name(std::ffi::OsStr::from_bytes(&self.staging_name))
    }

    /// The staging directory itself, for an [`super::Extractor`] of the only component.
    pub fn root(&self) -> Result<OwnedFd, ExtractError> {
        let cloned = self.staging.try_clone();
        cloned.map_err(ExtractError::on("open", &self.staging_path()))
    }

    /// The staging directory once more, opened anew: a sync through a descriptor that shares its file with another one would take that one's errors away.
    pub fn apart(&self) -> Result<OwnedFd, ExtractError> {
        let opened = at::open_dir(&self.parent, &self.staging_name);
        opened.map_err(ExtractError::on("open", &self.staging_path()))
    }

    /// That something could not be written to the disk.
    pub fn not_durable(&self, error: io::Error) -> ExtractError {
        ExtractError::on("sync", &self.staging_path())(error)
    }

    /// A new directory in it, for the [`super::Extractor`] of one of several components. Private until the component's own root says otherwise.
    pub fn component(&self, name: &ComponentName) -> Result<OwnedFd, ExtractError> {
        let made = at::create_dir(&self.staging, name.to_string().as_bytes());
        let (fd, _) = made.map_err(ExtractError::on("make a folder in", &self.staging_path()))?;
        Ok(fd)
    }

    /// Makes everything durable, then moves it to its place in one step, and makes that durable. When only the move fails, what was
    /// restored is complete and stays in the staging directory; the error says where.
    pub fn publish(mut self) -> Result<(), ExtractError> {
        let staging = self.staging_path();
        crash::around("sync restored tree", || at::sync_file_system(&self.staging))
            .map_err(|e| self.not_durable(e))?;
        let facts =
            at::facts_at(&self.parent, &self.staging_name).map_err(ExtractError::on("look at", &staging))?;
        if facts.id != self.id {
            let why = "its staging folder was exchanged by another process";
            return Err(ExtractError::BadPlace { path: self.place.clone(), why });
        }
        // From here on it is whole: an hour's restore must not be thrown away because a name was taken.
        self.remove = false;
        let unpublished = |source| {
            let (place, staging) = (self.place.clone(), staging);
            ExtractError::Unpublished { place, staging, source }
        };
        crash::around("publish", || self.move_to_place()).map_err(unpublished)?;
        at::sync_dir(&self.parent).map_err(ExtractError::on("sync the folder of", &self.place))
    }

    fn move_to_place(&self) -> io::Result<()> {
        if !self.is_there {
            match at::rename_new(&self.parent, &self.staging_name, &self.name) {
                Err(e) if at::is_unsupported(&e) => {}
                other => return other,
            }
        }
        // Over a directory the system renames only when it is empty, over anything else never.
        at::rename(&self.parent, &self.staging_name, &self.name)
    }

    /// Gives up, and says whether everything could be removed.
    pub fn discard(mut self) -> Result<(), ExtractError> {
        self.remove = false;
        let removed = remove_tree(self.parent.as_fd(), &self.staging_name);
        removed.map_err(ExtractError::on("remove", &self.staging_path()))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.remove {
            let _ = remove_tree(self.parent.as_fd(), &self.staging_name);
        }
    }
}

/// So many bytes of a name fit beside what is added to it in 255.
const NAME_MAX: usize = 200;

/// `.<name>.backstay-partial-<random>`: says what it is, cannot be foreseen, and does not grow too long.
pub(super) fn partial_name(name: &[u8]) -> io::Result<Vec<u8>> {
    let mut end = name.len().min(NAME_MAX);
    while end < name.len() && end > 0 && name[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let mut random = [0; 10];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
    let suffix = data_encoding::BASE32_NOPAD.encode(&random).to_lowercase();
    Ok([b".", &name[..end], own_names::PARTIAL, suffix.as_bytes()].concat())
}

fn make_staging(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<(OwnedFd, Vec<u8>)> {
    let name = partial_name(name)?;
    let (fd, facts) = at::create_dir(parent, &name)?;
    // Where others may write in the parent, what was opened might not be what was made.
    if facts.uid != rustix::process::geteuid().as_raw() || !at::is_empty(&fd)? {
        return Err(io::Error::other("the folder was exchanged by another process"));
    }
    // An ACL inherited from the parent would open files to people whom the snapshot does not name.
    for acl in [ACL_DEFAULT, ACL_ACCESS] {
        Subject::Open(fd.as_fd()).remove_xattr(acl)?;
    }
    Ok((fd, name))
}

//! Where entries lie in the live tree, and the way there.

use crate::archive::extract::{ExtractError, LiveDir, open_live_dir};
use crate::model::index::{ComponentKind, IndexComponent};
use crate::model::path::escape;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, Doing, Result};
use crate::ops::restore::Listing;
use crate::platform::at;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// In a list of paths, what lies outside of the base is kept below this.
const OUTSIDE: &[u8] = b"_root";

/// The path from `/` of what lies outside of the base. Only lists have such paths: a folder may hold a `_root` of its own.
fn outside<'p>(component: &IndexComponent, path: &'p RelPath) -> Option<&'p [u8]> {
    let rest = path.as_bytes().strip_prefix(OUTSIDE)?;
    match (component.kind, rest) {
        (ComponentKind::Paths, []) => Some(rest),
        (ComponentKind::Paths, [b'/', below @ ..]) => Some(below),
        _ => None,
    }
}

/// The live path of `path` of a component whose base is `base`.
pub(super) fn live_path(base: &Path, component: &IndexComponent, path: &RelPath) -> PathBuf {
    match outside(component, path) {
        Some(rest) => Path::new("/").join(OsStr::from_bytes(rest)),
        None => base.join(OsStr::from_bytes(path.as_bytes())),
    }
}

/// Where an entry lies in the live tree.
pub(super) struct Place {
    /// From `/`, not from the component's base.
    pub(super) outside: bool,
    /// The directory that the path is opened below.
    pub(super) top: PathBuf,
    /// The path from there.
    pub(super) path: RelPath,
    /// The whole path.
    pub(super) live: PathBuf,
    /// The folder that must be there: the one that the entry lies in, or itself.
    folder: RelPath,
}

impl Place {
    /// The place of `entry`; none for `_root` itself, which is no place.
    pub(super) fn of(base: &Path, component: &IndexComponent, entry: &Entry) -> Result<Option<Self>> {
        let outside = outside(component, &entry.path);
        if outside.is_some_and(<[u8]>::is_empty) {
            return Ok(None);
        }
        let (top, rest) = match outside {
            Some(rest) => (Path::new("/"), rest),
            None => (base, entry.path.as_bytes()),
        };
        let path =
            RelPath::new(rest).doing(Class::Damage, || "a path of the snapshot cannot be used".into())?;
        let folder = if entry.kind == Kind::Dir { Some(path.clone()) } else { path.parent() };
        Ok(Some(Self {
            outside: outside.is_some(),
            top: top.to_owned(),
            live: live_path(base, component, &entry.path),
            folder: folder.unwrap_or_else(RelPath::root),
            path,
        }))
    }

    /// True when `entry` is what lies at `path` from the same directory.
    pub(super) fn is_beside(&self, component: &IndexComponent, entry: &Entry, path: &RelPath) -> bool {
        match outside(component, &entry.path) {
            Some(rest) => self.outside && rest == path.as_bytes(),
            None => !self.outside && entry.path == *path,
        }
    }

    /// What an error here is about.
    pub(super) fn cannot(&self) -> String {
        format!("cannot put {} in place", escape(self.live.as_os_str().as_bytes()))
    }

    /// Opens the folder, which is made when it is missing and `create`.
    pub(super) fn open(&self, create: bool) -> Result<LiveDir> {
        self.try_open(create)?.doing(Class::Failed, || self.cannot())
    }

    fn try_open(&self, create: bool) -> Result<std::result::Result<LiveDir, ExtractError>> {
        let what = || format!("cannot open {}", self.top.display());
        let top = at::open_place(&self.top).doing(Class::Failed, what)?;
        Ok(open_live_dir(top.as_fd(), &self.folder, create))
    }

    /// The path of a name beside it, for people.
    pub(super) fn beside(&self, name: &[u8]) -> String {
        escape(self.live.with_file_name(OsStr::from_bytes(name)).as_os_str().as_bytes())
    }
}

/// Goes the way to every live file as far as it is there: a link or a file in it must be found before the first file is exchanged.
pub(super) fn check_ways(base: &Path, listing: &Listing, brings: impl Fn(&Entry) -> bool) -> Result<()> {
    let mut last = None;
    for entry in listing.entries.iter().filter(|entry| brings(entry)) {
        let Some(place) = Place::of(base, &listing.component, entry)? else { continue };
        let way = (place.outside, place.folder.clone());
        if last.as_ref() == Some(&way) {
            continue;
        }
        match place.try_open(false)? {
            Err(ExtractError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            other => drop(other.doing(Class::Failed, || place.cannot())?),
        }
        last = Some(way);
    }
    Ok(())
}

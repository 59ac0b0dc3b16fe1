//! The way to a component's place, gone part by part from the folder that a person named.
//!
//! Must never follow a link below that folder: it may have come with the component before, and lead to files that are none of this recovery's.

use super::place::ComponentPlace;
use crate::durable::{Dir, DurableError, create_dirs};
use crate::model::index::ComponentKind;
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::{Component, Path};

/// Folders made on the way.
const MODE: u32 = 0o755;

/// Where a component can be moved to.
pub(super) enum Target {
    /// It is moved whole: to this name, which is free.
    Whole(Dir, OsString),
    /// What is in it is moved into this folder.
    Into(Dir),
    /// A link, or something else that is no folder, is on the way.
    Blocked,
}

/// Opens the way to the place, makes what is missing of it, and says how the component goes there.
pub(super) fn target(place: &ComponentPlace) -> Result<Target, DurableError> {
    let whole = !place.single && place.kind != ComponentKind::Paths;
    if let (true, Some(above), Some(name)) = (whole, place.to.parent(), place.to.file_name()) {
        // What nothing recovered lies above is reached as a person would: links included.
        let own_top = place.top == place.to;
        let Some(dir) = open(if own_top { above } else { &place.top }, above)? else {
            return Ok(Target::Blocked);
        };
        match dir.info(name) {
            Err(e) if e.is_not_found() => return Ok(Target::Whole(dir, name.to_owned())),
            Ok(there) if !there.directory && !own_top => return Ok(Target::Blocked),
            other => drop(other?),
        }
    }
    Ok(open(&place.top, &place.to)?.map_or(Target::Blocked, Target::Into))
}

/// Opens the folder `to` at or below `top`, and makes what is missing. None when something below `top` is no folder, be it a link to one.
pub(super) fn open(top: &Path, to: &Path) -> Result<Option<Dir>, DurableError> {
    let (top, rest) = to.strip_prefix(top).map_or((to, Path::new("")), |rest| (top, rest));
    create_dirs(top, MODE)?;
    let mut dir = Dir::open(top)?;
    for part in rest.components() {
        let Component::Normal(name) = part else {
            return Ok(None);
        };
        dir = match dir.child(name) {
            // Asked first: a file in the way counts as "not found", too.
            Err(e) if matches!(e.errno(), Some(Errno::LOOP | Errno::NOTDIR)) => return Ok(None),
            Err(e) if e.is_not_found() => dir.ensure_child(name, MODE)?,
            other => other?,
        };
    }
    Ok(Some(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_below_the_top_is_followed_and_the_top_may_be_one() {
        let top = tempfile::tempdir().unwrap();
        let real = top.path().join("real");
        std::fs::create_dir(&real).unwrap();
        symlink(&real, top.path().join("top")).unwrap();
        symlink("..", real.join("up")).unwrap();
        symlink("nowhere", real.join("dangling")).unwrap();
        std::fs::write(real.join("file"), "").unwrap();
        let top = top.path().join("top");
        for blocked in ["up", "up/x", "dangling", "dangling/x", "file", "file/x", "../x"] {
            assert!(open(&top, &top.join(blocked)).unwrap().is_none(), "{blocked}");
        }
        assert!(open(&top, &top.join("new/deeper")).unwrap().is_some());
        assert!(real.join("new/deeper").is_dir());
        assert!(open(&top, &top).unwrap().is_some());
    }
}

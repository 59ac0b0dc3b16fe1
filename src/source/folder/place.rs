//! Where the paths of a configuration lie within a component, symbolic links on the way to them resolved.

use crate::model::RelPath;
use crate::model::entry::Why;
use crate::source::folder::spec::{FolderSpec, SourceError, What};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The directory of a `List` below which paths outside its base lie.
pub(super) const OUTSIDE: &[u8] = b"_root";

/// What to take of a directory: all of it, or only some children.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// All of it, by name: no exclusion holds for this path itself.
    pub(super) all: bool,
    /// Otherwise these.
    pub(super) children: BTreeMap<Vec<u8>, Selection>,
}

/// `path` without symbolic links in the directories that lead to it; its last part is not resolved. What does not exist is taken as it is written.
pub(super) fn real_place(path: &Path) -> PathBuf {
    let resolved = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map(|p| p.join(name)),
        _ => path.canonicalize(),
    };
    resolved.unwrap_or_else(|_| cleaned(path))
}

fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// The path within the component of absolute `path`; `None` for what lies outside when `outside` is not allowed.
fn within(base: &Path, path: &Path, outside: bool) -> Option<RelPath> {
    let bytes = match path.strip_prefix(base) {
        Ok(inside) if inside.as_os_str().is_empty() => return Some(RelPath::root()),
        Ok(inside) => inside.as_os_str().as_bytes().to_vec(),
        Err(_) if !outside => return None,
        Err(_) => {
            let mut bytes = OUTSIDE.to_vec();
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            while bytes.ends_with(b"/") {
                bytes.pop();
            }
            bytes
        }
    };
    RelPath::new(&bytes).ok()
}

/// What a list of paths takes of `base` and of `_root`.
pub(super) fn selection_of(base: &Path, paths: &[PathBuf]) -> Result<Selection, SourceError> {
    let mut top = Selection::default();
    for path in paths {
        let place = real_place(&base.join(path));
        if place
            .strip_prefix(base)
            .is_ok_and(|p| p.as_os_str().as_bytes().split(|&b| b == b'/').next() == Some(OUTSIDE))
        {
            return Err(SourceError::Reserved { path: path.clone() });
        }
        let Some(rel) = within(base, &place, true) else {
            return Err(SourceError::Missing { path: path.clone() });
        };
        let mut node = &mut top;
        for part in rel.parts() {
            node = node.children.entry(part.to_vec()).or_default();
        }
        node.all = true;
    }
    Ok(top)
}

/// Where in the component what must not be entered lies, and why.
pub(super) fn nested_of(spec: &FolderSpec, base: &Path) -> HashMap<RelPath, Why> {
    let outside = matches!(spec.what, What::List(_));
    let listed: Vec<PathBuf> = match &spec.what {
        What::List(paths) => paths.iter().map(|path| real_place(&base.join(path))).collect(),
        What::Tree | What::Single(_) => Vec::new(),
    };
    // A component that something listed lies in is the outer one of the two: it leaves that out, and is not left out here.
    let around = |place: &Path| listed.iter().any(|path| path != place && path.starts_with(place));
    let places = spec.nested.iter().filter_map(|(path, why)| {
        // A link to another component is captured as the link it is; what it leads to is left.
        let real = path.canonicalize().unwrap_or_else(|_| real_place(path));
        if matches!(why, Why::Component) && around(&real) {
            return None;
        }
        Some((within(base, &real, outside)?, *why))
    });
    places.filter(|(path, _)| !path.is_root()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_are_relative_and_paths_outside_lie_below_root() {
        let base = Path::new("/no-such-place/app");
        let list = ["/no-such-place/app/.env", "/no-such-place/app/a/../b/c", "/no-such-other/x"];
        let top = selection_of(base, &list.map(PathBuf::from)).unwrap();
        let names = |s: &Selection| {
            s.children.keys().map(|k| String::from_utf8_lossy(k).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&top), [".env", "_root", "b"]);
        assert!(top.children[&b".env"[..]].all);
        assert!(!top.children[&b"b"[..]].all);
        let root = &top.children[OUTSIDE];
        assert_eq!(names(root), ["no-such-other"]);
        assert!(root.children[&b"no-such-other"[..]].children[&b"x"[..]].all);
    }

    #[test]
    fn a_list_refuses_the_name_that_it_needs_itself() {
        let error = selection_of(Path::new("/app"), &[PathBuf::from("/app/_root/x")]);
        assert!(matches!(error, Err(SourceError::Reserved { .. })));
    }

    #[test]
    fn a_link_on_the_way_is_resolved_and_the_last_part_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("way")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.join("real/last")).unwrap();
        assert_eq!(real_place(&dir.join("way/last")), dir.join("real/last"));
    }
}

//! A recovery kit must not lie in a store: whoever gets that disk, or may read that bucket's copy of it, then reads everything and signs as the host.

use crate::config::Place;
use crate::keys::Kit;
use crate::ops::error::{Class, OpError, Result};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// So much of a file is read to see whether it may be a kit.
const BEGINNING: u64 = 16 << 10;
/// So many names in a store are looked at, and no more: a kit is put where people see it.
const LOOKED_AT: usize = 2000;
/// Folders that are no part of the store are looked into so deep.
const DEPTH: usize = 3;

/// Fails when `path` lies in the folder of one of `stores`, whatever links lead there.
pub fn refuse_in_store<'a>(
    path: &Path,
    stores: impl IntoIterator<Item = (&'a str, &'a Place)>,
) -> Result<()> {
    let target = real(path);
    for (name, place) in stores {
        let Place::Path(folder) = place else { continue };
        if target.starts_with(real(folder)) || path.starts_with(folder) {
            let what = format!("the recovery kit must not lie in store {name:?}: {}", path.display());
            return Err(OpError::new(Class::Usage, what)
                .because(
                    "whoever gets that store would read everything in it with the kit, and sign as this host",
                )
                .hint("name a file elsewhere, best on a medium that is kept apart from store and machine"));
        }
    }
    Ok(())
}

/// The path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Files below `folder`, which is a store, that begin as kits do. `known` says what is a part of the store and is not looked at.
pub(super) fn kits_in(folder: &Path, known: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let (mut kits, mut waiting, mut left) = (Vec::new(), vec![(folder.to_owned(), 0)], LOOKED_AT);
    while let Some((dir, depth)) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if left == 0 {
                return kits;
            }
            left -= 1;
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            match (depth == 0 && known(&name.to_string_lossy()), kind.is_dir(), kind.is_file()) {
                (false, true, _) if depth < DEPTH => waiting.push((entry.path(), depth + 1)),
                (false, _, true) if begins_as_kit(&entry.path()) => kits.push(entry.path()),
                _ => {}
            }
        }
    }
    kits.sort();
    kits
}

fn begins_as_kit(path: &Path) -> bool {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    let read = std::fs::File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut bytes));
    read.is_ok() && Kit::may_begin(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_known_as_one_through_links_and_before_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("store")).unwrap();
        std::os::unix::fs::symlink("store", top.join("link")).unwrap();
        let stores = [Place::Path(top.join("store")), Place::Path(top.join("later"))];
        let refused = |path: &str| {
            let named = stores.iter().map(|place| ("local", place));
            refuse_in_store(&top.join(path), named).is_err()
        };
        for path in ["store/kit.txt", "link/kit.txt", "store/deep/kit.txt", "later/kit.txt"] {
            assert!(refused(path), "{path}");
        }
        for path in ["kit.txt", "store-2/kit.txt", "stores.txt"] {
            assert!(!refused(path), "{path}");
        }
    }

    #[test]
    fn kits_are_found_among_what_is_no_part_of_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
        };
        put("kit.txt", "BACKSTAY RECOVERY KIT: app on host\n");
        put("for me/page.html", "<!doctype html>\n<title>backstay recovery kit</title>");
        put("notes.txt", "the backstay recovery kit is in the drawer");
        put("archives/block.txt", "-----BEGIN BACKSTAY KIT-----");
        let found = kits_in(dir.path(), &|name| name == "archives");
        let mut wanted = vec![dir.path().join("for me/page.html"), dir.path().join("kit.txt")];
        wanted.sort();
        assert_eq!(found, wanted);
    }
}

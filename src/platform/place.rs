//! Paths that people gave, as they are shown and kept: absolute, without `.` and `..`.

use std::io;
use std::path::{Component, Path, PathBuf};

/// `path` made absolute, with every `..` taken out the way the system would follow it: behind a symbolic link it leads out of the real
/// directory. Nothing of it need exist. Fails for an empty path, and when the current directory is gone.
pub fn tidy(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut tidy = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                if let Ok(real) = tidy.canonicalize() {
                    tidy = real;
                }
                tidy.pop();
            }
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    Ok(tidy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_taken_out_as_the_system_follows_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/deep")).unwrap();
        std::os::unix::fs::symlink(root.join("real/deep"), root.join("link")).unwrap();
        for (given, tidied) in [
            ("a/./b", "a/b"),
            ("not/there/../../c", "c"),
            ("real/../c", "c"),
            ("link/../c", "real/c"),
            ("link/c", "link/c"),
        ] {
            assert_eq!(tidy(&root.join(given)).unwrap(), root.join(tidied), "{given}");
        }
        assert_eq!(tidy(Path::new("/../..")).unwrap(), Path::new("/"));
        assert!(tidy(Path::new("")).is_err());
    }
}

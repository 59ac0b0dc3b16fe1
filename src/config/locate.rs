//! Where the configuration is, and whether it may be believed.

use crate::config::render::{ConfigErrors, show};
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Name of the configuration file.
pub const FILE_NAME: &str = "backstay.toml";

/// The nearest `backstay.toml` in `start` or a directory above it.
pub fn find(start: &Path) -> Option<PathBuf> {
    let start = std::path::absolute(start).ok()?;
    start.ancestors().map(|dir| dir.join(FILE_NAME)).find(|path| path.is_file())
}

/// Checks, when running as root, that nobody else can change the file at `path` or put another in its place: the file and every directory
/// above it belong to root and cannot be written by group or others. Does nothing for other users.
///
/// # Errors
/// `Unsafe` says what could be changed by whom; `Unreadable` that it could not be looked at.
pub fn check_permissions(path: &Path) -> Result<(), ConfigErrors> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    check_for_root(path, &|path| std::fs::metadata(path))
}

fn check_for_root(
    path: &Path,
    stat: &dyn Fn(&Path) -> std::io::Result<Metadata>,
) -> Result<(), ConfigErrors> {
    let unreadable = |source| ConfigErrors::Unreadable { path: path.to_owned(), source };
    let named = std::path::absolute(path).map_err(unreadable)?;
    let real = path.canonicalize().map_err(unreadable)?;
    // Both ways: whoever can exchange a symbolic link on the way can exchange the file.
    let all: BTreeSet<&Path> = named.ancestors().chain(real.ancestors()).collect();
    for place in all {
        let metadata = stat(place).map_err(unreadable)?;
        if let Some(who) = who_can_change(&metadata) {
            let it =
                if metadata.is_dir() { format!("the directory {}", show(place)) } else { "it".to_owned() };
            return Err(ConfigErrors::Unsafe {
                path: path.to_owned(),
                why: format!(
                    "running as root, but {it} can be changed by {who}, and a configuration can run commands"
                ),
                hint: format!(
                    "run backstay as the user that owns it; or let only root write {}; or keep the configuration in a directory of root, such as /etc/backstay",
                    show(place)
                ),
            });
        }
    }
    Ok(())
}

/// Who but root can change what has this metadata.
fn who_can_change(metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode();
    // In a directory with the sticky bit only its owner and the file's owner can exchange a file.
    let sticky = metadata.is_dir() && mode & 0o1000 != 0;
    if metadata.uid() != 0 {
        return Some(format!("user {}, who owns it", metadata.uid()));
    }
    if mode & 0o002 != 0 && !sticky {
        return Some("everybody".to_owned());
    }
    (mode & 0o020 != 0 && metadata.gid() != 0 && !sticky).then(|| format!("group {}", metadata.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_nearest_file_upward_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(dir.path().join(FILE_NAME), "").unwrap();
        assert_eq!(find(&deep).unwrap(), dir.path().join(FILE_NAME));
        fs::create_dir(deep.join(FILE_NAME)).unwrap();
        assert_eq!(find(&deep).unwrap(), dir.path().join(FILE_NAME), "a directory is not a configuration");
        fs::write(dir.path().join("a").join(FILE_NAME), "").unwrap();
        assert_eq!(find(&deep).unwrap(), dir.path().join("a").join(FILE_NAME));
    }

    #[test]
    fn as_root_a_file_that_others_may_change_is_refused() {
        if !rustix::process::geteuid().is_root() {
            crate::not_run("a configuration that others may replace, as root (this is not root)");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("conf");
        fs::create_dir(&inner).unwrap();
        let file = inner.join(FILE_NAME);
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&inner, 0o755);
        mode(&file, 0o644);
        check_permissions(&file).unwrap();
        mode(&file, 0o646);
        assert!(check_permissions(&file).unwrap_err().to_string().contains("everybody"));
        mode(&file, 0o664);
        check_permissions(&file).unwrap();
        std::os::unix::fs::chown(&file, None, Some(12345)).unwrap();
        assert!(check_permissions(&file).unwrap_err().to_string().contains("group 12345"));
        mode(&file, 0o644);
        mode(&inner, 0o777);
        assert!(check_permissions(&file).unwrap_err().to_string().contains("the directory"));
        mode(&inner, 0o1777);
        check_permissions(&file).unwrap();
        std::os::unix::fs::chown(&inner, Some(12345), None).unwrap();
        assert!(check_permissions(&file).unwrap_err().to_string().contains("user 12345"));
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(check_permissions(&link).is_err(), "a link does not hide what it leads to");
    }
}

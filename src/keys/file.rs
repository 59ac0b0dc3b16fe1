//! Files that hold secrets: made once, never overwritten, for their owner alone. A file has its name only when it is whole: half a key under its
//! name would stop every later run.

use crate::keys::error::KeyError;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// More than this is no key file.
const KEY_FILE_BYTES_MAX: usize = 64 << 10;

/// Reads a key file, which others must not be able to read, as text with `\n` line ends.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    secret_text(path, &read_secret_bytes(path)?)
}

/// The first line of a file that others must not be able to read: an address or a token that is secret.
pub fn read_secret_line(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let text = read_secret(path)?;
    let line = Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned());
    if line.is_empty() { Err(KeyError::Empty { path: path.to_owned() }) } else { Ok(line) }
}

/// What was read from the key file `path` as text.
pub(crate) fn secret_text(path: &Path, bytes: &[u8]) -> Result<Zeroizing<String>, KeyError> {
    let malformed = |why: &str| KeyError::Malformed { path: path.to_owned(), why: why.to_owned() };
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is not text"))?;
    let text = Zeroizing::new(text.replace("\r\n", "\n"));
    if text.trim().is_empty() {
        return Err(KeyError::Empty { path: path.to_owned() });
    }
    Ok(text)
}

/// Reads a key file, which others must not be able to read, as it is.
pub(crate) fn read_secret_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => KeyError::Missing { path: path.to_owned() },
        _ => KeyError::Unreadable { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 {
        return Err(KeyError::OpenToOthers { path: path.to_owned(), mode });
    }
    // The whole capacity at once: a buffer that grows leaves copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX + 1));
    file.take(KEY_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > KEY_FILE_BYTES_MAX {
        let why = "it is too large for a key file".to_owned();
        return Err(KeyError::Malformed { path: path.to_owned(), why });
    }
    Ok(bytes)
}

/// Makes a new file for its owner alone, durable on return. Folders that are missing are made for their owner alone, too.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), KeyError> {
    if let Some(parent) = parent_of(path) {
        make_private_dirs(parent)?;
    }
    write_new(path, text)
}

const FILE_MODE: u32 = 0o600;

fn write_new(path: &Path, text: &str) -> Result<(), KeyError> {
    let unwritable = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => KeyError::Unwritable { path: path.to_owned(), source },
    };
    let temporary = temporary_beside(path)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&temporary)
        .map_err(unwritable)?;
    // Held until it has its name: a sweep of what killed runs left must not take it for that.
    let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    let written = fill(&file, text).and_then(|()| take_name(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
        .and_then(|()| match parent_of(path) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        })
        .map_err(unwritable)
}

fn fill(mut file: &File, text: &str) -> std::io::Result<()> {
    // The umask may have taken bits away from the owner.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The kind of name that sweeps of unfinished files look for.
fn temporary_beside(path: &Path) -> Result<PathBuf, KeyError> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| KeyError::Random)?;
    let name = format!(".backstay-{}.tmp", data_encoding::HEXLOWER.encode(&random));
    Ok(path.with_file_name(name))
}

/// Never over something: there is one moment in which the name is given, or it is taken.
fn take_name(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

fn parent_of(path: &Path) -> Option<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
        other => other,
    }
}

fn make_private_dirs(dir: &Path) -> Result<(), KeyError> {
    let missing: Vec<PathBuf> =
        dir.ancestors().take_while(|a| !a.as_os_str().is_empty() && !a.exists()).map(PathBuf::from).collect();
    for dir in missing.iter().rev() {
        let made = DirBuilder::new().mode(0o700).create(dir);
        // Another process may have made it meanwhile: then it is its own affair who may enter.
        let done = match made {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
            Ok(()) => std::fs::set_permissions(dir, Permissions::from_mode(0o700)),
        };
        done.map_err(|source| KeyError::Unwritable { path: dir.clone(), source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const CHILD: &str = "BACKSTAY_TEST_UMASK_DIR";

    #[test]
    fn secrets_are_private_and_whole_whatever_the_umask() {
        // The umask is the whole process's: other tests must not run under it.
        if let Some(dir) = std::env::var_os(CHILD) {
            write_secret(&Path::new(&dir).join("a/b/key"), "secret\n").unwrap();
            return;
        }
        for umask in ["000", "022", "777"] {
            let dir = tempfile::tempdir().unwrap();
            let script = format!(
                "umask {umask}; exec \"$0\" --exact keys::file::tests::secrets_are_private_and_whole_whatever_the_umask"
            );
            let test = std::env::current_exe().unwrap();
            let child =
                Command::new("sh").arg("-c").arg(script).arg(test).env(CHILD, dir.path()).output().unwrap();
            assert!(child.status.success(), "{umask}: {child:?}");
            let mode = |p: &str| std::fs::metadata(dir.path().join(p)).unwrap().mode() & 0o7777;
            assert_eq!((mode("a"), mode("a/b"), mode("a/b/key")), (0o700, 0o700, 0o600), "{umask}");
            assert_eq!(*read_secret(&dir.path().join("a/b/key")).unwrap(), "secret\n");
        }
    }

    #[test]
    fn nothing_is_left_behind_or_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(write_secret(&path, "x"), Err(KeyError::Exists { .. })));
        assert!(!dir.path().join("elsewhere").exists(), "a link is not followed");
        let below_a_file = dir.path().join("file/key");
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(write_secret(&below_a_file, "x"), Err(KeyError::Unwritable { .. })));
    }

    /// Every name in `dir`, with its content.
    fn files(dir: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                let text = std::fs::read_to_string(e.path()).unwrap();
                (e.file_name().into_string().unwrap(), text)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_key_that_is_there_is_not_touched_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_secret(&path, "one").unwrap();
        let error = write_secret(&path, "two").unwrap_err();
        assert!(matches!(error, KeyError::Exists { .. }), "{error}");
        assert_eq!(files(dir.path()), [("key".to_owned(), "one".to_owned())]);
    }

    #[test]
    fn a_key_file_is_never_seen_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let whole = "k".repeat(200_000);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..200 {
                    write_secret(&dir.path().join(format!("{n}")), &whole).unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                for entry in std::fs::read_dir(dir.path()).unwrap().flatten() {
                    if !entry.file_name().to_string_lossy().starts_with('.') {
                        assert_eq!(entry.metadata().unwrap().len(), 200_000);
                    }
                }
            }
        });
        assert_eq!(files(dir.path()).len(), 200);
    }
}

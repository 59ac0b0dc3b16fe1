//! The environment that children get: this process's own, without the secrets that backstay itself reads.
//!
//! A hook, a dump command or a service must never see the keys to the stores: whoever changed it could delete the backups.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// Variables whose names begin so are backstay's: its own, and the credentials of stores.
const SECRET_PREFIXES: [&[u8]; 4] = [b"BACKSTAY_", b"AWS_", b"AZURE_", b"GOOGLE_"];
/// Other variables that lead to secrets: the directory of systemd credentials.
const SECRET_NAMES: [&[u8]; 1] = [b"CREDENTIALS_DIRECTORY"];

/// True for a variable that children do not get.
pub fn is_secret(name: &OsStr) -> bool {
    let name = name.as_bytes();
    SECRET_PREFIXES.iter().any(|p| name.starts_with(p)) || SECRET_NAMES.contains(&name)
}

/// Takes from `command` what [`is_secret`] names. What a caller sets on it afterwards (an `env_file`) is given.
pub fn without_secrets(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_secret(name)) {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_to_stores_are_secret_and_a_path_is_not() {
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "BACKSTAY_PASSPHRASE",
            "CREDENTIALS_DIRECTORY",
        ] {
            assert!(is_secret(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "HOME", "PGPASSWORD", "MY_AWS_KEY"] {
            assert!(!is_secret(OsStr::new(name)), "{name}");
        }
    }
}

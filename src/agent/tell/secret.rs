//! Reading a secret where the configuration says it is. No error shows anything of it.

use crate::config::Secret;
use crate::keys::read_secret_line;
use crate::ops::restore::read::chain_text;
use std::path::Path;
use zeroize::Zeroizing;

pub(in crate::agent) fn read(place: &Secret) -> Result<Zeroizing<String>, String> {
    let file = |path: &Path| {
        read_secret_line(path).map_err(|e| match e.hint() {
            Some(hint) => format!("{}; {hint}", chain_text(&e)),
            None => chain_text(&e),
        })
    };
    match place {
        Secret::File(path) => file(path),
        Secret::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(dir) => file(&Path::new(&dir).join(name)),
            None => Err(format!("systemd passed no credentials, so there is no credential:{name}")),
        },
        Secret::Variable(name) => match std::env::var(name) {
            Ok(text) if !text.trim().is_empty() => Ok(Zeroizing::new(text.trim().to_owned())),
            _ => Err(format!("the variable {name} is not set")),
        },
    }
}

//! The passphrase of the identity file: given, changed, taken away.

use super::identity_text;
use crate::keys::Passphrase;
use crate::keys::identity::load_identity_file_asking;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::{Session, identity_error};
use std::path::PathBuf;

/// Writes this machine's identity file anew with `passphrase`, or without one; gives the file. One step exchanges it, and nothing is written
/// before the new text was opened again.
pub fn protect(session: &Session, passphrase: Option<&Passphrase>) -> Result<PathBuf> {
    let Some(file) = session.config()?.encryption.identity_file.clone().filter(|file| file.exists()) else {
        return Err(OpError::new(Class::NoIdentity, "there is no identity file on this machine")
            .hint("a kit gets its passphrase when it is made: backstay kit --passphrase -o FILE"));
    };
    let cannot = || format!("cannot protect {}", file.display());
    let identities = load_identity_file_asking(&file, &*session.asker());
    let identities = identities.map_err(|e| identity_error(&file, false, e))?;
    let text = identity_text(&identities, passphrase, session.around.clock.now())?;
    if let Some(passphrase) = passphrase {
        let opened =
            crate::keys::passphrase::unlock(text.as_bytes(), passphrase).doing(Class::Failed, cannot)?;
        let all = identities.iter().all(|identity| opened.contains(identity.reveal().as_str()));
        if !all {
            return Err(
                OpError::new(Class::Failed, cannot()).because("the new text does not hold the identity")
            );
        }
    }
    let real = file.canonicalize().doing(Class::Failed, cannot)?;
    crate::durable::replace(&real, text.as_bytes()).doing(Class::Failed, cannot)?;
    Ok(file)
}

//! The identities that open what is stored: from where they come, and what is said when one cannot be used.

use super::Session;
use crate::keys::identity::load_identity_file_asking;
use crate::keys::{Ask, Identities, KeyError, Kit, Passphrase, SecretIdentity, shown};
use crate::ops::backup::chain_text;
use crate::ops::error::{Class, OpError, Result};
use std::path::Path;
use std::sync::Arc;

/// What becomes of an identity file that cannot be used, which was given with `-i` or is this machine's own.
type Unusable<'a> = dyn FnMut(&Path, bool, KeyError) -> Result<Vec<SecretIdentity>> + 'a;

impl Session {
    /// The identities at hand: `-i`, the kit, the configuration's file. Empty when there is none here.
    pub fn identities(&self) -> Result<Identities> {
        self.gather(&mut |file, given, error| Err(identity_error(file, given, error)))
    }

    /// The same for what can do without: this machine's own file is passed over, with a word about it, where it has a passphrase and nobody is
    /// here to give it. Else the passphrase would end what runs by itself and works where no such file is at all.
    pub fn identities_if_open(&self) -> Result<Identities> {
        self.gather(&mut |file, given, error| {
            if given || !error.wants_passphrase() || self.around.interrupt.signal().is_some() {
                return Err(identity_error(file, given, error));
            }
            self.note(&format!(
                "{} is protected by a passphrase, and none was given: it is done without",
                file.display()
            ));
            Ok(Vec::new())
        })
    }

    fn gather(&self, unusable: &mut Unusable<'_>) -> Result<Identities> {
        let configured = self.config.as_ref().and_then(|c| c.encryption.identity_file.clone());
        let configured = configured.filter(|file| file.exists());
        let mut all: Vec<SecretIdentity> = self.kit_identities.clone();
        let given = self.around.identity_files.iter().map(|file| (file, true));
        for (file, given) in given.chain(configured.iter().map(|file| (file, false))) {
            let found = load_identity_file_asking(file, &*self.asker());
            all.extend(found.or_else(|e| unusable(file, given, e))?);
        }
        Ok(Identities::from_secrets(all))
    }

    /// True when something is here that may open what is stored; nothing is read, and no passphrase is asked for.
    pub fn has_identities(&self) -> bool {
        let configured = self.config.as_ref().and_then(|c| c.encryption.identity_file.as_ref());
        let given = !self.kit_identities.is_empty() || !self.around.identity_files.is_empty();
        given || configured.is_some_and(|file| file.exists())
    }

    /// The same project with the identities of its recovery kit beside those that are here, and with what the kit knows of its history.
    ///
    /// # Errors
    /// The kit is of another vault.
    pub fn with_kit(mut self, kit: Kit) -> Result<Self> {
        if self.vault.as_ref().is_some_and(|vault| *vault != kit.vault) {
            let what = format!(
                "the recovery kit is of another vault than {}: it was made for {}",
                self.project, kit.project
            );
            return Err(
                OpError::new(Class::Usage, what).hint("name the kit of this project, or leave --kit away")
            );
        }
        self.vault = Some(kit.vault);
        for (signer, head) in kit.heads {
            let known = self.heads.entry(signer).or_insert(head);
            if known.0 < head.0 {
                *known = head;
            }
        }
        self.kit_identities.extend(kit.identities);
        Ok(self)
    }

    /// What gives passphrases: the file that the configuration names, else whoever runs the command.
    pub fn asker(&self) -> Arc<Ask> {
        let file = self.config.as_ref().and_then(|c| c.encryption.passphrase_file.clone());
        match file {
            Some(file) => {
                let (progress, ask) = (Arc::clone(&self.around.progress), Arc::clone(&self.around.ask));
                Arc::new(move |what: &str| match Passphrase::read(&file) {
                    Ok(passphrase) => Some(passphrase),
                    Err(why) => {
                        progress.note(&unread_passphrase(&why));
                        ask(what)
                    }
                })
            }
            None => Arc::clone(&self.around.ask),
        }
    }

    /// The identities, of which there must be one.
    pub fn identities_needed(&self) -> Result<Identities> {
        let all = self.identities()?;
        if all.is_empty() {
            let what = "no identity is here, and this needs one to open the vault";
            let error = OpError::new(Class::NoIdentity, what)
                .hint("the same command with --kit FILE (the recovery kit), or -i FILE (an identity file)");
            let configured = self.config.as_ref().and_then(|c| c.encryption.identity_file.as_deref());
            return Err(match configured {
                Some(file) => error.because(format!(
                    "the configuration names {} as `identity_file`, and there is no such file",
                    file.display()
                )),
                None => error,
            });
        }
        Ok(all)
    }
}

fn unread_passphrase(why: &KeyError) -> String {
    let hint = why.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("`passphrase_file` gives no passphrase: {}{hint}", chain_text(why))
}

/// An identity file that cannot be used, and what to do. `given`: it was named with `-i`.
pub(in crate::ops) fn identity_error(file: &Path, given: bool, error: KeyError) -> OpError {
    let mut hint = error.hint().unwrap_or_else(|| {
        "an identity file holds a line AGE-SECRET-KEY-1…; a recovery kit is given with --kit FILE".into()
    });
    if given && matches!(error, KeyError::OpenToOthers { .. }) {
        let file = shown(file);
        hint = format!(
            "{hint}; on a stick that keeps no permissions that changes nothing: copy it, `(umask 077; cp -i {file} ~/identity.txt)`, and give -i ~/identity.txt"
        );
    }
    OpError::new(Class::NoIdentity, format!("cannot use identity {}", file.display()))
        .because(error)
        .hint(hint)
}

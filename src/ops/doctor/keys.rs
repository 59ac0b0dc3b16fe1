//! Keys, who can read them, and the kit.

use crate::config::{Config, Place};
use crate::keys::identity::load_identity_file_asking;
use crate::keys::kit::{Kit, StoreAt};
use crate::keys::{Identities, Passphrase, RecipientSet};
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::doctor::way_out;
use crate::ops::init::naming_path;
use crate::ops::kit_standing;
use crate::ops::remembering::UNWRITABLE;
use crate::ops::restore::read::chain_text;
use crate::ops::session::Session;
use rustix::fs::Access;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const AREA: Area = Area::Keys;

/// Looks at the files that hold secrets.
pub(super) fn look(config: &Config, findings: &mut Findings) {
    let key_file = &config.signing.key_file;
    let naming = naming_path(key_file);
    let needed = [(&**key_file, "signing key"), (&*naming, "naming key")];
    for (path, what) in needed {
        secret(path, what, !config.components.is_empty(), findings);
    }
    match &config.encryption.identity_file {
        Some(path) => {
            secret(path, "identity", false, findings);
            opens(config, path, findings);
        }
        None => {
            findings.note(
                AREA,
                "identity",
                "this machine holds none: restoring here needs the recovery kit or `-i`",
            );
        }
    }
    state_dir(&config.state_dir, findings);
    kit(config, &key_file.with_file_name("recovery-kit.txt"), findings);
}

fn secret(path: &Path, what: &str, needed: bool, findings: &mut Findings) {
    let shown = path.display().to_string();
    let facts = match path.metadata() {
        Ok(facts) => facts,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !needed => {
            return findings.note(
                AREA,
                &shown,
                format!("the {what} that the configuration names is not on this machine"),
            );
        }
        Err(e) => {
            let what = format!("the {what} cannot be used: {e}");
            let way = "bring it back from a copy of the key folder, or set this machine up again from the recovery kit";
            return findings.problem(AREA, &shown, what, way);
        }
    };
    let mode = facts.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let what = format!(
            "others can read the {what} (mode {mode:04o}), so it is refused; who read it may have kept it"
        );
        findings.problem(AREA, &shown, what, format!("chmod 600 {shown}"));
    } else if facts.uid() != rustix::process::geteuid().as_raw() && !rustix::process::geteuid().is_root() {
        let what =
            format!("the {what} belongs to user {}, and not to the one that runs backstay", facts.uid());
        findings.warning(AREA, &shown, what, "run backstay as one user, always the same");
    } else {
        findings.well(AREA, &shown, format!("the {what} is for its owner alone"));
    }
}

/// Whether the identity at hand opens what is stored today.
fn opens(config: &Config, path: &Path, findings: &mut Findings) {
    let shown = path.display().to_string();
    if config.components.is_empty() || !path.exists() {
        return;
    }
    let Ok(recipients) = RecipientSet::parse(&config.encryption.recipients) else { return };
    let passphrase =
        match config.encryption.passphrase_file.as_deref().map(|file| (file, Passphrase::read(file))) {
            Some((file, Err(e))) => {
                let what = format!("`passphrase_file` gives no passphrase: {}", chain_text(&e));
                let way =
                    e.hint().unwrap_or_else(|| "put the identity's passphrase into its first line".into());
                return findings.problem(AREA, &file.display().to_string(), what, way);
            }
            Some((_, Ok(passphrase))) => Some(passphrase),
            None => None,
        };
    let loaded = load_identity_file_asking(path, &move |_| passphrase.clone());
    match loaded.map(Identities::from_secrets) {
        Err(e) if e.wants_passphrase() => findings.note(
            AREA,
            &shown,
            "the identity is protected by a passphrase; whether it opens what is stored was not looked at",
        ),
        Err(e) => findings.problem(
            AREA,
            &shown,
            format!("the identity cannot be used: {}", chain_text(&e)),
            e.hint().unwrap_or_else(|| "bring it back from the recovery kit".into()),
        ),
        Ok(identities) if !identities.open_any(&recipients.ids()) => findings.problem(
            AREA,
            &shown,
            "it opens nothing that is stored from now on: its recipient is not among those of the configuration",
            "add its recipient to [encryption] recipients, or name the identity that belongs to one of them",
        ),
        Ok(_) => findings.well(AREA, &shown, "the identity opens what is stored"),
    }
}

fn state_dir(dir: &Path, findings: &mut Findings) {
    let shown = dir.display().to_string();
    match dir.metadata() {
        Ok(facts) if facts.mode() & 0o077 != 0 => findings.warning(
            Area::State,
            &shown,
            format!("others may look into the state folder (mode {:04o})", facts.mode() & 0o7777),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => {
            if let Err(e) = rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK) {
                let what = format!(
                    "the state folder cannot be written, so no backup can be made: {}",
                    io::Error::from(e)
                );
                findings.problem(Area::State, &shown, what, UNWRITABLE);
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            findings.note(
                Area::State,
                &shown,
                "there is no state yet: nothing was ever run here, or it was lost",
            );
        }
        Err(e) => findings.problem(
            Area::State,
            &shown,
            format!("the state folder cannot be used: {e}"),
            "let the user who runs backstay own it",
        ),
    }
}

/// The kit that `init` wrote beside the keys, if it is still there.
fn kit(config: &Config, path: &Path, findings: &mut Findings) {
    let shown = path.display().to_string();
    if !path.exists() {
        return;
    }
    findings.warning(
        Area::Kit,
        &shown,
        "a recovery kit lies on the very machine that it is to replace",
        "print it or copy it to a place far from this machine, then delete it here",
    );
    let Ok(kit) = Kit::load(path) else { return };
    for store in stale_in(config, &kit) {
        findings.warning(
            Area::Kit,
            &shown,
            format!("the kit is older than the configuration: {store}"),
            "print it anew: backstay kit -o FILE",
        );
    }
}

/// In what a kit differs from the configuration.
fn stale_in(config: &Config, kit: &Kit) -> Vec<String> {
    let mut stale = Vec::new();
    for store in &config.stores {
        let there = kit.stores.iter().find(|s| s.name == store.name);
        let same = there.is_some_and(|s| match (&s.at, &store.place) {
            (StoreAt::Path(path), Place::Path(own)) => Path::new(path) == own,
            (StoreAt::Url(url), Place::Url(own)) => *url == own.url(),
            _ => false,
        });
        if !same {
            stale.push(format!("it does not know where store {:?} is", store.name));
        }
    }
    let missing = config.encryption.recipients.iter().filter(|r| !kit.recipients.contains(r)).count();
    if missing > 0 {
        stale.push(format!("it does not name {missing} of today's recipients"));
    }
    stale
}

/// Whether a kit was ever proved, and still says what is so.
fn proved(session: &Session, findings: &mut Findings) {
    let standing = kit_standing::look(session);
    match (standing.reminder, standing.proved) {
        (Some(what), _) => {
            let (what, way) = what.split_once(": ").unwrap_or((&what, "backstay kit verify FILE"));
            findings.warning(Area::Kit, "recovery kit", what, way);
        }
        (None, Some(proved)) => findings.well(Area::Kit, "recovery kit", format!("proved {proved:.0}")),
        (None, None) => {}
    }
}

/// What takes an open session: the kit that was proved, and whether this host could write.
pub(super) fn look_with(session: &Session, findings: &mut Findings) {
    proved(session, findings);
    if session.config.as_ref().is_none_or(|c| c.components.is_empty()) {
        return;
    }
    match session.writer() {
        Ok(_) => findings.well(AREA, "signing key", "it is trusted as this host's"),
        Err(e) => findings.problem(
            AREA,
            "signing key",
            format!("this host cannot write: {}", chain_text(&e)),
            way_out(&e, "look at the files named above"),
        ),
    }
}

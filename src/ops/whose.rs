//! Whose snapshot is about to become live. Components of several hosts have the same names, so nothing in a snapshot of another one would be in the way:
//! it goes ahead only where that host was named.

use crate::model::chain::KnownSnapshot;
use crate::model::path::escape;
use crate::model::{HostId, SignerId};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::restore::Opened;
use crate::ops::select;
use crate::ops::session::{HostChoice, Session};
use crate::ops::vault::Vault;
use serde::Serialize;

/// So much of a host's id tells it from others, for people.
const SHORT: usize = 8;

/// The host that made a snapshot, as plans show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownHost {
    /// Its id.
    pub id: String,
    /// Its name, as the snapshot has it.
    pub name: String,
    /// It is this one.
    pub own: bool,
    /// What the configuration calls it, where it names its key.
    #[serde(skip)]
    called: Option<String>,
}

impl ShownHost {
    pub(in crate::ops) fn of(session: &Session, vault: &Vault, opened: &Opened) -> Self {
        let host = opened.record.host;
        let keys = session.trust.keys().iter();
        let called = keys.filter(|key| key.host.unwrap_or_else(|| key.id.into()) == host);
        Self {
            id: host.to_string(),
            name: escape(opened.index.header.hostname.as_bytes()),
            own: own(session, vault) == Some(host),
            called: called.map(|key| key.name.clone()).find(|name| !name.is_empty()),
        }
    }

    /// The beginning of its id.
    pub fn short(&self) -> &str {
        self.id.get(..SHORT).unwrap_or(&self.id)
    }

    /// What people call it here.
    pub fn called(&self) -> &str {
        self.called.as_deref().unwrap_or(&self.name)
    }

    /// True when whoever typed `answer` means this host: its name, or at least the beginning of its id that is shown.
    pub fn is_called(&self, answer: &str) -> bool {
        let by_id = answer.len() >= SHORT && self.id.starts_with(answer);
        by_id || (!answer.is_empty() && (self.name == answer || self.called.as_deref() == Some(answer)))
    }
}

/// This host, whichever key it signs with now; where it has none, the only one there is.
fn own(session: &Session, vault: &Vault) -> Option<HostId> {
    match session.host {
        Some(own) => Some(vault.host_of(&SignerId(own.0))),
        None => match vault.hosts()[..] {
            [only] => Some(only),
            _ => None,
        },
    }
}

/// Fails where `known`, found by what was typed, `text`, is another host's and `--host` does not mean that one.
pub(in crate::ops) fn refuse_unnamed(
    session: &Session,
    vault: &Vault,
    known: &KnownSnapshot,
    text: &str,
) -> Result<()> {
    let (id, host) = (known.record.snapshot.to_string(), known.record.host);
    if session.around.hosts == HostChoice::All && !id.starts_with(text) {
        return Err(of_several());
    }
    if own(session, vault) == Some(host) || is_named(session, vault, known)? {
        return Ok(());
    }
    let what =
        format!("snapshot {id} is not of this host, so it is not put in the place of what is live here");
    let short: String = host.to_string().chars().take(SHORT).collect();
    Err(OpError::new(Class::Usage, what).hint(format!(
        "if it is meant, name its host, too: --host {short} {id}; `backstay show {id}` tells whose it is; `backstay restore {id} --to DIR` brings it to a folder"
    )))
}

/// A choice among snapshots of several hosts would take whichever is the newest.
pub fn of_several() -> OpError {
    OpError::new(Class::Usage, "--all-hosts does not say whose snapshot is to become live here")
        .hint("leave --all-hosts away for this host's; --host HOST names another; `backstay list --all-hosts` shows them")
}

fn is_named(session: &Session, vault: &Vault, known: &KnownSnapshot) -> Result<bool> {
    match session.around.hosts {
        HostChoice::Named(_) => Ok(select::hosts(session, vault)? == [known.record.host]),
        HostChoice::Own | HostChoice::All => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_called_by_its_name_or_by_enough_of_its_id() {
        let host = ShownHost {
            id: "0123456789abcdef".into(),
            name: "web-2".into(),
            own: false,
            called: Some("second".into()),
        };
        for yes in ["web-2", "second", "01234567", "0123456789", "0123456789abcdef"] {
            assert!(host.is_called(yes), "{yes}");
        }
        for no in ["", "y", "yes", "web", "web-1", "0123456", "01234568", "0123456789abcdef0"] {
            assert!(!host.is_called(no), "{no}");
        }
        assert!(!ShownHost { name: String::new(), called: None, ..host }.is_called(""));
    }
}

//! How long the other state of a rollback is kept: a week, and until a good snapshot was made after it.

use crate::model::Timestamp;
use crate::ops::error::Result;
use crate::ops::rollback::dumps;
use crate::ops::rollback::journal::Journal;
use crate::ops::rollback::run::words_of;
use crate::ops::rollback::site::remove_staging;
use crate::ops::session::Session;
use jiff::SignedDuration;

/// At least so long.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Removes the other states of rollbacks that are a week old. To be called after a good snapshot, begun at `started`, with the lock held.
pub fn sweep(session: &Session, started: Timestamp) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for (path, mut journal) in Journal::kept(session.state()?.dir())? {
        // A clock that ran backwards keeps more, never less.
        if started.duration_since(journal.begun) < KEPT {
            continue;
        }
        journal.about_to_sweep(&path)?;
        for site in &journal.sites {
            remove_staging(&site.base, &site.staging)?;
            removed.push(site.base.join(&site.staging).display().to_string());
        }
        if let Err(e) = dumps::sweep(&journal, session.state()?.dir()) {
            // A server that does not answer is no reason for a snapshot to fail; the next one tries again.
            session.note(&format!("what a rollback put away is kept: {}", words_of(&e)));
            continue;
        }
        crate::durable::remove(&path).map_err(|e| {
            use crate::ops::error::{Class, OpError};
            OpError::new(Class::Failed, format!("cannot remove {}", path.display())).because(e)
        })?;
    }
    Ok(removed)
}

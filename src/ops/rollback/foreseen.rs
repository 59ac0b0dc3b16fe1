//! What a person should know before anything is stopped.

use crate::model::{Entry, Kind, Problem};
use crate::ops::error::Result;
use crate::ops::restore::{Listing, Opened};
use crate::ops::rollback::left::Left;
use crate::ops::rollback::lost::{Lost, since};
use crate::ops::rollback::site::Site;
use crate::ops::rollback::{dotenv, lockfiles, owners};
use crate::ops::session::Session;
use crate::platform::giving::Giver;

/// What is foreseen of a component.
pub(super) struct Foreseen {
    pub(super) lost: Lost,
    pub(super) warnings: Vec<Problem>,
}

/// Looks at a component that is exchanged at `sites`, and of which `left` stays.
pub(super) fn of_component(
    session: &Session,
    opened: &Opened,
    listing: &Listing,
    sites: &[Site],
    left: Option<&Left>,
) -> Result<Foreseen> {
    let entries = &listing.entries;
    let name = listing.component.name.as_str();
    let mut warnings = Vec::new();
    if let (Some(component), Some(left)) = (session.config()?.component(name), left) {
        warnings.extend(lockfiles::warnings(component, left, entries));
        warnings.extend(dotenv::warnings(session, opened, listing, left));
    }
    let comes = |entry: &Entry| {
        let stays = left.is_some_and(|left| left.keeps(&entry.path, entry.kind == Kind::Dir));
        !stays && sites.iter().any(|site| site.reaches(&entry.path))
    };
    warnings.extend(owners::warning(name, &Giver::this(), &session.names, entries, comes));
    Ok(Foreseen { lost: since(&listing.component, entries, sites, left), warnings })
}

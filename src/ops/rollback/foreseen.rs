//! What a person should know before anything is stopped.

use crate::model::{Entry, Kind, Problem, ProblemKind};
use crate::ops::error::Result;
use crate::ops::restore::{Listing, Opened};
use crate::ops::rollback::left::Left;
use crate::ops::rollback::lost::{Lost, since};
use crate::ops::rollback::needs::Needs;
use crate::ops::rollback::site::Site;
use crate::ops::rollback::{ShownPlan, dotenv, lockfiles, owners};
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

/// What concerns them all.
pub(super) fn of_all(opened: &Opened, shown: &ShownPlan, needs: &Needs) -> Result<Vec<Problem>> {
    let warning = |subject: &str, what: &str, hint: Option<&str>| Problem {
        kind: ProblemKind::Warning,
        component: None,
        subject: subject.to_owned(),
        what: what.to_owned(),
        hint: hint.map(str::to_owned),
    };
    let mut warnings = Vec::new();
    if shown.services.is_empty() && shown.down.is_empty() {
        let what = "nothing is stopped: no [[service]] of the configuration works on these components";
        let hint = "stop what uses them yourself, or add a [[service]]";
        warnings.push(warning("services", what, Some(hint)));
    }
    for component in opened.index.components.iter().filter(|c| !c.complete) {
        let what = "the snapshot is not complete; what it could not read stays as it is now";
        warnings.push(warning(component.name.as_str(), what, None));
    }
    warnings.extend(needs.judge()?);
    Ok(warnings)
}

//! Owners that cannot be set: who may not give files away keeps them. Said in the plan, before anything is stopped.

use crate::model::{Entry, Kind, Problem, ProblemKind};
use crate::platform::giving::Giver;
use crate::platform::users::Names;
use std::collections::BTreeSet;

/// So many owners are named.
const NAMED: usize = 5;

/// What to know of those of a component's `entries` that are such that it `comes` back.
pub(super) fn warning(
    component: &str,
    giver: &Giver,
    names: &Names,
    entries: &[Entry],
    comes: impl Fn(&Entry) -> bool,
) -> Option<Problem> {
    let mut owners = BTreeSet::new();
    let mut count = 0_u64;
    for entry in entries.iter().filter(|entry| !matches!(entry.kind, Kind::Left | Kind::Socket)) {
        // As they are looked up when it is written: by name where this machine knows it.
        let uid = entry.user.as_deref().and_then(|name| names.uid(name)).unwrap_or(entry.uid);
        let gid = entry.group.as_deref().and_then(|name| names.gid(name)).unwrap_or(entry.gid);
        if !giver.may_give(uid, gid) && comes(entry) {
            count += 1;
            owners.insert(format!(
                "{}:{}",
                word(entry.user.as_deref(), uid),
                word(entry.group.as_deref(), gid)
            ));
        }
    }
    if count == 0 {
        return None;
    }
    let more = match owners.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<String> = owners.into_iter().take(NAMED).collect();
    Some(Problem {
        kind: ProblemKind::Warning,
        component: Some(component.to_owned()),
        subject: ".".into(),
        what: format!(
            "{count} of what comes back cannot be given to its owner ({}{more}), and becomes the running user's: only root may give files away",
            named.join(", ")
        ),
        hint: Some("run it as root if its services need the owners".into()),
    })
}

/// A name that another machine gave, as it may be shown; else the number.
fn word(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| number.to_string(), |name| crate::model::path::escape(name.as_bytes()))
}

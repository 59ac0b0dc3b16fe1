//! Which snapshots are drilled: of each component of the configuration the newest good one that holds it.
//!
//! A schedule may capture one component more often than the others, and a drill of the newest snapshot would never bring these back. Every snapshot of
//! a run is drilled whole: a verdict says something of a whole snapshot or nothing.

use super::DrillOptions;
use crate::model::chain::KnownSnapshot;
use crate::ops::error::{Class, Result};
use crate::ops::holding::{holds, numbered, takeable};
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::vault::Vault;

/// A snapshot to drill.
pub(super) struct Turn<'v> {
    pub(super) known: &'v KnownSnapshot,
    /// Only these components; all when empty.
    pub(super) only: Vec<String>,
    /// The components that it is drilled for; all when empty. Others of it come back in a newer one, too.
    pub(super) counts: Vec<String>,
}

/// What a run drills.
pub(super) struct Plan<'v> {
    /// At least one, the newest first.
    pub(super) turns: Vec<Turn<'v>>,
    /// The components of the configuration; none where these, or their numbers, are not known here.
    pub(super) configured: Vec<String>,
    /// All of them were asked for.
    pub(super) all: bool,
    /// Those of them that no good snapshot holds, where all were asked for.
    pub(super) missing: Vec<String>,
}

/// Decides.
pub(super) fn of<'v>(session: &Session, vault: &'v Vault, options: &DrillOptions) -> Result<Plan<'v>> {
    let names = session.config.iter().flat_map(|c| c.components.iter().map(|c| c.name.to_string()));
    let names: Vec<String> = names.collect();
    let configured = numbered(session, &names);
    let known = choose(session, vault, options)?;
    let asked = match options.only.is_empty() {
        true => configured.clone(),
        false => numbered(session, &options.only),
    };
    let all = options.id.is_none() && options.only.is_empty() && !configured.is_empty();
    let configured: Vec<String> = configured.into_iter().map(|(name, _)| name).collect();
    let unknown = asked.is_empty() || asked.len() < options.only.len();
    let turns = match options.id.is_some() || unknown {
        true => vec![Turn { known, only: options.only.clone(), counts: options.only.clone() }],
        false => turns(session, vault, known, &asked, !all),
    };
    let mut missing = if all { configured.clone() } else { Vec::new() };
    missing.retain(|name| !turns.iter().any(|turn| turn.counts.contains(name)));
    Ok(Plan { turns, configured, all, missing })
}

/// The snapshot that is meant; without an ID the newest good one, else the newest: what nobody proved needs a drill most.
fn choose<'v>(session: &Session, vault: &'v Vault, options: &DrillOptions) -> Result<&'v KnownSnapshot> {
    if let Some(id) = &options.id {
        return select::holding(session, vault, id, &options.only, options.accept_untrusted);
    }
    let select = |text: &str| select::snapshot(session, vault, text, options.accept_untrusted);
    match select("latest-good") {
        Err(error) if error.class == Class::NotFound => {
            let newest = select("latest")?;
            session
                .note(&format!("no snapshot is good, so the newest is drilled: {}", newest.record.snapshot));
            Ok(newest)
        }
        found => found,
    }
}

/// The snapshots of the components that are asked for. `base` is the newest good one, else the newest.
fn turns<'v>(
    session: &Session,
    vault: &'v Vault,
    base: &'v KnownSnapshot,
    asked: &[(String, u64)],
    named: bool,
) -> Vec<Turn<'v>> {
    let mut turns: Vec<Turn<'v>> = Vec::new();
    for (name, number) in asked {
        let mut holding = takeable(vault, &base.record.host).filter(|s| holds(s, *number)).peekable();
        let newest = holding.peek().copied();
        let good = holding.find(|s| s.good);
        let known = match (good, newest) {
            (Some(good), _) => good,
            // What was named is drilled in any case; where nothing is good, all is.
            (None, Some(newest)) if named || !base.good => {
                if named {
                    let id = &newest.record.snapshot;
                    session.note(&format!(
                        "no good snapshot holds {name}, so the newest that does is drilled: {id}"
                    ));
                }
                newest
            }
            // Whoever opens it says that it is not there.
            (None, None) if named => base,
            _ => continue,
        };
        match turns.iter_mut().find(|turn| turn.known.hash == known.hash) {
            Some(turn) => turn.counts.push(name.clone()),
            None => turns.push(Turn { known, only: Vec::new(), counts: vec![name.clone()] }),
        }
    }
    if turns.is_empty() {
        turns.push(Turn { known: base, only: Vec::new(), counts: Vec::new() });
    }
    for turn in turns.iter_mut().filter(|_| named) {
        turn.only.clone_from(&turn.counts);
    }
    turns.sort_by_key(|turn| std::cmp::Reverse(turn.known.record.started));
    turns
}

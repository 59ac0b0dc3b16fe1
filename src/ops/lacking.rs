//! What a snapshot does not hold although its project had it. Said to whoever takes it whole: he may take it for everything.

use crate::model::record::SnapshotKind;
use crate::model::{Problem, ProblemKind};
use crate::ops::holding::{configured_numbers, holds, takeable};
use crate::ops::restore::Opened;
use crate::ops::vault::Vault;

/// Says what the snapshot lacks of its own configuration that an older one has, and which older one has all.
pub(crate) fn of_project(vault: &Vault, opened: &Opened) -> Option<Problem> {
    let (record, header) = (&opened.record, &opened.index.header);
    // One of a rollback holds what was exchanged, and is meant so.
    if record.kind != SnapshotKind::Normal {
        return None;
    }
    let configured = configured_numbers(&header.config, &header.naming_key)?;
    let older = || takeable(vault, &record.host).skip_while(|s| s.record.snapshot != record.snapshot).skip(1);
    let is_here = |number: u64| record.components.iter().any(|line| line.number == number);
    let (held, lacking): (Vec<_>, Vec<_>) = configured.into_iter().partition(|(_, number)| is_here(*number));
    let had = |(_, number): &(_, u64)| older().any(|s| holds(s, *number));
    let lacking: Vec<_> = lacking.into_iter().filter(had).collect();
    let first = lacking.first()?;
    let all = || held.iter().chain(&lacking);
    let whole = older().find(|s| all().all(|(_, number)| holds(s, *number)));
    let whole = whole.map(|s| format!("{} is the newest that holds all of them; ", s.record.snapshot));
    let names = |all: &[(crate::model::ComponentName, u64)]| {
        all.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", ")
    };
    let here: Vec<&str> = opened.index.components.iter().map(|c| c.name.as_str()).collect();
    Some(Problem {
        kind: ProblemKind::Warning,
        component: None,
        subject: format!("snapshot {}", record.snapshot),
        what: format!("it holds only {}; older ones also hold {}", here.join(", "), names(&lacking)),
        hint: Some(format!(
            "{}of one component the newest: `backstay restore latest {name} --to DIR`, `backstay rollback latest --only {name}`",
            whole.unwrap_or_default(),
            name = first.0
        )),
    })
}

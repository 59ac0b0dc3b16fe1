//! What a person does after a recovery.

use super::Looked;
use super::parts::Parts;
use super::place::{ComponentPlace, Places};
use super::settle::Settled;
use super::unread::Unread;
use super::work::Restored;
use crate::model::index::ComponentKind;

/// The next steps, in order.
pub(super) fn steps(
    looked: &Looked,
    parts: &Parts,
    places: &Places,
    settled: &Settled,
    (restored, unread): (&[Restored], &[Unread]),
) -> Vec<String> {
    let mut steps = Vec::new();
    steps.extend(parts.moments(places.components.iter().map(|c| c.name.as_str())));
    steps.extend(settled.notes.iter().cloned());
    for place in places.components.iter().filter(|c| !c.at_its_place) {
        steps.push(outside(place));
    }
    let listed =
        |c: &&ComponentPlace| c.kind == ComponentKind::Paths && c.root.parent().is_some() && c.root.exists();
    steps.extend(places.components.iter().filter(|c| listed(c)).map(|c| {
        format!("files of component {} from outside of the project lie below {}", c.name, c.root.display())
    }));
    if restored.iter().any(|r| !r.left.is_empty()) {
        steps.push("move what could not be moved to its place by hand: it is listed above".into());
    }
    steps.extend(unread.iter().map(Unread::step));
    for component in &parts.index.components {
        if unread.iter().any(|unread| unread.name == component.name.as_str()) {
            continue;
        }
        if !places.components.iter().any(|c| c.name == component.name.as_str()) {
            steps.push(parts.missing(component.name.as_str()));
        } else if !component.rules.is_empty() {
            let few: Vec<&str> = component.rules.iter().take(6).map(String::as_str).collect();
            let more = if component.rules.len() > few.len() { ", …" } else { "" };
            steps.push(format!(
                "make anew what component {} leaves out of its snapshots: {}{more}",
                component.name,
                few.join(", ")
            ));
        }
    }
    steps.extend(parts.absent.iter().map(|name| parts.missing(name)));
    for (store, why) in &settled.away {
        steps.push(format!(
            "store {store} is not here ({why}): bring it back; if it is lost for good, run `backstay init` for a new, empty one. Until then `backstay backup` refuses: it might hold entries that nobody here knows of"
        ));
    }
    for store in &settled.made {
        steps.push(format!(
            "store {store} was lost with the machine and is made anew; the next backup fills it"
        ));
    }
    steps.push("start the application, and look whether it is well".into());
    steps.push(format!("cd {} && backstay backup", places.project.display()));
    steps.push("make a new kit (`backstay kit -o FILE`), prove it (`backstay kit verify FILE`), and destroy the old one".into());
    let old = looked.kit.signing_key.as_ref().filter(|old| settled.introduced && old.id() != settled.signer);
    if let Some(old) = old {
        steps.push(format!(
            "if the old machine still runs, stop its backups; if it may be in other hands: `backstay keys signer retire {}`",
            old.id()
        ));
    }
    steps
}

fn outside(place: &ComponentPlace) -> String {
    if let Some(step) = &place.step {
        return step.clone();
    }
    if place.kind == ComponentKind::Command {
        return format!(
            "component {} is the output of a command: feed {} to its restore_command",
            place.name,
            place.to.display()
        );
    }
    let (to, was) = (place.to.display(), place.was.display());
    format!(
        "component {} lay outside of the project, at {was}: move {to} there before the next backup",
        place.name
    )
}

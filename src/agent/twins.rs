//! Two configurations that one agent cannot run beside each other.

use crate::config::Config;
use crate::ops::error::{Class, OpError};

/// Why `other` cannot be run beside `one`. Two that work on the same state would wait for each other for ever; two of a project with a state each would sign
/// two histories with one key; of two that only share a name no metric, message or page could say which is meant.
pub fn twins(one: &Config, other: &Config) -> Option<OpError> {
    let refused = |what: String, hint: &str| Some(OpError::new(Class::Config, what).hint(hint));
    let name = &other.project.name;
    if one.state_dir == other.state_dir {
        let what = format!("two projects have the state directory {}", one.state_dir.display());
        return refused(what, "give each configuration once, and each project its own");
    }
    if one.project.name != *name {
        return None;
    }
    if one.signing.key_file == other.signing.key_file {
        let what = format!("two configurations are of project {name} and sign with the same key");
        return refused(what, "give the project once: its snapshots are one history");
    }
    let (here, there) = (one.path.display(), other.path.display());
    let what = format!("two projects have the name {name}: {here} and {there}");
    refused(
        what,
        "give one of them another `name` under [project], and make its recovery kit anew, which names the project; nothing that is stored depends on it",
    )
}

//! Which snapshots hold which components, told by their records alone.
//!
//! A schedule may capture one component more often than the others, so the newest snapshot need not hold what is asked for. Records name components by
//! numbers, which the host's naming key makes of their names: so a snapshot is chosen by what it holds before anything of it is opened. Where the
//! key is not here, or another host's snapshots are meant, nothing is known, and none may be passed over.

use crate::config::Component;
use crate::keys::NamingKey;
use crate::keys::naming::component_number;
use crate::model::chain::KnownSnapshot;
use crate::model::record::SnapshotKind;
use crate::model::{ComponentName, HostId};
use crate::ops::layout::component_paths;
use crate::ops::select::is_live;
use crate::ops::session::{HostChoice, Session};
use crate::ops::vault::Vault;
use crate::platform::place::tidy;
use std::path::{Path, PathBuf};

/// Whether a snapshot holds the component with this number.
pub(crate) fn holds(known: &KnownSnapshot, number: u64) -> bool {
    known.record.components.iter().any(|line| line.number == number)
}

/// The snapshots of `host` that may be taken without being named, newest first.
pub(crate) fn takeable<'v>(vault: &'v Vault, host: &HostId) -> impl Iterator<Item = &'v KnownSnapshot> {
    let all = vault.history.snapshots(host).iter().rev();
    all.filter(|s| s.is_usable() && s.record.kind == SnapshotKind::Normal)
}

/// Components with these names and their numbers, where this host's snapshots are meant and its naming key is here.
pub(crate) fn numbered(session: &Session, names: &[String]) -> Vec<(String, u64)> {
    if names.is_empty() || session.around.hosts != HostChoice::Own || session.host.is_none() {
        return Vec::new();
    }
    let Some(key) = session.naming() else { return Vec::new() };
    // A name that is none is in no snapshot: whoever looks for it there says so.
    let names = names.iter().filter_map(|name| name.parse::<ComponentName>().ok());
    names.map(|name| (name.to_string(), component_number(&key, &name))).collect()
}

/// The components that the text of a configuration names.
pub(crate) fn configured(text: &str) -> Vec<ComponentName> {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let all = table.get("component").and_then(toml::Value::as_array);
    let name = |component: &toml::Value| component.get("name")?.as_str()?.parse().ok();
    all.into_iter().flatten().filter_map(name).collect()
}

/// The same with their numbers. None where `key` is no naming key.
pub(crate) fn configured_numbers(text: &str, key: &str) -> Option<Vec<(ComponentName, u64)>> {
    let key = NamingKey::parse(key)?;
    let numbered = |name: ComponentName| {
        let number = component_number(&key, &name);
        (name, number)
    };
    Some(configured(text).into_iter().map(numbered).collect())
}

/// The components that PATH arguments name: by their first part or, for a path of this machine, by the configuration.
pub(crate) fn named_by(session: &Session, paths: &[String]) -> Vec<String> {
    let mut names: Vec<String> = paths.iter().filter_map(|path| component_of(session, path)).collect();
    names.sort();
    names.dedup();
    names
}

fn component_of(session: &Session, path: &str) -> Option<String> {
    if !is_live(path) {
        return path.split('/').next().map(str::to_owned);
    }
    let path = tidy(Path::new(path)).ok()?;
    let all = session.config.as_ref()?.components.iter();
    let holding = all.filter_map(|component| Some((depth_in(component, &path)?, component)));
    holding.max_by_key(|(depth, _)| *depth).map(|(_, component)| component.name.to_string())
}

/// How deep the path of `component` lies that `path` is at or below.
fn depth_in(component: &Component, path: &Path) -> Option<usize> {
    let within = |own: &PathBuf| {
        // The current directory comes without symbolic links, the configuration's paths perhaps with them.
        let real = own.canonicalize().ok();
        let beside = own.parent().and_then(|above| Some(above.canonicalize().ok()?.join(own.file_name()?)));
        [Some(own.clone()), real, beside].into_iter().flatten().any(|own| path.starts_with(own))
    };
    let paths = component_paths(component).into_iter().filter(within);
    paths.map(|own| own.components().count()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_its_components_also_where_the_rest_cannot_be_used() {
        let text = "x = 1\n[[component]]\nname = \"db\"\n[[component]]\nname = \"NO NAME\"\n[[component]]\npath = \"a\"\n[[component]]\nname = \"web\"\n";
        let names: Vec<String> = configured(text).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["db", "web"]);
        assert!(configured("no [ toml").is_empty() && configured("").is_empty());
        assert!(configured_numbers(text, "no key").is_none());
    }
}

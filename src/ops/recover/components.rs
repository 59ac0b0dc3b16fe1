//! Where the configuration of the new machine looks for components.
//!
//! An absolute path into the old project's folder would let the next backup put the old machine's files into the history that goes on here.

use super::config::{Edited, Raw};
use super::place::Places;
use crate::config::edit::{self, At, quoted};
use crate::config::{Config, Spec};
use std::path::{Path, PathBuf};

/// Lets absolute paths into the old project's folder lead into the new one.
pub(super) fn moved(text: &str, raw: &Raw, places: &Places, notes: &mut Vec<String>) -> Edited<String> {
    let mut text = text.to_owned();
    for (number, component) in raw.list("component").into_iter().enumerate() {
        let name = component.get("name").and_then(toml::Value::as_str).unwrap_or_default();
        for key in ["path", "sqlite", "paths"] {
            if let Some(value) = component.get(key).and_then(|value| new_value(value, places)) {
                text = edit::set(&text, At::Item("component", number), key, &value)?;
                notes.push(format!(
                    "`{key}` of component {name} led into {} and leads into {} now",
                    places.was.display(),
                    places.project.display()
                ));
            }
        }
    }
    Ok(text)
}

/// A path or a list of paths, as TOML; none when nothing in it changes.
fn new_value(value: &toml::Value, places: &Places) -> Option<String> {
    let Some(all) = value.as_array() else {
        return new_path(value.as_str()?, places).map(|path| quoted(&path));
    };
    if !all.iter().any(|item| item.as_str().is_some_and(|path| new_path(path, places).is_some())) {
        return None;
    }
    let item = |item: &toml::Value| match item.as_str().and_then(|path| new_path(path, places)) {
        Some(path) => quoted(&path),
        None => item.to_string(),
    };
    Some(format!("[{}]", all.iter().map(item).collect::<Vec<_>>().join(", ")))
}

fn new_path(path: &str, places: &Places) -> Option<String> {
    let rest = Path::new(path).strip_prefix(&places.was).ok().filter(|_| places.was != places.project)?;
    // No slash at the end, which joining nothing would leave.
    let new = if rest.as_os_str().is_empty() { places.project.clone() } else { places.project.join(rest) };
    new.to_str().map(str::to_owned)
}

/// Components that are at their places by their paths in the snapshot, but not by the configuration, and where that looks for them.
pub(super) fn astray(config: &Config, places: &Places) -> Vec<(String, PathBuf)> {
    let mut astray = Vec::new();
    for place in places.components.iter().filter(|c| c.at_its_place) {
        let Some(component) = config.components.iter().find(|c| c.name.as_str() == place.name) else {
            continue;
        };
        let old = |path: &&PathBuf| path.starts_with(&places.was) && !path.starts_with(&places.project);
        let found = match &component.spec {
            Spec::Folder { path } if !place.single => Some(path.clone()),
            Spec::Folder { path } | Spec::Sqlite { path, .. } => path.parent().map(Path::to_owned),
            Spec::Paths { paths } if places.was != places.project => paths.iter().find(old).cloned(),
            _ => None,
        };
        let found = found.filter(|path| *path != place.to);
        astray.extend(found.map(|path| (place.name.clone(), path)));
    }
    astray
}

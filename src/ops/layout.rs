//! Where components lie on this machine, and what of one belongs to another.

use crate::config::{Component, Config, Control, Place, Service, Spec, StoreConfig};
use crate::model::entry::Why;
use crate::ops::error::Result;
use crate::ops::session::Session;
use crate::source::folder::{FolderSpec, What};
use std::path::{Path, PathBuf};

/// The directory that a component's paths are relative to, and whether the component is one file.
pub fn base_of(component: &Component, config: Option<&Config>) -> (PathBuf, bool) {
    let dir = config.map_or_else(PathBuf::new, |c| c.dir.clone());
    match &component.spec {
        Spec::Folder { path } if path.is_file() => (parent_of(path), true),
        Spec::Folder { path } => (path.clone(), false),
        Spec::Paths { .. } => (dir, false),
        Spec::Sqlite { path, .. } => (parent_of(path), true),
        Spec::Command { .. } | Spec::Postgres { .. } => (dir, true),
    }
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// What the walk of a folder or list component must know.
pub fn folder_spec(component: &Component, all: &[Component], session: &Session) -> Result<FolderSpec> {
    let config = session.config()?;
    let (base, single) = base_of(component, Some(config));
    let what = match &component.spec {
        Spec::Folder { path } if single => What::Single(path.clone()),
        Spec::Paths { paths } => What::List(paths.clone()),
        _ => What::Tree,
    };
    // First, so that a pattern of the configuration brings it back.
    let mut exclude = pid_files(component, &config.services, &base);
    exclude.extend(component.exclude.iter().cloned());
    Ok(FolderSpec {
        component: component.name.to_string(),
        base,
        what,
        exclude,
        exclude_from: component.exclude_from.clone(),
        exclude_caches: component.exclude_caches,
        exclude_if_present: component.exclude_if_present.clone(),
        one_file_system: component.one_file_system,
        allow_unreadable: component.allow_unreadable.clone(),
        nested: nested(component, all, config),
    })
}

/// Patterns for the pid files of services that lie in a folder of `component`, whose paths are relative to `base`. The number of a process is true until
/// that ends: put back later it is the number of whoever has it then. One that a list of paths names by itself is taken, as whatever is named is.
fn pid_files(component: &Component, services: &[Service], base: &Path) -> Vec<String> {
    let folders = component_paths(component);
    let files = services.iter().filter_map(|service| match &service.control {
        Control::Commands { pid_file, .. } => pid_file.as_deref(),
        Control::Systemd { .. } | Control::Compose(_) => None,
    });
    let inside = |file: &&Path| folders.iter().any(|folder| *file != folder && file.starts_with(folder));
    let relative = files.filter(inside).filter_map(|file| file.strip_prefix(base).ok()?.to_str());
    let mut patterns: Vec<String> = relative.map(pattern_of).collect();
    patterns.sort();
    patterns.dedup();
    patterns
}

/// The gitignore pattern that means `path` of the component and nothing else.
fn pattern_of(path: &str) -> String {
    let mut pattern = String::from("/");
    for c in path.chars() {
        if matches!(c, '\\' | '*' | '?' | '[' | ']' | '{' | '}' | ' ') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Paths that a walk of `component` must not enter, and why.
fn nested(component: &Component, all: &[Component], config: &Config) -> Vec<(PathBuf, Why)> {
    let own = component_paths(component);
    let mut nested = Vec::new();
    for other in all.iter().filter(|c| c.name != component.name) {
        let why = Why::Component;
        nested.extend(component_paths(other).into_iter().filter(|p| !own.contains(p)).map(|p| (p, why)));
        if let Spec::Sqlite { path, .. } = &other.spec {
            nested.extend(sidecars(path).map(|p| (p, Why::Sidecar)));
        }
    }
    nested.extend(config.stores.iter().filter_map(store_path).map(|path| (path.to_owned(), Why::Store)));
    nested.push((config.state_dir.clone(), Why::State));
    nested
}

/// The paths that a component protects.
pub fn component_paths(component: &Component) -> Vec<PathBuf> {
    match &component.spec {
        Spec::Folder { path } | Spec::Sqlite { path, .. } => vec![path.clone()],
        Spec::Paths { paths } => paths.clone(),
        Spec::Command { .. } | Spec::Postgres { .. } => Vec::new(),
    }
}

/// The folder of a store; none of one in a bucket.
pub fn store_path(store: &StoreConfig) -> Option<&Path> {
    match &store.place {
        Place::Path(path) => Some(path),
        Place::Url(_) => None,
    }
}

/// The files that SQLite keeps beside a database.
pub fn sidecars(database: &Path) -> impl Iterator<Item = PathBuf> {
    ["-wal", "-shm", "-journal"].into_iter().map(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::folder::Excluded;

    #[test]
    fn the_pattern_of_a_pid_file_means_that_file_and_no_other() {
        let path = |text: &str| crate::model::RelPath::new(text.as_bytes()).unwrap();
        for name in
            ["run/app.pid", "a b.pid", "a .pid ", "[x].pid", "{x,y}.pid", "*.pid", "a: b.pid", "!x", "a\\b"]
        {
            let excluded = Excluded::from_patterns(&[pattern_of(name)]);
            assert!(excluded.covers(&path(name), false), "{name}: {}", pattern_of(name));
            for other in ["x.pid", "y.pid", "app.pid", &format!("deep/{name}")] {
                assert!(!excluded.covers(&path(other), false), "{name}: {other}");
            }
        }
    }
}

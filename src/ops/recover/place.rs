//! Where components go.

use super::RecoverOptions;
use super::parts::Parts;
use super::work::Begun;
use crate::model::index::{ComponentKind, IndexComponent};
use crate::ops::error::{Class, Doing, OpError, Result};
use std::io;
use std::path::{Path, PathBuf};

/// Folder of what has no place in the project's folder.
const OUTSIDE: &str = "outside";

/// Where one component goes.
#[derive(Debug, Clone)]
pub(super) struct ComponentPlace {
    pub(super) name: String,
    pub(super) kind: ComponentKind,
    /// It is one file.
    pub(super) single: bool,
    /// The folder that its paths are relative to.
    pub(super) to: PathBuf,
    /// Whether the configuration will look for it there.
    pub(super) at_its_place: bool,
    /// Where it was.
    pub(super) was: PathBuf,
    /// Where paths outside of `to` go, for a list of paths: `/`, or a folder beside.
    pub(super) root: PathBuf,
    /// The folder from which on no link to `to` is followed: what is below it came from the snapshot.
    pub(super) top: PathBuf,
    /// The folder that it goes to when the way to its place is blocked.
    pub(super) beside: PathBuf,
    /// What a person does about a component that is not at its place, where it is not that it lay outside of the project.
    pub(super) step: Option<String>,
}

impl ComponentPlace {
    /// The component is in `beside` and not at its place: no link on the way there was followed, or this user may not write there.
    pub(super) fn put_beside(&mut self, beside: &Path, denied: bool) {
        let (name, to) = (&self.name, self.to.display());
        let why = match denied {
            true => "this user may not write there; as one who may, move",
            false => {
                "a symbolic link, or something else that is no folder, is on the way, and no link is followed; put"
            }
        };
        self.step = Some(format!(
            "component {name} could not go to {to}: {why} what is in {} where it belongs before the next backup",
            beside.display()
        ));
        beside.clone_into(&mut self.to);
        self.at_its_place = false;
    }

    /// The configuration looks for the component at `path`.
    pub(super) fn looked_for_at(&mut self, path: &Path) {
        self.step = Some(format!(
            "component {} is in {}, but the configuration looks for it at {}: change the one or the other before the next backup",
            self.name,
            self.to.display(),
            path.display()
        ));
        self.at_its_place = false;
    }
}

/// Where everything goes.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The project's folder.
    pub(super) project: PathBuf,
    /// The configuration file.
    pub(super) config: PathBuf,
    /// Where the project's folder was.
    pub(super) was: PathBuf,
    pub(super) components: Vec<ComponentPlace>,
}

impl Places {
    /// Decides, and looks whether the way is free. `begun` is an interrupted run for the same folder.
    pub(super) fn of(options: &RecoverOptions, parts: &Parts, begun: Option<&Begun>) -> Result<Self> {
        let index = &parts.index;
        let config = PathBuf::from(&index.header.config_path);
        let (Some(was), Some(file)) = (config.parent().filter(|p| p.is_absolute()), config.file_name())
        else {
            let what = "the snapshot does not say where its configuration was";
            return Err(OpError::new(Class::Damage, what)
                .hint("`backstay --kit KIT restore ID --to DIR` brings its data back"));
        };
        if let Some(unknown) = options.only.iter().find(|name| index.component(name).is_none()) {
            return Err(unknown_component(unknown, parts));
        }
        let project = options.to.clone().unwrap_or_else(|| was.to_owned());
        let places =
            Self { config: project.join(file), was: was.to_owned(), components: Vec::new(), project };
        places.check_free(options, begun)?;
        let wanted = |c: &&IndexComponent| {
            options.only.is_empty() || options.only.iter().any(|name| name == c.name.as_str())
        };
        let mut components: Vec<ComponentPlace> =
            index.components.iter().filter(wanted).map(|c| places.component(options, c)).collect();
        // What others lie in comes first, so that it comes whole, with its own owner and mode.
        components.sort_by_key(|c| c.to.components().count() + usize::from(c.single));
        let tops: Vec<PathBuf> = components.iter().map(|c| c.to.clone()).collect();
        for place in components.iter_mut().filter(|c| !c.to.starts_with(&places.project)) {
            place.top = tops.iter().find(|top| place.to.starts_with(top)).unwrap_or(&place.to).clone();
        }
        Ok(Self { components, ..places })
    }

    /// Nothing may be in the way of a new recovery.
    fn check_free(&self, options: &RecoverOptions, begun: Option<&Begun>) -> Result<()> {
        let same = |b: &Begun| b.in_place == options.in_place && b.only == options.only;
        if let Some(begun) = begun {
            if same(begun) {
                return Ok(());
            }
            let what =
                format!("an interrupted recovery with other options lies in {}", self.project.display());
            return Err(OpError::new(Class::Usage, what).hint(
                "run it again with the options it was begun with; or name another new folder with --to",
            ));
        }
        let taken = |why: String, hint: &str| Err(OpError::new(Class::Usage, why).hint(hint));
        if self.config.symlink_metadata().is_ok() {
            let why =
                format!("{} is there already, and nothing is ever written over it", self.config.display());
            return taken(
                why,
                "a project that is set up needs no recovery: `backstay restore` brings data back; or name a new folder with --to",
            );
        }
        let Some(to) = options.to.as_ref().filter(|to| to.symlink_metadata().is_ok()) else {
            return Ok(());
        };
        // A run that was killed right at its beginning left its own folder, with nothing in it that counts.
        let own = |entry: &io::Result<std::fs::DirEntry>| {
            entry.as_ref().is_ok_and(|entry| entry.file_name() == super::work::FOLDER)
        };
        let empty = std::fs::read_dir(to).map(|entries| entries.filter(|entry| !own(entry)).count() == 0);
        if empty.doing(Class::Usage, || format!("{} is not a folder that can be used", to.display()))? {
            return Ok(());
        }
        let why = format!("{} is not empty", to.display());
        taken(why, "name a folder that does not exist yet; nothing is ever recovered over something")
    }

    fn component(&self, options: &RecoverOptions, component: &IndexComponent) -> ComponentPlace {
        let (name, was) = (component.name.to_string(), PathBuf::from(&component.base));
        let beside = self.project.join(OUTSIDE).join(&name);
        let command = component.kind == ComponentKind::Command;
        let plain = !was.components().any(|part| part == std::path::Component::ParentDir);
        let (to, at_its_place) = match was.strip_prefix(&self.was) {
            _ if !plain => (beside.clone(), false),
            // Output of a command has no place; it is fed to another command.
            _ if command => (beside.clone(), false),
            Ok(rest) if rest.as_os_str().is_empty() => (self.project.clone(), true),
            Ok(rest) => (self.project.join(rest), true),
            Err(_) if options.in_place => (was.clone(), true),
            Err(_) => (beside.clone(), false),
        };
        let root = if options.in_place { PathBuf::from("/") } else { beside.clone() };
        let (kind, single, top) = (component.kind, component.single, self.project.clone());
        ComponentPlace { name, kind, single, to, at_its_place, was, root, top, beside, step: None }
    }

    /// For people: where each component goes, with what `from` says of where it comes from.
    pub(super) fn lines(&self, from: &dyn Fn(&str) -> String) -> Vec<String> {
        let line = |c: &ComponentPlace| {
            let note = if c.at_its_place { "" } else { "  (not its place)" };
            format!("{:<12} {}{note}{}", c.name, c.to.display(), from(&c.name))
        };
        let mut lines: Vec<String> = self.components.iter().map(line).collect();
        lines.push(format!("{:<12} {} (backstay's configuration)", "", self.config.display()));
        lines
    }
}

/// Says that nothing that is taken holds a component, and what there is.
fn unknown_component(name: &str, parts: &Parts) -> OpError {
    let what = format!("there is no component {name:?} in snapshot {}", parts.record.snapshot);
    let mut names: Vec<&str> = parts.index.components.iter().map(|c| c.name.as_str()).collect();
    let held = parts.holders.iter().filter(|(_, holders)| !holders.is_empty()).map(|(name, _)| name.as_str());
    names.extend(held.filter(|name| !parts.from.contains_key(*name)));
    let hint = match parts.newest(name) {
        Some(newest) => {
            format!("the newest that holds it is {newest}: leave --snapshot away, or name that one")
        }
        None => format!("there are: {}", names.join(", ")),
    };
    OpError::new(Class::NotFound, what).hint(hint)
}

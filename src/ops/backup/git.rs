//! Git around a snapshot: looked at before it, kept by references after it, and, where that is wished, bundled into it.

use crate::config::{CommandLine, Component, Config, Spec};
use crate::model::ComponentName;
use crate::ops::backup::options::{BackupOptions, GitWish};
use crate::ops::backup::report::BackupReport;
use crate::ops::error::{Class, Doing, Result};
use crate::ops::git;
use crate::ops::session::Session;
use std::time::Duration;

/// The program's own command that writes a bundle.
pub const BUNDLE: &str = "__git-bundle";
const BUNDLE_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Makes a snapshot with `make`, with git around it where that is wished.
pub(super) fn around(
    session: &Session,
    options: &BackupOptions,
    components: &[&Component],
    make: impl FnOnce(&BackupOptions, &[&Component]) -> Result<BackupReport>,
) -> Result<BackupReport> {
    let Some(wish) = options.git else {
        return make(options, components);
    };
    let config = session.config()?;
    let mut trees = git::record(config, components)?;
    let bundles = match wish {
        GitWish::State => Vec::new(),
        GitWish::Bundle => bundles(session, config, &mut trees)?,
    };
    let components: Vec<&Component> = components.iter().copied().chain(&bundles).collect();
    let with = BackupOptions { trees, ..options.clone() };
    let mut report = make(&with, &components)?;
    crate::durable::crash::point("backup: before git's references");
    let name = options.tags.first().or(options.note.as_ref());
    let (kept, problems) = git::keep(&with.trees, &report.snapshot, name.map(String::as_str));
    for problem in &problems {
        session.around.progress.problem(problem);
    }
    report.git = kept;
    report.problems.extend(problems);
    Ok(report)
}

/// A component for the bundle of each repository: the output of a command of this program's.
fn bundles(session: &Session, config: &Config, trees: &mut [git::Found]) -> Result<Vec<Component>> {
    let mut made: Vec<Component> = Vec::new();
    for tree in trees {
        let taken =
            |name: &str| config.component(name).is_some() || made.iter().any(|c| c.name.as_str() == name);
        let names = (1..).map(|n: u32| if n == 1 { "git".to_owned() } else { format!("git-{n}") });
        let name = { names }.find(|name| !taken(name)).unwrap_or_default();
        let name: ComponentName = name.parse().doing(Class::Failed, || "cannot name a bundle".into())?;
        let words = [
            session.around.exe.display().to_string(),
            BUNDLE.into(),
            tree.repository.top.display().to_string(),
        ];
        let spec = Spec::Command {
            command: CommandLine::Args(words.into()),
            restore_command: None,
            check: None,
            env_file: None,
            timeout: BUNDLE_WITHIN,
            min_size: 1,
        };
        tree.state.bundle = Some(name.to_string());
        made.push(Component::plain(name, spec));
    }
    Ok(made)
}

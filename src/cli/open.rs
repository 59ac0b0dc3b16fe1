//! From global arguments to an open session.

use crate::cli::Terminal;
use crate::config::{self, Config};
use crate::keys::kit::Kit;
use crate::model::SystemClock;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::{HostChoice, Session, Surroundings};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory that the command works in.
pub(super) fn directory(terminal: &Terminal) -> Result<PathBuf> {
    let here =
        || std::env::current_dir().doing(Class::Failed, || "the current directory cannot be read".into());
    match &terminal.global.directory {
        None => here(),
        Some(dir) => {
            let joined = if dir.is_absolute() { dir.clone() } else { here()?.join(dir) };
            if !joined.is_dir() {
                return Err(OpError::new(Class::Usage, format!("{} is not a directory", dir.display())));
            }
            Ok(joined)
        }
    }
}

/// The configuration file that is meant.
pub(super) fn config_path(terminal: &Terminal) -> Result<PathBuf> {
    if let Some(path) = &terminal.global.config {
        return absolute(path);
    }
    let dir = directory(terminal)?;
    let named = std::env::var_os("BACKSTAY_CONFIG").filter(|_| terminal.global.directory.is_none());
    if let Some(path) = named {
        return absolute(Path::new(&path));
    }
    config::find(&dir).ok_or_else(|| {
        OpError::new(Class::Config, format!("there is no backstay.toml in {} or above", dir.display()))
            .hint("`backstay init` makes one; or name it with -c FILE")
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).doing(Class::Usage, || format!("{} is not a usable path", path.display()))
}

/// Reads the configuration, all mistakes at once.
pub(super) fn load_config(path: &Path) -> Result<Config> {
    let loaded = config::check_permissions(path).and_then(|()| Config::load(path));
    loaded.map_err(|e| {
        crate::cli::say(e.to_string().trim_end());
        OpError::new(Class::Config, format!("{} cannot be used", path.display()))
            .hint("every key is described in docs/configuration.md")
    })
}

/// What comes from outside of the configuration.
pub(super) fn surroundings(terminal: &Terminal) -> Result<Surroundings> {
    let global = &terminal.global;
    if global.store.len() > 1 {
        return Err(OpError::new(Class::Usage, "only `init` takes several --store"));
    }
    let hosts = match (&global.host, global.all_hosts) {
        (Some(name), _) => HostChoice::Named(name.clone()),
        (None, true) => HostChoice::All,
        (None, false) => HostChoice::Own,
    };
    let exe = std::env::current_exe().doing(Class::Failed, || "this program cannot find itself".into())?;
    Ok(Surroundings {
        clock: Arc::new(SystemClock),
        progress: Arc::clone(&terminal.shown) as _,
        interrupt: terminal.interrupt.clone(),
        exe,
        identity_files: global.identities.clone(),
        store: global.store.first().cloned(),
        hosts,
        wait: global.wait,
    })
}

/// Opens the project: by its configuration, or by a kit alone.
pub(super) fn session(terminal: &Terminal) -> Result<Session> {
    let around = surroundings(terminal)?;
    if let Some(kit) = &terminal.global.kit {
        return Session::open_kit(load_kit(kit)?, around);
    }
    let config = load_config(&config_path(terminal)?)?;
    Session::open(Arc::new(config), around)
}

fn load_kit(path: &Path) -> Result<Kit> {
    Kit::load(path).doing(Class::NoIdentity, || format!("the recovery kit {} cannot be used", path.display()))
}

/// Opens the project by its configuration, which writing needs.
pub(super) fn writing_session(terminal: &Terminal) -> Result<Session> {
    if terminal.global.kit.is_some() {
        return Err(OpError::new(Class::Usage, "this needs a configuration, and --kit gives none")
            .hint("leave --kit away, and run it in the project's folder"));
    }
    session(terminal)
}

//! From global arguments to an open session.

use crate::cli::Terminal;
use crate::config::{self, Config, ConfigErrors};
use crate::keys::passphrase::LockedError;
use crate::keys::{Kit, KitError};
use crate::model::clock::{Clock, SystemClock};
use crate::model::selector::moment;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::session::{HostChoice, Session, Surroundings};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration file that is meant. `-C` was followed already.
pub(super) fn config_path(terminal: &Terminal) -> Result<PathBuf> {
    if let Some(path) = one_config(terminal)? {
        return tidy(path);
    }
    let named = std::env::var_os("BACKSTAY_CONFIG").filter(|path| !path.is_empty());
    if let (Some(path), None) = (named, &terminal.global.directory) {
        return tidy(Path::new(&path));
    }
    let here = tidy(Path::new("."))?;
    config::find(&here).ok_or_else(|| {
        let what = format!("there is no {} in {} or above", config::FILE_NAME, here.display());
        OpError::new(Class::Config, what).hint("`backstay init` makes one; or name it with -c FILE")
    })
}

/// The configuration of `--config`. Only `agent` works on several projects.
pub(super) fn one_config(terminal: &Terminal) -> Result<Option<&PathBuf>> {
    match &terminal.global.config[..] {
        [] => Ok(None),
        [path] => Ok(Some(path)),
        _ => Err(OpError::new(Class::Usage, "--config was given more than once")
            .hint("run the command once for each project; only `agent` takes several")),
    }
}

fn tidy(path: &Path) -> Result<PathBuf> {
    let named = || format!("{:?} is not a usable path", path.display().to_string());
    crate::platform::place::tidy(path).doing(Class::Usage, named)
}

/// Reads the configuration, all mistakes at once.
pub(super) fn load_config(path: &Path) -> Result<Config> {
    Config::load(path).map_err(|e| config_error(path, e))
}

/// An error of the configuration at `path`: every mistake is a cause, with its line.
pub(super) fn config_error(path: &Path, error: ConfigErrors) -> OpError {
    let unusable = OpError::new(Class::Config, format!("{} cannot be used", path.display()));
    match error {
        ConfigErrors::Unsafe { why, hint, .. } => unusable.because(why).hint(hint),
        ConfigErrors::Mistakes { .. } => {
            unusable.because(error).hint("every key is described in docs/configuration.md")
        }
        _ => unusable.because(error).hint(
            "name the file with -c FILE or BACKSTAY_CONFIG, or run backstay in the project's folder; \
             `backstay init` makes one",
        ),
    }
}

/// What comes from outside of the configuration.
pub(super) fn surroundings(terminal: &Terminal) -> Result<Surroundings> {
    let global = &terminal.global;
    if global.store.len() > 1 {
        return Err(OpError::new(Class::Usage, "--store was given more than once")
            .hint("one store is read at a time; run the command once for each"));
    }
    let hosts = match (&global.host, global.all_hosts) {
        (Some(name), _) => HostChoice::Named(name.clone()),
        (None, true) => HostChoice::All,
        (None, false) => HostChoice::Own,
    };
    let exe = std::env::current_exe().doing(Class::Failed, || "this program cannot find itself".into())?;
    Ok(Surroundings {
        clock: clock(),
        progress: Arc::clone(&terminal.shown) as _,
        interrupt: terminal.interrupt.clone(),
        exe,
        identity_files: global.identities.clone(),
        store: global.store.first().cloned(),
        as_of: as_of(terminal)?,
        ask: crate::cli::secret::asker(),
        hosts,
        wait: global.wait,
    })
}

/// The moment that `--as-of` means: words as in `@TIME`, and days end when they end.
fn as_of(terminal: &Terminal) -> Result<Option<jiff::Timestamp>> {
    let Some(text) = &terminal.global.as_of else {
        return Ok(None);
    };
    let (now, zone) = (jiff::Timestamp::now(), jiff::tz::TimeZone::system());
    let moment = moment(text.trim_start_matches('@'), now, &zone);
    let unclear = || {
        OpError::new(Class::Usage, format!("--as-of {text:?} is no time"))
            .hint("write --as-of 2026-11-17 (the end of that day), --as-of 2026-11-17T12:00 or --as-of=-2h")
    };
    moment.map(Some).ok_or_else(unclear)
}

/// The machine's clock. In debug builds a test may say what time it is: a moment, or `@FILE` with one, which is read again each time, so that
/// time goes on while a process is stopped.
pub(super) fn clock() -> Arc<dyn Clock> {
    #[cfg(debug_assertions)]
    if let Ok(text) = std::env::var("BACKSTAY_TEST_NOW") {
        if let Some(file) = text.strip_prefix('@') {
            return Arc::new(FileClock(file.into()));
        }
        if let Ok(time) = text.parse() {
            return Arc::new(crate::model::clock::FixedClock(time));
        }
    }
    Arc::new(SystemClock)
}

/// A clock that a test turns: a file with the present moment. What cannot be read is the machine's clock.
#[cfg(debug_assertions)]
struct FileClock(PathBuf);

#[cfg(debug_assertions)]
impl Clock for FileClock {
    fn now(&self) -> jiff::Timestamp {
        let text = std::fs::read_to_string(&self.0).ok();
        text.and_then(|text| text.trim().parse().ok()).unwrap_or_else(jiff::Timestamp::now)
    }
}

/// What time it is.
pub(super) fn now() -> crate::model::Timestamp {
    clock().now()
}

/// Opens the project: by its configuration, or by a kit alone.
pub(super) fn session(terminal: &Terminal) -> Result<Session> {
    match &terminal.global.kit {
        Some(kit) => Session::open_kit(load_kit(kit)?, surroundings(terminal)?),
        None => of_config(terminal),
    }
}

/// Opens the project by its configuration, and says what is left open of it.
fn of_config(terminal: &Terminal) -> Result<Session> {
    let path = config_path(terminal)?;
    let session = Session::open(Arc::new(load_config(&path)?), surroundings(terminal)?)?;
    if let Some(state) = &session.state {
        for open in crate::ops::left_open::look(state.dir(), &state.lock(), session.around.clock.now()) {
            crate::cli::say(&format!("warning: {}: {}", open.what, open.way_out));
        }
    }
    if terminal.global.verbose {
        crate::cli::say(&format!("configuration {}", path.display()));
        for slot in &session.stores {
            crate::cli::say(&format!("store {} ({})", slot.name, slot.place));
        }
    }
    Ok(session)
}

pub(super) fn load_kit(path: &Path) -> Result<Kit> {
    Kit::load_asking(path, &*crate::cli::secret::asker()).map_err(|e| kit_error(path, e))
}

/// The same, and in what the text around the kit differs from it.
pub(super) fn load_kit_and_text(path: &Path) -> Result<(Kit, Vec<String>)> {
    // Read once: it may come out of a pipe.
    let text = Kit::text_of(path).map_err(|e| kit_error(path, e))?;
    let kit = Kit::parse_asking(&text, &*crate::cli::secret::asker()).map_err(|e| kit_error(path, e))?;
    let differing = kit.differing_copies(&text);
    Ok((kit, differing))
}

/// The error of a kit that cannot be used, with what to do.
pub(super) fn kit_error(path: &Path, e: KitError) -> OpError {
    let hint = match e {
        KitError::Locked(LockedError::Wrong) => "mind capital and small letters, and the keyboard's layout",
        KitError::Locked(LockedError::None) => {
            "type it on a terminal; or put it into a file that only you can read, and name that in BACKSTAY_PASSPHRASE_FILE"
        }
        KitError::Unreadable { .. } => "name the file that `backstay init` or `backstay kit -o FILE` wrote",
        KitError::NoBlock => "is it another file? an identity file is given with -i FILE",
        KitError::TooNew { .. } => "a newer backstay wrote it; upgrade this one",
        _ => "compare it with the printed kit, line by line",
    };
    OpError::new(Class::NoIdentity, format!("the recovery kit {} cannot be used", path.display()))
        .because(e)
        .hint(hint)
}

/// Opens the project of the configuration, whatever `--kit` names; with the same refusals as for writing.
pub(super) fn session_of_config(terminal: &Terminal) -> Result<Session> {
    refuse_as_of(terminal)?;
    let path = config_path(terminal)?;
    Session::open(Arc::new(load_config(&path)?), surroundings(terminal)?)
}

/// Opens the project by its configuration, where there is one; a store that is away is no reason not to.
pub(super) fn session_if_any(terminal: &Terminal) -> Result<Option<Session>> {
    let Ok(path) = config_path(terminal) else {
        return Ok(None);
    };
    let around = Surroundings { store: None, ..surroundings(terminal)? };
    match Session::open(Arc::new(load_config(&path)?), around) {
        Ok(session) => Ok(Some(session)),
        Err(e) if e.class == Class::Store => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens the project for what ends an unfinished rollback: that needs no store, which at boot may not be here yet.
pub(super) fn session_for_recovery(terminal: &Terminal) -> Result<Session> {
    let around = Surroundings { store: None, ..surroundings(terminal)? };
    let session = Session::open_anyway(Arc::new(load_config(&config_path(terminal)?)?), around)?;
    with_kit(terminal, session)
}

/// Opens the project of this machine for what puts a snapshot in the place of what is live: by its configuration, which says where things are; a kit
/// only opens the snapshot.
pub(super) fn session_going_back(terminal: &Terminal) -> Result<Session> {
    refuse_as_of(terminal)?;
    with_kit(terminal, of_config(terminal)?)
}

/// The same for a restore in place. A kit alone will do where no project is: then files go to where they were.
pub(super) fn session_in_place(terminal: &Terminal) -> Result<Session> {
    let named = !terminal.global.config.is_empty() || terminal.global.directory.is_some();
    match (&terminal.global.kit, config_path(terminal)) {
        (None, _) => session(terminal),
        (Some(_), Err(_)) if !named => session(terminal),
        (Some(_), Err(e)) => Err(e),
        (Some(_), Ok(path)) => of_config(terminal).and_then(|s| with_kit(terminal, s)).map_err(|e| {
            let hint = e.hint.clone().map(|hint| hint + "; ").unwrap_or_default();
            e.hint(format!(
                "{hint}{} says what is where; to use the kit alone, run it in another folder",
                path.display()
            ))
        }),
    }
}

fn with_kit(terminal: &Terminal, session: Session) -> Result<Session> {
    match &terminal.global.kit {
        Some(kit) => session.with_kit(load_kit(kit)?),
        None => Ok(session),
    }
}

fn refuse_as_of(terminal: &Terminal) -> Result<()> {
    if terminal.global.as_of.is_none() {
        return Ok(());
    }
    Err(OpError::new(Class::Usage, "--as-of is for reading: what stood before is never written")
        .hint("leave --as-of away"))
}

/// Opens the project by its configuration, which writing needs.
pub(super) fn writing_session(terminal: &Terminal) -> Result<Session> {
    refuse_as_of(terminal)?;
    if terminal.global.kit.is_some() {
        return Err(OpError::new(Class::Usage, "this needs a configuration, and --kit gives none")
            .hint("leave --kit away, and run it in the project's folder"));
    }
    session(terminal)
}

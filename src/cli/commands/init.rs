//! `init`: looks, proposes, asks, makes.

use crate::cli::args::InitArgs;
use crate::cli::{Terminal, ask, open, render, say};
use crate::config::propose::{Proposal, Proposed, What, propose};
use crate::config::{Config, FILE_NAME, Place, StoreConfig, UrlPlace, check_permissions};
use crate::model::SystemClock;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::init::{InitOptions, InitReport, clear_unfinished, run_into as set_up};
use std::error::Error as _;
use std::path::{Path, PathBuf};

/// Where backups go when nothing is said: in the project, because that is where people look.
const DEFAULT_STORE: &str = "backups";

/// Runs `init`.
pub(super) fn run(terminal: &Terminal, args: &InitArgs) -> Result<u8> {
    let dir = project_folder(args.dir.as_deref().unwrap_or(Path::new(".")))?;
    let config_path = match open::one_config(terminal)? {
        Some(path) => super::tidy(path)?,
        None => dir.join(FILE_NAME),
    };
    check_words(args)?;
    let fresh = config_path.symlink_metadata().is_err();
    let store = if fresh {
        check_place(&dir, &config_path)?;
        if args.replace_store.is_some() {
            return Err(OpError::new(
                Class::Usage,
                "there is no configuration yet, so no store of it is lost",
            )
            .hint("leave --replace-store away"));
        }
        new_store(terminal)?
    } else {
        check_existing(terminal, args, &open::load_config(&config_path)?)?;
        String::new()
    };
    let more = if fresh { terminal.global.store.get(1..).unwrap_or(&[]) } else { &[] };
    let more = more.iter().map(|place| store_place(place));
    let more_stores = more.collect::<Result<Vec<String>>>()?;
    clear_unfinished(&config_path)?;
    let (keys_root, state_root) = roots()?;
    let proposal = if fresh {
        agree(terminal, args, &dir, (store.as_str(), more_stores.as_slice()))?
    } else {
        Proposal::default()
    };
    let away = config_path.parent() != Some(&*dir);
    let (proposal, store) = if away { absolute(&dir, proposal, &store)? } else { (proposal, store) };
    let options = InitOptions {
        dir,
        config_path,
        keys_root,
        state_root,
        store,
        more_stores,
        replace_store: args.replace_store.clone(),
        create_bucket: args.create_bucket,
        interrupt: terminal.interrupt.clone(),
        recipients: args.recipients.clone(),
        offline_identity: args.offline_identity,
        kit: terminal.global.kit.as_deref().map(super::tidy).transpose()?,
        proposal,
    };
    // Those of the proposal were said with it.
    let said = if fresh { options.proposal.notes.len() } else { 0 };
    let mut report = InitReport::default();
    set_up(&options, &SystemClock, &mut report).map_err(|e| half_way(&report, &options.config_path, e))?;
    if terminal.global.json {
        render::json(&report)?;
    } else {
        tell(&report, said);
    }
    Ok(0)
}

/// What was made before it failed stays, and the next run takes it up. The same command would be refused then, so the way on is said.
fn half_way(report: &InitReport, config: &Path, error: OpError) -> OpError {
    if report.made.is_empty() {
        return error;
    }
    report.made.iter().for_each(|made| say(&format!("made {made}")));
    let way = match config.exists() {
        true => format!(
            "what was made stays; where a store is says `path` or `url` in {}: put it right there, then run `backstay init` again",
            config.display()
        ),
        false => "what was made stays, and the next `backstay init` takes it up".to_owned(),
    };
    let own = error.hint.clone().map(|hint| hint + "; ").unwrap_or_default();
    error.hint(format!("{own}{way}"))
}

fn project_folder(named: &Path) -> Result<PathBuf> {
    let found = std::fs::canonicalize(named).and_then(|dir| match dir.is_dir() {
        true => Ok(dir),
        false => Err(std::io::ErrorKind::NotADirectory.into()),
    });
    found
        .doing(Class::Usage, || format!("{} is not a folder", named.display()))
        .map_err(|e| e.hint("name the folder that the application lies in, or run `backstay init` there"))
}

fn check_words(args: &InitArgs) -> Result<()> {
    if args.offline_identity && !args.recipients.is_empty() {
        return Err(OpError::new(Class::Usage, "--offline-identity and --recipient exclude each other")
            .hint("with --recipient you hold the identity already, and none is made"));
    }
    Ok(())
}

/// As root: what would be written must be believed by later runs. Asked before anything is made.
fn check_place(dir: &Path, config_path: &Path) -> Result<()> {
    let parent = config_path.parent().unwrap_or(Path::new("/"));
    if !parent.is_dir() {
        let what = format!("there is no folder {} for the configuration", parent.display());
        return Err(OpError::new(Class::Usage, what).hint("make it first"));
    }
    check_permissions(parent).map_err(|e| {
        let why = open::config_error(parent, e);
        OpError::new(Class::Config, format!("as root, no configuration can be made in {}", parent.display()))
            .because(why.source().map(ToString::to_string).unwrap_or_default())
            .hint(format!(
                "run `backstay init` as the user whose application it is; or keep the configuration with root's: \
                 backstay init -c /etc/backstay/NAME.toml {}",
                dir.display()
            ))
    })
}

/// An existing configuration is completed, never changed: what is asked for must be what it says.
fn check_existing(terminal: &Terminal, args: &InitArgs, config: &Config) -> Result<()> {
    let there = |what: String, hint: &str| {
        let what = format!("{} is there already and {what}", config.path.display());
        Err(OpError::new(Class::Usage, what).hint(hint))
    };
    for asked in &terminal.global.store {
        let place = store_place(asked)?;
        if !config.stores.iter().any(|s| is_at(s, &place) || s.name == *asked) {
            let hint = "add a [[store]] with a `name` and that `path` or `url` to it (or change the `path` of one that was moved), then run `backstay init` again";
            return there(format!("names no store {place}"), hint);
        }
    }
    if let Some(asked) = args.recipients.iter().find(|r| !config.encryption.recipients.contains(r)) {
        return there(
            format!("does not name recipient {asked:?}"),
            "add it to `recipients` in its [encryption]; snapshots made from then on open with it",
        );
    }
    if args.offline_identity && config.encryption.identity_file.is_some() {
        return there(
            "names an identity file".into(),
            "remove `identity_file` from its [encryption], and move that file off this machine, with the kit",
        );
    }
    Ok(())
}

fn is_at(store: &StoreConfig, place: &str) -> bool {
    match &store.place {
        Place::Path(path) => path.as_path() == Path::new(place),
        Place::Url(own) => UrlPlace::parse(place).is_ok_and(|named| named.url() == own.url()),
    }
}

/// The store of a new configuration, as it will stand there.
fn new_store(terminal: &Terminal) -> Result<String> {
    match terminal.global.store.first() {
        None => Ok(DEFAULT_STORE.into()),
        Some(place) => store_place(place),
    }
}

/// A URL as it is; a path from here on made one from `/`.
fn store_place(named: &str) -> Result<String> {
    if UrlPlace::is_url(named) || named.starts_with("file:") {
        let wrong = |e| {
            // Without what was given: it may hold a password.
            OpError::new(Class::Usage, "--store cannot be used")
                .because(e)
                .hint("give the path of a folder, or a bucket as s3://BUCKET/PREFIX")
        };
        return UrlPlace::parse(named).map(|_| named.to_owned()).map_err(wrong);
    }
    Ok(super::tidy(Path::new(named))?.display().to_string())
}

/// Shows what was found and lets a person choose; without a terminal `--yes` must have been said.
fn agree(
    terminal: &Terminal,
    args: &InitArgs,
    dir: &Path,
    (store, more): (&str, &[String]),
) -> Result<Proposal> {
    let mut proposal = propose(dir);
    if !terminal.global.quiet {
        say(&format!("In {} this is worth protecting:", dir.display()));
        for component in &proposal.components {
            say(&format!("  {}", describe(component)));
        }
        if proposal.components.is_empty() {
            say("  nothing was found; name what to protect in backstay.toml");
        }
        for note in &proposal.notes {
            say(&format!("  note: {note}"));
        }
        let stores: Vec<&str> = std::iter::once(store).chain(more.iter().map(String::as_str)).collect();
        say(&format!("Snapshots will be kept in {}.", stores.join(" and in ")));
    }
    if args.yes {
        return Ok(proposal);
    }
    let mut kept = Vec::new();
    for component in proposal.components {
        match ask(&terminal.interrupt, &format!("Protect {}? [Y/n]", component.name)).as_deref() {
            None => {
                return Err(OpError::new(Class::Usage, "nobody is here to ask whether this is right").hint(
                    "look at the proposal above, then add --yes; backstay.toml can be changed at any time",
                ));
            }
            Some("n" | "N" | "no") => {}
            Some(_) => kept.push(component),
        }
    }
    if kept.is_empty()
        && ask(&terminal.interrupt, "Write a configuration that protects nothing yet? [y/N]")
            .is_none_or(|a| !a.starts_with(['y', 'Y']))
    {
        return Err(OpError::new(Class::Usage, "nothing was written")
            .hint("say --yes to take the proposal without being asked"));
    }
    proposal.components = kept;
    Ok(proposal)
}

/// For a configuration that lies elsewhere: what it names begins at the root, not beside it.
fn absolute(dir: &Path, mut proposal: Proposal, store: &str) -> Result<(Proposal, String)> {
    let whole = |path: &str| {
        let joined = if path == "." { dir.to_owned() } else { dir.join(path) };
        joined.into_os_string().into_string().map_err(|path| {
            OpError::new(Class::Usage, format!("{} has bytes that no configuration can hold", path.display()))
                .hint("keep the configuration in the project's folder")
        })
    };
    for component in &mut proposal.components {
        match &mut component.what {
            What::Folder(path) | What::Sqlite(path) => *path = whole(path)?,
            What::Paths(paths) => *paths = paths.iter().map(|p| whole(p)).collect::<Result<_>>()?,
        }
    }
    Ok((proposal, if store.is_empty() || UrlPlace::is_url(store) { store.to_owned() } else { whole(store)? }))
}

fn describe(component: &Proposed) -> String {
    let what = match &component.what {
        What::Folder(path) => format!("folder {path}"),
        What::Paths(paths) => format!("files {}", paths.join(", ")),
        What::Sqlite(path) => format!("SQLite database {path}, captured live and checked"),
    };
    let without: Vec<&str> = component.exclude.iter().map(|e| e.0.as_str()).collect();
    let without =
        if without.is_empty() { String::new() } else { format!(" (without {})", without.join(", ")) };
    format!("{:<12} {what}{without}", component.name)
}

/// Where keys and state of all projects of this user lie.
pub(super) fn roots() -> Result<(PathBuf, PathBuf)> {
    let home = || std::env::var_os("HOME").filter(|h| !h.is_empty()).map(PathBuf::from);
    let of = |variable: &str, below: &str| {
        let set = std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute());
        set.or_else(|| home().map(|home| home.join(below))).map(|p| p.join("backstay"))
    };
    let found = of("XDG_CONFIG_HOME", ".config").zip(of("XDG_STATE_HOME", ".local/state"));
    found.ok_or_else(|| {
        OpError::new(Class::Usage, "there is no place for the keys: HOME is not set")
            .hint("set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME")
    })
}

fn tell(report: &InitReport, said: usize) {
    for made in &report.made {
        say(&format!("made {made}"));
    }
    if report.made.is_empty() {
        say("everything that the configuration names is there; nothing was changed");
    }
    say("");
    match &report.kit {
        Some(kit) => {
            say(&format!("The recovery kit is {kit}"));
            say(
                "Print it and keep it OFF THIS MACHINE: without it, or the identity in it, nobody opens these backups.",
            );
            if report.identity_only_in_kit {
                say(
                    "The identity is in the kit and nowhere else. This machine cannot open its own backups. Move the kit away now.",
                );
            } else if !report.kit_opens {
                say(
                    "No identity is in it. Keep what opens the backups with it: the kit made first, or your own identity.",
                );
            }
        }
        None => say("No recovery kit was written now; make one with: backstay kit -o FILE"),
    }
    for note in report.notes.iter().skip(said) {
        say(&format!("note: {note}"));
    }
    if report.stores.len() < 2 && !report.stores.iter().any(|store| UrlPlace::is_url(store)) {
        say("Nothing is off this machine yet: keep the store, or a copy of it, on another disk or machine.");
    }
    say("");
    say("Next:  backstay backup");
}

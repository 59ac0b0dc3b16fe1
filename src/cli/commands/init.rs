//! `init`: looks, proposes, asks, makes.

use crate::cli::args::InitArgs;
use crate::cli::{Terminal, ask, open, render, say};
use crate::config::propose::{Proposal, Proposed, What, propose};
use crate::model::SystemClock;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::init::{InitOptions, InitReport, clear_unfinished, run as set_up};
use std::path::{Path, PathBuf};

/// Where backups go when nothing is said: in the project, because that is where people look.
const DEFAULT_STORE: &str = "backups";

/// Runs `init`.
pub fn run(terminal: &Terminal, args: &InitArgs) -> Result<u8> {
    let base = open::directory(terminal)?;
    let dir = match &args.dir {
        Some(dir) => base.join(dir),
        None => base,
    };
    let dir = std::fs::canonicalize(&dir).doing(Class::Usage, || {
        format!("{} is not a folder", dir.display())
    })?;
    let config_path = terminal
        .global
        .config
        .clone()
        .unwrap_or_else(|| dir.join("backstay.toml"));
    let config_path = std::path::absolute(&config_path).doing(Class::Usage, || {
        "the configuration's path cannot be used".into()
    })?;
    check_words(terminal, args)?;
    clear_unfinished(&config_path)?;
    let fresh = !config_path.exists();
    let store = chosen_store(terminal, &config_path, fresh)?;
    let proposal = if fresh {
        agree(terminal, args, &dir, &store)?
    } else {
        Proposal::default()
    };
    let (keys_root, state_root) = roots()?;
    let kit = match &terminal.global.kit {
        Some(kit) => Some(
            std::path::absolute(kit)
                .doing(Class::Usage, || "the kit's path cannot be used".into())?,
        ),
        None => None,
    };
    let options = InitOptions {
        dir,
        config_path,
        keys_root,
        state_root,
        store,
        recipients: args.recipients.clone(),
        offline_identity: args.offline_identity,
        kit,
        proposal,
    };
    let report = set_up(&options, &SystemClock)?;
    if terminal.global.json {
        render::json(&report);
    } else {
        tell(&report);
    }
    Ok(0)
}

fn check_words(terminal: &Terminal, args: &InitArgs) -> Result<()> {
    if args.offline_identity && !args.recipients.is_empty() {
        return Err(OpError::new(
            Class::Usage,
            "--offline-identity and --recipient exclude each other",
        )
        .hint("with --recipient you hold the identity already, and none is made"));
    }
    if terminal.global.store.len() > 1 {
        return Err(OpError::new(
            Class::Usage,
            "this version of backstay keeps one store a project",
        ));
    }
    if let Some(url) = terminal
        .global
        .store
        .iter()
        .find(|s| s.contains("://") || s.starts_with("file:"))
    {
        return Err(OpError::new(
            Class::Usage,
            format!("{url:?} is not a path, and this version of backstay stores in folders only"),
        )
        .hint("give a folder, best on another disk"));
    }
    Ok(())
}

/// The store of a new configuration; an existing one names its own.
fn chosen_store(terminal: &Terminal, config_path: &Path, fresh: bool) -> Result<String> {
    let asked = terminal.global.store.first();
    if !fresh {
        if let Some(asked) = asked {
            let config = open::load_config(config_path)?;
            let there = std::path::absolute(asked).ok();
            if !config.stores.iter().any(|s| {
                Some(crate::ops::layout::store_path(s)) == there.as_deref() || s.name == *asked
            }) {
                return Err(OpError::new(Class::Usage, "the configuration has a store already, and this version of backstay keeps one store a project")
                    .hint("change `path` in its [[store]], then run `backstay init` again"));
            }
        }
        return Ok(String::new());
    }
    match asked {
        None => Ok(DEFAULT_STORE.into()),
        Some(path) => {
            let absolute = std::path::absolute(path)
                .doing(Class::Usage, || format!("{path:?} is not a usable path"))?;
            Ok(absolute.display().to_string())
        }
    }
}

/// Shows what was found and lets a person choose; without a terminal `--yes` must have been said.
fn agree(terminal: &Terminal, args: &InitArgs, dir: &Path, store: &str) -> Result<Proposal> {
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
        say(&format!("Snapshots will be kept in {store}."));
    }
    if args.yes {
        return Ok(proposal);
    }
    let mut kept = Vec::new();
    for component in proposal.components {
        match ask(&format!("Protect {}? [Y/n]", component.name)).as_deref() {
            None => {
                return Err(OpError::new(Class::Usage, "nobody is here to ask whether this is right")
                    .hint("look at the proposal above, then add --yes; backstay.toml can be changed at any time"));
            }
            Some("n" | "N" | "no") => {}
            Some(_) => kept.push(component),
        }
    }
    if kept.is_empty()
        && ask("Write a configuration that protects nothing yet? [y/N]")
            .is_none_or(|a| !a.starts_with(['y', 'Y']))
    {
        return Err(OpError::new(Class::Usage, "nothing was written")
            .hint("say --yes to take the proposal without being asked"));
    }
    proposal.components = kept;
    Ok(proposal)
}

fn describe(component: &Proposed) -> String {
    let what = match &component.what {
        What::Folder(path) => format!("folder {path}"),
        What::Paths(paths) => format!("files {}", paths.join(", ")),
        What::Sqlite(path) => format!("SQLite database {path}, captured live and checked"),
    };
    let without: Vec<&str> = component.exclude.iter().map(|e| e.0.as_str()).collect();
    let without = if without.is_empty() {
        String::new()
    } else {
        format!(" (without {})", without.join(", "))
    };
    format!("{:<12} {what}{without}", component.name)
}

/// Where keys and state of all projects of this user lie.
fn roots() -> Result<(PathBuf, PathBuf)> {
    let home = || {
        std::env::var_os("HOME")
            .filter(|h| !h.is_empty())
            .map(PathBuf::from)
    };
    let of = |variable: &str, below: &str| {
        let set = std::env::var_os(variable)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute());
        set.or_else(|| home().map(|home| home.join(below)))
            .map(|p| p.join("backstay"))
    };
    let found = of("XDG_CONFIG_HOME", ".config").zip(of("XDG_STATE_HOME", ".local/state"));
    found.ok_or_else(|| {
        OpError::new(
            Class::Usage,
            "there is no place for the keys: HOME is not set",
        )
        .hint("set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME")
    })
}

fn tell(report: &InitReport) {
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
                say("Your own identity is not in it: keep that with it.");
            }
        }
        None => say("No recovery kit was written; make one with: backstay kit -o FILE"),
    }
    say(
        "Nothing is off this machine yet: keep the store, or a copy of it, on another disk or machine.",
    );
    say("");
    say("Next:  backstay backup");
}

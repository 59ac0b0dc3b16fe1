//! `recover`: shows what a kit found, asks, and brings a machine back.

use crate::cli::args::RecoverArgs;
use crate::cli::{Terminal, ask, confirm, exit, open, render, say};
use crate::model::Problem;
use crate::model::record::SnapshotKind;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::recover::{Found, FoundSnapshot, Looked, RecoverOptions, RecoverReport, look};
use std::fmt::Write as _;

/// So many snapshots are shown; `list` shows all.
const SHOWN: usize = 10;

/// The first step where the kit's key introduced nobody: after a backup it is too late.
const INTRODUCE_FIRST: &str = "BEFORE THE FIRST BACKUP: the new signing key is a stranger's. Let a key that signs for this host introduce it, on a machine that has one: backstay keys signer add KEY (`backstay keys list --json` here shows it). Without that the next backup begins the history of a new host";

/// Runs `recover`.
pub(super) fn run(terminal: &Terminal, args: &RecoverArgs) -> Result<u8> {
    if terminal.global.kit.is_some() || !terminal.global.config.is_empty() {
        return Err(OpError::new(Class::Usage, "`recover` takes the kit by itself, and no configuration")
            .hint("backstay recover KIT --to DIR"));
    }
    let (keys_root, state_root) = super::init::roots()?;
    let options = RecoverOptions {
        to: args.to.as_deref().map(super::tidy).transpose()?,
        in_place: args.in_place,
        only: args.only.clone(),
        snapshot: args.snapshot.clone(),
        ignore_owners: args.no_owners,
        keys_root,
        state_root,
    };
    let kit = open::load_kit(&args.kit_file)?;
    let looked = look(kit, open::surroundings(terminal)?, options)?;
    if !terminal.global.quiet {
        tell_found(&looked);
    }
    let named = choice(terminal, args, &looked)?;
    let found = looked.found.clone();
    let chosen = looked.choose(named.as_deref())?;
    say(&format!("\nSnapshot {} is taken. What is brought back, and where to:", chosen.snapshot()));
    chosen.plan().iter().for_each(|line| say(&format!("  {line}")));
    agree(terminal, args)?;
    let report = chosen.run()?;
    terminal.shown.end();
    if terminal.global.json {
        render::json(&serde_json::json!({ "found": found, "recovered": report }))?;
    } else {
        crate::cli::out(&text(&report))?;
    }
    super::say_after(terminal, &[render::problems_again(&report.problems)]);
    Ok(exit::code_of_problems(&report.problems))
}

/// Which snapshot: on a terminal a person may name another one.
fn choice(terminal: &Terminal, args: &RecoverArgs, looked: &Looked) -> Result<Option<String>> {
    if args.yes || args.snapshot.is_some() || looked.resumes().is_some() {
        return Ok(None);
    }
    let question = match &looked.found.taken {
        Some(id) => format!("Which snapshot? [{id}]"),
        None => "Which snapshot?".to_owned(),
    };
    Ok(ask(&terminal.interrupt, &question).filter(|answer| !answer.is_empty()))
}

fn agree(terminal: &Terminal, args: &RecoverArgs) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    say(
        "A new signing key is made here, and the kit's key introduces it in the stores. The old machine must make no snapshots any more.",
    );
    let declined = OpError::new(Class::Failed, "not confirmed; nothing was written");
    let nobody = OpError::new(Class::Usage, "nobody is here to ask whether this is right")
        .hint("look at what was found above, then add --yes");
    confirm(&terminal.interrupt, "Go ahead?", declined, nobody)
}

fn tell_found(looked: &Looked) {
    let found = &looked.found;
    say("The kit's stores:");
    for store in &found.stores {
        let how = store.problem.as_deref().unwrap_or("here");
        say(&format!("  {:<12} {}: {how}", store.name, store.location));
    }
    say("Hosts in them:");
    for host in &found.hosts {
        let name = host.name.as_deref().unwrap_or("(no name)");
        let own = if host.of_kit { "  <- the kit is of this one" } else { "" };
        let newest = host.newest.map(|t| format!(", newest {}", t.strftime("%Y-%m-%d %H:%M UTC")));
        let newest = newest.unwrap_or_default();
        let snapshots = render::count(host.snapshots, "snapshot");
        say(&format!("  {name:<12} {snapshots}, {} good{newest}{own}", host.good));
    }
    say("Snapshots, good ones first:");
    for snapshot in found.snapshots.iter().take(SHOWN) {
        say(&format!("  {}", line(found, snapshot)));
    }
    if found.snapshots.len() > SHOWN {
        say(&format!("  … and {} more (`backstay --kit KIT list`)", found.snapshots.len() - SHOWN));
    }
    match looked.resumes() {
        Some(id) => say(&format!("An interrupted recovery of {id} is gone on with.")),
        None => say(&format!("{}: {}", taken(found), found.why)),
    }
    found.history.iter().for_each(|line| say(&format!("  HISTORY NOT WHOLE: {line}")));
}

fn taken(found: &Found) -> String {
    found.taken.as_ref().map_or_else(|| "none is taken".to_owned(), |id| format!("{id} is taken"))
}

fn line(found: &Found, snapshot: &FoundSnapshot) -> String {
    let word = if snapshot.good { "good" } else { "NOT GOOD" };
    let why = snapshot.not_good_because.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let mark = if found.taken.as_ref() == Some(&snapshot.id) { "  <- taken" } else { "" };
    let size = render::size(snapshot.size);
    let kind = if snapshot.kind == SnapshotKind::Safety { ", safety (made by a rollback)" } else { "" };
    format!("{}  {word}{kind}, {} components, {size}{why}{mark}", snapshot.id, snapshot.components)
}

/// What was done, for people.
fn text(report: &RecoverReport) -> String {
    let mut out = String::new();
    // That nobody introduced the new key is no part of the data that is missing; it is said by itself.
    let of_the_key = |p: &Problem| !report.introduced && p.subject.starts_with("signing key ");
    let whole = report.problems.iter().all(|p| !p.is_failure() || of_the_key(p));
    let how = if whole { "is back" } else { "is back, BUT NOT ALL OF IT: see below" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "snapshot {} {how}", report.snapshot);
    if let Some(moments) = &report.moments {
        let _ = writeln!(out, "{moments}");
    }
    for component in &report.components {
        let checked = match component.databases_checked {
            0 => String::new(),
            n => format!(", {n} databases checked"),
        };
        let from = match component.snapshot == report.snapshot {
            true => String::new(),
            false => format!(", from {}", component.snapshot),
        };
        let _ = writeln!(
            out,
            "  {:<12} {} ({} files, {}{checked}{from})",
            component.name,
            component.to,
            component.files,
            render::size(component.bytes)
        );
    }
    let _ = writeln!(out, "configuration  {}", report.config);
    let _ = writeln!(out, "keys           {}", report.keys);
    let by = if report.introduced { "one of this host's" } else { "NEW, AND NOT INTRODUCED" };
    let _ = writeln!(out, "signing key    {} ({by})", report.signer);
    for path in &report.left {
        let _ = writeln!(out, "NOT MOVED TO ITS PLACE: {path}");
    }
    let _ = writeln!(out, "\nWhat to do now:");
    let first = (!report.introduced).then_some(INTRODUCE_FIRST);
    for (number, step) in first.into_iter().chain(report.next.iter().map(String::as_str)).enumerate() {
        let _ = writeln!(out, "{:>3}. {step}", number + 1);
    }
    out
}

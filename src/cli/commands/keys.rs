//! `keys`: what a change means is shown before it is made.

use crate::cli::args::{KeysArgs, KeysCommand, RoleWord, SignerCommand};
use crate::cli::{Terminal, confirm, exit, open, render, say, secret};
use crate::model::mark::Role;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::keys::{self, KeyPlan, KeyReport, KeysReport, NewSigner};
use crate::ops::session::Session;
use std::fmt::Write as _;

/// Runs `keys`.
pub(super) fn run(terminal: &Terminal, args: &KeysArgs) -> Result<u8> {
    // With `rotate` the kit is where the new identity goes, and no kit to read with.
    let session = match &args.command {
        KeysCommand::Rotate { .. } => open::session_of_config(terminal)?,
        _ => open::writing_session(terminal)?,
    };
    match &args.command {
        KeysCommand::List => {
            let report = keys::list(&session)?;
            super::show(terminal, &report, list)?;
            Ok(exit::code_of_problems(&session.troubles()))
        }
        KeysCommand::Add { recipient, yes } => {
            go(terminal, &session, keys::add(&session, recipient)?, yes.yes)
        }
        KeysCommand::Remove { recipient, yes } => {
            go(terminal, &session, keys::remove(&session, recipient)?, yes.yes)
        }
        KeysCommand::Rotate { replace, protect, yes } => {
            let kit = terminal.global.kit.as_deref().map(super::tidy).transpose()?;
            let passphrase = || secret::new(protect.new_passphrase_file.as_deref());
            let plan = keys::rotate(&session, replace.as_deref(), kit.as_deref(), &passphrase)?;
            go(terminal, &session, plan, yes.yes)
        }
        KeysCommand::Passphrase { remove, new_passphrase_file, yes } => {
            let file = new_passphrase_file.as_deref();
            protect(terminal, &session, *remove, file, yes.yes)
        }
        KeysCommand::Signer { command } => signer(terminal, &session, command),
    }
}

fn signer(terminal: &Terminal, session: &Session, command: &SignerCommand) -> Result<u8> {
    match command {
        SignerCommand::Trust { key, name, roles, yes } => {
            let mut roles: Vec<Role> = roles.iter().map(|role| role_of(*role)).collect();
            roles.sort_unstable();
            roles.dedup();
            let new = NewSigner { key: key.clone(), name: name.clone(), roles };
            go(terminal, session, keys::trust(session, &new)?, yes.yes)
        }
        SignerCommand::Add { key, yes } => go(terminal, session, keys::introduce(session, key)?, yes.yes),
        SignerCommand::Retire { key, last, yes } => {
            go(terminal, session, keys::retire(session, key, *last)?, yes.yes)
        }
        SignerCommand::Rotate { yes } => go(terminal, session, keys::rotate_signer(session)?, yes.yes),
    }
}

fn role_of(word: RoleWord) -> Role {
    match word {
        RoleWord::Host => Role::Host,
        RoleWord::Verify => Role::Verify,
        RoleWord::Prune => Role::Prune,
    }
}

fn go(terminal: &Terminal, session: &Session, plan: KeyPlan, yes: bool) -> Result<u8> {
    if let Some(config) = session.config.as_ref().filter(|_| !plan.lines().is_empty()) {
        say(&format!("{} changes:", config.path.display()));
        plan.lines().iter().for_each(|line| say(&format!("  {line}")));
    }
    plan.files().iter().for_each(|file| say(&format!("new file {file}")));
    if plan.marks() > 0 {
        say(&format!("{} into every store", render::count(plan.marks() as u64, "signed mark")));
    }
    plan.means.iter().for_each(|line| say(&format!("* {line}")));
    agree(terminal, yes)?;
    let report = plan.apply(session)?;
    super::show(terminal, &report, text)?;
    Ok(if report.behind.is_empty() { 0 } else { 4 })
}

fn agree(terminal: &Terminal, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let declined = OpError::new(Class::Failed, "not confirmed; nothing was changed");
    let nobody = OpError::new(Class::Usage, "this changes keys, and nobody is here to ask")
        .hint("look at what it means above, then add --yes");
    confirm(&terminal.interrupt, "Go ahead?", declined, nobody)
}

fn protect(
    terminal: &Terminal,
    session: &Session,
    remove: bool,
    file: Option<&std::path::Path>,
    yes: bool,
) -> Result<u8> {
    if remove {
        say("* whoever can read the identity file opens the snapshots then");
        agree(terminal, yes)?;
    }
    let passphrase = if remove { None } else { Some(secret::new(file)?) };
    let path = keys::protect(session, passphrase.as_ref())?;
    let path = path.display().to_string();
    let report = serde_json::json!({ "identity_file": path, "protected": !remove });
    let how = if remove { "has no passphrase any more" } else { "is protected by the passphrase now" };
    super::show(terminal, &report, |_| {
        format!(
            "{path} {how}\nThe recovery kit is another copy: it has a passphrase only if it was made with one.\n"
        )
    })?;
    Ok(0)
}

fn text(report: &KeyReport) -> String {
    let mut out = String::new();
    for file in &report.written {
        let _ = writeln!(out, "wrote {file}");
    }
    if let Some(kept) = &report.old_config {
        let _ = writeln!(out, "the configuration is changed; the old one is {kept}");
    }
    if report.marks > 0 {
        let _ = writeln!(out, "{} signed", render::count(report.marks, "mark"));
    }
    for store in &report.behind {
        let _ = writeln!(out, "NOT YET IN STORE {store}: the next backup or `backstay sync` brings it there");
    }
    out
}

fn list(report: &KeysReport) -> String {
    let mut out = String::from("Recipients: who can open what is made from now on\n");
    for row in &report.recipients {
        let here = match row.identity_here {
            Some(true) => "identity here",
            Some(false) => "identity elsewhere",
            None => "identity locked",
        };
        let newest = if row.opens_newest == Some(false) { "; NOT YET for the newest snapshot" } else { "" };
        let _ = writeln!(out, "  {}  {here}{newest}", row.recipient);
    }
    out.push_str("Signing keys: who is believed\n");
    for row in &report.signers {
        let roles: Vec<String> = row.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        let mut facts =
            vec![if roles.is_empty() { "host (introduced)".to_owned() } else { roles.join(", ") }];
        if row.own {
            facts.push("this host signs with it".into());
        } else if row.of_this_host {
            facts.push("of this host".into());
        }
        facts.extend(row.retired_after.map(|number| format!("RETIRED after entry {number}")));
        let name = row.name.as_deref().unwrap_or("-");
        let _ = writeln!(out, "  {}  {name:<16} {}", row.id, facts.join("; "));
    }
    out
}

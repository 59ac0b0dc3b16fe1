//! `kit`: printed on a terminal or into a private file, as text and as codes; and proved.

use super::{say_after, show, tidy};
use crate::cli::args::{KitArgs, KitCommand};
use crate::cli::{Terminal, open, out, qr, render, say, secret};
use crate::keys::Kit;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::kit_place::refuse_in_store;
use crate::ops::kit_verify::{self, KitReport};
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use zeroize::Zeroizing;

/// Runs `kit`.
pub(super) fn run(terminal: &Terminal, args: &KitArgs) -> Result<u8> {
    match &args.command {
        Some(KitCommand::Verify { file }) => verify(terminal, file),
        None => make(terminal, args),
    }
}

/// The kit holds private keys: a terminal or a private file, nothing else.
fn make(terminal: &Terminal, args: &KitArgs) -> Result<u8> {
    let to_terminal = args.output.is_none();
    if to_terminal && (!std::io::stdout().is_terminal() || terminal.global.json) {
        return Err(OpError::new(
            Class::Usage,
            "the recovery kit holds private keys and is not written into a pipe",
        )
        .hint("write it to a file that only you can read: backstay kit -o FILE"));
    }
    let session = open::writing_session(terminal)?;
    if let Some(path) = &args.output {
        let stores = session.config()?.stores.iter().map(|store| (&*store.name, &store.place));
        refuse_in_store(&tidy(path)?, stores)?;
    }
    let kit = crate::ops::kit::make(&session)?;
    let text = match secret::wanted(&args.protect)? {
        None => kit.render(),
        Some(passphrase) => {
            let locked = kit.render_locked(&passphrase);
            locked.doing(Class::Failed, || "the recovery kit cannot be protected".into())?
        }
    };
    match &args.output {
        None => {
            out(&text)?;
            if args.qr {
                out(&qr::for_terminal(&text)?)?;
            }
        }
        Some(path) => {
            let path = tidy(path)?;
            write(&text, &path)?;
            say(&format!(
                "the recovery kit is in {}; keep it off this machine, and print it",
                path.display()
            ));
            say(&format!(
                "then prove the print: type or scan it in, and run: backstay kit verify {}",
                path.display()
            ));
        }
    }
    if kit.identities.is_empty() {
        say("warning: no identity is on this machine, so this kit cannot open the backups; \
             keep the kit made by init, or your own identity, with it");
    }
    if terminal.global.json {
        let file = args.output.as_deref().map(tidy).transpose()?.map(|path| path.display().to_string());
        render::json(&serde_json::json!({ "kit": file, "opens": !kit.identities.is_empty() }))?;
    }
    Ok(0)
}

/// By the end of its name a file gets text, a page with text and codes, or a drawing of the codes.
fn write(text: &Zeroizing<String>, path: &Path) -> Result<()> {
    let cannot = || format!("cannot write the recovery kit to {}", path.display());
    if path.parent().is_some_and(|folder| !folder.is_dir()) {
        return Err(OpError::new(Class::Usage, cannot())
            .because("there is no such folder")
            .hint("make the folder first; is the stick or disk mounted?"));
    }
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
    let content = match end.as_deref() {
        Some("html" | "htm") => qr::page(text)?,
        Some("svg") => qr::drawing(text)?,
        _ => text.clone(),
    };
    match crate::keys::write_secret(path, &content) {
        Err(e @ crate::keys::KeyError::Exists { .. }) => Err(OpError::new(Class::Usage, cannot())
            .because(e)
            .hint("name a new file; delete the old kit when the new one is in its place")),
        written => written.doing(Class::Failed, cannot),
    }
}

fn verify(terminal: &Terminal, file: &Path) -> Result<u8> {
    let (kit, differing) = open::load_kit_and_text(file)?;
    let around = open::surroundings(terminal)?;
    let own = open::session_if_any(terminal)?;
    let own = own.as_ref().filter(|own| is_of(own, &kit));
    let report = kit_verify::run(&kit, differing, &around, own)?;
    show(terminal, &report, text)?;
    say_after(terminal, &[not_proved(&report)]);
    Ok(code(&report))
}

/// What must not be missed. A store that is only away says nothing against the kit.
fn not_proved(report: &KitReport) -> String {
    if report.good {
        return String::new();
    }
    let away: Vec<&str> = report.stores.iter().filter(|s| !s.tried).map(|s| &*s.name).collect();
    let rest_is_well = report.findings.is_empty() && report.stores.iter().all(|s| s.opens || !s.tried);
    if rest_is_well && !away.is_empty() {
        let away = away.join(", ");
        return format!(
            "NOT PROVED YET: it could not be tried in {away}; run this again when that is within reach"
        );
    }
    "THIS KIT IS NOT PROVED: see above".to_owned()
}

fn code(report: &KitReport) -> u8 {
    let tried: Vec<_> = report.stores.iter().filter(|store| store.tried).collect();
    match (report.good, tried.len() == report.stores.len()) {
        (true, _) => 0,
        // One that is here and that the kit does not open, or none that it opened: what is away changes nothing about that.
        _ if tried.is_empty() || tried.iter().any(|store| !store.opens) => 13,
        // It opens every store, but is not as things are now.
        (false, true) => 3,
        (false, false) if report.findings.is_empty() => 4,
        (false, false) => 3,
    }
}

/// A kit of another project is proved as one without a project.
fn is_of(own: &crate::ops::session::Session, kit: &Kit) -> bool {
    own.vault.as_ref().is_none_or(|vault| *vault == kit.vault)
}

fn text(report: &KitReport) -> String {
    let mut out = String::new();
    let day = report.printed.strftime("%Y-%m-%d %H:%M UTC");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "kit of {}, made {day}", report.project);
    for store in &report.stores {
        let how = match (&store.problem, &store.snapshot) {
            (Some(problem), _) if !store.tried => format!("could not be tried: {problem}"),
            (Some(problem), _) => format!("DOES NOT OPEN: {problem}"),
            (None, Some(id)) => {
                let piece =
                    store.piece_of.as_ref().map(|path| format!(", and {path} in it")).unwrap_or_default();
                format!("opens {id}{piece}")
            }
            (None, None) => "opens".to_owned(),
        };
        let _ = writeln!(out, "  {} ({}): {how}", store.name, store.location);
    }
    let introduces = match report.signing_key {
        true => "its signing key may introduce a new machine",
        false if report.stores.iter().any(|store| store.opens) => "its signing key introduces nobody",
        false => "whether its signing key may introduce a new machine was not found out",
    };
    let _ = writeln!(out, "  {introduces}");
    for finding in &report.findings {
        let _ = writeln!(out, "  NOT AS IT SHOULD BE: {finding}");
    }
    for note in &report.notes {
        let _ = writeln!(out, "  {note}");
    }
    match (report.good, report.remembered) {
        (true, true) => out.push_str("this kit is proved; that is remembered\n"),
        (true, false) => out.push_str(
            "this kit is proved (run in the project's folder it would be remembered, and reminders stop)\n",
        ),
        (false, _) => {}
    }
    out
}

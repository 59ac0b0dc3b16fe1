//! Passphrases: typed on a terminal without being shown, or read from a file that BACKSTAY_PASSPHRASE_FILE names. Never an argument.

use crate::cli::args::NewPassphrase;
use crate::cli::say;
use crate::keys::passphrase::{Ask, Passphrase};
use crate::ops::error::{Class, Doing, OpError, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::SIGINT;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

const VARIABLE: &str = "BACKSTAY_PASSPHRASE_FILE";
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const LONGEST: usize = 4096;

/// Gives passphrases of what is there already.
pub(super) fn asker() -> Arc<Ask> {
    Arc::new(|what: &str| match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => match Passphrase::read(Path::new(&path)) {
            Ok(passphrase) => Some(passphrase),
            Err(e) => {
                say(&format!("warning: no passphrase can be read from {VARIABLE}: {e}"));
                None
            }
        },
        None => typed(&format!("Passphrase of {what}: ")).ok(),
    })
}

/// The passphrase that something new is to get; `None` when none was asked for.
pub(super) fn wanted(options: &NewPassphrase) -> Result<Option<Passphrase>> {
    match (&options.new_passphrase_file, options.passphrase) {
        (Some(_), _) | (None, true) => new(options.new_passphrase_file.as_deref()).map(Some),
        (None, false) => Ok(None),
    }
}

/// A new passphrase: from a file, or typed twice.
pub(super) fn new(file: Option<&Path>) -> Result<Passphrase> {
    if let Some(file) = file {
        return Passphrase::read(file)
            .doing(Class::Usage, || format!("no passphrase can be read from {}", file.display()));
    }
    let nobody = || {
        OpError::new(Class::Usage, "nobody is here to type a passphrase")
            .hint("put it into the first line of a file that only you can read: --new-passphrase-file FILE")
    };
    say(
        "Whoever forgets this passphrase has lost what it protects. Several words are better than odd characters.",
    );
    let typed = |prompt: &str| match typed(prompt) {
        Ok(passphrase) => Ok(passphrase),
        Err(Untyped::Interrupted) => {
            Err(OpError::new(Class::Interrupted, "interrupted").hint("nothing was changed"))
        }
        Err(Untyped::Nobody) => Err(nobody()),
    };
    let first = typed("New passphrase: ")?;
    let second = typed("The same again: ")?;
    if first != second {
        return Err(OpError::new(Class::Usage, "the two passphrases differ; nothing was changed"));
    }
    Ok(first)
}

/// Gives the terminal its old ways back, whatever happens.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _as_it_is = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
        let _unheard = self.terminal.write_all(b"\n");
    }
}

/// Why nothing was typed.
enum Untyped {
    /// There is no terminal, or its input ended.
    Nobody,
    /// Somebody wants the program to end.
    Interrupted,
}

fn typed(prompt: &str) -> std::result::Result<Passphrase, Untyped> {
    match keys_of_terminal(prompt) {
        Some(Keys::Line(bytes)) => {
            let text = std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()));
            text.and_then(Passphrase::new).ok_or(Untyped::Nobody)
        }
        Some(Keys::Interrupt) => {
            // As if the terminal had sent it, now that it shows again what is typed. Where it cannot be sent, nothing was typed all the same.
            let _sent = signal_hook::low_level::raise(SIGINT);
            Err(Untyped::Interrupted)
        }
        None => Err(Untyped::Nobody),
    }
}

enum Keys {
    Line(Zeroizing<Vec<u8>>),
    Interrupt,
}

fn keys_of_terminal(prompt: &str) -> Option<Keys> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    let before = tcgetattr(&terminal).ok()?;
    let mut quiet = before.clone();
    // Signals come as characters, too: nothing may end the program while the terminal does not show what is typed.
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&terminal, OptionalActions::Flush, &quiet).ok()?;
    let mut quiet = Quiet { terminal, before };
    quiet.terminal.write_all(prompt.as_bytes()).ok()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
    loop {
        let mut byte = [0];
        if quiet.terminal.read(&mut byte).ok()? == 0 || bytes.len() == LONGEST {
            return None;
        }
        match byte[0] {
            b'\n' | b'\r' => return Some(Keys::Line(bytes)),
            INTERRUPT => return Some(Keys::Interrupt),
            END => return None,
            // Backspace takes a whole character.
            8 | 127 => while bytes.pop().is_some_and(|gone| gone & 0xc0 == 0x80) {},
            other => bytes.push(other),
        }
    }
}

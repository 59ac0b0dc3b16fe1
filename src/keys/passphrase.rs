//! Texts that a passphrase protects: age files with a scrypt stanza, as `age -p` makes them. For identity files and kits, never for archives.
//!
//! A passphrase comes from a terminal, a file or a descriptor; never from an argument, and it is never shown.

use crate::keys::error::KeyError;
use crate::keys::file::{read_secret, read_secret_bytes, secret_text};
use age::secrecy::SecretString;
use data_encoding::BASE64;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a new file costs to try one passphrase: 2^18 rounds, 256 MiB, about a second.
const WORK: u8 = 18;
/// More than this is refused: a file from elsewhere must not take all memory (2^20 is 1 GiB).
const WORK_MAX: u8 = 20;
const BINARY: &[u8] = b"age-encryption.org/";
const ARMOR_BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const ARMOR_END: &str = "-----END AGE ENCRYPTED FILE-----";
/// More than this is no identity file and no kit.
const BYTES_MAX: usize = 4 << 20;

/// A passphrase; wiped when dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes what was typed. Must not be empty.
    pub fn new(text: Zeroizing<String>) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }

    /// The first line of a file that others cannot read, or of a pipe (`/dev/fd/3`).
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read_secret(path)?;
        let line = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
        Self::new(line).ok_or_else(|| KeyError::Empty { path: path.to_owned() })
    }

    fn secret(&self) -> SecretString {
        SecretString::from(self.0.as_str().to_owned())
    }
}

impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Asks for the passphrase of a thing that is named; `None` when there is nobody to ask.
pub type Ask = dyn Fn(&str) -> Option<Passphrase> + Send + Sync;

/// Nobody to ask.
pub fn nobody() -> Arc<Ask> {
    Arc::new(|_| None)
}

/// Why a protected text cannot be opened. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockedError {
    /// Nobody gave one.
    #[error("it is protected by a passphrase, and none was given")]
    None,
    /// It does not open.
    #[error("the passphrase is wrong")]
    Wrong,
    /// It was made to cost more than this program spends.
    #[error(
        "trying a passphrase on it costs 2^{0} rounds of scrypt, and no more than 2^{WORK_MAX} are spent"
    )]
    Work(u8),
    /// It is no age file with a passphrase, or is damaged.
    #[error("it is no whole age file that a passphrase opens")]
    Damaged,
    /// It could not be made.
    #[error("it could not be encrypted")]
    Failed,
}

/// True when `bytes` are an age file, binary or armored.
pub fn is_locked(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(bytes.len());
    bytes[start..].starts_with(BINARY) || bytes[start..].starts_with(ARMOR_BEGIN.as_bytes())
}

/// Protects `text` with `passphrase`: a binary age file.
pub fn lock(text: &str, passphrase: &Passphrase) -> Result<Vec<u8>, LockedError> {
    lock_with(text, passphrase, WORK)
}

/// The same with 2^`work` rounds.
#[doc(hidden)]
pub fn lock_with(text: &str, passphrase: &Passphrase, work: u8) -> Result<Vec<u8>, LockedError> {
    let mut recipient = age::scrypt::Recipient::new(passphrase.secret());
    recipient.set_work_factor(work);
    let recipients = std::iter::once(&recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|_| LockedError::Failed)?;
    let mut bytes = Vec::with_capacity(text.len() + 512);
    let mut writer = encryptor.wrap_output(&mut bytes).map_err(|_| LockedError::Failed)?;
    writer.write_all(text.as_bytes()).map_err(|_| LockedError::Failed)?;
    writer.finish().map_err(|_| LockedError::Failed)?;
    Ok(bytes)
}

/// Opens an age file, binary or armored, with `passphrase`.
pub fn unlock(bytes: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<String>, LockedError> {
    let binary = dearmor(bytes).ok_or(LockedError::Damaged)?;
    let work = work_of(&binary).ok_or(LockedError::Damaged)?;
    if work > WORK_MAX {
        return Err(LockedError::Work(work));
    }
    let decryptor = age::Decryptor::new(&binary[..]).map_err(|_| LockedError::Damaged)?;
    let mut identity = age::scrypt::Identity::new(passphrase.secret());
    identity.set_max_work_factor(WORK_MAX);
    let opened = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity));
    let mut reader = opened.map_err(|e| match e {
        age::DecryptError::DecryptionFailed
        | age::DecryptError::KeyDecryptionFailed
        | age::DecryptError::NoMatchingKeys => LockedError::Wrong,
        _ => LockedError::Damaged,
    })?;
    let mut text = Zeroizing::new(Vec::with_capacity(binary.len()));
    let read = (&mut reader).take(BYTES_MAX as u64).read_to_end(&mut text);
    read.map_err(|_| LockedError::Damaged)?;
    let text = std::str::from_utf8(&text).map_err(|_| LockedError::Damaged)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Asks for the passphrase of `what` and opens it; three tries where somebody types.
pub fn unlock_asking(bytes: &[u8], what: &str, ask: &Ask) -> Result<Zeroizing<String>, LockedError> {
    let mut before: Option<Passphrase> = None;
    for _ in 0..3 {
        let passphrase = ask(what).ok_or(LockedError::None)?;
        // A file gives the same answer again: it was wrong already.
        if before.as_ref() == Some(&passphrase) {
            break;
        }
        match unlock(bytes, &passphrase) {
            Err(LockedError::Wrong) => before = Some(passphrase),
            other => return other,
        }
    }
    Err(LockedError::Wrong)
}

/// The exponent of the scrypt stanza.
fn work_of(binary: &[u8]) -> Option<u8> {
    let header = &binary[..binary.len().min(4096)];
    let line = header.split(|b| *b == b'\n').nth(1)?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("-> scrypt ")?.split(' ').nth(1)?.parse().ok()
}

/// The binary form of `bytes`, which may be armored.
fn dearmor(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.starts_with(BINARY) {
        return Some(bytes.to_vec());
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let body = text.strip_prefix(ARMOR_BEGIN)?.strip_suffix(ARMOR_END)?;
    let body: String = body.split_whitespace().collect();
    BASE64.decode(body.as_bytes()).ok()
}

/// The armored form, as `age -a` writes it.
pub fn armor(binary: &[u8]) -> String {
    let body = BASE64.encode(binary);
    let mut text = format!("{ARMOR_BEGIN}\n");
    for line in body.as_bytes().chunks(64) {
        // Base64 is ASCII.
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(ARMOR_END);
    text.push('\n');
    text
}

/// Reads a private file that may be protected; asks for the passphrase when it is.
pub(crate) fn read_maybe_locked(path: &Path, ask: &Ask) -> Result<Zeroizing<String>, KeyError> {
    let bytes = read_secret_bytes(path)?;
    if !is_locked(&bytes) {
        return secret_text(path, &bytes);
    }
    let what = path.display().to_string();
    unlock_asking(&bytes, &what, ask).map_err(|source| KeyError::Locked { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    #[test]
    fn what_is_locked_opens_with_its_passphrase_alone() {
        let locked = lock_with("the text\n", &passphrase("correct horse"), 4).unwrap();
        assert!(is_locked(&locked) && !is_locked(b"AGE-SECRET-KEY-1X"));
        for form in
            [locked.clone(), armor(&locked).into_bytes(), format!("\n {}", armor(&locked)).into_bytes()]
        {
            assert_eq!(&*unlock(&form, &passphrase("correct horse")).unwrap(), "the text\n");
            assert_eq!(unlock(&form, &passphrase("wrong")), Err(LockedError::Wrong));
        }
        assert_eq!(Passphrase::new(Zeroizing::new(String::new())), None);
        assert!(!format!("{:?}", passphrase("correct horse")).contains("horse"));
    }

    #[test]
    fn a_file_cut_or_changed_anywhere_does_not_open() {
        let locked = lock_with("the text\n", &passphrase("p"), 1).unwrap();
        for end in 0..locked.len() {
            assert!(unlock(&locked[..end], &passphrase("p")).is_err(), "cut at {end}");
        }
        for at in 0..locked.len() {
            let mut changed = locked.clone();
            changed[at] ^= 1;
            assert!(unlock(&changed, &passphrase("p")).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_file_that_asks_for_too_much_work_is_refused_at_once() {
        let locked = lock_with("x", &passphrase("p"), 1).unwrap();
        let text = String::from_utf8_lossy(&locked).into_owned();
        let header = text.lines().nth(1).unwrap().to_owned();
        for work in ["21", "30", "63", "255"] {
            let (start, _) = header.rsplit_once(' ').unwrap();
            let costly = format!("{start} {work}");
            let mut changed = locked.clone();
            let at = locked.windows(header.len()).position(|w| w == header.as_bytes()).unwrap();
            changed.splice(at..at + header.len(), costly.bytes());
            assert_eq!(unlock(&changed, &passphrase("p")), Err(LockedError::Work(work.parse().unwrap())));
        }
    }

    #[test]
    fn who_types_has_three_tries_and_a_file_one() {
        let locked = lock_with("x", &passphrase("right"), 1).unwrap();
        static ASKED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let typing = |_: &str| {
            let n = ASKED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Some(passphrase(["wrong", "worse", "right"][n]))
        };
        assert_eq!(&*unlock_asking(&locked, "a file", &typing).unwrap(), "x");
        let file = |_: &str| {
            ASKED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Some(passphrase("wrong"))
        };
        assert_eq!(unlock_asking(&locked, "a file", &file), Err(LockedError::Wrong));
        assert_eq!(ASKED.load(std::sync::atomic::Ordering::SeqCst), 5);
        assert_eq!(unlock_asking(&locked, "a file", &|_| None), Err(LockedError::None));
    }
}

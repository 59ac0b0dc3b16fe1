//! Keys that come and go: who can open what is made from now on, and who is believed.
//!
//! What was sealed or signed before is never touched: each change says what it means for it.

mod list;
mod passphrase;
mod recipients;
mod signers;

pub use list::{KeysReport, RecipientRow, SignerRow, list};
pub use passphrase::protect;
pub use recipients::{add, remove, rotate};
pub use signers::{NewSigner, introduce, retire, rotate as rotate_signer, trust};

use crate::keys::{Passphrase, SecretIdentity, Signer};
use crate::model::HostId;
use crate::model::mark::{KeyAction, Statement};
use crate::ops::config_edit::Change;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::marks::{MarkedStore, Marks};
use crate::ops::session::Session;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A key file that is written before anything else.
enum KeyFile {
    /// A new file for private text.
    Text(PathBuf, Zeroizing<String>),
    /// A new signing key.
    Signer(PathBuf, Box<Signer>),
}

/// A change of keys that was worked out and is shown before it is made.
pub struct KeyPlan {
    files: Vec<KeyFile>,
    /// Marks, each with the key that signs it, before the configuration is changed.
    before: Vec<(Signer, Statement)>,
    change: Option<Change>,
    /// A key that another one retires at the end: old, new, and whose they are.
    retire: Option<(Signer, Signer, HostId)>,
    /// A kit that is written first, because the identity is nowhere else.
    kit: Option<(PathBuf, Box<crate::keys::Kit>)>,
    /// What it means, for what was made before and for what is made from now on.
    pub means: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct KeyReport {
    /// Files that were written.
    pub written: Vec<String>,
    /// Where the old configuration is kept.
    pub old_config: Option<String>,
    /// Marks that were signed.
    pub marks: u64,
    /// Stores that do not have them yet.
    pub behind: Vec<String>,
    /// What it means.
    pub means: Vec<String>,
}

impl KeyPlan {
    fn new(means: Vec<String>) -> Self {
        let (files, before) = Default::default();
        Self { files, before, change: None, retire: None, kit: None, means }
    }

    /// Lines that the configuration loses and gets.
    pub fn lines(&self) -> Vec<String> {
        self.change.as_ref().map(Change::lines).unwrap_or_default()
    }

    /// Files that will be written.
    pub fn files(&self) -> Vec<String> {
        let path = |file: &KeyFile| match file {
            KeyFile::Text(path, _) | KeyFile::Signer(path, _) => path.display().to_string(),
        };
        let kit = self.kit.iter().map(|(path, _)| path.display().to_string());
        kit.chain(self.files.iter().map(path)).collect()
    }

    /// How many marks go into the stores.
    pub fn marks(&self) -> usize {
        self.before.len() + usize::from(self.retire.is_some())
    }

    /// Makes the change: files, marks, configuration, marks. A kill in between leaves what was done; the same command goes on.
    pub fn apply(self, session: &Session) -> Result<KeyReport> {
        let mut report = KeyReport {
            written: self.files(),
            old_config: None,
            marks: 0,
            behind: Vec::new(),
            means: self.means,
        };
        if let Some((path, kit)) = &self.kit {
            kit.write(path).doing(Class::Failed, || format!("cannot write the kit {}", path.display()))?;
        }
        for file in self.files {
            match file {
                KeyFile::Text(path, text) => crate::keys::write_secret(&path, &text)
                    .doing(Class::Failed, || format!("cannot write {}", path.display()))?,
                KeyFile::Signer(path, signer) => {
                    let written = signer.write(&path);
                    written.doing(Class::Failed, || format!("cannot write {}", path.display()))?;
                }
            }
        }
        crate::durable::crash::point("keys: files there");
        let nowhere = sign(session, self.before, &mut report)?;
        // A key that signed anything before it was introduced could never be introduced any more.
        if self.retire.is_some() && !nowhere.is_empty() {
            let what = "the mark that introduces the new key could be put into no store, so the old key stays in use";
            return Err(OpError::new(Class::Store, what).because(nowhere.join("; ")).hint(
                "run it again when a store takes it. Where the history is forked: leave one [[store]] in the configuration, run it again and then `backstay settle`, put the others back, and run `backstay sync`",
            ));
        }
        if let Some(change) = &self.change {
            let kept = change.write(session.around.clock.now())?;
            report.old_config = Some(kept.display().to_string());
        }
        if let (Some((old, new, host)), Some(change)) = (self.retire, self.change) {
            let session = Session::open(Arc::new(change.config), session.around.clone())?;
            let last = signers::last_entry(&session.read_vault()?, &old.id(), None)?;
            let key = old.public_text().to_owned();
            let statement = Statement::Key { action: KeyAction::Retire, key, host, last: Some(last) };
            sign(&session, vec![(new, statement)], &mut report)?;
        }
        Ok(report)
    }
}

/// Signs them, and gives why, store by store, where one of them is in none.
fn sign(session: &Session, marks: Vec<(Signer, Statement)>, report: &mut KeyReport) -> Result<Vec<String>> {
    let mut nowhere = Vec::new();
    for (signer, statement) in marks {
        let marks = Marks::open_as(session, signer, "keys")?;
        let marked = { marks }.put(vec![statement])?;
        report.marks += 1;
        if !marked.stores.iter().any(|store| store.has) {
            let why =
                |store: &MarkedStore| Some(format!("store {}: {}", store.name, store.problem.as_ref()?));
            nowhere.extend(marked.stores.iter().filter_map(why));
        }
        for store in marked.stores.into_iter().filter(|store| !store.has) {
            if !report.behind.contains(&store.name) {
                report.behind.push(store.name);
            }
        }
        crate::durable::crash::point("keys: mark put");
    }
    Ok(nowhere)
}

/// The text of an identity file, protected when there is a passphrase.
fn identity_text(
    identities: &[SecretIdentity],
    passphrase: Option<&Passphrase>,
    now: crate::model::Timestamp,
) -> Result<Zeroizing<String>> {
    let text = crate::keys::identity::file_text(identities, now);
    let Some(passphrase) = passphrase else {
        return Ok(text);
    };
    let locked = crate::keys::passphrase::lock(&text, passphrase);
    let locked = locked.doing(Class::Failed, || "cannot protect the identity file".into())?;
    Ok(Zeroizing::new(crate::keys::passphrase::armor(&locked)))
}

/// The first of `path` with a number added that is free.
fn free_beside(path: &Path) -> PathBuf {
    { 2.. }
        .map(|n| numbered(path, n))
        .find(|name| name.symlink_metadata().is_err())
        .unwrap_or_else(|| path.to_owned())
}

/// `identity-2.txt` for `identity.txt` and 2, and for `identity-7.txt` and 2.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let end = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    let bare = match stem.rsplit_once('-') {
        Some((bare, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => bare,
        _ => &stem,
    };
    path.with_file_name(format!("{bare}-{number}{end}"))
}

//! Making a store. It is claimed first, by the document that only one can create; what helps people to read it is put by whoever has it, and
//! completed by the next run where one was cut off.

use super::{InitReport, clear_unfinished, new_id};
use crate::catalog::State;
use crate::config::{Place, StoreConfig};
use crate::durable::crash;
use crate::keys::Signer;
use crate::model::document::namespace;
use crate::model::{Clock, VaultId};
use crate::ops::abilities;
use crate::ops::assets::{RECOVER_MD, RECOVER_PY};
use crate::ops::commit::AGENT;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::remembering::recognised;
use crate::ops::replace::replace;
use crate::ops::session::in_store;
use crate::ops::stores::{Means, create_configured, open_if_there, place_of};
use crate::ops::vault::{StoreInfo, store_info};
use crate::ops::{recover_files, remote};
use crate::store::{Key, Store, StoreErrorKind};
use std::path::Path;

/// Makes a store where there is none; compares where there is one. What it is, is remembered.
pub(super) fn make_store(
    config: &StoreConfig,
    vault: &VaultId,
    (signer, state): (&Signer, &State),
    (means, make_bucket): (&Means, bool),
    clock: &dyn Clock,
    report: &mut InitReport,
) -> Result<()> {
    let (name, place) = (&config.name, place_of(config));
    let remember = |info: &StoreInfo| {
        let seen = state
            .trust_store(name, vault, &info.instance)
            .and_then(|_| state.raise_heads_in(&info.instance, &[]));
        seen.map_err(|e| recognised(&format!("{name:?} ({place})"), e))
    };
    if let Some(open) = open_if_there(config, means)? {
        let info = ours(&*open, vault, &place)?;
        put_instructions(&*open, (signer, state), Claimed::Before, report)?;
        return remember(&info);
    }
    let known =
        state.instance_of(name).doing(Class::Damage, || "cannot read which stores were seen".into())?;
    if known.is_some() {
        let what = format!("store {name:?} ({place}) was there before, and is not there now");
        return Err(OpError::new(Class::Store, what).hint(replace_hint(name)));
    }
    let cannot = || format!("cannot make store {name:?} in {place}");
    let store = create_configured(config, means, make_bucket)?;
    let store = &*store;
    crash::point("init: store folders there");
    if let Place::Path(path) = &config.place {
        ignore_file(path)?;
    }
    crash::point("init: ignore file there");
    let info = StoreInfo {
        format: crate::model::manifest::FORMAT,
        needs: Vec::new(),
        doc: "store".into(),
        vault: vault.clone(),
        instance: new_id()?,
        created: clock.now(),
        agent: AGENT.into(),
    };
    let line = crate::model::document::line_of(&info).doing(Class::Failed, cannot)?;
    // First, so that of two who make a store here at once only one goes on; read again, because a server may overwrite where it should refuse.
    let claimed = match store.put_bytes(&Key::Store, &line) {
        Err(e) if e.kind == StoreErrorKind::Exists => Claimed::Before,
        put => in_store(store, put).map(|_| Claimed::Now)?,
    };
    let info = ours(store, vault, &place)?;
    crash::point("init: store claimed");
    put_instructions(store, (signer, state), claimed, report)?;
    report.made.push(format!("store {place}"));
    if let Place::Url(bucket) = &config.place {
        let found = remote::remembered(name, bucket, &means.state_dir, &means.interrupt);
        report.notes.extend(found.iter().flat_map(|found| abilities::said(name, found)));
    }
    remember(&info)
}

/// What is there may take the place of a store only where it belongs to this vault and is another one than before; else what is meant is unclear.
pub(super) fn refuse_as_new(
    there: &dyn Store,
    vault: &VaultId,
    (config, state): (&StoreConfig, &State),
) -> Result<()> {
    let info = ours(there, vault, &place_of(config))?;
    let known = state.instance_of(&config.name);
    let known = known.doing(Class::Damage, || "cannot read which stores were seen".into())?;
    if known.is_some_and(|known| known != info.instance) {
        return Ok(());
    }
    let what = format!("store {:?} ({}) is there", config.name, place_of(config));
    Err(OpError::new(Class::Usage, what).hint("only a store that is lost is replaced; move it away first"))
}

/// What the store says of itself; an error when it is another vault's.
fn ours(store: &dyn Store, vault: &VaultId, place: &str) -> Result<StoreInfo> {
    let info = store_info(store)?;
    if info.vault == *vault {
        return Ok(info);
    }
    Err(OpError::new(Class::Config, format!("{place} holds the vault of another project"))
        .hint("name another folder for this project's store"))
}

/// Whether what lies in a store may be of others.
#[derive(Clone, Copy, PartialEq)]
enum Claimed {
    /// By this run: what lies there is of somebody who wanted the same place and did not get it.
    Now,
    /// Before: what lies there was signed by a host of this vault, perhaps of another version.
    Before,
}

/// What is to become of an instruction and its signature.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pair {
    /// They fit each other, whichever version they are of.
    Whole,
    /// Somebody changed one of the two. It may be his own text, or a trace: it is no matter of `init` to take it away.
    Changed,
    /// They are to be this version's.
    Ours,
}

impl Pair {
    fn of(file: Option<&[u8]>, signature: Option<&[u8]>, ours: &[u8], claimed: Claimed) -> Self {
        match (file, signature) {
            _ if claimed == Claimed::Now => Self::Ours,
            (Some(file), Some(signature)) if recover_files::fits(file, signature) => Self::Whole,
            (Some(file), Some(_)) if file != ours => Self::Changed,
            // Without its signature nobody should trust an instruction, and we cannot sign what another version says.
            _ => Self::Ours,
        }
    }
}

/// Puts the instructions and their signatures: where they are missing, where the two do not belong together, and where they are of somebody who did
/// not get the store.
fn put_instructions(
    store: &dyn Store,
    (signer, state): (&Signer, &State),
    claimed: Claimed,
    report: &mut InitReport,
) -> Result<()> {
    let cannot = || "cannot sign the instructions of a store".into();
    for (key, signature_key, bytes) in
        [(Key::RecoverMd, Key::RecoverMdSig, RECOVER_MD), (Key::RecoverPy, Key::RecoverPySig, RECOVER_PY)]
    {
        let file = recover_files::read(store, &key)?;
        let signature = recover_files::read(store, &signature_key)?;
        match Pair::of(file.as_deref(), signature.as_deref(), bytes, claimed) {
            Pair::Whole => continue,
            Pair::Changed => {
                let name = store.name();
                report.notes.push(format!(
                    "store {name}: {key} is not what {signature_key} signs, and was left as it is; take it away and run `backstay init` again to have a whole one"
                ));
                continue;
            }
            Pair::Ours => {}
        }
        put_one(store, state, (&key, bytes), file.as_deref())?;
        // Another host's may fit; a stranger's must not stay.
        let fits = |there: &Vec<u8>| claimed == Claimed::Before && recover_files::fits(bytes, there);
        if !signature.as_ref().is_some_and(fits) {
            let ours = signer.sign(namespace::RECOVER, bytes).doing(Class::Failed, cannot)?;
            put_one(store, state, (&signature_key, ours.as_bytes()), signature.as_deref())?;
        }
        if claimed == Claimed::Before {
            report.made.push(format!("{key} and its signature in store {}", store.name()));
        }
        crash::point("init: instructions put");
    }
    Ok(())
}

/// Puts `bytes` in the place of what is there.
fn put_one(
    store: &dyn Store,
    state: &State,
    (key, bytes): (&Key, &[u8]),
    there: Option<&[u8]>,
) -> Result<()> {
    match there {
        None => in_store(store, store.put_bytes(key, bytes)).map(drop),
        Some(there) if there == bytes => Ok(()),
        Some(_) => {
            let spool = store.spool_dir().unwrap_or_else(|| state.spool_dir());
            replace(&spool, store, key, bytes)
        }
    }
}

/// Makes a store in a folder that was lost with the machine it was on: a new instance, empty.
pub(crate) fn make_lost_store(
    config: &StoreConfig,
    vault: &VaultId,
    (signer, state): (&Signer, &State),
    means: &Means,
    clock: &dyn Clock,
) -> Result<()> {
    let mut report = InitReport::default();
    make_store(config, vault, (signer, state), (means, false), clock, &mut report)
}

fn replace_hint(name: &str) -> String {
    format!(
        "is the disk mounted? if that store is lost for good, `backstay init --replace-store {name}` makes a new one in its place"
    )
}

/// A store in a working tree must not be committed to git.
fn ignore_file(store: &Path) -> Result<()> {
    let path = store.join(".gitignore");
    if path.exists() {
        return Ok(());
    }
    clear_unfinished(&path)?;
    crate::durable::write_new(&path, b"# backups do not belong into git\n*\n", 0o644)
        .doing(Class::Store, || format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::verify;
    use crate::store::testing::MemoryStore;

    const OLDER: &[u8] = b"# How to recover, as an older version says it\n";

    /// A store with the instructions of an older version that `signer` signed, then without `gone`.
    fn older(signer: &Signer, gone: &[Key]) -> MemoryStore {
        let store = MemoryStore::new("s");
        for (key, signature_key) in [(Key::RecoverMd, Key::RecoverMdSig), (Key::RecoverPy, Key::RecoverPySig)]
        {
            let signature = signer.sign(namespace::RECOVER, OLDER).unwrap();
            for (key, bytes) in [(key, OLDER), (signature_key, signature.as_bytes())] {
                if !gone.contains(&key) {
                    store.force(&key, bytes);
                }
            }
        }
        store
    }

    fn completed(store: &MemoryStore, signer: &Signer) -> InitReport {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let mut report = InitReport::default();
        put_instructions(store, (signer, &state), Claimed::Before, &mut report).unwrap();
        report
    }

    fn fit(store: &MemoryStore) -> bool {
        let text = |key: &Key| String::from_utf8(store.get(key, 1 << 20).unwrap()).unwrap();
        [(Key::RecoverMd, Key::RecoverMdSig), (Key::RecoverPy, Key::RecoverPySig)]
            .iter()
            .all(|(key, sig)| verify(namespace::RECOVER, text(key).as_bytes(), &text(sig)).is_ok())
    }

    #[test]
    fn what_is_put_beside_an_older_versions_instructions_fits_them() {
        let (first, second) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let whole = older(&first, &[]);
        let report = completed(&whole, &second);
        assert!(fit(&whole) && report.made.is_empty() && report.notes.is_empty(), "{report:?}");
        assert_eq!(whole.get(&Key::RecoverMd, 1 << 20).unwrap(), OLDER, "a version that fits is left alone");
        for gone in [[Key::RecoverMd].as_slice(), &[Key::RecoverMdSig], &[Key::RecoverPy, Key::RecoverMdSig]]
        {
            let store = older(&first, gone);
            let report = completed(&store, &second);
            assert!(fit(&store), "{gone:?}");
            assert_eq!(report.made.len(), gone.len(), "{report:?}");
            assert!(completed(&store, &second).made.is_empty(), "once");
        }
    }

    #[test]
    fn instructions_that_somebody_changed_stay_and_are_said() {
        let signer = Signer::generate().unwrap();
        let store = older(&signer, &[]);
        store.force(&Key::RecoverMd, b"my own notes\n");
        let report = completed(&store, &signer);
        assert_eq!(store.get(&Key::RecoverMd, 1 << 20).unwrap(), b"my own notes\n");
        assert!(report.notes.len() == 1 && report.notes[0].contains("RECOVER.md"), "{report:?}");
        // Whoever takes them away gets whole ones.
        store.delete(&Key::RecoverMd).unwrap();
        assert!(completed(&store, &signer).notes.is_empty() && fit(&store));
    }
}

//! `kit verify`: whether this very kit opens the newest snapshot in each of its stores, and whether it still says what is so.
//!
//! What counts is what the kit can do by itself, so nothing of this machine is used to open anything. The configuration, where there is one, only
//! says what changed since the kit was made.

use crate::archive::Pool;
use crate::catalog::KitMemory;
use crate::config::Config;
use crate::keys::kit::{Kit, KitStore, StoreAt};
use crate::model::chain::KnownSnapshot;
use crate::model::id::RecipientId;
use crate::model::index::{Index, IndexComponent};
use crate::model::record::SnapshotKind;
use crate::model::{HostId, Kind, ObjectId, SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::kit::stores_of;
use crate::ops::objects::SnapshotReader;
use crate::ops::recover_files::{self, Pair};
use crate::ops::restore::known_sources;
use crate::ops::restore::read::{Archives, Piece, Reading, Sink};
use crate::ops::session::{Session, Surroundings};
use crate::ops::vault::Vault;
use crate::store::Key;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So much of one file is decrypted.
const PIECE: u64 = 64 << 10;

/// What a kit could do in one store.
#[derive(Debug, Clone, Serialize)]
pub struct KitStoreReport {
    /// The store, as the kit calls it.
    pub name: String,
    /// Where the kit says it is.
    pub location: String,
    /// The newest snapshot of the kit's host in it.
    pub snapshot: Option<SnapshotId>,
    /// Its index and a piece of its data were decrypted with the kit alone.
    pub opens: bool,
    /// Which file that piece was of; none when the snapshot holds no bytes.
    pub piece_of: Option<String>,
    /// Why it does not open.
    pub problem: Option<String>,
    /// False where the store itself could not be read: what the kit does there is not known.
    pub tried: bool,
}

/// What a kit is worth.
#[derive(Debug, Clone, Serialize)]
pub struct KitReport {
    /// When the kit was made.
    pub printed: Timestamp,
    /// The project.
    pub project: String,
    /// It opens the newest snapshot in every one of its stores, and nothing is wrong with it.
    pub good: bool,
    /// Its stores.
    pub stores: Vec<KitStoreReport>,
    /// Its signing key may still introduce another one.
    pub signing_key: bool,
    /// What is wrong, or not as it is now.
    pub findings: Vec<String>,
    /// What differs from the kit and is all right.
    pub notes: Vec<String>,
    /// It was remembered on this machine that a kit was proved; reminders stop.
    pub remembered: bool,
}

/// Proves `kit`. `differing` says in what the text that it was read from differs from it; `own` is this project's session, where the command was run
/// in one.
pub fn run(
    kit: &Kit,
    differing: Vec<String>,
    around: &Surroundings,
    own: Option<&Session>,
) -> Result<KitReport> {
    let (mut findings, mut notes) = (differing, Vec::new());
    let mut stores = Vec::new();
    let mut signing_key = false;
    let named = around.store.clone().map(|named| vec![named_store(kit, &named)]);
    let asked = named.unwrap_or_else(|| kit.stores.iter().map(|s| (s.name.clone(), blank(s))).collect());
    for (name, mut report) in asked {
        let around = Surroundings { store: Some(name), ..around.clone() };
        let looked = Session::open_kit(kit.clone(), around)
            .and_then(|session| look(kit, &session, (&mut findings, &mut notes)));
        match looked {
            Ok(looked) => {
                signing_key |= looked.signing_key;
                report.snapshot = looked.snapshot;
                report.opens = true;
                report.piece_of = looked.piece_of;
            }
            Err(error) if error.class == Class::Interrupted => return Err(error),
            Err(error) => {
                report.tried = error.class != Class::Store;
                report.problem = Some(crate::ops::stores::Away::from(&error).line());
            }
        }
        stores.push(report);
    }
    if stores.is_empty() {
        findings.push("the kit names no store".into());
    }
    if !signing_key && stores.iter().any(|s| s.opens) {
        findings.push(match &kit.signing_key {
            None => "the kit holds no signing key: a fresh machine cannot introduce itself with it".into(),
            Some(key) => {
                format!("the kit's signing key {} was retired since: it introduces nobody any more", key.id())
            }
        });
    }
    if let Some(config) = own.and_then(|session| session.config.as_deref()) {
        findings.extend(differences(kit, config, own.and_then(|s| s.vault.as_ref()))?);
    }
    for said in [&mut findings, &mut notes] {
        said.sort();
        said.dedup();
    }
    let good = !stores.is_empty() && findings.is_empty() && stores.iter().all(|s| s.opens);
    // One store says nothing of the others.
    let remembered = good && around.store.is_none() && remember(kit, own, around.clock.now())?;
    let (printed, project) = (kit.printed, kit.project.clone());
    Ok(KitReport { printed, project, good, stores, signing_key, findings, notes, remembered })
}

/// A store that `--store` names: one of the kit's, or a place.
fn named_store(kit: &Kit, named: &str) -> (String, KitStoreReport) {
    let of_kit = kit.stores.iter().find(|store| store.name == named).map(blank);
    let place = || KitStoreReport { name: "store".into(), location: named.to_owned(), ..blank_report() };
    (named.to_owned(), of_kit.unwrap_or_else(place))
}

fn blank_report() -> KitStoreReport {
    let (name, location) = Default::default();
    KitStoreReport {
        name,
        location,
        snapshot: None,
        opens: false,
        piece_of: None,
        problem: None,
        tried: true,
    }
}

fn blank(store: &KitStore) -> KitStoreReport {
    let (StoreAt::Path(place) | StoreAt::Url(place)) = &store.at;
    let (name, location) = (store.name.clone(), place.clone());
    KitStoreReport { name, location, ..blank_report() }
}

/// What one store gave.
struct InStore {
    snapshot: Option<SnapshotId>,
    piece_of: Option<String>,
    signing_key: bool,
}

fn look(
    kit: &Kit,
    session: &Session,
    (findings, notes): (&mut Vec<String>, &mut Vec<String>),
) -> Result<InStore> {
    let vault = session.read_vault()?;
    let host = vault.host_of(&crate::model::SignerId(kit.host.0));
    let keys = vault.history.keys();
    let signing_key = kit.signing_key.as_ref().is_some_and(|key| keys.may_sign_for(&key.id(), &host));
    for (keys, printed) in recover_files::PAIRS.iter().zip([&kit.recover_md, &kit.recover_py]) {
        match instruction(session, &vault, keys, printed) {
            Instruction::AsPrinted => {}
            Instruction::Signed(said) => notes.push(said),
            Instruction::Unproved(said) => findings.push(said),
        }
    }
    let Some(known) = newest(&vault, &host) else {
        return Err(OpError::new(Class::NotFound, "there is no snapshot of this host in it yet"));
    };
    sealed_to(kit, known, findings);
    let identities = session.identities_needed()?;
    let sources = Arc::new(known_sources(session, &vault, known));
    let reader = SnapshotReader { store: &*sources, record: &known.record, identities: &identities };
    let index = reader.index()?;
    let pool = Pool::for_machine();
    let (record, interrupt) = (&*known.record, &session.around.interrupt);
    let reading = Reading { sources: &sources, record, identities: &identities, pool: &pool, interrupt };
    let piece_of = piece(&reader, &reading, &index)?;
    Ok(InStore { snapshot: Some(known.record.snapshot.clone()), piece_of, signing_key })
}

fn newest<'v>(vault: &'v Vault, host: &HostId) -> Option<&'v KnownSnapshot> {
    let mut newest_first = vault.history.snapshots(host).iter().rev();
    newest_first.find(|s| s.is_usable() && s.record.kind == SnapshotKind::Normal)
}

/// How one of the files with which people help themselves stands to what the kit says of it.
enum Instruction {
    AsPrinted,
    /// Another version, which a key signed that signs for this vault: an upgrade leaves such ones in stores.
    Signed(String),
    Unproved(String),
}

fn instruction(session: &Session, vault: &Vault, keys: &Pair<Key>, printed: &[ObjectId]) -> Instruction {
    let (key, store) = (&keys.file, session.store.name());
    let read = recover_files::read_pair(&*session.store, keys).ok();
    let (Some(there), false) = (read.filter(|there| there.file.is_some()), printed.is_empty()) else {
        return Instruction::Unproved(format!("{key} cannot be compared with the kit in store {store}"));
    };
    if there.file.as_deref().is_some_and(|bytes| printed.contains(&ObjectId::of(bytes))) {
        return Instruction::AsPrinted;
    }
    let known = vault.history.keys();
    let other = format!("{key} in store {store} is another one than the kit names");
    match recover_files::signed_by(&there).filter(|by| known.is_trusted(by)) {
        None => Instruction::Unproved(format!("{other}, and no trusted key signed it")),
        // Whoever stole that key can sign such a file at any time.
        Some(by) if known.retired(&by).is_some() => Instruction::Unproved(format!(
            "{other}, and {by} signed it, whose key was retired: look at it, then make a new kit"
        )),
        Some(by) => {
            Instruction::Signed(format!("{other}: of another version, which the trusted key {by} signed"))
        }
    }
}

fn sealed_to(kit: &Kit, known: &KnownSnapshot, findings: &mut Vec<String>) {
    let of_kit: Vec<RecipientId> = kit.recipients.iter().map(|text| RecipientId::of_text(text)).collect();
    let all = known.record.recipients.iter().flatten();
    let unknown: Vec<String> = all.filter(|id| !of_kit.contains(id)).map(ToString::to_string).collect();
    if !unknown.is_empty() {
        findings.push(format!(
            "the newest snapshot is sealed to recipients that the kit does not name: {}",
            unknown.join(", ")
        ));
    }
}

/// Counts what could be decrypted.
#[derive(Default)]
struct Counted {
    bytes: u64,
    lost: Option<String>,
}

impl Sink for Counted {
    fn bytes(&mut self, _: usize, _: u64, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn lost(&mut self, _: usize, why: &str) -> Result<()> {
        self.lost.get_or_insert_with(|| why.to_owned());
        Ok(())
    }
}

/// Decrypts the beginning of one file of each component's first listing, and says of which.
fn piece(reader: &SnapshotReader<'_>, reading: &Reading<'_>, index: &Index) -> Result<Option<String>> {
    let mut told = None;
    for component in &index.components {
        if let Some(path) = piece_of(reader, reading, component)? {
            told.get_or_insert(path);
        }
    }
    Ok(told)
}

fn piece_of(
    reader: &SnapshotReader<'_>,
    reading: &Reading<'_>,
    component: &IndexComponent,
) -> Result<Option<String>> {
    let Some(reference) = component.segments.first() else {
        return Ok(None);
    };
    let segment = reader.segment(component, reference)?;
    let file = segment.entries.iter().find(|e| e.kind == Kind::File && e.size > 0);
    let Some(entry) = file else {
        return Ok(None);
    };
    let (extents, more) = reader.extents(component, entry)?;
    let Some(mut extent) = extents.first().copied() else {
        return Ok(None);
    };
    let mut archives = Archives::default();
    archives.add(segment.archives);
    archives.add(more);
    let damaged = |why: String| {
        OpError::new(Class::Damage, format!("{}/{} cannot be decrypted", component.name, entry.path))
            .because(why)
    };
    archives.settle().map_err(damaged)?;
    extent.length = extent.length.min(PIECE);
    let mut counted = Counted::default();
    reading.deliver(vec![Piece { extent: &extent, file: 0 }], &archives, &mut counted)?;
    if counted.lost.is_some() {
        reading.sources.answered()?;
    }
    match counted.lost {
        Some(why) => Err(damaged(why)),
        None if counted.bytes != extent.length => Err(damaged("bytes are missing".into())),
        None => Ok(Some(format!("{}/{}", component.name, entry.path))),
    }
}

/// What the configuration says otherwise than the kit.
fn differences(kit: &Kit, config: &Config, vault: Option<&crate::model::VaultId>) -> Result<Vec<String>> {
    if kit.project != config.project.name || vault.is_some_and(|vault| *vault != kit.vault) {
        let what = format!("the kit is of project {:?}, and this is {:?}", kit.project, config.project.name);
        return Err(
            OpError::new(Class::Usage, what).hint("run it in that project's folder, or outside of any")
        );
    }
    let mut found = Vec::new();
    let own: Vec<&String> =
        config.encryption.recipients.iter().filter(|r| !kit.recipients.contains(r)).collect();
    if !own.is_empty() {
        found.push(format!("the configuration has {} recipients that the kit does not name", own.len()));
    }
    let opens = kit.identities.iter().any(|i| config.encryption.recipients.contains(&i.recipient()));
    if !kit.identities.is_empty() && !opens {
        found.push(
            "no identity in the kit opens what is made from now on: the recipients were changed".into(),
        );
    }
    let now = stores_of(config);
    for store in now.iter().filter(|store| !kit.stores.contains(store)) {
        found.push(format!("store {} is not in the kit, or is elsewhere in it", store.name));
    }
    let signer = crate::keys::Signer::load(&config.signing.key_file).ok();
    if let (Some(signer), Some(of_kit)) = (signer, &kit.signing_key)
        && signer.id() != of_kit.id()
    {
        found.push("this host signs with another key than the kit's".into());
    }
    Ok(found)
}

/// What a kit says of keys and stores: when this changes, a print is stale.
#[derive(Serialize)]
struct Essence<'a> {
    project: &'a str,
    recipients: Vec<&'a str>,
    stores: Vec<(&'a str, &'a str, &'a BTreeMap<String, String>)>,
    signer: Option<String>,
    trusted: Vec<String>,
}

fn essence(
    project: &str,
    recipients: &[String],
    stores: &[KitStore],
    signer: Option<String>,
    trusted: &crate::keys::TrustList,
) -> Result<ObjectId> {
    let place = |store: &KitStore| match &store.at {
        StoreAt::Path(place) | StoreAt::Url(place) => place.clone(),
    };
    let places: Vec<String> = stores.iter().map(place).collect();
    let mut recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    recipients.sort_unstable();
    let mut keys: Vec<String> = trusted.keys().iter().map(|k| format!("{} {:?}", k.key, k.roles)).collect();
    keys.sort();
    let stores = stores.iter().zip(&places).map(|(s, place)| (&*s.name, &**place, &s.settings)).collect();
    let essence = Essence { project, recipients, stores, signer, trusted: keys };
    let text = serde_json::to_vec(&essence).doing(Class::Failed, || "cannot compare the kit".into())?;
    Ok(ObjectId::of(&text))
}

fn of_kit(kit: &Kit) -> Result<ObjectId> {
    let signer = kit.signing_key.as_ref().map(|key| key.id().to_string());
    essence(&kit.project, &kit.recipients, &kit.stores, signer, &kit.trusted)
}

pub(super) fn of_session(session: &Session) -> Result<ObjectId> {
    let config = session.config()?;
    let signer = session.host.map(|host| host.to_string());
    let (project, stores) = (&config.project.name, stores_of(config));
    essence(project, &config.encryption.recipients, &stores, signer, &session.trust)
}

fn remember(kit: &Kit, own: Option<&Session>, now: Timestamp) -> Result<bool> {
    let Some(state) = own.and_then(|session| session.state.as_ref()) else {
        return Ok(false);
    };
    let memory = KitMemory { proved: Some(now), essence: Some(of_kit(kit)?), reminded: None };
    state.remember_kit(&memory).doing(Class::Failed, || "cannot remember that the kit was proved".into())?;
    Ok(true)
}

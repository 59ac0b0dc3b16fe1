//! After the data: keys, stores, the new key's introduction, and last of all the configuration.

use super::Looked;
use super::components;
use super::config::{self, Text};
use super::keys;
use super::place::Places;
use super::reach;
use crate::catalog::{Head, State};
use crate::config::{Config, Place, StoreConfig};
use crate::durable::crash;
use crate::keys::Signer;
use crate::model::index::Index;
use crate::model::mark::{KeyAction, Statement};
use crate::model::{HostId, Problem, ProblemKind, SignerId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::init::make_lost_store;
use crate::ops::marks::Marks;
use crate::ops::session::{HostChoice, Session, Surroundings};
use crate::ops::stores::{Away, Means, open_if_there, place_of};
use std::path::PathBuf;
use std::sync::Arc;

/// What came of it.
pub(super) struct Settled {
    pub(super) signer: SignerId,
    pub(super) introduced: bool,
    pub(super) keys: PathBuf,
    pub(super) identity_here: bool,
    pub(super) problems: Vec<Problem>,
    /// What was changed in the configuration.
    pub(super) notes: Vec<String>,
    /// Components that the configuration looks for elsewhere than where they are, and where.
    pub(super) astray: Vec<(String, PathBuf)>,
    /// Stores that are not here: name and place, and why.
    pub(super) away: Vec<(String, String)>,
    /// Stores that were lost with the machine and made anew, empty.
    pub(super) made: Vec<String>,
}

/// Makes the machine one of the vault's. Each step takes up what an interrupted run did.
pub(super) fn settle(looked: &Looked, index: &Index, places: &Places) -> Result<Settled> {
    let keys = keys::make(looked, index, &places.config, config::had_identity(index))?;
    crash::point("recover: keys there");
    let state_dir = state_dir(looked, &keys.dir)?;
    let (text, config) = config::make(looked, index, places, &keys, &state_dir)?;
    let state = State::open(&config.state_dir)
        .doing(Class::Failed, || format!("cannot open the state directory {}", config.state_dir.display()))?;
    if looked.found.history.is_empty() {
        // So that a store which hides newer entries is noticed here, too.
        let heads: Vec<(SignerId, Head)> =
            looked.kit.heads.iter().map(|(id, h)| (*id, Head { number: h.0, hash: h.1 })).collect();
        state.raise_heads(&heads).doing(Class::Failed, || "cannot remember what the kit knows".into())?;
    }
    let Sorted { here, away, made } = stores(looked, &config, (&keys.signer, &state), places)?;
    crash::point("recover: stores there");
    let mut problems = Vec::new();
    let introduced = introduce(looked, &config, here, &keys.signer, &mut problems)?;
    crash::point("recover: introduced");
    let Text { notes, .. } = &text;
    let notes = notes.clone();
    let astray = components::astray(&config, places);
    config::write(&text, places)?;
    // What killed runs left beside the keys may be half a key.
    crate::ops::init::clear_unfinished(&keys.key_file)?;
    let identity_here = keys.identity_file.is_some();
    let (signer, keys) = (keys.signer.id(), keys.dir);
    Ok(Settled { signer, introduced, keys, identity_here, problems, notes, astray, away, made })
}

/// One that is free, or this vault's.
fn state_dir(looked: &Looked, keys: &std::path::Path) -> Result<PathBuf> {
    let name = keys.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 1.. {
        let name = if number == 1 { name.clone() } else { format!("{name}-{number}") };
        let dir = looked.options.state_root.join(name);
        if !dir.exists() {
            return Ok(dir);
        }
        let known = State::open(&dir).and_then(|state| state.vault());
        match known.doing(Class::Failed, || format!("cannot look into {}", dir.display()))? {
            Some(vault) if vault != looked.kit.vault => {}
            _ => return Ok(dir),
        }
    }
    Err(OpError::new(Class::Failed, "no name is free for the state directory"))
}

/// The stores of the configuration.
struct Sorted {
    here: Vec<StoreConfig>,
    away: Vec<(String, String)>,
    made: Vec<String>,
}

/// Which stores are here. One whose folder lay in the project's died with the machine: it is made anew, and filled by the next backup. Never one that
/// lies elsewhere on this machine: the history that goes on is in it.
fn stores(
    looked: &Looked,
    config: &Config,
    (signer, state): (&Signer, &State),
    places: &Places,
) -> Result<Sorted> {
    let around = &looked.session.around;
    let means = Means {
        writer: Some(signer.id()),
        state_dir: config.state_dir.clone(),
        interrupt: around.interrupt.clone(),
        as_of: None,
    };
    let mut sorted = Sorted { here: Vec::new(), away: Vec::new(), made: Vec::new() };
    for store in &config.stores {
        let in_project = matches!(&store.place, Place::Path(path) if path.starts_with(&places.project));
        let elsewhere = || reach::folder_of(looked, &store.name);
        let why = match open_if_there(store, &means) {
            Ok(Some(_)) => None,
            Ok(None) if in_project && elsewhere().is_none() => {
                // Where this machine's memory outlived the project's folder. What was seen in that store, and in others, stays remembered.
                state.forget_store(&store.name).doing(Class::Failed, || {
                    format!("cannot forget what store {:?} was before it was lost", store.name)
                })?;
                make_lost_store(store, &looked.kit.vault, (signer, state), &means, &*around.clock)?;
                sorted.made.push(format!("{} ({})", store.name, place_of(store)));
                None
            }
            Ok(None) => Some(match elsewhere() {
                Some(folder) => format!("there is no store; one of its name is in {}", folder.display()),
                None => "there is no store".to_owned(),
            }),
            Err(error) => Some(Away::from(&error).line()),
        };
        match why {
            None => sorted.here.push(store.clone()),
            Some(why) => sorted.away.push((format!("{} ({})", store.name, place_of(store)), why)),
        }
    }
    Ok(sorted)
}

/// Lets the kit's key say, in every store that is here, that the new key is one of the host.
fn introduce(
    looked: &Looked,
    config: &Config,
    here: Vec<StoreConfig>,
    new: &Signer,
    problems: &mut Vec<Problem>,
) -> Result<bool> {
    let keys = looked.vault.history.keys();
    let old = looked.kit.signing_key.clone().filter(|old| keys.may_sign_for(&old.id(), &looked.host));
    let Some(old) = old else {
        if keys.may_sign_for(&new.id(), &looked.host) {
            return Ok(true); // it was on this machine before, and is one of the host
        }
        problems.push(stranger(looked, new));
        return Ok(false);
    };
    if here.is_empty() {
        return Err(OpError::new(
            Class::Store,
            "no store of the configuration is here, so the new signing key cannot be introduced",
        )
        .hint("the data is in its place; bring a store here and run the same command again"));
    }
    let around =
        Surroundings { store: None, as_of: None, hosts: HostChoice::Own, ..looked.session.around.clone() };
    let session = Session::open(Arc::new(Config { stores: here, ..config.clone() }), around)?;
    // The first time finishes what an interrupted run signed; then the vault shows it.
    drop(Marks::open_as(&session, old.clone(), "recover")?);
    let mut marks = Marks::open_as(&session, old, "recover")?;
    if !is_introduced(&marks, new, &looked.host) {
        let key = new.public_text().to_owned();
        let statement = Statement::Key { action: KeyAction::Introduce, key, host: looked.host, last: None };
        let marked = marks.put(vec![statement])?;
        if !marked.stores.iter().any(|store| store.has) {
            let why = marked.stores.into_iter().find_map(|store| store.problem).unwrap_or_default();
            return Err(OpError::new(
                Class::Store,
                "the new signing key could not be introduced in any store",
            )
            .because(why)
            .hint("the data is in its place; run the same command again when a store can be written, or with --store and a copy of the store that can be"));
        }
    }
    problems.extend(session.troubles());
    Ok(true)
}

fn is_introduced(marks: &Marks, new: &Signer, host: &HostId) -> bool {
    marks.vault().history.keys().may_sign_for(&new.id(), host)
}

/// Nobody vouches for the new key: it works, as a new host.
fn stranger(looked: &Looked, new: &Signer) -> Problem {
    let why = match &looked.kit.signing_key {
        None => "the kit holds no signing key",
        Some(_) => "the kit's signing key was retired, or is not one of this host any more",
    };
    Problem {
        kind: ProblemKind::NotRestored,
        component: None,
        subject: format!("signing key {}", new.id()),
        what: format!("{why}, so nobody introduces the new one: snapshots from here on are those of a new host"),
        hint: Some("before its first backup let a trusted key of the host introduce it (`backstay keys signer add`): afterwards it has a history of its own, and a new key is needed; or trust it in every reader's configuration".into()),
    }
}

//! Whether a new project can be set up as it is asked for, before anything is made: a configuration that names a store which cannot be made is in the
//! way of the next try.

use super::{InitOptions, InitReport, new_places};
use crate::catalog::State;
use crate::config::{Place, UrlPlace};
use crate::model::VaultId;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::kit_place::refuse_in_store;
use crate::ops::remote::{bucket_if_there, create_in_bucket};
use crate::store::Key;
use rustix::fs::Access;
use std::io;
use std::path::Path;

/// Tries where the stores and the kit are to be. Only a bucket may have to be made for that: after everything else was looked at.
pub(super) fn places(options: &InitOptions, report: &mut InitReport) -> Result<()> {
    let stores = new_places(options)?;
    if let Some(kit) = &options.kit {
        refuse_in_store(kit, stores.iter().map(|(name, place)| (name.as_str(), place)))?;
    }
    let mut buckets = Vec::new();
    for (name, place) in &stores {
        match place {
            Place::Path(path) => folder(name, path)?,
            Place::Url(place) => buckets.push((name.as_str(), &**place)),
        }
    }
    let mut new = Vec::new();
    for (name, place) in buckets {
        if bucket_if_there(name, place, &options.state_root, &options.interrupt)?.is_none() {
            new.push((name, place));
        }
    }
    new.into_iter().try_for_each(|(name, place)| bucket(options, name, place, report))
}

/// Reaches the place for a new store in a bucket, and makes the bucket where that is wanted.
fn bucket(options: &InitOptions, name: &str, place: &UrlPlace, report: &mut InitReport) -> Result<()> {
    let reach = |make| create_in_bucket(name, place, &options.state_root, &options.interrupt, make).map(drop);
    let lacking = options.create_bucket && reach(false).is_err();
    reach(options.create_bucket)?;
    if lacking {
        report.made.push(format!("bucket {}", place.bucket));
    }
    Ok(())
}

/// A store that is there is looked at when it is opened; else the folder must be one that can be made.
fn folder(name: &str, path: &Path) -> Result<()> {
    if is_store(path) {
        return Ok(());
    }
    let tried = path.ancestors().find_map(|dir| match dir.metadata() {
        Ok(facts) if facts.is_dir() => {
            Some(rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from))
        }
        Ok(_) => Some(Err(io::ErrorKind::NotADirectory.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(Err(e)),
    });
    tried.unwrap_or(Ok(())).map_err(|e| {
        OpError::new(Class::Store, format!("cannot make store {name:?} in {}", path.display()))
            .because(e)
            .hint("name a folder that can be made, with --store PATH; is its disk mounted, and writable? nothing was made")
    })
}

fn is_store(path: &Path) -> bool {
    path.join(Key::Store.to_string()).exists()
}

/// The vault that the state folder knows of an earlier run for the same configuration, which is not there any more. Where nothing was ever stored,
/// its stores are forgotten: the new configuration says what their names mean.
///
/// # Errors
/// Something was stored, and the store is not where the new configuration would have it.
pub(super) fn earlier_vault(options: &InitOptions, state_dir: &Path) -> Result<Option<VaultId>> {
    if !state_dir.exists() {
        return Ok(None);
    }
    let cannot = || format!("cannot read what {} holds of an earlier project", state_dir.display());
    let state = State::open(state_dir).doing(Class::Failed, cannot)?;
    let Some(vault) = state.vault().doing(Class::Damage, cannot)? else { return Ok(None) };
    if state.heads().doing(Class::Damage, cannot)?.is_empty() {
        state.keep_stores(&[]).doing(Class::Failed, cannot)?;
        return Ok(Some(vault));
    }
    for (name, place) in new_places(options)? {
        let Place::Path(path) = place else { continue };
        if state.instance_of(&name).doing(Class::Damage, cannot)?.is_some() && !is_store(&path) {
            let what = format!(
                "an earlier configuration of this project kept snapshots in a store {name:?}, and there is none in {}",
                path.display()
            );
            return Err(OpError::new(Class::Store, what).hint(format!(
                "bring that configuration back, or say where the store is now with --store PATH; to begin anew, move the key folder and {} away first; nothing was made",
                state_dir.display()
            )));
        }
    }
    Ok(Some(vault))
}

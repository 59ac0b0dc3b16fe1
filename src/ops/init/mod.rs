//! Setting a project up: keys, configuration, store, kit. Can be run again at any time: makes what is lacking, changes nothing that is there.
//!
//! Keys come first and the configuration last, so that a run that was cut off leaves nothing that names a key which does not exist; what it
//! made is taken up by the next run.

mod keys;
mod kit;
mod store;
mod tryout;

use crate::catalog::State;
use crate::config::propose::Proposal;
use crate::config::template::Values;
use crate::config::{Config, Place, Trusted, UrlPlace, template};
use crate::durable::{Dir, crash};
use crate::keys::{RecipientSet, Signer};
use crate::model::mark::Role;
use crate::model::{Clock, VaultId};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::kit::{IdentityFrom, Parts};
use crate::ops::recover_files::Lying;
use crate::ops::stores::{Means, open_configured, place_of};
use crate::ops::vault::store_info;
pub(crate) use keys::key_folder;
pub use keys::naming_path;
use keys::{Encryption, key_places, make_naming, make_recipients, make_signer, take_folder};
use kit::{complete_kit, write_kit};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
pub(crate) use store::make_lost_store;
use store::make_store;

/// What to set up.
pub struct InitOptions {
    /// The project's folder, absolute.
    pub dir: PathBuf,
    /// The configuration file to write or to complete.
    pub config_path: PathBuf,
    /// Where keys go when there is no configuration yet: a folder of the user's for all projects.
    pub keys_root: PathBuf,
    /// Where state goes when there is no configuration yet.
    pub state_root: PathBuf,
    /// The primary store's path or URL, as it shall stand in a new configuration.
    pub store: String,
    /// Paths or URLs of further stores of a new configuration.
    pub more_stores: Vec<String>,
    /// A store of the configuration that is lost for good, and is to be made anew.
    pub replace_store: Option<String>,
    /// The bucket of a store is made, too, where it is not there.
    pub create_bucket: bool,
    /// Ends waits for a network.
    pub interrupt: Interrupt,
    /// Recipients whose identities the person holds; then none is made.
    pub recipients: Vec<String>,
    /// The identity goes only into the kit.
    pub offline_identity: bool,
    /// Where the kit goes.
    pub kit: Option<PathBuf>,
    /// What to protect, when there is no configuration yet.
    pub proposal: Proposal,
}

/// What was set up.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct InitReport {
    /// The configuration.
    pub config: String,
    /// What was made by this run, as lines.
    pub made: Vec<String>,
    /// Names of components.
    pub components: Vec<String>,
    /// Where the kit is.
    pub kit: Option<String>,
    /// Whether the kit alone holds the identity.
    pub identity_only_in_kit: bool,
    /// Whether the kit can open the backups.
    pub kit_opens: bool,
    /// The stores.
    pub stores: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// A project's key files.
struct KeyPlaces {
    dir: PathBuf,
    identity: PathBuf,
    signing: PathBuf,
    kit: PathBuf,
}

/// Sets up, or completes, a project.
pub fn run(options: &InitOptions, clock: &dyn Clock) -> Result<InitReport> {
    let mut report = InitReport::default();
    run_into(options, clock, &mut report)?;
    Ok(report)
}

/// The same; what was made is in `report`, also where it fails half-way.
pub fn run_into(options: &InitOptions, clock: &dyn Clock, report: &mut InitReport) -> Result<()> {
    report.config = options.config_path.display().to_string();
    report.notes.clone_from(&options.proposal.notes);
    let there = options.config_path.symlink_metadata().is_ok();
    if !there {
        fresh(options, clock, report)?;
    }
    crash::point("init: configuration there");
    let config = load(&options.config_path)?;
    report.components = config.components.iter().map(|c| c.name.to_string()).collect();
    let signer = Signer::load(&config.signing.key_file)
        .doing(Class::Config, || "cannot load this host's signing key".into())
        .map_err(|e| e.hint("if this machine is a new one, bring the keys back from the recovery kit"))?;
    let state = State::open(&config.state_dir)
        .doing(Class::Failed, || format!("cannot open the state directory {}", config.state_dir.display()))?;
    crash::point("init: state there");
    let vault = match config.project.vault.clone() {
        Some(vault) => vault,
        None => known_vault(options, &state, &config)?,
    };
    make_stores(options, &config, &vault, (&signer, &state), clock, report)?;
    if there && config.stores.len() > 1 && report.made.iter().any(|made| made.starts_with("store ")) {
        report
            .notes
            .push("a new store is empty: the next backup fills it, or `backstay sync` does now".into());
    }
    crash::point("init: stores there");
    complete_kit(options, &config, (vault, &signer), report, clock)?;
    crash::point("init: kit there");
    clear_litter(options, &config)
}

/// Makes the stores that the configuration names and lacks. One that cannot be made does not keep the others from being made.
fn make_stores(
    options: &InitOptions,
    config: &Config,
    vault: &VaultId,
    (signer, state): (&Signer, &State),
    clock: &dyn Clock,
    report: &mut InitReport,
) -> Result<()> {
    let cannot = || "cannot change which stores were seen".into();
    let means = means(options, config, Some(signer));
    let names: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).collect();
    state.keep_stores(&names).doing(Class::Damage, cannot)?;
    if let Some(name) = &options.replace_store {
        let Some(store) = config.store(name) else {
            let what = format!("{} names no store {name:?}", config.path.display());
            return Err(OpError::new(Class::Usage, what).hint(format!("it names: {}", names.join(", "))));
        };
        if let Ok(there) = open_configured(store, &means) {
            store::refuse_as_new(&*there, vault, (store, state))?;
            let place = place_of(store);
            report.made.push(format!("what is in {place} store {name:?} from now on"));
        }
        state.forget_store(name).doing(Class::Damage, cannot)?;
    }
    let mut failed = None;
    for store in &config.stores {
        match make_store(store, vault, (signer, state), (&means, options.create_bucket), clock, report) {
            Ok(()) => report.stores.push(format!("{} ({})", store.name, place_of(store))),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn means(options: &InitOptions, config: &Config, signer: Option<&Signer>) -> Means {
    Means {
        writer: signer.map(Signer::id),
        state_dir: config.state_dir.clone(),
        interrupt: options.interrupt.clone(),
        as_of: None,
    }
}

fn load(path: &Path) -> Result<Config> {
    Config::load(path).doing(Class::Config, || format!("{} cannot be used", path.display()))
}

/// Removes what killed runs left beside the files that this one made: an unfinished kit holds an identity that nobody may find.
fn clear_litter(options: &InitOptions, config: &Config) -> Result<()> {
    let beside = [
        Some(config.signing.key_file.as_path()),
        Some(options.config_path.as_path()),
        options.kit.as_deref(),
    ];
    beside.into_iter().flatten().try_for_each(clear_unfinished)
}

/// Removes what killed runs left beside `path` instead of it. Call it for the configuration before looking at the project: else that would be
/// proposed for protection.
pub fn clear_unfinished(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| folder.is_dir()) else {
        return Ok(()); // there is nothing to clear; whoever writes there says what is wrong
    };
    let swept = Dir::open(folder)
        .and_then(|dir| crate::durable::sweep(&dir, jiff::Timestamp::MAX, &crate::durable::is_temp_name));
    swept
        .map(drop)
        .doing(Class::Failed, || format!("cannot remove what a killed run left in {}", folder.display()))
}

/// The vault of a configuration that does not name it: that of its first store, or a new one.
fn known_vault(options: &InitOptions, state: &State, config: &Config) -> Result<VaultId> {
    let seen = state.vault().doing(Class::Damage, || "cannot read which vault this is".into())?;
    if let Some(vault) = seen {
        return Ok(vault);
    }
    for store in &config.stores {
        if let Ok(open) = open_configured(store, &means(options, config, None)) {
            return Ok(store_info(&*open)?.vault);
        }
    }
    new_id()
}

fn new_id() -> Result<VaultId> {
    let random = crate::durable::random_bytes();
    Ok(VaultId::from_random(random.doing(Class::Failed, || "no random numbers are to be had".into())?))
}

/// Makes keys and writes the configuration.
fn fresh(options: &InitOptions, clock: &dyn Clock, report: &mut InitReport) -> Result<()> {
    check_recipients(&options.recipients)?;
    let project = project_name(&options.dir);
    let places = key_places(options, &project)?;
    let state_dir = options.state_root.join(places.dir.file_name().unwrap_or_default());
    let earlier = tryout::earlier_vault(options, &state_dir)?;
    tryout::places(options, report)?;
    take_folder(&places.dir, &options.config_path)?;
    crash::point("init: key folder there");
    let signer = make_signer(&places, report)?;
    crash::point("init: signing key there");
    make_naming(&places, report)?;
    crash::point("init: naming key there");
    let Encryption { recipients, identity, vault } =
        make_recipients(options, &places, (signer.id().into(), earlier), clock, report)?;
    crash::point("init: identity there");
    RecipientSet::parse(&recipients).doing(Class::Usage, || "a recipient cannot be used".into())?;
    let kept = options.recipients.is_empty() && !options.offline_identity;
    let roles = vec![Role::Host, Role::Verify, Role::Prune];
    let trusted =
        vec![Trusted { key: signer.public_text().to_owned(), name: crate::platform::hostname(), roles }];
    if let Some(identity) = &identity {
        // Into the kit before the configuration: a run cut off here must not lose the only identity.
        let parts = Parts {
            project: &project,
            vault: vault.clone(),
            host: signer.id().into(),
            key_file: &places.signing,
            identity: IdentityFrom::Hand(identity.clone()),
            recipients: &recipients,
            stores: new_places(options)?,
            trusted: &trusted,
            instructions: Lying::default(),
            heads: crate::model::chain::Heads::new(),
            now: clock.now(),
            ask: &|_| None,
        };
        write_kit(parts, &places.kit, report)?;
        crash::point("init: offline kit there");
    }
    let values = Values {
        project: project.clone(),
        vault: Some(vault),
        stores: new_stores(options),
        endpoints: new_endpoints(options)?,
        recipients,
        identity_file: kept.then(|| places.identity.display().to_string()),
        key_file: places.signing.display().to_string(),
        trusted,
        state_dir: state_dir.display().to_string(),
    };
    let text = template::render(&options.proposal, &values);
    Config::parse(&text, &options.config_path)
        .doing(Class::Failed, || "internal: the proposed configuration is not valid".into())?;
    crate::durable::write_new(&options.config_path, text.as_bytes(), 0o644)
        .doing(Class::Failed, || format!("cannot write {}", options.config_path.display()))?;
    report.made.push(format!("configuration {}", options.config_path.display()));
    Ok(())
}

/// Names and paths of the stores of a new configuration, the primary first.
fn new_stores(options: &InitOptions) -> Vec<(String, String)> {
    let more =
        options.more_stores.iter().enumerate().map(|(n, path)| (format!("store-{}", n + 2), path.clone()));
    let first = if UrlPlace::is_url(&options.store) { "offsite" } else { "local" };
    std::iter::once((first.to_owned(), options.store.clone())).chain(more).collect()
}

/// The same as places.
fn new_places(options: &InitOptions) -> Result<Vec<(String, Place)>> {
    let place = |(name, place): (String, String)| {
        Ok(match UrlPlace::is_url(&place) {
            true => (name, Place::Url(Box::new(crate::ops::remote::named_bucket(&place, &[])?))),
            false => (name, Place::Path(options.dir.join(place))),
        })
    };
    new_stores(options).into_iter().map(place).collect()
}

/// Servers that the environment names: a configuration that left them there would mean another server for a timer or a service.
fn new_endpoints(options: &InitOptions) -> Result<BTreeMap<String, String>> {
    let places = new_places(options)?.into_iter().filter_map(|(name, place)| match place {
        Place::Url(place) => Some((name, place.endpoint?)),
        Place::Path(_) => None,
    });
    Ok(places.collect())
}

fn check_recipients(given: &[String]) -> Result<()> {
    if given.is_empty() {
        return Ok(());
    }
    RecipientSet::parse(given)
        .map(drop)
        .doing(Class::Usage, || "a recipient cannot be used".into())
        .map_err(|e| e.hint("a recipient is the line that begins with age1, as `age-keygen` prints it"))
}

fn project_name(dir: &Path) -> String {
    let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    crate::config::slug(&name).unwrap_or_else(|| "project".into())
}

//! Setting a project up: keys, configuration, store, kit. Can be run again at any time: makes what is lacking, changes nothing that is there.
//!
//! Keys come first and the configuration last, so that a run that was cut off leaves nothing that names a key which does not exist; what it
//! made is taken up by the next run.

use crate::catalog::State;
use crate::config::propose::Proposal;
use crate::config::template::Values;
use crate::config::{Config, Trusted, template};
use crate::keys::identity::{SecretIdentity, generate, load_identity_file};
use crate::keys::kit::Kit;
use crate::keys::{NamingKey, RecipientSet, Signer};
use crate::model::document::namespace;
use crate::model::mark::Role;
use crate::model::{Clock, HostId, VaultId};
use crate::ops::assets::{RECOVER_MD, RECOVER_PY};
use crate::ops::commit::AGENT;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::kit::{IdentityFrom, Parts, assemble, parts_of};
use crate::ops::layout::store_path;
use crate::ops::session::in_store;
use crate::ops::vault::{StoreInfo, store_info};
use crate::store::{Key, LocalStore, Store};
use std::path::{Path, PathBuf};

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
    /// The store's path, as it shall stand in a new configuration.
    pub store: String,
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
#[derive(Debug, Clone, serde::Serialize)]
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
    let mut report = InitReport {
        config: options.config_path.display().to_string(),
        made: Vec::new(),
        components: Vec::new(),
        kit: None,
        identity_only_in_kit: false,
        kit_opens: false,
        stores: Vec::new(),
        notes: options.proposal.notes.clone(),
    };
    if options.config_path.symlink_metadata().is_err() {
        fresh(options, clock, &mut report)?;
    }
    let config = load(&options.config_path)?;
    report.components = config.components.iter().map(|c| c.name.to_string()).collect();
    let signer = Signer::load(&config.signing.key_file)
        .doing(Class::Config, || "cannot load this host's signing key".into())
        .map_err(|e| e.hint("if this machine is a new one, bring the keys back from the recovery kit"))?;
    let state = State::open(&config.state_dir)
        .doing(Class::Failed, || format!("cannot open the state directory {}", config.state_dir.display()))?;
    let vault = match config.project.vault.clone() {
        Some(vault) => vault,
        None => known_vault(&state, &config)?,
    };
    for store in &config.stores {
        let path = store_path(store);
        make_store(&store.name, path, &vault, &signer, clock, &mut report)?;
        report.stores.push(format!("{} ({})", store.name, path.display()));
    }
    complete_kit(options, &config, (vault, signer.id().into()), &mut report, clock)?;
    Ok(report)
}

fn load(path: &Path) -> Result<Config> {
    Config::load(path).doing(Class::Config, || format!("{} cannot be used", path.display()))
}

/// The vault of a configuration that does not name it: that of its first store, or a new one.
fn known_vault(state: &State, config: &Config) -> Result<VaultId> {
    let seen = state.vault().doing(Class::Damage, || "cannot read which vault this is".into())?;
    if let Some(vault) = seen {
        return Ok(vault);
    }
    for store in &config.stores {
        if let Ok(open) = LocalStore::open(&store.name, store_path(store)) {
            return Ok(store_info(&open)?.vault);
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
    let signer = make_signer(&places, report)?;
    make_naming(&places, report)?;
    let Sealing { recipients, identity, vault } = make_recipients(options, &places, clock, report)?;
    let vault = vault.map_or_else(new_id, Ok)?;
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
            stores: vec![("local".to_owned(), options.dir.join(&options.store))],
            trusted: &trusted,
            heads: crate::model::chain::Heads::new(),
            now: clock.now(),
        };
        write_kit(parts, &places.kit, report)?;
    }
    let values = Values {
        project: project.clone(),
        vault: Some(vault),
        stores: vec![("local".into(), options.store.clone())],
        recipients,
        identity_file: kept.then(|| places.identity.display().to_string()),
        key_file: places.signing.display().to_string(),
        trusted,
        state_dir: options.state_root.join(places.dir.file_name().unwrap_or_default()).display().to_string(),
    };
    let text = template::render(&options.proposal, &values);
    Config::parse(&text, &options.config_path)
        .doing(Class::Failed, || "internal: the proposed configuration is not valid".into())?;
    crate::durable::write_new(&options.config_path, text.as_bytes(), 0o644)
        .doing(Class::Failed, || format!("cannot write {}", options.config_path.display()))?;
    report.made.push(format!("configuration {}", options.config_path.display()));
    Ok(())
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

/// The folder of this project's keys: one that an earlier run for the same project made, or a new one. Two projects of one name get two.
fn key_places(options: &InitOptions, project: &str) -> Result<KeyPlaces> {
    let whose = options.config_path.as_os_str().as_encoded_bytes();
    for number in 1.. {
        let name = if number == 1 { project.to_owned() } else { format!("{project}-{number}") };
        let dir = options.keys_root.join(name);
        let marker = dir.join("project");
        let cannot = || format!("cannot make the key folder {}", dir.display());
        match std::fs::read(&marker) {
            Ok(owner) if owner == whose => {}
            Ok(_) => continue,
            Err(_) if dir.join("signing_key").exists() => continue,
            Err(_) => {
                crate::durable::create_dirs(&dir, 0o700).doing(Class::Failed, cannot)?;
                crate::durable::write_new(&marker, whose, 0o600).doing(Class::Failed, cannot)?;
            }
        }
        return Ok(KeyPlaces {
            identity: dir.join("identity.txt"),
            signing: dir.join("signing_key"),
            kit: options.kit.clone().unwrap_or_else(|| dir.join("recovery-kit.txt")),
            dir,
        });
    }
    Err(OpError::new(Class::Failed, "no name is free for the key folder"))
}

fn make_signer(places: &KeyPlaces, report: &mut InitReport) -> Result<Signer> {
    let cannot = || format!("cannot use the signing key {}", places.signing.display());
    if places.signing.exists() {
        return Signer::load(&places.signing).doing(Class::Config, cannot);
    }
    let signer = Signer::generate().doing(Class::Failed, cannot)?;
    signer.write(&places.signing).doing(Class::Failed, cannot)?;
    report.made.push(format!("signing key {}", places.signing.display()));
    Ok(signer)
}

fn make_naming(places: &KeyPlaces, report: &mut InitReport) -> Result<()> {
    let path = naming_path(&places.signing);
    if path.exists() {
        return Ok(());
    }
    let cannot = || format!("cannot write the naming key {}", path.display());
    NamingKey::generate().and_then(|key| key.write(&path)).doing(Class::Failed, cannot)?;
    report.made.push(format!("naming key {}", path.display()));
    Ok(())
}

/// The naming key lies beside the signing key.
pub fn naming_path(signing: &Path) -> PathBuf {
    signing.with_file_name("naming_key")
}

/// Whom a new project's snapshots are sealed to.
struct Sealing {
    recipients: Vec<String>,
    /// The identity, when it must not be on this machine.
    identity: Option<SecretIdentity>,
    /// The vault, when an earlier run wrote a kit for it that cannot be made again.
    vault: Option<VaultId>,
}

fn make_recipients(
    options: &InitOptions,
    places: &KeyPlaces,
    clock: &dyn Clock,
    report: &mut InitReport,
) -> Result<Sealing> {
    let sealing = |recipients, identity| Ok(Sealing { recipients, identity, vault: None });
    if !options.recipients.is_empty() {
        return sealing(options.recipients.clone(), None);
    }
    let cannot = || format!("cannot use the identity {}", places.identity.display());
    if options.offline_identity {
        if places.kit.exists() {
            return offline_again(places);
        }
        let (identity, recipient) = generate();
        return sealing(vec![recipient], Some(identity));
    }
    if places.identity.exists() {
        let there = load_identity_file(&places.identity).doing(Class::Config, cannot)?;
        return sealing(there.iter().map(SecretIdentity::recipient).collect(), None);
    }
    let (identity, recipient) = generate();
    identity.write(&places.identity, clock.now()).doing(Class::Failed, cannot)?;
    report.made.push(format!("identity {}", places.identity.display()));
    sealing(vec![recipient], None)
}

/// A run that was cut off after it wrote the kit: the identity is there and nowhere else, so the vault is the one that the kit names.
fn offline_again(places: &KeyPlaces) -> Result<Sealing> {
    let kit = Kit::load(&places.kit).doing(Class::Config, || {
        format!("{} is there, but is no kit of an earlier run", places.kit.display())
    })?;
    Ok(Sealing { recipients: kit.recipients, identity: None, vault: Some(kit.vault) })
}

/// Makes a store where there is none; compares where there is one.
fn make_store(
    name: &str,
    path: &Path,
    vault: &VaultId,
    signer: &Signer,
    clock: &dyn Clock,
    report: &mut InitReport,
) -> Result<()> {
    if let Ok(open) = LocalStore::open(name, path) {
        let info = store_info(&open)?;
        if info.vault == *vault {
            return Ok(());
        }
        return Err(OpError::new(
            Class::Config,
            format!("{} holds the vault of another project", path.display()),
        )
        .hint("name another folder for this project's store"));
    }
    let cannot = || format!("cannot make store {name:?} in {}", path.display());
    let store = LocalStore::create(name, path).doing(Class::Store, cannot)?;
    for (key, signature_key, bytes) in
        [(Key::RecoverMd, Key::RecoverMdSig, RECOVER_MD), (Key::RecoverPy, Key::RecoverPySig, RECOVER_PY)]
    {
        if in_store(&store, store.head(&key))?.is_some()
            && in_store(&store, store.head(&signature_key))?.is_some()
        {
            continue; // an earlier run was cut off after these
        }
        let signature = signer.sign(namespace::RECOVER, bytes).doing(Class::Failed, cannot)?;
        in_store(&store, store.put_bytes(&key, bytes))?;
        in_store(&store, store.put_bytes(&signature_key, signature.as_bytes()))?;
    }
    ignore_file(path)?;
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
    // Last: a store without this file is no store yet.
    in_store(&store, store.put_bytes(&Key::Store, &line))?;
    report.made.push(format!("store {}", path.display()));
    Ok(())
}

/// A store in a working tree must not be committed to git.
fn ignore_file(store: &Path) -> Result<()> {
    let path = store.join(".gitignore");
    if path.exists() {
        return Ok(());
    }
    crate::durable::write_new(&path, b"# backups do not belong into git\n*\n", 0o644)
        .doing(Class::Store, || format!("cannot write {}", path.display()))
}

fn write_kit(parts: Parts<'_>, path: &Path, report: &mut InitReport) -> Result<()> {
    let kit = assemble(parts)?;
    kit.write(path)
        .doing(Class::Failed, || format!("cannot write the recovery kit to {}", path.display()))?;
    report.made.push(format!("recovery kit {}", path.display()));
    Ok(())
}

/// Writes the kit when it is not there yet and can be made here.
fn complete_kit(
    options: &InitOptions,
    config: &Config,
    (vault, host): (VaultId, HostId),
    report: &mut InitReport,
    clock: &dyn Clock,
) -> Result<()> {
    let beside = config.signing.key_file.with_file_name("recovery-kit.txt");
    let path = options.kit.clone().unwrap_or(beside);
    let identity_here = config.encryption.identity_file.as_ref().is_some_and(|f| f.exists());
    report.kit = Some(path.display().to_string());
    if path.symlink_metadata().is_err() {
        report.kit_opens = identity_here;
        return write_kit(parts_of(config, vault, host, clock.now()), &path, report);
    }
    let kit = Kit::load(&path)
        .doing(Class::Config, || format!("{} is there, but is no recovery kit", path.display()))
        .map_err(|e| {
            e.hint("move it away, or name another file with --kit; nothing is ever written over it")
        })?;
    if kit.vault != vault {
        let what = format!("{} is the recovery kit of another project", path.display());
        return Err(OpError::new(Class::Config, what).hint("name another file with --kit"));
    }
    report.kit_opens = !kit.identities.is_empty();
    report.identity_only_in_kit = report.kit_opens && !identity_here;
    Ok(())
}

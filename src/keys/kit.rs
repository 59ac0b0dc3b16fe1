//! The recovery kit: one printable text with all that a fresh machine needs beside the credentials of its stores.
//!
//! A kit may hold every secret of a project. It must never be shown by `Debug`, and errors about a kit name lines, never what is on them.

use crate::keys::error::{KeyError, shown};
use crate::keys::file::write_secret;
use crate::keys::identity::{Identities, SecretIdentity};
use crate::keys::kit_block::{self, Field};
use crate::keys::kit_text;
use crate::keys::naming::NamingKey;
use crate::keys::signer::Signer;
use crate::keys::trust::{TrustList, TrustedKey};
use crate::model::chain::Heads;
use crate::model::mark::Role;
use crate::model::{HostId, ObjectId, VaultId};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zeroize::Zeroizing;

/// A text larger than this is no kit.
const KIT_BYTES_MAX: usize = 4 << 20;
const PEM_BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const PEM_END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAt {
    /// A folder.
    Path(String),
    /// An address; must not hold a secret.
    Url(String),
}

/// A store as a kit names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KitStore {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub at: StoreAt,
    /// Settings needed to reach it (endpoint, region, …). The maker of the kit leaves out what is secret.
    pub settings: BTreeMap<String, String>,
}

/// All that a kit holds. `Debug` shows no secret: the key types redact themselves.
#[derive(Debug, Clone)]
pub struct Kit {
    /// When it was made.
    pub printed: Timestamp,
    /// The project.
    pub project: String,
    /// The name of the machine.
    pub hostname: String,
    /// Its host id.
    pub host: HostId,
    /// The vault.
    pub vault: VaultId,
    /// The stores of the vault.
    pub stores: Vec<KitStore>,
    /// Private keys that open it; none when they are kept elsewhere.
    pub identities: Vec<SecretIdentity>,
    /// Whom objects are sealed to.
    pub recipients: Vec<String>,
    /// The host's signing key: with it a fresh machine introduces its own.
    pub signing_key: Option<Signer>,
    /// Trusted keys with their roles.
    pub trusted: TrustList,
    /// What component numbers are made with.
    pub naming_key: Option<NamingKey>,
    /// SHA-256 of `recover.py` as it lies in the stores.
    pub recover_py: Option<ObjectId>,
    /// SHA-256 of `RECOVER.md` as it lies in the stores.
    pub recover_md: Option<ObjectId>,
    /// The highest entries known of each signer: a history that ends below them was rolled back.
    pub heads: Heads,
}

/// Why a text is not a kit that can be used. Names lines, never what is on them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// The file cannot be read.
    #[error("cannot read recovery kit {}", shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no block.
    #[error(
        "the text holds no recovery kit: the line {:?} is not there or mistyped",
        kit_block::BEGIN
    )]
    NoBlock,
    /// There are several.
    #[error("the text holds more than one recovery kit")]
    SeveralBlocks,
    /// The block does not end.
    #[error(
        "the recovery kit is cut off, or its last line {:?} is mistyped",
        kit_block::END
    )]
    NoEnd,
    /// The check of a line does not fit.
    #[error("line {line} of the recovery kit is mistyped or incomplete")]
    Mistyped {
        /// Its number in the block.
        line: usize,
    },
    /// A line is not there, or comes at the wrong place.
    #[error("line {line} of the recovery kit is missing or not at its place")]
    MissingLine {
        /// Its number in the block.
        line: usize,
    },
    /// Each line is right, but not all together.
    #[error("the lines of the recovery kit do not belong together: one is from another kit")]
    Sum,
    /// Written by a later program.
    #[error(
        "the recovery kit has format {format:?}, which this backstay does not understand (format 1)"
    )]
    TooNew {
        /// Its format.
        format: String,
    },
    /// A line is typed right, but says something impossible.
    #[error("line {line} of the recovery kit cannot be used: {what} is not what it should be")]
    Bad {
        /// Its number in the block.
        line: usize,
        /// What it should hold.
        what: &'static str,
    },
    /// Something that every kit has is not there.
    #[error("the recovery kit does not say {what}")]
    Missing {
        /// What.
        what: &'static str,
    },
}

impl Kit {
    /// The whole kit as text of at most 78 columns (names and addresses that are longer aside): how to use it, then the block.
    pub fn render(&self) -> Zeroizing<String> {
        // Enough at once: a text that grows leaves copies of the keys behind.
        let mut text = Zeroizing::new(String::with_capacity(256 << 10));
        kit_text::instructions(self, &mut text);
        kit_block::encode(&self.fields(), &mut text);
        text
    }

    /// Parses a kit, in whatever text it lies.
    pub fn parse(text: &str) -> Result<Self, KitError> {
        let fields = kit_block::decode(text)?;
        let mut parts = Parts::default();
        fields.iter().try_for_each(|field| parts.take(field))?;
        parts.finish()
    }

    /// Reads a kit from a file. Its mode is not asked for: kits come on sticks and from scanners, when there is no time for that.
    pub fn load(path: &Path) -> Result<Self, KitError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256 << 10));
        let file = std::fs::File::open(path);
        let read = file.and_then(|f| f.take(KIT_BYTES_MAX as u64).read_to_end(&mut bytes));
        read.map_err(|source| KitError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        // A scanned page may hold anything around the block.
        Self::parse(&Zeroizing::new(
            String::from_utf8_lossy(&bytes).into_owned(),
        ))
    }

    /// Writes the kit into a new file for its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        write_secret(path, &self.render())
    }

    /// The private keys, ready to open objects.
    pub fn open_with(&self) -> Identities {
        Identities::from_secrets(self.identities.iter().cloned())
    }

    fn fields(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let mut fields = Fields(Vec::new());
        fields.put("kit", "1");
        fields.put("printed", self.printed);
        fields.put("project", &self.project);
        fields.put("hostname", &self.hostname);
        fields.put("host", self.host);
        fields.put("vault", &self.vault);
        self.stores.iter().for_each(|store| fields.put_store(store));
        self.identities
            .iter()
            .for_each(|identity| fields.0.push(("identity", identity.reveal())));
        self.recipients
            .iter()
            .for_each(|recipient| fields.put("recipient", recipient));
        if let Some(pem) = self.signing_key.as_ref().and_then(|key| key.reveal().ok()) {
            let body = pem.lines().filter(|line| !line.starts_with("-----"));
            let body = body.fold(
                Zeroizing::new(String::with_capacity(pem.len())),
                |mut all, line| {
                    all.push_str(line);
                    all
                },
            );
            fields.0.push(("signing-key", body));
        }
        self.trusted
            .keys()
            .iter()
            .for_each(|key| fields.put_trusted(key));
        fields.0.extend(
            self.naming_key
                .as_ref()
                .map(|key| ("naming-key", key.reveal())),
        );
        self.recover_py
            .iter()
            .for_each(|hash| fields.put("recover.py", hash));
        self.recover_md
            .iter()
            .for_each(|hash| fields.put("RECOVER.md", hash));
        for (signer, (number, hash)) in &self.heads {
            fields.put("head", format!("{signer}:{number}:{hash}"));
        }
        fields.0
    }
}

struct Fields(Vec<(&'static str, Zeroizing<String>)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: impl ToString) {
        self.0.push((name, Zeroizing::new(value.to_string())));
    }

    fn put_store(&mut self, store: &KitStore) {
        self.put("store", &store.name);
        match &store.at {
            StoreAt::Path(path) => self.put("store-path", path),
            StoreAt::Url(url) => self.put("store-url", url),
        }
        for (name, value) in &store.settings {
            self.put("store-set", format!("{name}={value}"));
        }
    }

    fn put_trusted(&mut self, key: &TrustedKey) {
        self.put("trusted", key.key.trim_start_matches("ssh-ed25519 "));
        self.put("trusted-name", &key.name);
        self.put(
            "trusted-roles",
            key.roles
                .iter()
                .map(|role| role_text(*role))
                .collect::<Vec<_>>()
                .join(","),
        );
        key.host
            .iter()
            .for_each(|host| self.put("trusted-host", host));
    }
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Host => "host",
        Role::Verify => "verify",
        Role::Prune => "prune",
    }
}

fn role_of(text: &str) -> Option<Role> {
    [Role::Host, Role::Verify, Role::Prune]
        .into_iter()
        .find(|role| role_text(*role) == text)
}

/// A kit while its fields are read.
#[derive(Default)]
struct Parts {
    printed: Option<Timestamp>,
    project: Option<String>,
    hostname: Option<String>,
    host: Option<HostId>,
    vault: Option<VaultId>,
    stores: Vec<(KitStore, bool)>,
    identities: Vec<SecretIdentity>,
    recipients: Vec<String>,
    signing_key: Option<Signer>,
    trusted: Vec<TrustedKey>,
    naming_key: Option<NamingKey>,
    recover_py: Option<ObjectId>,
    recover_md: Option<ObjectId>,
    heads: Heads,
}

fn parsed<T: FromStr>(field: &Field, what: &'static str) -> Result<T, KitError> {
    field.value.parse().map_err(|_| KitError::Bad {
        line: field.line,
        what,
    })
}

impl Parts {
    fn take(&mut self, field: &Field) -> Result<(), KitError> {
        let value = field.value.as_str();
        let bad = |what| KitError::Bad {
            line: field.line,
            what,
        };
        match field.name.as_str() {
            "printed" => self.printed = Some(parsed(field, "a time")?),
            "project" => self.project = Some(value.to_owned()),
            "hostname" => self.hostname = Some(value.to_owned()),
            "host" => self.host = Some(parsed(field, "a host id")?),
            "vault" => self.vault = Some(parsed(field, "a vault id")?),
            "recipient" => self.recipients.push(value.to_owned()),
            "recover.py" => self.recover_py = Some(parsed(field, "a hash")?),
            "RECOVER.md" => self.recover_md = Some(parsed(field, "a hash")?),
            "identity" => {
                self.identities
                    .push(SecretIdentity::parse(value).ok_or_else(|| bad("an identity"))?);
            }
            "signing-key" => {
                self.signing_key = Some(signing_key(value).ok_or_else(|| bad("a signing key"))?)
            }
            "naming-key" => {
                self.naming_key = Some(NamingKey::parse(value).ok_or_else(|| bad("a naming key"))?)
            }
            "head" => self
                .take_head(value)
                .ok_or_else(|| bad("the head of a history"))?,
            name if name.starts_with("store") => {
                self.take_store(name, value).ok_or_else(|| bad("a store"))?
            }
            name if name.starts_with("trusted") => {
                self.take_trusted(name, value)
                    .ok_or_else(|| bad("a trusted key"))?;
            }
            // A later program may say more.
            _ => {}
        }
        Ok(())
    }

    fn take_head(&mut self, value: &str) -> Option<()> {
        let mut parts = value.split(':');
        let (signer, number, hash) = (parts.next()?, parts.next()?, parts.next()?);
        self.heads.insert(
            signer.parse().ok()?,
            (number.parse().ok()?, hash.parse().ok()?),
        );
        Some(())
    }

    fn take_store(&mut self, name: &str, value: &str) -> Option<()> {
        if name == "store" {
            let at = StoreAt::Path(String::new());
            self.stores.push((
                KitStore {
                    name: value.to_owned(),
                    at,
                    settings: BTreeMap::new(),
                },
                false,
            ));
            return Some(());
        }
        let (store, placed) = self.stores.last_mut()?;
        match name {
            "store-path" => (store.at, *placed) = (StoreAt::Path(value.to_owned()), true),
            "store-url" => (store.at, *placed) = (StoreAt::Url(value.to_owned()), true),
            "store-set" => {
                let (name, value) = value.split_once('=')?;
                store.settings.insert(name.to_owned(), value.to_owned());
            }
            _ => {}
        }
        Some(())
    }

    fn take_trusted(&mut self, name: &str, value: &str) -> Option<()> {
        if name == "trusted" {
            self.trusted
                .push(TrustedKey::parse(&format!("ssh-ed25519 {value}")).ok()?);
            return Some(());
        }
        let key = self.trusted.last_mut()?;
        match name {
            "trusted-name" => value.clone_into(&mut key.name),
            "trusted-host" => key.host = Some(value.parse().ok()?),
            "trusted-roles" => {
                let roles = value.split(',').filter(|role| !role.is_empty());
                key.roles = roles.map(role_of).collect::<Option<_>>()?;
            }
            _ => {}
        }
        Some(())
    }

    fn finish(self) -> Result<Kit, KitError> {
        let missing = |what| KitError::Missing { what };
        if self.stores.iter().any(|(_, placed)| !placed) {
            return Err(missing("where a store is"));
        }
        Ok(Kit {
            printed: self.printed.ok_or_else(|| missing("when it was made"))?,
            project: self
                .project
                .ok_or_else(|| missing("which project it is of"))?,
            hostname: self
                .hostname
                .ok_or_else(|| missing("which machine it is of"))?,
            host: self.host.ok_or_else(|| missing("which host it is of"))?,
            vault: self.vault.ok_or_else(|| missing("which vault it opens"))?,
            stores: self.stores.into_iter().map(|(store, _)| store).collect(),
            identities: self.identities,
            recipients: self.recipients,
            signing_key: self.signing_key,
            trusted: self.trusted.into_iter().collect(),
            naming_key: self.naming_key,
            recover_py: self.recover_py,
            recover_md: self.recover_md,
            heads: self.heads,
        })
    }
}

/// A signing key from the text between the first and last line of its file.
fn signing_key(body: &str) -> Option<Signer> {
    let mut pem = Zeroizing::new(String::with_capacity(body.len() * 2 + 128));
    pem.push_str(PEM_BEGIN);
    for (i, c) in body.chars().enumerate() {
        if i % 70 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push('\n');
    pem.push_str(PEM_END);
    pem.push('\n');
    Signer::parse(&pem).ok()
}

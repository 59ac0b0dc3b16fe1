//! From what the file says to a valid [`Config`]: names, keys, retention, and what fits with what.
//!
//! Looks at nothing but the text and the two directories it is given: whether a path exists is for the operations to say.

use crate::config::agent::agent;
use crate::config::block::{At, Block};
use crate::config::component::component;
use crate::config::name::{is_name, slug};
use crate::config::notify::notify;
use crate::config::paths::{Bases, one_path};
use crate::config::places::{Role as PlaceRole, Sited, check_places};
use crate::config::rebuild::emergency;
use crate::config::render::{Found, SECRET_KEY};
use crate::config::retention::retention;
use crate::config::schedule::timetable;
use crate::config::schema::{Kind, Section};
use crate::config::service::{hooks, services};
use crate::config::settings::{
    Component, Config, Encryption, Packing, Project, Signing, Spec, Trusted, Verify,
};
use crate::config::store::stores;
use crate::config::url::Surroundings;
use crate::model::VaultId;
use crate::model::mark::Role;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Mistakes and places, as they are gathered.
pub(super) struct Work<'a> {
    pub bases: &'a Bases,
    pub around: &'a Surroundings<'a>,
    pub found: Vec<Found>,
    pub places: Vec<Sited>,
}

impl Work<'_> {
    pub(super) fn mistake(&mut self, found: Found) {
        self.found.push(found);
    }

    /// A path of the file, made absolute and remembered for the comparison of places.
    pub(super) fn site(&mut self, role: PlaceRole, label: &str, path: Option<At<String>>) -> Option<PathBuf> {
        let At { value, span } = path?;
        match one_path(self.bases, &value) {
            Ok(path) => {
                self.places.push(Sited { role, label: label.to_owned(), path: path.clone(), span });
                Some(path)
            }
            Err((what, hint)) => {
                self.mistake(Found::at(&span, what).hint(hint));
                None
            }
        }
    }
}

/// Makes a configuration of what `file` says, and adds to `found` what is wrong with it. `text` is the whole file, `path` its absolute
/// path. What the reader left out is passed over: it has been complained of.
pub(super) fn resolve(
    mut file: Block,
    text: &str,
    path: &Path,
    (bases, around): (&Bases, &Surroundings<'_>),
    found: &mut Vec<Found>,
) -> Option<Config> {
    let mut work = Work { bases, around, found: Vec::new(), places: Vec::new() };
    let project = file.block("project").and_then(|block| project(&mut work, block));
    let blocks = file.blocks("component");
    let any = !blocks.is_empty();
    let components = components(&mut work, blocks);
    let services = services(&mut work, &mut file, &components);
    let hooks = hooks(&mut work, &mut file, &components);
    let emergency = emergency(&mut file);
    let stores = stores(&mut work, &mut file);
    let encryption = encryption(&mut work, &mut file, any);
    let signing = file.block("signing").and_then(|block| signing(&mut work, block));
    let retention = file.block("retention").and_then(|block| retention(&mut work, block)).unwrap_or_default();
    let packing = packing(file.block("packing"));
    let verify = file.block("verify").map(|block| verify(&mut work, block)).unwrap_or_default();
    let schedule = file.block("schedule").map(|block| timetable(&mut work, block, &components));
    let notify = file.block("notify").map(|block| notify(&mut work, block)).unwrap_or_default();
    let agent = file.block("agent").map(|block| agent(&mut work, block)).unwrap_or_default();
    let state_dir = file
        .block("state")
        .and_then(|mut b| work.site(PlaceRole::State, "the state directory", b.text("dir")));
    check_places(&work.places, &mut work.found);
    found.append(&mut work.found);
    Some(Config {
        path: path.to_owned(),
        dir: bases.dir.clone(),
        text: text.to_owned(),
        project: project?,
        components,
        stores,
        encryption,
        signing: signing?,
        retention,
        packing,
        services,
        hooks,
        emergency,
        verify,
        schedule,
        notify,
        agent,
        state_dir: state_dir?,
    })
}

fn bad_name(span: &Range<usize>, text: &str) -> Found {
    let what =
        format!("{text:?} is no name: a-z, 0-9, `-`, `_` and `.`, the first a letter or digit, at most 64");
    let found = Found::at(span, what);
    match slug(text) {
        Some(slug) => found.hint(format!("did you mean `{slug}`?")),
        None => found,
    }
}

pub(super) fn name(work: &mut Work<'_>, at: Option<At<String>>) -> Option<String> {
    let At { value, span } = at?;
    if is_name(&value) {
        return Some(value);
    }
    work.mistake(bad_name(&span, &value));
    None
}

/// Complains of keys of `block` that mean nothing beside the deciding key `kind`. `noun`: `a component`, `a store`.
pub(super) fn check_keys(work: &mut Work<'_>, block: &Block, section: &Section, kind: &str, noun: &str) {
    for (name, span) in &block.named {
        let Some(key) = section.key(name) else {
            continue;
        };
        if key.only.is_empty() || key.only.contains(&kind) || matches!(key.kind, Kind::Later(_)) {
            continue;
        }
        let means = key.only.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(" or ");
        let what = format!("`{name}` means nothing in {noun} with `{kind}`");
        let many = noun.trim_start_matches("a ");
        let hint = format!("it belongs to {many}s with {means}; remove it");
        work.mistake(Found::at(span, what).hint(hint));
    }
}

fn project(work: &mut Work<'_>, mut block: Block) -> Option<Project> {
    let vault = block.text("vault").and_then(|At { value, span }| match value.parse::<VaultId>() {
        Ok(vault) => Some(vault),
        Err(error) => {
            work.mistake(
                Found::at(&span, error.to_string())
                    .hint("it stands in backstay.json of the store, as `vault`"),
            );
            None
        }
    });
    Some(Project { name: name(work, block.text("name"))?, vault })
}

fn components(work: &mut Work<'_>, blocks: Vec<Block>) -> Vec<Component> {
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let mut components = Vec::new();
    for mut block in blocks {
        let name = block.text("name");
        if let Some(At { value, span }) = &name
            && seen.insert(value.clone(), ()).is_some()
        {
            work.mistake(
                Found::at(span, format!("there are two components {value:?}")).hint("give each its own name"),
            );
        }
        components.extend(component(work, name, block));
    }
    components
}

fn encryption(work: &mut Work<'_>, file: &mut Block, components: bool) -> Encryption {
    let hint = "add recipients = [\"age1…\"]: the public keys that snapshots are sealed to; `age-keygen` makes a key pair";
    let Some(mut block) = file.block("encryption") else {
        if components && !file.has("encryption") {
            work.mistake(Found::nowhere("there is no [encryption]").hint(hint));
        }
        return Encryption::default();
    };
    let said = block.named.get("recipients").cloned();
    let wrong = said.is_some() && !block.fields.contains_key("recipients");
    let recipients = block.texts("recipients");
    if let (Some(span), true, false) = (said, recipients.is_empty() && components, wrong) {
        work.mistake(Found::at(&span, "there are components, but nobody who could open them").hint(hint));
    }
    for At { value, span } in &recipients {
        if let Err((what, hint)) = recipient(value) {
            work.mistake(Found::at(span, what).hint(hint));
        }
    }
    let identity_file = work.site(PlaceRole::Key, "the identity file", block.text("identity_file"));
    let passphrase = block.text("passphrase_file");
    if let (Some(at), None) = (&passphrase, &identity_file) {
        let what = "`passphrase_file` means nothing without `identity_file`";
        work.mistake(Found::at(&at.span, what).hint("it opens that file; remove it"));
    }
    let passphrase_file = work.site(PlaceRole::Key, "the passphrase file", passphrase);
    let recipients = recipients.into_iter().map(|at| at.value).collect();
    Encryption { recipients, identity_file, passphrase_file }
}

/// Only the shape: whether a key can be used is for `keys` to say.
fn recipient(text: &str) -> Result<(), (String, &'static str)> {
    if text.to_ascii_uppercase().contains(SECRET_KEY) {
        let hint = "put the public key here, `age-keygen -y FILE` shows it; a private key that stood here must be replaced";
        return Err(("this is a private key, not a recipient".to_owned(), hint));
    }
    if text.starts_with("ssh-") {
        return Err((
            "SSH keys are no recipients".to_owned(),
            "`age-keygen` makes an age key pair; put its public key here",
        ));
    }
    let shaped =
        text.starts_with("age1") && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if shaped && text.len() >= 62 {
        return Ok(());
    }
    let what = format!("{text:?} is not an age recipient");
    Err((what, "a recipient is `age1` and at least 58 lower-case letters and digits; is it cut off?"))
}

fn signing(work: &mut Work<'_>, mut block: Block) -> Option<Signing> {
    let mut trusted: Vec<Trusted> = Vec::new();
    for mut entry in block.blocks("trusted") {
        let (key, name, roles) = (entry.text("key"), entry.text("name"), entry.texts("roles"));
        let roles = roles_of(&roles);
        let Some(At { value, span }) = key else {
            continue;
        };
        let Some(key) = public_key(&value) else {
            let hint = "`ssh-ed25519 AAAA…`, as in the .pub file beside the signing key";
            work.mistake(Found::at(&span, "this is not an OpenSSH Ed25519 public key").hint(hint));
            continue;
        };
        if trusted.iter().any(|t| t.key == key) {
            work.mistake(
                Found::at(&span, "this key is trusted twice").hint("give it all its roles in one entry"),
            );
        }
        trusted.extend(name.map(|name| Trusted { key, name: name.value, roles }));
    }
    let key_file = work.site(PlaceRole::Key, "the signing key", block.text("key_file"))?;
    Some(Signing { key_file, trusted })
}

/// The reader lets only the known words through.
fn roles_of(words: &[At<String>]) -> Vec<Role> {
    let said = |word: &str| words.iter().any(|at| at.value == word);
    let all = [("host", Role::Host), ("verify", Role::Verify), ("prune", Role::Prune)];
    all.into_iter().filter(|(word, _)| said(word)).map(|(_, role)| role).collect()
}

/// The key without its comment, if it is one.
fn public_key(text: &str) -> Option<String> {
    let mut words = text.split_ascii_whitespace();
    let (kind, blob) = (words.next()?, words.next()?);
    let raw = data_encoding::BASE64.decode(blob.as_bytes()).ok()?;
    let shaped = raw.len() == 51 && raw.starts_with(b"\0\0\0\x0bssh-ed25519\0\0\0\x20");
    (kind == "ssh-ed25519" && shaped).then(|| format!("{kind} {blob}"))
}

fn packing(block: Option<Block>) -> Packing {
    let Some(mut block) = block else {
        return Packing::default();
    };
    let level = block.number("level").and_then(|level| i32::try_from(level).ok());
    Packing { level: level.unwrap_or(Packing::default().level), archive_size: block.number("archive_size") }
}

fn verify(work: &mut Work<'_>, mut block: Block) -> Verify {
    let scratch = work.site(PlaceRole::Scratch, "the scratch place", block.text("scratch"));
    Verify { reverify: block.time("reverify").unwrap_or(Verify::default().reverify), scratch }
}

impl Spec {
    /// The paths that this component captures; none for commands.
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Self::Folder { path } | Self::Sqlite { path, .. } => std::slice::from_ref(path),
            Self::Paths { paths } => paths,
            Self::Command { .. } | Self::Postgres { .. } => &[],
        }
    }
}

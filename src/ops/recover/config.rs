//! The configuration of the new machine: that of the snapshot, with the places of this machine's keys, state and stores.

use super::Looked;
use super::components;
use super::keys::Keys;
use super::place::Places;
use super::reach;
use crate::config::edit::{self, At, EditError, quoted};
use crate::config::{Config, UrlPlace};
use crate::keys::kit::{Kit, StoreAt};
use crate::model::index::Index;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::platform::place::tidy;
use std::path::{Path, PathBuf};

pub(super) type Edited<T> = std::result::Result<T, EditError>;

/// What the old configuration says as it stands there, before anything is filled in.
pub(super) struct Raw(toml::Table);

impl Raw {
    fn text(&self, table: &str, key: &str) -> Option<&str> {
        self.0.get(table)?.get(key)?.as_str()
    }

    fn stores(&self) -> Vec<&toml::Value> {
        self.list("store")
    }

    pub(super) fn list(&self, name: &str) -> Vec<&toml::Value> {
        self.0.get(name).and_then(toml::Value::as_array).map(|all| all.iter().collect()).unwrap_or_default()
    }
}

/// Whether the old machine could open its own snapshots.
pub(super) fn had_identity(index: &Index) -> bool {
    index
        .header
        .config
        .parse::<toml::Table>()
        .is_ok_and(|t| Raw(t).text("encryption", "identity_file").is_some())
}

/// The text, and what was changed in it that somebody should know.
pub(super) struct Text {
    pub(super) text: String,
    pub(super) notes: Vec<String>,
}

/// Makes the text and reads it as the file that it will be.
pub(super) fn make(
    looked: &Looked,
    index: &Index,
    places: &Places,
    keys: &Keys,
    state_dir: &Path,
) -> Result<(Text, Config)> {
    let cannot = || "the configuration of the snapshot cannot be taken over".to_owned();
    let by_hand = "the data is in its place; write a configuration by hand, from what `recover.py STORE --kit KIT show ID --config` prints";
    let made = text(looked, index, places, keys, state_dir);
    let text = made.map_err(|e| OpError::new(Class::Config, cannot()).because(e).hint(by_hand))?;
    let config = Config::parse(&text.text, &places.config);
    let config = config.map_err(|e| OpError::new(Class::Config, cannot()).because(e).hint(by_hand))?;
    Ok((text, config))
}

fn text(looked: &Looked, index: &Index, places: &Places, keys: &Keys, state_dir: &Path) -> Edited<Text> {
    let old = &index.header.config;
    let raw = Raw(old.parse().map_err(|_| EditError::NotToml)?);
    let mut notes = Vec::new();
    let (encryption, signing) = (At::Table("encryption"), At::Table("signing"));
    let path = |path: &Path| quoted(&path.display().to_string());
    let mut text = edit::set(old, signing, "key_file", &path(&keys.key_file))?;
    text = trust(&text, &raw, looked, keys, &mut notes)?;
    text = edit::set(&text, At::Table("state"), "dir", &path(state_dir))?;
    text = match &keys.identity_file {
        Some(file) => edit::set(&text, encryption, "identity_file", &path(file))?,
        None if had_identity(index) => {
            notes.push("the kit holds no identity, so this machine cannot open its own snapshots; `identity_file` in [encryption] changes that".into());
            edit::remove(&text, encryption, "identity_file")?
        }
        None => text,
    };
    if raw.text("encryption", "passphrase_file").is_some() && !keys.identity_locked {
        text = edit::remove(&text, encryption, "passphrase_file")?;
        notes.push(
            "the new identity file has no passphrase yet; `backstay keys passphrase` gives it one".into(),
        );
    }
    text = stores(&text, &raw, index, &looked.kit, &mut notes)?;
    text = folders(&text, &raw, looked, places, &mut notes)?;
    text = moved(&text, &raw, looked, &mut notes)?;
    text = components::moved(&text, &raw, places, &mut notes)?;
    Ok(Text { text, notes })
}

/// The new key, with the roles that the old one had here. One that was on this machine before may be listed, and a key that is listed twice is a mistake.
fn trust(text: &str, raw: &Raw, looked: &Looked, keys: &Keys, notes: &mut Vec<String>) -> Edited<String> {
    let trusted = raw.0.get("signing").and_then(|s| s.get("trusted")).and_then(toml::Value::as_array);
    let entry = |key: &str| {
        let is_key = |item: &&toml::Value| {
            item.get("key").and_then(toml::Value::as_str).is_some_and(|there| same_key(there, key))
        };
        trusted.and_then(|all| all.iter().find(is_key))
    };
    let new = keys.signer.public_text();
    if entry(new).is_some() {
        notes.push(format!(
            "the signing key of this project was still in {}, and is used on",
            keys.dir.display()
        ));
        return Ok(text.to_owned());
    }
    let old = looked.kit.signing_key.as_ref().and_then(|key| entry(key.public_text()));
    let roles = old.and_then(|item| item.get("roles"));
    let roles = roles.map_or_else(|| "[\"host\", \"verify\", \"prune\"]".to_owned(), ToString::to_string);
    let (key, name) = (quoted(new), quoted(&crate::platform::hostname()));
    let inline = format!("{{ key = {key}, name = {name}, roles = {roles} }}");
    let table = format!("[[signing.trusted]]\nkey = {key}\nname = {name}\nroles = {roles}\n");
    edit::push(text, At::Table("signing"), "trusted", &inline, &table)
}

/// The same, whatever is written behind either as a comment.
fn same_key(one: &str, other: &str) -> bool {
    one.split_ascii_whitespace().take(2).eq(other.split_ascii_whitespace().take(2))
}

/// Addresses that hold the old machine's name or variables are those that the kit has; files with cloud keys that are not here are not named.
fn stores(text: &str, raw: &Raw, index: &Index, kit: &Kit, notes: &mut Vec<String>) -> Edited<String> {
    let mut text = text.to_owned();
    for (number, store) in raw.stores().into_iter().enumerate() {
        let value = |key: &str| store.get(key).and_then(toml::Value::as_str);
        let at = At::Item("store", number);
        let name = value("name").unwrap_or_default();
        if let Some(url) = value("url").filter(|url| url.contains("{host}") || url.contains("${")) {
            let of_kit = kit.stores.iter().find(|s| s.name == name).and_then(|s| match &s.at {
                StoreAt::Url(url) => Some(url.clone()),
                StoreAt::Path(_) => None,
            });
            let filled = of_kit.unwrap_or_else(|| url.replace("{host}", &index.header.hostname));
            text = edit::set(&text, at, "url", &quoted(&filled))?;
            notes.push(format!("the url of store {name} is {filled} now: as it stood it would mean another place on this machine"));
        }
        for key in ["credentials_file", "ca_file"] {
            let file = value(key).map(PathBuf::from).filter(|file| file.is_absolute() && !file.exists());
            if let Some(file) = file {
                text = edit::remove(&text, at, key)?;
                notes.push(format!(
                    "{} is not on this machine, so `{key}` of store {name} was taken out of the configuration",
                    file.display()
                ));
            }
        }
    }
    Ok(text)
}

/// A store that is in a folder here stays in that folder. A relative path would mean an empty place of the new machine: a store would be made there, and
/// no configuration would name the one with the history any more.
fn folders(
    text: &str,
    raw: &Raw,
    looked: &Looked,
    places: &Places,
    notes: &mut Vec<String>,
) -> Edited<String> {
    let mut text = text.to_owned();
    for (number, store) in raw.stores().into_iter().enumerate() {
        let value = |key: &str| store.get(key).and_then(toml::Value::as_str);
        let (Some(name), Some(path)) = (value("name"), value("path")) else {
            continue;
        };
        let meant = tidy(&places.project.join(path)).unwrap_or_else(|_| places.project.join(path));
        let moves = reach::is_named(looked, name) || Path::new(path).is_relative() || !meant.exists();
        let folder = reach::folder_of(looked, name).filter(|folder| moves && !is_same(folder, &meant));
        if let Some(folder) = folder.and_then(|folder| folder.to_str().map(str::to_owned)) {
            text = edit::set(&text, At::Item("store", number), "path", &quoted(&folder))?;
            notes.push(format!(
                "store {name} is at {folder} now: by the `path` that it had it would be looked for at {}",
                meant.display()
            ));
        }
    }
    Ok(text)
}

/// Whether two paths lead to one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// A place that was named with `--store`, and that no folder of the configuration was set to: it is the bucket of the store that it was taken for, or
/// takes the place of the first of its kind that is not where the configuration says.
fn moved(text: &str, raw: &Raw, looked: &Looked, notes: &mut Vec<String>) -> Edited<String> {
    let Some(named) = reach::place_named(&looked.kit, &looked.session.around) else {
        return Ok(text.to_owned());
    };
    let is_url = UrlPlace::is_url(named);
    let key = if is_url { "url" } else { "path" };
    let place = if is_url { named.to_owned() } else { looked.session.store.location() };
    let stores = raw.stores();
    let value = |number: usize, key: &str| stores[number].get(key).and_then(toml::Value::as_str);
    let taken_for =
        (0..stores.len()).find(|&n| value(n, "name").is_some_and(|name| reach::is_named(looked, name)));
    if let Some(number) = taken_for {
        let name = value(number, "name").unwrap_or_default();
        let at_kits = looked.kit.stores.iter().any(|s| s.name == name && s.at == StoreAt::Url(place.clone()));
        // A copy of a bucket in a folder was only read; a folder was set already.
        if !is_url || value(number, key).is_none() || at_kits {
            return Ok(text.to_owned());
        }
        notes.push(format!("store {name} is at {place} now"));
        return edit::set(text, At::Item("store", number), key, &quoted(&place));
    }
    let is_here = |number| reach::folder_of(looked, value(number, "name").unwrap_or_default()).is_some();
    let lost = |&number: &usize| match value(number, key) {
        Some(_) if is_url => true,
        Some(path) => (Path::new(path).is_relative() || !Path::new(path).exists()) && !is_here(number),
        None => false,
    };
    match (0..stores.len()).find(lost) {
        _ if (0..stores.len()).any(|number| value(number, key) == Some(&place)) => Ok(text.to_owned()),
        Some(number) => {
            notes.push(format!("store {} is at {place} now", value(number, "name").unwrap_or_default()));
            edit::set(text, At::Item("store", number), key, &quoted(&place))
        }
        None => {
            notes.push(format!("{place} was added to the configuration as store \"recovered\""));
            let gap = if text.ends_with('\n') { "" } else { "\n" };
            Ok(format!("{text}{gap}\n[[store]]\nname = \"recovered\"\n{key} = {}\n", quoted(&place)))
        }
    }
}

/// Writes the configuration, never over another one.
pub(super) fn write(text: &Text, places: &Places) -> Result<()> {
    let cannot = || format!("cannot write {}", places.config.display());
    match std::fs::read(&places.config) {
        Ok(there) if there == text.text.as_bytes() => return Ok(()),
        Ok(_) => {
            let what =
                format!("{} is there already, and is not what would be written", places.config.display());
            return Err(OpError::new(Class::Config, what)
                .hint("compare it with the one of the snapshot; move it away and run the recovery again"));
        }
        Err(_) => {}
    }
    crate::ops::init::clear_unfinished(&places.config)?;
    crate::durable::write_new(&places.config, text.text.as_bytes(), 0o644).doing(Class::Failed, cannot)
}

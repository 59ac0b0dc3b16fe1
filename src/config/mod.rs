//! Row 1: the configuration: reading `backstay.toml`, proposing and writing one.
//!
//! Reading goes in two steps: [`Config::parse`] first takes what the TOML says (keys and types, by one table of keys), then makes a valid
//! [`Config`] of it. Both go on after a mistake, so that all are told at once, each with its line.
//!
//! This module must never ignore a key that it does not act on, never guess what a value was meant to be, never look at whether what a
//! path names exists, never ask anybody anything, and never show a secret that somebody put into the file.

mod agent;
mod block;
mod component;
pub mod edit;
mod exclude;
mod file;
mod keys;
mod locate;
mod mail;
mod name;
mod notify;
mod password;
mod paths;
mod places;
pub mod propose;
mod rebuild;
mod render;
mod resolve;
mod retention;
mod schedule;
mod schema;
mod service;
mod settings;
mod settings_agent;
mod settings_service;
mod store;
mod suggest;
mod survey;
mod syntax;
pub mod template;
mod units;
mod url;
mod url_place;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_init;

pub use locate::{FILE_NAME, check_permissions, find};
pub use mail::{Mail, MailTls};
pub use name::slug;
pub use notify::{Address, Notify, Ping, PostForm, Secret, Target, Tell, Way};
pub use render::{ConfigErrors, Mistake, Place as MistakePlace};
pub use retention::{Retention, Rule};
pub use schedule::{Job, Task, Timetable};
pub use settings::{
    Checksum, Cloud, CommandLine, Component, Config, Encryption, Packing, Place, Project, Signing, Spec,
    SqliteCheck, Sse, StoreConfig, Trusted, UrlPlace, Verify,
};
pub use settings_agent::{AgentSettings, Page, PageAt};
pub use settings_service::{Compose, Control, Event, Health, Hook, HookCommands, Probe, Rebuild, Service};
pub use url::leaves_in_the_open;
pub use url_place::BadUrl;

use crate::config::paths::Bases;
use crate::config::render::Found;
use crate::config::url::Surroundings;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A file larger than this is no configuration. It also bounds what every snapshot carries of it.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

impl Config {
    /// Reads and checks the file at `path`. As root, a file that others may change is refused.
    ///
    /// # Errors
    /// Every mistake in the file; or why it could not be read or is refused.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        check_permissions(path)?;
        let bytes = read_bounded(path)?;
        let text =
            String::from_utf8(bytes).map_err(|error| not_utf8(path, error.as_bytes(), error.utf8_error()))?;
        Self::parse_in_place(&text, path)
    }

    /// Checks `text` as [`Config::load`] would if it were the content of `path`: a leading `..` begins from where the file's folder really
    /// lies, which is another place than its name says when the way to it leads over a link.
    ///
    /// # Errors
    /// Every mistake in the text.
    pub fn parse_in_place(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        let dir = std::path::absolute(path).ok().and_then(|p| p.parent().map(Path::to_owned));
        let real_dir = dir.as_deref().and_then(|dir| dir.canonicalize().ok());
        parse(text, path, real_dir, &surroundings(&host()))
    }

    /// Checks `text` as the content of a file at `path`, without looking at any file. Addresses are filled in with this machine's name and
    /// this process's environment.
    ///
    /// # Errors
    /// Every mistake in the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        parse(text, path, None, &surroundings(&host()))
    }
}

/// The name of this machine, for `{host}`.
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn surroundings(host: &str) -> Surroundings<'_> {
    Surroundings { host, variable: &|name| std::env::var_os(name) }
}

fn parse(
    text: &str,
    path: &Path,
    real_dir: Option<PathBuf>,
    around: &Surroundings<'_>,
) -> Result<Config, ConfigErrors> {
    let unreadable = |source| ConfigErrors::Unreadable { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    let dir = absolute.parent().unwrap_or(&absolute).to_owned();
    let bases = Bases { real_dir: real_dir.unwrap_or_else(|| dir.clone()), dir };
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        let found = Found::nowhere("the file is empty")
            .hint("`backstay init` writes one for the project in this folder");
        return Err(ConfigErrors::of(path, text, vec![found]));
    }
    let mut read = file::read(text);
    let mut config = None;
    if read.is_toml {
        config = resolve::resolve(read.block, text, &absolute, (&bases, around), &mut read.found);
    }
    match config {
        Some(config) if read.found.is_empty() => Ok(config),
        _ => Err(ConfigErrors::of(path, text, read.found)),
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ConfigErrors> {
    let unreadable = |source| ConfigErrors::Unreadable { path: path.to_owned(), source };
    let wrong = |why: &str| ConfigErrors::NotAConfiguration { path: path.to_owned(), why: why.to_owned() };
    // Asked before it is opened: opening a pipe would wait for somebody to write.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(wrong(if metadata.is_dir() { "is a directory" } else { "is not a regular file" }));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(wrong("is larger than 1 MiB: is it another file?"));
    }
    Ok(bytes)
}

fn not_utf8(path: &Path, bytes: &[u8], error: std::str::Utf8Error) -> ConfigErrors {
    let text = String::from_utf8_lossy(bytes);
    // Up to the first wrong byte both are the same, and there the text has one replacement character.
    let start = error.valid_up_to();
    let span = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let hint = if utf16 { "it looks like UTF-16; save it as UTF-8" } else { "save the file as UTF-8" };
    ConfigErrors::of(path, &text, vec![Found::at(&span, "this is not UTF-8").hint(hint)])
}

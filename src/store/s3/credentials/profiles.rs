//! The files of profiles: where they are, what is in them at a glance, and whether they have changed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file larger than this is none of profiles.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `~/.aws/config` and `~/.aws/credentials`, or what the environment names in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProfileFiles {
    pub config: Option<PathBuf>,
    pub credentials: Option<PathBuf>,
}

impl ProfileFiles {
    pub(super) fn of(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let home = variable("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let named = |name: &str, usual: &str| {
            let set =
                variable(name).filter(|path| !path.is_empty()).map(|path| match path.strip_prefix("~/") {
                    Some(rest) => home.clone().unwrap_or_default().join(rest),
                    None => PathBuf::from(path),
                });
            set.or_else(|| home.as_ref().map(|home| home.join(".aws").join(usual)))
        };
        Self {
            config: named("AWS_CONFIG_FILE", "config"),
            credentials: named("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.config.iter().chain(&self.credentials)
    }

    /// Those in which the profile stands, or all when it stands in none; as words.
    pub(super) fn words(&self, profile: &str) -> String {
        let has = |path: &&PathBuf| read(path).is_some_and(|text| section(&text, profile).is_some());
        let mut names: Vec<String> = self.all().filter(has).map(|p| p.display().to_string()).collect();
        if names.is_empty() {
            names = self.all().map(|p| p.display().to_string()).collect();
        }
        names.join(" and ")
    }

    /// A setting of a profile.
    pub(super) fn setting(&self, profile: &str, key: &str) -> Option<String> {
        self.all().find_map(|path| setting(&read(path)?, profile, key))
    }
}

fn read(path: &Path) -> Option<String> {
    let small = std::fs::metadata(path).ok().filter(|m| m.is_file() && m.len() <= FILE_BYTES_MAX);
    small.and_then(|_| std::fs::read_to_string(path).ok())
}

/// The lines of a profile in a file of profiles.
fn section<'a>(text: &'a str, profile: &str) -> Option<Vec<&'a str>> {
    let mut found: Option<Vec<&str>> = None;
    let mut inside = false;
    for line in text.lines() {
        if let Some(title) = line.trim().strip_prefix('[').and_then(|l| l.split(']').next()) {
            let name = title.trim();
            let name =
                name.strip_prefix("profile").filter(|n| n.starts_with([' ', '\t'])).map_or(name, str::trim);
            inside = name == profile;
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some(lines)) = (inside, found.as_mut()) {
            lines.push(line);
        }
    }
    found
}

/// A setting of a profile in the text of a file of profiles.
pub(super) fn setting(text: &str, profile: &str, key: &str) -> Option<String> {
    section(text, profile)?.into_iter().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        (name.trim() == key && !value.is_empty()).then(|| value.to_owned())
    })
}

/// What shows that a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    seen: Option<(u64, u64, u64, i64, i64)>,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Self {
        let seen = |m: Metadata| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec());
        Self { path: path.to_owned(), seen: std::fs::metadata(path).ok().map(seen) }
    }

    pub(super) fn changed(&self) -> bool {
        *self != Self::of(&self.path)
    }
}

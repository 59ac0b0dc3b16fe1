//! Changing the configuration file: shown before, checked as a whole, written in one step, the old one kept.

use crate::config::Config;
use crate::config::edit::EditError;
use crate::durable::NewFile;
use crate::model::Timestamp;
use crate::ops::error::{Class, Doing, OpError, Result};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// A change of the configuration that was checked and is not written yet.
pub struct Change {
    path: PathBuf,
    old: String,
    new: String,
    /// The configuration as it will be.
    pub config: Config,
}

impl Change {
    /// Works the change out. The result must be a valid configuration.
    pub fn of(
        config: &Config,
        edit: impl FnOnce(&str) -> std::result::Result<String, EditError>,
    ) -> Result<Self> {
        let cannot = || format!("{} cannot be changed", config.path.display());
        let by_hand = "change it by hand; every key is described in docs/configuration.md";
        let new = edit(&config.text).doing(Class::Config, cannot).map_err(|e| e.hint(by_hand))?;
        // The places are those of the configuration that is in use: a session on the changed one works with the same stores and state.
        let parsed = Config::parse_in_place(&new, &config.path);
        let parsed = parsed.doing(Class::Config, cannot).map_err(|e| e.hint(by_hand))?;
        Ok(Self { path: config.path.clone(), old: config.text.clone(), new, config: parsed })
    }

    /// The lines that go and come, with `-` and `+` before them.
    pub fn lines(&self) -> Vec<String> {
        let (old, new): (Vec<&str>, Vec<&str>) = (self.old.lines().collect(), self.new.lines().collect());
        let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let rest = old.len().min(new.len()) - same;
        let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
        let gone = old[same..old.len() - tail].iter().filter(|l| !new[same..new.len() - tail].contains(l));
        let come = new[same..new.len() - tail].iter().filter(|l| !old[same..old.len() - tail].contains(l));
        gone.map(|line| format!("- {line}")).chain(come.map(|line| format!("+ {line}"))).collect()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it, in one step; gives the file in which the old text is kept. Fails when somebody changed the file meanwhile.
    pub fn write(&self, now: Timestamp) -> Result<PathBuf> {
        let cannot = || format!("cannot change {}", self.path.display());
        // A link stays one: what it leads to is changed.
        let real = self.path.canonicalize().doing(Class::Config, cannot)?;
        let there = std::fs::read(&real).doing(Class::Config, cannot)?;
        if there != self.old.as_bytes() {
            return Err(OpError::new(Class::Failed, cannot())
                .because("it was changed by somebody else meanwhile")
                .hint("run the command again"));
        }
        let facts = std::fs::metadata(&real).doing(Class::Config, cannot)?;
        let kept = self.keep(&real, facts.permissions().mode() & 0o777, now)?;
        let write = || -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let dir = real.parent().unwrap_or(Path::new("/"));
            let new = NewFile::create_in(dir)?;
            std::io::Write::write_all(&mut new.file(), self.new.as_bytes())?;
            if new.file().metadata()?.uid() != facts.uid() || new.file().metadata()?.gid() != facts.gid() {
                fchown(new.file(), Some(facts.uid()), Some(facts.gid()))?;
            }
            new.finish_over(&real, facts.permissions().mode() & 0o777)?;
            Ok(())
        };
        write().map_err(|e| OpError::new(Class::Failed, cannot()).because(e))?;
        crate::durable::crash::point("configuration changed");
        Ok(kept)
    }

    fn keep(&self, real: &Path, mode: u32, now: Timestamp) -> Result<PathBuf> {
        let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        for number in 1.. {
            let mut name = real.file_name().unwrap_or_default().to_owned();
            name.push(format!(".before-{stamp}"));
            if number > 1 {
                name.push(format!("-{number}"));
            }
            let kept = real.with_file_name(name);
            match crate::durable::write_new(&kept, self.old.as_bytes(), mode) {
                Ok(()) => return Ok(kept),
                Err(crate::durable::DurableError::Exists { .. }) => {}
                Err(e) => {
                    return Err(e).doing(Class::Failed, || format!("cannot keep the old {}", real.display()));
                }
            }
        }
        Err(OpError::new(Class::Failed, "no name is free for the old configuration"))
    }
}

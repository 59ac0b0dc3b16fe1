//! The safety snapshot of what is live: without it nothing is put away, and nothing is fed over.

use crate::config::Spec;
use crate::ops::backup::{self, BackupOptions, BackupReport};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::rollback::run::Way;

impl Way<'_> {
    /// Takes a snapshot of what is live now: the way back from the way back.
    pub(super) fn safety(&mut self, components: &[String]) -> Result<()> {
        let made = self.save(components, format!("before the rollback to {}", self.journal.snapshot))?;
        let config = self.session.config()?;
        let is_files = |name: &str| {
            let spec = config.component(name).map(|component| &component.spec);
            spec.is_none_or(|spec| matches!(spec, Spec::Folder { .. } | Spec::Paths { .. }))
        };
        // A database that could not be saved is not put away. Files that could not be read lie beside the new ones afterwards.
        let hint = "mend what is named; who has it open, the plan said (`backstay rollback --dry-run`)";
        self.refuse_unsaved(&made, |name| (!is_files(name)).then(|| hint.to_owned()))?;
        self.fetch_safety_dumps(&made)?;
        self.journal.safety = Some(made.snapshot);
        self.journal.save(&self.state)
    }

    /// The same before a rollback is taken back.
    pub(super) fn safety_of_undo(&mut self, components: &[String]) -> Result<()> {
        let note = format!("before taking back the rollback to {}", self.journal.snapshot);
        let made = self.save(components, note)?;
        // What is exchanged is kept beside what comes back; what is fed over is nowhere else.
        self.refuse_unsaved(&made, |name| {
            let feed = self.journal.feeds.iter().find(|feed| feed.component.as_str() == name)?;
            Some(format!("mend its `command`, and try again; {}", self.where_old_lies(feed)))
        })?;
        self.journal.safety_before = self.journal.safety.replace(made.snapshot);
        Ok(())
    }

    fn save(&self, components: &[String], note: String) -> Result<BackupReport> {
        let options = BackupOptions {
            only: components.to_vec(),
            note: Some(note),
            safety: true,
            ..BackupOptions::default()
        };
        let made = backup::run_held(self.session, &options, self.held).map_err(|e| {
            let what = "there is no safety snapshot, so nothing was stopped or changed";
            OpError::new(e.class, what).because(e).hint("mend what keeps it from being made")
        })?;
        self.session.note(&format!("safety snapshot {}", made.snapshot));
        Ok(made)
    }

    /// Fails where a component lacks something without which nothing may be begun: then `needed` says what to do.
    fn refuse_unsaved(&self, made: &BackupReport, needed: impl Fn(&str) -> Option<String>) -> Result<()> {
        for component in made.components.iter().filter(|c| !c.complete) {
            let name = component.name.as_str();
            if let Some(hint) = needed(name) {
                let what = format!(
                    "component {name} could not be saved as it is now, so nothing was stopped or changed"
                );
                let why: Vec<String> = { made.problems.iter() }
                    .filter(|p| p.component.as_deref() == Some(name))
                    .map(|p| p.what.clone())
                    .collect();
                return Err(OpError::new(Class::Failed, what).because(why.join("; ")).hint(hint));
            }
            self.session.note(&format!(
                "the safety snapshot lacks something of {name}; what it lacks stays beside what comes back"
            ));
        }
        Ok(())
    }
}

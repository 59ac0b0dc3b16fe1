//! What a state that does not hold left beside its databases: out of the way before the old ones come back, which must not get another one's log.

use crate::ops::error::{Class, Doing, Result};
use crate::ops::rollback::journal::SiteRecord;
use crate::ops::rollback::left::{is_database, is_log, sidecars_of};
use crate::ops::rollback::run::{Way, ground_of};
use crate::ops::rollback::step::{Below, Ground, Step};
use std::io;

impl Way<'_> {
    /// Notes the logs that are to go aside before steps are taken back. May be called again after a kill at any moment: what is aside already is there,
    /// and a database that is back already keeps the log that it has.
    pub(super) fn note_what_came_after(&mut self) -> Result<()> {
        for site in &mut self.journal.sites {
            let ground = ground_of(site)?;
            let after = found_at(&ground, site);
            site.after = after.doing(Class::Failed, || format!("cannot look at {}", site.base.display()))?;
        }
        Ok(())
    }
}

fn found_at(ground: &Ground<'_>, site: &SiteRecord) -> io::Result<Vec<Step>> {
    let mut after = Vec::new();
    let mut number = 0;
    for step in &site.steps {
        let (live, aside, old) = match step {
            Step::Exchange { live, aside, old, .. } | Step::Out { live, aside, old } => {
                (live, aside, Some(old))
            }
            Step::In { live, aside, .. } => (live, aside, None),
            Step::Meta { .. } => continue,
        };
        let there = ground.inode(live)?.map(|(inode, _)| inode);
        if old.is_some() && there.as_ref() == old {
            continue;
        }
        for log in sidecars_of(&live.0).map(Below) {
            let Some(inode) = ground.own_file(&log)? else { continue };
            // A log that waits for its own step goes with that, and the old database's own that is back already stays.
            let is_step = |s: &Step| match s {
                Step::Exchange { live, .. } | Step::In { live, .. } => *live == log,
                Step::Out { live, old, .. } => *live == log && *old == inode,
                Step::Meta { .. } => false,
            };
            let is_noted = |s: &Step| matches!(s, Step::Out { live, .. } if *live == log);
            if site.steps.iter().any(is_step) || after.iter().any(is_noted) {
                continue;
            }
            // What is only called like a log is somebody's, and may be what stays.
            if ![live, aside].iter().any(|path| is_database(&ground.path(path)))
                && !is_log(&ground.path(&log))
            {
                continue;
            }
            let aside = free_name(ground, site, &mut number)?;
            after.push(Step::Out { live: log, aside, old: inode });
        }
    }
    Ok(after)
}

/// A name in the site's folder that nothing has, not from a run that was killed either.
fn free_name(ground: &Ground<'_>, site: &SiteRecord, number: &mut usize) -> io::Result<Below> {
    loop {
        let name = Below(format!("{}/old/after-{number:06}", site.staging).into_bytes());
        *number += 1;
        if ground.inode(&name)?.is_none() {
            return Ok(name);
        }
    }
}

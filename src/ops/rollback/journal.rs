//! The journal of a rollback: one small file, replaced whole and durably at each turn, so that after a kill it says what was meant.
//!
//! It says what is to be where and in which part of the way the run was; where things are is told by the inodes in its steps. This module must
//! never take a journal that it cannot read for none: an application may stand half-exchanged behind it.

use crate::durable::{self, crash};
use crate::model::{ComponentName, SnapshotId, Timestamp};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::git::{Move, Moved};
use crate::ops::rollback::databases::DatabaseRecord;
use crate::ops::rollback::dumps::FeedRecord;
use crate::ops::rollback::rebuild::Rebuilding;
use crate::ops::rollback::room::{self, Full};
use crate::ops::rollback::step::Step;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which part of the way a rollback is in. In each of them it is plain what a resumed run has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Turn {
    /// Fetching into folders of its own; nothing live was touched.
    Staging,
    /// Services are being stopped; nothing was exchanged.
    Stopping,
    /// Steps are being taken.
    Exchanging,
    /// All is exchanged; what was left is made fit for it.
    Rebuilding,
    /// All is exchanged; services are being started and asked for their health.
    Starting,
    /// It holds. The old state is kept.
    Done,
    /// The new state does not hold: what runs on it is being stopped, before steps are taken back.
    Halting,
    /// Steps are being taken back.
    Undoing,
    /// All is as it was; services are being started.
    Restarting,
    /// All is as it was, and the services run.
    Undone,
}

/// A folder that is exchanged, and where the other state lies meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SiteRecord {
    /// The component.
    pub(super) component: ComponentName,
    /// The directory that steps are relative to.
    pub(super) base: PathBuf,
    /// The folder in it that holds what is not live.
    pub(super) staging: String,
    /// In the order in which they are taken.
    pub(super) steps: Vec<Step>,
    /// What a failed new state left beside its databases: out of the way before these go.
    pub(super) after: Vec<Step>,
}

/// A service that ran when the rollback began, or must run after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ops) struct Stopped {
    pub(in crate::ops) name: String,
    /// Which life of it, where that could be told.
    pub(super) life: Option<String>,
    /// It ran before what is rolled back, and is down now: it must run on the new state, and is not missed on the old one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) was_down: bool,
    /// It was not asked to stop yet, and goes on. Not kept: after a kill it is stopped before it is started, whatever was done to it.
    #[serde(skip)]
    pub(super) unasked: bool,
}

/// The whole journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) format: u32,
    pub(super) snapshot: SnapshotId,
    pub(super) begun: Timestamp,
    pub(super) safety: Option<SnapshotId>,
    /// That of the rollback, while `safety` is the one of its undoing: where that does not go through, this one counts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) safety_before: Option<SnapshotId>,
    pub(super) turn: Turn,
    pub(super) sites: Vec<SiteRecord>,
    /// Databases of servers, which are exchanged after the files.
    pub(super) databases: Vec<DatabaseRecord>,
    /// Dumps that only a command can read in, last.
    pub(super) feeds: Vec<FeedRecord>,
    /// The folder in the state directory that dumps are kept in.
    pub(super) folder: String,
    pub(super) services: Vec<Stopped>,
    /// Those that were down before, and are not started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) down: Vec<String>,
    /// Commands that must run after the exchange, before services are started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rebuild: Vec<Rebuilding>,
    /// They were begun, so they must run again on the old state.
    #[serde(default)]
    pub(super) rebuilt: bool,
    /// Working trees of git that are put back once the services are well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) git: Vec<Move>,
    /// Those that were.
    #[serde(default, skip)]
    pub(super) moved: Vec<Moved>,
    /// What failed of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) git_troubles: Vec<String>,
    /// Where something lay that the way back found nowhere, and went on without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) missed: Vec<String>,
    /// Why it is being undone.
    pub(super) why: Option<String>,
    /// It held, and a person wants it undone: what was written since then is wanted, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) undo: bool,
    /// What was put away is being removed, so that it cannot be taken back any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) swept: bool,
    /// The disk was full when it was to be written.
    #[serde(skip)]
    pub(super) full: Full,
}

const FORMAT: u32 = 1;
const OPEN: &str = "rollback.json";
/// No exchange is begun with a longer one.
pub(super) const BYTES_MAX: u64 = 256 << 20;
/// What is said of the way back makes it longer: that is read, too.
const READ_MAX: u64 = 2 * BYTES_MAX;

/// The journal of a rollback that came to its end, with where it is kept, or why it cannot be read.
pub(super) type Kept = (PathBuf, Result<Journal>);

impl Journal {
    /// The folder of the state directory that has those of rollbacks which came to their ends.
    pub(super) const KEPT: &str = "rollbacks";

    pub(super) fn new(snapshot: SnapshotId, begun: Timestamp) -> Self {
        Self {
            format: FORMAT,
            snapshot,
            begun,
            safety: None,
            safety_before: None,
            turn: Turn::Staging,
            sites: Vec::new(),
            databases: Vec::new(),
            feeds: Vec::new(),
            folder: String::new(),
            services: Vec::new(),
            down: Vec::new(),
            rebuild: Vec::new(),
            rebuilt: false,
            git: Vec::new(),
            moved: Vec::new(),
            git_troubles: Vec::new(),
            missed: Vec::new(),
            why: None,
            undo: false,
            swept: false,
            full: Full::Never,
        }
    }

    /// Goes on to `turn`, durably, before anything of it is done.
    pub(super) fn turn(&mut self, state: &Path, turn: Turn) -> Result<()> {
        self.turn = turn;
        self.save(state)
    }

    /// Goes on to the exchange, with its steps.
    ///
    /// # Errors
    /// It would be too long to be read again after a kill: then it has no steps any more, and nothing was begun.
    pub(super) fn begin_exchange(&mut self, state: &Path) -> Result<()> {
        self.refuse_long(BYTES_MAX)?;
        self.turn(state, Turn::Exchanging)
    }

    /// Fails, and lists no steps any more, where it is longer than `limit`.
    pub(super) fn refuse_long(&mut self, limit: u64) -> Result<()> {
        let length = self.encode()?.len() as u64;
        let Some(most) = self.sites.iter().max_by_key(|site| site.steps.len()).filter(|_| length > limit)
        else {
            return Ok(());
        };
        let what = format!(
            "the list of what is exchanged takes {length} bytes, and no more than {limit} can be kept: {} steps alone are of component {}, in {}",
            most.steps.len(),
            most.component,
            most.base.display()
        );
        let hint = format!(
            "each name in a folder in which something stays (`exclude`, `leave`) is a step of its own, and a folder in which nothing does is one: move what stays elsewhere, or roll the others back with --only NAME and bring this one back with `backstay restore ID {} --to DIR`",
            most.component
        );
        for site in &mut self.sites {
            site.steps.clear();
        }
        self.rebuild.clear();
        Err(OpError::new(Class::Failed, what).hint(hint))
    }

    /// It was to be undone, and goes on to hold.
    pub(super) fn holds(&mut self) {
        self.why = None;
        self.undo = false;
        self.rebuilt = false;
        self.safety = self.safety_before.take().or_else(|| self.safety.take());
    }

    /// Writes it as it is, on a full disk into room that was kept.
    pub(super) fn save(&mut self, state: &Path) -> Result<()> {
        let path = state.join(OPEN);
        crash::point("rollback: journal");
        let into_room =
            room::write(state, &path, &self.encode()?).doing(Class::Failed, || cannot_write(&path))?;
        if into_room && self.full == Full::Never {
            self.full = Full::Met;
        }
        crash::point("rollback: journal written");
        Ok(())
    }

    /// Notes in the journal, kept at `path`, that what was put away is being removed: half of it is no state to go back to.
    pub(super) fn about_to_sweep(&mut self, path: &Path) -> Result<()> {
        if !self.swept {
            self.swept = true;
            durable::replace(path, &self.encode()?).doing(Class::Failed, || cannot_write(path))?;
        }
        crash::point("rollback: about to remove");
        Ok(())
    }

    /// Two lines: the BLAKE3 of the second, and the journal.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string(self).doing(Class::Failed, || "cannot write a journal".into())?;
        Ok(format!("{}\n{text}\n", blake3::hash(text.as_bytes())).into_bytes())
    }

    /// The journal of a rollback that is not at its end, if there is one.
    pub(super) fn open(state: &Path) -> Result<Option<Self>> {
        Self::read(&state.join(OPEN))
    }

    /// The journals of rollbacks that came to their ends, oldest first, while their other states are kept.
    pub(super) fn kept(state: &Path) -> Result<Vec<(PathBuf, Self)>> {
        Self::each_kept(state)?.into_iter().map(|(path, journal)| Ok((path, journal?))).collect()
    }

    /// The same, each by itself: one that cannot be read says nothing of the others.
    pub(super) fn each_kept(state: &Path) -> Result<Vec<Kept>> {
        let dir = state.join(Self::KEPT);
        let cannot = || format!("cannot read {}", dir.display());
        let listed = match std::fs::read_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.doing(Class::Failed, cannot)?,
        };
        let mut paths = Vec::new();
        for item in listed {
            let path = item.doing(Class::Failed, cannot)?.path();
            if path.extension().is_some_and(|e| e == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: PathBuf| Self::read(&path).transpose().map(|journal| (path, journal));
        Ok(paths.into_iter().filter_map(read).collect())
    }

    fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(facts) if facts.len() > READ_MAX => Vec::new(),
            Err(e) => return Err(e).doing(Class::Failed, || format!("cannot read {}", path.display())),
            Ok(_) => {
                std::fs::read(path).doing(Class::Failed, || format!("cannot read {}", path.display()))?
            }
        };
        Self::decode(&bytes).map(Some).map_err(|why| {
            let what = format!("the journal of a rollback cannot be read: {}", path.display());
            OpError::new(Class::Person, what).because(why).hint(
                "the application may stand half-exchanged; folders named .backstay-rollback-… in its components hold the other half; docs/rollback.md, \"By hand\"",
            )
        })
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
        let (hash, text) = text.split_once('\n').ok_or("it has no second line")?;
        let text = text.strip_suffix('\n').ok_or("it is cut off")?;
        if blake3::hash(text.as_bytes()).to_string() != hash {
            return Err("its hash is another".into());
        }
        let journal: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match journal.format {
            FORMAT => Ok(journal),
            other => Err(format!("it has format {other}, and this program knows {FORMAT}")),
        }
    }

    /// True while another state lies somewhere.
    pub(super) fn keeps_something(&self) -> bool {
        self.sites.iter().any(|site| !site.steps.is_empty())
            || self.databases.iter().any(|database| database.exchanged)
            || self.feeds.iter().any(|feed| feed.fed)
    }

    /// The components that it is about, in order.
    pub(super) fn components(&self) -> Vec<String> {
        let sites = self.sites.iter().map(|site| &site.component);
        let databases = self.databases.iter().map(|database| &database.component);
        let all = sites.chain(databases).chain(self.feeds.iter().map(|feed| &feed.component));
        let mut names: Vec<String> = all.map(ToString::to_string).collect();
        names.dedup();
        names
    }

    /// Ends it: the way is at its end. While another state is kept it is kept, too, and says where that lies.
    pub(super) fn close(&self, state: &Path) -> Result<()> {
        let cannot = || "cannot end the journal".into();
        if self.keeps_something() {
            let dir = state.join(Self::KEPT);
            durable::create_dirs(&dir, 0o700).doing(Class::Failed, cannot)?;
            let name = format!("{}.json", self.begun.strftime("%Y%m%dT%H%M%S%9fZ"));
            room::write(state, &dir.join(name), &self.encode()?).doing(Class::Failed, cannot)?;
        }
        crash::point("rollback: journal kept");
        room::give_up(state);
        durable::remove(&state.join(OPEN)).doing(Class::Failed, cannot)?;
        crash::point("rollback: journal closed");
        Ok(())
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the journal {}", path.display())
}

/// Fails while a rollback is not at its end: what is live then may be half of one state and half of another.
pub(crate) fn refuse_unfinished(state: &Path, what: &str) -> Result<()> {
    let Some(journal) = Journal::open(state)? else {
        return Ok(());
    };
    let what = format!("a rollback to {} is not at its end, so there is no {what}", journal.snapshot);
    Err(OpError::new(Class::Person, what)
        .hint("backstay rollback --resume brings it to its end: all of the new state, or all of the old"))
}

/// True while a rollback is not at its end.
pub(crate) fn is_unfinished(state: &Path) -> Result<bool> {
    Journal::open(state).map(|journal| journal.is_some())
}

/// True while what is live may be half of one state and half of another, or made fit for another.
pub(super) fn is_torn(journal: &Journal) -> bool {
    matches!(journal.turn, Turn::Exchanging | Turn::Rebuilding | Turn::Undoing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rollback::step::Below;

    #[test]
    fn a_rollback_that_was_not_taken_back_after_all_keeps_its_own_safety_snapshot() {
        let id = |n| SnapshotId::new(Timestamp::UNIX_EPOCH, [n; 5]);
        let mut journal = Journal::new(id(0), Timestamp::UNIX_EPOCH);
        journal.safety = Some(id(1));
        journal.holds();
        assert_eq!(journal.safety, Some(id(1)));
        journal.safety_before = journal.safety.replace(id(2));
        let kept: Journal = serde_json::from_slice(&serde_json::to_vec(&journal).unwrap()).unwrap();
        journal = kept;
        journal.holds();
        assert_eq!((journal.safety, journal.safety_before), (Some(id(1)), None));
    }

    #[test]
    fn an_exchange_whose_journal_could_not_be_read_again_is_refused_before_it_begins() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(SnapshotId::new(Timestamp::UNIX_EPOCH, [0; 5]), Timestamp::UNIX_EPOCH);
        let step = |n: usize| Step::In {
            live: Below(format!("inbox/{n}").into_bytes()),
            aside: Below(format!(".backstay-rollback-x/new/inbox/{n}").into_bytes()),
            new: serde_json::from_value(serde_json::json!({ "dev": 1, "ino": n, "born": [1, 2] })).unwrap(),
        };
        let site = |name: &str, steps| SiteRecord {
            component: name.parse().unwrap(),
            base: dir.path().to_owned(),
            staging: ".backstay-rollback-x".into(),
            steps,
            after: Vec::new(),
        };
        journal.turn = Turn::Stopping;
        journal.sites = vec![site("mail", (0..1000).map(step).collect()), site("conf", vec![step(1)])];
        let length = journal.encode().unwrap().len() as u64;
        journal.refuse_long(length).unwrap();
        assert_eq!(journal.sites[0].steps.len(), 1000);
        let refused = journal.refuse_long(length - 1).unwrap_err();
        assert!(refused.to_string().contains("1000 steps alone are of component mail"), "{refused}");
        assert!(refused.hint.unwrap().contains("backstay restore ID mail --to DIR"));
        // It is taken back as one that never began, and what is written of that is short.
        assert_eq!(journal.turn, Turn::Stopping);
        assert!(!journal.keeps_something() && (journal.encode().unwrap().len() as u64) < length / 10);
        // What may be written can be read.
        journal.save(dir.path()).unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap(), Some(journal));
        const { assert!(BYTES_MAX < READ_MAX) };
    }
}

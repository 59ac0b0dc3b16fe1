//! Components that are dumps. A database of PostgreSQL is read in beside the live one before anything is stopped, and the two exchange their names; what
//! only a command can read in is fed to it at the very end.
//!
//! Nothing here may begin while a command of a killed run still works, drop a database that this rollback did not make, or feed a dump without having the
//! present one to feed again.

use crate::config::Spec;
use crate::durable::crash;
use crate::model::index::IndexComponent;
use crate::model::{ComponentName, Problem, ProblemKind};
use crate::ops::backup::{BackupReport, words};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::restore::{Listing, Opened, RestoreReport, lay, open};
use crate::ops::rollback::databases::{DatabaseRecord, database_of};
use crate::ops::rollback::journal::{Journal, Turn};
use crate::ops::rollback::left::not_here;
use crate::ops::rollback::run::{Way, words_of};
use crate::ops::select::Selection;
use crate::ops::session::Session;
use crate::source::command::{Feeding, feed, locked_input, wait_unread};
use crate::source::postgres::{PostgresError, Server};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a killed run started is waited for so long.
const CHILDREN: Duration = Duration::from_secs(600);
/// Below the folder of the state directory: what is to become live, and what was.
const NEW: &str = "new";
pub(super) const OLD: &str = "old";

/// A dump of the snapshot.
#[derive(Debug, Clone)]
pub(super) struct Dump {
    pub(super) component: ComponentName,
    /// The database that it becomes; none: only a command can read it in.
    database: Option<DatabaseRecord>,
}

/// A dump that only a command can read in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FeedRecord {
    pub(super) component: ComponentName,
    /// It was about to be fed: from then on only feeding the other one takes that back.
    pub(super) fed: bool,
}

/// The dump of a component of the snapshot, as today's configuration has it; none when it is not one.
pub(super) fn dump_of(
    session: &Session,
    of: &IndexComponent,
    digits: &str,
) -> Result<Option<(Dump, String)>> {
    let config = session.config()?;
    let Some(component) = config.component(of.name.as_str()) else {
        return Ok(None);
    };
    match &component.spec {
        Spec::Command { restore_command: None, .. } => {
            let why = "it is the output of a command, and it has no `restore_command` that reads it in";
            Err(not_here(of.name.as_str(), why))
        }
        Spec::Command { .. } => {
            let how = "is fed to its restore_command, after all others: that is not one step; should anything fail then, the dump of what is live now is fed to it";
            Ok(Some((Dump { component: component.name.clone(), database: None }, how.into())))
        }
        Spec::Postgres { .. } => {
            let (database, how) = database_of(session, component, digits)?;
            Ok(Some((Dump { component: component.name.clone(), database: Some(database) }, how)))
        }
        _ => Ok(None),
    }
}

impl FeedRecord {
    pub(super) fn file(&self, journal: &Journal, state: &Path, which: &str) -> PathBuf {
        folder(journal, state).join(self.component.as_str()).join(which).join("output")
    }
}

fn folder(journal: &Journal, state: &Path) -> PathBuf {
    state.join(&journal.folder)
}

/// Writes the one file of a dump to a folder of its own, proved.
fn bring(session: &Session, opened: &Opened, component: &str, to: &Path) -> Result<PathBuf> {
    let selection = Selection { component: component.to_owned(), paths: Vec::new() };
    let listing = Listing::read(&opened.reader(), &opened.index, &selection)?;
    let cannot = || format!("cannot keep the dump of component {component} in {}", to.display());
    crate::durable::create_dirs(to, 0o700).doing(Class::Failed, cannot)?;
    let report = lay(session, opened, &listing, to)?;
    if let Some(problem) = report.problems.first() {
        let what =
            format!("the dump of component {component} is not whole: {}: {}", problem.place(), problem.what);
        return Err(OpError::new(Class::Damage, what)
            .hint("nothing was stopped or changed; take another snapshot (`backstay list`)"));
    }
    let file = to.join("output");
    // After a power cut it may be all there is to go back with.
    let sync = || std::fs::File::open(&file).and_then(|f| f.sync_all());
    sync().doing(Class::Failed, cannot)?;
    crate::durable::sync_dir(to).doing(Class::Failed, cannot)?;
    Ok(file)
}

/// Waits for whatever a killed run had started: it could still change what is live.
pub(super) fn wait_for_children(journal: &Journal, state: &Path) -> Result<()> {
    let feeds =
        journal.feeds.iter().flat_map(|feed| [NEW, OLD].map(|which| feed.file(journal, state, which)));
    let databases = journal
        .databases
        .iter()
        .map(|d| folder(journal, state).join(d.component.as_str()).join(NEW).join("output"));
    for path in feeds.chain(databases).chain([state.join(Server::SCRIPT)]) {
        let cannot = || format!("cannot look at {}", path.display());
        if !wait_unread(&path, CHILDREN).doing(Class::Failed, cannot)? {
            let what = format!("a command that the killed run had started still reads {}", path.display());
            return Err(OpError::new(Class::Person, what)
                .hint("let it come to its end, or end it, and run `backstay rollback --resume` again"));
        }
    }
    Ok(())
}

/// Waits until the servers answer that the way back needs: after a power cut they come up beside this run.
pub(super) fn wait_for_servers(session: &Session, journal: &Journal, state: &Path) {
    let untouched = journal.turn == Turn::Staging;
    journal.databases.iter().for_each(|database| database.wait_for_server(session, state, untouched));
}

/// Takes away what was made for a rollback of which nothing live was touched.
pub(super) fn give_up(journal: &Journal, state: &Path) -> Result<()> {
    for database in &journal.databases {
        let server = database.server(state);
        let cannot = || database.cannot("drop the new");
        server.drop(&database.names(), &database.waiting, database.new).doing(Class::Failed, cannot)?;
    }
    remove_folder(journal, state)
}

/// Takes away what is kept of a rollback that came to its end a week ago.
pub(super) fn sweep(journal: &Journal, state: &Path) -> Result<()> {
    for database in journal.databases.iter().filter(|d| d.exchanged) {
        database.drop_all(state)?;
    }
    remove_folder(journal, state)
}

fn remove_folder(journal: &Journal, state: &Path) -> Result<()> {
    if journal.folder.is_empty() {
        return Ok(());
    }
    let cannot = || format!("cannot remove {}", folder(journal, state).display());
    let dir = crate::platform::at::open_place(state).doing(Class::Failed, cannot)?;
    match crate::platform::remove::remove_tree(dir.as_fd(), journal.folder.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.doing(Class::Failed, cannot),
    }
}

impl Way<'_> {
    /// Records what is to be done with `dumps`.
    pub(super) fn note_dumps(journal: &mut Journal, dumps: &[Dump], digits: &str) {
        if !dumps.is_empty() {
            journal.folder = format!("rollback-{digits}");
        }
        journal.databases = dumps.iter().filter_map(|dump| dump.database.clone()).collect();
        let fed = dumps.iter().filter(|dump| dump.database.is_none());
        journal.feeds =
            fed.map(|dump| FeedRecord { component: dump.component.clone(), fed: false }).collect();
    }

    /// Brings the dumps, and reads those of databases in. Nothing live is touched.
    pub(super) fn fetch_dumps(&mut self, opened: &Opened, report: &mut RestoreReport) -> Result<()> {
        let top = folder(&self.journal, &self.state);
        let stopped = || self.session.around.interrupt.signal().is_some();
        for place in 0..self.journal.databases.len() {
            let database = &self.journal.databases[place];
            let name = database.component.to_string();
            let dump = bring(self.session, opened, &name, &top.join(&name).join(NEW))?;
            let server = database.server(&self.state);
            let failed = |e: PostgresError| {
                let what = format!(
                    "the dump of component {name} cannot be read into a new database, so nothing was stopped or changed"
                );
                OpError::new(Class::Failed, what)
                    .because(words_of(&e))
                    .hint("the role that backstay connects as needs CREATEDB, and what the dump itself needs")
            };
            self.session.note(&format!("reading {name} into a new database"));
            crash::point("rollback: a database to be made");
            let (new, lacking) = server.create(&database.names()).map_err(failed)?;
            if !lacking.is_empty() {
                report.problems.push(Problem {
                    kind: ProblemKind::NotRestored,
                    component: Some(name.clone()),
                    subject: database.live.clone(),
                    what: format!(
                        "the new database lacks what this role may not give it: {}",
                        lacking.join(", ")
                    ),
                    hint: Some("let a superuser give it to it; the old database has it".into()),
                });
            }
            crash::point("rollback: a database made");
            self.journal.databases[place].new = Some(new);
            self.journal.save(&self.state)?;
            let database = &self.journal.databases[place];
            let filled = server.fill(&database.names(), &dump, &stopped);
            self.session.around.interrupt.check()?;
            filled.map_err(failed)?;
            crash::point("rollback: a database filled");
        }
        for feed in &self.journal.feeds {
            let name = feed.component.as_str();
            bring(self.session, opened, name, &top.join(name).join(NEW))?;
        }
        Ok(())
    }

    /// Brings the dumps of what is live now: without them nothing could be taken back.
    pub(super) fn fetch_safety_dumps(&self, safety: &BackupReport) -> Result<()> {
        if self.journal.feeds.is_empty() {
            return Ok(());
        }
        let opened = open(self.session, &safety.snapshot.to_string(), &[], false)?;
        for feed in &self.journal.feeds {
            let name = feed.component.as_str();
            let to = folder(&self.journal, &self.state).join(name).join(OLD);
            bring(self.session, &opened, name, &to)?;
        }
        Ok(())
    }

    /// Exchanges the databases' names, and feeds the other dumps.
    pub(super) fn take_dumps(&mut self) -> Result<()> {
        for place in 0..self.journal.databases.len() {
            self.journal.databases[place].exchanged = true;
            self.journal.save(&self.state)?;
            let database = &self.journal.databases[place];
            let (server, names) = (database.server(&self.state), database.names());
            let new =
                database.new.ok_or_else(|| OpError::new(Class::Failed, database.cannot("find the new")))?;
            crash::point("rollback: a database to be exchanged");
            let ended = server.exchange(&names, database.old, new).map_err(|e| {
                OpError::new(Class::Failed, database.cannot("exchange"))
                    .because(words_of(&e))
                    .hint("is the server one of the [[service]] that were stopped? It must go on running")
            })?;
            crash::point("rollback: a database exchanged");
            self.tell_ended(database, &ended);
        }
        for place in 0..self.journal.feeds.len() {
            self.journal.feeds[place].fed = true;
            self.journal.save(&self.state)?;
            crash::point("rollback: a dump to be fed");
            self.feed(&self.journal.feeds[place], NEW)?;
            crash::point("rollback: a dump fed");
        }
        Ok(())
    }

    fn tell_ended(&self, database: &DatabaseRecord, ended: &[String]) {
        if !ended.is_empty() {
            self.session.note(&format!(
                "ended what was still connected to database {:?}: {}",
                database.live,
                ended.join(", ")
            ));
        }
    }

    /// All of it back. What was fed is answered with the dump of before; a database that was exchanged is exchanged back.
    pub(super) fn take_back_dumps(&self) -> Result<()> {
        for feed in self.journal.feeds.iter().rev().filter(|feed| feed.fed) {
            self.feed(feed, OLD).map_err(|e| {
                let old = feed.file(&self.journal, &self.state, OLD);
                let what = format!(
                    "what component {} was before could not be read in again; its dump lies in {}",
                    feed.component,
                    old.display()
                );
                OpError::new(e.class, what).because(words_of(&e))
            })?;
            crash::point("rollback: a dump fed back");
        }
        for database in self.journal.databases.iter().rev().filter(|d| d.exchanged) {
            let server = database.server(&self.state);
            let back = server.exchange_back(&database.names(), database.old);
            let ended = back.doing(Class::Failed, || database.cannot("exchange back"))?;
            crash::point("rollback: a database exchanged back");
            self.tell_ended(database, &ended);
        }
        Ok(())
    }

    fn feed(&self, record: &FeedRecord, which: &str) -> Result<()> {
        let name = record.component.to_string();
        let config = self.session.config()?;
        let Some(Spec::Command { restore_command: Some(line), env_file, timeout, .. }) =
            config.component(&name).map(|c| &c.spec)
        else {
            return Err(OpError::new(
                Class::Person,
                format!("component {name} has no `restore_command` any more"),
            ));
        };
        let path = record.file(&self.journal, &self.state, which);
        let cannot = || format!("cannot read {}", path.display());
        self.session.note(&format!("feeding {name} to its restore_command"));
        let feeding = Feeding {
            component: name.clone(),
            what: "its restore_command",
            command: words(line),
            dir: config.dir.clone(),
            input: Some(locked_input(&path).doing(Class::Failed, cannot)?),
            output: None,
            env_file: env_file.clone(),
            variables: vec![("BACKSTAY_SNAPSHOT".into(), self.journal.snapshot.to_string().into())],
            timeout: *timeout,
        };
        // Half of a dump is worse than all of it: it is not ended because somebody asks the run to end.
        feed(feeding, &|| false).doing(Class::Failed, || format!("component {name} could not be read in"))
    }

    /// Takes away what did not become live, not even for a while.
    pub(super) fn clear_dumps(&self) {
        let kept = self.journal.keeps_something();
        for database in self.journal.databases.iter().filter(|d| !d.exchanged) {
            let dropped =
                database.server(&self.state).drop(&database.names(), &database.waiting, database.new);
            if let Err(e) = dropped {
                self.session.note(&format!(
                    "database {:?} is left over and may be dropped: {}",
                    database.waiting,
                    words_of(&e)
                ));
            }
        }
        if !kept && let Err(e) = remove_folder(&self.journal, &self.state) {
            self.session.note(&format!("{e}: {}", words_of(&e)));
        }
    }
}

/// Where what was put away lies, for people.
pub(super) fn places(journal: &Journal, state: &Path) -> Vec<String> {
    let databases = journal.databases.iter().filter(|d| d.exchanged);
    let mut places: Vec<String> = databases.map(|d| format!("database {:?}", d.aside)).collect();
    if journal.feeds.iter().any(|feed| feed.fed) {
        places.push(folder(journal, state).display().to_string());
    }
    places
}

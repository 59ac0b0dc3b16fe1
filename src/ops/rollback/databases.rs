//! A database of a PostgreSQL server, as the journal knows it.

use crate::bridge::{RealTimer, Timer as _};
use crate::config::{Component, Spec};
use crate::model::ComponentName;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::lock::pause;
use crate::ops::rollback::left::not_here;
use crate::ops::rollback::run::words_of;
use crate::ops::session::Session;
use crate::source::postgres::{Names, PostgresError, Server, database_of_ours};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A statement that moves no data and takes longer hangs.
const STATEMENT: Duration = Duration::from_secs(120);
/// After a power cut the server comes up beside the run that goes on with the rollback: it gets so long.
const COMES_UP: Duration = Duration::from_secs(300);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// A database of a server on its way. What is where is told by OIDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DatabaseRecord {
    pub(super) component: ComponentName,
    pub(super) connection: String,
    pub(super) env_file: Option<PathBuf>,
    pub(super) fill_seconds: u64,
    pub(super) live: String,
    pub(super) waiting: String,
    pub(super) aside: String,
    pub(super) around: String,
    pub(super) old: u32,
    pub(super) new: Option<u32>,
    /// Its names were about to be exchanged: from then on both are kept.
    pub(super) exchanged: bool,
}

/// The database that a component is, and what becomes of it in words. The server is asked.
pub(super) fn database_of(
    session: &Session,
    component: &Component,
    digits: &str,
) -> Result<(DatabaseRecord, String)> {
    let Spec::Postgres { connection, env_file, timeout } = &component.spec else {
        return Err(not_here(component.name.as_str(), "it is no database of PostgreSQL"));
    };
    let mut database = DatabaseRecord {
        component: component.name.clone(),
        connection: connection.clone(),
        env_file: env_file.clone(),
        fill_seconds: timeout.as_secs(),
        live: String::new(),
        waiting: String::new(),
        aside: String::new(),
        around: String::new(),
        old: 0,
        new: None,
        exchanged: false,
    };
    let server = database.server(session.state()?.dir());
    let cannot = || {
        let what = format!("component {} cannot be rolled back: its server cannot be asked", component.name);
        move |e: PostgresError| {
            OpError::new(Class::Failed, what.clone())
                .because(words_of(&e))
                .hint("nothing was touched; is the server up, and does `postgres` of the component lead to a database that is there?")
        }
    };
    let live = server.live().map_err(cannot())?;
    database.around = server.around(&live.name).map_err(cannot())?.to_owned();
    database.waiting = database_of_ours("new", digits, &live.name);
    database.aside = database_of_ours("old", digits, &live.name);
    (database.live, database.old) = (live.name, live.oid);
    let how = format!(
        "is read into a new database beside {:?}; then they exchange their names, and the connections to it ({} now) are ended",
        database.live, live.connected
    );
    Ok((database, how))
}

impl DatabaseRecord {
    pub(super) fn server(&self, state: &Path) -> Server {
        Server {
            component: self.component.to_string(),
            connection: self.connection.clone(),
            env_file: self.env_file.clone(),
            dir: state.to_owned(),
            limit: STATEMENT,
            fill_limit: Duration::from_secs(self.fill_seconds),
        }
    }

    /// Waits until its server answers, or has been away for too long: then the step that needs it says so. With `untouched` whoever asks the run to end need
    /// not wait; else services may be down, and to end without its server would leave them so.
    pub(super) fn wait_for_server(&self, session: &Session, state: &Path, untouched: bool) {
        let (server, timer) = (self.server(state), RealTimer::default());
        let begun = timer.now();
        let mut said = false;
        while timer.now().saturating_sub(begun) < COMES_UP && server.is_away(&self.around) {
            if !std::mem::replace(&mut said, true) {
                session.note(&format!("waits until the server of database {:?} answers", self.live));
            }
            let unheard = Interrupt::default();
            let interrupt = if untouched { &session.around.interrupt } else { &unheard };
            if pause(interrupt, LOOK).is_break() {
                return;
            }
        }
    }

    pub(super) fn names(&self) -> Names<'_> {
        Names { live: &self.live, waiting: &self.waiting, aside: &self.aside, around: &self.around }
    }

    pub(super) fn cannot(&self, what: &str) -> String {
        format!("cannot {what} database {:?} of component {}", self.live, self.component)
    }

    /// Drops whatever of this rollback is not live.
    pub(super) fn drop_all(&self, state: &Path) -> Result<()> {
        let (server, names) = (self.server(state), self.names());
        let cannot = || self.cannot("drop what a rollback kept of");
        // What was live before lies under the one or the other name.
        for name in [names.waiting, names.aside] {
            let there = server.oids(&names).doing(Class::Failed, cannot)?;
            match there.get(name) {
                Some(oid) if Some(*oid) == self.new || *oid == self.old => {
                    server.drop(&names, name, Some(*oid)).doing(Class::Failed, cannot)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

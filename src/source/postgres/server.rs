//! What is done on a server: a database made, filled and checked; names exchanged and exchanged back; one dropped that is ours.

use crate::source::command::CommandError;
use crate::source::postgres::PostgresError;
use crate::source::postgres::connection::with_database;
use crate::source::postgres::properties::{self, literal, name};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A client that reconnects at once may be there again before the names are exchanged: so often it is tried.
const TRIES: usize = 3;

/// Connections of clients: what the server does by itself has no user.
const OTHERS: &str = "pid <> pg_backend_pid() AND usesysid IS NOT NULL";

/// Ends the connections that `which` says, without a word.
fn ended(which: &str) -> String {
    // `OFFSET 0` keeps the planner from leaving the call out.
    format!(
        "SELECT FROM (SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity WHERE {which} OFFSET 0) e WHERE e.done IS NULL;\n"
    )
}

/// A server and the database on it that is live. Holds no password: that comes from `env_file`, the environment or `~/.pgpass`.
#[derive(Debug, Clone)]
pub struct Server {
    /// The component's name, for messages.
    pub component: String,
    /// How the live database is reached, as libpq reads it.
    pub connection: String,
    /// `NAME=value` lines that the programs get in their environment.
    pub env_file: Option<PathBuf>,
    /// Where scripts and answers are kept meanwhile.
    pub dir: PathBuf,
    /// How long a statement may take that moves no data.
    pub limit: Duration,
    /// How long a dump may be read in.
    pub fill_limit: Duration,
}

/// The live database.
#[derive(Debug, Clone, Deserialize)]
pub struct Live {
    /// Its name.
    pub name: String,
    /// Its number, which it keeps when it is renamed.
    pub oid: u32,
    /// How many others are connected to it.
    pub connected: u64,
}

/// The three names of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The database that its users connect to.
    pub live: &'a str,
    /// What waits to become live.
    pub waiting: &'a str,
    /// Where what was live goes.
    pub aside: &'a str,
    /// Another database, which statements about these are run in.
    pub around: &'a str,
}

impl Server {
    pub(super) fn script_file(&self) -> PathBuf {
        self.dir.join(Self::SCRIPT)
    }

    /// The file in `dir` that scripts are run from.
    pub const SCRIPT: &'static str = "rollback.sql";

    fn not_understood(&self, answer: &str) -> PostgresError {
        PostgresError::Answer {
            component: self.component.clone(),
            answer: answer.chars().take(200).collect(),
        }
    }

    /// Which database is live.
    pub fn live(&self) -> Result<Live, PostgresError> {
        let script = "SELECT json_build_object('name', d.datname, 'oid', d.oid::bigint, 'connected', \
                      (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL)) \
                      FROM pg_database d WHERE d.datname = current_database();\n";
        let connection = match self.connection.contains('=') || self.connection.contains("://") {
            true => self.connection.clone(),
            false => with_database(&self.connection, &self.connection),
        };
        let said = self.script_at(&connection, script)?;
        serde_json::from_str(said.trim()).map_err(|_| self.not_understood(&said))
    }

    /// A database in which statements about `live` can be run: no database is renamed by who is connected to it.
    pub fn around(&self, live: &str) -> Result<&'static str, PostgresError> {
        let mut last = None;
        for candidate in ["postgres", "template1"].into_iter().filter(|name| *name != live) {
            match self.script(candidate, "SELECT 1;\n") {
                Ok(_) => return Ok(candidate),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| self.not_understood("")))
    }

    /// True when nothing answers: the server is down, or not up yet. What it refuses is an answer.
    pub fn is_away(&self, around: &str) -> bool {
        // So psql ends when it gets no connection, and only then.
        let no_connection = |e: PostgresError| matches!(e, PostgresError::Command(CommandError::Failed { status, .. }) if status == "exit code 2");
        self.script(around, "SELECT 1;\n").is_err_and(no_connection)
    }

    /// Makes `waiting` as `live` is, and empty. Gives its OID, and what of the rights, settings and comment this role could not take over.
    pub fn create(&self, names: &Names<'_>) -> Result<(u32, Vec<String>), PostgresError> {
        self.script(names.around, &properties::create(names.live, names.waiting))?;
        self.script(names.around, &properties::copy(names.live, names.waiting))?;
        let lacking = self.script(names.around, &properties::lacking(names.live, names.waiting))?;
        let found = self.oids(names)?.remove(names.waiting).ok_or_else(|| self.strange(names.waiting))?;
        Ok((found, lacking.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()))
    }

    /// Reads `dump` into `waiting`, and looks whether all its tables are there.
    pub fn fill(
        &self,
        names: &Names<'_>,
        dump: &Path,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), PostgresError> {
        let to = with_database(&self.connection, names.waiting);
        let words = ["pg_restore", "--exit-on-error", "--no-password", "--dbname"].map(str::to_owned);
        let words = words.into_iter().chain([to]).collect();
        self.run("pg_restore", words, dump, self.fill_limit, stopped)?;
        let list = ["pg_restore", "--list"].map(str::to_owned).to_vec();
        let listed = self.run("pg_restore", list, dump, self.fill_limit, stopped)?;
        // Beside the tables themselves there are lines for their rows and for partitions that are attached.
        let is_table = |line: &&str| {
            let mut words = line.split(' ').skip(3);
            !line.starts_with(';')
                && words.next() == Some("TABLE")
                && !matches!(words.next(), Some("DATA" | "ATTACH"))
        };
        let expected = listed.lines().filter(is_table).count() as u64;
        let count = "ANALYZE;\nSELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
                     AND NOT EXISTS (SELECT 1 FROM pg_depend p WHERE p.classid = 'pg_class'::regclass AND p.objid = c.oid AND p.deptype = 'e');\n";
        let patient = Self { limit: self.fill_limit, ..self.clone() };
        let said = patient.script(names.waiting, count)?;
        let found: u64 = said.trim().parse().map_err(|_| self.not_understood(&said))?;
        if found >= expected {
            return Ok(());
        }
        let (component, database) = (self.component.clone(), names.waiting.to_owned());
        Err(PostgresError::Tables { component, database, expected, found })
    }

    /// The OIDs of those of `names` that are there.
    pub fn oids(&self, names: &Names<'_>) -> Result<BTreeMap<String, u32>, PostgresError> {
        let list = [names.live, names.waiting, names.aside].map(literal).join(", ");
        let script = format!(
            "SELECT coalesce(json_object_agg(datname, oid::bigint), '{{}}') FROM pg_database WHERE datname IN ({list});\n"
        );
        let said = self.script(names.around, &script)?;
        serde_json::from_str(said.trim()).map_err(|_| self.not_understood(&said))
    }

    fn strange(&self, database: &str) -> PostgresError {
        PostgresError::Strange { component: self.component.clone(), database: database.to_owned() }
    }

    /// `waiting`, which is `new`, becomes live, and what is live, which is `old`, goes aside. Gives who was connected, a line each: their connections
    /// were ended.
    pub fn exchange(&self, names: &Names<'_>, old: u32, new: u32) -> Result<Vec<String>, PostgresError> {
        let there = self.oids(names)?;
        let is = |name: &str, oid| there.get(name) == Some(&oid);
        if is(names.live, new) && is(names.aside, old) {
            return Ok(Vec::new());
        }
        if !is(names.live, old) || !is(names.waiting, new) {
            return Err(self.strange(names.live));
        }
        self.rename(names, &[(names.live, names.aside), (names.waiting, names.live)])
    }

    /// The same the other way round, from wherever it is.
    pub fn exchange_back(&self, names: &Names<'_>, old: u32) -> Result<Vec<String>, PostgresError> {
        let there = self.oids(names)?;
        let is = |name: &str, oid| there.get(name) == Some(&oid);
        match (is(names.live, old), is(names.aside, old)) {
            (true, _) => Ok(Vec::new()),
            (_, false) => Err(self.strange(names.live)),
            _ if there.contains_key(names.live) => {
                self.rename(names, &[(names.live, names.waiting), (names.aside, names.live)])
            }
            _ => self.rename(names, &[(names.aside, names.live)]),
        }
    }

    /// Renames in one transaction. The first name that is not there ends it with nothing done, so a script that comes late does nothing.
    fn rename(&self, names: &Names<'_>, moves: &[(&str, &str)]) -> Result<Vec<String>, PostgresError> {
        let list = [names.live, names.waiting, names.aside].map(literal).join(", ");
        let others = format!("datname IN ({list}) AND {OTHERS}");
        let mut script = format!(
            "SELECT coalesce(nullif(application_name, ''), 'a client') || ' of ' || usename || coalesce(' from ' || client_addr, '') \
             FROM pg_stat_activity WHERE {others};\nBEGIN;\n{}",
            ended(&others)
        );
        for (from, to) in moves {
            script.push_str(&format!("ALTER DATABASE {} RENAME TO {};\n", name(from), name(to)));
        }
        script.push_str("COMMIT;\n");
        let mut tries = 1;
        loop {
            match self.script(names.around, &script) {
                Ok(said) => return Ok(said.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()),
                Err(e) if tries == TRIES => return Err(e),
                Err(_) => tries += 1,
            }
        }
    }

    /// Drops `database` of ours, if it is there and is that one: `oid`, where that is known.
    pub fn drop(&self, names: &Names<'_>, database: &str, oid: Option<u32>) -> Result<(), PostgresError> {
        let there = self.oids(names)?;
        match (there.get(database), oid) {
            (None, _) => Ok(()),
            (Some(found), Some(oid)) if *found != oid => Err(self.strange(database)),
            _ => {
                let ended = ended(&format!("datname = {} AND {OTHERS}", literal(database)));
                self.script(names.around, &format!("{ended}DROP DATABASE {};\n", name(database))).map(|_| ())
            }
        }
    }
}

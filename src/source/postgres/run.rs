//! Running the server's programs, so that one that outlives a killed run is noticed.

use crate::source::command::{CommandLine, Feeding, feed, locked_input};
use crate::source::postgres::connection::with_database;
use crate::source::postgres::{PostgresError, Server};
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

impl Server {
    fn io(&self, path: &Path, source: std::io::Error) -> PostgresError {
        PostgresError::Io { component: self.component.clone(), path: path.to_owned(), source }
    }

    /// Runs one of the server's programs with `input`, a file of ours, and gives what it says.
    pub(super) fn run(
        &self,
        what: &'static str,
        words: Vec<String>,
        input: &Path,
        limit: Duration,
        stopped: &dyn Fn() -> bool,
    ) -> Result<String, PostgresError> {
        let locked = locked_input(input).map_err(|e| self.io(input, e))?;
        let answer = |e| self.io(&self.dir, e);
        let mut said = crate::durable::scratch_file(&self.dir).map_err(answer)?;
        let feeding = Feeding {
            component: self.component.clone(),
            what,
            command: CommandLine::Args(words),
            dir: self.dir.clone(),
            input: Some(locked),
            output: Some(said.try_clone().map_err(answer)?),
            env_file: self.env_file.clone(),
            variables: vec![
                ("PGAPPNAME".into(), "backstay".into()),
                ("PGCONNECT_TIMEOUT".into(), "15".into()),
            ],
            timeout: limit,
        };
        feed(feeding, stopped)?;
        said.seek(SeekFrom::Start(0)).map_err(answer)?;
        let mut text = String::new();
        said.read_to_string(&mut text).map_err(answer)?;
        Ok(text)
    }

    /// Runs `script` in `database`; ends with its first statement that fails.
    pub(super) fn script(&self, database: &str, script: &str) -> Result<String, PostgresError> {
        self.script_at(&with_database(&self.connection, database), script)
    }

    pub(super) fn script_at(&self, connection: &str, script: &str) -> Result<String, PostgresError> {
        let path = self.script_file();
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(script.as_bytes())
        };
        write().map_err(|e| self.io(&path, e))?;
        let words = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--no-align", "--tuples-only"];
        let more = ["--set=ON_ERROR_STOP=1", "--file=-", "--dbname"];
        let words = words.into_iter().chain(more).map(str::to_owned).chain([connection.to_owned()]).collect();
        // What has begun here is not given up because somebody asks the run to end.
        self.run("psql", words, &path, self.limit, &|| false)
    }
}

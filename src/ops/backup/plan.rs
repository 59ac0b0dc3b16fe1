//! What a backup would capture, without doing it.

use crate::config::Spec;
use crate::model::report::Phase;
use crate::model::{Kind, Problem, ProblemKind, Timestamp};
use crate::ops::backup::BackupOptions;
use crate::ops::backup::start::chosen;
use crate::ops::error::Result;
use crate::ops::layout::folder_spec;
use crate::ops::session::Session;
use crate::ops::space::{self, Growth};
use crate::source::folder::scan;
use crate::source::sqlite::SqliteError;
use std::io;
use std::path::Path;

/// One component of a plan.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PlannedComponent {
    /// Its name.
    pub name: String,
    /// How it would be captured.
    pub method: String,
    /// Number of files.
    pub files: u64,
    /// Sum of file sizes in bytes; what a command will write is not known.
    pub size: u64,
    /// Databases found in it, which would be captured through SQLite.
    pub databases: Vec<String>,
    /// The exclusion patterns in force.
    pub rules: Vec<String>,
}

/// A plan.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BackupPlan {
    /// When it was made.
    pub time: Timestamp,
    /// Its components.
    pub components: Vec<PlannedComponent>,
    /// What snapshots add to a store at the pace of late; nothing where there are too few, or where no store is here to tell.
    pub growth: Option<Growth>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Looks at everything that a backup would capture; reads no contents, writes nothing.
pub fn plan(session: &Session, options: &BackupOptions) -> Result<BackupPlan> {
    let config = session.config()?;
    let (components, problems) = (Vec::new(), Vec::new());
    let time = session.around.clock.now();
    let mut plan = BackupPlan { time, components, growth: growth(session), problems };
    session.around.progress.phase(Phase::Scan, None);
    for component in chosen(&config.components, &options.only)? {
        let mut planned = PlannedComponent {
            name: component.name.to_string(),
            method: "files".into(),
            files: 0,
            size: 0,
            databases: Vec::new(),
            rules: Vec::new(),
        };
        match &component.spec {
            Spec::Sqlite { path, .. } => {
                planned.method = "sqlite".into();
                match path.metadata() {
                    Ok(facts) => (planned.files, planned.size) = (1, facts.len()),
                    Err(e) => plan.no_database(component.name.as_str(), path, &e),
                }
            }
            Spec::Command { .. } => planned.method = "command".into(),
            Spec::Postgres { .. } => planned.method = "postgres".into(),
            _ => plan.walk(session, component, &mut planned)?,
        }
        plan.components.push(planned);
    }
    Ok(plan)
}

/// A store that is away is no reason not to say what would be captured.
fn growth(session: &Session) -> Option<Growth> {
    let (vault, writer) = (session.read_vault().ok()?, session.writer().ok()?);
    space::growth_of(&vault, &vault.host_of(&writer.signer.id()))
}

impl BackupPlan {
    fn missing(&mut self, component: &str, what: &str) {
        self.problems.push(Problem::at_path(ProblemKind::Unreadable, component, b".", what));
    }

    fn no_database(&mut self, component: &str, path: &Path, error: &io::Error) {
        let missing = SqliteError::Missing(path.to_owned());
        match error.kind() {
            io::ErrorKind::NotFound => self.missing(component, &missing.to_string()),
            _ => self.missing(component, &format!("{} cannot be read: {error}", path.display())),
        }
    }

    fn walk(
        &mut self,
        session: &Session,
        component: &crate::config::Component,
        planned: &mut PlannedComponent,
    ) -> Result<()> {
        let config = session.config()?;
        let spec = folder_spec(component, &config.components, session)?;
        let mut problems = Vec::new();
        match scan(&spec, &session.names, &mut |problem| problems.push(problem)) {
            Ok(scan) => {
                planned.files = scan.entries.iter().filter(|f| f.entry.kind == Kind::File).count() as u64;
                planned.size = scan.bytes;
                let databases = scan.entries.iter().filter(|f| f.database);
                planned.databases = databases.map(|f| f.entry.path.to_string()).collect();
                planned.rules.clone_from(&scan.rules);
            }
            Err(e) => {
                self.missing(component.name.as_str(), &crate::ops::backup::chain_text(&e));
            }
        }
        self.problems.extend(problems);
        Ok(())
    }
}

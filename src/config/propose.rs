//! What to protect in a project folder, proposed by what lies in it.
//!
//! A proposal errs on the side of protecting too much: only what a tool is known to make anew is excluded, and whatever is left out is
//! said in a note. Nothing is asked and nothing is written here.

use crate::config::exclude::{Pattern, excludes};
use crate::config::locate::FILE_NAME;
use crate::config::name::slug;
use crate::config::survey::{Survey, survey};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Components to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proposal {
    /// What to protect; valid together as components of one configuration.
    pub components: Vec<Proposed>,
    /// What somebody should know: what was left out and why, what needs a decision. Whole sentences without the full stop.
    pub notes: Vec<String>,
}

/// A proposed component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// A component name, unlike all others of the proposal.
    pub name: String,
    /// What it is; paths are relative to the project folder.
    pub what: What,
    /// gitignore patterns, each with its reason.
    pub exclude: Vec<(String, &'static str)>,
    /// It is small enough to stand alone once a month.
    pub small: bool,
}

/// What a proposed component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A folder; `.` is the project folder itself.
    Folder(String),
    /// Files and folders.
    Paths(Vec<String>),
    /// A SQLite database.
    Sqlite(String),
}

/// Below this many bytes a component is proposed to stand alone once a month.
const SMALL_BYTES: u64 = 1 << 30;
/// Of more databases than this only the largest become components of their own.
const DATABASES_MAX: usize = 8;
/// A folder with more folders than this is protected as a whole.
const FOLDERS_MAX: usize = 12;
const COMPOSE_BYTES_MAX: u64 = 1 << 18;
/// Names that folders of an application's parts usually have.
const PARTS: [&str; 8] = ["backend", "frontend", "server", "client", "api", "web", "worker", "services"];

/// Looks at `dir` (a few thousand files at most, a second or two) and proposes components.
pub fn propose(dir: &Path) -> Proposal {
    let survey = survey(dir);
    let mut making = Making { survey: &survey, proposal: Proposal::default(), names: BTreeSet::new() };
    making.folders();
    making.settings();
    making.databases();
    making.notes(dir);
    making.proposal
}

struct Making<'a> {
    survey: &'a Survey,
    proposal: Proposal,
    names: BTreeSet<String>,
}

impl Making<'_> {
    fn add(&mut self, name: &str, what: What, exclude: Vec<Pattern>) {
        let wanted = slug(name).unwrap_or_else(|| "part".to_owned());
        let mut name = wanted.clone();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            let base: String = wanted.chars().take(56).collect();
            name = format!("{base}-{number}");
            number += 1;
        }
        let size = match &what {
            What::Sqlite(path) => self.survey.databases.iter().find(|d| d.0 == *path).map(|d| d.1),
            _ => Some(self.survey.bytes).filter(|_| !self.survey.cut_short),
        };
        let small = size.is_some_and(|size| size < SMALL_BYTES);
        self.proposal.components.push(Proposed { name, what, exclude, small });
    }

    fn note(&mut self, text: impl Into<String>) {
        self.proposal.notes.push(text.into());
    }

    /// The parts of an application each for itself where they can be told apart, else the whole folder.
    fn folders(&mut self) {
        let survey = self.survey;
        let own =
            |f: &&String| survey.servers.iter().all(|(s, _)| s != *f) && !survey.environments.contains(f);
        let folders: Vec<&String> = survey.folders.iter().filter(own).collect();
        let part = |f: &&&String| PARTS.contains(&f.as_str()) || survey.traces_at(f).manifest;
        let parts = folders.iter().filter(part).count();
        let code_on_top = survey.traces_at("").code();
        let split = parts >= 2 || (!code_on_top && folders.len() >= 2);
        if split && folders.len() <= FOLDERS_MAX {
            for folder in folders {
                self.add(folder, What::Folder(folder.clone()), excludes(survey, folder));
            }
            self.loose_files();
        } else if !folders.is_empty() || survey.files.iter().any(|f| is_loose(f)) {
            self.add("app", What::Folder(".".to_owned()), excludes(survey, ""));
        }
    }

    /// Files beside the parts, which no folder component would hold.
    fn loose_files(&mut self) {
        let files: Vec<String> = self.survey.files.iter().filter(|f| is_loose(f)).cloned().collect();
        if !files.is_empty() {
            self.add("files", What::Paths(files), Vec::new());
        }
        if !self.survey.hidden.is_empty() {
            let hidden = self.survey.hidden.join(", ");
            self.note(format!("hidden folders are in no component: {hidden}; add those that matter"));
        }
    }

    fn settings(&mut self) {
        let files: Vec<String> = self.survey.files.iter().filter(|f| is_setting(f)).cloned().collect();
        if !files.is_empty() {
            self.add("settings", What::Paths(files), Vec::new());
        }
    }

    fn databases(&mut self) {
        let mut databases = self.survey.databases.clone();
        databases.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let all = databases.len();
        let mut place = 0..;
        // One directly in this folder may be in no other component.
        databases.retain(|(path, _)| place.next().is_some_and(|p| p < DATABASES_MAX) || !path.contains('/'));
        let more = all - databases.len();
        let single = databases.len() == 1;
        for (path, _) in &databases {
            let stem = Path::new(path).file_stem().and_then(|s| s.to_str()).and_then(slug);
            let name = stem.filter(|_| !single).unwrap_or_else(|| "db".to_owned());
            self.add(&name, What::Sqlite(path.clone()), Vec::new());
        }
        if more > 0 {
            self.note(format!("{more} smaller SQLite databases have no component of their own; the folders they lie in capture them"));
        }
    }

    fn notes(&mut self, dir: &Path) {
        let survey = self.survey;
        for folder in &survey.backups {
            self.note(format!("{folder} looks like earlier backups and is left out"));
        }
        for (folder, server) in &survey.servers {
            let folder = if folder.is_empty() { "this folder" } else { folder };
            self.note(format!("{folder} is the data of a running {server} and is left out: {DUMP}"));
        }
        for (file, server) in compose_servers(dir, survey) {
            self.note(format!("{file} runs {server}, whose data is not in these components: {DUMP}"));
        }
        for link in &survey.links {
            self.note(format!(
                "{link} is a symbolic link; what it leads to is not captured unless you add it"
            ));
        }
        for folder in &survey.unreadable {
            let folder = if folder.is_empty() { "this folder" } else { folder };
            self.note(format!("{folder} could not be looked into"));
        }
        if survey.odd_names {
            self.note("there are names that cannot stand in a configuration; only a component of the folder round them captures them");
        }
        if survey.cut_short {
            self.note(
                "the project is large and was not looked through to the end: databases may be missing here",
            );
        }
        if self.proposal.components.is_empty() {
            self.note("nothing to protect was found in this folder; add components by hand");
        }
    }
}

const DUMP: &str = "a running database is dumped by a component with `command`, see docs/configuration.md";

/// Files of the application beside its parts. The number of a process is true until that ends, and put back it is of whoever has it then.
fn is_loose(name: &str) -> bool {
    let pid_file = Path::new(name).extension().is_some_and(|ending| ending == "pid");
    !is_setting(name) && name != FILE_NAME && !pid_file
}

/// Files without which an application does not start, though they are no code.
fn is_setting(name: &str) -> bool {
    let yaml = |prefix: &str| name.starts_with(prefix) && (name.ends_with(".yml") || name.ends_with(".yaml"));
    name == ".env"
        || name.starts_with(".env.")
        || yaml("docker-compose")
        || yaml("compose")
        || matches!(name, "Caddyfile" | "Procfile")
        || (name.starts_with("nginx") && name.ends_with(".conf"))
        || name.ends_with(".nginx")
        || name.ends_with(".service")
}

/// Database servers that the compose files at the top run.
fn compose_servers(dir: &Path, survey: &Survey) -> BTreeSet<(String, &'static str)> {
    let mut servers = BTreeSet::new();
    let compose = |f: &&String| is_setting(f) && f.contains("compose");
    for name in survey.files.iter().filter(compose) {
        let mut bytes = Vec::new();
        let read = File::open(dir.join(name)).and_then(|f| f.take(COMPOSE_BYTES_MAX).read_to_end(&mut bytes));
        if read.is_err() {
            continue;
        }
        for line in String::from_utf8_lossy(&bytes).lines() {
            let Some(image) = line.trim().strip_prefix("image:") else {
                continue;
            };
            if ["postgres", "postgis", "timescale", "pgvector"].iter().any(|w| image.contains(w)) {
                servers.insert((name.clone(), "PostgreSQL"));
            } else if image.contains("mysql") || image.contains("mariadb") {
                servers.insert((name.clone(), "MySQL or MariaDB"));
            }
        }
    }
    servers
}

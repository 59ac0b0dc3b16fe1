//! A bounded look at a project folder: which tools' traces are where, which files are databases.
//!
//! It must never follow a symbolic link, never open anything but a regular file, and stop in time: it may be pointed at a home directory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const DEPTH_MAX: usize = 6;
const ENTRIES_MAX: usize = 20_000;
const TIME_MAX: Duration = Duration::from_secs(2);
const SQLITE_HEADER: &[u8; 16] = b"SQLite format 3\0";
/// The smallest page, of which every database is a multiple: spares opening nearly all other files.
const SQLITE_PAGE_MIN: u64 = 512;

/// Folders that are made anew by tools, wherever they lie.
const MADE_BY_TOOLS: [&str; 14] = [
    ".git",
    ".hg",
    ".svn",
    "node_modules",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".cache",
    ".next",
    "venv",
    ".venv",
    ".terraform",
];

/// What a folder shows of the tools that are used in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traces {
    pub javascript: bool,
    pub next: bool,
    pub python: bool,
    pub rust: bool,
    pub php: bool,
    pub other_code: bool,
    /// It has a file that says "this is one application or package".
    pub manifest: bool,
}

impl Traces {
    pub(super) fn code(self) -> bool {
        self.javascript || self.python || self.rust || self.php || self.other_code || self.manifest
    }

    fn add(&mut self, name: &str) {
        let manifest = |this: &mut Self| this.manifest = true;
        match name {
            "package.json" => (self.javascript, self.manifest) = (true, true),
            "requirements.txt" | "pyproject.toml" | "Pipfile" | "setup.py" | "manage.py" => {
                (self.python, self.manifest) = (true, true);
            }
            "Cargo.toml" => (self.rust, self.manifest) = (true, true),
            "composer.json" => (self.php, self.manifest) = (true, true),
            "go.mod" | "Gemfile" | "pom.xml" | "build.gradle" | "mix.exs" => manifest(self),
            _ => {}
        }
        if name.starts_with("next.config.") {
            self.next = true;
        }
        match Path::new(name).extension().and_then(|e| e.to_str()) {
            Some("py") => self.python = true,
            Some(
                "php" | "js" | "ts" | "jsx" | "tsx" | "rb" | "go" | "rs" | "java" | "cs" | "ex" | "html",
            ) => {
                self.other_code = true;
            }
            _ => {}
        }
    }
}

/// What was seen. Paths are relative to the project's folder, `/`-separated; the folder itself is the empty text.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Files directly in the folder.
    pub files: Vec<String>,
    /// Folders directly in it that may hold something of its own: not hidden, not made by tools.
    pub folders: Vec<String>,
    /// Hidden folders directly in it that no tool is known to make.
    pub hidden: Vec<String>,
    /// Symbolic links directly in it.
    pub links: Vec<String>,
    /// Folders directly in it that look like earlier backups.
    pub backups: Vec<String>,
    pub traces: BTreeMap<String, Traces>,
    /// Sum of the sizes of all files seen that are no databases, in bytes.
    pub bytes: u64,
    /// SQLite databases and their sizes.
    pub databases: Vec<(String, u64)>,
    /// Data folders of running database servers, and whose.
    pub servers: Vec<(String, &'static str)>,
    /// Virtual environments of Python.
    pub environments: Vec<String>,
    /// Names of folders of [`MADE_BY_TOOLS`] that are there, and where.
    pub tools: BTreeSet<(&'static str, String)>,
    /// What could not be looked into.
    pub unreadable: Vec<String>,
    /// Something has a name that is not UTF-8 and cannot stand in a configuration.
    pub odd_names: bool,
    /// The limits ended the look before everything was seen.
    pub cut_short: bool,
}

impl Survey {
    pub(super) fn traces_at(&self, folder: &str) -> Traces {
        self.traces.get(folder).copied().unwrap_or_default()
    }
}

/// `path` within `root` (both as in [`Survey`]), relative to `root`.
pub(super) fn within<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    if root.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(root)? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

struct Child {
    name: String,
    kind: fs::FileType,
    size: u64,
}

/// Looks at `dir`, nearest folders first.
pub(super) fn survey(dir: &Path) -> Survey {
    let mut survey = Survey::default();
    let began = Instant::now();
    let mut left = ENTRIES_MAX;
    let mut queue = VecDeque::from([(String::new(), 0)]);
    while let Some((folder, depth)) = queue.pop_front() {
        if left == 0 || began.elapsed() > TIME_MAX {
            survey.cut_short = true;
            break;
        }
        let Some(children) = children(dir, &folder, &mut left, &mut survey) else {
            continue;
        };
        for sub in look(&mut survey, dir, &folder, &children) {
            if depth < DEPTH_MAX {
                queue.push_back((sub, depth + 1));
            } else {
                survey.cut_short = true;
            }
        }
    }
    survey
}

fn children(dir: &Path, folder: &str, left: &mut usize, survey: &mut Survey) -> Option<Vec<Child>> {
    let Ok(entries) = fs::read_dir(dir.join(folder)) else {
        survey.unreadable.push(folder.to_owned());
        return None;
    };
    let mut children = Vec::new();
    for entry in entries.flatten() {
        if *left == 0 {
            survey.cut_short = true;
            break;
        }
        *left -= 1;
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let Ok(name) = entry.file_name().into_string() else {
            survey.odd_names = true;
            continue;
        };
        if name.chars().any(char::is_control) {
            survey.odd_names = true;
            continue;
        }
        let size = if kind.is_file() { entry.metadata().map_or(0, |m| m.len()) } else { 0 };
        children.push(Child { name, kind, size });
    }
    children.sort_by(|a, b| a.name.cmp(&b.name));
    Some(children)
}

/// Notes what is in `folder`; gives the folders in it that are to be looked into.
fn look(survey: &mut Survey, dir: &Path, folder: &str, children: &[Child]) -> Vec<String> {
    let has = |name: &str| children.iter().any(|c| c.name == name);
    if has("pyvenv.cfg") && !folder.is_empty() {
        survey.environments.push(folder.to_owned());
        return Vec::new();
    }
    if let Some(server) = server(&has) {
        survey.servers.push((folder.to_owned(), server));
        return Vec::new();
    }
    let mut traces = Traces::default();
    children.iter().filter(|c| c.kind.is_file()).for_each(|c| traces.add(&c.name));
    survey.traces.insert(folder.to_owned(), traces);
    let mut inner = Vec::new();
    for child in children {
        let path = if folder.is_empty() { child.name.clone() } else { format!("{folder}/{}", child.name) };
        if child.kind.is_symlink() && folder.is_empty() {
            survey.links.push(path);
        } else if child.kind.is_file() {
            file(survey, dir, folder, path, child);
        } else if child.kind.is_dir() {
            inner.extend(directory(survey, folder, path, child, traces));
        }
    }
    inner
}

fn server(has: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    if has("PG_VERSION") {
        return Some("PostgreSQL");
    }
    has("ibdata1").then_some("MySQL or MariaDB")
}

fn file(survey: &mut Survey, dir: &Path, folder: &str, path: String, child: &Child) {
    let sized = child.size >= SQLITE_PAGE_MIN && child.size.is_multiple_of(SQLITE_PAGE_MIN);
    if sized && is_sqlite(&dir.join(&path)) {
        survey.databases.push((path, child.size));
        return;
    }
    survey.bytes = survey.bytes.saturating_add(child.size);
    if folder.is_empty() {
        survey.files.push(path);
    }
}

fn directory(
    survey: &mut Survey,
    folder: &str,
    path: String,
    child: &Child,
    traces: Traces,
) -> Option<String> {
    let name = child.name.as_str();
    if let Some(tool) = MADE_BY_TOOLS.into_iter().find(|tool| *tool == name) {
        survey.tools.insert((tool, folder.to_owned()));
        return None;
    }
    let built = (name == "target" && traces.rust)
        || (name == "vendor" && traces.php)
        || (matches!(name, "dist" | "build") && traces.javascript && traces.manifest);
    if built {
        return None;
    }
    if folder.is_empty() {
        if matches!(name, "backup" | "backups") {
            survey.backups.push(path);
            return None;
        }
        let list = if name.starts_with('.') { &mut survey.hidden } else { &mut survey.folders };
        list.push(path.clone());
    }
    Some(path)
}

/// Reads sixteen bytes. No database is open in this process meanwhile, so closing the descriptor drops nobody's locks.
fn is_sqlite(path: &Path) -> bool {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let Ok(flags) = i32::try_from(flags.bits()) else {
        return false;
    };
    let Ok(mut file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return false;
    };
    let mut header = [0; 16];
    file.read_exact(&mut header).is_ok() && header == *SQLITE_HEADER
}

//! The result of a scan, and how one begins.

use crate::model::RelPath;
use crate::model::entry::{Entry, FLAG_CRASH_CONSISTENT, Kind};
use crate::model::report::{Problem, ProblemKind};
use crate::platform::capture::{self, Ident};
use crate::platform::users::Names;
use crate::source::folder::crew::{Crew, Hands};
use crate::source::folder::databases;
use crate::source::folder::found::Yield;
use crate::source::folder::open::Tree;
use crate::source::folder::place::{nested_of, selection_of};
use crate::source::folder::rules::{Layer, Rules};
use crate::source::folder::spec::{FolderSpec, SourceError, What};
use crate::source::folder::split::Part;
use crate::source::folder::walk::{Around, Walker};
use rustix::fs::Stat;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An entry as a scan found it. Of a file that is no database only the metadata are there, without attributes; opening it gives what is true then.
#[derive(Debug, Clone)]
pub struct Found {
    /// The entry; a file's content, and its attributes unless it is a database, are still empty.
    pub entry: Entry,
    /// A regular file that is a SQLite database, to be captured through SQLite.
    pub database: bool,
    // Beside what the entry has, these make its `Ident`; a million entries are held at once.
    dev: u64,
    ino: u64,
    ctime: (i64, u32),
}

impl Found {
    /// An entry that `stat` describes.
    pub(super) fn new(entry: Entry, stat: &Stat) -> Self {
        let ident = Ident::of(stat);
        Self { entry, database: false, dev: ident.dev, ino: ident.ino, ctime: ident.ctime }
    }

    /// An entry that was not captured.
    pub(super) fn left(entry: Entry) -> Self {
        Self { entry, database: false, dev: 0, ino: 0, ctime: (0, 0) }
    }

    /// Whether `stat` is of the file that was found, in whatever state.
    pub(super) fn is(&self, stat: &Stat) -> bool {
        let Ident { dev, ino, .. } = Ident::of(stat);
        (dev, ino) == (self.dev, self.ino)
    }

    /// Which file in which state was found; of meaning for files only.
    pub fn ident(&self) -> Ident {
        let Entry { size, mtime, .. } = self.entry;
        Ident { dev: self.dev, ino: self.ino, size, mtime, ctime: self.ctime }
    }
}

/// What a folder component holds.
#[derive(Debug)]
pub struct Scan {
    /// Everything, in walk order.
    pub entries: Vec<Found>,
    /// The exclusion patterns in force, as the index lists them.
    pub rules: Vec<String>,
    /// Sum of the sizes of all files.
    pub bytes: u64,
    /// Sum of what there is to read of them: holes, and further names of files, left out. Where a file system compresses, less than that.
    pub allocated: u64,
    /// The directory, open: files are read through it.
    pub tree: Tree,
}

impl Scan {
    /// The database `path` and its sidecars as plain files marked `crash_consistent`, for when it could not be captured through SQLite. They take the
    /// place of the entries of the same paths. Nothing that is not there comes back.
    pub fn as_bytes(&self, path: &RelPath, names: &Names) -> Vec<Found> {
        let Some(dir) = path.parent().and_then(|p| self.tree.open_dir(&p).ok()) else {
            return Vec::new();
        };
        let endings = std::iter::once(&b""[..]).chain(databases::SIDECARS);
        let found = endings.filter_map(|ending| {
            let path = RelPath::new(&[path.as_bytes(), ending].concat()).ok()?;
            let stat = Tree::stat(dir.as_fd(), &CString::new(path.name()).ok()?).ok()?;
            let mut entry = Entry::new(path, capture::kind_of(&stat).filter(|k| *k == Kind::File)?);
            capture::fill(&mut entry, &stat, names);
            entry.flags.push(FLAG_CRASH_CONSISTENT.to_owned());
            Some(Found::new(entry, &stat))
        });
        found.collect()
    }
}

/// Lists what `spec` names. What cannot be read is told to `problems` and listed as `left`; an error means that there is nothing to list at all.
pub fn scan(
    spec: &FolderSpec,
    names: &Names,
    problems: &mut dyn FnMut(Problem),
) -> Result<Scan, SourceError> {
    let tree = Tree::new(spec)?;
    if let What::Single(path) = &spec.what {
        return single(path, tree, names, problems);
    }
    walk(spec, tree, names, problems, Hands::of_this_machine())
}

/// The same for what is more than one file, with so many hands.
pub(super) fn walk(
    spec: &FolderSpec,
    tree: Tree,
    names: &Names,
    problems: &mut dyn FnMut(Problem),
    hands: Hands,
) -> Result<Scan, SourceError> {
    let (entries, found) = Yield::together(parts(spec, &tree, names, hands)?);
    found.problems.into_iter().for_each(&mut *problems);
    if found.no_proc {
        let what =
            "attributes of links, devices and databases are not captured, because /proc is not mounted";
        problems(Problem::at_path(ProblemKind::Warning, &spec.component, RelPath::root().as_bytes(), what));
    }
    if let (What::List(paths), false) = (&spec.what, found.any) {
        let path = paths.first().unwrap_or(&spec.base).clone();
        return Err(SourceError::Missing { path });
    }
    // What a file is said to be long may be anything.
    let bytes = entries.iter().map(|f| f.entry.size).fold(0, u64::saturating_add);
    Ok(Scan { entries, rules: found.rules, bytes, allocated: found.allocated, tree })
}

/// What was found in the parts in which it was walked, in walk order.
pub(super) fn parts(
    spec: &FolderSpec,
    tree: &Tree,
    names: &Names,
    hands: Hands,
) -> Result<Vec<Yield>, SourceError> {
    let rules = Rules::new(&pattern_files(spec)?, &spec.exclude)?;
    let allow = Layer::strict(&spec.allow_unreadable)?;
    let nested = nested_of(spec, tree.real_base());
    let selection = match &spec.what {
        What::List(paths) => Some(selection_of(tree.real_base(), paths)?),
        _ => None,
    };
    let around = Around { spec, tree, names, allow, nested, crew: Crew::new(hands) };
    let mut first = Walker::new(&around, around.crew.begin(), Part { stack: Vec::new(), rules });
    first.begin(selection)?;
    around.crew.work(|| first.walk(), |turn, part| Walker::new(&around, turn, part).walk());
    Ok(around.crew.into_found())
}

/// The lines of the pattern files that are named by path.
fn pattern_files(spec: &FolderSpec) -> Result<Vec<String>, SourceError> {
    let mut lines = Vec::new();
    for name in spec.exclude_from.iter().filter(|name| name.contains('/')) {
        let path = spec.base.join(name);
        let text = std::fs::read(&path).map_err(|source| SourceError::PatternFile { path, source })?;
        lines.extend(lines_of(&text));
    }
    Ok(lines)
}

/// The lines of a pattern file.
pub(super) fn lines_of(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect()
}

fn single(
    path: &Path,
    tree: Tree,
    names: &Names,
    problems: &mut dyn FnMut(Problem),
) -> Result<Scan, SourceError> {
    let missing = || SourceError::Missing { path: path.to_owned() };
    let name = path.file_name().ok_or_else(missing)?;
    let rel = RelPath::new(name.as_bytes()).map_err(|_| missing())?;
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let dir = tree.open_dir(&RelPath::root()).map_err(|e| unreadable(e.into()))?;
    let c_name = CString::new(name.as_bytes()).map_err(|_| missing())?;
    let stat = Tree::stat(dir.as_fd(), &c_name).map_err(|e| match e {
        rustix::io::Errno::NOENT => missing(),
        other => unreadable(other.into()),
    })?;
    let what = match capture::kind_of(&stat) {
        Some(Kind::File) => None,
        Some(Kind::Symlink) => Some("a symbolic link: name what it points to"),
        Some(Kind::Dir) => Some("a directory"),
        _ => Some("a device, socket or FIFO"),
    };
    if let Some(what) = what {
        return Err(SourceError::NotAFile { path: path.to_owned(), what });
    }
    let mut entry = Entry::new(rel, Kind::File);
    capture::fill(&mut entry, &stat, names);
    let xattrs = capture::xattrs_of_path(&tree.real_path(&entry.path));
    tree.add_xattrs(&mut entry, xattrs).into_iter().for_each(problems);
    let mut found = Found::new(entry, &stat);
    let size = found.entry.size;
    found.database = databases::size_fits(size)
        && tree.open_file(&found.entry.path).is_ok_and(databases::has_sqlite_header);
    let allocated = capture::allocated(&stat);
    Ok(Scan { entries: vec![found], rules: Vec::new(), bytes: size, allocated, tree })
}

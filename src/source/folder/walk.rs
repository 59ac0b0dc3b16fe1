//! The walk of one part of a tree: an explicit stack instead of recursion, a bounded number of open directories, entries in walk order.

use crate::model::RelPath;
use crate::model::entry::{Entry, Kind, Why};
use crate::model::report::ProblemKind;
use crate::platform::capture;
use crate::platform::users::Names;
use crate::source::folder::crew::{Crew, Turn};
use crate::source::folder::open::{DIRECTORY, Tree};
use crate::source::folder::place::{OUTSIDE, Selection};
use crate::source::folder::rules::{Layer, Rules};
use crate::source::folder::spec::{FolderSpec, SourceError};
use crate::source::folder::split::Part;
use rustix::fs::{Mode, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// So many directories are held open; those further up are opened again when the walk comes back to them.
const HELD_MAX: usize = 16;
/// A path has at most this many parts (a limit of the format).
const PARTS_MAX: usize = 4096;
/// A directory of which children are still to be looked at.
pub(super) struct Frame {
    pub(super) path: RelPath,
    /// `None` when it was closed to save descriptors.
    pub(super) dir: Option<Arc<OwnedFd>>,
    pub(super) inode: (u64, u64),
    /// The file system on which `one_file_system` keeps the walk.
    pub(super) home: u64,
    /// `None`: everything is taken; else what is taken of which child.
    pub(super) selection: Option<BTreeMap<Vec<u8>, Selection>>,
    /// Children not looked at yet, sorted.
    pub(super) names: std::vec::IntoIter<CString>,
    /// Layers of rules to go back to when this is done.
    pub(super) rules: usize,
    /// Children whose sidecars are left out.
    pub(super) databases: Vec<Vec<u8>>,
    /// Children that look like encrypted databases.
    pub(super) opaque: Vec<Vec<u8>>,
}

impl Frame {
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.names.as_slice().binary_search_by(|n| n.to_bytes().cmp(name)).is_ok()
    }
}

/// How a child came to be looked at.
enum Asked {
    /// It is in a directory that is taken whole.
    Inside,
    /// The configuration names it; all of it is taken.
    ByName,
    /// It lies on the way to something that the configuration names.
    OnTheWay(BTreeMap<Vec<u8>, Selection>),
}

/// What all who walk one tree have in common.
pub(super) struct Around<'a> {
    pub(super) spec: &'a FolderSpec,
    pub(super) tree: &'a Tree,
    pub(super) names: &'a Names,
    pub(super) allow: Layer,
    pub(super) nested: HashMap<RelPath, Why>,
    pub(super) crew: Crew,
}

/// Walks one part of a tree.
pub(super) struct Walker<'w, 'a> {
    pub(super) around: &'w Around<'a>,
    pub(super) rules: Rules,
    pub(super) stack: Vec<Frame>,
    pub(super) turn: Turn<'w>,
    /// So many steps go by before it is tried again to give something away.
    pub(super) patience: usize,
}

impl<'w, 'a> Walker<'w, 'a> {
    pub(super) fn new(around: &'w Around<'a>, turn: Turn<'w>, Part { stack, rules }: Part) -> Self {
        Self { around, rules, stack, turn, patience: 0 }
    }

    /// Goes to where a walk begins, so that [`Walker::walk`] can go on from there. `selection` is what is taken; without one it is everything.
    pub(super) fn begin(&mut self, selection: Option<Selection>) -> Result<(), SourceError> {
        let selection = match selection {
            Some(selection) if !selection.all => Some(selection.children),
            Some(_) => {
                self.turn.found.any = true;
                None
            }
            None => None,
        };
        let path = RelPath::root();
        let tree = self.around.tree;
        let opened = tree.open_dir(&path).and_then(|dir| Ok((rustix::fs::fstat(&dir)?, dir)));
        let asked = selection.map_or(Asked::ByName, Asked::OnTheWay);
        let entered = opened.and_then(|(stat, dir)| self.enter(&path, dir, &stat, asked));
        entered.map_err(|e| SourceError::Unreadable { path: tree.real_base().to_owned(), source: e.into() })
    }

    /// Everything that is left of this part, but what is given away on the way.
    pub(super) fn walk(mut self) {
        self.run();
        self.turn.found.rules.extend(self.rules.into_lines());
    }

    fn run(&mut self) {
        while let Some(frame) = self.stack.last_mut() {
            let Some(name) = frame.names.next() else {
                let rules = frame.rules;
                self.rules.leave(rules);
                self.stack.pop();
                continue;
            };
            let asked = match frame.selection.as_mut().map(|s| s.remove(name.to_bytes()).unwrap_or_default())
            {
                None => Asked::Inside,
                Some(selection) if selection.all => Asked::ByName,
                Some(selection) => Asked::OnTheWay(selection.children),
            };
            self.visit(&name, asked);
            self.share();
        }
    }

    /// Looks at one child of the innermost directory.
    fn visit(&mut self, name: &CStr, asked: Asked) {
        let Some(frame) = self.stack.last() else {
            return;
        };
        let home = frame.home;
        let Ok(path) = frame.path.join(name.to_bytes()) else {
            let parent = frame.path.clone();
            let what = "something in it cannot be captured: its path is longer than 65,536 bytes";
            return self.problem(ProblemKind::Unreadable, &parent, what, None);
        };
        let dir = match self.current_dir() {
            Ok(dir) => dir,
            Err(e) => return self.cannot_stat(path, e, &asked),
        };
        if !matches!(asked, Asked::Inside) && path.as_bytes() == OUTSIDE && self.around.tree.has_outside() {
            return self.enter_outside(path, asked);
        }
        let stat = match Tree::stat(dir.as_fd(), name) {
            Ok(stat) => stat,
            Err(e) => return self.cannot_stat(path, e, &asked),
        };
        self.turn.found.any |= matches!(asked, Asked::ByName);
        let Some(kind) = capture::kind_of(&stat) else {
            return self.unreadable(path, "it is of a kind that this backstay does not know", None);
        };
        if let Some(why) = self.around.nested.get(&path).copied() {
            if kind == Kind::File {
                self.remember_database(name);
            }
            return self.left(path, why);
        }
        if matches!(asked, Asked::Inside) && self.rules.exclude(&path, kind == Kind::Dir) {
            return;
        }
        let inside = matches!(asked, Asked::Inside);
        match (kind, asked) {
            (Kind::Dir, _) if inside && self.around.spec.one_file_system && inode(&stat).0 != home => {
                self.left(path, Why::Mount);
            }
            (Kind::Dir, asked) => self.directory(path, name, &dir, asked),
            (_, Asked::OnTheWay(_)) => {
                let what = "it is not a directory, but a path in the configuration leads through it";
                self.unreadable(path, what, None);
            }
            (Kind::File, _) => self.file(path, name, &dir, &stat),
            (kind, _) => self.special(path, name, &dir, &stat, (kind, inside)),
        }
    }

    /// The innermost directory's descriptor; opened again when it was closed.
    fn current_dir(&mut self) -> rustix::io::Result<Arc<OwnedFd>> {
        let frame = self.stack.last_mut().ok_or(Errno::NOENT)?;
        if let Some(dir) = &frame.dir {
            return Ok(Arc::clone(dir));
        }
        let dir = self.around.tree.open_dir(&frame.path)?;
        if inode(&rustix::fs::fstat(&dir)?) != frame.inode {
            return Err(Errno::STALE); // moved or replaced during the scan
        }
        let dir = Arc::new(dir);
        frame.dir = Some(Arc::clone(&dir));
        Ok(dir)
    }

    pub(super) fn remember_database(&mut self, name: &CStr) {
        if let Some(frame) = self.stack.last_mut() {
            frame.databases.push(name.to_bytes().to_vec());
        }
    }

    /// What cannot even be described. What vanished since it was listed was never there for this snapshot, unless the configuration names it.
    fn cannot_stat(&mut self, path: RelPath, errno: Errno, asked: &Asked) {
        let inside = matches!(asked, Asked::Inside);
        let excluded = || self.rules.exclude(&path, true) || self.rules.exclude(&path, false);
        if inside && (errno == Errno::NOENT || excluded()) {
            return;
        }
        match errno {
            Errno::NOENT => self.unreadable(path, "it does not exist", Some("the configuration names it")),
            other => self.unreadable(path, other, None),
        }
    }

    /// The directory that stands for `/` in a list of paths.
    fn enter_outside(&mut self, path: RelPath, asked: Asked) {
        self.turn.found.any |= matches!(asked, Asked::ByName);
        let opened = self.around.tree.open_dir(&path).and_then(|dir| Ok((rustix::fs::fstat(&dir)?, dir)));
        match opened.and_then(|(stat, dir)| self.enter(&path, dir, &stat, asked)) {
            Ok(()) => {}
            Err(e) => self.unreadable(path, e, None),
        }
    }

    fn directory(&mut self, path: RelPath, name: &CStr, dir: &OwnedFd, asked: Asked) {
        if path.parts().count() >= PARTS_MAX {
            return self.unreadable(path, "it lies too deep: a path has at most 4,096 parts", None);
        }
        let opened = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty());
        let opened = opened.and_then(|dir| Ok((rustix::fs::fstat(&dir)?, dir)));
        let inside = matches!(asked, Asked::Inside);
        match opened {
            Ok((stat, _)) if inside && self.is_ancestor(inode(&stat)) => {
                let what = "not entered, because it is mounted inside itself";
                self.problem(ProblemKind::Warning, &path, what, None);
                self.left(path, Why::Mount);
            }
            Ok((stat, dir)) => {
                if let Err(e) = self.enter(&path, dir, &stat, asked) {
                    self.unreadable(path, e, None);
                }
            }
            Err(Errno::NOENT) if inside => {}
            Err(e) => self.unreadable(path, e, None),
        }
    }

    fn is_ancestor(&self, inode: (u64, u64)) -> bool {
        self.stack.iter().any(|frame| frame.selection.is_none() && frame.inode == inode)
    }

    /// Lists `dir` and makes it the innermost directory. On an error nothing was added.
    fn enter(&mut self, path: &RelPath, dir: OwnedFd, stat: &Stat, asked: Asked) -> rustix::io::Result<()> {
        let rules = self.rules.depth();
        let by_name = matches!(asked, Asked::ByName);
        let home = match self.stack.last() {
            Some(frame) if !by_name => frame.home,
            _ => inode(stat).0,
        };
        let (mut names, selection) = match asked {
            Asked::OnTheWay(children) => {
                let names = children.keys().filter_map(|name| CString::new(name.as_slice()).ok());
                (names.collect(), Some(children))
            }
            _ => (self.list(path, &dir, by_name)?, None),
        };
        if selection.is_none() && self.is_server(path, &mut names) {
            self.rules.leave(rules);
            return Ok(());
        }
        let mut entry = Entry::new(path.clone(), Kind::Dir);
        capture::fill(&mut entry, stat, self.around.names);
        let xattrs = capture::xattrs_of(&dir);
        self.add(entry, stat, xattrs);
        let frame = Frame {
            path: path.clone(),
            dir: Some(Arc::new(dir)),
            inode: inode(stat),
            home,
            selection,
            names: names.into_iter(),
            rules,
            databases: Vec::new(),
            opaque: Vec::new(),
        };
        self.stack.push(frame);
        if let Some(above) = self.stack.len().checked_sub(HELD_MAX + 1) {
            self.stack[above].dir = None;
        }
        Ok(())
    }
}

/// Device and inode.
pub(super) fn inode(stat: &Stat) -> (u64, u64) {
    let ident = capture::Ident::of(stat);
    (ident.dev, ident.ino)
}

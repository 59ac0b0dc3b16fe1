//! Which steps lead from what is live to what was fetched, and what is left where it is.
//!
//! A thing that is left never moves: so a directory with something left in it stays, and what is beside that goes entry by entry. A directory with
//! nothing left in it is one step, whatever is in it.

use crate::model::RelPath;
use crate::ops::rollback::id::Inode;
use crate::ops::rollback::left::{database_of, is_database, sidecars_of};
use crate::ops::rollback::step::{Below, Ground, Step};
use crate::platform::at;
use rustix::fs::FileType;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What must not move, by paths relative to the base.
pub(super) trait Leaves {
    /// True when `path`, which is there, stays, with all that is in it.
    fn stays(&self, path: &RelPath, is_dir: bool) -> bool;

    /// The same of a path that lies in no directory that stays.
    fn stays_here(&self, path: &RelPath, is_dir: bool) -> bool {
        self.stays(path, is_dir)
    }
}

/// Something that stays is where the snapshot has something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InTheWay {
    /// Where.
    pub(super) path: String,
    /// What of it.
    pub(super) why: &'static str,
}

/// Gathers the steps of a site.
pub(super) struct Gather<'a> {
    pub(super) ground: &'a Ground<'a>,
    pub(super) leaves: &'a dyn Leaves,
    /// The site's own folder.
    pub(super) staging: &'a str,
    /// Names can be exchanged in one step here.
    pub(super) exchanges: bool,
    /// On what something is mounted, where the system tells; else each name is asked.
    pub(super) mounted: Option<HashSet<RelPath>>,
    /// What of that is a site of its own.
    pub(super) apart: &'a [RelPath],
    pub(super) found: Found,
}

/// What was gathered.
#[derive(Default)]
pub(super) struct Found {
    outs: Vec<Step>,
    exchanges: Vec<Step>,
    ins: Vec<Step>,
    metas: Vec<Step>,
    pub(super) in_the_way: Vec<InTheWay>,
    /// Directories that hold something that stays.
    holding: HashSet<RelPath>,
}

impl Found {
    /// In the order in which they are taken: first away (a database's logs before it), then exchanged, then in; metadata last, because moving changes
    /// times.
    pub(super) fn steps(self) -> Vec<Step> {
        // The deepest directory first: what is set on one above is not touched by it any more.
        let metas = self.metas.into_iter().rev();
        self.outs.into_iter().chain(self.exchanges).chain(self.ins).chain(metas).collect()
    }
}

impl Gather<'_> {
    /// The steps for everything in the base, for which `new` waits.
    pub(super) fn whole(&mut self, new: &Below) -> io::Result<()> {
        self.survey(&RelPath::root())?;
        self.descend(&RelPath::root(), Some(new))
    }

    /// The steps for one name in the base, which waits at `new` in the site's folder (none: it is to go).
    pub(super) fn one(&mut self, name: &[u8], new: Option<&Below>) -> io::Result<()> {
        let path = RelPath::new(name).map_err(io::Error::other)?;
        if let Some((_, facts)) = self.ground.inode(&below(&path))?
            && facts.is_dir()
        {
            self.survey(&path)?;
        }
        self.pair(&path, new)
    }

    /// What SQLite keeps beside database `name` goes away before that is exchanged, whether a list names it or not; but for what is `named`, which has
    /// steps of its own.
    pub(super) fn logs_of(&mut self, name: &[u8], named: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        let path = RelPath::new(name).map_err(io::Error::other)?;
        if let Some((_, facts)) = self.ground.inode(&below(&path))?
            && self.leaves.stays(&path, facts.is_dir())
        {
            return Ok(());
        }
        for log in sidecars_of(name).filter(|log| !named(log)) {
            let path = RelPath::new(&log).map_err(io::Error::other)?;
            let live = below(&path);
            if let Some((old, _)) = self.ground.inode(&live)? {
                let aside = self.aside(&path);
                self.found.outs.push(Step::Out { live, aside, old });
            }
        }
        Ok(())
    }

    fn names(&self, dir: &Below) -> io::Result<BTreeSet<Vec<u8>>> {
        let fd = self.ground.open_dir(dir)?;
        Ok(at::names(fd.as_fd())?.into_iter().map(|(name, _)| name).collect())
    }

    fn is_staging(&self, path: &RelPath) -> bool {
        path.as_bytes() == self.staging.as_bytes()
    }

    /// Finds the directories below `dir` that hold something that stays, or on which something is mounted.
    fn survey(&mut self, dir: &RelPath) -> io::Result<()> {
        let fd = self.ground.open_dir(&below(dir))?;
        for (name, kind) in at::names(fd.as_fd())? {
            let path = dir.join(&name).map_err(io::Error::other)?;
            // Services are down while this is asked of every name: the system is asked only for what the listing does not say.
            let is_dir = match kind {
                FileType::Unknown => match at::facts_if_any(fd.as_fd(), &name)? {
                    Some(facts) => facts.is_dir(),
                    None => continue,
                },
                known => known.is_dir(),
            };
            let stays = self.is_staging(&path) || self.leaves.stays_here(&path, is_dir);
            if stays || self.is_mounted(fd.as_fd(), &name, &path)? {
                self.hold(dir);
            }
            if !stays && is_dir {
                self.survey(&path)?;
            }
        }
        Ok(())
    }

    fn is_mounted(&self, dir: BorrowedFd<'_>, name: &[u8], path: &RelPath) -> io::Result<bool> {
        match &self.mounted {
            Some(mounted) => Ok(mounted.contains(path)),
            None => at::is_mount_point(dir, name),
        }
    }

    fn hold(&mut self, dir: &RelPath) {
        let mut at = Some(dir.clone());
        while let Some(dir) = at {
            at = dir.parent();
            if !self.found.holding.insert(dir) {
                return;
            }
        }
    }

    /// A directory that stays, with what is in it.
    fn descend(&mut self, dir: &RelPath, new: Option<&Below>) -> io::Result<()> {
        let live = below(dir);
        let mut names = self.names(&live)?;
        if let Some(new) = new {
            names.extend(self.names(new)?);
            let (old, waits) = (self.ground.look(&live)?, self.ground.look(new)?);
            if old != waits {
                self.found.metas.push(Step::Meta { live: live.clone(), old, new: waits });
            }
        }
        for name in names {
            let path = dir.join(&name).map_err(io::Error::other)?;
            if !self.is_staging(&path) {
                self.pair(&path, new.map(|new| new.join(&name)).as_ref())?;
            }
        }
        Ok(())
    }

    /// What becomes of `path`, for which `new` waits.
    fn pair(&mut self, path: &RelPath, new: Option<&Below>) -> io::Result<()> {
        let live = below(path);
        let old = self.ground.inode(&live)?;
        let waits = match new {
            Some(aside) => self.ground.inode(aside)?.map(|(inode, facts)| (aside.clone(), inode, facts)),
            None => None,
        };
        match (old, waits) {
            (None, None) => Ok(()),
            (None, Some(_)) if self.is_log_of_what_stays(path)? => Ok(()),
            (None, Some((aside, new, _))) => {
                self.found.ins.push(Step::In { live, aside, new });
                Ok(())
            }
            (Some((_, facts)), _) if self.leaves.stays(path, facts.is_dir()) => Ok(()),
            (Some(_), waits) if self.ground.is_mounted(&live)? => {
                if waits.is_some() && !self.apart.contains(path) {
                    let why = "something is mounted here, which cannot be exchanged";
                    self.found.in_the_way.push(InTheWay { path: path.to_string(), why });
                }
                Ok(())
            }
            (Some((old, facts)), waits) => match (waits, self.found.holding.contains(path)) {
                (None, false) => {
                    let aside = self.aside(path);
                    self.found.outs.push(Step::Out { live, aside, old });
                    Ok(())
                }
                (Some((aside, new, _)), false) => {
                    self.swap(path, aside, (old, new));
                    Ok(())
                }
                (None, true) => self.descend(path, None),
                (Some((aside, _, new)), true) if facts.is_dir() && new.is_dir() => {
                    self.descend(path, Some(&aside))
                }
                (Some(_), true) => {
                    let why = "the snapshot has something else here, and what is in it stays";
                    self.found.in_the_way.push(InTheWay { path: path.to_string(), why });
                    Ok(())
                }
            },
        }
    }

    /// True for a log of a database that stays. One that rules leave out may have had its log taken as a file like any other: beside what it is now, that
    /// would be replayed over it.
    fn is_log_of_what_stays(&self, path: &RelPath) -> io::Result<bool> {
        let Some(database) = database_of(path) else {
            return Ok(false);
        };
        let live = below(&database);
        let stays = |facts: &at::Facts| self.leaves.stays(&database, facts.is_dir());
        let found = self.ground.inode(&live)?;
        Ok(found.is_some_and(|(_, facts)| stays(&facts)) && is_database(&self.ground.path(&live)))
    }

    fn swap(&mut self, path: &RelPath, aside: Below, (old, new): (Inode, Inode)) {
        let live = below(path);
        if self.exchanges {
            self.found.exchanges.push(Step::Exchange { live, aside, old, new });
        } else {
            self.found.outs.push(Step::Out { live: live.clone(), aside: self.aside(path), old });
            self.found.ins.push(Step::In { live, aside, new });
        }
    }

    /// A free place for what goes away, with a name that a person recognises.
    fn aside(&self, path: &RelPath) -> Below {
        let number = self.found.outs.len();
        let name = path.name();
        let name = &name[..name.len().min(200)];
        let folder = format!("{}/old/{number:06}-", self.staging).into_bytes();
        Below([&folder, name].concat())
    }
}

fn below(path: &RelPath) -> Below {
    if path.is_root() { Below(Vec::new()) } else { Below(path.as_bytes().to_vec()) }
}

//! What is captured while services are stopped: begun and kept then, packed after they are up again.
//!
//! Of files only what is not as it was is kept, as copies in the spool (which share their blocks where the file system can do that). Nothing here may take
//! longer than it must: a service is down meanwhile.

use crate::durable::crash;
use crate::model::{Entry, Kind, Problem};
use crate::ops::backup::build::Build;
use crate::ops::backup::capture::Run;
use crate::ops::backup::databases::Begun;
use crate::ops::backup::reuse::Cursor;
use crate::ops::backup::streams::Stream;
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::platform::capture::Ident;
use crate::source::folder::{Found, OpenError, OpenFile, Scan, Steadiness};
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Files are copied in steps of this many bytes.
const STEP: usize = 1 << 20;

/// A component that was captured and is to be packed.
pub(super) enum Held<'a> {
    Stream(Box<Stream<'a>>),
    Files(Box<Build<'a>>, Option<Scan>, HeldDatabases),
}

/// Databases that a walk found, by their places in it.
pub(super) type HeldDatabases = HashMap<usize, Begun>;

/// A file as it was then.
pub(super) struct HeldFile {
    /// In the spool; too many to be all open.
    copy: PathBuf,
    entry: Entry,
    ident: Ident,
    ranges: Vec<(u64, u64)>,
    warnings: Vec<Problem>,
}

impl HeldFile {
    /// The same as if it were opened then.
    pub(super) fn open(&self) -> std::result::Result<OpenFile, OpenError> {
        let unreadable = |source| OpenError::Unreadable { path: self.entry.path.clone(), source };
        Ok(OpenFile {
            file: File::open(&self.copy).map_err(unreadable)?,
            entry: self.entry.clone(),
            ident: self.ident,
            ranges: self.ranges.clone(),
            warnings: self.warnings.clone(),
            held: true,
        })
    }

    /// Copies what is open.
    fn of(open: &OpenFile, spool: &Path) -> std::result::Result<Self, KeepError> {
        let random: [u8; 16] =
            crate::durable::random_bytes().map_err(|e| KeepError::Write(io::Error::other(e)))?;
        let path = spool.join(format!(".backstay-{}.tmp", data_encoding::HEXLOWER.encode(&random)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(KeepError::Write)?;
        // From here on it goes with its value.
        let held = Self {
            copy: path,
            entry: open.entry.clone(),
            ident: open.ident,
            ranges: open.ranges.clone(),
            warnings: open.warnings.clone(),
        };
        if rustix::fs::ioctl_ficlone(&file, &open.file).is_err() {
            file.set_len(open.entry.size).map_err(KeepError::Write)?;
            for &(offset, length) in &open.ranges {
                copy_range(&open.file, &file, offset, length)?;
            }
        }
        Ok(held)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // What is left is swept by the next run.
        drop(std::fs::remove_file(&self.copy));
    }
}

/// Why a file was not kept: it could not be read, which is its own trouble, or what was read could not be written.
enum KeepError {
    Read,
    Write(io::Error),
}

fn copy_range(from: &File, to: &File, mut offset: u64, length: u64) -> std::result::Result<(), KeepError> {
    let mut left = length;
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(STEP).min(STEP)];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        match from.read_at(&mut buffer[..want], offset) {
            // A file that became shorter is noticed by whoever looks at it afterwards.
            Ok(0) => break,
            Ok(got) => {
                to.write_all_at(&buffer[..got], offset).map_err(KeepError::Write)?;
                (offset, left) = (offset + got as u64, left - got as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(KeepError::Read),
        }
    }
    Ok(())
}

impl<'a> Run<'a> {
    /// Begins and keeps the components that need it, while the services that work on them are stopped.
    pub(super) fn hold(
        &self,
        components: &[(usize, &crate::config::Component)],
        problems: &mut Vec<Problem>,
    ) -> Result<HashMap<usize, Held<'a>>> {
        let mut held = HashMap::new();
        if components.is_empty() {
            return Ok(held);
        }
        let session = self.session;
        let names: Vec<String> = components.iter().map(|(_, c)| c.name.to_string()).collect();
        let (config, state) = (session.config()?, session.state()?.dir());
        let note = |text: &str| session.note(text);
        let interrupt = &session.around.interrupt;
        let (taken, found) = crate::ops::stopped::around(config, state, &names, (&note, interrupt), || {
            components.iter().try_for_each(|(place, component)| {
                held.insert(*place, self.hold_one(component)?);
                crash::point("backup: held");
                interrupt.check()
            })
        })?;
        problems.extend(found);
        Ok(taken).map(|()| held)
    }

    fn hold_one(&self, component: &crate::config::Component) -> Result<Held<'a>> {
        use crate::config::Spec;
        if !matches!(component.spec, Spec::Folder { .. } | Spec::Paths { .. }) {
            return self.begin_stream(component, true).map(|stream| Held::Stream(Box::new(stream)));
        }
        let (mut build, scan) = self.scan(component)?;
        let mut databases = HashMap::new();
        if let Some(scan) = &scan {
            self.hold_databases(&mut build, scan, &mut databases)?;
            self.hold_files(&mut build, scan)?;
        }
        Ok(Held::Files(Box::new(build), scan, databases))
    }

    fn hold_databases(
        &self,
        build: &mut Build<'a>,
        scan: &Scan,
        databases: &mut HeldDatabases,
    ) -> Result<()> {
        let (mut linked, groups) = (HashSet::new(), scan.groups());
        for (place, found) in scan.entries.iter().enumerate().filter(|(_, f)| f.database) {
            self.session.around.interrupt.check()?;
            if found.entry.link.is_some_and(|link| linked.contains(&link)) {
                continue;
            }
            let begun = self.begin_database(build, scan, (place, &groups), false)?;
            linked.extend(begun.link());
            for part in begun.parts() {
                self.hold_file(build, scan, part)?;
            }
            databases.insert(place, begun);
        }
        Ok(())
    }

    fn hold_files(&self, build: &mut Build<'a>, scan: &Scan) -> Result<()> {
        let mut cursor = Cursor::new(build.old);
        for found in &scan.entries {
            // Services are down, and whoever asks for the end wants them back.
            self.session.around.interrupt.check()?;
            let unchanged = cursor.unchanged(found, build.settled).is_some();
            if found.entry.kind == Kind::File && !unchanged && !found.database {
                self.hold_file(build, scan, found)?;
            }
        }
        Ok(())
    }

    /// Keeps a file as it is. One that cannot be read is looked at again when it is packed, and then said.
    fn hold_file(&self, build: &mut Build<'a>, scan: &Scan, found: &Found) -> Result<()> {
        let Ok(open) = scan.tree.open(found, build.names) else {
            return Ok(());
        };
        // Whether its file system keeps change times is asked of itself, not of its copy.
        let _learned = build.facts_of(&open);
        let what = || format!("cannot keep {} while the services are stopped", found.entry.path);
        let held = match HeldFile::of(&open, self.pack.scratch) {
            Ok(held) => held,
            Err(KeepError::Read) => return Ok(()),
            Err(KeepError::Write(e)) => return Err(e).doing(Class::Failed, what).map_err(room),
        };
        let steady = matches!(open.after(), Ok(Steadiness::Same));
        // What somebody else changes meanwhile gains nothing by being kept.
        if steady {
            build.held.insert(found.entry.path.clone(), held);
        }
        Ok(())
    }
}

fn room(e: OpError) -> OpError {
    e.hint("make room in the state directory: what changed is copied there before the services are started again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RelPath;

    fn open(file: File, size: u64) -> OpenFile {
        let mut entry = Entry::new(RelPath::new(b"file").unwrap(), Kind::File);
        entry.size = size;
        let ident = Ident::of(&rustix::fs::fstat(&file).unwrap());
        OpenFile { file, entry, ident, ranges: vec![(0, size)], warnings: Vec::new(), held: false }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_from_a_spool_that_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"content").unwrap();
        let held = HeldFile::of(&open(File::open(&path).unwrap(), 7), dir.path()).ok().unwrap();
        assert_eq!(std::fs::read(&held.copy).unwrap(), b"content");
        // As a disk does it that opens a file and does not give it.
        let unreadable = open(File::options().write(true).open(&path).unwrap(), 7);
        assert!(matches!(HeldFile::of(&unreadable, dir.path()), Err(KeepError::Read)));
        let nowhere = dir.path().join("nowhere");
        let readable = open(File::open(&path).unwrap(), 7);
        assert!(matches!(HeldFile::of(&readable, &nowhere), Err(KeepError::Write(_))));
        drop(held);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no half a copy is left");
    }
}

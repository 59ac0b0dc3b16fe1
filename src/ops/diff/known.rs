//! What this machine remembers of live files: a file that is still the one that was captured need not be read again.

use crate::catalog::known::{Expected, Known, KnownStretch, Loaded, Row, Stretch, load};
use crate::model::SignerId;
use crate::model::path::walk_order;
use crate::ops::backup::CATALOG;
use crate::ops::error::Result;
use crate::ops::session::Session;
use crate::ops::vault::Vault;
use crate::platform::capture::Ident;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// The catalog, as far as it describes this host's newest snapshot.
#[derive(Default)]
pub(super) struct KnownFiles(Known);

impl KnownFiles {
    /// Reads the catalog; with `read_data`, or where it is of no use, everything is read from the files themselves.
    pub(super) fn load(session: &Session, vault: &Vault, read_data: bool) -> Result<Self> {
        // What is remembered describes the newest snapshot of all, not the newest of what stood before.
        let (Some(host), Some(state)) = (session.host.filter(|_| !read_data), &session.state) else {
            return Ok(Self::default());
        };
        let host = vault.host_of(&SignerId(host.0));
        let snapshots = vault.history.hosts.get(&host).map_or(&[][..], Vec::as_slice);
        let Some(newest) = snapshots.iter().rev().find(|s| s.is_usable() && s.record.index.is_some()) else {
            return Ok(Self::default());
        };
        let expected = Expected { vault: &vault.info.vault, host: &host, record: &newest.hash };
        Ok(match load(&state.dir().join(CATALOG), &expected, |_| true) {
            Loaded::Usable(known) => Self(known),
            Loaded::Absent | Loaded::Other => Self::default(),
            Loaded::Useless(why) => {
                session
                    .note(&format!("all files are read, because what was remembered cannot be used: {why}"));
                Self::default()
            }
        })
    }

    /// What is known of the component with this number; can be asked once.
    pub(super) fn of(&mut self, number: u64) -> KnownRows {
        let stretches = self.0.components.remove(&number).unwrap_or_default();
        KnownRows { stretches, place: 0, open: None }
    }
}

/// The rows of one component.
pub(super) struct KnownRows {
    stretches: Vec<KnownStretch>,
    place: usize,
    open: Option<(usize, Stretch, usize)>,
}

impl KnownRows {
    /// Begins again with the first.
    pub(super) fn rewind(&mut self) {
        (self.place, self.open) = (0, None);
    }

    /// The row of `path`; paths must come in walk order.
    pub(super) fn seek(&mut self, path: &[u8]) -> Option<Row> {
        while walk_order(self.stretches.get(self.place)?.last.as_bytes(), path) == Ordering::Less {
            self.place += 1;
        }
        let known = self.stretches.get(self.place)?;
        if walk_order(known.first.as_bytes(), path) == Ordering::Greater {
            return None;
        }
        if self.open.as_ref().is_none_or(|open| open.0 != self.place) {
            self.open = Some((self.place, known.open()?, 0));
        }
        let (_, stretch, at) = self.open.as_mut()?;
        loop {
            let (row, next) = stretch.row(*at)?;
            match walk_order(row.path, path) {
                Ordering::Less => *at = next,
                Ordering::Equal => return row.decode(),
                Ordering::Greater => return None,
            }
        }
    }
}

/// True when `row` describes the file that has `ident` now. Of a database its log and journal count, too.
pub(super) fn is_still(row: &Row, ident: Ident, database: Option<&Path>) -> bool {
    let beside = match database {
        None => [None, None],
        Some(path) => match (sidecar(path, "-wal"), sidecar(path, "-journal")) {
            (Ok(wal), Ok(journal)) => [wal, journal],
            _ => return false,
        },
    };
    row.safe && row.ident == Some(ident) && row.beside == beside
}

/// A sidecar that holds something.
fn sidecar(database: &Path, ending: &str) -> rustix::io::Result<Option<Ident>> {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    match rustix::fs::lstat(PathBuf::from(name)) {
        Ok(stat) => Ok(Some(Ident::of(&stat)).filter(|ident| ident.size > 0)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

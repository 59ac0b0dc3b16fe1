//! Row 2: from tar members to sealed age objects and back.
//!
//! An archive is `age( zstd frames ( pax tar ) )` and a manifest object `age( zstd frames ( JSON lines ) )`, as section 6 of
//! `docs/format.md` says. Writing: [`ArchiveWriter`] and [`seal_manifest`]. Reading: [`ArchiveReader`] for ranges, [`check_archive`] for
//! a whole archive, [`open_manifest`]. The work is spread over a [`Pool`].
//!
//! This module must never hand out a byte that age has not authenticated, never put a frame into an archive that did not decompress to
//! what went in, never use a chunk counter of one key twice, and never extract anything from a tar stream by itself.

pub mod about;
pub mod check;
mod error;
pub mod extract;
pub mod frames;
pub mod object;
pub mod pax;
pub mod payload;
pub mod pool;
pub mod reader;
pub mod workshop;
mod writer;

#[cfg(test)]
mod tests;

pub use about::About;
pub use check::{ArchiveSummary, check_archive};
pub use error::{ArchiveError, Damage};
pub use object::{open_manifest, seal_manifest};
pub use pax::{Member, MemberKind, Sparse};
pub use pool::{Pool, PoolGone, Ticket};
pub use reader::{ArchiveReader, RangeRead};
pub use writer::{ArchiveWriter, SealedArchive};

//! What of a large file or a database is new: each block is compared with its hash at the last snapshot, in one pass over the content.
//!
//! [`compare`] reads through a closure, which may be a capture that cannot seek, and tells a [`Sink`] in file order what lies in an archive already
//! and what is to be packed. [`Parts`] is the sink that makes part members of the new bytes and extents of it all.
//!
//! This module must never say that bytes lie in an archive unless their block hash is equal *and* the old extents cover them: whoever leaves extents
//! out of [`Old`] (an archive that is gone, damaged or to be packed again) gets their bytes as new ones. It knows no store, and it never holds more of
//! the content than a few windows.

mod before;
mod compare;
mod hashing;
mod nowhere;
mod parts;
mod place;
mod shift;
mod size;
mod sums;
mod table;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use before::OldTable;
pub(crate) use compare::{CompareError, Compared, Old, Request, Sink, compare};
pub(crate) use nowhere::Nowhere;
pub(crate) use parts::{Home, PART_BYTES, Parts, Stretch, unchanged_ranges};
pub(crate) use size::{Content, block_size, database_page};

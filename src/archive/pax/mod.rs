//! POSIX pax tar: headers written exactly, and read back strictly.
//!
//! Two tar programs that disagree about where a header lies show different members of one stream. So the writer says everything in the one
//! way all of them understand, and the reader refuses whatever could be understood in two ways. Nothing here touches a file system.

mod block;
mod member;
mod read;
mod records;
mod write;

pub use member::{Member, MemberKind, Sparse};
pub use read::{TarMember, TarReader};
pub use write::encode;

/// Everything in a tar stream begins at a multiple of this.
pub const BLOCK: usize = 512;
/// The pax records of one member are at most this long.
pub const PAX_BYTES_MAX: usize = 1 << 20;
/// The map of a sparse member is at most this long.
pub const MAP_BYTES_MAX: usize = 16 << 20;
/// What the size field of a ustar header can say.
pub const USTAR_SIZE_MAX: u64 = 0o777_7777_7777;

/// Zero bytes between `length` bytes of data and the next block.
pub fn padding(length: u64) -> usize {
    (length.wrapping_neg() % BLOCK as u64) as usize
}

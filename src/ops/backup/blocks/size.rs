//! How large the blocks of a file are.

/// The smallest block of a file that is no database.
const FILE_BLOCK: u32 = 16 << 10;
/// A file is given at most this many blocks; one that has a table keeps its block size until it has more than twice as many.
const FILE_BLOCKS: u64 = 1 << 20;
/// The same for databases: their blocks are pages while 16 GiB of 4 KiB pages last, and then several pages.
const DATABASE_BLOCKS: u64 = 1 << 22;
/// Blocks never grow beyond this, so that a window stays small.
const BLOCK_MAX: u32 = 8 << 20;

/// What the blocks of some content should follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Any bytes: they may be inserted anywhere.
    File,
    /// A database of pages of this many bytes: they change in place.
    Database(u32),
}

/// The page size that a SQLite header says, if it is one. `head` is the beginning of the file, at least 18 bytes.
pub(crate) fn database_page(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(b"SQLite format 3\0")?;
    let size = match u16::from_be_bytes([*rest.first()?, *rest.get(1)?]) {
        1 => 65536,
        size => u32::from(size),
    };
    (size.is_power_of_two() && size >= 512).then_some(size)
}

/// The block size for `size` bytes of `content`, whose last table, if any, has blocks of `old` bytes. It changes rarely: with it, every hash does.
pub(crate) fn block_size(content: Content, size: u64, old: Option<u32>) -> u32 {
    let (smallest, most) = match content {
        Content::File => (FILE_BLOCK, FILE_BLOCKS),
        Content::Database(page) => (page.clamp(512, 65536).next_power_of_two(), DATABASE_BLOCKS),
    };
    let blocks = |block: u32| size.div_ceil(u64::from(block));
    let fits = |block: &u32| {
        let sane = block.is_power_of_two() && *block >= smallest && *block <= BLOCK_MAX;
        sane && blocks(*block) <= 2 * most
    };
    if let Some(old) = old.filter(fits) {
        return old;
    }
    let mut block = smallest;
    while blocks(block) > most && block < BLOCK_MAX {
        block *= 2;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_pages_or_16_kib_doubled_until_there_are_not_too_many() {
        assert_eq!(block_size(Content::File, 2 << 20, None), 16 << 10);
        assert_eq!(block_size(Content::File, 16 << 30, None), 16 << 10);
        assert_eq!(block_size(Content::File, (16 << 30) + 1, None), 32 << 10);
        assert_eq!(block_size(Content::File, 1 << 40, None), 1 << 20);
        assert_eq!(block_size(Content::Database(4096), 2 << 30, None), 4096);
        assert_eq!(block_size(Content::Database(512), 1 << 20, None), 512);
        assert_eq!(block_size(Content::Database(4096), 64 << 30, None), 16 << 10);
        assert_eq!(block_size(Content::File, u64::MAX, None), BLOCK_MAX);
    }

    #[test]
    fn a_file_keeps_its_block_size_until_it_has_twice_the_blocks() {
        let (small, large) = (16 << 10, 32 << 10);
        assert_eq!(block_size(Content::File, 32 << 30, Some(small)), small);
        assert_eq!(block_size(Content::File, (32 << 30) + 1, Some(small)), 64 << 10);
        assert_eq!(block_size(Content::File, 1 << 20, Some(large)), large);
        assert_eq!(block_size(Content::Database(8192), 1 << 20, Some(4096)), 8192, "pages became larger");
        assert_eq!(block_size(Content::File, 1 << 20, Some(3)), small);
    }

    #[test]
    fn page_sizes_come_from_the_header() {
        let head = |size: [u8; 2]| [&b"SQLite format 3\0"[..], &size].concat();
        assert_eq!(database_page(&head([0x10, 0])), Some(4096));
        assert_eq!(database_page(&head([0, 1])), Some(65536));
        assert_eq!(database_page(&head([2, 0])), Some(512));
        assert_eq!(database_page(&head([1, 0])), None);
        assert_eq!(database_page(&head([0x10, 1])), None);
        assert_eq!(database_page(b"SQLite format 3\0"), None);
        assert_eq!(database_page(b"something else, longer than that"), None);
    }
}

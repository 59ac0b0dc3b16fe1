//! zstd frame headers and seek tables, and frames that unpack to more than they may.
#![no_main]
use backstay::archive::frames::{Unpacker, parse_header, parse_seek_table};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = parse_header(bytes);
    let _ = parse_seek_table(bytes);
    if let Ok(mut unpacker) = Unpacker::new() {
        if let Ok(content) = unpacker.unpack(bytes) {
            assert!(content.len() <= 4 << 20);
        }
    }
});

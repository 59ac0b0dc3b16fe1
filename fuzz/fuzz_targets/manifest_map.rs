//! Maps of large files.
#![no_main]
use backstay::model::manifest::Map;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Map::decode(bytes, 0, 256 << 20);
    let _ = Map::decode(bytes, 256 << 20, 300 << 20);
});

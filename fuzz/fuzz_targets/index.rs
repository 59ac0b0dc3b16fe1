//! Indexes: what is accepted is written again and read as the same.
#![no_main]
use backstay::model::index::Index;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(index) = Index::decode(bytes) {
        let again = index.encode().expect("what was read is written");
        let _ = Index::decode(&again).expect("what was written is read");
    }
});

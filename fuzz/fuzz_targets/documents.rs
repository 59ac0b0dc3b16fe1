//! Signed documents: records, marks and tombstones, with whatever signature stands under them. What is read is written again as it was.
#![no_main]
use backstay::keys::signed::open_document;
use backstay::model::document::{namespace, parse, split};
use backstay::model::mark::{Mark, Tombstone};
use backstay::model::record::Record;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = open_document::<Record>(bytes, "record", namespace::RECORD);
    let _ = open_document::<Mark>(bytes, "mark", namespace::MARK);
    // Past the signature, which a fuzzer does not guess.
    let line = split(bytes).map_or(bytes, |(line, _)| line);
    let _ = parse::<Tombstone>(line, "tombstone");
    let _ = parse::<Mark>(line, "mark");
    let _ = parse::<Record>(line, "record");
});

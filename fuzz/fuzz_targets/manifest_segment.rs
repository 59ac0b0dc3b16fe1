//! Segments: what is accepted is written again and read as the same.
#![no_main]
use backstay::model::manifest::Segment;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(segment) = Segment::decode(bytes) {
        let table = segment.archives.iter().map(|a| (a.sha256, a.clone())).collect();
        if let Ok(again) = Segment::encode(&segment.component, &segment.entries, &table) {
            let read = Segment::decode(&again).expect("what was written is read");
            assert_eq!(read.entries, segment.entries);
        }
    }
});

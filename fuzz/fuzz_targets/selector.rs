//! Snapshot ids, `@TIME`, `latest~1`, `tag:…`, and paths in snapshots.
#![no_main]
use backstay::model::path::RelPath;
use backstay::model::selector::Selector;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let _ = Selector::parse(text, now, || jiff::tz::TimeZone::UTC);
    let _ = RelPath::new(text.as_bytes());
});

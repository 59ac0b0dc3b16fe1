//! The strict tar reader: every member and all its data, to the end.
#![no_main]
use backstay::archive::pax::TarReader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut tar = TarReader::new(bytes, "a fuzzed archive");
    let mut buffer = [0; 4096];
    while let Ok(Some(_)) = tar.next_member() {
        while matches!(tar.read_data(&mut buffer), Ok(n) if n > 0) {}
    }
});

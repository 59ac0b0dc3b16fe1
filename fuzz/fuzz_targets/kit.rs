//! Recovery kits, as typed in by hand or by a scanner.
#![no_main]
use backstay::keys::kit::Kit;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(kit) = Kit::parse(text) {
        let again = Kit::parse(&kit.render()).expect("a kit that was printed is read");
        assert_eq!(*again.render(), *kit.render());
    }
});

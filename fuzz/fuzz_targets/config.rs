//! Configurations: every mistake is a message, none a panic, and a message can be shown.
#![no_main]
use backstay::config::Config;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(mistakes) = Config::parse(text, Path::new("/srv/app/backstay.toml")) {
        let _ = mistakes.to_string();
    }
});

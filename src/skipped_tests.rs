//! What cannot be tested on a machine, for tests of single modules.

use std::io::Write as _;

/// Says that something cannot be tested here. `./test` lists it at its end: what nobody tried must not look as if it had passed.
pub(crate) fn not_run(what: &str) {
    println!("NOT RUN: {what}");
    if let Some(file) = std::env::var_os("BACKSTAY_NOT_RUN_FILE") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        writeln!(file.unwrap(), "NOT RUN: {what}").unwrap();
    }
}

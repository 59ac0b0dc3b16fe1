//! The `backstay` program: parses, runs, returns an exit code.

use std::process::ExitCode;

/// The commit that this was compiled from, as far as `build.rs` knows it; then zeros.
const COMMIT: [u8; 40] = include!(concat!(env!("OUT_DIR"), "/commit.rs"));

/// The commit in the last line of git's note of where HEAD was moved: `OLD NEW NAME …`.
#[allow(dead_code, reason = "what build.rs writes does without, where there is no git")]
const fn newest(log: &[u8]) -> [u8; 40] {
    let mut commit = [0; 40];
    let mut at = log.len().saturating_sub(1);
    while at > 0 && log[at - 1] != b'\n' {
        at -= 1;
    }
    let mut digit = 0;
    while digit < 40 && at + 41 + digit < log.len() && log[at + 41 + digit].is_ascii_hexdigit() {
        commit[digit] = log[at + 41 + digit];
        digit += 1;
    }
    commit
}

fn main() -> ExitCode {
    let commit = std::str::from_utf8(&COMMIT).unwrap_or_default().trim_end_matches('\0');
    backstay::cli::main(commit)
}

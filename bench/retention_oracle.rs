//! The long form of `tests/it/retention_oracle.rs`, for a build that is optimised: so many random timelines (a million) against the oracle.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    dead_code,
    unused_imports,
    reason = "it is a test"
)]

#[path = "../tests/it/retention_oracle.rs"]
mod oracle;

fn main() {
    let cases = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let (kept, gone) = oracle::compare_all(0..cases);
    println!("{cases} timelines, no difference: {kept} snapshots kept, {gone} gone");
    assert!(
        gone as u64 > cases && kept as u64 > cases,
        "a comparison in which nothing goes would prove nothing"
    );
}

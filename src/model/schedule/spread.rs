//! Many machines with one configuration should not all begin at one instant.

use jiff::SignedDuration;
use std::time::Duration;

/// How long after its time a job begins: at least nothing, less than `within`. It follows from `parts` (host, project, job) alone, so that it is
/// the same after a restart and on every day.
pub fn spread(parts: &[&str], within: Duration) -> SignedDuration {
    let seconds = within.as_secs();
    if seconds == 0 {
        return SignedDuration::ZERO;
    }
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // With its length, so that no two lists of parts are one text.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    SignedDuration::from_secs(i64::try_from(number % seconds).unwrap_or(0))
}

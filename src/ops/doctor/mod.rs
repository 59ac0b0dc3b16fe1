//! An examination of a project: what is wrong, or will be one day, and the way out of each.
//!
//! It reads, and writes nothing but throw-away probe objects and files, which it removes; beside that it ends what it is told to end. It goes on whatever is
//! broken: what cannot be looked at is a finding, never the end of it, and never passed over in silence.

mod bucket;
mod clock;
mod configuration;
mod devices;
mod folder;
mod history;
mod keys;
mod report;
mod schedule;
mod space;
mod uploads;

pub use report::{Area, DoctorReport, Finding, Severity};

use crate::config::{Config, Place};
use crate::ops::error::{OpError, Result};
use crate::ops::restore::read::chain_text;
use crate::ops::session::{Session, Surroundings};
use crate::ops::stores::Means;
use report::Findings;
use std::sync::Arc;

/// What is done beside looking.
#[derive(Debug, Clone, Copy, Default)]
pub struct DoctorOptions {
    /// Uploads in parts that nobody goes on with are ended.
    pub abort_uploads: bool,
}

/// Examines the project of `config`.
pub fn run(config: &Arc<Config>, around: &Surroundings, options: DoctorOptions) -> Result<DoctorReport> {
    let mut findings = Findings::default();
    let now = around.clock.now();
    configuration::look(config, &mut findings);
    keys::look(config, &mut findings);
    devices::look(config, &mut findings);
    schedule::look(config, now, &mut findings);
    let means = Means {
        writer: crate::keys::Signer::load(&config.signing.key_file).ok().map(|signer| signer.id()),
        state_dir: config.state_dir.clone(),
        interrupt: around.interrupt.clone(),
        as_of: None,
    };
    for store in &config.stores {
        around.interrupt.check()?;
        match &store.place {
            Place::Path(path) => folder::look(&store.name, path, now, &mut findings),
            Place::Url(place) => {
                if let Some(bucket) = bucket::look(&store.name, place, &means, &mut findings) {
                    uploads::look(&store.name, &bucket, now, options.abort_uploads, &mut findings);
                }
            }
        }
    }
    around.interrupt.check()?;
    match Session::open(Arc::clone(config), around.clone()) {
        Ok(session) => {
            keys::look_with(&session, &mut findings);
            history::look(&session, &mut findings)?;
        }
        Err(e) => findings.problem(
            Area::History,
            "all stores",
            format!("nothing stored could be looked at: {}", chain_text(&e)),
            way_out(&e, "bring a store within reach, then look again"),
        ),
    }
    around.interrupt.check()?;
    Ok(findings.finish(now))
}

/// What an error says to do, or `else_this`.
fn way_out(error: &OpError, else_this: &str) -> String {
    error.hint.clone().unwrap_or_else(|| else_this.to_owned())
}

/// A span of time for people: `3 h`, `2 days`.
pub fn span(seconds: i64) -> String {
    let (number, unit) = match seconds.unsigned_abs() {
        s @ 0..120 => (s, "second"),
        s @ 120..7200 => (s / 60, "minute"),
        s @ 7200..172_800 => (s / 3600, "hour"),
        s => (s / 86_400, "day"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

/// Bytes for people, in the units of the messages.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match UNITS.iter().find(|unit| number >= unit.0) {
        Some((unit, name)) => format!("{:.1} {name}", number as f64 / *unit as f64),
        None => format!("{number} bytes"),
    }
}

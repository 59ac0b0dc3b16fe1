//! Room: in stores, for what is being prepared, and for getting everything back.

use crate::config::{Config, Place};
use crate::durable::free_space;
use crate::model::chain::KnownSnapshot;
use crate::ops::doctor::bytes;
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::vault::Vault;
use std::path::Path;

const AREA: Area = Area::Space;
/// Archives are not larger than this, unless the configuration says so.
const ARCHIVE_MAX: u64 = 1 << 30;
const ARCHIVE_MIN: u64 = 32 << 20;

/// Looks at room for another snapshot like the newest.
pub(super) fn look(config: &Config, vault: &Vault, newest: &KnownSnapshot, findings: &mut Findings) {
    let record = &newest.record;
    let size: u64 = record.components.iter().map(|c| c.size).fold(0, u64::saturating_add);
    let stored: u64 = record.objects.iter().map(|o| o.size).fold(0, u64::saturating_add);
    // Archives are as large as the component asks for that they are of; what holes it has is not known here.
    let largest = record.components.iter().map(|c| c.size).max().unwrap_or(0);
    let archive = config.packing.archive_size.unwrap_or((largest / 256).clamp(ARCHIVE_MIN, ARCHIVE_MAX));
    for store in &config.stores {
        let there = vault.views.iter().any(|view| view.store.name() == store.name);
        if let (Place::Path(path), true) = (&store.place, there) {
            let what = "another full snapshot does not fit in";
            room(
                &store.name,
                path,
                stored.max(2 * archive),
                what,
                "make room there; a store that is full takes no backup",
                findings,
            );
        }
    }
    if config.stores.iter().any(|store| matches!(store.place, Place::Url(_))) {
        let what = "archives on their way to a bucket do not fit in";
        let way = "make room, or set [state] dir to another disk, or `archive_size` lower";
        room("spool", &config.state_dir, 2 * archive, what, way, findings);
    }
    let what = "everything does not fit beside what is there, when it is restored to";
    let way = "nothing fails today; when it matters, restore to another disk";
    room("restore", &config.dir, size, what, way, findings);
}

fn room(subject: &str, path: &Path, needed: u64, what: &str, way: &str, findings: &mut Findings) {
    let Some(near) = path.ancestors().find(|place| place.exists()) else { return };
    let shown = near.display();
    match free_space(near) {
        Ok(free) if free < needed => {
            let what = format!("{what} {shown}: {} are needed, {} are free", bytes(needed), bytes(free));
            findings.warning(AREA, subject, what, way);
        }
        Ok(free) => findings.well(AREA, subject, format!("{} are free in {shown}", bytes(free))),
        Err(e) => findings.note(AREA, subject, format!("it cannot be told how much is free in {shown}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &Path, needed: u64) -> (String, Option<String>) {
        let mut findings = Findings::default();
        room("restore", path, needed, "everything does not fit in", "make room", &mut findings);
        let report = findings.finish(jiff::Timestamp::UNIX_EPOCH);
        let one = &report.findings[0];
        (format!("{:?} {}", one.severity, one.what), one.way_out.clone())
    }

    #[test]
    fn room_is_judged_where_the_folder_would_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let (text, way) = said(&dir.path().join("not/there/yet"), 1);
        assert!(
            text.starts_with("Well ") && text.ends_with(&format!("free in {}", dir.path().display())),
            "{text}"
        );
        assert_eq!(way, None);
        let (text, way) = said(dir.path(), u64::MAX);
        let needed = "everything does not fit in";
        assert!(text.starts_with(&format!("Warning {needed} {}", dir.path().display())), "{text}");
        assert!(text.contains("18446744.1 TB are needed, "), "{text}");
        assert_eq!(way.as_deref(), Some("make room"));
    }
}

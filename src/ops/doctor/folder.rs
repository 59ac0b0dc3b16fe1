//! A store in a directory.

use crate::durable::NewFile;
use crate::model::Timestamp;
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::doctor::{bytes, clock, span};
use crate::ops::kit_place::kits_in;
use crate::ops::stores::open_folder;
use crate::store::{Key, Prefix};
use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const AREA: Area = Area::Store;
const PREFIXES: [Prefix; 5] =
    [Prefix::Archives, Prefix::Manifests, Prefix::Records, Prefix::Marks, Prefix::Tombstones];
/// What else may lie at the top of a store: unfinished files, what git is told, what a file system makes by itself.
const KNOWN: [&str; 5] = [".incoming", ".gitignore", "lost+found", ".Trash-0", ".DS_Store"];
/// What lies in `.incoming` for longer was left there.
const LEFT_AFTER: i64 = 24 * 3600;

/// Looks at the store called `name` in `path`.
pub(super) fn look(name: &str, path: &Path, now: Timestamp, findings: &mut Findings) {
    if let Err(e) = open_folder(name, path, None) {
        let hint =
            super::way_out(&e, "mount its disk; where there never was a store, `backstay init` makes one");
        return findings.problem(AREA, name, super::chain_text(&e), hint);
    }
    rights(name, path, findings);
    if try_writing(name, path, now, findings) {
        findings.note(
            AREA,
            name,
            "this machine can change and delete what lies in it: whoever takes the machine over can, too",
        );
    }
    strangers(name, path, findings);
    kits(name, path, findings);
    leftovers(name, path, now, findings);
}

fn rights(name: &str, path: &Path, findings: &mut Findings) {
    let Ok(facts) = path.metadata() else { return };
    let (mode, shown) = (facts.mode() & 0o7777, path.display());
    if mode & 0o022 != 0 {
        let what = format!(
            "others than its owner may write in {shown} (mode {mode:04o}): they can remove every backup"
        );
        findings.problem(AREA, name, what, format!("chmod 700 {shown}"));
    } else if mode & 0o055 != 0 {
        let what =
            format!("others can see sizes and times in {shown} (mode {mode:04o}); contents are encrypted");
        findings.warning(AREA, name, what, format!("chmod 700 {shown}"));
    }
}

/// Makes a throw-away file where objects go, which is gone again when this returns. Also the file system's clock is seen by it.
fn try_writing(name: &str, path: &Path, now: Timestamp, findings: &mut Findings) -> bool {
    let folder = path.join(Prefix::Archives.dir());
    let folder = if folder.is_dir() { folder } else { path.to_owned() };
    match NewFile::create_in(&folder) {
        Ok(probe) => {
            if let Ok(facts) = probe.file().metadata() {
                clock::judge(&format!("store {name}"), facts.mtime() - now.as_second(), findings);
            }
            true
        }
        Err(e) => {
            let what = format!("it cannot be written: {}", super::chain_text(&e));
            findings.problem(
                AREA,
                name,
                what,
                "let the user who runs backstay own it; is it mounted read-only, or full?",
            );
            false
        }
    }
}

/// Names in a folder; none where it cannot be listed.
fn names(dir: &Path) -> Vec<DirEntry> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().collect()
}

/// Whether a name at the top of a store is its own.
fn is_of_store(name: &str) -> bool {
    KNOWN.contains(&name) || PREFIXES.iter().any(|p| p.dir() == name) || Key::parse(name).is_some()
}

/// Recovery kits that somebody put where only what they open should be.
fn kits(name: &str, path: &Path, findings: &mut Findings) {
    for kit in kits_in(path, &is_of_store) {
        let what = format!(
            "a recovery kit lies in the store, {}: whoever gets this disk reads everything and signs as the host",
            kit.display()
        );
        let way = "move it to a medium of its own and delete it here; if somebody may have read it: `backstay keys signer rotate`, `backstay keys rotate`, and a new kit";
        findings.problem(Area::Kit, name, what, way);
    }
}

/// What lies in the store and is no part of it.
fn strangers(name: &str, path: &Path, findings: &mut Findings) {
    let mut strange = Vec::new();
    for entry in names(path) {
        let text = entry.file_name().to_string_lossy().into_owned();
        if !is_of_store(&text) {
            strange.push(text);
        }
    }
    for prefix in PREFIXES.map(Prefix::dir) {
        for entry in names(&path.join(prefix)) {
            let text = entry.file_name().to_string_lossy().into_owned();
            let below = if entry.path().is_dir() { names(&entry.path()) } else { Vec::new() };
            let keys = below.iter().map(|e| format!("{prefix}/{text}/{}", e.file_name().to_string_lossy()));
            let keys: Vec<String> =
                if entry.path().is_dir() { keys.collect() } else { vec![format!("{prefix}/{text}")] };
            strange.extend(keys.into_iter().filter(|key| Key::parse(key).is_none()));
        }
    }
    strange.retain(|name| !name.rsplit('/').next().is_some_and(|n| n.starts_with(".backstay-")));
    if !strange.is_empty() {
        let shown: Vec<String> =
            strange.iter().take(3).map(|name| crate::model::path::escape(name.as_bytes())).collect();
        let more = if strange.len() > 3 { format!(" and {} more", strange.len() - 3) } else { String::new() };
        findings.note(
            AREA,
            name,
            format!("something lies in it that is not of it, and is left alone: {}{more}", shown.join(", ")),
        );
    }
}

/// What killed runs left.
fn leftovers(name: &str, path: &Path, now: Timestamp, findings: &mut Findings) {
    let (mut waiting, mut count, mut size, mut oldest) = (vec![path.join(".incoming")], 0, 0, 0);
    while let Some(dir) = waiting.pop() {
        for entry in names(&dir) {
            let Ok(facts) = entry.metadata() else { continue };
            let age = now.as_second() - facts.mtime();
            if facts.is_dir() {
                waiting.push(entry.path());
            } else if age > LEFT_AFTER {
                (count, size, oldest) = (count + 1, size + facts.len(), age.max(oldest));
            }
        }
    }
    if count > 0 {
        let what = format!(
            "{count} unfinished files of {} lie in its .incoming, the oldest for {}",
            bytes(size),
            span(oldest)
        );
        findings.warning(
            AREA,
            name,
            what,
            "the next `backstay backup` of the host that left them removes them; those of a host that is gone may be deleted",
        );
    }
}

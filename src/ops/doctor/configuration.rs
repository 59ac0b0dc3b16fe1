//! What the configuration names, and what it leaves open.

use crate::config::{Config, Place, Spec, SqliteCheck, leaves_in_the_open};
use crate::keys::RecipientSet;
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::layout::component_paths;
use std::io;
use std::os::unix::fs::MetadataExt;

const AREA: Area = Area::Configuration;

/// Looks at `backstay.toml`, which was read and found valid.
pub(super) fn look(config: &Config, findings: &mut Findings) {
    let file = config.path.display().to_string();
    if config.components.is_empty() {
        findings.note(AREA, &file, "it names no component: this host backs up nothing of its own");
    }
    missing_things(config, findings);
    checks(config, findings);
    writable_by_others(config, &file, findings);
    recipients(config, findings);
    for store in &config.stores {
        if let Place::Url(place) = &store.place
            && place.endpoint.as_deref().is_some_and(leaves_in_the_open)
        {
            let what = "it is reached without TLS over a network: whoever listens sees names, sizes and times, and can answer in its place";
            findings.warning(
                AREA,
                &store.name,
                what,
                "use an `https://` endpoint, with `ca_file` for a certificate of your own",
            );
        }
    }
    if !findings.has_trouble(AREA) {
        let count = config.components.len();
        findings.well(AREA, &file, format!("it is valid, and all that its {count} components name is there"));
    }
}

fn missing_things(config: &Config, findings: &mut Findings) {
    for component in &config.components {
        for path in component_paths(component) {
            let name = component.name.as_str();
            match path.symlink_metadata() {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => findings.problem(
                    AREA,
                    name,
                    format!("{} does not exist, so every snapshot is incomplete", path.display()),
                    "mount its disk, or correct the component in backstay.toml",
                ),
                Err(e) => findings.problem(
                    AREA,
                    name,
                    format!("{} cannot be looked at: {e}", path.display()),
                    "run backstay as a user who may read it",
                ),
            }
        }
    }
}

/// Components of which nobody looks whether what was captured is sound.
fn checks(config: &Config, findings: &mut Findings) {
    for component in &config.components {
        let name = component.name.as_str();
        match &component.spec {
            Spec::Sqlite { check: SqliteCheck::Never, .. } => findings.warning(
                Area::Databases,
                name,
                "its check is switched off: a corrupt database is backed up as if it were sound, until nothing else is left",
                "remove `check = \"never\"`",
            ),
            Spec::Command { check: None, min_size: 0..=1, .. } => findings.warning(
                Area::Databases,
                name,
                "nothing checks what its command writes: a dump that ends early counts as good",
                "give it `check` (a command that reads the dump), or at least `min_size`",
            ),
            Spec::Command { restore_command: None, .. } => findings.note(
                Area::Databases,
                name,
                "it has no `restore_command`: its output comes back as a file, and a person must read it in",
            ),
            _ => {}
        }
    }
}

fn writable_by_others(config: &Config, file: &str, findings: &mut Findings) {
    let Ok(facts) = config.path.metadata() else { return };
    let runs_commands =
        config.components.iter().any(|c| matches!(c.spec, Spec::Command { .. } | Spec::Postgres { .. }));
    if facts.mode() & 0o022 != 0 {
        let danger = if runs_commands { "it runs commands" } else { "it decides what is kept and where" };
        findings.warning(
            AREA,
            file,
            format!("others than its owner may change it (mode {:04o}), and {danger}", facts.mode() & 0o7777),
            format!("chmod go-w {file}"),
        );
    }
}

fn recipients(config: &Config, findings: &mut Findings) {
    if config.components.is_empty() {
        return;
    }
    match RecipientSet::parse(&config.encryption.recipients) {
        Err(e) => findings.problem(
            Area::Keys,
            "[encryption] recipients",
            format!("one cannot be used: {e}"),
            "give recipients that begin with age1, each whole",
        ),
        Ok(set) if set.texts().len() == 1 => findings.note(
            Area::Keys,
            "[encryption] recipients",
            "there is one: whoever loses that identity, and every print of the kit that holds it, loses all backups",
        ),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_open_where_it_leaves_this_machine() {
        for open in [
            "http://minio.example:9000",
            "http://10.0.0.1",
            "http://[2001:db8::1]:9000",
            "http://minio.example/x",
        ] {
            assert!(leaves_in_the_open(open), "{open}");
        }
        for closed in [
            "https://minio.example",
            "http://localhost:9000",
            "http://127.0.0.1",
            "http://127.0.0.53",
            "http://[::1]:9000",
        ] {
            assert!(!leaves_in_the_open(closed), "{closed}");
        }
    }
}

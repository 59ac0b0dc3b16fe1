//! A store in a bucket: what its server really does, and what this host's keys may do there.

use crate::config::UrlPlace;
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::doctor::{bytes, chain_text, clock, way_out};
use crate::ops::remote::{open_bucket, open_s3};
use crate::ops::stores::Means;
use crate::store::StoreErrorKind;
use crate::store::s3::{Capabilities, S3Store, Versions};

const AREA: Area = Area::Store;

/// Looks at the store called `name`; gives it where it is a bucket of an S3 server that can be opened.
pub(super) fn look(name: &str, place: &UrlPlace, means: &Means, findings: &mut Findings) -> Option<S3Store> {
    let store = match open_s3(name, place, &means.state_dir, &means.interrupt) {
        Ok(Some(store)) => store,
        Ok(None) => {
            other_cloud(name, place, means, findings);
            return None;
        }
        Err(e) => {
            let way = way_out(&e, "look at `endpoint`, the keys and the network");
            findings.problem(AREA, name, chain_text(&e), way);
            return None;
        }
    };
    match store.probe() {
        Ok(found) => {
            able(name, &found, findings);
            truth(name, &store, &found, findings);
        }
        Err(e) if e.kind == StoreErrorKind::Denied => findings.note(
            AREA,
            name,
            "these keys may write nothing but the objects of the format, so it was not tried what the server can do",
        ),
        Err(e) => findings.problem(
            AREA,
            name,
            format!("it could not be found out what the server can do: {}", chain_text(&e)),
            "try again; if it stays, look at the server's own log",
        ),
    }
    if let Some(ahead) = store.skew() {
        clock::judge(&format!("store {name}"), ahead, findings);
    }
    strangers(name, &store, findings);
    Some(store)
}

/// Buckets that speak another language are reached, and no more is tried of them.
fn other_cloud(name: &str, place: &UrlPlace, means: &Means, findings: &mut Findings) {
    match open_bucket(name, place, means) {
        Ok(_) => {
            let what = "it is within reach; whether older versions stay, and what these keys could destroy, is not tried with this kind of bucket";
            findings.note(AREA, name, what);
        }
        Err(e) => {
            let way = way_out(&e, "look at the keys and the network");
            findings.problem(AREA, name, chain_text(&e), way);
        }
    }
}

/// What the server can do beside keeping bytes.
fn able(name: &str, found: &Capabilities, findings: &mut Findings) {
    if found.abort_allowed == Some(false) {
        findings.warning(
            AREA,
            name,
            "these keys may not end an upload in parts: what is cut off stays there, costs room and is in no listing",
            "give them s3:AbortMultipartUpload (docs/fleet.md), and the bucket a rule that aborts incomplete multipart uploads after 7 days",
        );
    }
    if found.create_only && found.proves_put() && found.ranges {
        findings.well(AREA, name, "it refuses to overwrite, compares SHA-256 and answers ranges");
        return;
    }
    if !found.create_only {
        findings.note(AREA, name, "it does not refuse to overwrite: backstay looks before it puts");
    }
    if !found.proves_put() {
        let what = "it compares no SHA-256: every object is read back before it counts, so each upload is also a download";
        findings.note(AREA, name, what);
    }
    if !found.ranges {
        findings.warning(
            AREA,
            name,
            "it answers no ranges: for one file out of an archive the whole archive is downloaded",
            "use a server that answers ranges (docs/stores.md)",
        );
    }
    if !found.multipart {
        findings.warning(
            AREA,
            name,
            "it takes no uploads in parts: a broken connection begins each object anew",
            "keep `archive_size` small, or use another server (docs/stores.md)",
        );
    }
}

/// Who could destroy what lies there. A setting is not believed: it was tried.
fn truth(name: &str, store: &S3Store, found: &Capabilities, findings: &mut Findings) {
    let tried = match store.try_versions() {
        Ok(tried) => tried,
        Err(e) => {
            let what =
                format!("it could not be found out whether overwritten objects stay: {}", chain_text(&e));
            return findings.warning(AREA, name, what, "try again");
        }
    };
    if tried.left > 0 {
        let what = format!(
            "{} versions of a throw-away object of a few bytes stay below .backstay-probe/, because these keys may not remove them",
            tried.left
        );
        findings.note(AREA, name, what);
    }
    judge(name, found, tried, findings);
}

const VERSIONS_ON: &str =
    "switch versioning on, and take the right to delete versions from this host's keys (docs/fleet.md)";
const NO_VERSIONS: &str = "these keys can overwrite or delete what lies there, and no older version stays: whoever takes this host over can destroy the backups";

fn judge(name: &str, found: &Capabilities, tried: Versions, findings: &mut Findings) {
    let destroys = found.overwrite_possible || found.delete_allowed;
    match (tried.kept, tried.removable) {
        (Some(true), Some(false)) => {
            let what = "what is overwritten or deleted stays as an older version, and these keys cannot remove that";
            findings.well(AREA, name, what);
        }
        (Some(true) | None, Some(true)) => findings.warning(
            AREA,
            name,
            "older versions stay, but these keys may remove them: whoever takes this host over can destroy the backups",
            "take the right to delete versions (s3:DeleteObjectVersion) from this host's keys (docs/fleet.md)",
        ),
        (None, Some(false)) if tried.told => {
            let what = "the server says that it keeps older versions, and these keys can neither remove nor read them, so it was not proved";
            findings.note(AREA, name, what);
        }
        (Some(false), _) if found.versioning == Some(true) => findings.problem(
            AREA,
            name,
            "the bucket says that it keeps versions, and it kept none: what is overwritten or deleted is lost",
            "do not rely on its versions; keep a second store elsewhere",
        ),
        _ if !destroys => findings.well(AREA, name, "these keys can neither overwrite nor delete"),
        _ => findings.warning(AREA, name, NO_VERSIONS, VERSIONS_ON),
    }
    if found.object_lock == Some(true) && tried.removable == Some(true) {
        findings.warning(
            AREA,
            name,
            "object lock is switched on, and an object that was put just now could be removed for good: nothing is locked",
            "give the bucket a default retention, or do not rely on the lock",
        );
    }
}

fn strangers(name: &str, store: &S3Store, findings: &mut Findings) {
    match store.strangers() {
        Ok(found) if found.objects == 0 => {}
        Ok(found) => {
            let names: Vec<String> =
                found.names.iter().map(|name| crate::model::path::escape(name.as_bytes())).collect();
            let what = format!(
                "{} objects of {} below its prefix are not of it, and are left alone: {}",
                found.objects,
                bytes(found.bytes),
                names.join(", ")
            );
            findings.note(AREA, name, what);
        }
        Err(e) => findings.note(
            AREA,
            name,
            format!("it cannot be looked through for strange objects: {}", chain_text(&e)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::ops::doctor::Severity;
    use crate::store::s3::Compared;

    fn found(versioning: bool, overwrite: bool) -> Capabilities {
        Capabilities {
            create_only: true,
            checksum_put: Compared::Enforced,
            checksum_part: Compared::Enforced,
            payload_put: true,
            payload_part: true,
            multipart: true,
            ranges: true,
            overwrite_possible: overwrite,
            delete_allowed: overwrite,
            abort_allowed: Some(true),
            versioning: Some(versioning),
            object_lock: Some(false),
            probed_at: None,
        }
    }

    fn worst(versioning: bool, overwrite: bool, kept: Option<bool>, removable: Option<bool>) -> Severity {
        let found = found(versioning, overwrite);
        let mut findings = Findings::default();
        judge("s", &found, Versions { told: versioning, kept, removable, left: 0 }, &mut findings);
        findings.finish(Timestamp::UNIX_EPOCH).worst
    }

    #[test]
    fn keys_that_may_not_end_uploads_are_warned_of() {
        let said = |abort_allowed| {
            let mut findings = Findings::default();
            let found = Capabilities { abort_allowed, ..found(true, true) };
            able("s", &found, &mut findings);
            findings.finish(Timestamp::UNIX_EPOCH).worst
        };
        assert_eq!((said(Some(true)), said(None)), (Severity::Well, Severity::Well));
        assert_eq!(said(Some(false)), Severity::Warning);
    }

    #[test]
    fn what_a_stolen_key_could_destroy_is_judged_by_what_was_tried() {
        assert_eq!(worst(true, true, Some(true), Some(false)), Severity::Well);
        assert_eq!(worst(true, true, Some(true), Some(true)), Severity::Warning);
        assert_eq!(
            worst(true, true, Some(false), None),
            Severity::Problem,
            "it says one thing and does another"
        );
        assert_eq!(worst(false, true, Some(false), None), Severity::Warning);
        assert_eq!(worst(false, false, None, None), Severity::Well);
        assert_eq!(worst(false, true, None, None), Severity::Warning);
        assert_eq!(
            worst(true, true, None, Some(false)),
            Severity::Note,
            "the keys of the host in deploy/minio"
        );
    }
}

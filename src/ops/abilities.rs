//! What a bucket's server can and cannot do, in words for people: what follows from it, and what to do.

use crate::store::s3::{Capabilities, Compared};

/// Everything that somebody who relies on the store `name` should know. Nothing is said of what is as it should be.
pub fn said(name: &str, found: &Capabilities) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |text: &str| said.push(format!("store {name}: {text}"));
    if found.probed_at.is_none() {
        say("what its server can do could not be tried with these keys; the least is assumed");
        return said;
    }
    if !found.create_only {
        say(
            "its server overwrites where it is asked not to; backstay looks before each put, and names have random parts",
        );
    }
    let takes_none = matches!(found.checksum_put, Compared::Refused | Compared::Untried);
    if !found.proves_put() || !found.proves_parts() {
        let how = if takes_none { "takes" } else { "compares" };
        say(&format!(
            "its server {how} no SHA-256 of what is put; that it was kept as it was sent is known only from reading it back, as each backup does"
        ));
    }
    if !found.multipart {
        say(
            "its server takes no uploads in parts; set archive_size = \"16MiB\" in [packing], or larger archives cannot be put",
        );
    }
    if !found.ranges {
        say(
            "its server sends whole objects where a part is asked for; one file out of an archive costs all of it",
        );
    }
    let keeps = found.versioning == Some(true) || found.object_lock == Some(true);
    match (found.delete_allowed, found.overwrite_possible && !keeps) {
        (true, true) => {
            say(
                "with these keys everything in it can be deleted or overwritten for good; versions, object lock, or keys that may not delete prevent it (docs/minio.md)",
            );
        }
        (false, true) => say(
            "these keys may not delete, but can overwrite, and the bucket keeps no versions; turn versions on. Set prune = \"elsewhere\" for this store",
        ),
        (false, false) => say("these keys may not delete; set prune = \"elsewhere\" for this store"),
        (true, false) => {}
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn best() -> Capabilities {
        Capabilities {
            create_only: true,
            checksum_put: Compared::Enforced,
            checksum_part: Compared::Enforced,
            payload_put: false,
            payload_part: false,
            multipart: true,
            ranges: true,
            overwrite_possible: true,
            delete_allowed: true,
            abort_allowed: Some(true),
            versioning: Some(true),
            object_lock: None,
            probed_at: Some(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn a_server_that_does_everything_needs_no_words_and_each_want_is_named() {
        assert_eq!(said("x", &best()), Vec::<String>::new());
        let wants: [(Capabilities, &str); 8] = [
            (Capabilities { create_only: false, ..best() }, "overwrites where"),
            (Capabilities { checksum_put: Compared::Ignored, ..best() }, "compares no SHA-256"),
            (Capabilities { checksum_part: Compared::Ignored, ..best() }, "compares no SHA-256"),
            (Capabilities { checksum_put: Compared::Refused, ..best() }, "takes no SHA-256"),
            (Capabilities { multipart: false, ..best() }, "no uploads in parts"),
            (Capabilities { ranges: false, ..best() }, "sends whole objects"),
            (Capabilities { versioning: Some(false), ..best() }, "deleted or overwritten for good"),
            (Capabilities { delete_allowed: false, ..best() }, "prune = \"elsewhere\""),
        ];
        for (found, words) in wants {
            let told = said("x", &found);
            assert!(
                told.len() == 1 && told[0].contains(words) && told[0].starts_with("store x: "),
                "{told:?}"
            );
        }
        assert!(said("x", &Capabilities { probed_at: None, ..best() })[0].contains("could not be tried"));
    }
}

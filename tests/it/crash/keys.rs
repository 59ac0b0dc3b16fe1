//! Keys that change, killed anywhere: what was stored opens as before, the configuration is whole, and the same command goes on.

use super::bed::{Bed, assert_code, chosen};
use crate::common::long::long;

fn recipient() -> String {
    backstay::keys::identity::generate().1
}

/// Killed at chosen points; afterwards the same command ends well or says that there is nothing left to do, old and new snapshots restore, and
/// the history is whole.
fn killed(bed: &Bed, args: &[&str]) {
    bed.save();
    let expected = bed.expected();
    let old = bed.list("before").into_keys().next().unwrap();
    let points = bed.points(args);
    for (turn, point) in chosen(&points, 10).enumerate() {
        let all = long() || turn % 3 == 0;
        bed.reset();
        let what = format!("{args:?} killed at {point} ({})", points[point - 1]);
        assert!(bed.killed_at(args, point), "{what}");
        assert_eq!(bed.list(&what).len(), 1, "{what}");
        bed.assert_restores(&old, &expected, &what);
        // What was done already is said to be so: nothing to add, or no such recipient.
        let again = bed.run(args);
        let words = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(matches!(again.status.code(), Some(0 | 2 | 16)), "{what}: {words}");
        bed.change();
        let newer = bed.expected();
        let backup = bed.run(&["backup"]);
        assert_eq!(backup.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&backup.stderr));
        assert_eq!(bed.list(&what).len(), 2, "{what}");
        if !all {
            continue;
        }
        bed.assert_restores("latest", &newer, &what);
        bed.assert_restores(&old, &expected, &what);
        let kit = bed.live.join("kit.txt");
        assert_code(&bed.run(&["kit", "-o", kit.to_str().unwrap()]), 0);
        let proved = bed.run(&["kit", "verify", kit.to_str().unwrap()]);
        assert_eq!(proved.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&proved.stdout));
    }
}

#[test]
fn a_recipient_that_is_added_or_removed_is_there_or_not_wherever_it_is_killed() {
    let bed = Bed::with_snapshot();
    let recipient = recipient();
    let add = ["keys", "add", &recipient, "--yes"];
    killed(&bed, &add);
    bed.reset();
    assert_code(&bed.run(&add), 0);
    // Otherwise the next old configuration gets another name when it is kept in the same second, and the run has more points.
    for entry in std::fs::read_dir(bed.app()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("backstay.toml.before-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    killed(&bed, &["keys", "remove", &recipient, "--yes"]);
}

#[test]
fn an_identity_that_is_rotated_loses_nothing_wherever_it_is_killed() {
    killed(&Bed::with_snapshot(), &["keys", "rotate", "--yes"]);
}

#[test]
fn a_signing_key_that_is_rotated_goes_on_in_the_same_history_wherever_it_is_killed() {
    killed(&Bed::with_snapshot(), &["keys", "signer", "rotate", "--yes"]);
}

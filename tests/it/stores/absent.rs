//! What only a store had that is away, and what becomes of it when that store is back.

use super::*;

#[test]
fn a_snapshot_that_only_a_lost_store_had_is_said_to_be_absent_and_the_others_stay_whole() {
    let two = Two::new();
    two.backup(0);
    Two::unplug(&two.second());
    two.change("only in the first\n");
    let lost = id(&two.backup(4));
    Two::unplug(&two.first());
    Two::plug(&two.second());
    two.change("only in the second\n");
    let kept = id(&two.backup(4));
    let there = two.list("second");
    assert!(there.contains(&kept) && !there.contains(&lost), "{there:?}");
    Two::plug(&two.first());
    // It comes back: what it has alone is valid and used, and the rest is brought.
    two.backup(0);
    let all = two.person.json(0, ["list"]);
    assert_eq!(all["history"], Value::Array(Vec::new()), "{all:#}");
    assert_eq!(two.list("local").len(), 4);
    two.assert_second_has(&lost);
}

impl Two {
    /// The second store has what it lacked, although a mark of before calls that absent there, and shows a whole history by itself.
    #[track_caller]
    fn assert_second_has(&self, lost: &str) {
        assert_eq!(self.list("second"), self.list("local"), "each is good in both");
        for folders in [SIGNED, DATA] {
            assert_eq!(objects(&self.first(), &folders), objects(&self.second(), &folders));
        }
        assert_eq!(self.main_py(lost, "second").code(0).out, "only in the first\n");
        let alone = self.person.json(0, ["list", "--store", "second"]);
        assert_eq!(alone["history"], Value::Array(Vec::new()), "{alone:#}");
    }

    /// The first snapshot is in both stores, `lost` only in the first, and a third only in the second, where a mark calls `lost` absent.
    fn with_an_absent_snapshot() -> (Self, String) {
        let two = Self::new();
        two.backup(0);
        Self::unplug(&two.second());
        two.change("only in the first\n");
        let lost = id(&two.backup(4));
        Self::unplug(&two.first());
        Self::plug(&two.second());
        two.change("only in the second\n");
        two.backup(4);
        Self::plug(&two.first());
        (two, lost)
    }
}

#[test]
fn a_snapshot_that_was_said_to_be_absent_is_brought_by_sync_too_once_its_store_is_back() {
    let (two, lost) = Two::with_an_absent_snapshot();
    let report = two.person.json(0, ["sync"]);
    assert!(report["stores"][1]["objects"].as_u64().unwrap() > 0, "{report:#}");
    two.assert_second_has(&lost);
    assert_eq!(two.person.json(0, ["sync"])["stores"][1]["entries"], 0, "once is enough");
}

#[test]
fn a_snapshot_that_came_back_damaged_is_not_brought_and_is_called_absent_only_once() {
    let (two, lost) = Two::with_an_absent_snapshot();
    let there: Vec<PathBuf> = objects(&two.second(), &["archives"]);
    for archive in objects(&two.first(), &["archives"]).into_iter().filter(|a| !there.contains(a)) {
        damage(&two.first().join(archive));
    }
    let marks = || objects(&two.second(), &["marks"]).len();
    two.backup(0);
    assert!(!two.list("second").contains(&lost), "nothing is shown that is not whole");
    let before = marks();
    two.backup(0);
    let first = marks() - before;
    two.backup(0);
    assert_eq!(marks(), before + 2 * first, "the same marks in every run");
    let absent = |file: &PathBuf| {
        let text = fs::read_to_string(two.second().join(file)).unwrap();
        text.contains("\"absent\"")
    };
    assert_eq!(objects(&two.second(), &["marks"]).iter().filter(|f| absent(f)).count(), 1);
}

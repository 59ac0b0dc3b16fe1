use super::*;
use crate::store::Key;
use std::os::unix::fs::PermissionsExt as _;

fn state() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state")).unwrap();
    (dir, state)
}

fn head(number: u64, content: &str) -> Head {
    Head { number, hash: ObjectId::of(content.as_bytes()) }
}

const A: SignerId = SignerId([1; 16]);
const B: SignerId = SignerId([2; 16]);

#[test]
fn heads_only_rise_and_are_there_after_a_restart() {
    let (_dir, state) = state();
    assert!(state.heads().unwrap().is_empty());
    state.raise_heads(&[(A, head(7, "a7")), (B, head(1, "b1"))]).unwrap();
    state.raise_heads(&[(A, head(3, "a3")), (B, head(2, "b2")), (A, head(7, "a7"))]).unwrap();
    let heads = State::open(state.dir()).unwrap().heads().unwrap();
    assert_eq!(heads[&A], head(7, "a7"));
    assert_eq!(heads[&B], head(2, "b2"));
}

#[test]
fn a_head_of_the_same_number_and_another_hash_is_a_rewritten_history_and_nothing_is_remembered() {
    let (_dir, state) = state();
    state.raise_heads(&[(A, head(7, "a7"))]).unwrap();
    let error = state.raise_heads(&[(B, head(1, "b1")), (A, head(7, "forged"))]).unwrap_err();
    assert!(matches!(error, StateError::Rewritten { number: 7, .. }), "{error}");
    assert_eq!(state.heads().unwrap().len(), 1);
}

#[test]
fn two_processes_that_raise_heads_at_once_lose_nothing() {
    let (_dir, state) = state();
    std::thread::scope(|scope| {
        for signer in 0..4u8 {
            let state = &state;
            scope.spawn(move || {
                for number in 1..=10 {
                    state.raise_heads(&[(SignerId([signer; 16]), head(number, "x"))]).unwrap();
                }
            });
        }
    });
    let heads = state.heads().unwrap();
    assert_eq!(heads.values().map(|h| h.number).collect::<Vec<_>>(), [10; 4]);
}

#[test]
fn files_that_cannot_be_understood_are_errors_that_name_them_and_are_left_alone() {
    let (_dir, state) = state();
    let vault = VaultId::from_random([1; 17]);
    let record = Key::Mark(A, 1);
    let wrong: [&[u8]; 5] = [b"", b"{}", b"{\"format\":1,", b"{\"format\":2,\"heads\":{}}", b"\xff\n\xff"];
    for bytes in wrong {
        for name in ["heads.json", "pending", "vault.json"] {
            std::fs::write(state.dir().join(name), bytes).unwrap();
        }
        let errors = [
            state.heads().map(drop).unwrap_err(),
            state.raise_heads(&[(A, head(9, "x"))]).unwrap_err(),
            state.pending().map(drop).unwrap_err(),
            state.set_pending(&record, b"x").unwrap_err(),
            state.vault().map(drop).unwrap_err(),
            state.trust_store("local", &vault, &vault).map(drop).unwrap_err(),
            state.keep_stores(&[]).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains(state.dir().to_str().unwrap()), "{error}");
        }
        for name in ["heads.json", "pending", "vault.json"] {
            assert_eq!(std::fs::read(state.dir().join(name)).unwrap(), bytes);
        }
    }
}

#[test]
fn a_state_file_that_cannot_be_opened_is_not_an_absent_one() {
    let (_dir, state) = state();
    for name in ["heads.json", "pending", "vault.json"] {
        std::os::unix::fs::symlink("nowhere", state.dir().join(name)).unwrap();
    }
    state.heads().unwrap_err();
    state.pending().unwrap_err();
    state.vault().unwrap_err();
}

#[test]
fn a_signed_document_is_kept_until_it_is_cleared_and_no_other_takes_its_place() {
    let (_dir, state) = state();
    let (key, other) = (Key::Mark(A, 1), Key::Mark(A, 2));
    let document = b"{\"line\":1}\n-----BEGIN SSH SIGNATURE-----\n\xff\n";
    assert_eq!(state.pending().unwrap(), None);
    state.clear_pending().unwrap();
    state.set_pending(&key, document).unwrap();
    state.set_pending(&key, document).unwrap();
    for (key, bytes) in [(&other, &document[..]), (&key, b"other bytes")] {
        let error = state.set_pending(key, bytes).unwrap_err();
        assert!(matches!(error, StateError::PendingOther { .. }), "{error}");
    }
    let kept = Pending { key, bytes: document.to_vec() };
    assert_eq!(State::open(state.dir()).unwrap().pending().unwrap(), Some(kept));
    state.clear_pending().unwrap();
    assert_eq!(state.pending().unwrap(), None);
    state.set_pending(&other, b"").unwrap();
    assert_eq!(state.pending().unwrap().unwrap().bytes, b"");
}

#[test]
fn a_pending_document_that_was_cut_short_is_noticed() {
    let (_dir, state) = state();
    state.set_pending(&Key::Mark(A, 1), b"document").unwrap();
    let path = state.dir().join("pending");
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(state.pending(), Err(StateError::Corrupt { .. })), "{length}");
    }
}

#[test]
fn a_store_is_trusted_at_first_sight_and_must_stay_the_same() {
    let (_dir, state) = state();
    let id = |n| VaultId::from_random([n; 17]);
    let trust = |name, vault, instance| state.trust_store(name, &id(vault), &id(instance));
    assert_eq!(trust("local", 1, 10).unwrap(), Trust::First);
    assert_eq!(trust("local", 1, 10).unwrap(), Trust::Known);
    assert_eq!(trust("offsite", 1, 11).unwrap(), Trust::First);
    assert_eq!(state.vault().unwrap(), Some(id(1)));
    assert!(matches!(trust("local", 2, 10), Err(StateError::OtherVault { .. })));
    assert!(matches!(trust("third", 2, 12), Err(StateError::OtherVault { .. })));
    assert!(matches!(trust("local", 1, 12), Err(StateError::OtherInstance { .. })));
    assert!(matches!(trust("copy", 1, 10), Err(StateError::SameInstance { .. })));
    assert_eq!(trust("local", 1, 10).unwrap(), Trust::Known);
    state.keep_stores(&["offsite", "copy"]).unwrap();
    assert_eq!(trust("copy", 1, 10).unwrap(), Trust::First);
}

#[test]
fn everything_is_for_its_owner_alone() {
    let (_dir, state) = state();
    state.raise_heads(&[(A, head(1, "x"))]).unwrap();
    state.set_pending(&Key::Mark(A, 1), b"x").unwrap();
    state.trust_store("local", &VaultId::from_random([1; 17]), &VaultId::from_random([2; 17])).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(state.dir()).unwrap() {
        let meta = entry.unwrap().metadata().unwrap();
        let expected = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o777, expected);
        seen += 1;
    }
    assert_eq!(seen, 5, "heads.json, pending, vault.json, spool and the lock of the state files");
    assert_eq!(std::fs::metadata(state.dir()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_sweep_removes_leftovers_and_no_state() {
    let (_dir, state) = state();
    state.raise_heads(&[(A, head(1, "x"))]).unwrap();
    std::fs::write(state.spool_dir().join("half-an-archive"), b"123").unwrap();
    let left = format!(".backstay-{}.tmp", "0".repeat(32));
    std::fs::write(state.dir().join(&left), b"4567").unwrap();
    let soon = Timestamp::now() + Duration::from_secs(3600);
    assert_eq!(state.sweep(soon).unwrap(), Swept { removed: 2, bytes: 7, kept: 0 });
    assert_eq!(state.heads().unwrap().len(), 1);
    assert!(!state.dir().join(left).exists());
}

#[test]
fn a_document_is_kept_until_it_is_forgotten_and_no_other_takes_its_number() {
    let (_dir, state) = state();
    let key = Key::Mark(A, 7);
    assert!(state.kept_documents().unwrap().is_empty());
    state.keep_document(&A, 7, &key, b"seven").unwrap();
    state.keep_document(&A, 7, &key, b"seven").unwrap();
    state.keep_document(&A, 6, &Key::Mark(A, 6), b"six").unwrap();
    assert!(matches!(state.keep_document(&A, 7, &key, b"other"), Err(StateError::PendingOther { .. })));
    let kept = State::open(state.dir()).unwrap().kept_documents().unwrap();
    assert_eq!(kept.iter().map(|k| &k.bytes[..]).collect::<Vec<_>>(), [&b"six"[..], b"seven"]);
    state.forget_document(&A, 7).unwrap();
    state.forget_document(&A, 7).unwrap();
    assert_eq!(state.kept_documents().unwrap().len(), 1);
    let path = state.dir().join("outbox").join(format!("{A}.{:010}", 6));
    std::fs::write(path, b"{}\n").unwrap();
    assert!(matches!(state.kept_documents(), Err(StateError::Corrupt { .. })));
}

#[test]
fn what_was_seen_in_a_store_only_rises_and_outlives_its_place_in_the_configuration() {
    let (_dir, state) = state();
    let (one, two) = (VaultId::from_random([1; 17]), VaultId::from_random([2; 17]));
    state.trust_store("one", &VaultId::from_random([9; 17]), &one).unwrap();
    state.raise_heads_in(&one, &[(A, head(7, "a7")), (B, head(1, "b1"))]).unwrap();
    state.raise_heads_in(&one, &[(A, head(3, "a3")), (B, head(2, "b2"))]).unwrap();
    assert!(state.heads_in(&two).unwrap().is_empty());
    state.keep_stores(&["other"]).unwrap();
    assert_eq!(state.instance_of("one").unwrap(), None);
    let heads = State::open(state.dir()).unwrap().heads_in(&one).unwrap();
    assert_eq!((heads[&A], heads[&B]), (head(7, "a7"), head(2, "b2")));
}

#[test]
fn a_folder_that_cannot_be_written_still_says_what_was_seen() {
    let (_dir, state) = state();
    let (vault, instance) = (VaultId::from_random([1; 17]), VaultId::from_random([2; 17]));
    state.trust_store("local", &vault, &instance).unwrap();
    state.raise_heads(&[(A, head(7, "a7"))]).unwrap();
    state.raise_heads_in(&instance, &[(A, head(7, "a7"))]).unwrap();
    // Also root cannot open this for writing.
    let lock = state.dir().join(".state.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    // What is known already needs no writing.
    assert_eq!(state.trust_store("local", &vault, &instance).unwrap(), Trust::Known);
    state.keep_stores(&["local"]).unwrap();
    state.raise_heads(&[(A, head(7, "a7")), (A, head(3, "a3"))]).unwrap();
    state.raise_heads_in(&instance, &[(A, head(7, "a7"))]).unwrap();
    // What is not as it was is noticed.
    let other = VaultId::from_random([3; 17]);
    assert!(matches!(state.trust_store("local", &vault, &other), Err(StateError::OtherInstance { .. })));
    assert!(matches!(state.trust_store("local", &other, &instance), Err(StateError::OtherVault { .. })));
    assert!(matches!(state.raise_heads(&[(A, head(7, "forged"))]), Err(StateError::Rewritten { .. })));
    // What is new is not remembered, and that is said of the folder.
    let errors = [
        state.trust_store("second", &vault, &other).map(drop),
        state.keep_stores(&[]),
        state.raise_heads(&[(A, head(8, "a8"))]),
        state.raise_heads_in(&instance, &[(A, head(8, "a8"))]),
    ];
    for error in errors {
        assert!(matches!(error, Err(StateError::Unwritable { .. })), "{error:?}");
    }
    assert_eq!(state.heads().unwrap()[&A], head(7, "a7"));
    std::fs::write(state.dir().join("heads.json"), "{").unwrap();
    assert!(matches!(state.raise_heads(&[(A, head(7, "a7"))]), Err(StateError::Corrupt { .. })));
}

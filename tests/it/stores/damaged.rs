//! What is damaged in one store, and mended from another.

use super::*;

#[test]
fn what_is_damaged_or_missing_in_one_store_is_restored_from_another_until_sync_mends_it() {
    let two = Two::new();
    two.change("whole\n");
    two.backup(0);
    let hurt: [fn(&Path); 2] = [damage, |file| fs::remove_file(file).unwrap()];
    for (turn, hurt) in hurt.into_iter().enumerate() {
        for object in objects(&two.first(), &DATA) {
            hurt(&two.first().join(object));
        }
        let said =
            two.restore(4, "whole\n").says(&["store local", "read from store second", "backstay sync"]);
        assert!(!said.err.contains("DAMAGED"), "{said}");
        let cat = two.person.run(["cat", "latest", "backend/app/main.py"]).code(4);
        assert_eq!(cat.out, "whole\n");
        // Exactly the one that was named: then it is damage.
        two.person.run(["cat", "latest", "backend/app/main.py", "--store", "local"]).code(13);
        assert_eq!(two.main_py("latest", "second").code(0).out, "whole\n");
        let args: &[&str] = if turn == 0 { &["sync", "--read-data"] } else { &["sync"] };
        let report = two.person.json(0, args);
        let mended = report["stores"][0]["mended"].as_array().unwrap().len();
        assert_eq!(mended, objects(&two.second(), &DATA).len(), "{report:#}");
        assert_eq!(two.restore(0, "whole\n").err.matches("second").count(), 0);
        assert_eq!(two.list("local"), two.list("second"));
    }
    assert_eq!(two.person.json(0, ["sync"])["stores"][0]["objects"], 0, "what is there is not sent again");
}

#[test]
fn what_no_store_has_whole_is_said_by_sync_and_replaced_by_nothing() {
    let two = Two::new();
    two.backup(0);
    let archive = objects(&two.first(), &["archives"]).remove(0);
    for store in [two.first(), two.second()] {
        damage(&store.join(&archive));
    }
    let before = fs::read(two.first().join(&archive)).unwrap();
    let report = two.person.json(13, ["sync", "--read-data"]);
    assert_eq!(report["stores"][0]["lost"][0], archive.to_str().unwrap(), "{report:#}");
    assert_eq!(fs::read(two.first().join(&archive)).unwrap(), before);
}

/// Each snapshot needs what the ones before it brought.
#[test]
fn what_is_damaged_is_said_once_of_each_snapshot_however_many_objects_and_runs_there_are() {
    let two = Two::new();
    let snapshots = 12;
    for n in 0..snapshots {
        fs::write(two.person.app.join(format!("backend/app/{n}")), noise(n, 200_000)).unwrap();
        two.backup(0);
    }
    let archives = objects(&two.first(), &["archives"]);
    assert!(archives.len() >= 12, "{archives:?}");
    let kept = two.person.top.join("kept");
    for archive in &archives {
        fs::create_dir_all(kept.join(archive).parent().unwrap()).unwrap();
        fs::rename(two.first().join(archive), kept.join(archive)).unwrap();
        fs::remove_file(two.second().join(archive)).unwrap();
    }
    let marks = || objects(&two.second(), &["marks"]).len() as u64;
    let before = marks();
    let report = two.person.json(13, ["sync", "--to", "local"]);
    assert_eq!(report["stores"][0]["lost"].as_array().unwrap().len(), archives.len(), "{report:#}");
    let said = marks() - before;
    assert!((1..=snapshots).contains(&said), "{said} marks");
    two.person.json(13, ["sync", "--to", "local"]);
    assert_eq!(marks() - before, said, "what is known is said once");
    // One comes back by hand, the rest from the other store: proved again with one mark each, and no more after that.
    for archive in &archives[1..] {
        fs::copy(kept.join(archive), two.second().join(archive)).unwrap();
    }
    fs::copy(kept.join(&archives[0]), two.first().join(&archives[0])).unwrap();
    let report = two.person.json(0, ["sync", "--to", "local"]);
    assert_eq!(report["stores"][0]["mended"].as_array().unwrap().len(), archives.len() - 1, "{report:#}");
    assert!(marks() - before <= 2 * snapshots, "{} marks", marks() - before);
    assert_eq!(two.list("local").len() as u64, snapshots);
    let all = marks();
    two.person.json(0, ["sync", "--to", "local"]);
    assert_eq!(marks(), all);
}

//! What is told beside the failures of what a schedule runs.

use super::{Sent, Server, configure};
use crate::lab::{Lab, put};
use serde_json::Value;
use std::fs;

fn told(sent: &[Sent]) -> Vec<(String, String)> {
    let one = |sent: &Sent| {
        let message: Value = serde_json::from_str(&sent.body).unwrap();
        let text = |key: &str| message[key].as_str().unwrap().to_owned();
        (text("event"), text("title"))
    };
    sent.iter().map(one).collect()
}

fn lab(server: &Server) -> Lab {
    let files = |dir: &std::path::Path| {
        (0..10).for_each(|n| put(&dir.join(format!("app/{n}")), &[b'x'; 1000]));
    };
    let lab = Lab::new(files, "component = [{ name = \"app\", path = \"app\" }]");
    configure(&lab, &format!("notify = {{ failure = [{{ webhook = {:?} }}] }}", server.url("hook")));
    lab
}

#[test]
fn a_backup_tells_of_a_component_that_shrank_and_of_the_end_of_it() {
    let server = Server::start();
    let lab = lab(&server);
    lab.run(&["backup"]).expect(0, &[]);
    (2..10).for_each(|n| fs::remove_file(lab.path(&format!("project/app/{n}"))).unwrap());
    let words = [
        "app: it shrank by more than half in snapshot",
        "from 10000 to 2000 bytes",
        "`backstay prune --accept ",
    ];
    lab.run(&["backup"]).expect(0, &words);
    let event = |event: &str, title: &str| vec![(event.to_owned(), format!("backstay: project: {title}"))];
    assert_eq!(
        told(&server.take()),
        event("shrink", "app shrank by more than half: nothing of it is deleted")
    );
    let second = lab.run(&["backup"]);
    assert!(second.code == 0 && !second.text().contains("shrank"), "{}", second.text());
    assert!(server.take().is_empty(), "told once");
    // The third good one of the new size: retention is free again.
    lab.run(&["backup"]).expect(0, &[]);
    assert_eq!(told(&server.take()), event("recovery", "size of app: well again"));
    // The other way out: a person who looked.
    fs::remove_file(lab.path("project/app/0")).unwrap();
    fs::write(lab.path("project/app/1"), "little").unwrap();
    lab.run(&["backup"]).expect(0, &[]);
    assert_eq!(told(&server.take()).len(), 1);
    let newest = lab.run(&["--json", "list"]);
    let report: Value = serde_json::from_slice(&newest.out).unwrap();
    let id = report["snapshots"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    lab.run(&["prune", "--accept", &id]).expect(0, &[]);
    server.take();
    lab.run(&["backup"]).expect(0, &[]);
    assert_eq!(told(&server.take()), event("recovery", "size of app: well again"));
}

#[test]
fn a_guarded_command_that_was_taken_back_is_told_and_a_mistyped_rollback_is_not() {
    let server = Server::start();
    let lab = lab(&server);
    lab.run(&["backup"]).expect(0, &[]);
    lab.run(&["guard", "--auto", "--", "false"]).expect(17, &[]);
    let failed = (
        "failure".to_owned(),
        "backstay: project: guard did not go well, and was taken back (exit code 17)".to_owned(),
    );
    assert_eq!(told(&server.take()), [failed]);
    lab.run(&["rollback", "nonsense", "--yes"]).expect(2, &[]);
    lab.run(&["rollback", "20200101T000000Z-aaaaaaaa", "--yes"]).expect(16, &[]);
    lab.run(&["rollback"]).expect(2, &[]);
    lab.run(&["guard", "--dry-run", "--", "false"]).expect(0, &[]);
    assert!(server.take().is_empty());
    lab.run(&["guard", "--", "true"]).expect(0, &[]);
    assert_eq!(
        told(&server.take()),
        [("recovery".to_owned(), "backstay: project: guard: well again".to_owned())]
    );
}

#[test]
fn three_days_without_a_store_are_local_snapshots_two_messages_and_the_same_history_everywhere_after() {
    let server = Server::start();
    let lab = lab(&server);
    let second = lab.path("second");
    let config = format!(
        "{}\n[[store]]\nname = \"second\"\npath = {:?}\n",
        lab.config_text(),
        second.display().to_string()
    );
    fs::write(lab.path("project/backstay.toml"), config).unwrap();
    configure(&lab, "schedule = { backup = \"0 */4 * * *\", timezone = \"UTC\" }");
    lab.run(&["init"]).expect(0, &[]);
    let once = |hours: i64| {
        let now = "2026-11-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap()
            + jiff::SignedDuration::from_hours(hours);
        let ran = lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", &now.to_string())]);
        assert!(matches!(ran.code, 0 | 4), "{}", ran.text());
        ran.code
    };
    let ids = |store: &str| {
        let ran = lab.run(&["--json", "list", "--store", store]);
        ran.expect(0, &[]);
        let report: Value = serde_json::from_slice(&ran.out).unwrap();
        assert_eq!(report["history"], serde_json::json!([]));
        let rows = report["snapshots"].as_array().unwrap().iter();
        rows.map(|row| (row["number"].as_u64().unwrap(), row["id"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!((once(0), once(4)), (0, 0));
    assert!(server.take().is_empty());
    fs::rename(&second, lab.path("away")).unwrap();
    for turn in 2..20 {
        put(&lab.path("project/app/0"), format!("turn {turn}").as_bytes());
        assert_eq!(once(turn * 4), 4);
    }
    let local = ids("local");
    assert_eq!(local.len(), 19, "one at each time");
    fs::rename(lab.path("away"), &second).unwrap();
    assert_eq!(ids("second").len(), 1);
    // Between two times of the schedule: `sync` alone brings what is missing.
    assert_eq!(once(79), 0);
    assert_eq!(ids("second"), local);
    assert!(local.windows(2).all(|pair| pair[0].0 < pair[1].0), "{local:?}");
    let words: Vec<String> =
        told(&server.take()).into_iter().map(|(event, title)| format!("{event}: {title}")).collect();
    let expected = [
        "failure: backstay: project: not every store has the newest snapshot",
        "recovery: backstay: project: stores: well again",
    ];
    assert_eq!(words, expected);
    assert_eq!(once(80), 0);
    assert!(server.take().is_empty() && ids("second").len() == 20);
}

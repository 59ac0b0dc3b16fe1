//! What is shown of how far a rollback is.

use super::hosts::on_a_terminal;
use super::{err, upgraded};
use crate::common::project::{expect_code, have};
use serde_json::json;

#[test]
fn what_is_fetched_is_told_by_its_name_and_size() {
    let (app, id) = upgraded();
    let output = app.project.ok(["rollback", &id, "--progress", "plain"]);
    assert!(err(&output).contains("fetching: 0 B of "), "{}", err(&output));
    let bytes = app.project.json(["rollback", &id, "--dry-run"])["bytes"].clone();
    let output = app.project.ok(["rollback", &id, "--progress", "json"]);
    let first = err(&output).lines().find(|line| line.contains("\"fetching\"")).unwrap().to_owned();
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first, json!({ "progress": "fetching", "bytes": 0, "total_bytes": bytes }));
}

#[test]
fn no_bar_of_a_phase_that_is_over_stays_while_services_stop_and_start() {
    if !have(&["script"]) {
        return;
    }
    let (app, id) = upgraded();
    for args in [&["rollback", id.as_str(), "--yes"][..], &["rollback", "--undo", "--yes"]] {
        let shown = String::from_utf8(expect_code(on_a_terminal(&app, "", args), 0).stdout).unwrap();
        let (before, after) =
            shown.split_once("stopping web").or_else(|| shown.split_once("taking the")).unwrap();
        assert!(before.contains("packing") || before.contains("reading back"), "{shown}");
        assert_eq!(before.contains("fetching"), args.contains(&id.as_str()), "{shown}");
        for phase in ["packing", "fetching", "reading back", "listing files"] {
            assert!(!after.contains(phase), "{phase}: {shown}");
        }
    }
}

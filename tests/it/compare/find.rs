use super::json;
use crate::lab::{Lab, put};
use backstay::model::ObjectKind;
use backstay::store::Key;
use serde_json::Value;
use std::fs;
use std::path::Path;

const TWO: &str =
    "[[component]]\nname = \"app\"\npath = \"app\"\n[[component]]\nname = \"web\"\npath = \"web\"\n";

fn files(project: &Path) {
    for n in 0..10 {
        put(&project.join(format!("app/d/f{n}.py")), format!("{n}").as_bytes());
    }
    put(&project.join("app/main.py"), b"one");
    put(&project.join("web/main.py"), b"web");
    put(&project.join("web/.env"), b"KEY=1");
}

fn found<'r>(report: &'r Value, path: &str) -> &'r Value {
    report["paths"].as_array().unwrap().iter().find(|p| p["path"] == path).unwrap()
}

fn snapshots(version: &Value) -> Vec<&str> {
    version["snapshots"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect()
}

fn paths(report: &Value) -> Vec<&str> {
    report["paths"].as_array().unwrap().iter().map(|p| p["path"].as_str().unwrap()).collect()
}

#[test]
fn each_version_comes_once_newest_first_with_all_its_snapshots() {
    let lab = Lab::new(files, TWO);
    let main = lab.path("project/app/main.py");
    let mut ids = Vec::new();
    for content in ["one", "two is longer", "one", "three"] {
        put(&main, content.as_bytes());
        ids.push(lab.backup());
    }
    fs::remove_file(&main).unwrap();
    ids.push(lab.backup());
    let report = json(&lab, &["find", "app/main.py"], 0);
    let versions = found(&report, "app/main.py")["versions"].as_array().unwrap();
    let held: Vec<Vec<&str>> = versions.iter().map(snapshots).collect();
    assert_eq!(held, [vec![&*ids[3]], vec![&*ids[2], &*ids[0]], vec![&*ids[1]]], "{report:#}");
    let sizes: Vec<u64> = versions.iter().map(|v| v["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [5, 3, 13]);
    assert_eq!(found(&report, "app/main.py")["gone"], true);
    let text = lab.run(&["find", "app/main.py"]);
    text.expect(0, &["app/main.py  (not in the newest snapshot)", &ids[3], "and 1 older, back to"]);
    text.expect(0, &["backstay restore ID COMPONENT/PATH --in-place"]);
}

#[test]
fn patterns_go_over_all_components_and_paths_of_this_machine_are_understood() {
    let lab = Lab::new(files, TWO);
    lab.backup();
    let of = |args: &[&str]| {
        let report = json(&lab, &[&["find"], args].concat(), 0);
        paths(&report).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(&["main.py"]), ["app/main.py", "web/main.py"]);
    assert_eq!(of(&["main.py", "--only", "web"]), ["web/main.py"]);
    assert_eq!(of(&["*.env"]), ["web/.env"]);
    assert_eq!(of(&["app/*/f3.py"]), ["app/d/f3.py"]);
    assert_eq!(of(&["app/**/*.py"]).len(), 11);
    assert_eq!(of(&["d/"]), ["app/d"]);
    assert_eq!(of(&["./web/.env"]), ["web/.env"]);
    let absolute = lab.path("project/app/main.py");
    assert_eq!(of(&[absolute.to_str().unwrap()]), ["app/main.py"]);
    lab.run(&["find", "no-such-thing"]).expect(16, &["nothing in 1 snapshots matches"]);
    lab.run(&["find", "!x"]).expect(2, &["cannot be looked for"]);
    lab.run(&["find", "/etc/passwd"]).expect(16, &["lies in no component"]);
}

#[test]
fn a_listing_that_many_snapshots_share_is_read_once() {
    let lab = Lab::new(files, TWO);
    for n in 0..6 {
        put(&lab.path("project/web/main.py"), format!("{n}").as_bytes());
        lab.backup_settled(&[]);
    }
    let report = json(&lab, &["find", "main.py"], 0);
    assert_eq!(report["snapshots"], 6);
    assert_eq!(report["listings"], 1 + 6, "one of app, and one of web for each snapshot");
    assert_eq!(snapshots(&found(&report, "app/main.py")["versions"][0]).len(), 6);
    assert_eq!(found(&report, "web/main.py")["versions"].as_array().unwrap().len(), 6);
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_are_searched() {
    let lab = Lab::new(files, TWO);
    let first = lab.backup();
    let second = lab.backup();
    let record = lab.record(&first);
    assert!(record.objects.iter().any(|o| o.kind == ObjectKind::Manifest));
    fs::remove_file(lab.object(&Key::Manifest(record.index.unwrap()))).unwrap();
    let report = json(&lab, &["find", "app/main.py"], 13);
    assert_eq!(snapshots(&found(&report, "app/main.py")["versions"][0]), [second]);
    assert!(report["problems"][0]["subject"].as_str().unwrap().contains(&first), "{report:#}");
}

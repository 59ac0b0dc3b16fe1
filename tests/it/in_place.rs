//! What a restore in place of several components must not mix up.

use crate::lab::{Lab, noise, put};
use backstay::store::Key;
use std::fs;
use std::path::Path;

#[test]
fn in_place_what_is_damaged_in_one_component_is_not_left_out_of_another() {
    let files = |project: &Path| {
        put(&project.join("backend/config.yml"), &noise(1, 300_000));
        put(&project.join("frontend/config.yml"), &noise(2, 3_000));
    };
    let lab = Lab::new(
        files,
        r#"component = [{ name = "backend", path = "backend" }, { name = "frontend", path = "frontend" }]"#,
    );
    let id = lab.backup();
    let archives = lab.keys().into_iter().filter(|k| matches!(k, Key::Archive(_)));
    let large =
        archives.map(|key| lab.object(&key)).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&large).unwrap();
    bytes[150_000] ^= 1;
    fs::write(&large, bytes).unwrap();
    for part in ["backend", "frontend"] {
        put(&lab.path("project").join(part).join("config.yml"), b"newer");
    }
    let ran = lab.run(&["restore", &id, "backend", "frontend", "--in-place", "--yes"]);
    ran.expect(13, &["backend/config.yml"]);
    let live = |part: &str| fs::read(lab.path("project").join(part).join("config.yml")).unwrap();
    assert_eq!(live("backend"), b"newer");
    assert!(live("frontend") == noise(2, 3_000), "the other one is the snapshot's");
}

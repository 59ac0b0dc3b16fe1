//! The disk of the state directory fills while services are down: they run again all the same.

use super::around::{next_version, with_rebuild};
use super::{App, SERVICE};
use crate::common::mounts::{given_folder, in_own_mounts, mount};
use crate::common::project::{end_service, expect_code};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn state(app: &App) -> PathBuf {
    app.project.config()["state"]["dir"].as_str().unwrap().into()
}

/// Puts the state of `app` on a small disk. Gives what fills it when it is written without end.
fn on_small_disk(app: &App) -> PathBuf {
    let state = state(app);
    let away = state.with_extension("away");
    fs::rename(&state, &away).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs"], &state);
    expect_code(Command::new("cp").arg("-a").arg(away.join(".")).arg(&state).output().unwrap(), 0);
    state.join("ballast")
}

/// Nothing is open, and no room is kept any more.
#[track_caller]
fn closed(app: &App) {
    let names = fs::read_dir(state(app)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let open: Vec<String> = names.filter(|name| name.starts_with("rollback.")).collect();
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn a_rebuild_that_fills_the_disk_of_the_state_is_undone_and_the_service_runs() {
    in_own_mounts("rollback::full_disk::full_by_rebuild");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn full_by_rebuild() {
    if given_folder().is_none() {
        return;
    }
    // On the old lock file it has nothing to do.
    for (fails, code, version) in [("exit 3", 17, "2"), ("true", 0, "1")] {
        let app = with_rebuild(&format!(
            "if [ $(cat lock) = 1 ]; then dd if=/dev/zero of='BALLAST' bs=4096 2>/dev/null; {fails}; fi; cp lock node_modules/lock"
        ));
        let ballast = on_small_disk(&app);
        let text = fs::read_to_string(app.project.config_path()).unwrap();
        fs::write(app.project.config_path(), text.replace("BALLAST", ballast.to_str().unwrap())).unwrap();
        let id = app.project.backup();
        next_version(&app, "2");
        app.start_service();
        let before = app.live();
        let output = expect_code(app.project.run(["rollback", &id]), code);
        assert!(
            told(&output).contains("is full; the journal of the rollback is written into room"),
            "{output:?}"
        );
        // Its room for others was given up; what the rebuild wrote is still there.
        assert!(ballast.metadata().unwrap().len() > 8 << 20, "it was not filled");
        assert!(app.runs(), "{}", told(&output));
        assert_eq!(app.read("app/version"), version);
        if code == 17 {
            assert_eq!(app.live(), before);
        }
        app.project.ok(["ready"]);
        closed(&app);
        fs::remove_file(&ballast).unwrap();
        app.project.ok(["backup"]);
        if code == 0 {
            app.project.ok(["rollback", "--undo", "--yes"]);
            assert_eq!(app.read("app/version"), "2");
            closed(&app);
        }
    }
}

/// Fills a disk and goes on to, once it is asked to stop, which it does not.
const FILLER: &str = r#"
[[service]]
name = "filler"
stop_within = "1s"
start_within = "20s"
pid_file = "filler.pid"
stop = 'touch filling; until [ -e full ]; do sleep 0.05; done'
start = 'exit 1'
"#;

#[test]
fn a_disk_that_a_service_fills_while_it_is_to_stop_keeps_no_other_from_running_again() {
    in_own_mounts("rollback::full_disk::full_by_service");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn full_by_service() {
    if given_folder().is_none() {
        return;
    }
    // It is started before the other one, and so is stopped after it.
    let web = SERVICE.replace("name = \"web\"", "name = \"web\"\nafter = [\"filler\"]");
    let app = App::new(&format!("{FILLER}{web}"));
    let ballast = on_small_disk(&app);
    let id = app.project.backup();
    app.upgrade("2");
    let first = app.start_service();
    let eats =
        format!("dd if=/dev/zero bs=4096 2>/dev/null >> '{}'; touch full; sleep 0.01", ballast.display());
    let fills = format!("until [ -e filling ]; do sleep 0.05; done; while :; do {eats}; done");
    let mut filler = Command::new("sh");
    filler.args(["-c", &fills]).current_dir(&app.project.dir);
    let mut filler = filler.spawn().unwrap();
    app.write("filler.pid", &filler.id().to_string());
    let before = app.live();
    let output = app.project.run(["rollback", &id]);
    end_service(&app.path("filler.pid"), &app.project.dir);
    filler.wait().unwrap();
    let output = expect_code(output, 17);
    assert!(told(&output).contains("written into room"), "{}", told(&output));
    let mut live = app.live();
    for made in ["filling", "full"] {
        live.remove(std::path::Path::new(made));
    }
    assert_eq!(live, before);
    assert!(app.runs() && app.service() != first, "{}", told(&output));
    app.project.ok(["ready"]);
    closed(&app);
}

#[test]
fn a_rollback_without_room_for_its_journal_stops_nothing() {
    in_own_mounts("rollback::full_disk::no_room_for_the_journal");
}

#[test]
#[ignore = "runs only as a child of the test above"]
fn no_room_for_the_journal() {
    if given_folder().is_none() {
        return;
    }
    let app = App::new(SERVICE);
    let ballast = on_small_disk(&app);
    let id = app.project.backup();
    app.upgrade("2");
    let (pid, before) = (app.start_service(), app.live());
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let full = file.metadata().unwrap().len();
    // Less than the plan knows that it takes; and enough for that, but not for all turns of the journal.
    for (free, hint) in
        [(700 << 10, "make room, or roll back fewer"), (1120 << 10, "nothing was stopped or changed")]
    {
        file.set_len(full - free).unwrap();
        let output = expect_code(app.project.run(["rollback", &id]), 1);
        for words in ["not enough room in", hint] {
            assert!(told(&output).contains(words), "{words}: {}", told(&output));
        }
    }
    drop(file);
    assert_eq!((app.live(), app.service()), (before, pid));
    assert!(app.runs());
    app.project.ok(["ready"]);
    closed(&app);
    fs::remove_file(&ballast).unwrap();
    app.project.ok(["rollback", &id]);
    app.project.ok(["rollback", "--undo", "--yes"]);
    assert!(app.runs());
    closed(&app);
}

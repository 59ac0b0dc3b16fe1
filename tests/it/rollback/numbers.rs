//! Numbers in pid files: given again to another process, and in no snapshot.

use super::{App, SERVICE};
use crate::common::mounts::{given_folder, in_own_mounts, run};
use crate::common::project::{cannot_run, expect_code};
use serde_json::json;
use std::fs;
use std::process::{Child, Command, Output};
use std::time::{Duration, SystemTime};

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An application in its second version.
fn upgraded() -> (App, String) {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    (app, id)
}

/// A process that has nothing to do with the application.
struct Stranger(Child);

impl Stranger {
    /// Begins it, and puts its number into a pid file that is two hours old.
    fn begin(app: &App, program: &str, args: &[&str]) -> Self {
        Self::begin_by(app, program, args, SystemTime::now() - Duration::from_secs(7200))
    }

    /// The same with a pid file that was `written` then.
    fn begin_by(app: &App, program: &str, args: &[&str], written: SystemTime) -> Self {
        let stranger = Self(Command::new(program).args(args).spawn().unwrap());
        app.write("web.pid", &format!("{}\n", stranger.0.id()));
        let file = fs::File::options().write(true).open(app.path("web.pid")).unwrap();
        file.set_modified(written).unwrap();
        stranger
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_process_that_has_the_number_in_an_old_pid_file_by_chance_is_left_alone() {
    let (app, id) = upgraded();
    let mut stranger = Stranger::begin(&app, "tail", &["-f", "/dev/null"]);
    let why = format!("process {} has the number in ", stranger.0.id());
    let plan = app.project.ok(["rollback", &id, "--dry-run"]);
    let said = String::from_utf8_lossy(&plan.stdout);
    assert!(said.contains("down now, and left so: web") && said.contains(&why), "{said}");
    let output = app.project.ok(["rollback", &id, "--only", "settings", "--yes"]);
    assert!(told(&output).contains(&why), "{}", told(&output));
    assert!(stranger.lives());
    app.project.ok(["rollback", &id, "--start"]);
    assert!(stranger.lives() && app.runs() && app.service() != stranger.0.id());
}

#[test]
fn a_service_that_answers_is_not_taken_for_down_because_its_pid_file_looks_too_old() {
    let (app, id) = upgraded();
    // The health check takes any `sleep` for the service: as it would be, had the clock been set forward since.
    let mut service = Stranger::begin(&app, "sleep", &["1000"]);
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains("seems to be down") && told(&output).contains("its health check passes"));
    assert!(service.lives());
    assert_eq!(app.live(), before);
    app.project.ok(["ready"]);
}

#[test]
fn a_service_that_answers_is_not_taken_for_down_because_its_pid_file_looks_older_than_the_machine() {
    let (app, id) = upgraded();
    // As on a machine without a clock of its own, which was set right after the service was started.
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(86400);
    let mut service = Stranger::begin_by(&app, "sleep", &["1000"], then);
    let why = "is another: that is from before this machine was started";
    let plan = app.project.ok(["rollback", &id, "--dry-run"]);
    let said = String::from_utf8_lossy(&plan.stdout);
    assert!(said.contains("down now, and left so: web") && said.contains(why), "{said}");
    let before = app.live();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(told(&output).contains(why) && told(&output).contains("its health check passes"), "{output:?}");
    assert!(service.lives());
    assert_eq!(app.live(), before);
    app.project.ok(["ready"]);
}

#[test]
fn a_service_that_runs_is_seen_in_a_container_that_is_told_of_a_start_of_its_own() {
    in_own_mounts("rollback::numbers::in_a_container_with_its_own_start");
}

/// What `/proc/stat` says of the start is the container's, and what it says of processes counts from that of the machine.
#[test]
#[ignore = "its parent runs it in mounts of its own"]
fn in_a_container_with_its_own_start() {
    let Some(folder) = given_folder() else { return };
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().find(|line| line.starts_with("btime ")).unwrap();
    let start: u64 = line["btime ".len()..].parse().unwrap();
    let told = folder.join("stat");
    fs::write(&told, stat.replace(line, &format!("btime {}", start + 7200))).unwrap();
    if !run("mount", &["--bind", told.to_str().unwrap(), "/proc/stat"]) {
        return cannot_run("in_a_container_with_its_own_start: nothing can be mounted over /proc/stat");
    }
    let (app, id) = upgraded();
    let before = app.start_service();
    let plan = app.project.json(["rollback", &id, "--dry-run"]);
    assert_eq!((&plan["services"], &plan["down"]), (&json!(["web"]), &json!([])));
    app.project.ok(["rollback", &id]);
    assert!(app.runs() && app.service() != before);
}

#[test]
fn the_pid_file_of_a_service_is_in_no_snapshot_and_stays_in_a_rollback() {
    let app = App::new(&SERVICE.replace("web.pid", "app/web.pid"));
    // Numbers that no process has.
    app.write("app/web.pid", "4194305\n");
    app.write("app/other.pid", "1\n");
    let id = app.project.backup();
    let restored = app.project.restore(&id, &[]);
    assert!(!restored.join("app/web.pid").exists() && restored.join("app/other.pid").exists());
    app.write("app/web.pid", "4194306\n");
    app.write("app/other.pid", "2\n");
    app.project.ok(["rollback", &id]);
    assert_eq!((app.read("app/web.pid").as_str(), app.read("app/other.pid").as_str()), ("4194306\n", "1\n"));
    // Whoever wants it in takes it back, as everything that is left out.
    let mut config = app.project.config();
    config["component"][0]["exclude"] = toml::Value::from(vec!["node_modules/", "!/web.pid"]);
    fs::write(app.project.config_path(), toml::to_string(&config).unwrap()).unwrap();
    let id = app.project.backup();
    assert!(app.project.restore(&id, &[]).join("app/web.pid").exists());
}

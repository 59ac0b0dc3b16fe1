//! Services stopped for a capture: only for it, and up again whatever happens.

use crate::common::docker::{Docker, OBEYS, orders, path_with};
use crate::common::person::everything_below;
use crate::common::project::{
    Project, exe, expect_code, program, slow_to_end, told_by_status_and_doctor, until,
};
use crate::rollback::untold::{running, two_services, two_services_turned};
use backstay::model::{ObjectKind, Record, document};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const COMPONENTS: &str = r#"
[[component]]
name = "app"
path = "app"
with_services_stopped = true
[[component]]
name = "orders"
command = "echo orders >> order; cat app/file"
with_services_stopped = true
[[component]]
name = "other"
path = "other"
"#;

/// Writes down what it does; it is down while there is no `up`.
const SERVICE: &str = r#"
[[service]]
name = "web"
pid_file = "web.pid"
stop = 'echo stop >> order; kill "$(cat web.pid)"'
start = 'echo start >> order; sleep 1000 & echo $! > web.pid'
[service.health]
command = 'grep -q "(sleep) S" "/proc/$(cat web.pid)/stat"'
within = "3s"
passes = 1
[[hook]]
on = "backup"
after = "echo after >> order"
"#;

struct App(Project);

impl App {
    fn new() -> Self {
        Self::with(SERVICE)
    }

    fn with(service: &str) -> Self {
        let app = Self(Project::new(COMPONENTS, service));
        for path in ["app/file", "app/more/file", "other/file"] {
            crate::lab::put(&app.0.dir.join(path), path.as_bytes());
        }
        let db = Connection::open(app.0.dir.join("app/app.db")).unwrap();
        db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let start = "sleep 1000 >/dev/null 2>&1 & echo $! > web.pid";
        expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.0.dir).output().unwrap(), 0);
        app
    }

    fn order(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.dir.join("order")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.0.dir.join("web.pid")).unwrap().trim().to_owned()
    }

    fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.contains("(sleep)") && !stat.contains(") Z")
    }

    fn state(&self) -> PathBuf {
        self.0.config()["state"]["dir"].as_str().unwrap().into()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program(exe(), &self.0.home);
        command.current_dir(&self.0.dir).args(args);
        command
    }
}

impl Drop for App {
    fn drop(&mut self) {
        crate::common::project::end_service(&self.0.dir.join("web.pid"), &self.0.dir);
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn nothing_is_captured_under_a_service_that_answers_though_its_pid_file_looks_too_old() {
    let app = App::new();
    let written = |time| {
        let file = fs::File::options().write(true).open(app.0.dir.join("web.pid")).unwrap();
        file.set_modified(time).unwrap();
    };
    let now = std::time::SystemTime::now();
    written(now - Duration::from_secs(7200));
    let output = expect_code(app.command(&["backup"]).output().unwrap(), 15);
    assert!(told(&output).contains("its health check passes"), "{}", told(&output));
    assert_eq!(app.0.json(["list"])["snapshots"].as_array().unwrap().len(), 0);
    assert!(app.runs() && app.order().is_empty(), "{:?}", app.order());
    written(now);
    app.0.backup();
    assert!(app.runs());
}

#[test]
fn services_are_stopped_for_the_capture_only_and_run_while_it_is_packed() {
    let app = App::new();
    let log = app.0.top.join("points");
    let before = app.pid();
    let output = app.command(&["backup"]).env("BACKSTAY_TEST_CRASH_COUNT_FILE", &log).output().unwrap();
    expect_code(output, 0);
    assert_eq!(app.order(), ["stop", "orders", "start", "after"]);
    assert!(app.runs() && app.pid() != before);
    // Nothing was put before the service was up again, and everything after.
    let points = fs::read_to_string(&log).unwrap();
    let at = |name: &str| points.find(name).unwrap_or_else(|| panic!("{name}: {points}"));
    let first_put = points.find("backup: captured").unwrap();
    assert!(at("stopped: captured") < at("stopped: a service started"));
    assert!(at("stopped: a service started") < first_put);
    assert!(
        !points[at("stopped: written down")..at("stopped: a service started")].contains("put"),
        "{points}"
    );
    let id = app.0.json(["list"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let restored = app.0.restore(&id, &[]);
    assert_eq!(fs::read_to_string(restored.join("app/more/file")).unwrap(), "app/more/file");
    assert_eq!(fs::read_to_string(restored.join("orders/output")).unwrap(), "app/file");
    let db = Connection::open(restored.join("app/app.db")).unwrap();
    assert_eq!(db.query_row("SELECT count(*) FROM t", (), |r| r.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn for_a_capture_who_depends_on_another_is_stopped_before_it_and_started_after_it() {
    for services in [two_services(""), two_services_turned()] {
        let app = App::with(&services);
        app.0.backup();
        assert_eq!(app.order(), ["web stop", "worker stop", "orders", "worker start", "web start"]);
    }
}

#[test]
fn a_compose_service_is_stopped_for_a_capture_and_started_again() {
    let service = "[[service]]\nname = \"web\"\nstop_within = \"1s\"\ncompose = { file = \"compose.yml\", services = [\"web\"] }\n";
    let backup = |docker: &Docker| {
        let app = App::with(service);
        fs::write(app.0.dir.join("compose.yml"), "").unwrap();
        let bin = docker.install(&app.0.top, &app.0.dir);
        let output = app.command(&["backup"]).env("PATH", path_with(&bin)).output().unwrap();
        (app, output)
    };
    for plugin in [0, 1] {
        // It writes until it is down: what was captured is what it wrote last.
        let (app, output) = backup(&Docker { plugin, stop: "echo last > app/file; rm -f up", ..OBEYS });
        expect_code(output, 0);
        assert_eq!(orders(&app.0.dir), ["stop web", "up -d --no-build web"]);
        assert!(app.0.dir.join("up").exists());
        let id = app.0.json(["list"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(fs::read_to_string(app.0.restore(&id, &[]).join("app/file")).unwrap(), "last\n");
    }
    for (docker, words) in [
        (Docker { stop: ":", ..OBEYS }, "still runs (0c1 start-1)"),
        (Docker { inspect: "echo nonsense", ..OBEYS }, "cannot tell whether it runs"),
    ] {
        let (app, output) = backup(&docker);
        let output = expect_code(output, 15);
        assert!(told(&output).contains(words), "{words}: {}", told(&output));
        assert!(app.0.dir.join("up").exists() && app.order().is_empty(), "{:?}", app.order());
    }
}

#[test]
fn what_is_kept_is_of_the_moment_when_the_services_were_down() {
    // The start changes what was captured, before it is packed.
    let start = "start = 'echo start >> order; for f in file more/file; do echo later > app/$f; done; sleep 1000 & echo $! > web.pid'";
    let service = SERVICE.replace("start = 'echo start >> order; sleep 1000 & echo $! > web.pid'", start);
    let app = App::with(&service);
    let id = app.0.backup();
    let restored = app.0.restore(&id, &[]);
    for path in ["app/file", "app/more/file"] {
        assert_eq!(fs::read_to_string(restored.join(path)).unwrap(), path);
        assert_eq!(fs::read_to_string(app.0.dir.join(path)).unwrap(), "later\n");
    }
    // And the next one sees that they changed.
    let id = app.0.backup();
    assert_eq!(fs::read_to_string(app.0.restore(&id, &[]).join("app/file")).unwrap(), "later\n");
}

/// A database that SQLite does not give is kept as bytes, with its log: the one that was there then, whoever folds it in and removes it afterwards.
#[test]
fn the_log_of_a_database_that_is_kept_as_bytes_is_that_of_the_moment_too() {
    let start = "start = 'echo start >> order; rm app/torn.db-wal; sleep 1000 & echo $! > web.pid'";
    let service = SERVICE.replace("start = 'echo start >> order; sleep 1000 & echo $! > web.pid'", start);
    let app = App::with(&service);
    let torn = app.0.dir.join("app/torn.db");
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.resize(8192, 0xff);
    fs::write(&torn, &bytes).unwrap();
    fs::write(app.0.dir.join("app/torn.db-wal"), "rows that are nowhere else").unwrap();
    let said = told(&expect_code(app.command(&["backup"]).output().unwrap(), 0));
    assert!(said.contains("its bytes were packed as they lie there"), "{said}");
    assert!(!app.0.dir.join("app/torn.db-wal").exists());
    let kept = expect_code(app.command(&["cat", "latest", "app/torn.db-wal"]).output().unwrap(), 0).stdout;
    assert_eq!(String::from_utf8(kept).unwrap(), "rows that are nowhere else");
    assert!(expect_code(app.command(&["cat", "latest", "app/torn.db"]).output().unwrap(), 0).stdout == bytes);
}

#[test]
fn what_did_not_change_is_not_read_when_the_services_are_up_however_the_listing_is_cut_now() {
    // The second start changes a file that was as it had been.
    let start = "start = 'echo start >> order; [ ! -e again ] || echo later > app/z/0602; sleep 1000 & echo $! > web.pid'";
    let service = SERVICE.replace("start = 'echo start >> order; sleep 1000 & echo $! > web.pid'", start);
    let app = App::with(&service);
    for n in 0..700 {
        crate::lab::put(&app.0.dir.join(format!("app/z/{n:04}")), format!("first {n}").as_bytes());
    }
    let backup = || {
        let output = app.command(&["backup", "--json"]).env("BACKSTAY_TEST_SETTLE_MS", "0").output().unwrap();
        let output = expect_code(output, 0);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["snapshot"].as_str().unwrap().to_owned()
    };
    let listings = |id: &str| {
        let bytes = fs::read(app.0.store.join(format!("snapshots/{id}.json"))).unwrap();
        let record: Record = document::parse(document::split(&bytes).unwrap().0, "record").unwrap();
        record.objects.iter().filter(|o| o.kind == ObjectKind::Manifest).count()
    };
    assert_eq!(listings(&backup()), 4, "a segment for each component, and the index");
    // From here on a segment ends in the middle of the one that there was.
    crate::lab::put(&app.0.dir.join("app").join(crate::incremental_traps::name_that_cuts()), b"new");
    fs::write(app.0.dir.join("again"), b"").unwrap();
    let id = backup();
    assert_eq!(listings(&id), 5, "a segment more");
    let restored = app.0.restore(&id, &[]);
    assert_eq!(fs::read_to_string(restored.join("app/z/0602")).unwrap(), "first 602");
    assert_eq!(fs::read_to_string(app.0.dir.join("app/z/0602")).unwrap(), "later\n");
}

#[test]
fn nothing_is_kept_unsealed_below_the_store() {
    let app = App::new();
    let killed = app.command(&["backup"]).env("BACKSTAY_TEST_CRASH", "backup: held#1").output().unwrap();
    assert!(!killed.status.success());
    let marker = b"app/more/file";
    let holds = |dir: &Path| {
        let files = everything_below(dir);
        files.iter().any(|(_, _, bytes)| bytes.0.windows(marker.len()).any(|part| part == marker))
    };
    let state = app.0.config()["state"]["dir"].as_str().unwrap().to_owned();
    assert!(holds(&Path::new(&state).join("spool")), "it was kept for a while");
    assert!(!holds(&app.0.store), "whoever can read the store could read it");
    app.0.backup();
    assert!(!holds(&Path::new(&state).join("spool")), "and it goes with the next run");
}

#[test]
fn a_component_that_does_not_ask_for_it_stops_nothing() {
    let app = App::new();
    app.0.ok(["backup", "--only", "other"]);
    assert_eq!(app.order(), ["after"]);
}

#[test]
fn killed_while_they_are_down_the_next_command_starts_them() {
    let app = App::new();
    let log = app.0.top.join("points");
    let output = app.command(&["backup"]).env("BACKSTAY_TEST_CRASH_COUNT_FILE", &log).output().unwrap();
    expect_code(output, 0);
    let names: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    let own = |name: &&String| name.contains("stopped: ") || name.contains("backup: held");
    let numbers: Vec<usize> = names.iter().enumerate().filter(|(_, n)| own(n)).map(|(n, _)| n + 1).collect();
    assert!(numbers.len() >= 6, "{names:?}");
    let ways: [&[&str]; 3] = [&["ready"], &["backup"], &["rollback", "--resume"]];
    for (turn, number) in numbers.into_iter().enumerate() {
        fs::write(app.0.dir.join("app/file"), format!("{turn}")).unwrap();
        let killed =
            app.command(&["backup"]).env("BACKSTAY_TEST_CRASH", number.to_string()).output().unwrap();
        assert!(!killed.status.success(), "{number}");
        let next = expect_code(app.0.run(ways[turn % 3]), 0);
        assert!(app.runs(), "point {number}, {}: {}", names[number - 1], told(&next));
    }
    let killed = app.command(&["backup"]).env("BACKSTAY_TEST_CRASH", "stopped: captured#1").output().unwrap();
    assert!(!killed.status.success());
    told_by_status_and_doctor(&app.0, "a capture was cut off while services were stopped for it");
    app.0.backup();
    let state = app.0.config()["state"]["dir"].as_str().unwrap().to_owned();
    let left = fs::read_dir(state).unwrap().any(|e| e.unwrap().file_name() == "stopped.json");
    assert!(!left);
}

#[test]
fn a_service_that_a_killed_capture_asked_to_stop_is_stopped_to_its_end() {
    let (start, service) = slow_to_end(SERVICE);
    let app = App::with(&service);
    crate::common::project::end_service(&app.0.dir.join("web.pid"), &app.0.dir);
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.0.dir).output().unwrap(), 0);
    let before = app.pid();
    let killed = app.command(&["backup"]).env("BACKSTAY_TEST_CRASH", "service: asked to stop#1").output();
    assert!(!killed.unwrap().status.success());
    let mut ready = app.command(&["ready"]).spawn().unwrap();
    until("it is asked again", || app.order() == ["stop", "stop"]);
    fs::write(app.0.dir.join("go"), "").unwrap();
    assert!(ready.wait().unwrap().success());
    assert_ne!(app.pid(), before);
    let stat = fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap_or_default();
    assert!(stat.contains("(sh) S"), "the service is down: {stat:?}");
}

#[test]
fn no_number_of_signals_leaves_a_service_down_that_was_stopped_for_a_capture() {
    let (start, service) = slow_to_end(SERVICE);
    let app = App::with(&service);
    crate::common::project::end_service(&app.0.dir.join("web.pid"), &app.0.dir);
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.0.dir).output().unwrap(), 0);
    let mut backup = app.command(&["backup"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it is asked to stop", || app.0.dir.join("asked").exists());
    let pid = Pid::from_child(&backup);
    kill_process(pid, Signal::INT).unwrap();
    let words = "they are started first, and no signal ends this before";
    let heard = crate::rollback::hear(&mut backup, words);
    assert!(heard.contains(words), "{heard}");
    for signal in [Signal::INT, Signal::TERM, Signal::INT] {
        kill_process(pid, signal).unwrap();
    }
    assert!(backup.try_wait().unwrap().is_none(), "it was ended");
    fs::write(app.0.dir.join("go"), "").unwrap();
    // It was asked to end, and ends so; but the service runs again.
    let code = backup.wait().unwrap().code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    let stat = fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap_or_default();
    assert!(stat.contains("(sh)") && !stat.contains(") Z"), "the service is down: {stat:?}");
    assert!(!app.state().join("stopped.json").exists());
    assert_eq!(app.0.json(["list"])["snapshots"].as_array().unwrap().len(), 0);
}

/// Stands for systemd: a unit is up while there is `up-UNIT`, and on its way up while there is `begun-UNIT`.
const SYSTEMCTL: &str = r#"#!/bin/sh
look() { echo LoadState=loaded; echo "ActiveState=$1"; echo "SubState=$2"; echo InvocationID=1; echo MainPID=0; }
for unit; do :; done
case "$1" in
start) echo "$*" >> asked; STARTS;;
stop) rm -f "up-$unit" "begun-$unit";;
show) if [ -e "up-$unit" ]; then look active running; elif [ -e "begun-$unit" ]; then look activating start-pre; else look inactive dead; fi;;
esac
"#;

/// An application of two units that are up, and where the `systemctl` lies that does `starts` to start one.
fn of_units(names: [&str; 2], starts: &str) -> (App, String) {
    let unit =
        |name: &str| format!("[[service]]\nname = \"{name}\"\nsystemd = \"{name}\"\nstart_within = \"3s\"\n");
    let app = App::with(&names.map(unit).concat());
    let bin = app.0.top.join("bin");
    crate::lab::put(&bin.join("systemctl"), SYSTEMCTL.replace("STARTS", starts).as_bytes());
    fs::set_permissions(bin.join("systemctl"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for name in names {
        fs::write(app.0.dir.join(format!("up-{name}.service")), "").unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    (app, path)
}

#[test]
fn a_unit_whose_own_start_asks_whether_it_is_ready_is_not_started_by_the_answer() {
    // `front` is ordered after `web`, so its start waits for that of `web`.
    let (app, path) = of_units(["web", "front"], "[ \"$2\" = --no-block ] || exec sleep 1000");
    let under_systemd = |args: &[&str]| {
        let mut command = app.command(args);
        command.env("PATH", &path);
        command
    };
    let killed =
        under_systemd(&["backup"]).env("BACKSTAY_TEST_CRASH", "stopped: captured#1").output().unwrap();
    assert!(killed.status.code().is_none(), "{}", told(&killed));
    fs::write(app.0.dir.join("begun-web.service"), "").unwrap();
    expect_code(under_systemd(&["ready"]).output().unwrap(), 0);
    let asked = || fs::read_to_string(app.0.dir.join("asked")).unwrap();
    assert_eq!(asked(), "start --no-block -- front.service\n");
    // The start of the other finds nothing left to do.
    fs::write(app.0.dir.join("begun-front.service"), "").unwrap();
    expect_code(under_systemd(&["ready"]).output().unwrap(), 0);
    assert_eq!(asked(), "start --no-block -- front.service\n");
}

#[test]
fn a_unit_that_never_comes_up_after_a_capture_is_told_also_while_its_manager_tries_again_and_again() {
    // The start of `web` has systemd start `worker`, which ends at once each time.
    let (app, path) =
        of_units(["web", "worker"], "[ $unit = worker.service ] || touch up-$unit begun-worker.service");
    let output = expect_code(app.command(&["backup"]).env("PATH", &path).output().unwrap(), 15);
    assert!(told(&output).contains("service worker"), "{}", told(&output));
    assert!(!told(&output).contains("service web"), "{}", told(&output));
    let asked = fs::read_to_string(app.0.dir.join("asked")).unwrap();
    assert_eq!(asked, "start -- web.service\nstart -- worker.service\n");
    // So it is for a run that finds what a killed one had stopped.
    for name in ["up-web.service", "up-worker.service"] {
        fs::write(app.0.dir.join(name), "").unwrap();
    }
    let mut backup = app.command(&["backup"]);
    let killed =
        backup.env("PATH", &path).env("BACKSTAY_TEST_CRASH", "stopped: captured#1").output().unwrap();
    assert!(killed.status.code().is_none(), "{}", told(&killed));
    let output = app.command(&["backup", "--only", "other"]).env("PATH", &path).output().unwrap();
    assert!(told(&output).contains("service worker"), "{}", told(&output));
}

#[test]
fn a_service_that_does_not_stop_is_no_reason_to_leave_it_down_and_there_is_no_snapshot() {
    let service = SERVICE.replace("kill \"$(cat web.pid)\"", "exit 4");
    let app = App::with(&service);
    let output = expect_code(app.0.run(["backup"]), 15);
    assert!(told(&output).contains("exit code 4"), "{}", told(&output));
    assert!(app.runs());
    assert_eq!(app.0.json(["list"])["snapshots"].as_array().unwrap().len(), 0);
}

/// What was done to the two services of which nothing can tell whether they run, which ran.
fn of_two(first: &str) -> (App, impl Fn(&App) -> String) {
    let app = App::with(&two_services(first));
    for name in ["worker.up", "web.up"] {
        fs::write(app.0.dir.join(name), "").unwrap();
    }
    let own = |line: &String| line.starts_with("worker") || line.starts_with("web");
    let order = move |app: &App| app.order().into_iter().filter(own).collect::<Vec<_>>().join("\n");
    (app, order)
}

#[test]
fn a_service_that_a_capture_never_asked_to_stop_is_not_started_beside_itself() {
    let (app, order) = of_two("exit 4; ");
    let output = expect_code(app.0.run(["backup"]), 15);
    assert!(told(&output).contains("exit code 4"), "{}", told(&output));
    assert_eq!(order(&app), "web start");
}

#[test]
fn a_service_that_a_killed_capture_may_have_started_or_never_stopped_is_stopped_before_it_is_started() {
    for point in
        ["written down#1", "a service#1", "all of them#1", "a service started#1", "a service started#2"]
    {
        let (app, order) = of_two("");
        let point = format!("stopped: {point}");
        let killed = app.command(&["backup"]).env("BACKSTAY_TEST_CRASH", &point).output().unwrap();
        assert_eq!(killed.status.code(), None, "{point}: it was not killed: {}", told(&killed));
        app.0.ok(["ready"]);
        let order = order(&app);
        assert_eq!((running(&order, "worker"), running(&order, "web")), (1, 1), "{point}: {order}");
    }
}

#[test]
fn a_service_that_does_not_come_up_is_told_and_the_snapshot_stays() {
    let app = App::with(
        &SERVICE.replace("'echo start >> order; ", "'echo start >> order; test -e well || exit 6; "),
    );
    let output = expect_code(app.0.run(["backup"]), 15);
    assert!(
        told(&output).contains("service web") && told(&output).contains("exit code 6"),
        "{}",
        told(&output)
    );
    assert_eq!(app.0.json(["list"])["snapshots"].as_array().unwrap().len(), 1);
    // The next run makes a snapshot, too, and does not call the application well, nor try for ever what fails.
    for _ in 0..2 {
        let output = expect_code(app.0.run(["backup"]), 15);
        let word = "it did not come up after an earlier capture, and does not run";
        assert_eq!(told(&output).matches(word).count(), 1, "{}", told(&output));
    }
    assert_eq!(app.order().iter().filter(|line| *line == "start").count(), 1);
    let status = app.0.run(["status"]);
    assert!(!String::from_utf8_lossy(&status.stdout).contains("a capture was cut off"), "none was");
    // A person starts it.
    fs::write(app.0.dir.join("well"), "").unwrap();
    let start = "sleep 1000 >/dev/null 2>&1 & echo $! > web.pid";
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.0.dir).output().unwrap(), 0);
    expect_code(app.0.run(["backup"]), 0);
    assert!(app.runs());
    assert_eq!(app.0.json(["list"])["snapshots"].as_array().unwrap().len(), 4);
}

#[test]
fn an_agent_that_is_asked_to_end_while_services_are_down_ends_once_they_run_again() {
    // Longer than a job gets that is asked to end.
    let slow = SERVICE.replace("echo stop >> order; kill", "echo stop >> order; sleep 8; kill");
    let schedule = "[schedule]\nbackup = \"0 3 * * *\"\ntimezone = \"UTC\"\n";
    let app = App::with(&format!("{schedule}{slow}"));
    let first = app.command(&["agent", "--once"]).env("BACKSTAY_TEST_NOW", "2026-11-01T12:00:00Z").output();
    expect_code(first.unwrap(), 0);
    let before = app.pid();
    let (path, said) = (app.0.top.join("notify"), app.0.top.join("said"));
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut agent = app.command(&["agent"]);
    agent.env("NOTIFY_SOCKET", &path).stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
    let mut agent = agent.spawn().unwrap();
    until("it is being stopped", || app.order() == ["stop"]);
    kill_process(Pid::from_child(&agent), Signal::TERM).unwrap();
    let mut heard = [0; 500];
    let mut hear =
        || manager.recv(&mut heard).map(|length| String::from_utf8_lossy(&heard[..length]).into_owned());
    while !hear().expect("it asks for the time that it takes").contains("EXTEND_TIMEOUT_USEC=") {}
    assert!(agent.wait().unwrap().success());
    let said = fs::read_to_string(said).unwrap();
    assert!(said.contains("ends when what was stopped for the capture runs again"), "{said}");
    assert!(said.contains("was ended; it is run again when the agent is"), "{said}");
    assert!(!said.contains("not started again"), "{said}");
    assert!(app.runs() && app.pid() != before, "{:?}: {said}", app.order());
    assert!(!app.state().join("stopped.json").exists());
    assert_eq!(app.0.json(["list"])["snapshots"].as_array().unwrap().len(), 0);
}

#[test]
fn asked_to_end_while_services_are_being_stopped_it_stops_no_other_and_starts_what_it_stopped() {
    let more = SERVICE.replace("\"web\"", "\"front\"").replace("web.pid", "front.pid");
    let front = &more[..more.find("[[hook]]").unwrap()];
    let front = front.replace("echo st", "echo front st").replace("name = ", "after = [\"web\"]\nname = ");
    let app = App::with(&format!("{front}{SERVICE}"));
    let start = "sleep 1000 >/dev/null 2>&1 & echo $! > front.pid";
    expect_code(Command::new("sh").args(["-c", start]).current_dir(&app.0.dir).output().unwrap(), 0);
    let before = app.pid();
    let mut backup = app.command(&["backup"]);
    let output = backup.env("BACKSTAY_TEST_SIGNAL", "stopped: a service#1:15").output().unwrap();
    crate::common::project::end_service(&app.0.dir.join("front.pid"), &app.0.dir);
    expect_code(output, 143);
    let services = |line: &String| line.contains("st");
    let order: Vec<String> = app.order().into_iter().filter(services).collect();
    assert_eq!(order, ["front stop", "front start"]);
    assert!(app.runs() && app.pid() == before);
    assert!(!app.state().join("stopped.json").exists());
}

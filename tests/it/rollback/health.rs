//! Health checks that lie, and services that do not do what they are told: nothing counts as well that is not plainly so.

use super::{App, SERVICE};
use crate::common::project::expect_code;

/// The service with another health check.
fn with_health(health: &str) -> String {
    let end = SERVICE.find("[service.health]").unwrap();
    format!("{}[service.health]\nwithin = \"3s\"\ninterval = \"1s\"\n{health}\n", &SERVICE[..end])
}

/// Rolls back with this service: it must fail, say `words`, and leave what was live.
#[track_caller]
fn refused(service: &str, words: &str) -> App {
    let app = App::new(service);
    let id = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let before = app.live();
    let output = app.project.run(["rollback", &id]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(17 | 18)), "{said}");
    assert!(said.contains(words), "{words}: {said}");
    assert_eq!(app.live(), before, "{said}");
    app
}

#[test]
fn an_answer_of_another_process_is_noticed_when_the_service_is_stopped() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = with_health(&format!("tcp = \"{}\"", listener.local_addr().unwrap()));
    refused(&service, "its health check still passes");
}

#[test]
fn a_check_that_always_passes_is_no_check() {
    refused(&with_health("command = \"true\""), "its health check still passes");
}

#[test]
fn a_checker_that_is_missing_killed_or_hangs_is_a_failure() {
    refused(&with_health("command = [\"no-such-checker-here\"]"), "cannot run no-such-checker-here");
    refused(&with_health("command = \"kill -9 $$\""), "signal 9");
    refused(&with_health("command = \"sleep 1000\"\ntimeout = \"1s\""), "was ended after 1 s");
}

#[test]
fn a_host_that_cannot_be_found_or_reached_is_a_failure() {
    refused(&with_health("url = \"http://no-such-host.invalid/health\""), "does not answer");
    refused(&with_health("tcp = \"127.0.0.1:9\""), "cannot connect");
}

#[test]
fn a_service_that_dies_after_it_answered_is_a_failure() {
    let service = SERVICE
        .replace("start = 'sleep 1000 & echo $! > web.pid'", "start = 'sleep 2 & echo $! > web.pid'")
        .replace("passes = 1", "passes = 3")
        .replace("within = \"3s\"", "within = \"6s\"");
    refused(&service, "it is down");
}

#[test]
fn a_service_that_flaps_is_a_failure() {
    let flaps = r#"command = 'grep -q "(sleep) S" "/proc/$(cat web.pid)/stat" && if [ -e flap ]; then rm flap; false; else touch flap; fi'
passes = 2"#;
    let app = refused(&with_health(flaps), "not healthy");
    drop(app);
}

#[test]
fn a_database_that_is_empty_is_not_healthy() {
    let app = App::new(&with_health("sqlite = \"empty.db\""));
    drop(rusqlite::Connection::open(app.path("empty.db")).unwrap());
    std::fs::write(app.path("empty.db"), b"").unwrap();
    let id = app.project.backup();
    app.start_service();
    let output = app.project.run(["rollback", &id]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("it is empty"), "{said}");
    assert_eq!(output.status.code(), Some(18), "{said}");
}

#[test]
fn a_pid_file_that_still_names_the_process_from_before_does_not_count() {
    // The start does nothing, and the old process never went: the stop only says so.
    let service = SERVICE
        .replace("stop = 'kill \"$(cat web.pid)\"'", "stop = 'mv web.pid old.pid'")
        .replace("start = 'sleep 1000 & echo $! > web.pid'", "start = 'mv old.pid web.pid'");
    refused(&service, "the process from before");
}

#[test]
fn a_service_that_was_down_stays_down() {
    let app = App::new(SERVICE);
    let id = app.project.backup();
    app.upgrade("2");
    let output = expect_code(app.project.run(["rollback", &id]), 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is down, and stays so"));
    assert!(!app.path("web.pid").exists());
}

/// A page in front of the service that keeps its answers: it asks the service only when it is told not to answer from what it keeps.
fn cache_in_front(app_dir: std::path::PathBuf) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap_or(0);
            let request = String::from_utf8_lossy(&buffer[..length]).to_lowercase();
            let pid = std::fs::read_to_string(app_dir.join("web.pid")).unwrap_or_default();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            let version = std::fs::read_to_string(app_dir.join("app/version")).unwrap_or_default();
            let up = stat.contains("(sleep) S") && !version.contains("broken");
            let fresh = request.contains("cache-control: no-cache");
            let status = if up || !fresh { "200 OK" } else { "502 Bad Gateway" };
            let _gone =
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    format!("http://{address}/health")
}

#[test]
fn an_answer_out_of_a_cache_does_not_count() {
    let app = App::new("");
    let url = cache_in_front(app.project.dir.clone());
    judged(&app, &with_health(&format!("url = \"{url}\"\npasses = 1")), "status 502");
}

/// With this service a snapshot of a version that is broken is undone, saying `words`, and one that is well is kept.
#[track_caller]
pub(super) fn judged(app: &App, service: &str, words: &str) {
    let text = std::fs::read_to_string(app.project.config_path()).unwrap();
    std::fs::write(app.project.config_path(), format!("{text}\n{service}")).unwrap();
    let well = app.project.backup();
    app.write("app/version", "broken");
    let broken = app.project.backup();
    app.upgrade("2");
    app.start_service();
    let output = expect_code(app.project.run(["rollback", &broken]), 17);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(words), "{words}: {said}");
    assert_eq!(app.read("app/version"), "2", "{said}");
    assert!(app.runs());
    app.project.ok(["rollback", &well]);
    assert_eq!(app.read("app/version"), "1");
}

/// `systemctl` for one unit that is active as long as `app/version` is not `broken`; then it does `lie`.
fn rolled_back_under_systemd(lie: &str, health: &str) -> (Option<i32>, String, App) {
    let service = format!("[[service]]\nname = \"web\"\nsystemd = \"web\"\nstart_within = \"3s\"\n{health}");
    let app = App::new(&service);
    app.write("app/version", "broken");
    let id = app.project.backup();
    app.upgrade("2");
    let script = format!(
        r#"#!/bin/sh
look() {{ echo LoadState=loaded; echo "ActiveState=$1"; echo "SubState=$2"; echo "InvocationID=$3"; echo MainPID=0; }}
case "$1" in
start) touch up; echo x >> n;;
stop) rm -f up;;
show)
    if [ ! -e up ]; then look inactive dead ''
    elif grep -q broken app/version; then echo x >> n; {lie}
    else look active running "$(wc -l < n)"; fi;;
esac
"#
    );
    let bin = app.project.top.join("bin");
    crate::lab::put(&bin.join("systemctl"), script.as_bytes());
    std::fs::set_permissions(bin.join("systemctl"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    app.write("up", "");
    app.write("n", "x\n");
    let mut command = crate::common::project::program(crate::common::project::exe(), &app.project.home);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output =
        command.current_dir(&app.project.dir).env("PATH", path).args(["rollback", &id]).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), app)
}

#[test]
fn a_unit_that_is_restarted_again_and_again_is_not_well() {
    let asks = "[service.health]\ncommand = \"test -e up\"\nwithin = \"4s\"\npasses = 2\n";
    for health in ["", asks] {
        for (lie, words) in [
            ("look activating auto-restart \"$(wc -l < n)\"", "activating, auto-restart"),
            // Active at each look, and each time another run.
            ("look active running \"$(wc -l < n)\"", "started anew"),
        ] {
            let (code, said, app) = rolled_back_under_systemd(lie, health);
            assert_eq!(code, Some(17), "{lie} {health}: {said}");
            assert!(said.contains(words), "{words}: {said}");
            assert_eq!((app.read("app/version"), app.path("up").exists()), ("2".into(), true), "{said}");
        }
    }
}

#[test]
fn a_check_that_ends_with_127_or_is_not_there_any_more_is_a_failure() {
    let app = App::new(&with_health("command = [\"app/check\"]\npasses = 1"));
    let check = |text: &str| {
        app.write("app/check", text);
        std::fs::set_permissions(app.path("app/check"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    };
    // The snapshot's checker is one that cannot run; today's is well.
    check("#!/bin/sh\nexec no-such-checker-here\n");
    let id = app.project.backup();
    app.upgrade("2");
    check("#!/bin/sh\ngrep -q '(sleep) S' /proc/$(cat web.pid)/stat\n");
    app.start_service();
    let output = expect_code(app.project.run(["rollback", &id]), 17);
    assert!(String::from_utf8_lossy(&output.stderr).contains("exit code 127"), "{output:?}");
    assert_eq!(app.read("app/version"), "2");
}

//! Those who are told may take their time, or never answer: nothing else waits for them.

use super::{Server, configure, secret};
use crate::agent::Running;
use crate::common::project::until;
use crate::lab::put;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What the service manager hears in `time`; how long it heard nothing at the longest.
fn longest_silence(manager: &UnixDatagram, time: Duration) -> Duration {
    let (begun, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < time {
        manager.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 500];
        match manager.recv(&mut buffer) {
            Ok(length) if buffer[..length].starts_with(b"WATCHDOG=1") => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
    }
    longest.max(last.elapsed())
}

#[test]
fn a_target_that_never_answers_delays_no_watchdog_no_job_and_no_end() {
    let server = Server::start();
    server.status.store(0, Ordering::SeqCst);
    let lab = super::lab("");
    lab.backup();
    let ping = secret(&lab, "ping", &server.url("beat"));
    configure(
        &lab,
        &format!(
            "notify = {{ failure = [{{ webhook = {:?}, within = \"5m\" }}], ping = {{ url_file = {ping:?}, within = \"5m\" }} }}\n\
             schedule = {{ backup = \"0 3 * * *\", verify = \"0 3 * * *\", timezone = \"UTC\" }}",
            server.url("hook")
        ),
    );
    lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-01T12:00:00Z")]).expect(0, &[]);
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    let path = lab.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let begun = Instant::now();
    let mut agent =
        Running::start(&lab, &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")]);
    // The beginning is being told when the backup ends already, and the verify after it runs while nobody was told of anything.
    agent.until("verify at 0 3 * * * is done");
    let heard = |path: &str| server.sent.lock().unwrap().iter().any(|one| one.path == path);
    until("the beginning", || heard("/beat/start"));
    assert!(!heard("/hook"), "one project's words come in their order");
    let silence = longest_silence(&manager, Duration::from_secs(5));
    assert!(silence < Duration::from_secs(2), "{silence:?}");
    let asked = Instant::now();
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.end(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn what_was_being_told_when_the_agent_was_asked_to_end_is_told_by_the_next_one() {
    let server = Server::start();
    server.status.store(0, Ordering::SeqCst);
    let lab = super::lab("");
    let deaf = "trap '' TERM; echo > hung; while :; do sleep 1; done";
    configure(
        &lab,
        &format!(
            "notify = {{ failure = [{{ webhook = {:?}, within = \"5m\" }}, {{ command = {deaf:?}, within = \"5m\" }}] }}\n\
             schedule = {{ backup = \"0 3 * * *\", timezone = \"UTC\" }}",
            server.url("hook")
        ),
    );
    lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-01T12:00:00Z")]).expect(0, &[]);
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    let path = lab.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut agent =
        Running::start(&lab, &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")]);
    until("the message", || !server.sent.lock().unwrap().is_empty() && lab.path("project/hung").exists());
    let silence = longest_silence(&manager, Duration::from_secs(4));
    assert!(silence < Duration::from_secs(2), "{silence:?}");
    let asked = Instant::now();
    agent.signal(rustix::process::Signal::TERM);
    agent.until("the agent ends");
    assert_eq!(agent.end(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    server.status.store(200, Ordering::SeqCst);
    server.take();
    let config = lab.config_text().replace(deaf, "true");
    fs::write(lab.path("project/backstay.toml"), config).unwrap();
    lab.run(&["agent", "--once"]);
    let sent = server.take();
    assert!(sent.len() == 1 && sent[0].body.contains("\"failure\""), "{sent:?}");
    lab.run(&["agent", "--once"]);
    assert!(server.take().is_empty(), "told once");
}

#[test]
fn several_who_do_not_answer_are_waited_for_together_and_keep_nobody_from_hearing() {
    let (deaf, server) = (Server::start(), Server::start());
    deaf.status.store(0, Ordering::SeqCst);
    let lab = super::lab("");
    let one = |url: String, within: &str| format!("{{ webhook = {url:?}, within = {within:?} }}");
    let mut targets: Vec<String> = (0..6).map(|n| one(deaf.url(&n.to_string()), "5s")).collect();
    targets.push(one(server.url("hook"), "30s"));
    configure(&lab, &format!("notify = {{ failure = [{}] }}", targets.join(", ")));
    fs::rename(lab.path("project/wanted"), lab.path("away")).unwrap();
    let begun = Instant::now();
    let ran = lab.run(&["backup"]);
    assert_eq!(ran.code, 1, "{}", ran.text());
    assert_eq!(ran.text().matches("no answer in time").count(), 6, "{}", ran.text());
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(server.take().len(), 1);
}

#[test]
fn a_run_that_ends_while_another_tells_is_told_of_too() {
    let server = Server::start();
    server.status.store(0, Ordering::SeqCst);
    let lab = super::lab("");
    configure(
        &lab,
        &format!("notify = {{ failure = [{{ webhook = {:?}, within = \"8s\" }}] }}", server.url("hook")),
    );
    let project = lab.path("project");
    fs::rename(project.join("wanted"), lab.path("away")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| lab.run(&["backup"]));
        until("the first message", || !server.sent.lock().unwrap().is_empty());
        server.status.store(200, Ordering::SeqCst);
        put(&project.join("wanted"), b"content");
        // It waits for the first, and tells what came of both: a failure that nobody heard of, and its end.
        lab.run(&["backup"]).expect(0, &[]);
    });
    let sent = server.take();
    let last = &sent.last().unwrap().body;
    assert!(last.contains("\"recovery\"") && last.contains("it could not be told when it was"), "{sent:?}");
}

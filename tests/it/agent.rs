//! The agent as a process: what is due is run, what was begun is ended once, and signals do what they say.

use crate::lab::{Lab, put};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// An agent that runs.
pub(crate) struct Running {
    child: Child,
    err: BufReader<ChildStderr>,
    pub(crate) said: String,
}

impl Running {
    pub(crate) fn start(lab: &Lab, env: &[(&str, &str)]) -> Self {
        Self::start_with(lab, &[], env)
    }

    fn start_with(lab: &Lab, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command
            .arg("agent")
            .args(args)
            .current_dir(lab.path("project"))
            .env_clear()
            .envs(env.iter().copied());
        command.env("HOME", lab.path("home")).env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let err = BufReader::new(child.stderr.take().unwrap());
        Self { child, err, said: String::new() }
    }

    /// Reads what it says until a line holds `word`.
    #[track_caller]
    pub(crate) fn until(&mut self, word: &str) {
        loop {
            let mut line = String::new();
            let length = self.err.read_line(&mut line).unwrap();
            self.said.push_str(&line);
            if line.contains(word) {
                return;
            }
            assert!(length > 0, "it ended before it said {word:?}: {}", self.said);
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// A project with a backup at 3:00, seen by an agent at noon of 1 November 2026.
fn seen(components: &str) -> Lab {
    let project = |dir: &Path| put(&dir.join("app/a"), b"content");
    let lab = Lab::new(project, components);
    lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-01T12:00:00Z")]).expect(0, &[]);
    lab
}

const FOLDER: &str = "component = [{ name = \"app\", path = \"app\" }]\nschedule = { backup = \"0 3 * * *\", timezone = \"UTC\" }";

/// A dump that waits until the file `go` is there.
const SLOW: &str = "component = [{ name = \"slow\", command = \"until [ -e go ]; do sleep 0.05; done; echo dump\" }]\n\
    schedule = { backup = \"0 3 * * *\", timezone = \"UTC\" }";

fn snapshots(lab: &Lab) -> usize {
    let ran = lab.run(&["--json", "list"]);
    let report: Value = serde_json::from_slice(&ran.out).unwrap();
    report["snapshots"].as_array().unwrap().len()
}

fn status(lab: &Lab, now: &str) -> Value {
    let ran = lab.run_with(&["--json", "status"], &[("BACKSTAY_TEST_NOW", now)]);
    serde_json::from_slice(&ran.out).unwrap()
}

#[test]
fn once_runs_what_is_due_and_status_tells_what_comes_next() {
    let lab = seen(FOLDER);
    assert_eq!(snapshots(&lab), 0, "nothing was due yet");
    let at = |now| [("BACKSTAY_TEST_NOW", now)];
    lab.run_with(&["agent", "--once"], &at("2026-11-02T02:59:59Z")).expect(0, &[]);
    assert_eq!(snapshots(&lab), 0);
    // Missed for three days: made up for once.
    lab.run_with(&["agent", "--once"], &at("2026-11-05T10:00:00Z"))
        .expect(0, &["begins (it was due", "is done"]);
    lab.run_with(&["agent", "--once"], &at("2026-11-05T10:05:00Z")).expect(0, &[]);
    assert_eq!(snapshots(&lab), 1);
    let report = status(&lab, "2026-11-05T11:00:00Z");
    let job = &report["schedule"]["jobs"][0];
    assert_eq!(job["next"], "2026-11-06T03:00:00Z", "{report}");
    assert_eq!((&job["last_code"], &job["last_began"]), (&0.into(), &"2026-11-05T10:00:00Z".into()));
    assert_eq!(report["schedule"]["agent_since"], Value::Null);
}

#[test]
fn a_schedule_that_nothing_runs_is_said() {
    let lab = Lab::new(|dir| put(&dir.join("app/a"), b"content"), FOLDER);
    lab.backup();
    let word = "nothing runs the [schedule] of the configuration: no agent ever did";
    lab.run(&["status"]).expect(0, &[word, "backstay agent --print systemd", "no agent runs now"]);
    lab.run(&["doctor"]).expect(18, &["nothing runs it: no agent ever did"]);
    lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-01T12:00:00Z")]).expect(0, &[]);
    let well = status(&lab, "2026-11-02T03:30:00Z")["concerns"].to_string();
    assert!(!well.contains("schedule"), "half an hour late is not too late: {well}");
    let late = status(&lab, "2026-11-02T05:00:00Z")["concerns"].to_string();
    assert!(late.contains("nothing runs the [schedule]: backup at 0 3 * * * is due since 2 hours"), "{late}");
}

#[test]
fn a_snapshot_of_a_time_that_has_not_come_is_said_and_over_with_the_next_one() {
    let lab = Lab::new(|dir| put(&dir.join("app/a"), b"content"), FOLDER);
    lab.run_with(&["backup"], &[("BACKSTAY_TEST_NOW", "2031-01-01T00:00:00Z")]).expect(0, &[]);
    let word = "the newest snapshot of app is of a time that has not come";
    let now = "2026-11-02T12:00:00Z";
    let concerns = || status(&lab, now)["concerns"].to_string();
    assert!(concerns().contains(word), "{}", concerns());
    lab.run_with(&["backup"], &[("BACKSTAY_TEST_NOW", now)]).expect(0, &[]);
    assert!(!concerns().contains(word), "{}", concerns());
}

#[test]
fn the_daemon_tells_the_service_manager_makes_up_reloads_and_ends() {
    let lab = seen(FOLDER);
    let path = lab.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut agent =
        Running::start(&lab, &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")]);
    let heard = |word: &str| {
        let mut buffer = [0; 500];
        loop {
            let length = manager.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).contains(word) {
                return;
            }
        }
    };
    heard("READY=1");
    agent.until("is done");
    assert_eq!(snapshots(&lab), 1, "what was missed is made up for");
    heard("STATUS=next: ");
    heard("WATCHDOG=1");
    let now = jiff::Timestamp::now().to_string();
    assert_ne!(status(&lab, &now)["schedule"]["agent_since"], Value::Null);
    lab.run(&["agent"]).expect(11, &["another agent runs project"]);
    let good = lab.config_text();
    fs::write(lab.path("project/backstay.toml"), good.replace("0 3 * * *", "0 33 * * *")).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.until("the configuration is refused, and the one from before kept");
    heard("RELOADING=1\nMONOTONIC_USEC=");
    fs::write(lab.path("project/backstay.toml"), good.replace("0 3 * * *", "0 4 * * *")).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.until("the configuration was read again");
    agent.signal(rustix::process::Signal::TERM);
    agent.until("the agent ends");
    heard("STOPPING=1");
    assert_eq!(agent.end(), Some(0));
}

#[test]
fn asked_to_end_while_a_job_runs_it_ends_soon_and_the_job_is_taken_up_again() {
    let lab = seen(SLOW);
    let mut agent = Running::start(&lab, &[]);
    agent.until("begins");
    let asked = Instant::now();
    agent.signal(rustix::process::Signal::TERM);
    agent.until("was ended; it is run again when the agent is");
    assert_eq!(agent.end(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    put(&lab.path("project/go"), b"");
    lab.run(&["agent", "--once"]).expect(0, &["is done"]);
    assert_eq!(snapshots(&lab), 1);
}

#[test]
fn a_job_whose_agent_was_killed_is_waited_for_and_not_run_twice() {
    let lab = seen(&SLOW.replace("until", "echo > started; until"));
    let started = lab.path("project/started");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &started, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let mut killed = Running::start(&lab, &[]);
    // The dump begins only when somebody reads.
    fs::read(&started).unwrap();
    killed.signal(rustix::process::Signal::KILL);
    killed.end();
    let mut agent = Running::start(&lab, &[]);
    agent.until("waits for the run that an earlier agent began");
    put(&lab.path("project/go"), b"");
    agent.until("is done");
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.end(), Some(0));
    assert_eq!(snapshots(&lab), 1);
}

#[test]
fn a_hook_that_fails_after_the_snapshot_is_no_reason_for_another_one() {
    for (when, word, made) in [("after", "somebody has to look", 1), ("before", "tried again", 0)] {
        let lab = seen(&format!("{FOLDER}\nhook = [{{ on = \"backup\", {when} = \"exit 1\" }}]"));
        let ran = lab.run_with(&["agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-02T04:00:00Z")]);
        ran.expect(15, &["failed (exit code 15)", word]);
        assert_eq!(snapshots(&lab), made, "{when}");
    }
}

#[test]
fn what_cannot_be_run_by_an_agent_is_refused_in_words() {
    let lab = Lab::new(
        |dir| put(&dir.join("app/a"), b"content"),
        "component = [{ name = \"app\", path = \"app\" }]",
    );
    lab.run(&["agent"]).expect(14, &["has no [schedule], so there is nothing to run"]);
    let config = lab.path("project/backstay.toml");
    let twice = ["-c", config.to_str().unwrap(), "-c", config.to_str().unwrap()];
    lab.run(&[&twice[..], &["backup"]].concat()).expect(2, &["--config was given more than once"]);
    lab.run(&[&twice[..], &["agent"]].concat()).expect(14, &["two projects have the state directory"]);
    lab.run(&["agent", "--print", "cron"]).expect(0, &["agent --config", "--once"]);
}

#[test]
fn a_quiet_agent_says_why_it_runs_nothing() {
    let lab = seen(FOLDER);
    let now = [("BACKSTAY_TEST_NOW", "2026-11-02T04:00:00Z")];
    put(&lab.state().join("rollback.json"), b"nonsense");
    let ran = lab.run_with(&["-q", "agent", "--once"], &now);
    assert!(ran.code == 18 && ran.text().contains("project: nothing is run: "), "{}", ran.text());
    fs::remove_file(lab.state().join("rollback.json")).unwrap();
    let ran = lab.run_with(&["-q", "agent", "--once"], &now);
    // What the job itself found is its result; how the agent goes on is nobody's concern.
    assert!(ran.code == 0 && !ran.text().contains("backup at 0 3"), "{}", ran.text());
    let ran = lab.run_with(&["-q", "agent", "--once"], &now);
    assert_eq!((ran.code, &*ran.text()), (0, ""));
    assert_eq!(snapshots(&lab), 1);
}

#[test]
fn a_rollback_whose_run_goes_on_is_no_failed_backup() {
    let lab = seen(FOLDER);
    let once = || lab.run_with(&["-q", "agent", "--once"], &[("BACKSTAY_TEST_NOW", "2026-11-02T04:00:00Z")]);
    put(&lab.state().join("rollback.json"), b"nonsense");
    let lock = fs::File::options().create(true).append(true).open(lab.state().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let ran = once();
    assert_eq!((ran.code, &*ran.text()), (11, ""));
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock).unwrap();
    once().expect(18, &["nothing is run: "]);
    fs::remove_file(lab.state().join("rollback.json")).unwrap();
    once().expect(0, &[]);
    assert_eq!(snapshots(&lab), 1);
}

#[test]
fn a_second_once_beside_a_slow_one_has_nothing_to_do_and_says_nothing() {
    let lab = seen(SLOW);
    let mut agent = Running::start_with(&lab, &["--once"], &[]);
    agent.until("begins");
    let ran = lab.run(&["agent", "--once"]);
    assert_eq!((ran.code, &*ran.text()), (0, ""));
    lab.run(&["-v", "agent", "--once"]).expect(0, &["another agent runs project"]);
    put(&lab.path("project/go"), b"");
    assert_eq!(agent.end(), Some(0));
    assert_eq!(snapshots(&lab), 1);
}

/// Two projects, and the arguments that name both.
fn two(first: &str, second: &str) -> ([Lab; 2], Vec<String>) {
    let mut labs = [seen(first), seen(second)];
    for (lab, name) in labs.iter_mut().zip(["one", "two"]) {
        let text = lab.config_text().replace("name = \"project\"", &format!("name = {name:?}"));
        fs::write(lab.path("project/backstay.toml"), text).unwrap();
    }
    let file = |lab: &Lab| lab.path("project/backstay.toml").display().to_string();
    let args = labs.iter().flat_map(|lab| ["--config".to_owned(), file(lab)]).collect();
    (labs, args)
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// A dump that fails.
const FAILS: &str = "component = [{ name = \"bad\", command = \"exit 3\" }]\nschedule = { backup = \"0 3 * * *\", timezone = \"UTC\" }";

#[test]
fn one_agent_runs_several_projects_and_one_that_fails_stops_no_other() {
    let (labs, args) = two(FAILS, FOLDER);
    let once = |now| {
        labs[0].run_with(&[&["agent", "--once"][..], &words(&args)].concat(), &[("BACKSTAY_TEST_NOW", now)])
    };
    once("2026-11-02T03:00:00Z")
        .expect(1, &["one: backup at 0 3 * * * failed (exit code 1)", "two: backup at 0 3 * * * is done"]);
    assert_eq!(snapshots(&labs[1]), 1);
    let mut agent = Running::start_with(&labs[0], &words(&args), &[]);
    agent.until("two: backup at 0 3 * * * is done");
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.end(), Some(0));
    assert_eq!(snapshots(&labs[1]), 2);
}

#[test]
fn one_bad_configuration_stops_no_other_project_at_the_start_and_at_sighup() {
    let (labs, args) = two(FOLDER, FOLDER);
    let file = labs[0].path("project/backstay.toml");
    let good = fs::read_to_string(&file).unwrap();
    let bad = good.replace("0 3 * * *", "0 33 * * *");
    fs::write(&file, &bad).unwrap();
    let once = |now| {
        labs[1].run_with(&[&["agent", "--once"][..], &words(&args)].concat(), &[("BACKSTAY_TEST_NOW", now)])
    };
    once("2026-11-02T03:00:00Z")
        .expect(14, &["0 33 * * *", "is not run; the others are", "two: backup at 0 3 * * * is done"]);
    assert_eq!(snapshots(&labs[1]), 1);
    let mut agent = Running::start_with(&labs[1], &words(&args), &[]);
    agent.until("is not run; the others are");
    agent.until("two: backup at 0 3 * * * is done");
    // The mistake is mended: its project runs, too.
    fs::write(&file, &good).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.until("one: the configuration was read again");
    agent.until("one: backup at 0 3 * * * is done");
    // Another one keeps the project as it was, and what was changed for the other one holds.
    fs::write(&file, &bad).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.until("one: the configuration is refused, and the one from before kept");
    agent.until("two: the configuration was read again");
    // At SIGHUP a configuration becomes one of the other's project: it is refused, and nothing else changes.
    fs::write(&file, labs[1].config_text()).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.until("two: the configuration is refused, and the one from before kept");
    agent.signal(rustix::process::Signal::TERM);
    agent.until("the agent ends");
    assert_eq!(agent.end(), Some(0));
    fs::write(&file, good).unwrap();
    assert_eq!((snapshots(&labs[0]), snapshots(&labs[1])), (1, 2));
}

#[test]
fn two_projects_of_one_name_are_refused_at_the_start_and_at_sighup() {
    let (labs, args) = two(FOLDER, FOLDER);
    let file = labs[1].path("project/backstay.toml");
    let good = fs::read_to_string(&file).unwrap();
    let twin = good.replace("name = \"two\"", "name = \"one\"");
    fs::write(&file, &twin).unwrap();
    let once = labs[0].run(&[&["agent", "--once"][..], &words(&args)].concat());
    once.expect(14, &["two projects have the name one: ", "hint: ", "another `name` under [project]"]);
    fs::write(&file, &good).unwrap();
    let mut agent = Running::start_with(&labs[0], &words(&args), &[]);
    agent.until("two: backup at 0 3 * * * is done");
    fs::write(&file, &twin).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.until(
        "two: the configuration is refused, and the one from before kept: two projects have the name one",
    );
    // Nor the name of one that cannot be read now, and runs on as it was.
    let first = labs[0].path("project/backstay.toml");
    fs::write(&first, labs[0].config_text().replace("0 3 * * *", "0 33 * * *")).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.until("one: the configuration is refused, and the one from before kept");
    agent.until(
        "two: the configuration is refused, and the one from before kept: two projects have the name one",
    );
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.end(), Some(0));
}

#[test]
fn two_configurations_of_one_project_are_refused() {
    let lab = seen(FOLDER);
    let file = |name: &str| lab.path("project").join(name).display().to_string();
    let refused = |words: &str| {
        let args = ["--config", &file("backstay.toml"), "--config", &file("other.toml"), "agent", "--once"];
        lab.run(&args).expect(14, &[words]);
    };
    fs::write(file("other.toml"), lab.config_text().replace("0 3 * * *", "0 4 * * *")).unwrap();
    refused("two projects have the state directory");
    let state = lab.state().display().to_string();
    fs::write(file("other.toml"), lab.config_text().replace(&state, &format!("{state}-2"))).unwrap();
    refused("two configurations are of project project and sign with the same key");
    // The same folder by another name, with another name of the project.
    std::os::unix::fs::symlink(&state, format!("{state}-2")).unwrap();
    let other =
        fs::read_to_string(file("other.toml")).unwrap().replace("name = \"project\"", "name = \"other\"");
    fs::write(file("other.toml"), other).unwrap();
    let args = ["--config", &file("backstay.toml"), "--config", &file("other.toml"), "agent", "--once"];
    lab.run(&args).expect(11, &["another agent runs project other", "is not run; the others are"]);
    assert_eq!(snapshots(&lab), 1);
}

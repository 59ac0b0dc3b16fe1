//! Stopping, starting, and whether it runs: by systemd, by compose, by commands of the user's.

use crate::config::{CommandLine, Control, Service};
use crate::durable::crash;
use crate::model::path::escape;
use crate::service::compose;
use crate::service::instance::{another_in, of_pid, of_pid_file};
use crate::service::run::{command_of, held_input, is_held, run, run_ok, run_ok_reading, run_start, system};
use crate::service::watch::Watch;
use crate::service::{Instance, ServiceError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Questions to systemd or compose that take longer are not answered.
pub(super) const ASK: Duration = Duration::from_secs(30);
/// How often it is looked whether a process is gone.
const LOOK: Duration = Duration::from_millis(100);

/// Whether a service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does, in this life.
    Runs(Instance),
    /// It is on its way up, or between two tries to run: up for nobody yet, and its manager sees to it.
    Activating(String),
    /// It is on its way down.
    Deactivating(String),
    /// It does not.
    Down,
    /// Nothing can tell: it has neither a manager nor a pid file.
    Untold,
}

fn subject(service: &Service) -> String {
    format!("service {:?}", service.name)
}

/// Whether `service` runs.
///
/// # Errors
/// That cannot be told although it should be.
pub fn state(service: &Service, around: &Watch<'_>) -> Result<State, ServiceError> {
    match &service.control {
        Control::Systemd { unit } => systemd_state(service, unit, around),
        Control::Compose(compose) => compose::state(&subject(service), compose, around),
        Control::Commands { pid_file: Some(file), .. } => {
            let found =
                of_pid_file(file).map_err(|why| ServiceError::Unknown { subject: subject(service), why })?;
            Ok(found.map_or(State::Down, State::Runs))
        }
        Control::Commands { pid_file: None, .. } => Ok(State::Untold),
    }
}

/// Why `service` is taken for down although a process has the number in its pid file, in words; none where that is not so.
pub fn another_has_its_number(service: &Service) -> Option<String> {
    let Control::Commands { pid_file: Some(file), .. } = &service.control else {
        return None;
    };
    another_in(file)
        .map(|(pid, why)| format!("process {pid} has the number in {} and is another: {why}", file.display()))
}

/// How a person starts `service` of the configuration in `dir`, in words.
pub fn start_in_words(service: &Service, dir: &Path) -> String {
    match &service.control {
        Control::Systemd { unit } => format!("systemctl start {unit}"),
        Control::Compose(compose) => compose::start_in_words(compose),
        Control::Commands { start, .. } => {
            let line = match start {
                CommandLine::Args(args) => args.join(" "),
                CommandLine::Shell(text) => text.clone(),
            };
            format!("in {}: {line}", dir.display())
        }
    }
}

fn systemd_state(service: &Service, unit: &str, around: &Watch<'_>) -> Result<State, ServiceError> {
    let show = "--property=LoadState,ActiveState,SubState,InvocationID,MainPID";
    let said =
        run_ok(&around.commands, &subject(service), system("systemctl", &["show", show, "--", unit]), ASK)?;
    let value = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    if value("LoadState") != "loaded" {
        let why = format!("systemd knows no unit {unit} (it is {})", value("LoadState"));
        return Err(ServiceError::Unknown { subject: subject(service), why });
    }
    let active = value("ActiveState");
    match active.as_str() {
        "inactive" | "failed" => Ok(State::Down),
        "activating" => Ok(State::Activating(format!("{active}, {}", value("SubState")))),
        "deactivating" => Ok(State::Deactivating(format!("{active}, {}", value("SubState")))),
        "active" | "reloading" => {
            let process = value("MainPID").parse().ok().and_then(of_pid);
            let process = process.map_or_else(|| "no process of its own".to_owned(), |p| p.to_string());
            Ok(State::Runs(Instance::new(format!("run {}, {process}", value("InvocationID")))))
        }
        other => {
            let why = format!("systemd says {other:?} of {unit}");
            Err(ServiceError::Unknown { subject: subject(service), why })
        }
    }
}

/// Stops `service` and waits until it is down.
///
/// # Errors
/// The stop failed or took longer than `stop_within`, or it still runs.
pub fn stop(service: &Service, around: &Watch<'_>) -> Result<(), ServiceError> {
    let begun = (around.now)();
    let subject = subject(service);
    let command = match &service.control {
        Control::Systemd { unit } => system("systemctl", &["stop", "--", unit]),
        Control::Compose(compose) => compose::command(compose, around, &["stop"]),
        Control::Commands { stop, .. } => command_of(&subject, stop)?,
    };
    // Held by the command: when this process is killed, whoever comes next sees that it is still at work.
    let input = held_input(&stopping(service, around)).map_err(|source| ServiceError::Start {
        subject: subject.clone(),
        program: escape(command.get_program().as_encoded_bytes()),
        source,
    })?;
    run_ok_reading(&around.commands, &subject, command, input, service.stop_within)?;
    crash::point("service: asked to stop");
    loop {
        let what = match state(service, around)? {
            State::Down | State::Untold => return Ok(()),
            State::Activating(what) | State::Deactivating(what) => what,
            State::Runs(instance) => instance.to_string(),
        };
        // A stop command may return before the process is gone.
        if (around.now)().saturating_sub(begun) >= service.stop_within || (around.commands.stopped)() {
            return Err(ServiceError::StillRuns { subject, what });
        }
        (around.pause)(LOOK);
    }
}

fn stopping(service: &Service, around: &Watch<'_>) -> PathBuf {
    around.logs.join(format!("{}.stopping", service.name))
}

/// Lets commands come to their ends that a killed run had begun: a second start beside the first would be one too many, and a stop that comes late
/// would end what was started meanwhile. Each gets as long as the configuration gives it.
///
/// # Errors
/// Whether the service runs cannot be told.
pub fn let_commands_end(
    service: &Service,
    around: &Watch<'_>,
    note: &dyn Fn(&str),
) -> Result<(), ServiceError> {
    let stopping = stopping(service, around);
    let starting = around.logs.join(format!("{}.starting", service.name));
    let said =
        |what: &str| format!("a {what} command of {} that a killed run began is let end", service.name);
    wait_while(around, service.stop_within, || Ok(is_held(&stopping)), || note(&said("stop")))?;
    let starts = || Ok(is_held(&starting) && state(service, around)? == State::Down);
    wait_while(around, service.start_within, starts, || note(&said("start")))
}

/// Waits while `busy`, for `limit` at most; says so once.
fn wait_while(
    around: &Watch<'_>,
    limit: Duration,
    busy: impl Fn() -> Result<bool, ServiceError>,
    say: impl FnOnce(),
) -> Result<(), ServiceError> {
    let begun = (around.now)();
    if busy()? {
        say();
    }
    while (around.now)().saturating_sub(begun) < limit && busy()? {
        (around.pause)(LOOK);
    }
    Ok(())
}

/// Starts `service` and waits until it runs; whether it works is for its health check to say.
///
/// # Errors
/// The start failed or took longer than `start_within`, or it does not run.
pub fn start(service: &Service, around: &Watch<'_>) -> Result<State, ServiceError> {
    let begun = (around.now)();
    let subject = subject(service);
    match &service.control {
        Control::Systemd { unit } => {
            forget_failures(&subject, unit, around);
            run_ok(
                &around.commands,
                &subject,
                system("systemctl", &["start", "--", unit]),
                service.start_within,
            )?;
        }
        Control::Compose(compose) => {
            let command = compose::command(compose, around, &compose::UP);
            run_ok(&around.commands, &subject, command, service.start_within)?;
        }
        Control::Commands { start, .. } => {
            let log = around.logs.join(format!("{}.log", service.name));
            run_start(&around.commands, &subject, command_of(&subject, start)?, service.start_within, &log)?;
        }
    }
    loop {
        let what = match state(service, around)? {
            State::Down => "it is down".to_owned(),
            State::Activating(what) | State::Deactivating(what) => what,
            up => return Ok(up),
        };
        // A start command may return before the process has written its number.
        if (around.now)().saturating_sub(begun) >= service.start_within || (around.commands.stopped)() {
            return Err(ServiceError::DoesNotRun { subject, what });
        }
        (around.pause)(LOOK);
    }
}

/// A unit that failed too often is not started by systemd before its failures are forgotten.
fn forget_failures(subject: &str, unit: &str, around: &Watch<'_>) {
    let reset = system("systemctl", &["reset-failed", "--", unit]);
    drop(run(&around.commands, subject, reset, ASK));
}

/// Tells the manager of `service` to start it, and does not wait for that; false when it has none that takes such an order.
///
/// # Errors
/// The manager did not take it.
pub fn order_start(service: &Service, around: &Watch<'_>) -> Result<bool, ServiceError> {
    let Control::Systemd { unit } = &service.control else {
        return Ok(false);
    };
    let subject = subject(service);
    forget_failures(&subject, unit, around);
    let order = system("systemctl", &["start", "--no-block", "--", unit]);
    run_ok(&around.commands, &subject, order, ASK).map(|_nothing| true)
}

//! Services of a compose file, asked and told through `docker`.
//!
//! An answer that is not plainly one is none: nothing may be taken for down because a tool said something else than it should.

use crate::config::Compose;
use crate::model::path::escape;
use crate::service::control::{ASK, State};
use crate::service::run::{run, run_ok, system};
use crate::service::watch::Watch;
use crate::service::{Instance, ServiceError};
use std::process::Command;

/// What is asked of each container; [`Container::of`] reads it.
const FORMAT: &str = "{{.State.Running}} {{.State.Restarting}} {{.Id}} {{.State.StartedAt}}";

/// What starts services.
pub(super) const UP: [&str; 3] = ["up", "-d", "--no-build"];

/// How a person starts them.
pub(super) fn start_in_words(compose: &Compose) -> String {
    let project = compose.project.as_ref().map(|project| format!(" -p {project}")).unwrap_or_default();
    let words = UP.into_iter().chain(compose.services.iter().map(String::as_str)).collect::<Vec<_>>();
    format!("docker compose -f {}{project} {}", compose.file.display(), words.join(" "))
}

/// `docker compose`, or the older `docker-compose` where the first is not there, with `words` about the services.
pub(super) fn command(compose: &Compose, around: &Watch<'_>, words: &[&str]) -> Command {
    let plugin = system("docker", &["compose", "version"]);
    let plugin = run(&around.commands, "compose", plugin, ASK).is_ok_and(|outcome| outcome.code_zero);
    let mut command = if plugin { system("docker", &["compose"]) } else { system("docker-compose", &[]) };
    command.arg("-f").arg(&compose.file);
    if let Some(project) = &compose.project {
        command.arg("-p").arg(project);
    }
    command.args(words).args(&compose.services);
    command
}

/// Whether any of the services' containers runs.
pub(super) fn state(subject: &str, compose: &Compose, around: &Watch<'_>) -> Result<State, ServiceError> {
    let unknown = |why| ServiceError::Unknown { subject: subject.to_owned(), why };
    let ids = run_ok(&around.commands, subject, command(compose, around, &["ps", "-q"]), ASK)?;
    let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
    // They go to `docker` as arguments: none may look like an option.
    if let Some(id) = ids.iter().find(|id| !id.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return Err(unknown(format!("compose gives {:?} for a container", escape(id.as_bytes()))));
    }
    if ids.is_empty() {
        return Ok(State::Down);
    }
    let mut inspect = system("docker", &["inspect", "--format", FORMAT]);
    inspect.args(&ids);
    let said = run_ok(&around.commands, subject, inspect, ASK)?;
    let containers: Option<Vec<Container<'_>>> = said.lines().map(Container::of).collect();
    match containers.filter(|containers| containers.len() == ids.len()) {
        Some(containers) => Ok(together(&containers)),
        None => Err(unknown("docker does not say of each container whether it runs".to_owned())),
    }
}

struct Container<'s> {
    runs: bool,
    /// Between two tries to run it, too, docker says that it runs.
    restarts: bool,
    /// Its id, and when it was started.
    life: &'s str,
}

impl<'s> Container<'s> {
    fn of(line: &'s str) -> Option<Self> {
        let (runs, rest) = line.split_once(' ')?;
        let (restarts, life) = rest.split_once(' ')?;
        Some(Self { runs: runs.parse().ok()?, restarts: restarts.parse().ok()?, life })
    }
}

/// Any of them counts: one that did its work and ended is missed by nobody, and nothing is down while something of it still writes.
fn together(containers: &[Container<'_>]) -> State {
    if containers.iter().any(|container| container.restarts) {
        return State::Activating("a container ended and is being started again".to_owned());
    }
    let running = containers.iter().filter(|container| container.runs);
    let mut running: Vec<String> = running.map(|container| escape(container.life.as_bytes())).collect();
    running.sort_unstable();
    if running.is_empty() { State::Down } else { State::Runs(Instance::new(running.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(lines: &[&str]) -> Option<State> {
        let containers: Option<Vec<Container<'_>>> = lines.iter().map(|line| Container::of(line)).collect();
        Some(together(&containers?))
    }

    #[test]
    fn a_service_of_containers_is_what_all_of_them_are() {
        let runs = |life: &str| Some(State::Runs(Instance::new(life)));
        assert_eq!(state_of(&["true false b 2", "true false a 1"]), runs("a 1; b 2"));
        assert_eq!(state_of(&["false false a 1", "true false b 2"]), runs("b 2"));
        assert_eq!(state_of(&["false false a 1"]), Some(State::Down));
        assert!(matches!(state_of(&["true false a 1", "true true b 2"]), Some(State::Activating(_))));
        assert_eq!(state_of(&["true false a \u{1b}[2J"]), runs("a \\u{1b}[2J"));
        for line in ["", "true", "true false", "True false a 1", "yes no a 1", "Error: no such object"] {
            assert_eq!(state_of(&[line]), None, "{line}");
        }
    }
}

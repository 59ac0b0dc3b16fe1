//! A user's commands around a step: `before`, then the step, then `after` or `failed`, and `finally` whatever happened.
//!
//! A `before` that fails keeps the step from being taken. What runs after the step cannot undo it: its failure is a problem of its own, with its
//! own exit code, and never hides what the step did. Nothing here may leave out `failed` and `finally` once a `before` was run.

use crate::config::{CommandLine, Event, Hook};
use crate::model::{Problem, ProblemKind};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::session::Session;
use crate::service::{Around, ServiceError, run_line};
use std::time::Duration;

/// What ran a step with its hooks gives beside the step's own outcome.
pub(crate) struct Ran<T> {
    /// What the step gave.
    pub(crate) outcome: T,
    /// Hooks that failed after the step was taken.
    pub(crate) problems: Vec<Problem>,
}

/// Takes `step` with the hooks of `event` around it that concern `components`. `snapshot` names the snapshot of an outcome for what runs after it.
///
/// # Errors
/// A `before` failed ([`Class::Service`]; the step was not taken), or the step did.
pub(crate) fn around<T>(
    session: &Session,
    event: Event,
    components: &[String],
    snapshot: impl Fn(&T) -> String,
    step: impl FnOnce() -> Result<T>,
) -> Result<Ran<T>> {
    let hooks = Hooks::of(session, event, components);
    let done = hooks.before().and_then(|()| step());
    let problems = hooks.afterwards(&done, snapshot);
    Ok(Ran { outcome: done?, problems })
}

/// Runs the hooks that come after a step which a killed run had begun, with its `before`, and which came to its end now: in `done`.
pub(crate) fn afterwards<T>(
    session: &Session,
    event: Event,
    components: &[String],
    snapshot: impl Fn(&T) -> String,
    done: &Result<T>,
) -> Vec<Problem> {
    Hooks::of(session, event, components).afterwards(done, snapshot)
}

struct Hooks<'a> {
    session: &'a Session,
    event: &'static str,
    hooks: Vec<&'a Hook>,
    variables: Vec<(&'static str, String)>,
}

impl<'a> Hooks<'a> {
    /// Runs what comes after the step, and tells what failed of it.
    fn afterwards<T>(&self, done: &Result<T>, snapshot: impl Fn(&T) -> String) -> Vec<Problem> {
        let hooks = self;
        let mut problems = Vec::new();
        let mut told = hooks.variables.clone();
        match done {
            Ok(outcome) => {
                told.push(("BACKSTAY_SNAPSHOT", snapshot(outcome)));
                hooks.later("after", &told, |hook| hook.commands.after.as_ref(), &mut problems);
            }
            Err(error) => {
                told.push(("BACKSTAY_ERROR", error.to_string()));
                hooks.later("failed", &told, |hook| hook.commands.failed.as_ref(), &mut problems);
            }
        }
        hooks.later("finally", &told, |hook| hook.commands.finally.as_ref(), &mut problems);
        for problem in &problems {
            self.session.around.progress.problem(problem);
        }
        problems
    }

    fn of(session: &'a Session, event: Event, components: &[String]) -> Self {
        let hooks = session.config.iter().flat_map(|config| &config.hooks);
        let concerned = |hook: &&Hook| {
            hook.on == event
                && (hook.components.is_empty() || hook.components.iter().any(|c| components.contains(c)))
        };
        let event = match event {
            Event::Backup => "backup",
            Event::Restore => "restore",
            Event::Rollback => "rollback",
        };
        let variables = vec![
            ("BACKSTAY_ON", event.to_owned()),
            ("BACKSTAY_PROJECT", session.project.clone()),
            ("BACKSTAY_COMPONENTS", components.join(",")),
        ];
        Self { session, event, hooks: hooks.filter(concerned).collect(), variables }
    }

    /// Runs every `before`, in the order of the file, up to the first that fails.
    fn before(&self) -> Result<()> {
        for hook in &self.hooks {
            let Some(line) = &hook.commands.before else {
                continue;
            };
            let interrupt = &self.session.around.interrupt;
            let stopped = || interrupt.signal().is_some();
            if let Err(error) = self.run("before", line, &self.variables, hook.within, &stopped) {
                interrupt.check()?;
                let what = format!("the hook before the {} failed, so there was no {0}", self.event);
                return Err(OpError::new(Class::Service, what)
                    .because(error)
                    .hint("mend what the hook runs, or take the [[hook]] out of the configuration"));
            }
        }
        Ok(())
    }

    /// Runs what comes after the step, the last of the file first. It runs to its end also when the run was asked to end: it is there to clean up.
    fn later(
        &self,
        when: &str,
        variables: &[(&str, String)],
        pick: impl Fn(&Hook) -> Option<&CommandLine>,
        problems: &mut Vec<Problem>,
    ) {
        for hook in self.hooks.iter().rev() {
            let Some(line) = pick(hook) else {
                continue;
            };
            if let Err(error) = self.run(when, line, variables, hook.within, &|| false) {
                problems.push(Problem {
                    kind: ProblemKind::Hook,
                    component: None,
                    subject: format!("hook on {}", self.event),
                    what: error.to_string(),
                    hint: None,
                });
            }
        }
    }

    fn run(
        &self,
        when: &str,
        line: &CommandLine,
        variables: &[(&str, String)],
        limit: Duration,
        stopped: &dyn Fn() -> bool,
    ) -> std::result::Result<(), ServiceError> {
        let dir = self.session.config.as_ref().map(|config| config.dir.clone()).unwrap_or_default();
        let around = Around { dir: &dir, stopped };
        let mut variables = variables.to_vec();
        variables.push(("BACKSTAY_STEP", when.to_owned()));
        run_line(&around, &format!("`{when}`"), line, &variables, limit)
    }
}

//! `[[service]]` and `[[hook]]`: what is stopped and started around a capture or an exchange, and what a user wants run around a step.

use crate::config::block::{At, Block};
use crate::config::keys::SERVICE;
use crate::config::places::Role;
use crate::config::render::Found;
use crate::config::resolve::{Work, check_keys, name};
use crate::config::settings::{CommandLine, Component};
use crate::config::settings_service::{Compose, Control, Event, Health, Hook, HookCommands, Probe, Service};
use std::collections::BTreeSet;
use std::time::Duration;

/// A service that needs longer than this to stop hangs.
const STOP_WITHIN: Duration = Duration::from_secs(90);
const START_WITHIN: Duration = Duration::from_secs(90);
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);
const PASSES: u64 = 3;
const INTERVAL: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const HOOK_WITHIN: Duration = Duration::from_secs(600);

const KINDS: [&str; 3] = ["systemd", "compose", "stop"];

/// All services of the file, each checked by itself and against the others and the components.
pub(super) fn services(work: &mut Work<'_>, file: &mut Block, components: &[Component]) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    let mut wanted: Vec<(String, Vec<At<String>>)> = Vec::new();
    for mut block in file.blocks("service") {
        let at = block.text("name");
        let span = at.as_ref().map(|at| at.span.clone());
        let after = block.texts("after");
        let Some(service) = service(work, at, block, components) else {
            continue;
        };
        if services.iter().any(|s| s.name == service.name) {
            let what = format!("there are two services {:?}", service.name);
            work.mistake(Found::at(&span.unwrap_or_default(), what).hint("give each its own name"));
            continue;
        }
        wanted.push((service.name.clone(), after));
        services.push(service);
    }
    dependencies(work, &mut services, wanted);
    services
}

fn dependencies(work: &mut Work<'_>, services: &mut [Service], wanted: Vec<(String, Vec<At<String>>)>) {
    let names: BTreeSet<String> = services.iter().map(|s| s.name.clone()).collect();
    let mut last = None;
    for (service, (name, after)) in services.iter_mut().zip(wanted) {
        for At { value, span } in after {
            if value == name || !names.contains(&value) {
                let what =
                    format!("there is no other service {value:?} that {name:?} could be started after");
                work.mistake(Found::at(&span, what).hint("`after` takes names of other [[service]] entries"));
            } else {
                service.after.push(value);
                last = Some(span);
            }
        }
    }
    if let (Some(span), true) = (last, Service::in_order(services).is_none()) {
        let what = "services wait for each other in a circle, so none could be started first";
        work.mistake(Found::at(&span, what).hint("take one name out of an `after`"));
    }
}

fn service(
    work: &mut Work<'_>,
    at: Option<At<String>>,
    mut block: Block,
    components: &[Component],
) -> Option<Service> {
    let label = at.as_ref().map_or_else(|| "a service".to_owned(), |n| format!("service {:?}", n.value));
    let name = name(work, at);
    let kind = kind_of(work, &block, &label);
    if let Some(kind) = kind {
        check_keys(work, &block, &SERVICE, kind, "a service");
    }
    let control = match kind {
        Some("systemd") => block.text("systemd").and_then(|unit| systemd(work, unit)),
        Some("compose") => block.block("compose").and_then(|block| compose(work, block)),
        Some(_) => commands(work, &label, &mut block),
        None => None,
    };
    let components = known_components(work, &mut block, components);
    let health = block.block("health").and_then(|health| self::health(work, &label, health));
    Some(Service {
        name: name?,
        components,
        after: Vec::new(),
        control: control?,
        stop_within: block.time("stop_within").unwrap_or(STOP_WITHIN),
        start_within: block.time("start_within").unwrap_or(START_WITHIN),
        health,
    })
}

fn kind_of(work: &mut Work<'_>, block: &Block, label: &str) -> Option<&'static str> {
    let mut named: Vec<&'static str> = KINDS.into_iter().filter(|kind| block.has(kind)).collect();
    named.sort_by_key(|kind| block.named[kind].start);
    match named[..] {
        [kind] => Some(kind),
        [] => {
            let found = Found::at(&block.span, format!("{label} does not say how it is stopped and started"));
            work.mistake(found.hint("add `systemd`, `compose`, or `stop` and `start`"));
            None
        }
        [first, second, ..] => {
            let what = format!("`{first}` and `{second}` cannot stand in one service");
            work.mistake(Found::at(&block.named[second], what).hint("make two services of them"));
            None
        }
    }
}

/// A unit's name goes to `systemctl` as an argument: it must not look like an option.
fn systemd(work: &mut Work<'_>, At { value, span }: At<String>) -> Option<Control> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@:\\".contains(c);
    if value.starts_with('-') || !value.chars().all(fits) {
        let what = format!("{value:?} is no name of a systemd unit");
        work.mistake(Found::at(&span, what).hint("for example \"tsushin-backend\" or \"app@1.service\""));
        return None;
    }
    Some(Control::Systemd { unit: if value.contains('.') { value } else { format!("{value}.service") } })
}

fn compose(work: &mut Work<'_>, mut block: Block) -> Option<Control> {
    let file = block.text("file");
    let file = work.site(Role::Other, "the compose file", file);
    let mut services = Vec::new();
    for At { value, span } in block.texts("services") {
        if value.starts_with('-') {
            let what = format!("{value:?} is no name of a compose service");
            work.mistake(Found::at(&span, what).hint("use the names below `services:` of the compose file"));
        }
        services.push(value);
    }
    let project = block.text("project").map(|at| at.value);
    Some(Control::Compose(Compose { file: file?, project, services }))
}

fn commands(work: &mut Work<'_>, label: &str, block: &mut Block) -> Option<Control> {
    let stop = block.command("stop");
    let start = block.command("start");
    if let (Some(stop), None, false) = (&stop, &start, block.has("start")) {
        let what = format!("{label} can be stopped, and nothing says how it is started again");
        work.mistake(Found::at(&stop.span, what).hint("add `start`, the command that starts it"));
    }
    let pid_file = block.text("pid_file");
    let pid_file = work.site(Role::Other, "the pid file", pid_file);
    Some(Control::Commands { stop: stop?.value, start: start?.value, pid_file })
}

/// The components that `block` names; all when it names none.
fn known_components(work: &mut Work<'_>, block: &mut Block, components: &[Component]) -> Vec<String> {
    let mut named = Vec::new();
    for At { value, span } in block.texts("components") {
        if components.iter().any(|c| c.name.as_str() == value) {
            named.push(value);
        } else {
            let names: Vec<&str> = components.iter().map(|c| c.name.as_str()).collect();
            let what = format!("there is no component {value:?}");
            work.mistake(Found::at(&span, what).hint(format!("there are: {}", names.join(", "))));
        }
    }
    named
}

fn health(work: &mut Work<'_>, label: &str, mut block: Block) -> Option<Health> {
    let kinds = ["url", "tcp", "command", "sqlite"];
    let named: Vec<&str> = kinds.into_iter().filter(|kind| block.has(kind)).collect();
    let [kind] = named[..] else {
        let what = format!(
            "the health check of {label} must have exactly one of `url`, `tcp`, `command` and `sqlite`"
        );
        work.mistake(
            Found::at(&block.span, what).hint("health = { url = \"http://127.0.0.1:8080/health\" }"),
        );
        return None;
    };
    for only_url in ["status", "contains"] {
        if kind != "url" && block.has(only_url) {
            let what = format!("`{only_url}` means nothing in a health check with `{kind}`");
            work.mistake(Found::at(&block.named[only_url], what).hint("it belongs to checks with `url`"));
        }
    }
    let probe = probe(work, kind, &mut block)?;
    Some(Health {
        probe,
        within: block.time("within").unwrap_or(HEALTHY_WITHIN),
        passes: block.number("passes").unwrap_or(PASSES),
        interval: block.time("interval").unwrap_or(INTERVAL),
        timeout: block.time("timeout").unwrap_or(ANSWER_WITHIN),
    })
}

fn probe(work: &mut Work<'_>, kind: &str, block: &mut Block) -> Option<Probe> {
    match kind {
        "url" => {
            let At { value, span } = block.text("url")?;
            let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
            let host = rest.and_then(|rest| rest.split(['/', '?']).next()).filter(|host| !host.is_empty());
            if host.is_none_or(|host| host.contains('@')) {
                let what =
                    "the health check's `url` must be http:// or https://, with a host and without a user";
                work.mistake(Found::at(&span, what).hint("for example \"http://127.0.0.1:8081/api/health\""));
                return None;
            }
            let status = block.number("status").and_then(|n| u16::try_from(n).ok());
            Some(Probe::Url { url: value, status, contains: block.text("contains").map(|at| at.value) })
        }
        "tcp" => {
            let At { value, span } = block.text("tcp")?;
            let port = value.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
            if !matches!(port, Some((host, Ok(1..))) if !host.is_empty()) {
                let found = Found::at(&span, format!("{value:?} is no host and port"));
                work.mistake(found.hint("for example \"127.0.0.1:5432\""));
                return None;
            }
            Some(Probe::Tcp { address: value })
        }
        "command" => block.command("command").map(|at| Probe::Command { command: at.value }),
        _ => {
            let path = block.text("sqlite");
            work.site(Role::Other, "the database of the health check", path)
                .map(|path| Probe::Sqlite { path })
        }
    }
}

/// All hooks of the file.
pub(super) fn hooks(work: &mut Work<'_>, file: &mut Block, components: &[Component]) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for mut block in file.blocks("hook") {
        let on = block.text("on").map(|at| match at.value.as_str() {
            "restore" => Event::Restore,
            "rollback" => Event::Rollback,
            _ => Event::Backup,
        });
        let components = known_components(work, &mut block, components);
        let mut command = |key: &str| -> Option<CommandLine> { block.command(key).map(|at| at.value) };
        let commands = HookCommands {
            before: command("before"),
            after: command("after"),
            failed: command("failed"),
            finally: command("finally"),
        };
        let any = ["before", "after", "failed", "finally"].iter().any(|key| block.has(key));
        if !any {
            let found = Found::at(&block.span, "a hook has nothing to run");
            work.mistake(found.hint("add `before`, `after`, `failed` or `finally`"));
        }
        let within = block.time("within").unwrap_or(HOOK_WITHIN);
        hooks.extend(on.map(|on| Hook { on, components, commands, within }));
    }
    hooks
}

impl Service {
    /// The services in an order in which each comes after those it is started after; `None` when they wait for each other in a circle.
    pub fn in_order(services: &[Self]) -> Option<Vec<&Self>> {
        let mut ordered: Vec<&Self> = Vec::new();
        while ordered.len() < services.len() {
            let there = |name: &String| ordered.iter().any(|s| s.name == *name);
            let next = services
                .iter()
                .find(|s| !ordered.iter().any(|o| o.name == s.name) && s.after.iter().all(there))?;
            ordered.push(next);
        }
        Some(ordered)
    }

    /// True when `component` is one of those that this service works on.
    pub fn works_on(&self, component: &str) -> bool {
        self.components.is_empty() || self.components.iter().any(|c| c == component)
    }
}

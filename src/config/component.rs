//! One `[[component]]`: exactly one kind, and only the keys that mean something for it.

use crate::config::block::{At, Block};
use crate::config::keys::COMPONENT;
use crate::config::name::slug;
use crate::config::password;
use crate::config::places::Role;
use crate::config::rebuild::rebuilds;
use crate::config::render::Found;
use crate::config::resolve::{Work, check_keys};
use crate::config::settings::{CommandLine, Component, Spec, SqliteCheck};
use crate::model::ComponentName;
use std::path::PathBuf;
use std::time::Duration;

const KINDS: [&str; 5] = ["path", "paths", "sqlite", "command", "postgres"];
const LOCK_LIMIT: Duration = Duration::from_secs(2);
/// A dump that hangs must not hang all later backups with it; a dump of hours must be able to end.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);
const MIN_SIZE: u64 = 1;

/// The component that `block` describes; `None` when a mistake was found that leaves nothing to work with.
pub(super) fn component(
    work: &mut Work<'_>,
    name: Option<At<String>>,
    mut block: Block,
) -> Option<Component> {
    let label =
        name.as_ref().map_or_else(|| "a component".to_owned(), |n| format!("component {:?}", n.value));
    let name = name.and_then(|name| component_name(work, &name));
    let kind = kind_of(work, &block, &label);
    if let Some(kind) = kind {
        check_keys(work, &block, &COMPONENT, kind, "a component");
    }
    let spec = kind.and_then(|kind| match kind {
        "path" => Some(Spec::Folder { path: work.site(Role::Component, &label, block.text("path"))? }),
        "paths" => paths(work, &label, &mut block),
        "sqlite" => sqlite(work, &label, &mut block),
        "postgres" => postgres(work, &mut block),
        _ => command(work, &mut block),
    });
    let check = block.command("check").map(|at| at.value);
    let exclude = patterns(work, &mut block, "exclude");
    let exclude_from = file_names(work, &mut block, "exclude_from");
    let exclude_if_present = file_names(work, &mut block, "exclude_if_present");
    let allow_unreadable = patterns(work, &mut block, "allow_unreadable");
    let leave = patterns(work, &mut block, "leave");
    let rebuild = rebuilds(work, &mut block);
    Some(Component {
        name: name?,
        spec: spec?,
        exclude,
        exclude_from,
        exclude_caches: block.flag("exclude_caches"),
        exclude_if_present,
        one_file_system: block.flag("one_file_system"),
        allow_unreadable,
        strict: block.flag("strict"),
        leave,
        rebuild,
        check,
        with_services_stopped: block.flag("with_services_stopped"),
        full_every: block.time("full_every"),
    })
}

fn component_name(work: &mut Work<'_>, name: &At<String>) -> Option<ComponentName> {
    match name.value.parse::<ComponentName>() {
        Ok(name) => Some(name),
        Err(error) => {
            let found = Found::at(&name.span, error.to_string());
            work.mistake(match slug(&name.value) {
                Some(slug) => found.hint(format!("did you mean `{slug}`?")),
                None => found,
            });
            None
        }
    }
}

fn kind_of(work: &mut Work<'_>, block: &Block, label: &str) -> Option<&'static str> {
    let mut named: Vec<&'static str> = KINDS.into_iter().filter(|kind| block.has(kind)).collect();
    named.sort_by_key(|kind| block.named[kind].start);
    match named[..] {
        [kind] => Some(kind),
        [] => {
            if !block.later {
                let found = Found::at(&block.span, format!("{label} says nothing to protect"));
                work.mistake(found.hint("add one of `path`, `paths`, `sqlite`, `command` or `postgres`"));
            }
            None
        }
        [first, second, ..] => {
            let what = format!("`{first}` and `{second}` cannot stand in one component");
            work.mistake(Found::at(&block.named[second], what).hint("make two components of them"));
            None
        }
    }
}

fn paths(work: &mut Work<'_>, label: &str, block: &mut Block) -> Option<Spec> {
    let texts = block.texts("paths").into_iter();
    let paths: Vec<PathBuf> = texts.filter_map(|at| work.site(Role::Component, label, Some(at))).collect();
    (!paths.is_empty()).then_some(Spec::Paths { paths })
}

fn sqlite(work: &mut Work<'_>, label: &str, block: &mut Block) -> Option<Spec> {
    let check = block.command("check").map_or(SqliteCheck::default(), |At { value, span }| match value {
        CommandLine::Shell(word) if word == "auto" => SqliteCheck::Auto,
        CommandLine::Shell(word) if word == "always" => SqliteCheck::Always,
        CommandLine::Shell(word) if word == "never" => SqliteCheck::Never,
        _ => {
            let what = "`check` of a SQLite component must be `auto`, `always` or `never`";
            work.mistake(
                Found::at(&span, what).hint("auto: at every snapshot up to 4 GiB, above that in drills"),
            );
            SqliteCheck::Auto
        }
    });
    let path = work.site(Role::Component, label, block.text("sqlite"))?;
    Some(Spec::Sqlite { path, check, lock_limit: block.time("lock_limit").unwrap_or(LOCK_LIMIT) })
}

fn command(work: &mut Work<'_>, block: &mut Block) -> Option<Spec> {
    let mut line = |key| Some(block.command(key)?.value);
    let (command, restore_command, check) = (line("command"), line("restore_command"), line("check"));
    let env_file = block.text("env_file");
    let env_file = work.site(Role::Other, "the file of variables", env_file);
    Some(Spec::Command {
        command: command?,
        restore_command,
        check,
        env_file,
        timeout: block.time("timeout").unwrap_or(TIMEOUT),
        min_size: block.number("min_size").unwrap_or(MIN_SIZE),
    })
}

fn postgres(work: &mut Work<'_>, block: &mut Block) -> Option<Spec> {
    if let Some(At { span, .. }) = block.command("check") {
        let what =
            "`check` means nothing in a component with `postgres`: its dumps are read to their ends anyway";
        work.mistake(Found::at(&span, what).hint("remove it"));
    }
    let connection = block.text("postgres").map(|At { value, span }| {
        if value.contains("password") && value.contains('=') || password::in_url(&value).is_some() {
            let what = "a password stands in `postgres`: while a dump is made, every user of this machine can read it";
            let hint = "put it into ~/.pgpass, or as PGPASSWORD=… into a file that only you can read and name that as `env_file`";
            work.mistake(Found::at(&span, what).hint(hint));
        }
        value
    });
    let env_file = block.text("env_file");
    let env_file = work.site(Role::Other, "the file of variables", env_file);
    Some(Spec::Postgres {
        connection: connection?,
        env_file,
        timeout: block.time("timeout").unwrap_or(TIMEOUT),
    })
}

fn patterns(work: &mut Work<'_>, block: &mut Block, key: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    for At { value, span } in block.texts(key) {
        if value.starts_with('#') {
            let hint = format!("write \"\\\\{value}\" if a name begins with #");
            work.mistake(
                Found::at(&span, "a pattern that begins with # is a comment and matches nothing").hint(hint),
            );
        }
        let mut builder = ignore::gitignore::GitignoreBuilder::new("/");
        if value.contains('\n') {
            work.mistake(Found::at(&span, "a pattern is one line").hint("make a list of them"));
        } else if let Err(error) = builder.add_line(None, &value) {
            let what = format!("{value:?} is not a pattern: {}", glob_error(&error));
            work.mistake(Found::at(&span, what).hint("patterns are those of .gitignore"));
        }
        patterns.push(value);
    }
    patterns
}

fn glob_error(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        other => other.to_string(),
    }
}

fn file_names(work: &mut Work<'_>, block: &mut Block, key: &str) -> Vec<String> {
    let mut names = Vec::new();
    for At { value, span } in block.texts(key) {
        if value.contains('/') || value == "." || value == ".." {
            let what = format!("`{key}` takes file names, which are looked for in every folder, not paths");
            work.mistake(Found::at(&span, what).hint("for example: \".gitignore\""));
        }
        names.push(value);
    }
    names
}

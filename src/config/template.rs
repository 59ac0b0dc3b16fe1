//! The text of a new `backstay.toml`, and of an old one with a store more.
//!
//! What is written here must be accepted by [`Config::parse`]; tests hold that for every kind of proposal.

use crate::config::propose::{Proposal, Proposed, What};
use crate::config::render::ConfigErrors;
use crate::config::settings::{Config, Trusted};
use crate::model::VaultId;
use crate::model::mark::Role;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// What a new configuration says beside its components. Paths may be relative to the file; absolute ones do not depend on where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// Name of the project.
    pub project: String,
    /// The vault, where its id is known.
    pub vault: Option<VaultId>,
    /// Name and place of each store, the primary first: a path, or an address with `://`.
    pub stores: Vec<(String, String)>,
    /// Servers of stores with addresses, by the store's name, where they are not the provider's own.
    pub endpoints: BTreeMap<String, String>,
    /// Public keys that open the snapshots.
    pub recipients: Vec<String>,
    /// The private key, unless it is kept off this machine.
    pub identity_file: Option<String>,
    /// The signing key.
    pub key_file: String,
    /// Keys that are trusted; this host's own among them.
    pub trusted: Vec<Trusted>,
    /// Directory of the state.
    pub state_dir: String,
}

const HEAD: &str = "\
# What backstay protects here, where it keeps it, and who can open it.
# Every key is explained in docs/configuration.md. Relative paths are relative to this file.
# A copy of this file goes, encrypted, into every snapshot: put no passwords or private keys into it.
";

const KINDS: &str = "
# More kinds of components, and what else a folder can say:
#
# [[component]]
# name = \"uploads\"
# path = \"/srv/uploads\"
# exclude_from = [\".gitignore\"]         # files with further patterns, looked for in every folder
# exclude_caches = true                 # leaves out folders with a CACHEDIR.TAG
# one_file_system = true                # stays on the file system of the folder
# allow_unreadable = [\"run/\"]           # may be unreadable without making the snapshot incomplete
# leave = [\".env\"]                      # a rollback leaves these as they are
# with_services_stopped = true          # its services are stopped while it is captured
# full_every = \"30d\"                    # how often it is packed anew, so that it needs no older archive; never by itself without
#
# [[component]]
# name = \"orders\"
# postgres = \"service=orders\"           # dumped and checked; a password belongs into ~/.pgpass or env_file
#
# [[component]]
# name = \"crm\"
# command = [\"pg_dump\", \"-Fc\", \"-Z0\", \"orders\"]              # its output is kept
# restore_command = [\"pg_restore\", \"--clean\", \"-d\", \"orders\"] # gets it back on its standard input
# check = [\"pg_restore\", \"--list\"]                           # says whether it is sound
# env_file = \"/etc/backstay/orders.env\"                      # PGPASSWORD=… belongs here
# timeout = \"6h\"
# min_size = \"1kB\"                                           # less output is a failure
";

const BUCKET: &str = "
# A store in a bucket. Keys come from the environment, ~/.aws or credentials_file, never from this file.
#
# [[store]]
# name = \"offsite\"
# url = \"s3://my-bucket/{host}/project\"  # {host} is this machine's name; ${VAR} works here and nowhere else
# endpoint = \"https://minio.example\"    # for servers other than AWS
# region = \"eu-central-1\"
# limit_upload = \"5MiB/s\"
";

const RETENTION: &str = "
# How long snapshots are kept; `backstay prune --dry-run` shows what each rule keeps.
[retention]
keep_within = \"7d\"                      # everything of the last 7 days
keep_weekly_within = \"30d\"              # and the first of each week for 30 days
min_keep = 3                            # never fewer good snapshots than this
# keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly = a number; keep_tags = [\"stable\"]
";

const SCHEDULE: &str = "
# What `backstay agent` runs by itself, and when: minute hour day-of-month month day-of-week.
# `backstay agent --print systemd` (or timer, or cron) shows what runs it.
#
# [schedule]
# backup = [\"0 3 * * *\"]                # or { at = \"*/15 * * * *\", only = [\"db\"] }
# verify = \"0 5 * * *\"                  # proves a part of what is stored
# drill = \"0 6 * * SUN\"                 # really brings a snapshot back, and takes it away again
# prune = \"30 5 * * *\"
# timezone = \"Europe/Berlin\"
# jitter = \"20m\"                        # each begins up to so much later, so that many machines do not begin at once
";

const NOTIFY: &str = "
# Who is told of failures and their end. Addresses and tokens that are secret stand in files of their own.
#
# [notify]
# failure = [{ ntfy = \"https://ntfy.example/backups\" }]  # or webhook, slack_file, discord_file, email, command
# ping = { url_file = \"/etc/backstay/ping\" }             # a service that raises the alarm when it hears nothing
# stale = \"26h\"                         # no backup that went well for so long is trouble
";

const PACKING: &str = "
# [packing]
# level = 3                             # zstd, 1 (fast) to 19 (small)
# archive_size = \"64MiB\"                # otherwise it follows from the size of the component
";

/// Writes a configuration with the components of `proposal`.
pub fn render(proposal: &Proposal, values: &Values) -> String {
    let mut out = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = project(&mut out, values);
    if proposal.components.is_empty() {
        out.push_str("\n# Nothing to protect was found in this folder. Write components like these:\n");
    }
    for component in &proposal.components {
        let _ = write_component(&mut out, component);
    }
    out.push_str(KINDS);
    for note in &proposal.notes {
        let note: String = note.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = write!(out, "\n# Note: {note}.");
    }
    if !proposal.notes.is_empty() {
        out.push('\n');
    }
    let _ = stores(&mut out, values);
    out.push_str(BUCKET);
    let _ = keys(&mut out, values);
    out.push_str(RETENTION);
    out.push_str(SCHEDULE);
    out.push_str(NOTIFY);
    out.push_str(PACKING);
    let dir = quoted(&values.state_dir);
    let _ = write!(
        out,
        "\n# Catalog, lock, spool and journal of this host. Two hosts must not share it.\n[state]\ndir = {dir}\n"
    );
    out
}

/// `text`, the configuration at `path`, with one more `[[store]]` at its end; the rest stays as it is, byte for byte.
///
/// # Errors
/// Every mistake of the text that results: those it had, a name or path that is there already, or stores written in a way that nothing
/// can be added to (`store = [{ … }]`).
pub fn add_store(text: &str, path: &Path, name: &str, place: &str) -> Result<String, ConfigErrors> {
    let mut out = text.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines = ["", "[[store]]", &format!("name = {}", quoted(name)), &place_line(place)];
    lines.iter().for_each(|line| {
        out.push_str(line);
        out.push_str(end);
    });
    Config::parse(&out, path).map(|_| out)
}

/// Where a store is: a path, unless it looks like an address.
fn place_line(place: &str) -> String {
    let key = if place.contains("://") { "url" } else { "path" };
    format!("{key} = {}", quoted(place))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let texts: Vec<String> = texts.into_iter().map(|t| quoted(t)).collect();
    format!("[{}]", texts.join(", "))
}

fn project(out: &mut String, values: &Values) -> std::fmt::Result {
    writeln!(out, "\n[project]\nname = {}", quoted(&values.project))?;
    match &values.vault {
        Some(vault) => {
            writeln!(out, "vault = {:<33}# stores of any other vault are refused", quoted(&vault.to_string()))
        }
        None => Ok(()),
    }
}

fn write_component(out: &mut String, component: &Proposed) -> std::fmt::Result {
    writeln!(out, "\n[[component]]\nname = {}", quoted(&component.name))?;
    match &component.what {
        What::Folder(path) => writeln!(out, "path = {}", quoted(path))?,
        What::Paths(paths) if paths.len() <= 4 => writeln!(out, "paths = {}", list(paths))?,
        What::Paths(paths) => {
            writeln!(out, "paths = [")?;
            paths.iter().try_for_each(|path| writeln!(out, "    {},", quoted(path)))?;
            writeln!(out, "]")?;
        }
        What::Sqlite(path) => {
            writeln!(out, "sqlite = {}", quoted(path))?;
            writeln!(out, "# captured while it is in use; left out of the folder it lies in")?;
        }
    }
    if component.small {
        writeln!(
            out,
            "full_every = \"30d\"                     # once a month it is packed anew, and needs no older archive"
        )?;
    }
    if component.exclude.is_empty() {
        return Ok(());
    }
    writeln!(out, "# gitignore patterns. A rollback leaves what is excluded as it is.\nexclude = [")?;
    for (pattern, why) in &component.exclude {
        writeln!(out, "    {:<36}# {why}", quoted(pattern) + ",")?;
    }
    writeln!(out, "]")
}

fn stores(out: &mut String, values: &Values) -> std::fmt::Result {
    writeln!(
        out,
        "\n# The first store is the primary. Stores are left out of every component by themselves."
    )?;
    writeln!(out, "# One on another disk survives this one's end; one on this disk survives mistakes only.")?;
    for (i, (name, path)) in values.stores.iter().enumerate() {
        let blank = if i == 0 { "" } else { "\n" };
        writeln!(out, "{blank}[[store]]\nname = {}\n{}", quoted(name), place_line(path))?;
        if let Some(endpoint) = values.endpoints.get(name) {
            writeln!(out, "endpoint = {}", quoted(endpoint))?;
        }
    }
    Ok(())
}

fn keys(out: &mut String, values: &Values) -> std::fmt::Result {
    writeln!(
        out,
        "\n[encryption]\n# Public keys. Who has the private key of any of them can open the snapshots; nobody else can."
    )?;
    writeln!(out, "recipients = {}", list(&values.recipients))?;
    match &values.identity_file {
        Some(file) => writeln!(
            out,
            "# The private key. Keep a copy of it off this machine: without one nothing can be restored.\nidentity_file = {}",
            quoted(file)
        )?,
        None => writeln!(
            out,
            "# The private key is not on this machine: restoring needs it, given with -i FILE."
        )?,
    }
    writeln!(
        out,
        "\n[signing]\n# Signs every snapshot of this host, so that a forged or hidden one is noticed."
    )?;
    writeln!(out, "key_file = {}", quoted(&values.key_file))?;
    if values.trusted.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "# Whose signatures count. Roles: host (its own snapshots), verify (its verdicts), prune (may delete).\ntrusted = ["
    )?;
    for trusted in &values.trusted {
        let roles: Vec<String> = trusted.roles.iter().map(|r| quoted(role(*r))).collect();
        let (key, name) = (quoted(&trusted.key), quoted(&trusted.name));
        writeln!(out, "    {{ key = {key}, name = {name}, roles = [{}] }},", roles.join(", "))?;
    }
    writeln!(out, "]")
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Host => "host",
        Role::Verify => "verify",
        Role::Prune => "prune",
    }
}

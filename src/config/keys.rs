//! The one table of keys: what may stand in `backstay.toml`, of what type, with what default.
//!
//! The reader walks it, `docs/configuration.md` is tested against it. A key that the design knows and this version does not act on is
//! `Later` and refused by name: silence would let somebody believe that it works.

use crate::config::notify::EVENTS;
use crate::config::schema::{Kind, Section, later, of, optional, required};

const DAY: u64 = 86_400;
const COUNT: Kind = Kind::Count { min: 1, max: 100_000 };
const SPAN: Kind = Kind::Duration { min: 1, max: u64::MAX };

/// The whole file.
pub(super) const FILE: Section = Section {
    title: "the file",
    keys: &[
        required("project", Kind::Table(&PROJECT), "it names the project"),
        optional("component", Kind::Tables(&COMPONENT), "none"),
        required("store", Kind::Tables(&STORE), "it says where snapshots are kept"),
        optional("encryption", Kind::Table(&ENCRYPTION), "none"),
        required("signing", Kind::Table(&SIGNING), "it says which key signs this host's snapshots"),
        optional("retention", Kind::Table(&RETENTION), "7 days, and one a week for 30 days"),
        optional("packing", Kind::Table(&PACKING), "none"),
        optional("service", Kind::Tables(&SERVICE), "none"),
        optional("hook", Kind::Tables(&HOOK), "none"),
        optional("emergency", Kind::Table(&EMERGENCY), "none"),
        optional("verify", Kind::Table(&VERIFY), "none"),
        optional("schedule", Kind::Table(&SCHEDULE), "none: nothing is run by itself"),
        optional("notify", Kind::Table(&NOTIFY), "none: nobody is told"),
        optional("agent", Kind::Table(&AGENT), "none"),
        required("state", Kind::Table(&STATE), "it says where this host keeps its catalog, lock and spool"),
    ],
};

/// `[project]`.
const PROJECT: Section = Section {
    title: "[project]",
    keys: &[
        required("name", Kind::Name, "it names the project"),
        optional("vault", Kind::Text, "that of the primary store"),
    ],
};

const FILES: &[&str] = &["path", "paths"];
const FOLDER: &[&str] = &["path"];
const SQLITE: &[&str] = &["sqlite"];
const COMMAND: &[&str] = &["command"];
const DUMPS: &[&str] = &["command", "postgres"];

/// `[[component]]`.
pub(super) const COMPONENT: Section = Section {
    title: "[[component]]",
    keys: &[
        required("name", Kind::Name, "snapshots and commands name the component by it"),
        optional("path", Kind::Path, "none"),
        optional("paths", Kind::Paths, "none"),
        optional("sqlite", Kind::Path, "none"),
        optional("command", Kind::Command, "none"),
        optional("postgres", Kind::Text, "none"),
        of(FILES, "exclude", Kind::Patterns, "none"),
        of(FILES, "exclude_from", Kind::FileNames, "none"),
        of(FILES, "exclude_caches", Kind::Flag, "false"),
        of(FILES, "exclude_if_present", Kind::FileNames, "none"),
        of(FILES, "one_file_system", Kind::Flag, "false"),
        of(FILES, "allow_unreadable", Kind::Patterns, "none"),
        of(FILES, "strict", Kind::Flag, "false"),
        of(FILES, "leave", Kind::Patterns, "none"),
        of(FOLDER, "rebuild", Kind::Tables(&REBUILD), "none"),
        optional("with_services_stopped", Kind::Flag, "false"),
        optional("full_every", Kind::Duration { min: DAY, max: u64::MAX }, "never"),
        optional("check", Kind::Check, "`auto` for SQLite, else none"),
        of(SQLITE, "lock_limit", Kind::Duration { min: 0, max: 60 }, "2s"),
        of(COMMAND, "restore_command", Kind::Command, "none"),
        of(DUMPS, "env_file", Kind::Path, "none"),
        of(DUMPS, "timeout", Kind::Duration { min: 1, max: 30 * DAY }, "6h"),
        of(COMMAND, "min_size", Kind::Size { min: 0, max: u64::MAX }, "1B"),
        later("archive_size", "set `archive_size` in [packing]; it holds for all components"),
    ],
};

/// `rebuild` of a component.
const REBUILD: Section = Section {
    title: "[[component.rebuild]]",
    keys: &[
        optional("when", Kind::Texts, "always"),
        required("run", Kind::Command, "it is what makes what was left fit again"),
        optional("within", WAIT, "10m"),
    ],
};

const URL: &[&str] = &["url"];
/// A limit below this makes of every request one that takes too long.
const RATE: Kind = Kind::Rate { min: 16 << 10, max: 1 << 40 };

/// `[[store]]`.
pub(super) const STORE: Section = Section {
    title: "[[store]]",
    keys: &[
        required("name", Kind::Name, "commands name the store by it"),
        optional("path", Kind::Path, "none"),
        optional("url", Kind::Text, "none"),
        of(URL, "endpoint", Kind::Text, "AWS"),
        of(URL, "region", Kind::Text, "that of the environment or profile, else `us-east-1`"),
        of(URL, "path_style", Kind::Flag, "true with `endpoint`, else false"),
        of(URL, "profile", Kind::Text, "`AWS_PROFILE`, else `default`"),
        of(URL, "credentials_file", Kind::Path, "none"),
        of(URL, "ca_file", Kind::Path, "none"),
        of(URL, "storage_class", Kind::Text, "that of the bucket"),
        of(URL, "sse", Kind::Text, "that of the bucket"),
        of(URL, "checksum", Kind::Word(&["auto", "sha256", "none"]), "auto"),
        of(URL, "limit_upload", RATE, "none"),
        of(URL, "limit_download", RATE, "none"),
        of(URL, "allow_http", Kind::Flag, "false"),
        optional("prune", Kind::Word(&["here", "elsewhere"]), "here"),
        optional("retention", Kind::Table(&RETENTION), "that of the file"),
    ],
};

const COMMANDS: &[&str] = &["stop"];
const WAIT: Kind = Kind::Duration { min: 1, max: DAY };

/// `[[service]]`.
pub(super) const SERVICE: Section = Section {
    title: "[[service]]",
    keys: &[
        required("name", Kind::Name, "messages name the service by it"),
        optional("components", Kind::Texts, "all"),
        optional("after", Kind::Texts, "none"),
        optional("systemd", Kind::Text, "none"),
        optional("compose", Kind::Table(&COMPOSE), "none"),
        optional("stop", Kind::Command, "none"),
        of(COMMANDS, "start", Kind::Command, "none"),
        of(COMMANDS, "pid_file", Kind::Path, "none"),
        optional("stop_within", WAIT, "90s"),
        optional("start_within", WAIT, "90s"),
        optional("health", Kind::Table(&HEALTH), "none: a service that runs is believed"),
    ],
};

/// `compose` of a service.
const COMPOSE: Section = Section {
    title: "[service.compose]",
    keys: &[
        required("file", Kind::Path, "it says which compose file is meant"),
        optional("project", Kind::Name, "that of the file's folder"),
        optional("services", Kind::Texts, "all of the file"),
    ],
};

/// `health` of a service.
const HEALTH: Section = Section {
    title: "[service.health]",
    keys: &[
        optional("url", Kind::Text, "none"),
        optional("tcp", Kind::Text, "none"),
        optional("command", Kind::Command, "none"),
        optional("sqlite", Kind::Path, "none"),
        optional("status", Kind::Count { min: 100, max: 599 }, "any from 200 to 299"),
        optional("contains", Kind::Text, "none"),
        optional("within", WAIT, "30s"),
        optional("passes", Kind::Count { min: 1, max: 100 }, "3"),
        optional("interval", WAIT, "1s"),
        optional("timeout", WAIT, "5s"),
    ],
};

/// `[[hook]]`.
const HOOK: Section = Section {
    title: "[[hook]]",
    keys: &[
        required("on", Kind::Word(&["backup", "restore", "rollback"]), "it says what the hook stands around"),
        optional("before", Kind::Command, "none"),
        optional("after", Kind::Command, "none"),
        optional("failed", Kind::Command, "none"),
        optional("finally", Kind::Command, "none"),
        optional("components", Kind::Texts, "any"),
        optional("within", WAIT, "10m"),
    ],
};

/// `[emergency]`.
const EMERGENCY: Section = Section {
    title: "[emergency]",
    keys: &[required("command", Kind::Command, "it is what to try when no snapshot can be used")],
};

/// `[encryption]`.
const ENCRYPTION: Section = Section {
    title: "[encryption]",
    keys: &[
        required("recipients", Kind::Texts, "it says who can open the snapshots"),
        optional("identity_file", Kind::Path, "none: this host cannot open its snapshots"),
        optional("passphrase_file", Kind::Path, "none: the passphrase is asked on the terminal"),
    ],
};

/// `[signing]`.
const SIGNING: Section = Section {
    title: "[signing]",
    keys: &[
        required("key_file", Kind::Path, "it says which key signs this host's snapshots"),
        optional("trusted", Kind::Tables(&TRUSTED), "none"),
    ],
};

/// The words of `roles`, in the order of the documentation.
const ROLES: &[&str] = &["host", "verify", "prune"];

/// An entry of `trusted`.
const TRUSTED: Section = Section {
    title: "[[signing.trusted]]",
    keys: &[
        required("key", Kind::Text, "it is the public key that is trusted"),
        required("name", Kind::Text, "messages name the key by it"),
        required("roles", Kind::Words(ROLES), "it says what the key is trusted to sign"),
    ],
};

/// `[retention]`.
const RETENTION: Section = Section {
    title: "[retention]",
    keys: &[
        optional("keep_last", COUNT, "none"),
        optional("keep_hourly", COUNT, "none"),
        optional("keep_daily", COUNT, "none"),
        optional("keep_weekly", COUNT, "none"),
        optional("keep_monthly", COUNT, "none"),
        optional("keep_yearly", COUNT, "none"),
        optional("keep_within", SPAN, "none"),
        optional("keep_hourly_within", SPAN, "none"),
        optional("keep_daily_within", SPAN, "none"),
        optional("keep_weekly_within", SPAN, "none"),
        optional("keep_monthly_within", SPAN, "none"),
        optional("keep_yearly_within", SPAN, "none"),
        optional("keep_tags", Kind::Texts, "none"),
        optional("min_keep", COUNT, "3"),
        optional("timezone", Kind::Text, "this machine's"),
    ],
};

/// `[packing]`.
const PACKING: Section = Section {
    title: "[packing]",
    keys: &[
        optional("level", Kind::Count { min: 1, max: 19 }, "3"),
        optional(
            "archive_size",
            Kind::Size { min: 1 << 20, max: 4 << 30 },
            "a 256th of the component, 32MiB to 1GiB",
        ),
    ],
};

/// `[verify]`.
const VERIFY: Section = Section {
    title: "[verify]",
    keys: &[
        optional("reverify", Kind::Duration { min: DAY, max: 3650 * DAY }, "30d"),
        optional("scratch", Kind::Path, "`scratch` in the state directory"),
    ],
};

/// `[schedule]`.
const SCHEDULE: Section = Section {
    title: "[schedule]",
    keys: &[
        optional("backup", Kind::Times(&TIMES), "none"),
        optional("verify", Kind::Text, "none"),
        optional("drill", Kind::Text, "none"),
        optional("prune", Kind::Text, "none"),
        optional("timezone", Kind::Text, "this machine's"),
        optional("jitter", Kind::Duration { min: 1, max: DAY }, "none"),
        optional("verify_percent", Kind::Count { min: 0, max: 100 }, "5"),
    ],
};

/// An entry of `backup`.
const TIMES: Section = Section {
    title: "[[schedule.backup]]",
    keys: &[required("at", Kind::Text, "it says when"), optional("only", Kind::Texts, "all")],
};

/// A target that takes longer keeps every command from its end.
const TELLING: Kind = Kind::Duration { min: 1, max: 300 };

/// `[notify]`.
const NOTIFY: Section = Section {
    title: "[notify]",
    keys: &[
        optional("failure", Kind::Tables(&TARGET), "none"),
        optional("ping", Kind::Table(&PING), "none"),
        optional("stale", Kind::Duration { min: 3600, max: 3650 * DAY }, "never"),
    ],
};

/// An entry of `failure`.
const TARGET: Section = Section {
    title: "[[notify.failure]]",
    keys: &[
        optional("webhook", Kind::Text, "none"),
        optional("webhook_file", Kind::Text, "none"),
        optional("slack_file", Kind::Text, "none"),
        optional("discord_file", Kind::Text, "none"),
        optional("ntfy", Kind::Text, "none"),
        optional("ntfy_file", Kind::Text, "none"),
        optional("email", Kind::Text, "none"),
        optional("from", Kind::Text, "none"),
        optional("smtp", Kind::Text, "none"),
        optional("password_file", Kind::Text, "none"),
        optional("ca_file", Kind::Path, "none"),
        optional("command", Kind::Command, "none"),
        optional("token_file", Kind::Text, "none"),
        optional("events", Kind::Words(&EVENTS), "all"),
        optional("within", TELLING, "30s"),
    ],
};

/// `ping`.
const PING: Section = Section {
    title: "[notify.ping]",
    keys: &[
        required("url_file", Kind::Text, "it says where the address is"),
        optional("start_and_fail", Kind::Flag, "true"),
        optional("within", TELLING, "30s"),
    ],
};

/// `[agent]`.
const AGENT: Section = Section {
    title: "[agent]",
    keys: &[
        optional("textfile", Kind::Path, "none"),
        optional("page", Kind::Text, "none"),
        optional("token_file", Kind::Text, "none"),
    ],
};

/// `[state]`.
const STATE: Section = Section {
    title: "[state]",
    keys: &[required("dir", Kind::Path, "it says where this host keeps its catalog, lock and spool")],
};

/// Every section, for hints and for the test of the documentation.
pub(super) const SECTIONS: [&Section; 23] = [
    &FILE,
    &PROJECT,
    &COMPONENT,
    &REBUILD,
    &STORE,
    &SERVICE,
    &COMPOSE,
    &HEALTH,
    &HOOK,
    &EMERGENCY,
    &ENCRYPTION,
    &SIGNING,
    &TRUSTED,
    &RETENTION,
    &PACKING,
    &VERIFY,
    &SCHEDULE,
    &TIMES,
    &NOTIFY,
    &TARGET,
    &PING,
    &AGENT,
    &STATE,
];

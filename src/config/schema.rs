//! The one table of keys: what may stand in `backstay.toml`, of what type, with what default.
//!
//! The reader walks it, `docs/configuration.md` is tested against it. A key that the design knows and this version does not act on is
//! `Later` and refused by name: silence would let somebody believe that it works.

/// What a key's value is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Any text but the empty one.
    Text,
    /// A name that is also used in paths.
    Name,
    /// A path, relative to the file.
    Path,
    /// A non-empty list of paths.
    Paths,
    /// A list of texts.
    Texts,
    /// A list of gitignore patterns.
    Patterns,
    /// A list of file names without `/`.
    FileNames,
    /// `true` or `false`.
    Flag,
    /// A whole number in a range.
    Count { min: u64, max: u64 },
    /// A duration with a unit.
    Duration { min: u64, max: u64 },
    /// A size with a unit, in a range of bytes.
    Size { min: u64, max: u64 },
    /// A list of some of these words.
    Words(&'static [&'static str]),
    /// A list of program and arguments, or a line for the shell.
    Command,
    /// `check`: a word for databases, a command for commands.
    Check,
    /// `[key]`.
    Table(&'static Section),
    /// `[[key]]`, any number.
    Tables(&'static Section),
    /// Known, refused by this version; what to do instead.
    Later(&'static str),
}

/// Whether a key must stand there. What holds without it is for the documentation, which a test compares.
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "only the test of the documentation reads the defaults"
    )
)]
#[derive(Debug, Clone, Copy)]
pub(super) enum Need {
    /// Must be there; says what it is for.
    Required(&'static str),
    /// May be there; what holds without it.
    Default(&'static str),
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    /// In `[[component]]`: the kinds of component (their deciding keys) in which it means something; empty: all.
    pub only: &'static [&'static str],
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// As written: `[project]`, `[[component]]`.
    pub title: &'static str,
    pub keys: &'static [Key],
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Keys that this version acts on.
    pub(super) fn known(&self) -> impl Iterator<Item = &'static Key> {
        self.keys
            .iter()
            .filter(|key| !matches!(key.kind, Kind::Later(_)))
    }
}

impl Kind {
    /// The type in words, as documentation and errors name it.
    pub(super) fn describe(self) -> String {
        let text = match self {
            Self::Text => "a text",
            Self::Name => "a name",
            Self::Path => "a path",
            Self::Paths => "a list of paths",
            Self::Texts => "a list of texts",
            Self::Patterns => "a list of patterns",
            Self::FileNames => "a list of file names",
            Self::Flag => "true or false",
            Self::Count { .. } => "a whole number",
            Self::Duration { .. } => "a duration",
            Self::Size { .. } => "a size",
            Self::Command => "a command",
            Self::Check => "a word or a command",
            Self::Table(section) => return format!("a table `{}`", section.title),
            Self::Tables(section) => return format!("tables `{}`", section.title),
            Self::Later(_) => "not supported yet",
            Self::Words(words) => return format!("a list of `{}`", words.join("`, `")),
        };
        text.to_owned()
    }

    /// A value of this type as it is written, for hints.
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Text | Self::Name => "\"…\"",
            Self::Path => "\"data/app.db\"",
            Self::Paths => "[\".env\", \"compose.yml\"]",
            Self::Texts => "[\"…\"]",
            Self::Patterns => "[\"venv/\", \"*.tmp\"]",
            Self::FileNames => "[\".gitignore\"]",
            Self::Flag => "true",
            Self::Count { .. } => "3",
            Self::Duration { .. } => "\"30s\"",
            Self::Size { .. } => "\"64MiB\"",
            Self::Words(_) => "[\"host\", \"verify\"]",
            Self::Command => "[\"program\", \"argument\"]",
            Self::Check => "\"always\"",
            Self::Table(_) | Self::Tables(_) | Self::Later(_) => "{ … }",
        }
    }
}

const fn required(name: &'static str, kind: Kind, why: &'static str) -> Key {
    Key {
        name,
        kind,
        need: Need::Required(why),
        only: &[],
    }
}

const fn optional(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        name,
        kind,
        need: Need::Default(default),
        only: &[],
    }
}

const fn of(
    only: &'static [&'static str],
    name: &'static str,
    kind: Kind,
    default: &'static str,
) -> Key {
    Key {
        name,
        kind,
        need: Need::Default(default),
        only,
    }
}

const fn later(name: &'static str, instead: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Later(instead),
        need: Need::Default(""),
        only: &[],
    }
}

const DAY: u64 = 86_400;
const COUNT: Kind = Kind::Count {
    min: 1,
    max: 100_000,
};
const SPAN: Kind = Kind::Duration {
    min: 1,
    max: u64::MAX,
};
const REMOVE: &str = "remove it";
const PATH_ONLY: &str = "remove it; in this version a store is a directory: `path`";

/// The whole file.
pub(super) const FILE: Section = Section {
    title: "the file",
    keys: &[
        required("project", Kind::Table(&PROJECT), "it names the project"),
        optional("component", Kind::Tables(&COMPONENT), "none"),
        required(
            "store",
            Kind::Tables(&STORE),
            "it says where snapshots are kept",
        ),
        optional("encryption", Kind::Table(&ENCRYPTION), "none"),
        required(
            "signing",
            Kind::Table(&SIGNING),
            "it says which key signs this host's snapshots",
        ),
        optional(
            "retention",
            Kind::Table(&RETENTION),
            "7 days, and one a week for 30 days",
        ),
        optional("packing", Kind::Table(&PACKING), "none"),
        required(
            "state",
            Kind::Table(&STATE),
            "it says where this host keeps its catalog, lock and spool",
        ),
        later("service", REMOVE),
        later("hook", REMOVE),
        later(
            "schedule",
            "remove it; run `backstay backup` from cron or a systemd timer",
        ),
        later(
            "notify",
            "remove it; watch the exit code of `backstay backup`",
        ),
        later(
            "agent",
            "remove it; run `backstay backup` from cron or a systemd timer",
        ),
    ],
};

/// `[project]`.
pub(super) const PROJECT: Section = Section {
    title: "[project]",
    keys: &[
        required("name", Kind::Name, "it names the project"),
        optional("vault", Kind::Text, "that of the primary store"),
    ],
};

const FILES: &[&str] = &["path", "paths"];
const SQLITE: &[&str] = &["sqlite"];
const COMMAND: &[&str] = &["command"];

/// `[[component]]`.
pub(super) const COMPONENT: Section = Section {
    title: "[[component]]",
    keys: &[
        required(
            "name",
            Kind::Name,
            "snapshots and commands name the component by it",
        ),
        optional("path", Kind::Path, "none"),
        optional("paths", Kind::Paths, "none"),
        optional("sqlite", Kind::Path, "none"),
        optional("command", Kind::Command, "none"),
        of(FILES, "exclude", Kind::Patterns, "none"),
        of(FILES, "exclude_from", Kind::FileNames, "none"),
        of(FILES, "exclude_caches", Kind::Flag, "false"),
        of(FILES, "exclude_if_present", Kind::FileNames, "none"),
        of(FILES, "one_file_system", Kind::Flag, "false"),
        of(FILES, "allow_unreadable", Kind::Patterns, "none"),
        of(FILES, "strict", Kind::Flag, "false"),
        of(FILES, "leave", Kind::Patterns, "none"),
        of(
            &["sqlite", "command"],
            "check",
            Kind::Check,
            "`auto` for SQLite, none for commands",
        ),
        of(
            SQLITE,
            "lock_limit",
            Kind::Duration { min: 0, max: 60 },
            "2s",
        ),
        of(COMMAND, "restore_command", Kind::Command, "none"),
        of(COMMAND, "env_file", Kind::Path, "none"),
        of(
            COMMAND,
            "timeout",
            Kind::Duration {
                min: 1,
                max: 30 * DAY,
            },
            "6h",
        ),
        of(
            COMMAND,
            "min_size",
            Kind::Size {
                min: 0,
                max: u64::MAX,
            },
            "1B",
        ),
        later("postgres", "use `command` with `pg_dump`"),
        later("rebuild", REMOVE),
        later(
            "full_every",
            "remove it; `backstay backup --full` makes a snapshot that stands alone",
        ),
        later(
            "archive_size",
            "set `archive_size` in [packing]; it holds for all components",
        ),
    ],
};

/// `[[store]]`.
pub(super) const STORE: Section = Section {
    title: "[[store]]",
    keys: &[
        required("name", Kind::Name, "commands name the store by it"),
        required("path", Kind::Path, "it says where the store is"),
        optional("retention", Kind::Table(&RETENTION), "that of the file"),
        later("url", "use `path`: in this version a store is a directory"),
        later("endpoint", PATH_ONLY),
        later("region", PATH_ONLY),
        later("path_style", PATH_ONLY),
        later("profile", PATH_ONLY),
        later("credentials_file", PATH_ONLY),
        later("ca_file", PATH_ONLY),
        later("storage_class", PATH_ONLY),
        later("sse", PATH_ONLY),
        later("checksum", PATH_ONLY),
        later("limit_upload", PATH_ONLY),
        later("allow_http", PATH_ONLY),
        later(
            "prune",
            "remove it; this version deletes nothing from stores",
        ),
    ],
};

/// `[encryption]`.
pub(super) const ENCRYPTION: Section = Section {
    title: "[encryption]",
    keys: &[
        required(
            "recipients",
            Kind::Texts,
            "it says who can open the snapshots",
        ),
        optional(
            "identity_file",
            Kind::Path,
            "none: this host cannot open its snapshots",
        ),
    ],
};

/// `[signing]`.
pub(super) const SIGNING: Section = Section {
    title: "[signing]",
    keys: &[
        required(
            "key_file",
            Kind::Path,
            "it says which key signs this host's snapshots",
        ),
        optional("trusted", Kind::Tables(&TRUSTED), "none"),
    ],
};

/// The words of `roles`, in the order of the documentation.
pub(super) const ROLES: &[&str] = &["host", "verify", "prune"];

/// An entry of `trusted`.
pub(super) const TRUSTED: Section = Section {
    title: "[[signing.trusted]]",
    keys: &[
        required("key", Kind::Text, "it is the public key that is trusted"),
        required("name", Kind::Text, "messages name the key by it"),
        required(
            "roles",
            Kind::Words(ROLES),
            "it says what the key is trusted to sign",
        ),
    ],
};

/// `[retention]`.
pub(super) const RETENTION: Section = Section {
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
    ],
};

/// `[packing]`.
pub(super) const PACKING: Section = Section {
    title: "[packing]",
    keys: &[
        optional("level", Kind::Count { min: 1, max: 19 }, "3"),
        optional(
            "archive_size",
            Kind::Size {
                min: 1 << 20,
                max: 4 << 30,
            },
            "a 256th of the component, 32MiB to 1GiB",
        ),
    ],
};

/// `[state]`.
pub(super) const STATE: Section = Section {
    title: "[state]",
    keys: &[required(
        "dir",
        Kind::Path,
        "it says where this host keeps its catalog, lock and spool",
    )],
};

/// Every section, for hints and for the test of the documentation.
pub(super) const SECTIONS: [&Section; 10] = [
    &FILE,
    &PROJECT,
    &COMPONENT,
    &STORE,
    &ENCRYPTION,
    &SIGNING,
    &TRUSTED,
    &RETENTION,
    &PACKING,
    &STATE,
];

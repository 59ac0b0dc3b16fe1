//! What a key can be: the words that the table of keys is made of.

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
    /// A size with a unit, a second.
    Rate { min: u64, max: u64 },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of some of these words.
    Words(&'static [&'static str]),
    /// A list of program and arguments, or a line for the shell.
    Command,
    /// `check`: a word for databases, a command for commands.
    Check,
    /// `[key]`.
    Table(&'static Section),
    /// A schedule, a list of them, or of tables that say `at` and more.
    Times(&'static Section),
    /// `[[key]]`, any number.
    Tables(&'static Section),
    /// Known, refused by this version; what to do instead.
    Later(&'static str),
}

/// Whether a key must stand there. What holds without it is for the documentation, which a test compares.
#[cfg_attr(not(test), expect(dead_code, reason = "only the test of the documentation reads the defaults"))]
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
    /// In `[[component]]` and `[[store]]`: the kinds (their deciding keys) in which it means something; empty: all.
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
        self.keys.iter().filter(|key| !matches!(key.kind, Kind::Later(_)))
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
            Self::Rate { .. } => "a size a second",
            Self::Command => "a command",
            Self::Check => "a word or a command",
            Self::Table(section) => return format!("a table `{}`", section.title),
            Self::Times(_) => "a time or a list of times",
            Self::Tables(section) => return format!("tables `{}`", section.title),
            Self::Later(_) => "not supported yet",
            Self::Word(words) => return format!("`{}`", words.join("` or `")),
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
            Self::Rate { .. } => "\"5MiB/s\"",
            Self::Word(_) => "\"…\"",
            Self::Words(_) => "[\"host\", \"verify\"]",
            Self::Command => "[\"program\", \"argument\"]",
            Self::Check => "\"always\"",
            Self::Times(_) => "[\"0 3 * * *\"]",
            Self::Table(_) | Self::Tables(_) | Self::Later(_) => "{ … }",
        }
    }
}

pub(super) const fn required(name: &'static str, kind: Kind, why: &'static str) -> Key {
    Key { name, kind, need: Need::Required(why), only: &[] }
}

pub(super) const fn optional(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { name, kind, need: Need::Default(default), only: &[] }
}

pub(super) const fn of(
    only: &'static [&'static str],
    name: &'static str,
    kind: Kind,
    default: &'static str,
) -> Key {
    Key { name, kind, need: Need::Default(default), only }
}

pub(super) const fn later(name: &'static str, instead: &'static str) -> Key {
    Key { name, kind: Kind::Later(instead), need: Need::Default(""), only: &[] }
}

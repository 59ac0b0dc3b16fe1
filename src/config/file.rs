//! What the TOML says: one table-driven reader that checks keys and types, and goes on after a mistake so that all are told at once.
//!
//! It never guesses: a value that is wrong is left out of what it gives, and the mistake is in its list.

use crate::config::block::{At, Block, Value};
use crate::config::keys::{FILE, SECTIONS};
use crate::config::password;
use crate::config::render::{Found, SECRET_KEY};
use crate::config::schema::{Key, Kind, Need, Section};
use crate::config::settings::CommandLine;
use crate::config::suggest::nearest;
use crate::config::syntax::Syntax;
use crate::config::units;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What could be read of a file.
pub(super) struct Read {
    pub block: Block,
    /// Every mistake of the reader, in no particular order.
    pub found: Vec<Found>,
    /// It is TOML: what is not in `block` is not in the file, or is among `found`.
    pub is_toml: bool,
}

/// Reads `text`.
pub(super) fn read(text: &str) -> Read {
    let (table, errors) = DeTable::parse_recoverable(text);
    let syntax = Syntax::of(text, &errors);
    let mut reader = Reader { found: Vec::new(), complain_of_missing: errors.is_empty() };
    reader.private_keys(text);
    let block = reader.block(&FILE, table.get_ref(), 0..0);
    let mut found = reader.found;
    found.retain(|f| syntax.can_be_believed(text, f));
    found.extend(syntax.found);
    Read { block, found, is_toml: errors.is_empty() }
}

struct Reader {
    found: Vec<Found>,
    complain_of_missing: bool,
}

impl Reader {
    /// The text of the file goes into every snapshot: a private key may not stand in it, not even in a comment.
    fn private_keys(&mut self, text: &str) {
        let key = |rest: &str| rest.chars().take_while(char::is_ascii_alphanumeric).count() >= 50;
        let upper = text.to_ascii_uppercase();
        for (start, word) in upper.match_indices(SECRET_KEY) {
            let end = start + word.len();
            if key(&text[end..]) {
                let hint =
                    "keep it in a file that only you can read, and name that file: identity_file = \"…\"";
                self.found.push(Found::at(&(start..end), "a private key stands here").hint(hint));
            }
        }
    }

    fn block(&mut self, section: &'static Section, table: &DeTable, span: Range<usize>) -> Block {
        let mut block = Block { span, ..Block::default() };
        for (name, value) in table {
            let Some(key) = section.key(name.get_ref()) else {
                self.unknown(section, name);
                continue;
            };
            block.named.insert(key.name, name.span());
            if let Kind::Later(instead) = key.kind {
                block.later = true;
                self.later(section, key, name, value, instead);
            } else if let Some(read) = self.value(key, value) {
                block.fields.insert(key.name, At { value: read, span: value.span() });
            }
        }
        self.missing(section, &block);
        block
    }

    fn missing(&mut self, section: &Section, block: &Block) {
        if !self.complain_of_missing || block.later && section.title != FILE.title {
            return;
        }
        for key in section.keys.iter().filter(|key| !block.named.contains_key(key.name)) {
            let Need::Required(why) = key.need else {
                continue;
            };
            let found = match key.kind {
                Kind::Table(inner) | Kind::Tables(inner) => {
                    let needed = inner.keys.iter().filter(|k| matches!(k.need, Need::Required(_)));
                    let needed: Vec<_> = needed.map(|k| format!("`{}`", k.name)).collect();
                    let what = format!("there is no {}", inner.title);
                    Found::nowhere(what).hint(format!(
                        "add {} with {}: {why}",
                        inner.title,
                        needed.join(" and ")
                    ))
                }
                kind => Found::at(&block.span, format!("`{}` is missing from {}", key.name, section.title))
                    .hint(format!("add `{} = {}`: {why}", key.name, kind.example())),
            };
            self.found.push(found);
        }
    }

    fn unknown(&mut self, section: &Section, name: &Spanned<std::borrow::Cow<'_, str>>) {
        let word = name.get_ref();
        let place =
            if section.title == FILE.title { String::new() } else { format!(" in {}", section.title) };
        let found = Found::at(&name.span(), format!("unknown key `{word}`{place}"));
        let names: Vec<&str> = section.known().map(|key| key.name).collect();
        let elsewhere = SECTIONS.iter().find(|s| s.known().any(|key| key.name == &**word));
        let found = if let Some(near) = nearest(word, names.iter().copied()) {
            found.hint(format!("did you mean `{near}`?"))
        } else if let Some(other) = elsewhere {
            found.hint(format!("`{word}` belongs to {}", other.title))
        } else if names.len() <= 9 {
            found.hint(format!("known here: `{}`", names.join("`, `")))
        } else {
            found.hint("remove it; docs/configuration.md lists all keys")
        };
        self.found.push(found);
    }

    fn later(
        &mut self,
        section: &Section,
        key: &Key,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue>,
        instead: &str,
    ) {
        let name_text = key.name;
        let shown = match value.get_ref() {
            DeValue::Table(_) if section.title == FILE.title => format!("[{name_text}]"),
            DeValue::Array(_) if section.title == FILE.title => format!("[[{name_text}]]"),
            _ => name_text.to_owned(),
        };
        let what = format!("`{shown}` is not supported by this version of backstay yet");
        self.found.push(Found::at(&name.span(), what).hint(instead));
    }

    fn value(&mut self, key: &Key, value: &Spanned<DeValue>) -> Option<Value> {
        let span = value.span();
        match key.kind {
            Kind::Text | Kind::Name | Kind::Path => self.text(key, value).map(Value::Text),
            Kind::Word(_) => self.text(key, value).and_then(|t| self.word(key, t, &span)).map(Value::Text),
            Kind::Paths | Kind::Texts | Kind::Patterns | Kind::FileNames | Kind::Words(_) => {
                self.texts(key, value).map(Value::Texts)
            }
            Kind::Flag => match value.get_ref().as_bool() {
                Some(flag) => Some(Value::Flag(flag)),
                None => self.wrong_type(key, value),
            },
            Kind::Count { min, max } => self.count(key, value, min, max).map(Value::Number),
            Kind::Duration { min, max } => {
                let text = self.text(key, value)?;
                let time = self.unit(&span, units::duration(&text))?;
                let shown = |s| units::show_duration(Duration::from_secs(s));
                self.in_range(key, &span, time.as_secs(), (min, max), shown)?;
                Some(Value::Time(time))
            }
            Kind::Size { min, max } => {
                let text = self.text(key, value)?;
                let size = self.unit(&span, units::size(&text))?;
                self.in_range(key, &span, size, (min, max), units::show_size)?;
                Some(Value::Number(size))
            }
            Kind::Rate { min, max } => {
                let text = self.text(key, value)?;
                let rate = self.unit(&span, units::rate(&text))?;
                let shown = |bytes| format!("{}/s", units::show_size(bytes));
                self.in_range(key, &span, rate, (min, max), shown)?;
                Some(Value::Number(rate))
            }
            Kind::Command | Kind::Check => self.command(key, value).map(Value::Command),
            Kind::Table(section) => match value.get_ref().as_table() {
                Some(table) => Some(Value::Block(self.block(section, table, span))),
                None => self.wrong_type(key, value),
            },
            Kind::Tables(section) => self.blocks(key, section, value).map(Value::Blocks),
            Kind::Times(section) => self.times(key, section, value).map(Value::Blocks),
            Kind::Later(_) => None,
        }
    }

    fn wrong_type<T>(&mut self, key: &Key, value: &Spanned<DeValue>) -> Option<T> {
        let is = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let found =
            Found::at(&value.span(), format!("`{}` must be {}, not {is}", key.name, key.kind.describe()));
        let hint = match key.kind {
            Kind::Table(section) => format!("write it as a table: {}", section.title),
            Kind::Tables(_) => {
                format!("write it as [[{}]], with two brackets: there may be several", key.name)
            }
            kind => format!("for example: {} = {}", key.name, kind.example()),
        };
        self.found.push(found.hint(hint));
        None
    }

    fn text(&mut self, key: &Key, value: &Spanned<DeValue>) -> Option<String> {
        let Some(text) = value.get_ref().as_str() else {
            return self.wrong_type(key, value);
        };
        self.plain(key, text, &value.span())
    }

    /// No text may be empty or hold a NUL byte, which no path and no argument can.
    fn plain(&mut self, key: &Key, text: &str, span: &Range<usize>) -> Option<String> {
        if text.trim().is_empty() {
            self.found.push(Found::at(span, format!("`{}` holds an empty text", key.name)));
            return None;
        }
        if text.contains('\0') {
            self.found.push(Found::at(span, format!("`{}` holds a NUL character", key.name)));
            return None;
        }
        Some(text.to_owned())
    }

    fn texts(&mut self, key: &Key, value: &Spanned<DeValue>) -> Option<Vec<At<String>>> {
        let Some(list) = value.get_ref().as_array() else {
            return self.wrong_type(key, value);
        };
        if list.is_empty() && matches!(key.kind, Kind::Paths | Kind::Words(_)) {
            self.found
                .push(Found::at(&value.span(), format!("`{}` is empty", key.name)).hint("list at least one"));
            return None;
        }
        let mut texts = Vec::new();
        let mut all = true;
        for item in list.iter() {
            match self.text(key, item).and_then(|text| self.word(key, text, &item.span())) {
                Some(text) => texts.push(At { value: text, span: item.span() }),
                None => all = false,
            }
        }
        all.then_some(texts)
    }

    fn word(&mut self, key: &Key, text: String, span: &Range<usize>) -> Option<String> {
        let (Kind::Words(words) | Kind::Word(words)) = key.kind else {
            return Some(text);
        };
        if words.contains(&text.as_str()) {
            return Some(text);
        }
        let hint = match nearest(&text, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of `{}`", words.join("`, `")),
        };
        self.found.push(Found::at(span, format!("{text:?} is no word of `{}`", key.name)).hint(hint));
        None
    }

    /// A command in which no password stands.
    fn command(&mut self, key: &Key, value: &Spanned<DeValue>) -> Option<CommandLine> {
        let line = self.any_command(key, value)?;
        if password::in_command(&line) {
            let what = format!(
                "a password stands in `{}`: while it runs, every user of this machine can read it",
                key.name
            );
            let hint = "put it into a file that only you can read and let the command read that; for the command of a component name it as `env_file`";
            self.found.push(Found::at(&value.span(), what).hint(hint));
        }
        Some(line)
    }

    fn any_command(&mut self, key: &Key, value: &Spanned<DeValue>) -> Option<CommandLine> {
        if value.get_ref().as_str().is_some() {
            return self.text(key, value).map(CommandLine::Shell);
        }
        let Some(list) = value.get_ref().as_array() else {
            return self.wrong_type(key, value);
        };
        let mut args = Vec::new();
        let mut all = true;
        for (i, item) in list.iter().enumerate() {
            match item.get_ref().as_str() {
                // An empty argument means something; an empty program does not.
                Some("") if i > 0 => args.push(String::new()),
                Some(text) => match self.plain(key, text, &item.span()) {
                    Some(text) => args.push(text),
                    None => all = false,
                },
                None => {
                    all = false;
                    self.wrong_type::<()>(key, item);
                }
            }
        }
        if all && args.is_empty() {
            self.found.push(Found::at(&value.span(), format!("`{}` names no program", key.name)));
            return None;
        }
        all.then_some(CommandLine::Args(args))
    }

    fn count(&mut self, key: &Key, value: &Spanned<DeValue>, min: u64, max: u64) -> Option<u64> {
        let Some(number) = value.get_ref().as_integer() else {
            return self.wrong_type(key, value);
        };
        // A negative or gigantic number is as far out of range as can be; which end does not matter.
        let number = u64::from_str_radix(number.as_str(), number.radix()).unwrap_or(u64::MAX);
        self.in_range(key, &value.span(), number, (min, max), |n| n.to_string())?;
        Some(number)
    }

    fn in_range(
        &mut self,
        key: &Key,
        span: &Range<usize>,
        number: u64,
        (min, max): (u64, u64),
        show: impl Fn(u64) -> String,
    ) -> Option<()> {
        if (min..=max).contains(&number) {
            return Some(());
        }
        let limits = if max == u64::MAX {
            format!("at least {}", show(min))
        } else {
            format!("from {} to {}", show(min), show(max))
        };
        self.found.push(Found::at(span, format!("`{}` must be {limits}", key.name)));
        None
    }

    fn unit<T>(&mut self, span: &Range<usize>, read: Result<T, units::BadUnit>) -> Option<T> {
        read.map_err(|bad| self.found.push(Found::at(span, bad.what).hint(bad.hint))).ok()
    }

    /// A text is short for a table that says nothing but `at`.
    fn times(
        &mut self,
        key: &Key,
        section: &'static Section,
        value: &Spanned<DeValue>,
    ) -> Option<Vec<Block>> {
        let alone = [value];
        let items: Vec<&Spanned<DeValue>> = match value.get_ref() {
            DeValue::Array(list) => list.iter().collect(),
            _ => alone.to_vec(),
        };
        let mut blocks = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => blocks.push(self.block(section, table, item.span())),
                _ => {
                    let text = self.text(key, item)?;
                    let mut block = Block { span: item.span(), ..Block::default() };
                    block.named.insert("at", item.span());
                    block.fields.insert("at", At { value: Value::Text(text), span: item.span() });
                    blocks.push(block);
                }
            }
        }
        Some(blocks)
    }

    fn blocks(
        &mut self,
        key: &Key,
        section: &'static Section,
        value: &Spanned<DeValue>,
    ) -> Option<Vec<Block>> {
        let Some(list) = value.get_ref().as_array() else {
            return self.wrong_type(key, value);
        };
        let mut blocks = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_table() {
                Some(table) => blocks.push(self.block(section, table, item.span())),
                None => return self.wrong_type(key, item),
            }
        }
        Some(blocks)
    }
}

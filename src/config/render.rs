//! Mistakes as people see them: where, the line itself with a mark under the value, what is wrong, what to do.
//!
//! A line that is shown may hold what somebody pasted into the wrong place: private keys, passwords and user information in URLs are
//! masked before anything is kept, and no control character of the file reaches a terminal.

use crate::model::path::escape;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A mistake as the reader finds it: a stretch of the text, or none when something is missing altogether.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub span: Option<Range<usize>>,
    pub what: String,
    pub hint: Option<String>,
}

impl Found {
    pub(super) fn at(span: &Range<usize>, what: impl Into<String>) -> Self {
        Self { span: Some(span.clone()), what: what.into(), hint: None }
    }

    pub(super) fn nowhere(what: impl Into<String>) -> Self {
        Self { span: None, what: what.into(), hint: None }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The place of a mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line (or the part of a long one round the mistake), harmless to print.
    source: String,
    /// Columns of `source` before the mark, and its width.
    mark: (usize, usize),
}

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is; `None` when something is missing from the file as a whole.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Why a configuration cannot be used. `Display` is several lines: everything that is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigErrors {
    /// The file could not be read.
    #[error("cannot read the configuration {}", show(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else than a text file of sensible size.
    #[error("the configuration {} {why}", show(path))]
    NotAConfiguration {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// Running as root, and others could change the file.
    #[error("refusing the configuration {}: {}\n  = {hint}", show(path), why)]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// Who could change what.
        why: String,
        /// The way out.
        hint: String,
    },
    /// What it says is wrong, in so many places.
    #[error("{}", AllOf { path, mistakes })]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// In the order of the file; never empty.
        mistakes: Vec<Mistake>,
    },
}

/// `path`, harmless to print.
pub(super) fn show(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    escape(path.as_os_str().as_bytes())
}

impl ConfigErrors {
    /// Puts what was found in order and beside the lines of `text`.
    pub(super) fn of(path: &Path, text: &str, mut found: Vec<Found>) -> Self {
        found.sort_by_key(|f| f.span.as_ref().map_or((usize::MAX, 0), |s| (s.start, s.end)));
        found.dedup();
        let mistakes = found.into_iter().map(|f| Mistake {
            place: f.span.map(|span| Place::of(text, &span)),
            what: harmless(&mask(&f.what)),
            hint: f.hint.map(|h| harmless(&mask(&h))),
        });
        Self::Mistakes { path: path.to_owned(), mistakes: mistakes.collect() }
    }

    /// Each mistake on a line of its own; empty when the file could not be read at all.
    pub fn lines(&self) -> Vec<String> {
        let Self::Mistakes { path, mistakes } = self else {
            return Vec::new();
        };
        let line = |mistake: &Mistake| {
            let place = mistake.place.as_ref().map_or(String::new(), |p| format!(":{}:{}", p.line, p.column));
            let hint = mistake.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
            format!("{}{place}: {}{hint}", show(path), mistake.what)
        };
        mistakes.iter().map(line).collect()
    }

    /// The single mistakes; empty when the file could not be read at all.
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Mistakes { mistakes, .. } => mistakes,
            _ => &[],
        }
    }
}

struct AllOf<'a> {
    path: &'a Path,
    mistakes: &'a [Mistake],
}

impl fmt::Display for AllOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in self.mistakes {
            mistake.write(f, self.path)?;
            f.write_char('\n')?;
        }
        let number = self.mistakes.len();
        write!(f, "{number} mistake{} in {}", if number == 1 { "" } else { "s" }, show(self.path))
    }
}

impl Mistake {
    fn write(&self, f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        let Some(place) = &self.place else {
            writeln!(f, "{}: {}", show(path), self.what)?;
            return self.hint.iter().try_for_each(|hint| writeln!(f, "  = {hint}"));
        };
        writeln!(f, "{}:{}:{}: {}", show(path), place.line, place.column, self.what)?;
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let (before, width) = place.mark;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", place.source)?;
        writeln!(f, "{margin} | {}{}", " ".repeat(before), "^".repeat(width))?;
        self.hint.iter().try_for_each(|hint| writeln!(f, "{margin} = {hint}"))
    }
}

/// A line longer than this is shown in part.
const SHOWN_MAX: usize = 100;
/// Of a long line, so much is shown before the mark.
const LEAD: usize = 30;

impl Place {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
        let bom = if text[line_start..].starts_with('\u{feff}') { 3 } else { 0 };
        let line_start = (line_start + bom).min(start.max(line_start));
        let line = text[line_start..line_end].trim_end_matches('\r');
        let end = floor(text, span.end).clamp(start, line_start + line.len().max(start - line_start));
        let column = text[line_start..start].chars().count();
        let marked = text[start..end].chars().count().max(1);
        let (source, mark) = window(&mask(line), column, marked);
        Self { line: text[..start].matches('\n').count() + 1, column: column + 1, source, mark }
    }
}

fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The part of `line` to be shown, and the mark under it in columns of a terminal.
fn window(line: &str, column: usize, marked: usize) -> (String, (usize, usize)) {
    let length = line.chars().count();
    let from = if length > SHOWN_MAX { column.saturating_sub(LEAD) } else { 0 };
    let to = length.min(from + SHOWN_MAX);
    let part: Vec<char> = line.chars().skip(from).take(to - from).map(harmless_char).collect();
    let mark_from = (column - from).min(part.len());
    let mark_to = (mark_from + marked).min(part.len());
    let columns = |chars: &[char]| chars.iter().map(|c| width(*c)).sum::<usize>();
    let lead = if from > 0 { "…" } else { "" };
    let tail = if to < length { "…" } else { "" };
    let before = columns(&part[..mark_from]) + lead.chars().count();
    let under = columns(&part[mark_from..mark_to]).max(1);
    (format!("{lead}{}{tail}", part.iter().collect::<String>()).trim_end().to_owned(), (before, under))
}

/// Control characters and those that reorder a terminal's text become one visible character; a tab becomes a blank.
fn harmless_char(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c => c,
    }
}

fn harmless(text: &str) -> String {
    text.chars().map(harmless_char).collect()
}

/// Columns that a character takes on most terminals; exact enough to put a mark below it.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// What an age identity begins with.
pub(super) const SECRET_KEY: &str = "AGE-SECRET-KEY-";
/// Words that announce a secret when a value follows them.
const SECRET_WORDS: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "_pwd", "api_key", "access_key"];

/// After these words an address is a secret by itself.
const SECRET_ADDRESSES: [&str; 5] = ["_file", "slack", "discord", "ping", "webhook"];

/// `text` with everything that looks like a secret replaced, character by character, by `*`.
pub(super) fn mask(text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let lower: Vec<char> = chars.iter().map(char::to_ascii_lowercase).collect();
    for start in 0..lower.len() {
        if begins(&lower[start..], &SECRET_KEY.to_ascii_lowercase()) {
            let from = start + SECRET_KEY.len();
            let length = lower[from..].iter().take_while(|c| c.is_ascii_alphanumeric()).count();
            chars[from..from + length].fill('*');
        }
        if begins(&lower[start..], "://") {
            let before: String = lower[..start].iter().collect();
            mask_user(&mut chars[start + 3..]);
            if SECRET_ADDRESSES.iter().any(|word| before.contains(word))
                || begins(&lower[start..], "://hooks.")
            {
                mask_path(&mut chars[start + 3..]);
            }
        }
        for word in SECRET_WORDS {
            if begins(&lower[start..], word) {
                mask_value(&mut chars[start + word.len()..]);
            }
        }
    }
    chars.into_iter().collect()
}

fn begins(chars: &[char], word: &str) -> bool {
    chars.len() >= word.len() && word.chars().zip(chars).all(|(a, b)| a == *b)
}

/// After `://`: what stands before an `@`, and what follows `?`, which may be a signature.
fn mask_user(rest: &mut [char]) {
    let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'');
    let end = rest.iter().position(ends).unwrap_or(rest.len());
    let address = &mut rest[..end];
    let slash = address.iter().position(|c| *c == '/').unwrap_or(address.len());
    // Keys of S3 may hold a slash: behind `user:` that is no port, everything up to the last `@` is masked.
    let password = address[..slash].iter().position(|c| *c == ':').map(|colon| &address[colon + 1..slash]);
    let port = password.is_none_or(|text| text.iter().all(char::is_ascii_digit));
    let stop = if port { slash } else { address.len() };
    if let Some(at) = address[..stop].iter().rposition(|c| *c == '@') {
        address[..at].fill('*');
    }
    if let Some(query) = address.iter().position(|c| *c == '?') {
        address[query + 1..].fill('*');
    }
}

/// After `://`: all but the host.
fn mask_path(rest: &mut [char]) {
    let end = rest.iter().position(|c| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(rest.len());
    if let Some(slash) = rest[..end].iter().position(|c| *c == '/') {
        rest[slash + 1..end].fill('*');
    }
}

/// After a word like `password`: the value that follows `=`. A name that ends in `file` or `dir` holds a path, not a secret.
fn mask_value(rest: &mut [char]) {
    let name = rest.iter().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).count();
    let suffix: String = rest[..name].iter().collect();
    if suffix.ends_with("file") || suffix.ends_with("dir") {
        return;
    }
    let after = &mut rest[name..];
    let Some(equals) = after.iter().position(|c| !matches!(c, ' ' | '\t' | '"' | '\'')) else {
        return;
    };
    if after[equals] == '=' {
        let value = after[equals + 1..].iter_mut();
        value.filter(|c| !matches!(c, ' ' | '\t' | '"' | '\'' | '`')).for_each(|c| *c = '*');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        ConfigErrors::of(Path::new("b.toml"), text, vec![Found::at(&span, "wrong").hint("do this")])
            .to_string()
    }

    #[test]
    fn a_mark_stands_under_the_value_whatever_comes_before_it() {
        assert_eq!(
            shown("a = 1\r\n\t\"東京\" = xyz # c\r\n", 19..22),
            "b.toml:2:9: wrong\n  |\n2 |  \"東京\" = xyz # c\n  |           ^^^\n  = do this\n\n1 mistake in b.toml"
        );
    }

    #[test]
    fn a_span_over_several_lines_or_past_the_end_is_cut_to_its_first_line() {
        assert!(shown("x = [\n1,\n2]\n", 4..11).contains("1 | x = [\n  |     ^\n"));
        assert!(shown("x =", 3..3).contains("1 | x =\n  |    ^\n"));
        assert!(shown("x = 1\n", 6..6).contains("b.toml:2:1: wrong"));
        assert!(shown("", 0..0).contains("b.toml:1:1"));
        assert!(shown("\u{feff}x = 1", 3..4).contains("b.toml:1:1"));
        assert!(shown("\u{feff}x", 0..0).contains("b.toml:1:1"));
        assert!(shown("ä", 1..900).contains("b.toml:1:1"));
    }

    #[test]
    fn a_long_line_is_shown_in_part() {
        let text = format!("a = \"{}\" b", "x".repeat(5000));
        let all = shown(&text, 5007..5008);
        assert!(all.lines().all(|line| line.chars().count() < 130), "{all}");
        assert!(all.contains("1 | …xxxx"), "{all}");
        assert!(all.contains("b.toml:1:5008"), "{all}");
    }

    #[test]
    fn secrets_and_control_characters_are_not_shown() {
        let key = format!("{SECRET_KEY}1{}", "Q".repeat(58));
        for (line, secret) in [
            (format!("recipients = [\"{key}\"]"), "QQQ"),
            ("url = \"s3://me:hunter2@host/x\"".to_owned(), "hunter2"),
            ("url = \"s3://AKIA:ab/hunter2/x@host/x\"".to_owned(), "hunter2"),
            ("url = \"s3://host/x?X-Amz-Signature=hunter2\"".to_owned(), "hunter2"),
            ("aws_access_key_id = \"hunter2\"".to_owned(), "hunter2"),
            ("password = \"hunter2\"".to_owned(), "hunter2"),
            ("smtp_password=hunter2".to_owned(), "hunter2"),
            ("c = [\"--password=hunter2\"]".to_owned(), "hunter2"),
            ("c = \"MYSQL_PWD=hunter2 mysqldump\"".to_owned(), "hunter2"),
            ("slack = \"https://hooks.slack.example/hunter2\"".to_owned(), "hunter2"),
            ("x = \"https://hooks.slack.example/hunter2\"".to_owned(), "hunter2"),
            ("ping = { url = \"https://hc.example/hunter2\" }".to_owned(), "hunter2"),
            ("url_file = \"https://hc.example/hunter2\"".to_owned(), "hunter2"),
            ("x = \"\u{1b}[2J\"".to_owned(), "\u{1b}"),
        ] {
            let all = shown(&line, 0..1);
            assert!(!all.contains(secret), "{all}");
        }
        assert_eq!(mask("password_file = \"/run/pw\""), "password_file = \"/run/pw\"");
        assert_eq!(mask("https://host/a@b"), "https://host/a@b");
        assert_eq!(mask("https://host:9000/a@b"), "https://host:9000/a@b");
    }
}

//! A `.env` that stays while the version that it was made for goes: which of its keys are not as they were. Said in the plan.
//!
//! Nothing here may let a value out, nor a line that could be part of one: where a file is not plainly made of lines `NAME=value`, no name is told.

use crate::model::{Entry, Kind, Problem, ProblemKind};
use crate::ops::look::small_file;
use crate::ops::restore::{Listing, Opened};
use crate::ops::rollback::left::Left;
use crate::ops::rollback::tree::Leaves as _;
use crate::ops::session::Session;
use std::collections::BTreeMap;
use std::path::Path;

/// Such a file is no larger.
const BYTES_MAX: u64 = 1 << 20;
/// So many keys of a sort are named.
const NAMED: usize = 10;

/// The values by their keys, as they are written. It has no `Debug`: values are secrets.
struct Keys<'t>(BTreeMap<&'t str, &'t str>);

/// What to know of the `.env` files of a component of which `left` stays.
pub(super) fn warnings(session: &Session, opened: &Opened, listing: &Listing, left: &Left) -> Vec<Problem> {
    let files = listing.entries.iter().enumerate().filter(|(_, entry)| is_one(entry));
    let files = files.filter(|(_, entry)| left.stays(&entry.path, false));
    let told = files.filter_map(|(place, entry)| {
        let live = live(&left.real_path(&entry.path))?;
        if entry.hash == Some(crate::model::ContentHash::of(&live)) {
            return None;
        }
        let then = small_file(session, opened, listing, place, BYTES_MAX).ok().flatten();
        let what = match then.as_deref().map(Keys::of) {
            None => "it stays as it is; which of its keys differ is not told: the snapshot's cannot be read"
                .into(),
            Some(then) => told(then, Keys::of(&live))?,
        };
        Some(warning(opened, listing, entry, what))
    });
    told.collect()
}

fn is_one(entry: &Entry) -> bool {
    let name = entry.path.name();
    entry.kind == Kind::File && (name.ends_with(b".env") || name.starts_with(b".env."))
}

/// The file's bytes; none where there is none that could be read.
fn live(path: &Path) -> Option<Vec<u8>> {
    path.symlink_metadata().ok().filter(|facts| facts.is_file() && facts.len() <= BYTES_MAX)?;
    std::fs::read(path).ok()
}

fn warning(opened: &Opened, listing: &Listing, entry: &Entry, what: String) -> Problem {
    let name = listing.component.name.to_string();
    let hint = format!(
        "what the older version needs of it is shown by `backstay cat {} {name}/{}`",
        opened.record.snapshot, entry.path
    );
    Problem {
        kind: ProblemKind::Warning,
        component: Some(name),
        subject: entry.path.to_string(),
        what,
        hint: Some(hint),
    }
}

/// Which keys differ, in words; none when only their order or what is beside them does.
fn told(then: Option<Keys<'_>>, now: Option<Keys<'_>>) -> Option<String> {
    let (Some(then), Some(now)) = (then, now) else {
        let what = "it stays as it is, and is not as in the snapshot; which keys differ is not told: not every line is NAME=value";
        return Some(what.into());
    };
    let lacking = |these: &Keys<'_>, those: &Keys<'_>| {
        list(these.0.keys().copied().filter(|key| !those.0.contains_key(key)))
    };
    let other = list(
        { now.0.iter() }
            .filter_map(|(key, value)| then.0.get(key).is_some_and(|old| old != value).then_some(*key)),
    );
    let parts = [
        ("only the snapshot's has", lacking(&then, &now)),
        ("only the one that stays has", lacking(&now, &then)),
        ("other values have", other),
    ];
    let parts: Vec<String> =
        { parts.into_iter() }.filter_map(|(words, keys)| Some(format!("{words} {}", keys?))).collect();
    (!parts.is_empty())
        .then(|| format!("it stays as it is, and its keys are not the snapshot's: {}", parts.join("; ")))
}

fn list<'t>(keys: impl Iterator<Item = &'t str>) -> Option<String> {
    let keys: Vec<&str> = keys.collect();
    let more = match keys.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = keys.get(..keys.len().min(NAMED))?.join(", ");
    (!keys.is_empty()).then(|| named + &more)
}

impl<'t> Keys<'t> {
    /// None where a line could be part of a value: it must not be taken for a key.
    fn of(bytes: &'t [u8]) -> Option<Self> {
        let mut rest = std::str::from_utf8(bytes).ok()?.trim_start_matches('\u{feff}');
        let mut keys = BTreeMap::new();
        while !rest.is_empty() {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with('#') {
                rest = after;
                continue;
            }
            let (key, _) = line.split_once('=')?;
            let (value, after) = value(&rest[key.len() + 1..])?;
            let key = name(key)?;
            if is_rest_of_base64(key, value) {
                return None;
            }
            keys.insert(key, value);
            rest = after;
        }
        Some(Self(keys))
    }
}

/// The name before a `=`.
fn name(text: &str) -> Option<&str> {
    let text = text.trim();
    let name = text.strip_prefix("export ").map_or(text, str::trim_start);
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (begins && name.chars().all(fits)).then_some(name)
}

/// True of what may be the end of a value that is encoded and lies on lines of its own.
fn is_rest_of_base64(key: &str, value: &str) -> bool {
    let has = |of: fn(&char) -> bool| key.chars().any(|c| of(&c));
    value == "=" || (value.is_empty() && has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase))
}

/// The value at the beginning of `text`, and what follows its last line.
fn value(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quote) = text.chars().next().filter(|c| "\"'`".contains(*c)) else {
        let (line, after) = text.split_once('\n').unwrap_or((text, ""));
        let line = line.trim_end();
        // Some readers go on with the next line, which is then no key.
        return (!line.ends_with('\\')).then_some((line, after));
    };
    let end = end_of(&text[1..], quote)? + 1;
    let (beside, after) = text[end + 1..].split_once('\n').unwrap_or((&text[end + 1..], ""));
    let beside = beside.trim();
    (beside.is_empty() || beside.starts_with('#')).then_some((&text[..=end], after))
}

/// Where `quote` ends what it began, lines after it included.
fn end_of(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Option<Vec<&str>> {
        Some(Keys::of(text.as_bytes())?.0.into_keys().collect())
    }

    #[test]
    fn keys_are_told_where_every_line_is_one() {
        let text = "\u{feff}# a comment\r\n\nexport A=1\r\nB_2 = two # words\nC=\n D.x-y='it #1'\nE=\"a\\\"b\nF=no key\nlast\" # end\nG=`x`";
        assert_eq!(keys(text).unwrap(), ["A", "B_2", "C", "D.x-y", "E", "G"]);
        assert_eq!(keys("").unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn no_name_is_told_where_a_line_could_be_part_of_a_value() {
        for text in [
            // A key without quotes: its last line looks like a name.
            "KEY=-----BEGIN X-----\nMIIEowIBAAKCAQEA7\ncanaryw==\n-----END X-----\n",
            "A=first \\\ncanary=second\n",
            "A=\"never closed\ncanary=1\n",
            "A='x'canary\nB=1\n",
            "canary\n",
            "{ \"canary\": 1 }\n",
            "=canary\n",
            "a b=canary\n",
            "A=\nY2FuYXJ5Y2FuYXJ5Cg=\n",
            "A=\ncanary==\n",
            "A=1\n\u{e4}=canary\n",
        ] {
            assert_eq!(keys(text), None, "{text}");
        }
        assert!(Keys::of(b"A=\xff\n").is_none());
    }

    #[test]
    fn values_are_compared_and_never_told() {
        let both =
            |then: &'static str, now: &'static str| told(Keys::of(then.as_bytes()), Keys::of(now.as_bytes()));
        let words =
            both("A=canary-1\nB=canary-2\nSAME=canary\n", "SAME=canary\nA=canary-3\nC='canary-4'\n").unwrap();
        let expected = "only the snapshot's has B; only the one that stays has C; other values have A";
        assert!(words.ends_with(expected) && !words.contains("canary"), "{words}");
        assert_eq!(both("A=1\nB=2\n", "# in another order\nB=2\nA=1\n"), None);
        let words = both("A=1\n", "canary\n").unwrap();
        assert!(words.contains("not told") && !words.contains("canary"), "{words}");
        let many: String = (0..12).map(|n| format!("K{n:02}=1\n")).collect();
        let words = told(Keys::of(many.as_bytes()), Keys::of(b"")).unwrap();
        assert!(words.ends_with("K09 and 2 more"), "{words}");
    }
}

//! Small changes to the text of a configuration: what is not meant stays byte for byte, comments included.
//!
//! Nothing here writes a file. Whoever does must have what came out read by [`crate::config::Config::parse`] first.

use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At<'a> {
    /// `[name]`
    Table(&'a str),
    /// The n-th `[[name]]`.
    Item(&'a str, usize),
}

/// Why a text cannot be changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EditError {
    /// It is no TOML.
    #[error("the text is no TOML")]
    NotToml,
    /// There is no such place.
    #[error("there is no {0} in it")]
    NoPlace(String),
    /// It is there in a form that is not changed here.
    #[error("{0} is written in a way that is not changed by itself; change it by hand")]
    Form(String),
}

type Result<T> = std::result::Result<T, EditError>;

/// A TOML string.
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn name_of(at: At<'_>) -> String {
    match at {
        At::Table(name) => format!("[{name}]"),
        At::Item(name, number) => format!("[[{name}]] number {}", number + 1),
    }
}

/// The table that `at` names, as far as it is there.
fn table<'t, 'i>(file: &'t DeTable<'i>, at: At<'_>) -> Option<&'t DeTable<'i>> {
    match at {
        At::Table(name) => file.get(name)?.get_ref().as_table(),
        At::Item(name, number) => file.get(name)?.get_ref().as_array()?.get(number)?.get_ref().as_table(),
    }
}

/// Where key and value stand.
fn entry<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<(Range<usize>, &'t Spanned<DeValue<'i>>)> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, value)| (name.span(), value))
}

fn with_table<T>(text: &str, at: At<'_>, work: impl FnOnce(&DeTable<'_>) -> Result<T>) -> Result<T> {
    let file = DeTable::parse(text).map_err(|_| EditError::NotToml)?;
    let table = table(file.get_ref(), at).ok_or_else(|| EditError::NoPlace(name_of(at)))?;
    work(table)
}

fn line_start(text: &str, place: usize) -> usize {
    text[..place].rfind('\n').map_or(0, |end| end + 1)
}

/// Behind the end of the line that `place` is in.
fn line_end(text: &str, place: usize) -> usize {
    text[place..].find('\n').map_or(text.len(), |end| place + end + 1)
}

fn line_break(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// True when nothing but blanks stands before `place` in its line.
fn begins_line(text: &str, place: usize) -> bool {
    text[line_start(text, place)..place].trim().is_empty()
}

/// Sets `key` to `value`, which is TOML: in its place, or in a new line above the table's first.
pub fn set(text: &str, at: At<'_>, key: &str, value: &str) -> Result<String> {
    with_table(text, at, |table| {
        if let Some((_, old)) = entry(table, key) {
            let Range { start, end } = old.span();
            return Ok(format!("{}{value}{}", &text[..start], &text[end..]));
        }
        let first = table.iter().map(|(name, _)| name.span().start).min();
        let first = first.filter(|place| begins_line(text, *place));
        let start = line_start(text, first.ok_or_else(|| EditError::Form(name_of(at)))?);
        Ok(format!("{}{key} = {value}{}{}", &text[..start], line_break(text), &text[start..]))
    })
}

/// Takes `key` away with its line; one that is not there is no error.
pub fn remove(text: &str, at: At<'_>, key: &str) -> Result<String> {
    with_table(text, at, |table| {
        let Some((name, value)) = entry(table, key) else {
            return Ok(text.to_owned());
        };
        if !begins_line(text, name.start) {
            return Err(EditError::Form(format!("{key} of {}", name_of(at))));
        }
        let (start, end) = (line_start(text, name.start), line_end(text, value.span().end));
        Ok(format!("{}{}", &text[..start], &text[end..]))
    })
}

/// Adds `value`, which is TOML of one element, to the list `key`. A list of tables written as `[[…]]` gets one more at the end of the file.
pub fn push(text: &str, at: At<'_>, key: &str, value: &str, as_table: &str) -> Result<String> {
    let there = with_table(text, at, |table| Ok(entry(table, key).map(|(_, value)| value.span())))?;
    if there.is_none() {
        return set(text, at, key, &format!("[{value}]"));
    }
    with_table(text, at, |table| {
        let form = || EditError::Form(format!("{key} of {}", name_of(at)));
        let (_, list) = entry(table, key).ok_or_else(form)?;
        let items = list.get_ref().as_array().ok_or_else(form)?;
        let Some(last) = items.iter().last() else {
            let inside = list.span().start + 1;
            return Ok(format!("{}{value}{}", &text[..inside], &text[inside..]));
        };
        if is_header(text, last) {
            let end = line_break(text);
            let gap = if text.ends_with('\n') { "" } else { end };
            return Ok(format!("{text}{gap}{end}{}", as_table.replace('\n', end)));
        }
        let last = last.span();
        // In a list with an element a line the new one gets a line of its own, too, below what is said of the one before.
        if begins_line(text, last.start) {
            return Ok(with_line_below(text, &last, list.span().end - 1, value));
        }
        Ok(format!("{}, {value}{}", &text[..last.end], &text[last.end..]))
    })
}

/// The text with `value` in a line of its own below the last element of a list, whose `]` is at `close`. That element gets a comma where it had
/// none, and keeps the comment behind it.
fn with_line_below(text: &str, last: &Range<usize>, close: usize, value: &str) -> String {
    let behind = after_comma(text, last.end);
    let comma = if behind == last.end { "," } else { "" };
    let indent = &text[line_start(text, last.start)..last.start];
    // The `]` may stand in the line of the last element, and a comment may not.
    let at = line_end(text, behind).min(close);
    let gap = if text[..at].ends_with('\n') { "" } else { line_break(text) };
    format!(
        "{}{comma}{}{gap}{indent}{value},{}{}",
        &text[..last.end],
        &text[last.end..at],
        line_break(text),
        &text[at..]
    )
}

/// A table of a list that has a header of its own, `[[…]]`.
fn is_header(text: &str, item: &Spanned<DeValue<'_>>) -> bool {
    item.get_ref().as_table().is_some() && text.as_bytes().get(item.span().start) != Some(&b'{')
}

/// Takes the elements of the list `key` away that `unwanted` says, and says how many there were.
pub fn take(
    text: &str,
    at: At<'_>,
    key: &str,
    unwanted: &dyn Fn(&DeValue<'_>) -> bool,
) -> Result<(String, usize)> {
    let mut text = text.to_owned();
    let mut count = 0;
    // One at a time: each changes where the others stand.
    while let Some(shorter) = take_one(&text, at, key, unwanted)? {
        (text, count) = (shorter, count + 1);
    }
    Ok((text, count))
}

fn take_one(
    text: &str,
    at: At<'_>,
    key: &str,
    unwanted: &dyn Fn(&DeValue<'_>) -> bool,
) -> Result<Option<String>> {
    with_table(text, at, |table| {
        let Some((_, list)) = entry(table, key) else {
            return Ok(None);
        };
        let form = || EditError::Form(format!("{key} of {}", name_of(at)));
        let items: Vec<_> = list.get_ref().as_array().ok_or_else(form)?.iter().collect();
        let Some(place) = items.iter().position(|item| unwanted(item.get_ref())) else {
            return Ok(None);
        };
        if is_header(text, items[place]) {
            return Ok(Some(without_section(text, items[place].span().start)));
        }
        let span = |n: usize| items.get(n).map(|item| item.span());
        let own = items[place].span();
        let cut = match (place.checked_sub(1).and_then(span), span(place + 1)) {
            // One with lines of its own takes what is said behind it along.
            _ if stands_alone(text, &own, list.span().end - 1) => {
                line_start(text, own.start)..line_end(text, after_comma(text, own.end))
            }
            (_, Some(next)) => own.start..next.start,
            (Some(before), None) => before.end..own.end,
            // A comma behind the only element goes with it.
            (None, None) => own.start..after_comma(text, own.end),
        };
        Ok(Some(format!("{}{}", &text[..cut.start], &text[cut.end..])))
    })
}

/// Whether nothing but an element, its comma and a comment is in its lines.
fn stands_alone(text: &str, own: &Range<usize>, close: usize) -> bool {
    let behind = after_comma(text, own.end);
    let end = line_end(text, behind);
    let rest = text[behind..end].trim();
    begins_line(text, own.start) && end <= close && (rest.is_empty() || rest.starts_with('#'))
}

fn after_comma(text: &str, end: usize) -> usize {
    let rest = &text[end..];
    let blanks = rest.len() - rest.trim_start().len();
    if rest[blanks..].starts_with(',') { end + blanks + 1 } else { end }
}

/// The text without the `[[…]]` whose header is in the line of `place`, up to the next header.
fn without_section(text: &str, place: usize) -> String {
    let start = line_start(text, place);
    let mut end = line_end(text, place);
    // Comments that stand directly above the next header are about that one.
    let mut kept = end;
    while end < text.len() && !text[end..].trim_start_matches([' ', '\t']).starts_with('[') {
        let next = line_end(text, end);
        if !text[end..next].trim_start().starts_with('#') {
            kept = next;
        }
        end = next;
    }
    let kept = if end < text.len() { kept } else { end };
    format!("{}{}", &text[..start], &text[kept..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# top
[encryption]
# who can open
recipients = [\"a\", \"b\"] # two
identity_file = \"/k/i\"   # the private key

[signing]
key_file = '/k/s'
trusted = [
    { key = \"one\", name = \"1\", roles = [\"host\"] }, # first
    { key = \"two\", name = \"2\", roles = [\"host\"] },
]

[[store]]
name = \"x\"
path = \"backups\"
[[store]]
name = \"y\"
url = \"s3://b\"
";

    fn is(value: &DeValue<'_>, key: &str) -> bool {
        value.as_str() == Some(key)
            || value.as_table().and_then(|t| t.get("key")?.get_ref().as_str().map(str::to_owned)).as_deref()
                == Some(key)
    }

    #[test]
    fn only_what_is_meant_changes() {
        let set_to = |at, key, value| set(TEXT, at, key, value).unwrap();
        let changed = set_to(At::Table("encryption"), "identity_file", "\"/new\"");
        assert_eq!(changed, TEXT.replace("\"/k/i\"", "\"/new\""));
        let changed = set_to(At::Item("store", 1), "url", "\"s3://c\"");
        assert_eq!(changed, TEXT.replace("s3://b", "s3://c"));
        let changed = set_to(At::Table("encryption"), "new", "1");
        assert_eq!(changed, TEXT.replace("recipients = ", "new = 1\nrecipients = "));
        let changed = remove(TEXT, At::Table("encryption"), "identity_file").unwrap();
        assert_eq!(changed, TEXT.replace("identity_file = \"/k/i\"   # the private key\n", ""));
        assert_eq!(remove(TEXT, At::Table("signing"), "none").unwrap(), TEXT);
    }

    #[test]
    fn lists_grow_and_shrink_in_their_own_form() {
        let (enc, sign) = (At::Table("encryption"), At::Table("signing"));
        let more = push(TEXT, enc, "recipients", "\"c\"", "").unwrap();
        assert_eq!(more, TEXT.replace("\"b\"]", "\"b\", \"c\"]"));
        assert_eq!(take(&more, enc, "recipients", &|v| is(v, "c")).unwrap(), (TEXT.to_owned(), 1));
        let less = take(TEXT, enc, "recipients", &|v| is(v, "a")).unwrap().0;
        assert_eq!(less, TEXT.replace("\"a\", ", ""));
        let none = take(&less, enc, "recipients", &|v| is(v, "b")).unwrap().0;
        assert!(none.contains("recipients = [] # two"), "{none}");
        assert!(push(&none, enc, "recipients", "\"z\"", "").unwrap().contains("recipients = [\"z\"] # two"));
        let more = push(TEXT, sign, "trusted", "{ key = \"three\" }", "").unwrap();
        let two = "{ key = \"two\", name = \"2\", roles = [\"host\"] }";
        assert_eq!(more, TEXT.replace(two, &format!("{two},\n    {{ key = \"three\" }}")));
        assert_eq!(take(&more, sign, "trusted", &|v| is(v, "three")).unwrap().0, TEXT);
        let (less, count) = take(TEXT, sign, "trusted", &|v| is(v, "one")).unwrap();
        assert!(count == 1 && !less.contains("one") && less.contains("two"), "{less}");
        assert!(DeTable::parse(&less).is_ok());
    }

    #[test]
    fn what_is_said_of_an_element_stays_with_it() {
        let enc = At::Table("encryption");
        let list = |items: &str| format!("[encryption]\nrecipients = [\n{items}]\n");
        let (ann, safe) = ("    \"a\", # Ann's laptop\n", "    \"b\", # stick in the safe\n");
        let text = list(&format!("{ann}{safe}"));
        let more = push(&text, enc, "recipients", "\"c\"", "").unwrap();
        assert_eq!(more, list(&format!("{ann}{safe}    \"c\",\n")));
        assert_eq!(take(&text, enc, "recipients", &|v| is(v, "b")).unwrap().0, list(ann));
        assert_eq!(take(&text, enc, "recipients", &|v| is(v, "a")).unwrap().0, list(safe));
        let none = take(&text, enc, "recipients", &|v| is(v, "a") || is(v, "b")).unwrap().0;
        assert_eq!(none, list(""));
        // The last has no comma, or shares its line with the bracket.
        let bare = list(&format!("{ann}    \"b\" # stick in the safe\n"));
        let more = push(&bare, enc, "recipients", "\"c\"", "").unwrap();
        assert_eq!(more, list(&format!("{ann}{safe}    \"c\",\n")));
        let close = "[encryption]\nrecipients = [\n    \"a\",\n    \"b\"]\n";
        let more = push(close, enc, "recipients", "\"c\"", "").unwrap();
        assert_eq!(more, list("    \"a\",\n    \"b\",\n    \"c\",\n"));
        let text = "[[signing.trusted]]\nkey = \"one\"\n\n# the second\n[[signing.trusted]]\nkey = \"two\"\n";
        let less = take(text, At::Table("signing"), "trusted", &|v| is(v, "one")).unwrap().0;
        assert_eq!(less, "\n# the second\n[[signing.trusted]]\nkey = \"two\"\n".trim_start());
    }

    #[test]
    fn tables_with_headers_of_their_own_stay_so() {
        let text = "[signing]\nkey_file = \"k\"\n[[signing.trusted]]\nkey = \"one\"\n[[signing.trusted]]\nkey = \"two\"\n[state]\ndir = \"d\"\n";
        let sign = At::Table("signing");
        let table = "[[signing.trusted]]\nkey = \"three\"\n";
        let more = push(text, sign, "trusted", "{ key = \"three\" }", table).unwrap();
        assert_eq!(more, format!("{text}\n{table}"));
        let (less, count) = take(&more, sign, "trusted", &|v| is(v, "one")).unwrap();
        assert_eq!((less, count), (more.replace("[[signing.trusted]]\nkey = \"one\"\n", ""), 1));
        let crlf = text.replace('\n', "\r\n");
        let more = push(&crlf, sign, "trusted", "", table).unwrap();
        assert!(more.ends_with("\r\n[[signing.trusted]]\r\nkey = \"three\"\r\n"), "{more:?}");
        let set_it = set(&crlf, At::Table("state"), "x", "1").unwrap();
        assert!(set_it.contains("[state]\r\nx = 1\r\ndir"), "{set_it:?}");
    }

    #[test]
    fn what_is_not_there_or_in_another_form_is_said() {
        let none = set(TEXT, At::Table("retention"), "x", "1");
        assert_eq!(none, Err(EditError::NoPlace("[retention]".into())));
        let one_line = "encryption = { recipients = [] }\n";
        assert!(matches!(set(one_line, At::Table("encryption"), "x", "1"), Err(EditError::Form(_))));
        assert!(matches!(remove(one_line, At::Table("encryption"), "recipients"), Err(EditError::Form(_))));
        assert_eq!(set("[", At::Table("x"), "y", "1"), Err(EditError::NotToml));
    }
}

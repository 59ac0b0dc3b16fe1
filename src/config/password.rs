//! Passwords in commands and addresses: they are refused, because every user of a machine can read the arguments of what runs there. This
//! file must never put one into a message.

use crate::config::settings::CommandLine;

/// What begins a word that gives a password.
const NAMED: [&str; 3] = ["--password=", "PGPASSWORD=", "MYSQL_PWD="];
const QUOTES: [char; 2] = ['"', '\''];

/// Only what is a password beyond doubt: a value given to `--password=` or a variable of that meaning, or one in a URL.
pub(super) fn in_command(line: &CommandLine) -> bool {
    let texts = match line {
        CommandLine::Args(args) => args.as_slice(),
        CommandLine::Shell(text) => std::slice::from_ref(text),
    };
    // An argument may be a line of its own: sh -c "PGPASSWORD=… d".
    texts.iter().flat_map(|text| text.split_whitespace()).any(holds_one)
}

fn holds_one(word: &str) -> bool {
    let word = word.trim_start_matches(QUOTES);
    let named = NAMED.iter().find_map(|begin| word.strip_prefix(begin));
    named.is_some_and(is_literal) || in_url(word).is_some_and(is_literal)
}

/// What a shell puts in its place stands elsewhere.
fn is_literal(value: &str) -> bool {
    let value = value.trim_matches(QUOTES);
    !value.is_empty() && !value.starts_with(['$', '`'])
}

/// The password of a URL.
pub(super) fn in_url(word: &str) -> Option<&str> {
    let (_, rest) = word.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

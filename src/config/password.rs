//! Passwords in commands and addresses: they are refused, because every user of a machine can read the arguments of what runs there. This
//! file must never put one into a message.

use crate::config::settings::CommandLine;

/// What begins a word that gives a password.
const NAMED: [&str; 3] = ["--password=", "PGPASSWORD=", "MYSQL_PWD="];

/// Whether a word of a shell, or of a line within one, ends before `c`.
fn ends(c: char) -> bool {
    c.is_whitespace() || ['"', '\'', ';', '(', ')', '\\'].contains(&c)
}

/// Only what is a password beyond doubt: a value given to `--password=` or a variable of that meaning, or one in a URL.
pub(super) fn in_command(line: &CommandLine) -> bool {
    let texts = match line {
        CommandLine::Args(args) => args.as_slice(),
        CommandLine::Shell(text) => std::slice::from_ref(text),
    };
    // An argument may be a line of its own: sh -c "PGPASSWORD=… d".
    texts.iter().any(|text| holds_one(text))
}

fn holds_one(text: &str) -> bool {
    let begins_word = |at: usize| text[..at].chars().next_back().is_none_or(ends);
    // Quotes behind the name belong to the value, in a line within a line with a backslash before them.
    let value = |at: usize| text[at..].trim_start_matches(['"', '\'', '\\']);
    let named = NAMED.iter().any(|name| {
        let mut places =
            text.match_indices(name).filter(|(at, _)| begins_word(*at) || text[..*at].ends_with("-e"));
        places.any(|(at, _)| is_literal(value(at + name.len())))
    });
    named || text.split(ends).any(|word| in_url(word).is_some_and(is_literal))
}

/// What a shell puts in its place stands elsewhere.
fn is_literal(value: &str) -> bool {
    !value.is_empty() && !value.starts_with(|c| ends(c) || c == '$' || c == '`')
}

/// The password of a URL.
pub(super) fn in_url(word: &str) -> Option<&str> {
    let (_, rest) = word.split_once("://")?;
    let (user, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

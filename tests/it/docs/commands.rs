//! Command lines of backstay in texts: each must be one that the program understands.

use backstay::cli::args::Cli;
use clap::Parser;
use clap::error::ErrorKind;
use std::path::Path;

/// The lines of all fenced blocks.
pub(super) fn fenced_lines(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The words of the commands of backstay in a line of shell.
fn commands_of(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("backstay ") {
        let before = line[..at].trim_end();
        let begins =
            before.is_empty() || before.ends_with(['$', ';', '|', '&', '(', ':']) || before.ends_with("--");
        let words = words(&line[at..]);
        // `cargo run -- demo` and prose such as "a store of backstay does" are no command lines, and
        // `backstay __…` is for the program itself.
        let is_command =
            words.len() > 1 && words[1].starts_with(|c: char| c.is_ascii_lowercase() || c == '-');
        if begins && is_command {
            found.push(words);
        }
    }
    found
}

/// Words up to the end of the command, quotes taken away.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '\'' | '"') => (quote, any) = (Some(c), true),
            (None, ' ') if any => words.push(std::mem::take(&mut word)),
            (None, ';' | '|' | '&' | '>' | ')' | '#') => break,
            (None, ' ') => {}
            _ => word.push(c),
        }
        any = quote.is_some() || !word.is_empty() || (any && c != ' ');
    }
    if any {
        words.push(word);
    }
    words
}

/// Checks every command line in `lines`; gives how many there were.
pub(super) fn check(path: &Path, lines: &[String]) -> usize {
    let mut count = 0;
    for command in lines.iter().flat_map(|line| commands_of(line)) {
        count += 1;
        if let Err(e) = Cli::try_parse_from(&command) {
            // A text may name a command without all that it needs.
            use ErrorKind::{DisplayHelp, DisplayVersion, MissingRequiredArgument};
            let is_short = matches!(e.kind(), MissingRequiredArgument | DisplayHelp | DisplayVersion);
            assert!(is_short, "{}: {}: {e}", path.display(), command.join(" "));
        }
    }
    count
}

#[test]
fn command_lines_are_found_and_taken_apart() {
    let all = |line: &str| commands_of(line).iter().map(|w| w.join("|")).collect::<Vec<_>>();
    assert_eq!(all("cd x && backstay -q backup --note 'a b' >/dev/null"), ["backstay|-q|backup|--note|a b"]);
    assert_eq!(all("backstay list # the snapshots"), ["backstay|list"]);
    assert!(all("the makers of backstay included").is_empty());
    let wrong = vec!["backstay unheard-of kit.txt".to_owned()];
    assert!(std::panic::catch_unwind(|| check(Path::new("x"), &wrong)).is_err());
}

//! The parser's own errors: which of them to tell, and what probably went wrong.

use crate::config::render::Found;
use std::collections::BTreeSet;
use std::ops::Range;

/// The parser's errors, without those that only follow from an earlier one.
pub(super) struct Syntax {
    pub found: Vec<Found>,
    /// From here on the parser had lost its place.
    lost: usize,
    lines: BTreeSet<usize>,
}

impl Syntax {
    pub(super) fn of(text: &str, errors: &[toml::de::Error]) -> Self {
        let span = |e: &toml::de::Error| e.span().unwrap_or(0..0);
        // Brackets that are not closed swallow what follows.
        let swallows =
            |e: &&toml::de::Error| ["array", "unclosed", "inline"].iter().any(|w| e.message().contains(w));
        let lost = errors.iter().filter(swallows).map(|e| span(e).start).min().unwrap_or(usize::MAX);
        let mut sorted: Vec<_> = errors.iter().filter(|e| span(e).start <= lost).collect();
        sorted.sort_by_key(|e| span(e).start);
        let mut syntax = Self { found: Vec::new(), lost, lines: BTreeSet::new() };
        for error in sorted {
            let span = span(error);
            if syntax.lines.insert(line_of(text, span.start)) {
                let hint = syntax_hint(text, &span, error.message());
                let found = Found::at(&span, error.message());
                syntax.found.push(match hint {
                    Some(hint) => found.hint(hint),
                    None => found,
                });
            }
        }
        syntax
    }

    pub(super) fn can_be_believed(&self, text: &str, found: &Found) -> bool {
        let Some(span) = &found.span else {
            return self.found.is_empty();
        };
        span.start < self.lost && !self.lines.contains(&line_of(text, span.start))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

fn syntax_hint(text: &str, span: &Range<usize>, message: &str) -> Option<&'static str> {
    let rest = text.get(span.start..).unwrap_or_default();
    if message == "duplicate key" {
        return Some("it stands twice in this table; remove one");
    }
    if message.contains("array") {
        return Some("is a `]` or a comma missing before it? the rest of the file could not be read");
    }
    if message.contains("unclosed") || message.contains("inline") {
        return Some("the rest of the file could not be read");
    }
    if message.contains("must be quoted") || message.contains("boolean") || message.contains("missing value")
    {
        return Some(if rest.starts_with(['T', 'F']) {
            "write true or false"
        } else {
            "put texts in quotes: \"…\""
        });
    }
    (message.contains("escape")).then_some("write a backslash twice, or use single quotes: '…'")
}

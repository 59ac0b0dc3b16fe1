//! What is excluded: gitignore patterns of the configuration and of files found on the way, and what this program itself left.
//!
//! The configuration's own patterns decide first, so that `!.env` brings back what a `.gitignore` excludes; then the file nearest to the path. Within one
//! list the last match decides. What lies in an excluded directory is excluded and cannot be brought back, as with git.

use crate::durable::own_names::is_own;
use crate::model::RelPath;
use crate::model::path::escape;
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// A line that is not a gitignore pattern.
#[derive(Debug, thiserror::Error)]
#[error("the exclusion pattern {pattern:?} cannot be used: {why}")]
pub struct BadPattern {
    /// The line.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// A list of patterns and the directory they are relative to.
#[derive(Debug)]
pub(super) struct Layer {
    /// Where it holds, in the component.
    dir: RelPath,
    matcher: Gitignore,
}

impl Layer {
    /// A layer of `lines` for `dir` and everything below. The lines that are no patterns come back beside it.
    pub(super) fn new(
        dir: RelPath,
        lines: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> (Self, Vec<BadPattern>) {
        let mut builder = GitignoreBuilder::new("");
        let mut bad = Vec::new();
        let mut problem = |pattern: &str, error: &dyn std::fmt::Display| {
            bad.push(BadPattern { pattern: pattern.to_owned(), why: error.to_string() });
        };
        for line in lines {
            if let Err(e) = builder.add_line(None, line.as_ref()) {
                problem(line.as_ref(), &e);
            }
        }
        let matcher = builder.build().unwrap_or_else(|e| {
            problem("(all of them together)", &e);
            Gitignore::empty()
        });
        (Self { dir, matcher }, bad)
    }

    /// The same for lines that must all be right.
    pub(super) fn strict(lines: &[String]) -> Result<Self, BadPattern> {
        let (layer, mut bad) = Self::new(RelPath::root(), lines);
        bad.pop().map_or(Ok(layer), Err)
    }

    /// `Some(true)`: excluded; `Some(false)`: brought back; `None`: nothing matches.
    fn verdict(&self, path: &RelPath, is_dir: bool) -> Option<bool> {
        if self.matcher.is_empty() || path.is_root() || !path.is_within(&self.dir) {
            return None;
        }
        let inside = match self.dir.is_root() {
            true => path.as_bytes(),
            false => path.as_bytes().get(self.dir.as_bytes().len() + 1..)?,
        };
        match self.matcher.matched(Path::new(OsStr::from_bytes(inside)), is_dir) {
            Match::None => None,
            Match::Ignore(_) => Some(true),
            Match::Whitelist(_) => Some(false),
        }
    }

    /// True when a pattern matches `path` or a directory that it lies in.
    pub(super) fn covers(&self, path: &RelPath, is_dir: bool) -> bool {
        let (mut verdict, mut around) = (self.verdict(path, is_dir), path.parent());
        // A path may have thousands of parts.
        while let (None, Some(dir)) = (verdict, &around) {
            verdict = self.verdict(dir, true);
            around = dir.parent();
        }
        verdict.unwrap_or(false)
    }
}

/// The patterns in force at a place of the walk: the configuration's, then those of the directories on the way, outermost first.
#[derive(Debug)]
pub(super) struct Rules {
    own: Arc<Layer>,
    found: Vec<Arc<Layer>>,
    lines: Vec<String>,
}

impl Rules {
    /// The configuration's patterns; `from_files` are the lines of files named by path, which count less than `exclude`.
    pub(super) fn new(from_files: &[String], exclude: &[String]) -> Result<Self, BadPattern> {
        let all: Vec<String> = from_files.iter().chain(exclude).cloned().collect();
        let own = Arc::new(Layer::strict(&all)?);
        let lines = all.iter().filter(|line| is_pattern(line)).map(|line| shielded(line)).collect();
        Ok(Self { own, found: Vec::new(), lines })
    }

    /// Adds the patterns of a file in `dir`, until [`Rules::leave`]. What is no pattern comes back.
    pub(super) fn enter(&mut self, dir: &RelPath, lines: &[String]) -> Vec<BadPattern> {
        let patterns = lines.iter().filter(|line| is_pattern(line));
        self.lines.extend(patterns.map(|line| format!("{}: {line}", shielded(&escape(dir.as_bytes())))));
        let (layer, bad) = Layer::new(dir.clone(), lines);
        self.found.push(Arc::new(layer));
        bad
    }

    /// How many layers hold now; to be given to [`Rules::leave`].
    pub(super) fn depth(&self) -> usize {
        self.found.len()
    }

    /// Drops the layers above `depth`.
    pub(super) fn leave(&mut self, depth: usize) {
        self.found.truncate(depth);
    }

    /// Those that hold at `depth`, with no lines: what was met so far is another's to tell.
    pub(super) fn outer(&self, depth: usize) -> Self {
        let found = self.found.iter().take(depth).cloned().collect();
        Self { own: Arc::clone(&self.own), found, lines: Vec::new() }
    }

    /// True when `path`, whose parents are not excluded, is.
    pub(super) fn exclude(&self, path: &RelPath, is_dir: bool) -> bool {
        // Own names last, so that a pattern can bring them back.
        self.verdict(path, is_dir).unwrap_or_else(|| is_own(path.name(), is_dir))
    }

    /// What the patterns say, and nothing else.
    fn verdict(&self, path: &RelPath, is_dir: bool) -> Option<bool> {
        let layers = std::iter::once(&self.own).chain(self.found.iter().rev());
        layers.into_iter().find_map(|layer| layer.verdict(path, is_dir))
    }

    /// All patterns met so far, as the index lists them: the configuration's as they are, those of a file as `dir: pattern`, with `.` for the
    /// root, because a file's patterns count less.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

fn is_pattern(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

/// Where an unescaped `: ` begins, if there is one.
fn separator(text: &str) -> Option<usize> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == ':' && text[at + 1..].starts_with(' ') {
            return Some(at);
        }
    }
    None
}

/// `text` with `: ` written `\\: `, which means the same to gitignore: so that it does not look like the end of a directory.
fn shielded(text: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = separator(rest) {
        done.push_str(&rest[..at]);
        done.push_str("\\: ");
        rest = &rest[at + 2..];
    }
    done + rest
}

/// A rule's directory and pattern; a directory only where the rule has one.
fn split_rule(line: &str) -> Option<(Option<RelPath>, &str)> {
    match separator(line) {
        None => Some((None, line)),
        Some(at) => Some((Some(RelPath::new(&unescaped(&line[..at])?).ok()?), &line[at + 2..])),
    }
}

/// Undoes [`escape`] and [`shielded`].
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let code = rest.chars().next()?;
        rest = &rest[code.len_utf8()..];
        match code {
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            ':' | '\\' => out.push(code as u8),
            'x' => {
                out.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = &rest[2..];
            }
            'u' => {
                let (hex, after) = rest.strip_prefix('{')?.split_once('}')?;
                let c = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => return None,
        }
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

/// What the rules of a captured component (the index's `rules`) exclude: so a rollback knows what it must leave alone.
#[derive(Debug)]
pub struct Excluded {
    rules: Rules,
    /// Also what this program left.
    own_names: bool,
}

impl Excluded {
    /// Reads rules as the index lists them. What cannot be used comes back.
    pub fn from_rules(lines: &[String]) -> (Self, Vec<BadPattern>) {
        let mut own: Vec<&str> = Vec::new();
        let mut by_dir: BTreeMap<RelPath, Vec<&str>> = BTreeMap::new();
        let mut bad = Vec::new();
        for line in lines {
            match split_rule(line) {
                Some((None, pattern)) => own.push(pattern),
                Some((Some(dir), pattern)) => by_dir.entry(dir).or_default().push(pattern),
                None => {
                    bad.push(BadPattern { pattern: line.clone(), why: "its directory is not a path".into() });
                }
            }
        }
        let (own, more) = Layer::new(RelPath::root(), own);
        bad.extend(more);
        let mut found = Vec::new();
        // Outermost first: the order in which a walk would have met them.
        for (dir, patterns) in by_dir {
            let (layer, more) = Layer::new(dir, patterns);
            found.push(Arc::new(layer));
            bad.extend(more);
        }
        (Self { rules: Rules { own: Arc::new(own), found, lines: Vec::new() }, own_names: true }, bad)
    }

    /// What these patterns match and nothing else: for `allow_unreadable`.
    pub fn from_patterns(patterns: &[String]) -> Self {
        Self { own_names: false, ..Self::from_rules(patterns).0 }
    }

    /// True when `path` or a directory that it lies in is excluded.
    pub fn covers(&self, path: &RelPath, is_dir: bool) -> bool {
        let mut at = Vec::new();
        for (count, part) in path.parts().enumerate() {
            if count > 0 {
                at.push(b'/');
            }
            at.extend_from_slice(part);
            let last = at.len() == path.as_bytes().len();
            let Ok(here) = RelPath::new(&at) else {
                return false;
            };
            if self.covers_itself(&here, is_dir || !last) {
                return true;
            }
        }
        false
    }

    /// The same of a path that lies in no excluded directory.
    pub fn covers_itself(&self, path: &RelPath, is_dir: bool) -> bool {
        match self.own_names {
            true => self.rules.exclude(path, is_dir),
            false => self.rules.verdict(path, is_dir) == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }
    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let table: &[(&[&str], &str, bool, bool)] = &[
            (&["venv/"], "venv", true, true),
            (&["venv/"], "venv", false, false),
            (&["venv/"], "a/b/venv", true, true),
            (&["/venv/"], "a/venv", true, false),
            (&["*.log"], "a/b.log", false, true),
            (&["*.log", "!keep.log"], "a/keep.log", false, false),
            (&["!keep.log", "*.log"], "keep.log", false, true),
            (&["a/*.txt"], "a/x.txt", false, true),
            (&["a/*.txt"], "b/a/x.txt", false, false),
            (&["**/a/*.txt"], "b/a/x.txt", false, true),
            (&["a/**"], "a/b/c", false, true),
            (&["a/**"], "a", true, false),
            (&["# x"], "# x", false, false),
            (&["\\# x"], "# x", false, true),
            (&["[ab]c"], "bc", false, true),
            (&["  "], "  ", false, false),
        ];
        for (patterns, path, is_dir, excluded) in table {
            let rules = Rules::new(&[], &lines(patterns)).unwrap();
            assert_eq!(rules.exclude(&p(path), *is_dir), *excluded, "{patterns:?} {path}");
        }
    }

    #[test]
    fn what_a_restore_left_is_excluded_unless_a_pattern_brings_it_back() {
        let (kept, unfinished) =
            ("a/x.before-restore-20261117T103000Z", ".x.backstay-partial-abcdefgh234567ab");
        let rules = Rules::new(&[], &lines(&["*.log"])).unwrap();
        assert!(rules.exclude(&p(kept), false) && rules.exclude(&p(unfinished), false));
        assert!(!rules.exclude(&p("a/x.before-restore-mine"), false));
        let rules = Rules::new(&[], &lines(&["!*.before-restore-*"])).unwrap();
        assert!(!rules.exclude(&p(kept), false) && rules.exclude(&p(unfinished), false));
        let (excluded, bad) = Excluded::from_rules(&[]);
        assert!(bad.is_empty() && excluded.covers(&p(kept), false), "a rollback leaves them, too");
        assert!(
            !Excluded::from_patterns(&[]).covers(&p(kept), false),
            "and it may not be unreadable by itself"
        );
    }

    #[test]
    fn the_nearest_file_wins_and_the_configuration_wins_over_all() {
        let mut rules = Rules::new(&lines(&["*.tmp"]), &lines(&["!.env"])).unwrap();
        rules.enter(&RelPath::root(), &lines(&[".env", "*.log"]));
        rules.enter(&p("a"), &lines(&["!*.log", "/only-here"]));
        assert!(!rules.exclude(&p(".env"), false));
        assert!(rules.exclude(&p("x.log"), false) && !rules.exclude(&p("a/x.log"), false));
        assert!(rules.exclude(&p("a/only-here"), false) && !rules.exclude(&p("a/b/only-here"), false));
        assert!(rules.exclude(&p("a/x.tmp"), false));
        rules.leave(1);
        assert!(rules.exclude(&p("a/x.log"), false));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_by_name() {
        let error = Rules::new(&[], &lines(&["ok", "[z-a]"])).unwrap_err();
        assert_eq!(error.pattern, "[z-a]");
    }

    #[test]
    fn rules_read_back_from_an_index_exclude_the_same() {
        let mut rules = Rules::new(&[], &lines(&["venv/", "odd: name", "# none"])).unwrap();
        rules.enter(&p("a"), &lines(&["/out", "!keep"]));
        rules.enter(&p("b: c"), &lines(&["x"]));
        rules.enter(&RelPath::new(b"d\\\n\xff").unwrap(), &lines(&["y"]));
        let written = rules.into_lines();
        assert_eq!(written, ["venv/", "odd\\: name", "a: /out", "a: !keep", "b\\: c: x", "d\\\\\\n\\xff: y"]);
        let (excluded, bad) = Excluded::from_rules(&written);
        assert!(bad.is_empty(), "{bad:?}");
        for yes in ["venv/lib/x", "odd: name", "a/out", "a/out/deep", "b: c/d/x"] {
            assert!(excluded.covers(&p(yes), false), "{yes}");
        }
        assert!(excluded.covers(&RelPath::new(b"d\\\n\xff/y").unwrap(), false));
        for no in ["venv", "a/b/out", "x", "b: c/y", "."] {
            assert!(!excluded.covers(&p(no), false), "{no}");
        }
    }
}

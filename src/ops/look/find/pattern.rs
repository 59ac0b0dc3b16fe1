//! What people look for: a pattern over `component/path`, or one path.

use crate::model::index::SegmentRef;
use crate::model::{Entry, Kind, RelPath};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::select::Selection;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is looked for.
pub(super) struct Pattern {
    what: What,
    /// The only component it can be in, where it names one.
    component: Option<String>,
    /// Narrows which listings are read.
    selection: Selection,
}

enum What {
    /// This very path.
    Path(RelPath),
    /// All that the pattern matches.
    Glob(Gitignore),
}

/// True for a path of this machine.
pub(super) fn is_live(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("./") || text.starts_with("../")
}

impl Pattern {
    /// One path of one component; without a path all of it.
    pub(super) fn exact(component: String, path: Option<RelPath>) -> Self {
        let path = path.unwrap_or_else(RelPath::root);
        let paths = if path.is_root() { Vec::new() } else { vec![path.clone()] };
        let selection = Selection { component: component.clone(), paths };
        Self { what: What::Path(path), component: Some(component), selection }
    }

    /// A pattern as `exclude` takes it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            OpError::new(Class::Usage, format!("{text:?} cannot be looked for"))
                .because(why)
                .hint("a pattern is like those of `exclude`: '*.env', 'backend/**/*.py', 'settings/.env'")
        };
        if text.trim().is_empty() || text.starts_with(['!', '#']) {
            return Err(wrong("it is empty, or begins with ! or #".into()));
        }
        let mut builder = GitignoreBuilder::new("");
        builder.add_line(None, text).map_err(|e| wrong(e.to_string()))?;
        let glob = builder.build().map_err(|e| wrong(e.to_string()))?;
        let (component, path) = literal_beginning(text);
        let paths = path.into_iter().collect();
        let selection = Selection { component: component.clone().unwrap_or_default(), paths };
        Ok(Self { what: What::Glob(glob), component, selection })
    }

    /// False when nothing in `component` can match.
    pub(super) fn may_be_in(&self, component: &str) -> bool {
        self.component.as_ref().is_none_or(|only| only == component)
    }

    /// False when nothing in a listing can match.
    pub(super) fn touches(&self, listing: &SegmentRef) -> bool {
        self.selection.touches(&listing.first, &listing.last)
    }

    /// True when `entry` of `component` is looked for.
    pub(super) fn matches(&self, component: &str, entry: &Entry) -> bool {
        match &self.what {
            What::Path(path) => entry.path == *path,
            What::Glob(glob) => {
                let mut full = component.as_bytes().to_vec();
                if !entry.path.is_root() {
                    full.push(b'/');
                    full.extend_from_slice(entry.path.as_bytes());
                }
                glob.matched(Path::new(OsStr::from_bytes(&full)), entry.kind == Kind::Dir).is_ignore()
            }
        }
    }
}

/// The component and the folder in it that everything matched lies in, as far as the pattern spells them. One without a `/` in it matches
/// names anywhere.
fn literal_beginning(text: &str) -> (Option<String>, Option<RelPath>) {
    let anchored = text.trim_end_matches('/');
    if !anchored.contains('/') {
        return (None, None);
    }
    let mut parts = anchored.trim_start_matches('/').split('/');
    let literal = |part: &&str| !part.contains(['*', '?', '[', ']', '{', '}', '\\']) && !part.ends_with(' ');
    let Some(component) = parts.next().filter(literal) else { return (None, None) };
    let path: Vec<&str> = parts.take_while(literal).collect();
    (Some(component.to_owned()), RelPath::new(path.join("/").as_bytes()).ok().filter(|p| !p.is_root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn matched(pattern: &str, component: &str, path: &str, kind: Kind) -> bool {
        let pattern = Pattern::parse(pattern).unwrap();
        let entry = Entry::new(p(path), kind);
        pattern.may_be_in(component) && pattern.matches(component, &entry)
    }

    #[test]
    fn patterns_match_as_those_of_exclude_do() {
        let file = |pattern: &str, path: &str| matched(pattern, "backend", path, Kind::File);
        assert!(file("main.py", "main.py") && file("main.py", "app/main.py"));
        assert!(file("*.py", "app/deep/x.py") && !file("*.py", "app/x.pyc"));
        assert!(file("backend/*.py", "x.py") && !file("backend/*.py", "app/x.py"));
        assert!(file("backend/**/x.py", "app/deep/x.py") && file("backend/app/**", "app/deep/x.py"));
        assert!(!file("frontend/*.py", "x.py") && !file("x.py/", "x.py"));
        assert!(matched("app/", "backend", "app", Kind::Dir));
        assert!(matched("backend", "backend", ".", Kind::Dir));
    }

    #[test]
    fn only_listings_that_may_hold_something_are_read() {
        let beginning = |text: &str| {
            let (component, path) = literal_beginning(text);
            (component.unwrap_or_default(), path.map(|p| p.to_string()).unwrap_or_default())
        };
        assert_eq!(beginning("*.py"), (String::new(), String::new()));
        assert_eq!(beginning("main.py"), (String::new(), String::new()));
        assert_eq!(beginning("backend/a/b*"), ("backend".into(), "a".into()));
        assert_eq!(beginning("backend/a/b"), ("backend".into(), "a/b".into()));
        assert_eq!(beginning("/backend/a/"), ("backend".into(), "a".into()));
        assert_eq!(beginning("**/a/b"), (String::new(), String::new()));
        assert_eq!(beginning("back*/a/b"), (String::new(), String::new()));
        assert_eq!(beginning("app/"), (String::new(), String::new()));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", " ", "!x", "#x", "{a"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong:?}");
        }
        // As to git, a bracket that is not closed is a bracket.
        assert!(Pattern::parse("a[").is_ok());
    }
}

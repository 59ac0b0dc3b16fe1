//! What tools make anew, as patterns with reasons.
//!
//! A pattern without a place (`venv/`) names folders that only tools make; everything else is anchored beside the manifest that explains
//! it, so that a folder `build` of somebody's own stays protected.

use crate::config::survey::{Survey, Traces, within};

/// A gitignore pattern and why it is there.
pub(super) type Pattern = (String, &'static str);

/// So many packages of one kind get their build folders excluded.
const PACKAGES_MAX: usize = 12;

/// Patterns for a component that is the folder `root`.
pub(super) fn excludes(survey: &Survey, root: &str) -> Vec<Pattern> {
    let mut out = vec![(".git/".to_owned(), "history: pushed elsewhere; remove this line if it is not")];
    anywhere(survey, root, &mut out);
    beside_manifests(survey, root, &mut out);
    let environments = survey.environments.iter().filter_map(|path| within(path, root));
    out.extend(environments.map(|path| (anchored(path, ""), "a virtual environment of Python")));
    let servers = survey.servers.iter().filter_map(|(path, _)| within(path, root)).filter(|p| !p.is_empty());
    out.extend(servers.map(|path| (anchored(path, ""), "a running server's data: dump it instead")));
    if root.is_empty() {
        out.extend(survey.backups.iter().map(|path| (anchored(path, ""), "earlier backups")));
    }
    out
}

fn inside<'a>(survey: &'a Survey, root: &'a str) -> impl Iterator<Item = (&'a str, Traces)> {
    survey.traces.iter().filter_map(move |(path, traces)| Some((within(path, root)?, *traces)))
}

/// Folders with names that mean one thing wherever they are: those of tools that are used here, and those that are there.
fn anywhere(survey: &Survey, root: &str, out: &mut Vec<Pattern>) {
    let uses = |has: fn(Traces) -> bool| inside(survey, root).any(|(_, traces)| has(traces));
    let is_there =
        |name: &str| survey.tools.iter().any(|(tool, at)| *tool == name && within(at, root).is_some());
    let python = uses(|t| t.python);
    let groups: [(bool, &[&str], &'static str); 5] = [
        (uses(|t| t.javascript), &["node_modules"], "installed packages"),
        (uses(|t| t.next), &[".next"], "built by Next.js"),
        (python, &["venv", ".venv"], "Python's installed packages"),
        (python, &["__pycache__", ".pytest_cache", ".mypy_cache"], "caches of Python"),
        (false, &[".ruff_cache", ".tox", ".cache", ".terraform", ".hg", ".svn"], "made anew by its tool"),
    ];
    for (used, names, why) in groups {
        let names = names.iter().filter(|name| used || is_there(name));
        out.extend(names.map(|name| (format!("{name}/"), why)));
    }
}

fn beside_manifests(survey: &Survey, root: &str, out: &mut Vec<Pattern>) {
    let packages = |has: fn(Traces) -> bool| {
        inside(survey, root).filter(move |(_, t)| has(*t)).map(|(path, _)| path).take(PACKAGES_MAX)
    };
    for path in packages(|t| t.javascript) {
        out.push((anchored(path, "dist"), "built from the source"));
        out.push((anchored(path, "build"), "built from the source"));
    }
    // Members of a Rust workspace build into the workspace's folder.
    let crates: Vec<&str> = packages(|t| t.rust).collect();
    let is_member = |path: &str| crates.iter().any(|c| *c != path && within(path, c).is_some());
    let tops = crates.iter().filter(|path| !is_member(path));
    out.extend(tops.map(|path| (anchored(path, "target"), "built from the source")));
    out.extend(packages(|t| t.php).map(|path| (anchored(path, "vendor"), "installed packages")));
}

/// A pattern for exactly the folder `name` in `folder` (or `folder` itself).
fn anchored(folder: &str, name: &str) -> String {
    let mut out = String::new();
    for c in folder.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    let parts = [out.as_str(), name].into_iter().filter(|part| !part.is_empty());
    parts.fold(String::new(), |path, part| path + "/" + part) + "/"
}

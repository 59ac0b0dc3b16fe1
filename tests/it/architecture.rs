//! The shape of the house: rows, sizes, and what may print, exit or delete where.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by row, lowest first. A module uses only modules of lower rows, never another of its own.
const ROWS: &[&[&str]] = &[
    &["model"],
    &["config", "keys", "durable", "bridge", "platform"],
    &["source", "archive", "store", "service"],
    &["catalog"],
    &["ops"],
    &["agent"],
    &["cli"],
];

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

fn sources() -> Vec<(PathBuf, String)> {
    let found = rust_below("src");
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn rust_below(folder: &str) -> Vec<(PathBuf, String)> {
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The top module that a file belongs to.
fn module_of(path: &Path) -> String {
    let rest = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = rest.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its tests, comments and strings of comments.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let in_folder = path.components().any(|c| c.as_os_str() == "tests");
    in_folder || name == "tests" || name.starts_with("tests_") || name.ends_with("_tests")
}

#[test]
fn modules_use_only_lower_rows() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some(row) = row_of(&module) else {
            assert!(["lib", "main", "skipped_tests"].contains(&module.as_str()), "{module} is in no row");
            continue;
        };
        for used in code(&text).split("crate::").skip(1) {
            let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let allowed = name == module || row_of(&name).is_none_or(|used_row| used_row < row);
            if !allowed {
                wrong.push(format!("{}: {module} uses {name}", path.display()));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_small() {
    let mut wrong = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test_file(path)) {
        let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
        let lines = text[..end].lines().count();
        if lines > 420 {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "these want to be two: {}", wrong.join(", "));
}

#[test]
fn only_the_command_line_prints_asks_or_exits() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test_file(path)) {
        let code = code(&text);
        if module_of(&path) != "cli" {
            for word in ["println!", "eprintln!", "print!(", "eprint!(", "process::exit", "io::stdin()"] {
                let child = path.ends_with("source/sqlite/child.rs") && word == "io::stdin()";
                assert!(child || !code.contains(word), "{} has {word}", path.display());
            }
        }
    }
}

#[test]
fn nothing_waits_by_sleeping_but_the_lock_the_children_the_bridge_and_the_demo() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test_file(path)) {
        // The bridge's timer is where network code waits before another try; tests put their own in its place.
        let bridge = path.ends_with("bridge/mod.rs") || path.ends_with("bridge/timer.rs");
        let allowed = ["durable/lock.rs", "ops/lock.rs", "cli/demo/mod.rs", "cli/demo/writer.rs"];
        let child = path.components().any(|c| c.as_os_str() == "sqlite" || c.as_os_str() == "command");
        if !child && !bridge && !allowed.iter().any(|a| path.ends_with(a)) {
            assert!(!code(&text).contains("sleep("), "{} sleeps", path.display());
        }
    }
}

#[test]
fn no_path_of_a_developers_machine_is_in_the_project() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["farm", "-"].concat()];
    // What lies at the top is looked at by name: what a build, a fuzzer or git leaves there is no part of it.
    let folders = ["src", "tests", "docs", "bench", "deploy", "fuzz/fuzz_targets", ".ci", ".cargo"];
    let files =
        ["README.md", "CHANGELOG.md", "Cargo.toml", "Dockerfile", "docker-compose.yml", "test", "deny.toml"];
    let mut waiting: Vec<_> = folders.iter().chain(&files).map(|name| top.join(name)).collect();
    let mut read = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            for word in &words {
                assert!(!text.contains(word.as_str()), "{} names {word}", path.display());
            }
            read += 1;
        }
    }
    assert!(read > 700, "only {read} files were read");
}

/// What `./test` does not install but requires would fail on a clean machine: a tool that is missing there is an error.
#[test]
fn every_tool_that_a_test_asks_for_is_one_that_the_test_command_installs() {
    /// They are in every Debian.
    const EVERYWHERE: [&str; 8] = ["tar", "sha256sum", "awk", "base64", "dd", "truncate", "bash", "setpriv"];
    let command = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("test")).unwrap();
    let installed = command.lines().find_map(|line| line.strip_prefix("tools='")).unwrap();
    let installed: Vec<&str> = installed.trim_end_matches('\'').split(' ').collect();
    let mut asked = 0;
    for (path, text) in
        rust_below("tests/it").into_iter().filter(|(path, _)| !path.ends_with("architecture.rs"))
    {
        let lists = text.split("have(&[").skip(1).chain(text.split("const TOOLS").skip(1));
        for tool in lists.flat_map(|list| {
            list.split("];").next().unwrap().split("])").next().unwrap().split('"').skip(1).step_by(2)
        }) {
            asked += 1;
            let there = installed.contains(&tool) || EVERYWHERE.contains(&tool);
            assert!(there, "{} asks for {tool}", path.display());
        }
    }
    assert!(asked > 40, "only {asked} were found");
}

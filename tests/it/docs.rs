//! What the documents say is so: links lead somewhere, commands exist and do what is said, tests that are cited are there.

mod blocks;
mod commands;
mod recovery;
mod two_am;

use blocks::{blocks, is_like};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every document for people, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = files_below(&top().join("docs"), "md");
    paths.extend(
        ["README.md", "CHANGELOG.md", "deploy/README.md", "src/recover/RECOVER.md"]
            .map(|name| top().join(name)),
    );
    let text = |path: PathBuf| (path.clone(), fs::read_to_string(&path).unwrap());
    paths.into_iter().map(text).collect()
}

/// Code between single backticks, outside of fenced blocks.
fn code_spans(text: &str) -> Vec<String> {
    let (mut fenced, mut spans) = (false, Vec::new());
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

/// `(text, target)` of every link.
fn links(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("](") {
        let begin = text[..at].rfind('[').unwrap();
        let end = at + text[at..].find(')').unwrap();
        found.push((text[begin + 1..at].to_owned(), text[at + 2..end].to_owned()));
    }
    found
}

/// The names of all tests of this project.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in
        files_below(&top().join("src"), "rs").into_iter().chain(files_below(&top().join("tests"), "rs"))
    {
        let text = fs::read_to_string(path).unwrap();
        for (at, _) in text.match_indices("#[test]") {
            let name = text[at..].split("fn ").nth(1).unwrap().split('(').next().unwrap();
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn links_lead_to_what_is_there() {
    let tests = tests();
    for (path, text) in documents() {
        for (shown, target) in links(&text) {
            if target.starts_with("https://") {
                continue;
            }
            if let Some(heading) = target.strip_prefix('#') {
                let named = |l: &str| {
                    l.starts_with('#')
                        && l.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-") == heading
                };
                assert!(text.lines().any(named), "{}: there is no heading {heading}", path.display());
                continue;
            }
            let file = path.parent().unwrap().join(&target);
            assert!(file.exists(), "{}: there is no {target}", path.display());
            let name = shown.trim_matches('`');
            if target.ends_with(".rs") && name != shown {
                let there = fs::read_to_string(&file).unwrap().contains(&format!("fn {name}("));
                assert!(there && tests.contains(name), "{}: {target} has no test {name}", path.display());
            }
        }
    }
}

#[test]
fn every_document_is_in_the_index() {
    let docs = top().join("docs");
    for (index, dir) in [("README.md", docs.clone()), ("decisions/README.md", docs.join("decisions"))] {
        let text = fs::read_to_string(docs.join(index)).unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_document = name.ends_with(".md") && name != "README.md";
            assert!(!is_document || text.contains(&format!("({name})")), "{name} is not in docs/{index}");
        }
    }
}

#[test]
fn every_test_that_is_cited_exists() {
    let tests = tests();
    let mut cited = 0;
    for (path, text) in documents() {
        for span in code_spans(&text) {
            let is_name = span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            // No key of the configuration has so many underscores; fields of JSON documents are held by the tests of the command line.
            if is_name && !path.ends_with("docs/json.md") && span.matches('_').count() >= 3 {
                assert!(tests.contains(&span), "{}: there is no test {span}", path.display());
                cited += 1;
            }
        }
    }
    assert!(cited > 50, "only {cited} tests are cited: are they found at all?");
}

#[test]
fn every_variable_and_exit_code_that_is_named_exists() {
    let places = ["src", "tests"].map(|dir| files_below(&top().join(dir), "rs"));
    let sources: Vec<String> = places.iter().flatten().map(|p| fs::read_to_string(p).unwrap()).collect();
    let codes: BTreeSet<u8> = backstay::cli::exit::CODES.iter().map(|c| c.0).collect();
    let mut named = 0;
    for (path, text) in documents() {
        for (at, _) in text.match_indices("BACKSTAY_") {
            let is_of_name = |c: &char| c.is_ascii_uppercase() || *c == '_';
            let name: String = text[at..].chars().take_while(is_of_name).collect();
            let quoted = format!("\"{name}\"");
            assert!(sources.iter().any(|s| s.contains(&quoted)), "{}: nothing reads {name}", path.display());
            named += 1;
        }
        let lower = text.to_lowercase();
        for (at, found) in lower.match_indices("exit code ").chain(lower.match_indices("exit codes ")) {
            let digits = lower[at + found.len()..].chars().take_while(char::is_ascii_digit);
            let Ok(code) = digits.collect::<String>().parse::<u8>() else { continue };
            assert!(codes.contains(&code), "{}: there is no exit code {code}", path.display());
            named += 1;
        }
    }
    assert!(named > 10, "only {named} are named: are they found at all?");
}

#[test]
fn every_command_that_is_named_exists() {
    let mut named = 0;
    // docs/cli.md is the program's own help, and held to it by the test that writes it: its usage lines are no commands.
    for (path, text) in documents().into_iter().filter(|(path, _)| !path.ends_with("docs/cli.md")) {
        let mut lines = code_spans(&text);
        lines.extend(commands::fenced_lines(&text));
        named += commands::check(&path, &lines);
    }
    assert!(named > 30, "only {named} commands are named: are they found at all?");
}

#[test]
fn every_command_that_messages_name_exists() {
    let mut named = 0;
    for path in files_below(&top().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        named += commands::check(&path, &code_spans(&text));
    }
    assert!(named > 10, "only {named} commands are named: are they found at all?");
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    for (path, text) in documents() {
        let name = path.strip_prefix(top()).unwrap().to_str().unwrap();
        if name == "src/recover/RECOVER.md" {
            continue; // it has tests of its own
        }
        let run_here = ["README.md", "docs/2am.md", "docs/moving.md", "docs/recovery.md"].contains(&name);
        for block in blocks(&text) {
            let tested = block.comment.starts_with("test: ") && run_here;
            let excused = block.comment.strip_prefix("not tested: ").is_some_and(|why| why.len() > 10);
            assert!(tested || excused, "{name}: this block is not run:\n{}", block.script);
        }
    }
}

#[test]
fn the_example_configuration_is_valid() {
    let path = top().join("deploy/backstay.toml");
    let config = backstay::config::Config::load(&path).unwrap();
    assert_eq!((config.components.len(), config.stores.len()), (5, 1));
    let own = &config.signing.trusted[0];
    let key = backstay::keys::TrustedKey::parse(&own.key).unwrap();
    assert!(key.key.starts_with("ssh-ed25519 "));
    backstay::keys::RecipientSet::parse(&config.encryption.recipients).unwrap();
}

#[test]
fn the_blocks_of_the_readme_do_what_they_say() {
    let stage = blocks::Stage::make();
    let project = stage.home.join("tsushin");
    let _service = blocks::application(&project);
    let text = fs::read_to_string(top().join("README.md")).unwrap();
    assert!(text.contains("./test") && top().join("test").is_file(), "the README names ./test");
    let mut compared = 0;
    for block in blocks(&text).into_iter().filter(|b| b.comment.starts_with("test: ")) {
        let run = stage.run(&block.script, &project, &[]);
        assert_eq!(run.code, Some(0), "{}\n{}", block.script, run.output);
        if let Some(shown) = &block.output {
            assert!(is_like(shown, &run.output), "the README shows\n{shown}\nand this came:\n{}", run.output);
            compared += 1;
        }
    }
    assert_eq!(compared, 3);
    let restored = stage.home.join("tsushin-restored/backend/main.py");
    assert_eq!(fs::read(restored).unwrap(), fs::read(project.join("backend/main.py")).unwrap());
}

#[test]
fn the_demo_ends_well_and_leaves_nothing() {
    let stage = blocks::Stage::make();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_backstay"));
    let done = demo.arg("demo").env("TMPDIR", &stage.home).env("HOME", &stage.home).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read_dir(&stage.home).unwrap().count(), 0);
}

/// The JSON blocks of a document that a comment names, as `policy: NAME`.
fn policies(text: &str) -> Vec<(String, serde_json::Value)> {
    let mut found = Vec::new();
    for part in text.split("<!-- policy: ").skip(1) {
        let name = part.split(" -->").next().unwrap().to_owned();
        let json = part.split("```json\n").nth(1).unwrap().split("\n```").next().unwrap();
        found.push((name, serde_json::from_str(json).unwrap()));
    }
    found
}

#[test]
fn no_key_of_fleet_md_can_destroy_versions() {
    let text = fs::read_to_string(top().join("docs/fleet.md")).unwrap();
    let policies = policies(&text);
    let names: Vec<&str> = policies.iter().map(|p| p.0.as_str()).collect();
    assert_eq!(names, ["host", "verifier", "pruner"]);
    for (name, policy) in &policies {
        for statement in policy["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow", "{name}");
            for action in statement["Action"].as_array().unwrap() {
                let action = action.as_str().unwrap();
                assert!(action.starts_with("s3:") && !action.contains('*'), "{name}: {action}");
                let deletes = action == "s3:DeleteObject";
                assert!(!action.contains("Delete") || (deletes && name == "pruner"), "{name}: {action}");
                let sets = ["s3:PutObject"].contains(&action) || !action.starts_with("s3:Put");
                assert!(sets, "{name}: {action} changes more than objects");
            }
        }
    }
    let resources = policies[0].1["Statement"][2]["Resource"].to_string();
    assert_eq!(resources, "[\"arn:aws:s3:::BUCKET/HOST/*\"]", "a host writes below its own prefix alone");
}

#[test]
fn the_commands_of_the_opening_help_exist() {
    use clap::CommandFactory as _;
    let help = backstay::cli::args::Cli::command().render_long_help().to_string();
    let shown = help.split("What went wrong?").nth(1).unwrap().split("\n\n").next().unwrap();
    let lines: Vec<String> =
        shown.lines().filter_map(|line| line.find("backstay ").map(|at| line[at..].to_owned())).collect();
    assert!(lines.len() >= 5, "{shown}");
    assert!(commands::check(Path::new("--help"), &lines) >= lines.len(), "{lines:?}");
}

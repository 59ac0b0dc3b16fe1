//! Which commit is compiled, for `--version`: the file `commit.rs`, an expression that `main.rs` takes.
//!
//! This script is not run again when a commit is made: then everything would be compiled again. Instead the expression includes git's own note of
//! where HEAD was moved, so that `main.rs` alone is, and it is short. Without git (a tarball) `BACKSTAY_COMMIT` says it, or what `cargo package` noted.

#![allow(clippy::print_stdout, reason = "so is cargo told")]

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=BACKSTAY_COMMIT");
    let top = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let given = env::var("BACKSTAY_COMMIT").ok().filter(|given| !given.is_empty());
    let expression = match given {
        Some(given) if is_commit(&given) => literal(&given),
        Some(given) => return Err(format!("BACKSTAY_COMMIT is no commit: {given}").into()),
        None => from_git(&top).or_else(|| packaged(&top)).unwrap_or_else(|| "[0; 40]".to_owned()),
    };
    fs::write(Path::new(&env::var("OUT_DIR")?).join("commit.rs"), expression)?;
    Ok(())
}

fn is_commit(text: &str) -> bool {
    (7..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn literal(commit: &str) -> String {
    format!("*b\"{commit}{}\"", "\\0".repeat(40 - commit.len()))
}

/// git's note of where HEAD was moved, in the checkout itself or, of a work tree, where its `.git` says.
fn from_git(top: &Path) -> Option<String> {
    let git = top.join(".git");
    let dir = match fs::read_to_string(&git) {
        Ok(text) => top.join(text.strip_prefix("gitdir: ")?.trim()),
        Err(_) => git,
    };
    let log = dir.join("logs/HEAD");
    if log.is_file() {
        return Some(format!("newest(include_bytes!({:?}))", log.to_str()?));
    }
    // No such note is kept: then what HEAD names now, asked for again when it names something else.
    println!("cargo:rerun-if-changed={}", dir.join("HEAD").display());
    let head = fs::read_to_string(dir.join("HEAD")).ok()?;
    let commit = match head.trim().strip_prefix("ref: ") {
        Some(name) => {
            println!("cargo:rerun-if-changed={}", dir.join(name).display());
            fs::read_to_string(dir.join(name)).ok()?
        }
        None => head,
    };
    Some(literal(commit.trim())).filter(|_| is_commit(commit.trim()))
}

/// What `cargo package` notes in what it makes.
fn packaged(top: &Path) -> Option<String> {
    let text = fs::read_to_string(top.join(".cargo_vcs_info.json")).ok()?;
    let commit = text.split("\"sha1\": \"").nth(1)?.split('"').next()?;
    is_commit(commit).then(|| literal(commit))
}

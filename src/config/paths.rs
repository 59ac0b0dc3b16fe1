//! Paths of the file, made absolute by their text alone.

use std::path::{Component, Path, PathBuf};

/// What relative paths are relative to.
#[derive(Debug, Clone)]
pub(super) struct Bases {
    /// The directory of the file, absolute, as it was named.
    pub dir: PathBuf,
    /// The same without symbolic links, where that is known: what `..` leads out of.
    pub real_dir: PathBuf,
}

/// Makes `text` absolute, or says what is wrong with it and what to do.
pub(super) fn one_path(bases: &Bases, text: &str) -> Result<PathBuf, (String, String)> {
    no_other_notation(text)?;
    let mut parts: Vec<Component<'_>> = Path::new(text).components().collect();
    parts.retain(|part| *part != Component::CurDir);
    let leading = parts.iter().take_while(|part| **part == Component::ParentDir).count();
    if parts[leading..].contains(&Component::ParentDir) {
        let what = format!("{text:?} has `..` in the middle");
        return Err((
            what,
            "write it without: what `..` means behind a symbolic link is easily mistaken".to_owned(),
        ));
    }
    if Path::new(text).is_absolute() {
        return Ok(parts.iter().collect());
    }
    let mut path = if leading > 0 { bases.real_dir.clone() } else { bases.dir.clone() };
    for _ in 0..leading {
        if !path.pop() {
            return Err((format!("{text:?} leads above the root"), "count the `..`".to_owned()));
        }
    }
    path.extend(&parts[leading..]);
    Ok(path)
}

fn no_other_notation(text: &str) -> Result<(), (String, String)> {
    let whole = || "write the whole path, or one relative to this file".to_owned();
    if text.chars().any(char::is_control) {
        return Err(("a path here may not hold line breaks or control characters".to_owned(), whole()));
    }
    if text.starts_with('~') {
        return Err((format!("`~` in {text:?} is a shell's notation and not understood here"), whole()));
    }
    if text.contains("${") || text.starts_with('$') {
        return Err((format!("variables are not replaced in paths: {text:?}"), whole()));
    }
    if let Some(rest) = text.strip_prefix("file:") {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let hint = format!("write it as a path: {rest:?}");
        return Err((format!("{text:?} is a URL, not a path"), hint));
    }
    if text.contains("://") {
        return Err((
            format!("{text:?} is a URL, not a path"),
            "a path is a place on this machine; only a store can be a bucket: url = \"s3://…\"".to_owned(),
        ));
    }
    let drive = text.as_bytes();
    if drive.len() > 2
        && drive[0].is_ascii_alphabetic()
        && drive[1] == b':'
        && matches!(drive[2], b'\\' | b'/')
    {
        return Err((format!("{text:?} is a path of Windows"), "write a path of this system".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases() -> Bases {
        Bases { dir: "/srv/current".into(), real_dir: "/data/releases/7".into() }
    }

    #[test]
    fn relative_paths_begin_at_the_file_and_parents_at_its_real_place() {
        for (text, path) in [
            (".", "/srv/current"),
            ("a/./b/", "/srv/current/a/b"),
            ("./a", "/srv/current/a"),
            ("../shared", "/data/releases/shared"),
            ("../../x", "/data/x"),
            ("/etc//nginx/", "/etc/nginx"),
            ("a~", "/srv/current/a~"),
            ("...", "/srv/current/..."),
        ] {
            assert_eq!(one_path(&bases(), text).unwrap(), Path::new(path), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_explained() {
        for text in [
            "~/x",
            "~",
            "${HOME}/x",
            "$HOME",
            "file:x",
            "file:///x",
            "s3://b/x",
            "C:\\x",
            "C:/x",
            "a/../b",
            "/a/../b",
            "../../../../x",
            "a\nb",
            "../a/../b",
        ] {
            assert!(one_path(&bases(), text).is_err(), "{text}");
        }
        assert_eq!(one_path(&bases(), "file:///x").unwrap_err().1, "write it as a path: \"/x\"");
    }
}

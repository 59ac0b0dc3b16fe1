//! Reading an `env_file`: secrets for one command, in a file that others cannot read.

use crate::source::command::{CommandError, CommandSpec};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

/// The variables in the `env_file`, if there is one.
pub(super) fn read_env_file(spec: &CommandSpec) -> Result<Vec<(OsString, OsString)>, CommandError> {
    let Some(path) = &spec.env_file else {
        return Ok(Vec::new());
    };
    let component = || spec.component.clone();
    let unreadable = |source| CommandError::Io {
        component: component(),
        what: "cannot read env_file",
        path: path.clone(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(CommandError::EnvFileOpen { component: component(), path: path.clone(), mode });
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(unreadable)?;
    let mut variables = Vec::new();
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let bad =
            || CommandError::EnvFileLine { component: component(), path: path.clone(), line: index + 1 };
        variables.push(variable(line).ok_or_else(bad)?);
    }
    Ok(variables)
}

fn variable(line: &[u8]) -> Option<(OsString, OsString)> {
    let line = line.strip_prefix(b"export ").unwrap_or(line);
    let equals = line.iter().position(|b| *b == b'=')?;
    let (name, value) = (&line[..equals], &line[equals + 1..]);
    let named = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if !named || value.contains(&0) {
        return None;
    }
    let value = match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        plain => plain,
    };
    Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
}

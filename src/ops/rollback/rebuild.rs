//! Commands of the user's that make what was left fit for what came: dependencies for another lock file. They run after an exchange, before anything
//! is started; and again after the way back, because what is left was changed by them.

use crate::config::{CommandLine, Rebuild};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::rollback::journal::SiteRecord;
use crate::ops::rollback::step::{Below, Ground};
use crate::ops::session::Session;
use crate::platform::at;
use crate::service::{Around, Watch, run_line_with};
use crate::source::command::{locked_input, wait_unread};
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One command that must run after the exchange, as the journal keeps it: the configuration may be exchanged, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rebuilding {
    pub(super) component: String,
    /// Where it runs.
    dir: PathBuf,
    line: Line,
    within_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Args(Vec<String>),
    Shell(String),
}

impl Line {
    fn of(line: &CommandLine) -> Self {
        match line {
            CommandLine::Args(args) => Self::Args(args.clone()),
            CommandLine::Shell(text) => Self::Shell(text.clone()),
        }
    }

    fn command(&self) -> CommandLine {
        match self {
            Self::Args(args) => CommandLine::Args(args.clone()),
            Self::Shell(text) => CommandLine::Shell(text.clone()),
        }
    }
}

/// What must be rebuilt at a site whose new state waits: the commands of which a file differs.
pub(super) fn due(rebuilds: &[Rebuild], site: &SiteRecord) -> Result<Vec<Rebuilding>> {
    let cannot = || format!("cannot compare files in {}", site.base.display());
    let ground = Ground::open(&site.base).doing(Class::Failed, cannot)?;
    let mut due = Vec::new();
    for rebuild in rebuilds {
        let mut wanted = rebuild.when.is_empty();
        for path in &rebuild.when {
            let live = Below(path.as_bytes().to_vec());
            let waits = Below([site.staging.as_bytes(), b"/new/", path.as_bytes()].concat());
            wanted = wanted
                || content(&ground, &live).doing(Class::Failed, cannot)?
                    != content(&ground, &waits).doing(Class::Failed, cannot)?;
        }
        if wanted {
            due.push(Rebuilding {
                component: site.component.to_string(),
                dir: site.base.clone(),
                line: Line::of(&rebuild.run),
                within_seconds: rebuild.within.as_secs(),
            });
        }
    }
    Ok(due)
}

/// The hash of a file; none when there is no such file.
fn content(ground: &Ground<'_>, path: &Below) -> std::io::Result<Option<blake3::Hash>> {
    let Some((_, facts)) = ground.inode(path)? else {
        return Ok(None);
    };
    if facts.kind != FileType::RegularFile {
        return Ok(None);
    }
    let (dir, name) = ground.dir(path)?;
    let mut file = at::open_to_read(&dir, &name)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        };
    }
}

/// What a command reads, which is nothing: its lock tells whether one outlived the run that started it.
const INPUT: &str = "rebuild-input";
/// One that goes on for longer after a kill is for a person to look at.
const OUTLIVES: Duration = Duration::from_secs(600);

/// Waits for one that a killed run had started: it could still change what is live.
pub(super) fn wait_for_it(state: &Path) -> Result<()> {
    let path = state.join(INPUT);
    if wait_unread(&path, OUTLIVES).doing(Class::Failed, || format!("cannot look at {}", path.display()))? {
        return Ok(());
    }
    let what = "a `rebuild` command that the killed run had started still runs";
    Err(OpError::new(Class::Person, what)
        .hint("let it come to its end, or end it, and run `backstay rollback --resume` again"))
}

/// Runs them, in order.
pub(super) fn run(session: &Session, watch: &Watch<'_>, rebuilds: &[Rebuilding]) -> Result<()> {
    let path = session.state()?.dir().join(INPUT);
    let cannot = || format!("cannot write {}", path.display());
    for rebuild in rebuilds {
        session.note(&format!("rebuilding {}", rebuild.component));
        // A file of its own: what an earlier one left running in the background must not keep this one waiting.
        crate::durable::replace(&path, b"").doing(Class::Failed, cannot)?;
        let input = locked_input(&path).doing(Class::Failed, cannot)?;
        let subject = format!("`rebuild` of component {}", rebuild.component);
        let within = Duration::from_secs(rebuild.within_seconds);
        let around = Around { dir: &rebuild.dir, stopped: watch.commands.stopped };
        run_line_with(&around, &subject, &rebuild.line.command(), input, within).map_err(|e| {
            OpError::new(Class::Service, "what was left could not be made fit again").because(e)
        })?;
        crate::durable::crash::point("rollback: rebuilt");
    }
    if !rebuilds.is_empty() {
        crate::durable::remove(&path).doing(Class::Failed, cannot)?;
    }
    Ok(())
}

//! `rebuild` of a component, and `[emergency]`: commands of the user's for when a rollback went through, and for when there is none.

use crate::config::block::{At, Block};
use crate::config::render::Found;
use crate::config::resolve::Work;
use crate::config::settings::CommandLine;
use crate::config::settings_service::Rebuild;
use crate::model::RelPath;
use std::time::Duration;

/// Installing dependencies takes its time.
const WITHIN: Duration = Duration::from_secs(600);

/// The `rebuild` commands of a component.
pub(super) fn rebuilds(work: &mut Work<'_>, component: &mut Block) -> Vec<Rebuild> {
    let mut rebuilds = Vec::new();
    for mut block in component.blocks("rebuild") {
        let when = block.texts("when").into_iter().filter_map(|at| file_of(work, at)).collect();
        let within = block.time("within").unwrap_or(WITHIN);
        rebuilds.extend(block.command("run").map(|at| Rebuild { when, run: at.value, within }));
    }
    rebuilds
}

/// A path in the component: of one file, because it is compared with what the snapshot has under that name.
fn file_of(work: &mut Work<'_>, At { value, span }: At<String>) -> Option<RelPath> {
    match RelPath::new(value.as_bytes()) {
        Ok(path) if !path.is_root() && !value.contains(['*', '?', '[']) => Some(path),
        _ => {
            let what = format!("{value:?} is no path of a file in the component's folder");
            work.mistake(
                Found::at(&span, what).hint("for example \"requirements.txt\"; patterns do not work here"),
            );
            None
        }
    }
}

/// The command that a person should think of when no snapshot can be used.
pub(super) fn emergency(file: &mut Block) -> Option<CommandLine> {
    file.block("emergency")?.command("command").map(|at| at.value)
}

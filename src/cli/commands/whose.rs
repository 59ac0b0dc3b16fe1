//! Whoever puts another host's snapshot in the place of what is live here says which host that is: by typing it, or, where nobody is there, by the exact
//! id, `--host` and `--yes` together. A yes alone is what a script says that means its own.

use crate::cli::render::whose;
use crate::cli::{ask, somebody_is_here};
use crate::model::SnapshotId;
use crate::ops::error::{Class, OpError, Result};
use crate::ops::interrupt::Interrupt;
use crate::ops::whose::ShownHost;

/// What was typed on the command line.
pub(super) struct Typed<'a> {
    /// The snapshot.
    pub(super) id: &'a str,
    /// `--yes`.
    pub(super) yes: bool,
}

/// Fails unless the host of `snapshot` is this one, or is what whoever is here means. `command` names what is being done: `backstay` and its first words.
pub(super) fn agree(
    interrupt: &Interrupt,
    (snapshot, host): (&SnapshotId, &ShownHost),
    typed: &Typed<'_>,
    command: &str,
) -> Result<()> {
    if host.own {
        return Ok(());
    }
    let question = format!(
        "This snapshot is {}. It takes the place of what is live on this host. Type {} to go ahead:",
        whose(host),
        names(host)
    );
    match ask(interrupt, &question) {
        Some(answer) if host.is_called(&answer) => Ok(()),
        Some(_) => Err(OpError::declined("that is not the host of the snapshot; nothing was changed")),
        // The end of the input at a terminal: whoever is here was asked, and did not say it.
        None if somebody_is_here() => Err(OpError::declined("no host was named; nothing was changed")),
        // `--host` was given: else there would be no plan.
        None if typed.yes && typed.id == snapshot.to_string() => Ok(()),
        None => {
            let what = format!(
                "snapshot {snapshot} is {}, and nobody is here to type which host is meant",
                whose(host)
            );
            Err(OpError::new(Class::Usage, what).hint(format!(
                "without a terminal it takes the exact id, --host and --yes: {command} {snapshot} --host {} --yes",
                host.short()
            )))
        }
    }
}

fn names(host: &ShownHost) -> String {
    match host.called() {
        "" => host.short().to_owned(),
        name => format!("{name} or {}", host.short()),
    }
}

//! Who has files of the application open and is none of the services: it would go on with the old files.

use crate::config::{Control, Service};
use crate::model::path::escape;
use crate::model::{Problem, ProblemKind};
use crate::ops::rollback::site::{Site, What};
use crate::platform::holders::{Holder, descends_from, groups_of, holders_below};
use crate::service::process_in;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// So many are named.
const NAMED: usize = 10;
/// What the control groups of containers are called by.
const CONTAINERS: [&str; 4] = ["docker", "libpod", "containerd", "crio"];

/// A warning for each of them.
pub(super) fn warnings(sites: &[Site], services: &[&Service]) -> Vec<Problem> {
    let places: Vec<PathBuf> = sites.iter().flat_map(places_of).collect();
    let stranger = |holder: &Holder| !services.iter().any(|service| is_of(holder, service));
    let holders = holders_below(&places).into_iter().filter(stranger);
    holders.take(NAMED).map(|holder| warning(&holder)).collect()
}

fn places_of(site: &Site) -> Vec<PathBuf> {
    let named = |name: &[u8]| site.base.join(std::ffi::OsStr::from_bytes(name));
    match &site.what {
        What::Whole | What::Below(_) => vec![site.base.clone()],
        What::Names(paths) => paths.iter().map(|path| named(path.name())).collect(),
        What::Database(path) => {
            let sidecars = super::left::sidecars_of(path.name()).map(|name| named(&name));
            sidecars.chain([named(path.name())]).collect()
        }
    }
}

/// True when the process is known to belong to the service: started by its process, or in its control group.
fn is_of(holder: &Holder, service: &Service) -> bool {
    match &service.control {
        Control::Commands { pid_file, .. } => {
            let pid = pid_file.as_ref().and_then(|file| process_in(file));
            pid.is_some_and(|pid| descends_from(holder.pid, &[pid]))
        }
        Control::Systemd { unit } => groups_of(holder.pid).contains(&**unit),
        Control::Compose(_) => {
            let groups = groups_of(holder.pid);
            CONTAINERS.iter().any(|word| groups.contains(word))
        }
    }
}

fn warning(holder: &Holder) -> Problem {
    Problem {
        kind: ProblemKind::Warning,
        component: None,
        subject: escape(holder.path.as_os_str().as_bytes()),
        what: format!(
            "{} ({}) has it open and is none of the services: it goes on with what is put away, and what it writes goes there",
            holder.name, holder.pid
        ),
        hint: Some("end it first, or make a [[service]] of it".into()),
    }
}

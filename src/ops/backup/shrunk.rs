//! Components of which retention lets nothing go because they shrank: said by the backup that meets it, not only when something is to be deleted.

use crate::keys::naming::component_number;
use crate::model::chain::{KnownSnapshot, Trust};
use crate::model::record::SnapshotKind;
use crate::model::retention::{self, Freeze, FreezeKind, Held, Scene};
use crate::model::{ObjectId, Record};
use crate::ops::backup::report::{BackupReport, Shrunk};
use crate::ops::commit::Chain;
use crate::ops::error::Result;
use crate::ops::session::{Session, Writer};
use crate::ops::vault::Vault;
use std::sync::Arc;

/// Judges as a prune of this store would now, with the new snapshot, and puts what it finds into `report`.
pub(super) fn note(
    session: &Session,
    writer: &Writer,
    vault: &Vault,
    chain: &Chain<'_>,
    (record, hash): (&Record, ObjectId),
    report: &mut BackupReport,
) -> Result<()> {
    if record.kind != SnapshotKind::Normal {
        return Ok(());
    }
    let mut new = KnownSnapshot::new(Arc::new(record.clone()), hash, Trust::Trusted);
    if report.good {
        new.good_in.insert(chain.instance.clone());
        new.once_good.by_all.insert(chain.instance.clone());
    }
    let config = session.config()?;
    let mut shrunk = Vec::new();
    for freeze in freezes(session, vault, chain, &new)? {
        let FreezeKind::Shrank { snapshot, .. } = &freeze.kind else { continue };
        // One that is in the configuration no more has no name here; `prune` tells of it.
        let named =
            config.components.iter().find(|c| component_number(&writer.naming, &c.name) == freeze.component);
        let Some(component) = named.map(|c| c.name.to_string()) else { continue };
        let way_out = format!(
            "nothing of it is deleted before {} more good snapshots of the new size, or `backstay prune --accept {}`",
            freeze.good_needed, freeze.accept
        );
        if *snapshot == record.snapshot {
            session.note(&format!(
                "warning: {component}: {}; look whether something is missing: {way_out}",
                freeze.kind
            ));
        }
        shrunk.push(Shrunk { component, why: format!("{}; {way_out}", freeze.kind) });
    }
    report.shrunk = Some(shrunk);
    Ok(())
}

fn freezes(session: &Session, vault: &Vault, chain: &Chain<'_>, new: &KnownSnapshot) -> Result<Vec<Freeze>> {
    let config = session.config()?;
    let lead = session.store.name();
    let (Some(store), Some(view)) =
        (config.store(lead), vault.views.iter().find(|view| view.store.name() == lead))
    else {
        return Ok(Vec::new());
    };
    let known = vault.history.hosts.get(&chain.host).map_or(&[][..], Vec::as_slice);
    // Trusted ones stand in the order of the chain, and the new one is its end.
    let held: Vec<Held<'_>> =
        known.iter().filter(|s| view.has(s)).chain([new]).map(|known| Held { known, stored: None }).collect();
    let policy = config.policy_in(store);
    let now = session.around.clock.now();
    let scene = Scene { policy: &policy, instance: &chain.instance, now, others: false };
    Ok(retention::decide(&held, &scene).freezes)
}

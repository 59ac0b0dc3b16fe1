//! What is stored, as its signed history tells: whole or not, how old, proved or not, and what of it costs room for nothing.

use crate::model::chain::KnownSnapshot;
use crate::model::record::{CheckResult, SnapshotKind};
use crate::model::{HostId, ObjectId, SignerId};
use crate::ops::doctor::report::{Area, Findings};
use crate::ops::doctor::{bytes, chain_text, space, span, way_out};
use crate::ops::error::Result;
use crate::ops::known_bad::{self, KnownBad, is_whole_nowhere};
use crate::ops::rhythm::overdue;
use crate::ops::session::Session;
use crate::ops::space::growth_of;
use crate::ops::union::{self, Standing, Union};
use crate::ops::vault::{Vault, is_trusted};
use crate::ops::{left_open, recover_files, select};
use crate::store::Prefix;
use std::collections::HashSet;

const AREA: Area = Area::History;
/// A snapshot that claims to be so much newer than now is of a wrong clock.
const FUTURE: i64 = 3600;

/// Looks at everything signed.
pub(super) fn look(session: &Session, findings: &mut Findings) -> Result<()> {
    unfinished(session, findings);
    let Union { vault, standings } = match union::read(session) {
        Ok(union) => union,
        Err(e) => {
            let way = way_out(&e, "bring a store within reach, then look again");
            findings.problem(AREA, "all stores", chain_text(&e), way);
            return Ok(());
        }
    };
    stores(&vault, &standings, findings);
    whole(session, &vault, findings);
    let own = session.host.map(|host| vault.host_of(&SignerId(host.0)));
    known_damage(&vault, own.as_ref(), findings);
    for view in &vault.views {
        session.around.interrupt.check()?;
        files(&vault, view, findings);
        unreferenced(&vault, view, findings);
    }
    if let Some(own) = own.filter(|_| session.config.as_ref().is_some_and(|c| !c.components.is_empty())) {
        snapshots(session, &vault, &own, findings);
    }
    Ok(())
}

/// What a run left to the next one.
fn unfinished(session: &Session, findings: &mut Findings) {
    let Some(state) = &session.state else { return };
    let shown = state.dir().display().to_string();
    for open in left_open::look(state.dir(), &state.lock(), session.around.clock.now()) {
        findings.problem(Area::State, &shown, open.what, open.way_out);
    }
    match state.pending() {
        Ok(None) => {}
        Ok(Some(pending)) => findings.warning(
            Area::State,
            &shown,
            format!("a run was killed while it put {}", pending.key),
            "the next `backstay backup` ends what it began",
        ),
        Err(e) => {
            findings.problem(Area::State, &shown, chain_text(&e), "see what the message says of that file");
        }
    }
    match state.kept_documents() {
        Ok(kept) if kept.is_empty() => {}
        Ok(kept) => findings.warning(
            Area::State,
            &shown,
            format!("{} signed entries wait here for a store that lacks them", kept.len()),
            "bring the store within reach; the next `backstay backup` or `backstay sync` brings them",
        ),
        Err(e) => {
            findings.problem(Area::State, &shown, chain_text(&e), "see what the message says of that file");
        }
    }
}

fn stores(vault: &Vault, standings: &[Standing], findings: &mut Findings) {
    for standing in standings.iter().filter(|s| s.fallen) {
        if let Some(away) = &standing.away {
            let way = away.hint().unwrap_or("find out who changed it").to_owned();
            findings.problem(AREA, &standing.name, away.line(), way);
        }
    }
    for (name, missing) in union::lag(vault) {
        let what = format!("it lacks {missing} entries that another store has");
        findings.warning(AREA, &name, what, "`backstay sync`, or the next backup, brings them");
    }
}

fn whole(session: &Session, vault: &Vault, findings: &mut Findings) {
    let hosts = vault.hosts();
    let breaks = select::breaks_told(vault, &hosts);
    for line in &breaks {
        let way = "find out who removed, hid or changed it; another store may still hold it: `backstay sync`; what is lost for good, or forked, is accepted with `backstay settle`";
        findings.problem(AREA, "all stores", line.clone(), way);
    }
    for bad in &vault.bad {
        match bad.too_new {
            true => findings.warning(
                AREA,
                &bad.key,
                bad.why.clone(),
                "upgrade this backstay; nothing is wrong with what is stored",
            ),
            false => findings.problem(
                AREA,
                &bad.key,
                format!("it cannot be used: {}", bad.why),
                "look at that disk; `backstay sync` brings it from another store",
            ),
        }
    }
    let untrusted = vault.snapshots().filter(|s| !is_trusted(s)).count();
    if untrusted > 0 {
        findings.warning(
            AREA,
            "all stores",
            format!("{untrusted} snapshots are signed by keys that are not trusted here; they are listed, and never used by themselves"),
            "`backstay list --all-hosts` says why; add the key to [signing] trusted if the host is yours",
        );
    }
    let now = session.around.clock.now();
    let future =
        vault.snapshots().filter(|s| s.record.started.as_second() - now.as_second() > FUTURE).count();
    if future > 0 {
        findings.problem(
            Area::Clock,
            "all stores",
            format!("{future} snapshots say that they were made in the future: the clock is wrong now, or was then"),
            "set the clock; snapshots of a wrong time are kept and never counted",
        );
    }
    if breaks.is_empty() && vault.bad.is_empty() {
        let count = vault.snapshots().count();
        findings.well(
            AREA,
            "all stores",
            match count {
                1 => "the history of the one snapshot is whole, and its signature fits".to_owned(),
                _ => format!("the history of {count} snapshots is whole, and every signature fits"),
            },
        );
    }
}

/// What verdicts found and no later one proved. It is a problem where the newest snapshot of this host is whole nowhere.
fn known_damage(vault: &Vault, own: Option<&HostId>, findings: &mut Findings) {
    let found: Vec<KnownBad> = vault.views.iter().map(|view| known_bad::in_view(vault, view)).collect();
    let newest = own.and_then(|own| usable(vault, own).last().copied());
    let lost = newest.filter(|newest| {
        let having = vault.views.iter().zip(&found).filter(|(view, _)| view.has(newest));
        is_whole_nowhere(&newest.record.snapshot, having.map(|(_, bad)| &bad.snapshots[..]))
    });
    for (view, bad) in vault.views.iter().zip(&found).filter(|(_, bad)| bad.objects > 0) {
        let name = view.store.name();
        let what = known_bad::line(name, bad.objects, &bad.snapshots);
        match lost.is_some_and(|newest| bad.snapshots.contains(&newest.record.snapshot)) {
            true => findings.problem(AREA, name, what, known_bad::WAY_OUT),
            false => findings.warning(AREA, name, what, known_bad::WAY_OUT),
        }
    }
}

/// The snapshots of `host` that count, oldest first.
fn usable<'v>(vault: &'v Vault, host: &HostId) -> Vec<&'v KnownSnapshot> {
    let counts = |s: &&KnownSnapshot| s.is_usable() && is_trusted(s) && s.record.kind == SnapshotKind::Normal;
    vault.history.snapshots(host).iter().filter(counts).collect()
}

/// The files with which people help themselves when backstay is gone.
fn files(vault: &Vault, view: &crate::ops::vault::View, findings: &mut Findings) {
    let name = view.store.name();
    match recover_files::check(&*view.store, vault) {
        Ok(bad) => {
            for bad in bad {
                let what = format!("{}: {}", bad.key, bad.why);
                let way = "somebody would run it on the worst of days: `backstay init` writes what is missing; find out who changed what is there";
                findings.problem(Area::Store, name, what, way);
            }
        }
        Err(e) => findings.problem(Area::Store, name, chain_text(&e), way_out(&e, "try again")),
    }
}

/// Objects that no record names. The newest may belong to a run that is under way.
fn unreferenced(vault: &Vault, view: &crate::ops::vault::View, findings: &mut Findings) {
    let named: HashSet<ObjectId> =
        vault.snapshots().flat_map(|s| s.record.objects.iter().map(|o| o.id)).collect();
    let (mut count, mut size) = (0_u64, 0_u64);
    for prefix in [Prefix::Archives, Prefix::Manifests] {
        let Ok(listed) = view.store.list(prefix) else { return };
        for object in listed {
            if let crate::store::Key::Archive(id) | crate::store::Key::Manifest(id) = object.key
                && !named.contains(&id)
            {
                (count, size) = (count + 1, size + object.size);
            }
        }
    }
    if count > 0 {
        let what = format!(
            "{count} objects of {} are named by no snapshot: runs that failed left them, or one is under way",
            bytes(size)
        );
        findings.note(Area::Store, view.store.name(), what);
    }
}

/// This host's own snapshots.
fn snapshots(session: &Session, vault: &Vault, own: &HostId, findings: &mut Findings) {
    let all = usable(vault, own);
    let Some(newest) = all.last() else {
        let what = "there is no snapshot of this host yet";
        return findings.problem(Area::Schedule, "this host", what, "backstay backup");
    };
    let now = session.around.clock.now();
    let times: Vec<i64> = all.iter().map(|s| s.record.started.as_second()).collect();
    match overdue(&times, now.as_second()) {
        Some(late) => findings.problem(
            Area::Schedule,
            "this host",
            format!(
                "the newest snapshot is {} old, though they came every {}: whatever made them has stopped",
                span(late.age),
                span(late.usual)
            ),
            "look at cron or the timer that runs `backstay backup`, and at what it last said",
        ),
        None => findings.well(
            Area::Schedule,
            "this host",
            format!(
                "the newest snapshot is {} old",
                span(now.as_second() - newest.record.started.as_second())
            ),
        ),
    }
    if let Some(growth) = growth_of(vault, own) {
        let (month, days) = (bytes(growth.bytes_a_month), growth.days);
        let what = format!(
            "at the pace of the last {days:.0} days a month adds {month} to each store, as far as the snapshots tell that are still there"
        );
        findings.note(Area::Space, "this host", what);
    }
    state_of(newest, &all, findings);
    if let Some(config) = &session.config {
        space::look(config, vault, newest, findings);
    }
}

fn state_of(newest: &KnownSnapshot, all: &[&KnownSnapshot], findings: &mut Findings) {
    let record = &newest.record;
    let subject = format!("snapshot {}", record.snapshot);
    if record.components.iter().any(|c| c.check == CheckResult::Failed) {
        findings.problem(
            Area::Databases,
            &subject,
            "a database check failed in the newest snapshot: it is stored as it was, corrupt",
            "`backstay show` says which; repair it, or restore it from an older good snapshot (`backstay list`)",
        );
    }
    let deferred = record.components.iter().any(|c| c.check == CheckResult::Deferred);
    let drilled =
        all.iter().any(|s| s.verdicts.iter().any(|v| v.verdict.level == crate::model::mark::Level::Drill));
    if deferred && !drilled {
        findings.warning(
            Area::Databases,
            &subject,
            "a database was not checked when it was captured (too large, or its check could not be run), and no drill ever checked it",
            "run `backstay drill`, which restores and checks it; or set `check = \"always\"`",
        );
    }
    if !record.complete {
        findings.problem(
            Area::Databases,
            &subject,
            "the newest snapshot is incomplete: something that was asked for could not be read",
            "`backstay backup --dry-run` says what",
        );
    }
    if !all.iter().any(|s| s.good) {
        findings.problem(
            AREA,
            "this host",
            "no snapshot is good: none was read back in the last 30 days, complete and with its checks passed",
            "run `backstay backup`, and look at what it says",
        );
    }
}

//! What can be seen, without judging it.

use crate::catalog;
use crate::config::Config;
use crate::keys::naming::component_number;
use crate::model::chain::{KnownSnapshot, KnownVerdict};
use crate::model::mark::{Level, Role, Statement};
use crate::model::record::{CheckResult, SnapshotKind};
use crate::model::retention::{self, Held, Scene};
use crate::model::{HostId, SignerId, Timestamp};
use crate::ops::error::{OpError, Result};
use crate::ops::kit_standing::{self, KitStanding};
use crate::ops::known_bad;
use crate::ops::left_open::{self, LeftOpen};
use crate::ops::restore::read::chain_text;
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::status::report::{Brief, ComponentStatus, Proof, StoreStatus};
use crate::ops::stores::{Away, place_of};
use crate::ops::union::{self, Standing, Union};
use crate::ops::vault::{Vault, View, is_trusted};
use rustix::fs::Access;
use serde::{Deserialize, Serialize};

/// Everything that was seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Gathered {
    pub(super) now: Timestamp,
    pub(super) components: Vec<ComponentStatus>,
    pub(super) stores: Vec<StoreStatus>,
    /// Stores that were rolled back, or hold another vault, with what to do.
    pub(super) broken: Vec<(String, String, Option<String>)>,
    pub(super) history: Vec<String>,
    pub(super) last_drill: Option<Proof>,
    pub(super) outbox: u64,
    pub(super) kit: Option<KitStanding>,
    pub(super) unfinished: Vec<String>,
    /// What a person has to bring to an end.
    #[serde(skip)]
    pub(super) open: Vec<LeftOpen>,
    pub(super) unseen: Vec<String>,
    /// Why this machine cannot remember anything, if it cannot.
    #[serde(skip)]
    pub(super) unwritable: Option<String>,
    /// When this host's snapshots were begun, oldest first, in seconds.
    pub(super) times: Vec<i64>,
}

/// Reads what waits here for stores.
pub(super) fn of_state(state: &catalog::State, gathered: &mut Gathered) {
    match state.kept_documents() {
        Ok(kept) => gathered.outbox = kept.len() as u64,
        Err(e) => gathered.unfinished.push(chain_text(&e)),
    }
    match state.pending() {
        Ok(None) => {}
        Ok(Some(pending)) => gathered.unfinished.push(format!(
            "a run was killed while it put {}; the next backup ends what it began",
            pending.key
        )),
        Err(e) => gathered.unfinished.push(chain_text(&e)),
    }
    if let Err(e) = rustix::fs::access(state.dir(), Access::WRITE_OK | Access::EXEC_OK) {
        let (dir, why) = (state.dir().display(), std::io::Error::from(e));
        let what = format!("the state folder {dir} cannot be written, so no backup can be made: {why}");
        gathered.unwritable = Some(what);
    }
    gathered.open = left_open::look(state.dir(), &state.lock(), gathered.now);
}

impl Gathered {
    pub(super) fn empty(now: Timestamp) -> Self {
        Self {
            now,
            components: Vec::new(),
            stores: Vec::new(),
            broken: Vec::new(),
            history: Vec::new(),
            last_drill: None,
            outbox: 0,
            kit: None,
            unfinished: Vec::new(),
            open: Vec::new(),
            unseen: Vec::new(),
            unwritable: None,
            times: Vec::new(),
        }
    }

    /// When no store can be read: what this machine knows by itself.
    pub(super) fn offline(config: &Config, now: Timestamp, error: &OpError) -> Self {
        let mut gathered = Self::empty(now);
        gathered.unseen.push(format!("no store could be read: {}", chain_text(error)));
        for store in &config.stores {
            gathered.stores.push(away(&store.name, place_of(store), chain_text(error)));
        }
        gathered.components = config.components.iter().map(|c| unseen(c.name.as_str())).collect();
        match catalog::State::open(&config.state_dir) {
            Ok(state) => of_state(&state, &mut gathered),
            Err(e) => gathered.unseen.push(format!("the state folder cannot be read: {}", chain_text(&e))),
        }
        gathered
    }

    /// With at least one store within reach.
    pub(super) fn online(session: &Session) -> Result<Self> {
        Ok(Self::read(session)?.0)
    }

    /// The same, and what was read where a store was.
    pub(super) fn read(session: &Session) -> Result<(Self, Option<Vault>)> {
        let mut gathered = Self::empty(session.around.clock.now());
        if let Some(state) = &session.state {
            of_state(state, &mut gathered);
        }
        gathered.kit = Some(kit_standing::look(session));
        let config = session.config()?;
        let Union { vault, standings } = match union::read(session) {
            Ok(union) => union,
            Err(e) => {
                let offline = Self::offline(config, gathered.now, &e);
                return Ok((offline, None));
            }
        };
        let look = Look::new(session, &vault, gathered.now);
        let own = look.own();
        gathered.times = own.iter().map(|s| s.record.started.as_second()).collect();
        gathered.components = look.components(&own, &mut gathered.unseen);
        gathered.last_drill = look.last_proof(&own, |v| v.verdict.level == Level::Drill);
        let lag = union::lag(&vault);
        for standing in &standings {
            let behind = lag.iter().find(|(name, _)| *name == standing.name).map_or(0, |(_, n)| *n as u64);
            gathered.stores.push(look.store(standing, &own, behind));
            if let Some(gone) = standing.away.as_ref().filter(|_| standing.view.is_none()) {
                gathered.unseen.push(format!("store {}: {}", standing.name, gone.line()));
            }
            if let Some(gone) = standing.away.as_ref().filter(|_| standing.view.is_some()) {
                let hint = gone.hint().map(str::to_owned);
                gathered.broken.push((standing.name.clone(), gone.line(), hint));
            }
        }
        gathered.history = select::breaks_told(&vault, &vault.hosts());
        gathered
            .history
            .extend(vault.bad.iter().map(|bad| format!("{} cannot be used: {}", bad.key, bad.why)));
        Ok((gathered, Some(vault)))
    }
}

fn away(name: &str, location: String, why: String) -> StoreStatus {
    StoreStatus {
        name: name.to_owned(),
        location,
        here: false,
        problem: Some(why),
        newest: None,
        newest_good: None,
        entries_behind: 0,
        damaged_objects: 0,
        damaged_snapshots: Vec::new(),
        last_prune: None,
        last_prune_by: None,
    }
}

fn unseen(name: &str) -> ComponentStatus {
    ComponentStatus {
        name: name.to_owned(),
        newest: None,
        newest_good: None,
        check: None,
        last_proof: None,
        frozen: Vec::new(),
    }
}

/// Looking at what was read.
pub(super) struct Look<'a> {
    session: &'a Session,
    pub(super) vault: &'a Vault,
    pub(super) host: Option<HostId>,
    now: Timestamp,
}

impl<'a> Look<'a> {
    pub(super) fn new(session: &'a Session, vault: &'a Vault, now: Timestamp) -> Self {
        let host = session.host.map(|host| vault.host_of(&SignerId(host.0)));
        Self { session, vault, host, now }
    }

    /// This host's own snapshots that count, oldest first.
    pub(super) fn own(&self) -> Vec<&'a KnownSnapshot> {
        let all = self.host.and_then(|host| self.vault.history.hosts.get(&host));
        let counts =
            |s: &&KnownSnapshot| s.is_usable() && is_trusted(s) && s.record.kind == SnapshotKind::Normal;
        all.map_or(&[][..], Vec::as_slice).iter().filter(counts).collect()
    }

    fn age(&self, moment: Timestamp) -> i64 {
        self.now.as_second() - moment.as_second()
    }

    fn brief(&self, known: &KnownSnapshot) -> Brief {
        let record = &known.record;
        Brief {
            id: record.snapshot.clone(),
            started: record.started,
            age_seconds: self.age(record.started),
            complete: record.complete,
        }
    }

    /// The components of the configuration. Records name them by number, and this host's naming key gives the numbers: no identity is needed.
    fn components(&self, own: &[&KnownSnapshot], unseen_things: &mut Vec<String>) -> Vec<ComponentStatus> {
        let Some(config) = &self.session.config else { return Vec::new() };
        let naming = match self.session.writer() {
            Ok(writer) => writer.naming,
            Err(e) => {
                if !config.components.is_empty() {
                    unseen_things.push(format!("components cannot be told apart: {}", chain_text(&e)));
                }
                return config.components.iter().map(|c| unseen(c.name.as_str())).collect();
            }
        };
        let frozen = self.freezes(config);
        let status = |name: &crate::model::ComponentName| {
            let number = component_number(&naming, name);
            let holds = |s: &&&KnownSnapshot| s.record.components.iter().any(|line| line.number == number);
            let holding: Vec<&KnownSnapshot> = own.iter().filter(holds).copied().collect();
            let newest = holding.last().copied();
            let check = newest.and_then(|s| s.record.components.iter().find(|line| line.number == number));
            ComponentStatus {
                name: name.to_string(),
                newest: newest.map(|s| self.brief(s)),
                newest_good: holding.iter().rev().find(|s| s.good).map(|s| self.brief(s)),
                check: check.map(|line| line.check).filter(|check| *check != CheckResult::None),
                last_proof: self.last_proof(&holding, |v| v.verdict.level != Level::Presence),
                frozen: frozen.iter().filter(|(of, _)| *of == number).map(|(_, why)| why.clone()).collect(),
            }
        };
        config.components.iter().map(|c| status(&c.name)).collect()
    }

    /// Components nothing of which retention lets go now, by number, and why; store by store.
    fn freezes(&self, config: &Config) -> Vec<(u64, String)> {
        let all =
            self.host.and_then(|host| self.vault.history.hosts.get(&host)).map_or(&[][..], Vec::as_slice);
        let mut found = Vec::new();
        for view in &self.vault.views {
            let Some(store) = config.store(view.store.name()) else { continue };
            let held: Vec<Held<'_>> =
                all.iter().filter(|s| view.has(s)).map(|known| Held { known, stored: None }).collect();
            let policy = config.policy_in(store);
            let scene =
                Scene { policy: &policy, instance: &view.info.instance, now: self.now, others: false };
            for freeze in retention::decide(&held, &scene).freezes {
                let ends = match freeze.good_needed {
                    1 => "one more good snapshot ends it".to_owned(),
                    more => format!("{more} more good snapshots end it"),
                };
                found.push((
                    freeze.component,
                    format!("in store {}, {}; {ends}", view.store.name(), freeze.kind),
                ));
            }
        }
        found
    }

    fn name_of(&self, signer: &SignerId) -> String {
        match self.session.trust.get(signer).map(|key| key.name.clone()).filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => signer.to_string(),
        }
    }

    fn view_of(&self, known: &KnownVerdict) -> Option<&View> {
        self.vault.views.iter().find(|view| view.info.instance == known.verdict.instance)
    }

    /// The newest verdict on one of `snapshots` for which `counts` says yes, in a store that was read.
    pub(super) fn last_proof(
        &self,
        snapshots: &[&KnownSnapshot],
        counts: impl Fn(&KnownVerdict) -> bool,
    ) -> Option<Proof> {
        let all = snapshots.iter().flat_map(|s| s.verdicts.iter().map(move |v| (*s, v)));
        let seen = all.filter(|(_, v)| counts(v)).filter_map(|(s, v)| Some((s, v, self.view_of(v)?)));
        let (snapshot, known, view) = seen.max_by_key(|(_, v, _)| v.time)?;
        Some(Proof {
            snapshot: snapshot.record.snapshot.clone(),
            time: known.verdict.began,
            age_seconds: self.age(known.verdict.began),
            level: known.verdict.level,
            good: known.verdict.good,
            self_verified: known.own,
            by: self.name_of(&known.signer),
            store: view.store.name().to_owned(),
        })
    }

    fn store(&self, standing: &Standing, own: &[&KnownSnapshot], behind: u64) -> StoreStatus {
        let Some(view) = standing.view.and_then(|place| self.vault.views.get(place)) else {
            let why = standing.away.as_ref().map_or_else(|| "it was not read".to_owned(), Away::line);
            return away(&standing.name, standing.place.clone(), why);
        };
        let instance = &view.info.instance;
        let there: Vec<&KnownSnapshot> = own.iter().filter(|s| view.has(s)).copied().collect();
        let good = there.iter().rev().find(|s| s.good_in.contains(instance));
        let keys = self.vault.history.keys();
        let prunes = self.vault.entries.iter().filter_map(|entry| match entry.as_mark() {
            // Only who may prune is believed to have pruned.
            Some(mark) if keys.has_role(entry, Role::Prune) => match &mark.statement {
                Statement::Prune { instance: of, .. } if of == instance => Some((mark.time, mark.signer)),
                _ => None,
            },
            _ => None,
        });
        let last_prune = prunes.max_by_key(|(time, _)| *time);
        let bad = known_bad::in_view(self.vault, view);
        StoreStatus {
            name: standing.name.clone(),
            location: standing.place.clone(),
            here: true,
            problem: standing.away.as_ref().map(Away::line),
            newest: there.last().map(|s| self.brief(s)),
            newest_good: good.map(|s| self.brief(s)),
            entries_behind: behind,
            damaged_objects: bad.objects,
            damaged_snapshots: bad.snapshots,
            last_prune: last_prune.map(|(time, _)| time),
            last_prune_by: last_prune.map(|(_, signer)| self.name_of(&signer)),
        }
    }
}

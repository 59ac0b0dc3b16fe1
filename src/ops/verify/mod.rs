//! `verify`: what stores hold is proved, without a key as far as that goes, and with one to the last byte.
//!
//! Every signature and every chain is checked, every object is looked at; more is read as it is asked for. What is found is signed, so that
//! everybody who reads the vault knows it. Nothing here changes or mends an object, and a run that was killed leaves nothing half said.

mod content;
mod explain;
mod links;
pub(in crate::ops) mod objects;
mod opened;
mod report;
mod scope;
mod scratch;
mod sign;
mod stores;
mod turn;

pub(crate) use content::{Checker, Content, Wanted};
pub use objects::FaultKind;
pub(crate) use objects::{How, Looked, Outcome, look};
pub use report::{Damage, VerifiedStore, VerifyReport};
pub(crate) use scratch::{Scratch, room_in};
pub(crate) use sign::Voice;

use crate::keys::Identities;
use crate::model::mark::Level;
use crate::model::{Problem, ProblemKind};
use crate::ops::error::Result;
use crate::ops::select;
use crate::ops::session::Session;
use crate::ops::stores::Away;
use crate::ops::union::{Standing, store_problem};
use scope::{Reading, Work};
use std::path::PathBuf;
use std::sync::Arc;
use stores::OneStore;

/// What to verify.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Which snapshots; all of the hosts that are meant when empty.
    pub ids: Vec<String>,
    /// Use a snapshot by a key that is not trusted.
    pub accept_untrusted: bool,
    /// Read so many percent of all bytes, those with the oldest proofs first; above 0, at most 100.
    pub read_data: Option<f64>,
    /// Read everything, open it, and compare every file and database.
    pub decrypt: bool,
}

impl VerifyOptions {
    fn level(&self) -> Level {
        match (self.decrypt, self.read_data) {
            (true, _) => Level::Decrypt,
            (false, Some(_)) => Level::Read,
            (false, None) => Level::Presence,
        }
    }

    /// How much is read: what is to be opened is read whole first.
    fn percent(&self) -> Option<f64> {
        if self.decrypt { Some(100.0) } else { self.read_data }
    }
}

/// What a run has at hand for every store.
struct Run<'a> {
    session: &'a Session,
    options: &'a VerifyOptions,
    identities: Arc<Identities>,
    voice: Voice,
    damage: Vec<Damage>,
    problems: Vec<Problem>,
}

/// Verifies. Damage is in the report and no error; an error means that nothing could be verified.
pub fn run(session: &Session, options: &VerifyOptions) -> Result<VerifyReport> {
    let began = session.around.clock.now();
    let identities =
        if options.decrypt { session.identities_needed()? } else { session.identities_if_open()? };
    let identities = Arc::new(identities);
    let Reading { vault, standings } = scope::read(session)?;
    let hosts = scope::hosts(session, &vault)?;
    let meant = scope::snapshots(session, &vault, &hosts, &options.ids, options.accept_untrusted)?;
    let voice = Voice::of(session, "verify");
    let (damage, problems) = (Vec::new(), Vec::new());
    let mut run = Run { session, options, identities, voice, damage, problems };
    let mut stores = Vec::new();
    let mut works: Vec<Work<'_>> = Vec::new();
    for standing in &standings {
        let mut report = empty(standing);
        let Some(view) = standing.view.map(|view| &vault.views[view]) else {
            run.away(standing, &mut report);
            stores.push(report);
            continue;
        };
        let mut one = OneStore { run: &mut run, vault: &vault, standing, report };
        let mut work = Work::of(&vault, view, &meant, began);
        one.verify(&mut work)?;
        stores.push(one.report);
        works.push(work);
    }
    explain::ways_out(&mut run, &works);
    let mut history = select::breaks_told(&vault, &hosts);
    for standing in &standings {
        history.extend(standing.lost.iter().map(|line| format!("store {}: {line}", standing.name)));
    }
    let Run { voice, damage, mut problems, .. } = run;
    problems.extend(session.troubles());
    Ok(VerifyReport {
        level: options.level(),
        stores,
        damage,
        history,
        verdicts: voice.signed,
        not_signed: voice.silent,
        not_signed_class: voice.class,
        seconds: session.around.clock.now().duration_since(began).as_secs_f64(),
        problems,
    })
}

impl Run<'_> {
    /// A store that cannot be read: one whose own documents say what cannot be is damaged, any other is away.
    fn away(&mut self, standing: &Standing, report: &mut VerifiedStore) {
        let Some(away) = &standing.away else { return };
        report.problem = Some(away.line());
        if away.class == crate::ops::error::Class::Damage {
            self.damage.push(document(&standing.name, "backstay.json", &away.line()));
        } else {
            let hint = away.hint().unwrap_or("bring it back, and verify it then");
            self.tell(store_problem(
                &standing.name,
                format!("it could not be verified: {}", away.line()),
                hint,
            ));
        }
    }

    fn tell(&mut self, problem: Problem) {
        self.session.around.progress.problem(&problem);
        self.problems.push(problem);
    }

    fn warn(&mut self, store: &str, what: String, hint: &str) {
        let mut problem = store_problem(store, what, hint);
        problem.kind = ProblemKind::Warning;
        self.tell(problem);
    }
}

/// Damage of a document or file that no snapshot lists.
fn document(store: &str, key: &str, why: &str) -> Damage {
    Damage {
        store: store.to_owned(),
        object: key.to_owned(),
        kind: FaultKind::Document,
        why: why.to_owned(),
        snapshots: Vec::new(),
        paths: Vec::new(),
        more_paths: 0,
        opened: false,
        elsewhere: Vec::new(),
        way_out: String::new(),
    }
}

fn empty(standing: &Standing) -> VerifiedStore {
    VerifiedStore {
        name: standing.name.clone(),
        location: standing.place.clone(),
        problem: None,
        snapshots: 0,
        whole: 0,
        lacking: Vec::new(),
        objects: 0,
        bytes: 0,
        read_objects: 0,
        read_bytes: 0,
        unproved_bytes: 0,
        proved_since: None,
        files: 0,
        databases: 0,
    }
}

/// Where what is proved and not kept may lie for a while. With a kit alone it is the system's place for such, and no folder in it whose name
/// everybody knows: another user could have made that before.
pub(crate) fn scratch_place(session: &Session) -> PathBuf {
    match &session.config {
        Some(config) => config.verify.scratch.clone().unwrap_or_else(|| config.state_dir.join("scratch")),
        None => std::env::temp_dir(),
    }
}

/// Why a store could not go on.
fn reason(error: &crate::ops::error::OpError) -> String {
    Away::from(error).line()
}

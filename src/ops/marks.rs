//! Marks by themselves: signed once, kept here, and put into every store of the configuration.
//!
//! A mark must never go above an entry that a store lacks, and must never bring a snapshot's objects along: a store that lacks a record
//! gets that, and the marks after it, with the next backup or `sync`. Until every store has a mark it is kept in the state's outbox.

use crate::catalog::Head;
use crate::durable::{Held, crash};
use crate::keys::Signer;
use crate::model::chain::EntryBody;
use crate::model::mark::{Removed, Role, Statement};
use crate::model::{HostId, ObjectId, Timestamp, VaultId};
use crate::ops::backup::open_chain;
use crate::ops::catchup::{CatchUp, Stop};
use crate::ops::commit::{Chain, Signed};
use crate::ops::error::{Class, Doing, OpError, Result};
use crate::ops::excuses::{as_prune, unsaid};
use crate::ops::session::Session;
use crate::ops::stores::Away;
use crate::ops::union::{self, Standing, refuse_unseen, store_problem};
use crate::ops::vault::{BadDocument, Vault, name_of};

/// The right to sign marks, and the vault as it was read when that was taken.
///
/// Holds the project's lock until it is dropped: nobody else on this machine signs meanwhile. Whoever reads for hours reads first and opens
/// this afterwards, and looks again at what it wants to say something about: [`Marks::vault`] is newer than what it read.
pub struct Marks {
    session: Session,
    signer: Signer,
    vault: Vault,
    /// How each store stands; empty where the configuration names one.
    standings: Vec<Standing>,
    _held: Held,
}

/// What became of marks in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedStore {
    /// Its name.
    pub name: String,
    /// Which it is; none when it could not be read.
    pub instance: Option<VaultId>,
    /// Whether it has all of the marks now, durably.
    pub has: bool,
    /// Why it has not.
    pub problem: Option<String>,
}

/// What became of marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marked {
    /// SHA-256 of line 1 of each, in the order of the statements.
    pub hashes: Vec<ObjectId>,
    /// The stores of the configuration, in its order.
    pub stores: Vec<MarkedStore>,
}

impl Marked {
    /// True when the store with that instance has the marks now. What is deleted must wait for this.
    pub fn in_store(&self, instance: &VaultId) -> bool {
        self.stores.iter().any(|s| s.has && s.instance.as_ref() == Some(instance))
    }

    /// True when every store of the configuration has them.
    pub fn everywhere(&self) -> bool {
        self.stores.iter().all(|s| s.has)
    }
}

impl Marks {
    /// Takes the lock for `what` (the command's name), reads every store that is here, and finishes what an earlier run signed. Signs with
    /// this host's key. `--store` narrows what is read elsewhere, never where marks go.
    ///
    /// Fails with [`Class::Usage`] without a configuration or when a store was named by a path, [`Class::Config`] when this host's key is not
    /// trusted, [`Class::Busy`] while another run holds the lock, [`Class::Store`] when no store is here, or one is away that was never seen.
    pub fn open(session: &Session, what: &str) -> Result<Self> {
        Self::open_as(session, session.signer()?, what)
    }

    /// The same, signing with `signer`: a key that is being retired, or the one of a kit.
    pub fn open_as(session: &Session, signer: Signer, what: &str) -> Result<Self> {
        let session = session.with_all_stores()?;
        let held = crate::ops::lock::hold(&session, what)?;
        // What was seen up to now, not only what was when the session was opened.
        let session = session.with_all_stores()?;
        let (vault, standings) = if session.stores.len() > 1 {
            let union = union::read(&session)?;
            refuse_unseen(&session, &union.standings)?;
            (union.vault, union.standings)
        } else {
            (session.read_vault()?, Vec::new())
        };
        crash::point("marks: vault read");
        let marks = Self { session, signer, vault, standings, _held: held };
        let told = open_chain(&marks.session, &marks.signer, &marks.vault)?.finish_pending()?;
        if let Some(told) = told {
            marks.session.note(&told);
        }
        Ok(marks)
    }

    /// The vault: all stores that are here. Does not show what [`Marks::put`] put since.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The session with every store, that this reads and writes through.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The host that marks are signed for: for a key that only verifies or prunes, one called after the key.
    pub fn host(&self) -> HostId {
        self.vault.host_of(&self.signer.id())
    }

    /// True when what this key says about snapshots of `host` counts: it is a key of that host, or has `role`.
    pub fn counts_for(&self, host: &HostId, role: Role) -> bool {
        let (keys, id) = (self.vault.history.keys(), self.signer.id());
        keys.may(&id, role) || keys.may_sign_for(&id, host)
    }

    /// Signs `statements`, in their order and at the present time, and puts them into every store that lacks nothing below them. What a store
    /// does not get now is told through [`Session::trouble`] (exit 4) and is brought by the next backup or `sync`. May be called again.
    ///
    /// An error means that nothing more can be signed; what was signed before it is kept and is put by the next run.
    ///
    /// Before them goes what a store that was made since lacks of this key's own entries because they were deleted everywhere: a key that fills no
    /// store has no other way to say so, and nothing goes above a hole that is not said.
    pub fn put(&mut self, statements: Vec<Statement>) -> Result<Marked> {
        if statements.is_empty() {
            return Ok(Marked { hashes: Vec::new(), stores: Vec::new() });
        }
        let mut all = self.own_gone()?;
        let before = all.len();
        all.extend(statements);
        let mut marked = self.sign(all)?;
        marked.hashes.drain(..before.min(marked.hashes.len()));
        Ok(marked)
    }

    /// Says of the stores that are here what was deleted from all others before they were made, or while they were away, whoever signed it: a
    /// `prune` mark, which this key must have the role for. True when something was said; then the vault is to be read anew.
    pub(super) fn say_gone(&mut self) -> Result<bool> {
        let mut all = self.own_gone()?;
        for (instance, rows) in self.gone()? {
            let others: Vec<Removed> =
                rows.into_iter().filter(|row| row.signer != self.signer.id()).collect();
            all.extend(as_prune(&instance, &others));
        }
        let any = !all.is_empty();
        if any {
            self.sign(all)?;
        }
        Ok(any)
    }

    fn own_gone(&self) -> Result<Vec<Statement>> {
        let mut all = Vec::new();
        for (instance, rows) in self.gone()? {
            let entries: Vec<Removed> =
                rows.into_iter().filter(|row| row.signer == self.signer.id()).collect();
            if !entries.is_empty() {
                all.push(Statement::Absent { instance, entries });
            }
        }
        Ok(all)
    }

    /// By store that may be written, what is gone from the others and not said of it yet.
    fn gone(&self) -> Result<Vec<(VaultId, Vec<Removed>)>> {
        let rolled_back =
            |view: usize| self.standings.iter().any(|s| s.view == Some(view) && s.away.is_some());
        let views = self.vault.views.iter().enumerate().filter(|(view, _)| !rolled_back(*view));
        views
            .map(|(_, view)| {
                Ok((view.info.instance.clone(), unsaid(&self.session, &self.vault, view, false)?))
            })
            .collect()
    }

    fn sign(&mut self, statements: Vec<Statement>) -> Result<Marked> {
        let now = self.session.around.clock.now();
        let (marked, signed, has) = match self.standings.is_empty() {
            true => self.put_in_one(statements, now)?,
            false => self.put_in_several(statements, now)?,
        };
        for Signed { entry, .. } in signed {
            for (view, _) in self.vault.views.iter_mut().zip(&has).filter(|(_, has)| **has) {
                view.present.insert(name_of(&entry));
            }
            self.vault.entries.push(entry);
        }
        Ok(marked)
    }

    fn put_in_one(
        &self,
        statements: Vec<Statement>,
        now: Timestamp,
    ) -> Result<(Marked, Vec<Signed>, Vec<bool>)> {
        let mut chain = open_chain(&self.session, &self.signer, &self.vault)?;
        let sign = |statement| chain.mark(statement, now);
        let hashes = statements.into_iter().map(sign).collect::<Result<Vec<_>>>()?;
        let (name, instance) = (self.session.store.name().to_owned(), Some(chain.instance.clone()));
        let stores = vec![MarkedStore { name, instance, has: true, problem: None }];
        Ok((Marked { hashes, stores }, std::mem::take(&mut chain.signed), vec![true]))
    }

    fn put_in_several(
        &self,
        statements: Vec<Statement>,
        now: Timestamp,
    ) -> Result<(Marked, Vec<Signed>, Vec<bool>)> {
        let mut chain = open_chain(&self.session, &self.signer, &self.vault)?;
        let sign = |statement| chain.keep_mark(statement, now);
        let hashes = statements.into_iter().map(sign).collect::<Result<Vec<_>>>()?;
        let signed = std::mem::take(&mut chain.signed);
        crash::point("marks: kept");
        let (stores, has) = self.spread(&mut chain)?;
        Ok((Marked { hashes, stores }, signed, has))
    }

    /// Brings the marks that are kept here to the stores; gives what became of them by store, and whether by view.
    fn spread<'a>(&'a self, chain: &mut Chain<'a>) -> Result<(Vec<MarkedStore>, Vec<bool>)> {
        let mut catch_up = CatchUp::new(&self.session, chain, &self.vault, self.host(), 0)?;
        let mut has = vec![false; self.vault.views.len()];
        let mut stores = Vec::new();
        for standing in &self.standings {
            let instance = standing.view.map(|view| self.vault.views[view].info.instance.clone());
            let problem = match standing.view.filter(|_| standing.away.is_none()) {
                None => Some(standing.away.as_ref().map_or_else(String::new, Away::line)),
                Some(view) => match catch_up.fill_marks(view) {
                    // Of two entries with one number only one is looked for: also what seems to be there may not be.
                    Ok(_) if catch_up.ledger.forked => {
                        Some("the history of this host is forked, so nothing was copied".into())
                    }
                    Ok(0) => None,
                    Ok(_) => Some("it lacks a snapshot that comes before".into()),
                    Err(Stop::Target(error)) => Some(Away::from(&error).line()),
                    Err(stop) => return Err(stop.error()),
                },
            };
            if let (None, Some(view)) = (&problem, standing.view) {
                has[view] = true;
            }
            let name = standing.name.clone();
            stores.push(MarkedStore { name, instance, has: problem.is_none(), problem });
            crash::point("marks: a store done");
        }
        if has.contains(&true)
            && let (number, Some(hash)) = catch_up.chain.next
        {
            let seen = [(self.signer.id(), Head { number: number - 1, hash })];
            let cannot = || "cannot remember what was signed".into();
            self.session.state()?.raise_heads(&seen).doing(Class::Failed, cannot)?;
        }
        catch_up.tidy_outbox()?;
        self.tell(&stores);
        Ok((stores, has))
    }

    fn tell(&self, stores: &[MarkedStore]) {
        let hint = "the next backup, or `backstay sync`, brings what was signed there";
        for store in stores {
            if let Some(why) = &store.problem {
                let what = format!("what was signed now is not there yet: {why}");
                self.session.trouble(store_problem(&store.name, what, hint));
            }
        }
    }

    /// Fails unless what this key says about snapshots of `host` counts.
    pub fn need(&self, host: &HostId, role: Role) -> Result<()> {
        if self.counts_for(host, role) {
            return Ok(());
        }
        Err(lacks_role(host, role))
    }

    /// Why a store of the configuration is not here, when one is not.
    pub(super) fn away(&self) -> Option<OpError> {
        union::first_away(&self.standings)
    }

    /// Fails unless this key has `role` by configuration, for whatever host.
    pub fn need_role(&self, role: Role) -> Result<()> {
        match self.vault.history.keys().may(&self.signer.id(), role) {
            true => Ok(()),
            false => Err(lacks_role(&self.host(), role)),
        }
    }

    /// The place among [`Vault::views`] of the store with that name; fails when it is away, or shows less than it did before.
    pub fn usable_view(&self, name: &str) -> Result<usize> {
        if self.standings.is_empty() {
            return Ok(0);
        }
        let standing = self.standings.iter().find(|s| s.name == name);
        if let Some(away) = standing.and_then(|s| s.away.as_ref()) {
            return Err(away.error());
        }
        let absent = || OpError::new(Class::Store, format!("store {name:?} is not here"));
        standing.and_then(|s| s.view).ok_or_else(absent)
    }

    /// Documents in the store at that place that cannot be used, also where another store has them whole.
    pub(super) fn bad_in(&self, view: usize) -> &[BadDocument] {
        let standing = self.standings.iter().find(|s| s.view == Some(view));
        standing.map_or(&self.vault.bad, |s| &s.bad)
    }

    /// True when the entry with this hash is a record in the store with that instance.
    pub fn holds_record(&self, hash: &ObjectId, instance: &VaultId) -> bool {
        let Some(view) = self.vault.views.iter().find(|v| v.info.instance == *instance) else {
            return false;
        };
        let mut records = self.vault.entries.iter().filter(|e| matches!(e.body, EntryBody::Record(_)));
        records.any(|e| e.hash == *hash && view.present.contains(&name_of(e)))
    }
}

fn lacks_role(host: &HostId, role: Role) -> OpError {
    let word = match role {
        Role::Host => "host",
        Role::Verify => "verify",
        Role::Prune => "prune",
    };
    let what = format!(
        "this host's key is no key of host {host} and has no role {word}: what it signs would not count"
    );
    let hint = format!(
        "give it the role in [signing] trusted, here and wherever it is to count: roles = [\"{word}\"]"
    );
    OpError::new(Class::Config, what).hint(hint)
}

//! What cannot be brought is said of the store that lacks it, by marks that every reader believes.
//!
//! A key calls only its own entries absent. Those of this host's other keys, which were retired or died with their machine, are said to be
//! gone by a `prune` mark, when this key may sign one; so are other signers' that marks call gone from other stores.

use super::{CatchUp, Stop};
use crate::durable::crash;
use crate::model::SignerId;
use crate::model::mark::{Removed, Role, Statement};
use crate::ops::error::{Class, OpError, Result};
use crate::ops::excuses::{as_prune, is_all_here, is_missed, unsaid};
use crate::ops::union::store_problem;

/// What is gone from other stores and not said of one yet.
#[derive(Default)]
pub(super) struct Unsaid {
    /// Found out already; empty once it was said.
    rows: Option<Vec<Removed>>,
    /// A person named this store although it was rolled back.
    named: bool,
}

/// Entries that could not be brought into one store.
#[derive(Default)]
pub(super) struct Holed {
    /// Of the key that signs now.
    own: Vec<Removed>,
    /// Of this host's other keys.
    others: Vec<Removed>,
    /// What cannot be said: nothing may go above it.
    pub(super) stop: Option<OpError>,
}

impl Holed {
    pub(super) fn any(&self) -> bool {
        !self.own.is_empty() || !self.others.is_empty()
    }
}

impl CatchUp<'_, '_> {
    fn own_key(&self) -> SignerId {
        self.chain.signer_id()
    }

    fn may_prune(&self) -> bool {
        self.vault.history.keys().may(&self.own_key(), Role::Prune)
    }

    /// True when the store at `view` lacks something, or something is to be said of it.
    pub(in crate::ops) fn has_to_do(&mut self, view: usize) -> Result<bool> {
        let unsaid = !self.gone(view)?.is_empty();
        Ok(unsaid || !self.ledger.to_bring(view).is_empty())
    }

    /// Takes up that what was seen in the store at `view` counts no more.
    pub(super) fn had_counts_no_more(&mut self, view: usize) {
        *self.unsaid.entry(view).or_default() = Unsaid { rows: None, named: true };
    }

    /// What this key may say is gone from the store at `view`, and nobody said yet.
    fn gone(&mut self, view: usize) -> Result<&[Removed]> {
        let (own, may_prune) = (self.own_key(), self.may_prune());
        let unknown = self.unsaid.entry(view).or_default();
        if unknown.rows.is_none() {
            let mut rows = unsaid(self.session, self.vault, &self.views[view], unknown.named)?;
            rows.retain(|row| may_prune || row.signer == own);
            unknown.rows = Some(rows);
        }
        Ok(unknown.rows.as_deref().unwrap_or(&[]))
    }

    pub(super) fn is_unsaid(&self, view: usize, number: u64) -> bool {
        let rows = self.unsaid.get(&view).and_then(|unsaid| unsaid.rows.as_deref()).unwrap_or(&[]);
        self.ledger.row(number).is_some_and(|row| rows.contains(&row))
    }

    /// Signs what is gone from the store at `view`.
    pub(super) fn say_gone(&mut self, view: usize) -> std::result::Result<(), Stop> {
        let rows = self.gone(view)?.to_vec();
        let (own, others): (Vec<Removed>, Vec<Removed>) =
            rows.into_iter().partition(|row| row.signer == self.own_key());
        self.say(view, own, &others)?;
        self.unsaid.entry(view).or_default().rows = Some(Vec::new());
        Ok(())
    }

    pub(super) fn say_holes(&mut self, view: usize, holed: &Holed) -> std::result::Result<(), Stop> {
        self.say(view, holed.own.clone(), &holed.others)
    }

    fn say(&mut self, view: usize, own: Vec<Removed>, others: &[Removed]) -> std::result::Result<(), Stop> {
        let instance = self.views[view].info.instance.clone();
        for statement in as_prune(&instance, others) {
            self.sign(statement)?;
            crash::point("catch-up: gone said");
        }
        if !own.is_empty() {
            self.sign(Statement::Absent { instance, entries: own })?;
            crash::point("catch-up: absent said");
        }
        Ok(())
    }

    /// Takes up that an entry cannot be brought into the store at `view`.
    pub(super) fn note_hole(&mut self, view: usize, number: u64, certain: bool, holed: &mut Holed) {
        let Some(row) = self.ledger.row(number) else {
            return;
        };
        if row.signer == self.own_key() {
            holed.own.push(row);
        } else if !self.ledger.entries.contains_key(&number) && !is_missed(self.vault, &row.signer, number) {
            // It was settled, or is above what counts of that key.
            self.ledger.pass_over(number, view);
        } else if self.may_say(view, number, certain) {
            holed.others.push(row);
        } else {
            self.cannot_say(view, &row, holed);
        }
    }

    /// Whether this key may say for good that an entry of another key, which a store has, does not come: it is not wanted, or every store answered
    /// and none gives all of it.
    fn may_say(&self, view: usize, number: u64, certain: bool) -> bool {
        let unwanted = |hash| self.ledger.unwanted(hash, view);
        let lost = certain && self.only.is_none() && is_all_here(self.session, self.vault);
        self.may_prune()
            && self.ledger.entries.get(&number).is_some_and(|own| lost || unwanted(&own.entry.hash))
    }

    /// Nothing goes above what nobody says; but a store that leads takes what is new all the same: no backup is kept back.
    fn cannot_say(&mut self, view: usize, row: &Removed, holed: &mut Holed) {
        let store = self.views[view].store.name().to_owned();
        let what = format!(
            "it lacks entry {} of {}, an earlier key of this host: that cannot be brought, and this key cannot say so",
            row.number, row.signer
        );
        let hint = match self.may_prune() {
            true => {
                "bring back the store that has it, or take that store out of the configuration; then `backstay sync`"
            }
            false => {
                "`backstay prune`, run with a key that has the role prune here, says so; then `backstay sync`"
            }
        };
        if view == self.lead {
            self.session.trouble(store_problem(&store, what, hint));
            self.ledger.leave(row.number, view);
        } else {
            holed.stop = Some(OpError::new(Class::Store, what).hint(hint));
        }
    }
}

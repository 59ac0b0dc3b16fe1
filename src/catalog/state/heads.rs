//! The highest entry ever seen of each signer.

use crate::catalog::state::{State, StateError};
use crate::model::{ObjectId, SignerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The highest chain entry seen of a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its line 1.
    pub hash: ObjectId,
}

#[derive(Default, Serialize, Deserialize)]
struct Heads {
    heads: BTreeMap<SignerId, Head>,
}

const FILE: &str = "heads.json";
const REMEDY: &str = "it guards against a store that was rolled back: bring it back from a copy, or, if you are sure that the stores \
                      show all that they ever held, move it away";

impl State {
    /// The highest entry ever seen of each signer.
    pub fn heads(&self) -> Result<BTreeMap<SignerId, Head>, StateError> {
        Ok(self.load::<Heads>(FILE, REMEDY)?.unwrap_or_default().heads)
    }

    /// Remembers entries that were seen, durably. Lower ones than the highest known change nothing; one of the highest number with another
    /// hash is [`StateError::Rewritten`], and then nothing is remembered.
    pub fn raise_heads(&self, seen: &[(SignerId, Head)]) -> Result<(), StateError> {
        self.raise_heads_over(seen, |_, _| false)
    }

    /// The same, but what is remembered gives way where `given_up` says that a settlement dropped it.
    pub fn raise_heads_over(
        &self,
        seen: &[(SignerId, Head)],
        given_up: impl Fn(&SignerId, &Head) -> bool,
    ) -> Result<(), StateError> {
        let turn = self.turn()?;
        let mut heads = self.heads()?;
        let mut changed = false;
        for (signer, head) in seen {
            match heads.get(signer) {
                Some(known) if known == head => continue,
                Some(known) if given_up(signer, known) => {}
                Some(known) if known.number > head.number => continue,
                Some(known) if known.number == head.number => {
                    let (known, found) = (known.hash, head.hash);
                    let (signer, number) = (*signer, head.number);
                    return Err(StateError::Rewritten { signer, number, known, found });
                }
                _ => {}
            }
            heads.insert(*signer, *head);
            changed = true;
        }
        if changed { self.save_in(turn, FILE, Heads { heads }) } else { Ok(()) }
    }
}

//! What a list showed of indexes: sealed bytes, of which this module knows nothing. Nothing that protects data depends on them: what cannot be
//! read counts as nothing.

use crate::catalog::state::{State, StateError};
use crate::durable;

const FILE: &str = "shown.age";

impl State {
    /// The sealed bytes; none when there are none that can be read.
    pub fn shown(&self) -> Option<Vec<u8>> {
        self.read(FILE).ok().flatten()
    }

    /// Keeps them instead of those before.
    pub fn keep_shown(&self, sealed: &[u8]) -> Result<(), StateError> {
        Ok(durable::replace(&self.dir.join(FILE), sealed)?)
    }
}

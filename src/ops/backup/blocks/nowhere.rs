//! A sink for content of which only the hashes are wanted.

use crate::model::Extent;
use crate::ops::backup::blocks::Sink;
use std::convert::Infallible;

/// Takes everything and keeps nothing.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    type Error = Infallible;

    fn kept(&mut self, _: Extent) -> Result<(), Infallible> {
        Ok(())
    }

    fn fresh(&mut self, _: u64, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }
}

//! A sink for content of which only the hashes are wanted.

use crate::model::Extent;
use crate::ops::backup::blocks::Sink;
use crate::ops::error::{OpError, Result};
use crate::ops::interrupt::Interrupt;

/// Takes everything and keeps nothing, and ends the pass when somebody asks for the end: content may be hundreds of gigabytes.
pub(crate) struct Nowhere<'a>(pub(crate) &'a Interrupt);

impl Sink for Nowhere<'_> {
    type Error = OpError;

    fn kept(&mut self, _: Extent) -> Result<()> {
        self.0.check()
    }

    fn fresh(&mut self, _: u64, _: &[u8]) -> Result<()> {
        self.0.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Pool;
    use crate::ops::backup::blocks::{CompareError, Content, Request, compare};
    use crate::ops::error::Class;
    use std::sync::atomic::Ordering;

    #[test]
    fn whoever_asks_for_the_end_gets_it_while_content_is_only_hashed() {
        let (interrupt, pool) = (Interrupt::default(), Pool::new(1));
        let size = 1 << 40;
        let ranges = [(0, size)];
        let content = Content::Database(65536);
        let request = Request { pool: &pool, block: 65536, size, ranges: &ranges, content, old: None };
        let mut bytes = 0;
        let mut read = |_: u64, buffer: &mut [u8]| {
            interrupt.flag().store(15, Ordering::Relaxed);
            bytes += buffer.len();
            Ok(buffer.len())
        };
        let ended = compare(&request, &mut read, &mut Nowhere(&interrupt), &mut drop);
        assert!(matches!(&ended, Err(CompareError::Sink(e)) if e.class == Class::Interrupted));
        assert!(bytes <= 32 << 20, "{bytes} bytes of a terabyte were read");
    }
}

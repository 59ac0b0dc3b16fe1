//! Numbers and byte strings one after the other, small ones in few bytes. A reader never takes more than there is.

/// Appends `number`, seven bits a byte, lowest first.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number that may be negative.
pub(super) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a length and the bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends seconds and nanoseconds.
pub(super) fn put_time(out: &mut Vec<u8>, (seconds, nanoseconds): (i64, u32)) {
    put_signed(out, seconds);
    put(out, u64::from(nanoseconds));
}

/// Reads what was put; `None` where the bytes end too early or make no sense.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a>(pub(super) &'a [u8]);

impl<'a> Source<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let raw = self.number()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn time(&mut self) -> Option<(i64, u32)> {
        let seconds = self.signed()?;
        self.small().filter(|ns| *ns < 1_000_000_000).map(|ns| (seconds, ns))
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    /// How many things follow, each of at least `each` bytes: never more than there can be.
    pub(super) fn count(&mut self, each: usize) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count.checked_mul(each)? <= self.0.len()).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_never_from_beyond_the_end() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        for number in numbers {
            put(&mut out, number);
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            put_signed(&mut out, number);
        }
        put_bytes(&mut out, b"abc");
        let mut source = Source(&out);
        assert!(numbers.iter().all(|n| source.number() == Some(*n)));
        assert!([0, -1, 1, i64::MIN, i64::MAX].iter().all(|n| source.signed() == Some(*n)));
        assert_eq!(source.bytes(), Some(&b"abc"[..]));
        assert!(source.is_empty() && source.number().is_none() && source.take(1).is_none());
        assert_eq!(Source(&[0xff; 11]).number(), None);
        assert_eq!(Source(&[200, 1, 7]).count(2), None, "more than there can be");
    }
}

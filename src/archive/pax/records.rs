//! pax records: `<length> <key>=<value>\n`, where the length counts itself.

use super::PAX_BYTES_MAX;
use crate::archive::error::Damage;

/// Keys that stand for one value each. Anything else but [`XATTR`] is unknown.
const KEYS: [&str; 12] = [
    "hdrcharset",
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "uname",
    "gname",
    "mtime",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
];
pub(super) const REAL_SIZE: &str = "GNU.sparse.realsize";
/// What the keys of extended attributes begin with.
pub(super) const XATTR: &str = "SCHILY.xattr.";
/// The only value of `hdrcharset`: text values are bytes.
pub(super) const BINARY: &[u8] = b"BINARY";

/// Adds a record to `out`.
pub(super) fn push(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = 3 + key.len() + value.len();
    let digits = |n: usize| n.to_string().len();
    let mut length = rest + digits(rest);
    // One more digit may be needed for the length because of that digit.
    length = rest + digits(length);
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The records of one member, in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Records(pub(super) Vec<(String, Vec<u8>)>);

impl Records {
    /// Reads all records, with every check that does not need the member.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.is_empty() || bytes.len() > PAX_BYTES_MAX {
            return Err("a pax header is empty, or longer than 1 MiB".into());
        }
        let mut records = Self::default();
        let mut keys = std::collections::HashSet::new();
        while !bytes.is_empty() {
            let (key, value, rest) = split(bytes).ok_or("a pax record is malformed")?;
            check_key(key, value, records.0.is_empty())?;
            if !keys.insert(key) {
                return Err(format!("the pax record {key:?} is there twice").into());
            }
            records.0.push((key.to_owned(), value.to_vec()));
            bytes = rest;
        }
        records.check_text()?;
        Ok(records)
    }

    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| &value[..])
    }

    /// A value that is a plain decimal number.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Damage> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match decimal(value) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("the pax record {key:?} is not a number").into()),
        }
    }

    /// A value that is text.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Damage> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value).map_err(|_| format!("the pax record {key:?} is not UTF-8"))?;
        Ok(Some(text.to_owned()))
    }

    fn check_text(&self) -> Result<(), Damage> {
        let binary = self.get("hdrcharset").is_some();
        let text = ["path", "linkpath", "GNU.sparse.name"].iter().filter_map(|key| self.get(key));
        for value in text {
            if value.contains(&0) || (!binary && std::str::from_utf8(value).is_err()) {
                return Err("a pax record is not UTF-8 and does not say so, or holds a NUL byte".into());
            }
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, rest.
fn split(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    // Seven digits are enough for 1 MiB; more would be an attack on the arithmetic.
    let space = bytes.iter().take(8).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    let key = std::str::from_utf8(&body[..equals]).ok()?;
    Some((key, &body[equals + 1..], rest))
}

fn check_key(key: &str, value: &[u8], first: bool) -> Result<(), Damage> {
    if key.strip_prefix(XATTR).is_some_and(|name| !name.is_empty() && !name.contains('\0')) {
        return Ok(());
    }
    if !KEYS.contains(&key) && key != REAL_SIZE {
        let key: String = key.escape_debug().take(80).collect();
        return Err(format!("the pax record \"{key}\" is unknown").into());
    }
    if value.is_empty() {
        return Err(format!("the pax record {key:?} is empty").into());
    }
    if key == "hdrcharset" && (!first || value != BINARY) {
        return Err("the pax record \"hdrcharset\" is not first, or not BINARY".into());
    }
    Ok(())
}

/// A decimal number without sign, blanks or needless zeros.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'));
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// The value of an `mtime` record: `[-]seconds[.fraction]`.
pub(super) fn time_text((seconds, nanos): (i64, u32)) -> String {
    if nanos == 0 {
        return seconds.to_string();
    }
    // -5 s and 250,000,000 ns is the moment -4.75.
    let (sign, whole, nanos) = match seconds {
        0.. => ("", seconds.unsigned_abs(), nanos),
        _ => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    let text = format!("{sign}{whole}.{nanos:09}");
    text.trim_end_matches('0').to_owned()
}

/// Reads what [`time_text`] wrote.
pub(super) fn parse_time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let point = value.iter().position(|&b| b == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    };
    let whole = i64::try_from(decimal(whole)?).ok()?;
    let nanos = match fraction {
        None => 0,
        Some(digits) if (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            let text = std::str::from_utf8(digits).ok()?;
            text.parse::<u32>().ok()? * 10_u32.pow(9 - digits.len() as u32)
        }
        Some(_) => return None,
    };
    match (negative, nanos) {
        (false, _) => Some((whole, nanos)),
        (true, 0) => Some((-whole, 0)),
        (true, _) => Some((-whole - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself_at_every_number_of_digits() {
        for size in (0..2_000).chain(9_900..10_100).chain(99_900..100_100) {
            let mut out = Vec::new();
            push(&mut out, "path", &vec![b'a'; size + 1]);
            let records = Records::parse(&out).unwrap();
            assert_eq!(records.get("path").unwrap().len(), size + 1);
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        let bad: [&[u8]; 19] = [
            b"",
            b"9 path=a",
            b"11 path=a\n",
            b"8 path=a\n",
            b"09 path=a\n",
            b"+9 path=a\n",
            b"-9 path=a\n",
            b" 9 path=a\n",
            b"0 path=a\n",
            b"99999999 path=a\n",
            b"18446744073709551625 path=a\n",
            b"7 patha\n",
            b"8 path=\n",
            b"11 mtime=1\n11 mtime=1\n",
            b"9 path=a\n21 hdrcharset=BINARY\n",
            b"21 hdrcharset=binary\n",
            b"12 comment=\n",
            b"9 path=\xff\n",
            b"18 SCHILY.xattr.=\n",
        ];
        for bytes in bad {
            assert!(Records::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
        assert!(Records::parse(b"9 path=a\n12 mtime=1x\n").is_ok(), "values are the member's business");
        assert!(Records::parse(b"21 hdrcharset=BINARY\n9 path=\xff\n").is_ok());
    }

    #[test]
    fn times_round_trip_on_both_sides_of_1970() {
        let times = [
            (0, 0),
            (1, 5),
            (-1, 0),
            (-1, 999_999_999),
            (-5, 250_000_000),
            (i64::MAX, 1),
            (-62_135_596_800, 7),
        ];
        for time in times {
            assert_eq!(parse_time(time_text(time).as_bytes()), Some(time), "{}", time_text(time));
        }
        assert_eq!(time_text((-5, 250_000_000)), "-4.75");
        for bad in ["", "-", ".5", "1.", "1.0000000001", "1e5", " 1", "01", "--1", "9223372036854775808"] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad}");
        }
    }
}

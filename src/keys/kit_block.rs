//! The part of a recovery kit that machines read: short numbered lines, each with a check, so that a person who types them in again is told
//! which line is wrong.
//!
//! A line is `NUMBER FIELD VALUE CHECK`. Values are percent-encoded, so no part ever holds a blank and it does not matter how many there
//! are between them. A value too long for one line goes on in lines whose field is `+`.

use crate::keys::kit::KitError;
use crate::model::ObjectId;
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

/// First line of the block.
pub(super) const BEGIN: &str = "-----BEGIN BACKSTAY KIT-----";
/// Last line of the block.
pub(super) const END: &str = "-----END BACKSTAY KIT-----";

/// So much of a value goes on one line: number, field and check fit beside it in 78 columns.
const PIECE_MAX: usize = 52;
const CONTINUED: &str = "+";
const SUM: &str = "sum";

/// The format of a kit that a passphrase protects: what it holds beside that is the age file of a whole kit.
pub(super) const LOCKED: &str = "locked-1";
/// The field in which that lies, in base64.
pub(super) const LOCKED_FIELD: &str = "locked";

/// A field of the block.
pub(super) struct Field {
    /// The number of its first line.
    pub(super) line: usize,
    /// What it is.
    pub(super) name: String,
    /// Its value, decoded. May be secret.
    pub(super) value: Zeroizing<String>,
}

/// Text of `chars` characters of the SHA-256 of `bytes`: small letters and digits that are not easily taken for others.
fn check(bytes: &[u8], chars: usize) -> String {
    let mut text = BASE32_NOPAD.encode(ObjectId::of(bytes).as_bytes()).to_ascii_lowercase();
    text.truncate(chars);
    text
}

fn line_check(line: &str) -> String {
    check(line.as_bytes(), 4)
}

fn encode_value(value: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(value.len() * 3 + 3));
    for byte in value.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' && value != "-" => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if out.is_empty() {
        out.push('-');
    }
    out
}

fn decode_value(text: &str) -> Option<Zeroizing<String>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    if text == "-" {
        return Some(Zeroizing::new(String::new()));
    }
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let decoded = match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            _ => byte,
        };
        out.push(decoded);
    }
    Some(Zeroizing::new(std::str::from_utf8(&out).ok()?.to_owned()))
}

/// Appends the block with these fields to `out`.
pub(super) fn encode(fields: &[(&str, Zeroizing<String>)], out: &mut String) {
    let mut lines: Zeroizing<String> = Zeroizing::new(String::with_capacity(32 << 10));
    let mut number = 0;
    out.push_str(BEGIN);
    out.push('\n');
    let mut push = |name: &str, piece: &str, lines: &mut String| {
        number += 1;
        let line = Zeroizing::new(format!("{number} {name} {piece}"));
        lines.push_str(&line);
        lines.push('\n');
        out.push_str(&line);
        out.extend(std::iter::repeat_n(' ', 74_usize.saturating_sub(line.len())));
        out.push_str(&line_check(&line));
        out.push('\n');
    };
    for (name, value) in fields {
        let value = encode_value(value);
        let mut rest: &str = &value;
        let mut name = *name;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_MAX));
            push(name, piece, &mut lines);
            (name, rest) = (CONTINUED, after);
        }
    }
    let sum = check(lines.as_bytes(), 16);
    push(SUM, &sum, &mut lines);
    out.push_str(END);
    out.push('\n');
}

/// A line without what mail programs and editors put around it.
fn bare(line: &str) -> &str {
    line.trim_start_matches(|c: char| c == '>' || c.is_whitespace()).trim_end()
}

/// Finds the block in `text` and checks every line and the whole.
pub(super) fn decode(text: &str) -> Result<Vec<Field>, KitError> {
    let mut lines = text.lines().map(bare).filter(|line| !line.is_empty());
    lines.find(|line| *line == BEGIN).ok_or(KitError::NoBlock)?;
    let mut all: Zeroizing<String> = Zeroizing::new(String::with_capacity(text.len()));
    let mut fields: Vec<Field> = Vec::new();
    for number in 1.. {
        let line = lines.next().ok_or(KitError::NoEnd)?;
        if line == END {
            return Err(KitError::MissingLine { line: number });
        }
        let (name, piece) = checked(line, number)?;
        if name == SUM {
            if piece != check(all.as_bytes(), 16) {
                return Err(KitError::Sum);
            }
            break;
        }
        push_line(&mut all, &[&number.to_string(), name, piece]);
        match fields.last_mut() {
            Some(field) if name == CONTINUED => field.value.push_str(piece),
            _ => {
                // Room for what is continued: a text that grows leaves copies behind.
                let mut value = Zeroizing::new(String::with_capacity(1024));
                value.push_str(piece);
                fields.push(Field { line: number, name: name.to_owned(), value });
            }
        }
        // The version before anything that it may have changed.
        check_version(&fields)?;
    }
    if lines.next() != Some(END) {
        return Err(KitError::NoEnd);
    }
    if lines.any(|line| line == BEGIN) {
        return Err(KitError::SeveralBlocks);
    }
    fields.into_iter().map(decoded).collect()
}

fn push_line(out: &mut String, parts: &[&str; 3]) {
    for (part, after) in parts.iter().zip([" ", " ", "\n"]) {
        out.push_str(part);
        out.push_str(after);
    }
}

/// Field and value of a line, when its check fits.
fn checked(line: &str, number: usize) -> Result<(&str, &str), KitError> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    let [given, name, piece, check] = parts[..] else {
        return Err(KitError::Mistyped { line: number });
    };
    let line = Zeroizing::new(format!("{given} {name} {piece}"));
    if line_check(&line) != check {
        return Err(KitError::Mistyped { line: number });
    }
    if given != number.to_string() {
        return Err(KitError::MissingLine { line: number });
    }
    Ok((name, piece))
}

fn check_version(fields: &[Field]) -> Result<(), KitError> {
    match fields {
        [only] if only.name != "kit" => Err(KitError::Bad { line: 1, what: "the kit's format" }),
        [only] if !["1", LOCKED].contains(&only.value.as_str()) => {
            Err(KitError::TooNew { format: only.value.chars().take(20).collect() })
        }
        _ => Ok(()),
    }
}

fn decoded(field: Field) -> Result<Field, KitError> {
    let line = field.line;
    let value = decode_value(&field.value).ok_or(KitError::Bad { line, what: "a value" })?;
    Ok(Field { value, ..field })
}

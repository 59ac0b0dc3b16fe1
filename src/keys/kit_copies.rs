//! What stands in a kit a second time, for people and for `grep`: the identity, and the hashes with which a script is known. Only the block has checks,
//! so a mistyped copy would be found on the day it is needed.

use crate::keys::kit::Kit;
use crate::keys::kit_block;

const IDENTITY: &str = "AGE-SECRET-KEY-1";
const RECIPIENT: &str = "age1";
/// Stands before the identity. A text without it holds the block alone, which is enough.
const BEFORE_IDENTITY: &str = "file identity.txt with this:";
/// So long a word before the name of a script is a hash, or was meant as one.
const HASH_CHARS_MIN: usize = 40;
/// A recipient is longer than this; what is shorter speaks of recipients.
const RECIPIENT_CHARS_MIN: usize = 40;

/// What the part of `text` that people read says otherwise than `kit`, which was read from its block. Names lines, never what is on them.
pub(super) fn differing(kit: &Kit, text: &str) -> Vec<String> {
    let identities: Vec<_> = kit.identities.iter().map(crate::keys::SecretIdentity::reveal).collect();
    let scripts = [("recover.py", &kit.recover_py), ("RECOVER.md", &kit.recover_md)];
    let hashes =
        scripts.map(|(name, hashes)| (name, hashes.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let (mut found, mut copies, mut asked_for) = (Vec::new(), 0, false);
    let mut before = "";
    for (number, line) in before_block(text).enumerate().map(|(at, line)| (at + 1, line)) {
        asked_for |= line.contains(BEFORE_IDENTITY);
        let mut wrong = |what: &str| {
            found.push(format!("line {number} of the text has {what} than the lines for the machine"));
        };
        for word in line.split_whitespace() {
            let upper = word.to_ascii_uppercase();
            if upper.contains(IDENTITY) {
                match identities.iter().any(|identity| identity.as_str() == word) {
                    true => copies += 1,
                    false => wrong("another identity"),
                }
            } else if word.starts_with(RECIPIENT) && word.len() > RECIPIENT_CHARS_MIN {
                if !kit.recipients.iter().any(|recipient| recipient == word) {
                    wrong("another recipient");
                }
            } else if let Some((name, known)) = hashes.iter().find(|(name, _)| *name == word)
                && before.len() >= HASH_CHARS_MIN
                && !known.iter().any(|hash| hash == before)
            {
                wrong(&format!("another hash of {name}"));
            }
            before = word;
        }
    }
    if asked_for && copies < identities.len() && found.is_empty() {
        found.push("the text for people lacks an identity that the lines for the machine hold".into());
    }
    found
}

/// The lines before the block.
fn before_block(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !line.contains(kit_block::BEGIN))
}

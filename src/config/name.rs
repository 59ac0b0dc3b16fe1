//! Names that are used in paths and messages.

/// Longest name.
const NAME_MAX: usize = 64;

/// Fit for a project or a store: `a-z`, `0-9`, `-`, `_`, `.`, the first a letter or digit, at most 64.
pub(super) fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.len() <= NAME_MAX
        && text.bytes().all(inner)
}

/// A component, project or store name made of any text, if it has a letter or digit to make one of.
pub fn slug(text: &str) -> Option<String> {
    let mut out = String::new();
    for c in text.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() || (c == '_' && !out.is_empty()) {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    // All ASCII: any length is a character boundary.
    out.truncate(NAME_MAX);
    let out = out.trim_end_matches(['-', '_']);
    (!out.is_empty()).then(|| out.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ComponentName;

    #[test]
    fn a_slug_is_a_name_or_nothing() {
        for (text, slugged) in [
            ("My App!", Some("my-app")),
            ("__init__", Some("init")),
            ("日本", None),
            ("..", None),
            ("a.b", Some("a-b")),
        ] {
            assert_eq!(slug(text).as_deref(), slugged, "{text}");
        }
        for text in ["-x", "X".repeat(200).as_str(), "a_b-c", "ünï"] {
            let slug = slug(text).unwrap();
            assert!(is_name(&slug) && slug.parse::<ComponentName>().is_ok(), "{slug}");
        }
        for wrong in ["", ".", "..", ".x", "a/b", "Ab", "a b"] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
